//! Links the vendored C: asks the `vendor` crate for the finished build, compiles our shims against it (kept in the
//! same cache), and, with the feature `bindgen`, makes the bindings.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use vendor::{Prefix, VendorError, cache, recipe};

#[path = "build/bindings.rs"]
mod bindings;

/// Our C, in `shim/`. The headers are part of the key too.
const SHIMS: [&str; 23] = [
    "process.c",
    "meter.c",
    "mov.c",
    "log.c",
    "mapping.c",
    "fork.c",
    "fork_hevc.c",
    "fork_h264.c",
    "fork_vp9.c",
    "fork_dav1d.c",
    "buffers.c",
    "account.c",
    "dav1d.c",
    "probe.c",
    "inspect.c",
    "inspect_hevc.c",
    "inspect_h264.c",
    "inspect_vp9.c",
    "wavefronts.c",
    "gpu.c",
    "gpu_decoder.c",
    "gpu_picture.c",
    "gpu_jpeg.c",
];
/// Our C that is compiled against dav1d's internal headers.
const DAV1D_SHIM: &str = "dav1d_state.c";
const HEADERS: [&str; 10] = [
    "shim.h",
    "account.h",
    "dav1d_state.h",
    "fork.h",
    "inspect.h",
    "gpu.h",
    "gpu_jpeg.h",
    "gpu_jpeg_kernel.ptx.h",
    "gpu_jpeg_pixel.h",
    "gpu_nvjpeg.h",
];

/// An object of FFmpeg's that is linked a second time, under another name of its one symbol that is used, with some of its calls led
/// through shims: what a decoder does between slices, and behind parameter sets, can be seen from nowhere else.
struct Tapped {
    library: &'static str,
    object: &'static str,
    symbol: [&'static str; 2],
    calls: &'static [[&'static str; 2]],
}

const TAPPED: [Tapped; 5] = [
    Tapped {
        library: "libavcodec.a",
        object: "hevcdec.o",
        symbol: ["ff_hevc_decoder", "bs_tapped_hevc_decoder"],
        calls: &[
            ["ff_hevc_hls_filters", "bs_hevc_block_done"],
            ["ff_hevc_decode_nal_sps", "bs_hevc_decode_nal_sps"],
            ["ff_hevc_decode_extradata", "bs_hevc_decode_extradata"],
        ],
    },
    Tapped {
        library: "libavcodec.a",
        object: "h264dec.o",
        symbol: ["ff_h264_decoder", "bs_tapped_h264_decoder"],
        calls: &[
            ["ff_h264_execute_decode_slices", "bs_h264_execute_decode_slices"],
            ["ff_h264_decode_seq_parameter_set", "bs_h264_decode_seq_parameter_set"],
            ["ff_h264_decode_extradata", "bs_h264_decode_extradata"],
        ],
    },
    Tapped {
        library: "libavcodec.a",
        object: "vp9.o",
        symbol: ["ff_vp9_decoder", "bs_tapped_vp9_decoder"],
        calls: &[["ff_thread_finish_setup", "bs_vp9_finish_setup"]],
    },
    Tapped {
        library: "libavcodec.a",
        object: "libdav1d.o",
        symbol: ["ff_libdav1d_decoder", "bs_tapped_dav1d_decoder"],
        calls: &[
            ["dav1d_open", "bs_dav1d_open"],
            ["dav1d_send_data", "bs_dav1d_send"],
            ["dav1d_get_picture", "bs_dav1d_receive"],
            ["dav1d_flush", "bs_dav1d_flush"],
        ],
    },
    Tapped {
        library: "libavformat.a",
        object: "demux.o",
        symbol: ["avformat_find_stream_info", "bs_tapped_find_stream_info"],
        calls: &[
            ["avcodec_open2", "bs_probe_open"],
            ["avcodec_send_packet", "bs_probe_send"],
            ["avcodec_receive_frame", "bs_probe_receive"],
            ["ff_find_decoder", "bs_probe_find_decoder"],
            NO_INDEX[0],
        ],
    },
];

/// An object of FFmpeg that is linked in place of the original, with some of its calls led through `shim/meter.c`.
struct Metered {
    library: &'static str,
    object: &'static str,
    calls: &'static [[&'static str; 2]],
}

const METERED: [Metered; 7] = [
    Metered {
        library: "libavutil.a",
        object: "mem.o",
        calls: &[["posix_memalign", "bs_posix_memalign"], ["realloc", "bs_realloc"], ["free", "bs_free"]],
    },
    Metered { library: "libavutil.a", object: "dict.o", calls: &[["av_dict_set", "bs_dict_set_unmetered"]] },
    Metered {
        library: "libavformat.a",
        object: "mov.o",
        calls: &[
            ["av_index_search_timestamp", "bs_mov_search_timestamp"],
            ["av_realloc_array", "bs_mov_realloc_array"],
        ],
    },
    Metered { library: "libavformat.a", object: "demux.o", calls: NO_INDEX },
    Metered {
        library: "libavformat.a",
        object: "matroskadec.o",
        calls: &[NO_INDEX[0], ["av_fast_realloc", "bs_list_realloc"]],
    },
    Metered {
        library: "libavformat.a",
        object: "mpegts.o",
        calls: &[NO_INDEX[0], ["av_new_program", "bs_new_program"]],
    },
    Metered {
        library: "libavcodec.a",
        object: "h2645_parse.o",
        calls: &[["av_fast_realloc", "bs_units_realloc"], ["ff_h2645_packet_split", "bs_packet_split_unlimited"]],
    },
];
const NO_INDEX: &[[&str; 2]] = &[["av_add_index_entry", "bs_no_index_entry"]];

fn main() {
    for file in SHIMS.iter().chain(&HEADERS).chain(&[DAV1D_SHIM, "bindings.h"]) {
        println!("cargo::rerun-if-changed=shim/{file}");
    }
    println!("cargo::rerun-if-changed=src/bindings.rs");
    println!("cargo::rerun-if-changed=build/bindings.rs");
    for variable in ["BUCKET_STREAMER_CACHE", "XDG_CACHE_HOME", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var("HOST") != env::var("TARGET") {
        fail("cross-compilation of the vendored C sources is not supported: build on the machine's own target");
    }
    // Before the minutes that a first build takes.
    bindings::check_target().unwrap_or_else(|why| fail(why));
    let prefix =
        vendor::ensure(&mut |message| println!("cargo::warning={message}")).unwrap_or_else(|error| fail(error));
    bindings::check_key(&prefix.ffmpeg.join("include")).unwrap_or_else(|why| fail(why));
    // Before the compiler of the shims is run, which starts threads.
    only_packages_in(&prefix.ffmpeg.join("lib/pkgconfig"));
    let shims = build_shims(&prefix).unwrap_or_else(|error| fail(error));
    // An emptied cache must be filled again, not linked against.
    for entry in [&prefix.ffmpeg, &prefix.dav1d, &shims] {
        println!("cargo::rerun-if-changed={}", entry.display());
    }
    link(&prefix, &shims).unwrap_or_else(|error| fail(error));
    #[cfg(feature = "bindgen")]
    bindings::generate(&prefix.ffmpeg.join("include")).unwrap_or_else(|why| fail(why));
    stamp(&prefix);
}

fn fail(why: impl std::fmt::Display) -> ! {
    for line in why.to_string().lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}

/// Compiles the shims into a cache entry of their own: optimised, whatever the Cargo profile.
fn build_shims(prefix: &Prefix) -> Result<PathBuf, VendorError> {
    let read = |name: &str| {
        let path = Path::new("shim").join(name);
        fs::read_to_string(&path).map_err(VendorError::io(&path))
    };
    let mut parts = vec![prefix.key.clone()];
    for name in SHIMS.iter().chain(&HEADERS).chain(&[DAV1D_SHIM]) {
        parts.push(read(name)?);
    }
    parts.extend(recipe::HARDENING.map(str::to_owned));
    for Tapped { library, object, symbol, calls } in &TAPPED {
        parts.extend([*library, *object, symbol[1]].into_iter().chain(calls.concat()).map(str::to_owned));
    }
    for Metered { library, object, calls } in &METERED {
        parts.extend([*library, *object].into_iter().chain(calls.concat()).map(str::to_owned));
    }
    cache::entry("shims", &cache::key(&parts), |dir| {
        meter(prefix, dir)?;
        let mut build = cc::Build::new();
        for flag in recipe::HARDENING {
            build.flag(flag);
        }
        build
            .objects(tap(prefix, dir)?)
            .objects(dav1d_shim(prefix, dir)?)
            .files(SHIMS.iter().map(|name| Path::new("shim").join(name)))
            .include("shim")
            .include(prefix.ffmpeg.join("internal"))
            .include(prefix.dav1d.join("include"))
            // NVIDIA's headers.
            .include(prefix.ffmpeg.join("include"))
            .define("HAVE_AV_CONFIG_H", None)
            .flag("-std=gnu11")
            // A function taken to return int loses half of every pointer.
            .flag("-Werror=implicit-function-declaration")
            .flag_if_supported("-Wno-unused-parameter")
            .flag_if_supported("-Wno-deprecated-declarations")
            .flag_if_supported("-Wno-pointer-sign")
            // In headers of libavcodec.
            .flag_if_supported("-Wno-sign-compare")
            .opt_level(3)
            .debug(false)
            .pic(true)
            .cargo_metadata(false)
            .out_dir(dir)
            .try_compile("bucket_streamer_shims")
            .map_err(|error| VendorError::Unfit(format!("the C shims do not compile: {error}")))
    })
}

/// Compiles the shim against dav1d's internal headers, among which is a `config.h` of its own.
fn dav1d_shim(prefix: &Prefix, dir: &Path) -> Result<Vec<PathBuf>, VendorError> {
    let mut build = cc::Build::new();
    for flag in recipe::HARDENING {
        build.flag(flag);
    }
    build
        .file(Path::new("shim").join(DAV1D_SHIM))
        .include("shim")
        .include(&prefix.dav1d_internal)
        .include(prefix.dav1d_internal.join("include"))
        .include(prefix.dav1d_internal.join("include/dav1d"))
        // As dav1d's own build.
        .define("_GNU_SOURCE", None)
        .flag("-std=c11")
        .flag("-Werror=implicit-function-declaration")
        .opt_level(3)
        .debug(false)
        .pic(true)
        .cargo_metadata(false)
        .out_dir(dir)
        .try_compile_intermediates()
        .map_err(|error| VendorError::Unfit(format!("{DAV1D_SHIM} does not compile: {error}")))
}

/// Makes the objects of [`TAPPED`] in `dir`.
fn tap(prefix: &Prefix, dir: &Path) -> Result<Vec<PathBuf>, VendorError> {
    let run = |program: &str, arguments: &[&str]| run(dir, program, arguments);
    let objects = TAPPED.iter().map(|Tapped { library, object, symbol, calls }| {
        let library = prefix.ffmpeg.join("lib").join(library);
        let library = library.to_str().ok_or_else(|| VendorError::Unfit("the cache's path is not UTF-8".to_owned()))?;
        let tapped = format!("tapped_{object}");
        run("ar", &["x", library, object])?;
        // Nothing else of it may be seen: the rest of the library has the original.
        let renames = calls.iter().chain([symbol]).map(|[from, to]| format!("--redefine-sym={from}={to}"));
        let options: Vec<String> = renames.chain([format!("--keep-global-symbol={}", symbol[1])]).collect();
        let arguments: Vec<&str> = options.iter().map(String::as_str).chain([*object, &tapped]).collect();
        run("objcopy", &arguments)?;
        fs::remove_file(dir.join(object)).map_err(VendorError::io(&dir.join(object)))?;
        Ok(dir.join(tapped))
    });
    objects.collect()
}

/// Makes copies of FFmpeg's libraries in `dir` that have the objects of [`METERED`].
fn meter(prefix: &Prefix, dir: &Path) -> Result<(), VendorError> {
    for Metered { library, object, calls } in &METERED {
        let copy = dir.join(library);
        if !copy.exists() {
            fs::copy(prefix.ffmpeg.join("lib").join(library), &copy).map_err(VendorError::io(&copy))?;
        }
        run(dir, "ar", &["x", library, object])?;
        let renames: Vec<String> = calls.iter().map(|[from, to]| format!("--redefine-sym={from}={to}")).collect();
        let arguments: Vec<&str> = renames.iter().map(String::as_str).chain([*object]).collect();
        run(dir, "objcopy", &arguments)?;
        run(dir, "ar", &["rs", library, object])?;
        fs::remove_file(dir.join(object)).map_err(VendorError::io(&dir.join(object)))?;
    }
    Ok(())
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> Result<(), VendorError> {
    let done = Command::new(program).args(arguments).current_dir(dir).status();
    let is_done = done.as_ref().is_ok_and(std::process::ExitStatus::success);
    let what = || VendorError::Unfit(format!("{program} {}: {done:?}", arguments.join(" ")));
    is_done.then_some(()).ok_or_else(what)
}

/// The libraries that must come out of the vendored build, whatever else its `.pc` files name.
const VENDORED: [&str; 4] = ["avformat", "avcodec", "avutil", "dav1d"];

/// Links the shims, then what `libavformat.pc` names: libavcodec and libavutil, the libraries that `configure` found for
/// them (dav1d), and what all of these need of the system.
///
/// The crate's own output for Cargo is not used: it would put folders of `.pc` files ahead of the shims', and write down
/// where dav1d's entry was when FFmpeg was built.
fn link(prefix: &Prefix, shims: &Path) -> Result<(), VendorError> {
    let lib = prefix.ffmpeg.join("lib");
    let found = pkg_config::Config::new()
        .statik(true)
        .cargo_metadata(false)
        .env_metadata(false)
        // FFmpeg's `.pc` files say `libdir=//lib`, which another prefix would not change.
        .arg(format!("--define-variable=libdir={}", lib.display()))
        .probe("libavformat")
        .map_err(|error| match error {
            pkg_config::Error::Command { cause, .. } if cause.kind() == ErrorKind::NotFound => {
                VendorError::MissingTools(vec!["pkg-config"])
            }
            error => VendorError::Unfit(format!("pkg-config does not tell how to link FFmpeg: {error}")),
        })?;

    // The shims' folder comes first: copies of FFmpeg's libraries in it take the place of the originals.
    let mut folders = vec![shims.to_path_buf(), lib];
    for written in &found.link_paths {
        let folder = cache::relocated(written)?;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    for folder in &folders {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    println!("cargo::rustc-link-lib=static=bucket_streamer_shims");
    let is_vendored = |name: &str| folders.iter().any(|folder| folder.join(format!("lib{name}.a")).is_file());
    for (nth, name) in found.libs.iter().enumerate() {
        // The old pkg-config names a library as often as there are packages that want it.
        if !found.libs[..nth].contains(name) {
            println!("cargo::rustc-link-lib={}{name}", if is_vendored(name) { "static=" } else { "" });
        }
    }
    for name in &found.frameworks {
        println!("cargo::rustc-link-lib=framework={name}");
    }
    let is_linked = |name: &&&str| is_vendored(name) && found.libs.iter().any(|lib| lib == *name);
    match VENDORED.iter().find(|name| !is_linked(name)) {
        Some(name) => {
            Err(VendorError::Unfit(format!("lib{name}.a is not among what pkg-config tells to link: {found:?}")))
        }
        None => Ok(()),
    }
}

/// Has pkg-config see the packages in `folder` and no others (such as the system's), whatever the environment says. To be
/// called while this process has one thread.
fn only_packages_in(folder: &Path) {
    let target = env::var("TARGET").expect("Cargo sets TARGET");
    // These name the program.
    let programs = [
        "PKG_CONFIG".to_owned(),
        "HOST_PKG_CONFIG".to_owned(),
        format!("PKG_CONFIG_{target}"),
        format!("PKG_CONFIG_{}", target.replace('-', "_")),
    ];
    for program in &programs {
        println!("cargo::rerun-if-env-changed={program}");
    }
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| name.contains("PKG_CONFIG") && !programs.contains(name)) {
        // SAFETY: there is no other thread, see above.
        unsafe { env::remove_var(name) };
    }
    // SAFETY: as above.
    unsafe { env::set_var("PKG_CONFIG_LIBDIR", folder) };
}

/// Facts for `--version`.
fn stamp(prefix: &Prefix) {
    let pins =
        vendor::pins::ALL.iter().map(|pin| format!("{}|{}|{}|{}", pin.name, pin.version, pin.licence, pin.homepage));
    println!("cargo::rustc-env=BUCKET_STREAMER_PINS={}", pins.collect::<Vec<_>>().join(";"));
    println!("cargo::rustc-env=BUCKET_STREAMER_BUILD_KEY={}", prefix.key);
}
