//! The configuration of each source, and checks of the result. Running the build is left to `build`.
//!
//! FFmpeg starts with everything disabled, and gets the containers and codecs that the project reads, the parts that
//! `ffmpeg` and `ffprobe` need as oracle and baseline (muxers, filters, MJPEG), and no more. It stays LGPL: no GPL and
//! no nonfree parts. An LGPL-compatible encoder would go into `ENCODERS`, with its library beside dav1d's.

/// Demuxers.
const DEMUXERS: &str = "mov,matroska,mpegts,hevc,h264,ivf,obu,av1,image2,image2pipe,mjpeg,rawvideo";
/// Video decoders; AV1 goes through dav1d, and FFmpeg's own `av1` only ever drives hardware.
const DECODERS: &str = "hevc,h264,vp9,libdav1d,av1,mjpeg,rawvideo,wrapped_avframe";
/// Codecs with GPU decoding: NVDEC's libraries are loaded at run time if present.
const HWACCELS: &str = "hevc_nvdec,h264_nvdec,vp9_nvdec,av1_nvdec";
/// Encoders, for the programs only.
const ENCODERS: &str = "mjpeg,rawvideo,wrapped_avframe";
/// Parsers: video for access units and picture order, audio so that probing a transport stream ends early.
const PARSERS: &str = "hevc,h264,vp9,av1,mjpeg,aac,ac3,mpegaudio,opus,vorbis";
/// Containers that the programs can write.
const MUXERS: &str =
    "framemd5,framecrc,null,rawvideo,image2,image2pipe,mjpeg,mov,mp4,matroska,webm,mpegts,hevc,h264,ivf,obu";
/// Bitstream filters; `trace_headers` is the oracle of our own bitstream readers.
const BSFS: &str = "trace_headers,h264_mp4toannexb,hevc_mp4toannexb,extract_extradata,vp9_superframe,\
                    vp9_superframe_split,av1_frame_merge,av1_frame_split,dump_extra,setts,filter_units,h264_metadata,\
                    hevc_metadata,noise,null";
/// Filters of the programs.
const FILTERS: &str =
    "null,format,scale,fps,trim,setpts,select,transpose,hflip,vflip,rotate,crop,tile,copy,anull,aformat,atrim";

/// Protocols of the programs. None of them uses a network.
const PROTOCOLS: &str = "file,pipe,fd";

/// Hardening of C code that processes untrusted files: a canary behind arrays on the stack, a probe of every page by
/// which the stack grows, and bounds in the C library's copying functions where the size of an object is known.
/// Assembly has none of it. Control-flow enforcement (`-fcf-protection`) is omitted: it takes effect only if every
/// object of a program is marked for it, and neither the assembly nor Rust's standard library is.
///
/// `_FORTIFY_SOURCE` is undefined first, since some distributions define another level.
pub const HARDENING: [&str; 4] =
    ["-fstack-protector-strong", "-fstack-clash-protection", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"];

/// Traces of [`HARDENING`] in a library: the functions called for a dead canary or a copy that is too long.
const HARDENED: [&str; 2] = ["__stack_chk_fail", "__memcpy_chk"];

/// The reason why a built library lacks hardening; `None` if it has it. `undefined` is the output of
/// `nm --undefined-only`.
pub fn missing_hardening(undefined: &str) -> Option<String> {
    let calls = |function: &&str| undefined.lines().any(|line| line.trim_end().ends_with(*function));
    let missing = HARDENED.iter().find(|function| !calls(function))?;
    Some(format!("the compiled library never calls {missing}: the compiler ignores {}", HARDENING.join(" ")))
}

/// Arguments of FFmpeg's `configure`. The prefix is `/`: the result is installed below a cache entry, and `--version`
/// must not print a path of the building machine.
pub fn ffmpeg_configure() -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--prefix=/",
        "--disable-everything",
        "--disable-autodetect",
        "--disable-doc",
        "--disable-debug",
        "--disable-network",
        "--disable-ffplay",
        "--disable-avdevice",
        "--disable-swresample",
        "--enable-static",
        "--disable-shared",
        "--enable-pic",
        "--enable-pthreads",
        "--enable-libdav1d",
        "--enable-ffnvcodec",
        "--enable-nvdec",
    ]
    .map(str::to_owned)
    .to_vec();
    let lists = [
        ("demuxer", DEMUXERS),
        ("decoder", DECODERS),
        ("hwaccel", HWACCELS),
        ("encoder", ENCODERS),
        ("parser", PARSERS),
        ("muxer", MUXERS),
        ("bsf", BSFS),
        ("filter", FILTERS),
        ("protocol", PROTOCOLS),
    ];
    arguments.extend(lists.map(|(kind, names)| format!("--enable-{kind}={names}")));
    arguments.push(format!("--extra-cflags={}", HARDENING.join(" ")));
    arguments
}

/// The same with plain HTTP, for the baseline of `bench/remote`; never linked.
pub fn ffmpeg_configure_with_http() -> Vec<String> {
    let with_http = |argument: String| match &argument[..] {
        "--disable-network" => "--enable-network".to_owned(),
        protocols if protocols.starts_with("--enable-protocol=") => format!("{protocols},http,tcp"),
        _ => argument,
    };
    ffmpeg_configure().into_iter().map(with_http).collect()
}

/// Arguments of dav1d's `meson setup`.
pub fn dav1d_meson() -> Vec<String> {
    [
        "--prefix=/",
        "--libdir=lib",
        "--buildtype=release",
        "--default-library=static",
        "-Denable_asm=true",
        "-Denable_tools=false",
        "-Denable_tests=false",
        "-Denable_examples=false",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("-Dc_args={}", HARDENING.join(" "))])
    .collect()
}

/// The reason why the configured FFmpeg is not acceptable; `None` if it is. `config_h` is the text of the `config.h`
/// that `configure` wrote.
///
/// Without assembly decoding is several times slower; with GPL parts the binary could not be distributed under its
/// licence.
pub fn ffmpeg_unfit(config_h: &str) -> Option<String> {
    let defined = |name: &str, value: &str| config_h.lines().any(|line| line == format!("#define {name} {value}"));
    let assembly = match std::env::consts::ARCH {
        "x86_64" => "HAVE_X86ASM",
        "aarch64" => "HAVE_NEON",
        other => {
            return Some(format!("no assembly is known for {other}, and FFmpeg without it is several times slower"));
        }
    };
    let required = [
        (assembly, "1"),
        ("CONFIG_GPL", "0"),
        ("CONFIG_NONFREE", "0"),
        ("CONFIG_LIBDAV1D", "1"),
        ("CONFIG_NVDEC", "1"),
        ("HAVE_PTHREADS", "1"),
    ];
    let config_components = ["CONFIG_GPL", "CONFIG_NONFREE"];
    required.iter().find(|(name, value)| !defined(name, value)).map(|(name, value)| {
        let why = if config_components.contains(name) { "licence" } else { "speed or completeness" };
        format!("FFmpeg's config.h lacks `#define {name} {value}` ({why}): not building it like this")
    })
}

#[cfg(test)]
mod tests {
    use super::{dav1d_meson, ffmpeg_configure, ffmpeg_configure_with_http, ffmpeg_unfit, missing_hardening};

    const GOOD: &str = "#define HAVE_X86ASM 1\n#define HAVE_NEON 1\n#define CONFIG_GPL 0\n#define CONFIG_NONFREE 0\n\
                        #define CONFIG_LIBDAV1D 1\n#define CONFIG_NVDEC 1\n#define HAVE_PTHREADS 1\n";

    #[test]
    fn a_build_without_assembly_or_with_gpl_parts_is_refused() {
        assert_eq!(ffmpeg_unfit(GOOD), None);
        assert!(ffmpeg_unfit(&GOOD.replace("X86ASM 1", "X86ASM 0").replace("NEON 1", "NEON 0")).is_some());
        assert!(ffmpeg_unfit(&GOOD.replace("GPL 0", "GPL 1")).unwrap().contains("CONFIG_GPL"));
    }

    #[test]
    fn a_library_without_canaries_or_bounded_copies_is_refused() {
        let hardened = "mov.o:\n                 U __memcpy_chk\n                 U __stack_chk_fail\n";
        assert_eq!(missing_hardening(hardened), None);
        assert!(
            missing_hardening(&hardened.replace("__stack_chk_fail", "av_free")).unwrap().contains("__stack_chk_fail")
        );
        assert!(missing_hardening(&hardened.replace("_chk\n", "\n")).unwrap().contains("__memcpy_chk"));
        for arguments in [ffmpeg_configure(), dav1d_meson()] {
            assert!(arguments.iter().any(|argument| argument.contains("-fstack-protector-strong")), "{arguments:?}");
        }
    }

    #[test]
    fn with_http_two_arguments_differ_and_without_it_there_is_no_network() {
        let (usual, with_http) = (ffmpeg_configure(), ffmpeg_configure_with_http());
        let differ: Vec<_> = usual.iter().zip(&with_http).filter(|(one, other)| one != other).collect();
        assert_eq!((usual.len(), differ.len()), (with_http.len(), 2), "{differ:?}");
        assert!(usual.iter().any(|argument| argument == "--disable-network"));
    }
}
