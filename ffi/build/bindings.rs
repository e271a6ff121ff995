//! The bindings of the C code: the checked-in file (`src/bindings.rs`) or, with the feature `bindgen`, one generated
//! from `shim/bindings.h`. `scripts/bindings` makes the checked-in file of a generated one.

#[cfg(feature = "bindgen")]
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The beginning of the line of the bindings with the key of their headers.
const KEY: &str = "// Of headers ";
/// The files of this project that determine the bindings.
const SOURCES: [&str; 3] = ["shim/bindings.h", "shim/shim.h", "build/bindings.rs"];

/// The key of the inputs of the bindings: our own headers and allow-list, and FFmpeg's headers in `include`. Another
/// build of FFmpeg with the same headers has the same key.
fn key(include: &Path) -> Result<String, String> {
    let ours = SOURCES.iter().map(PathBuf::from);
    let mut parts = Vec::new();
    for path in ours.chain(headers(include)?) {
        parts.push(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(vendor::cache::key(parts))
}

/// Headers that `configure` writes: they only describe the machine and the version.
const CONFIGURED: [&str; 2] = ["avconfig.h", "ffversion.h"];

/// FFmpeg's headers, sorted by their paths.
fn headers(include: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for library in ["libavcodec", "libavformat", "libavutil"] {
        let folder = include.join(library);
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let of_source = |path: &PathBuf| path.is_file() && !CONFIGURED.iter().any(|name| path.ends_with(name));
        all.extend(entries.flatten().map(|entry| entry.path()).filter(of_source));
    }
    // All paths begin with `include`, so their order depends only on the part below it.
    all.sort();
    Ok(all)
}

/// Checks that the checked-in bindings were generated from the present headers: with other headers, Rust and C would
/// disagree about the layout of memory.
#[cfg(not(feature = "bindgen"))]
pub(crate) fn check_key(include: &Path) -> Result<(), String> {
    let text = fs::read_to_string("src/bindings.rs").map_err(|error| format!("src/bindings.rs: {error}"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(KEY));
    let is_current = found == Some(&key(include)?);
    is_current
        .then_some(())
        .ok_or_else(|| "ffi/src/bindings.rs does not match the headers: run scripts/bindings".to_owned())
}

/// Generated bindings always match the headers.
#[cfg(feature = "bindgen")]
pub(crate) fn check_key(_: &Path) -> Result<(), String> {
    Ok(())
}

/// Checks that the checked-in bindings are valid for the target. Layouts, constants and the types of enums are the same
/// for 64-bit little-endian processors on Linux; error numbers, which are not, come from the `libc` crate.
#[cfg(not(feature = "bindgen"))]
pub(crate) fn check_target() -> Result<(), String> {
    let target = |name: &str| std::env::var(name).expect("Cargo sets it");
    let is_known_system = target("CARGO_CFG_TARGET_OS") == "linux";
    let is_known_processor =
        target("CARGO_CFG_TARGET_POINTER_WIDTH") == "64" && target("CARGO_CFG_TARGET_ENDIAN") == "little";
    (is_known_system && is_known_processor).then_some(()).ok_or_else(|| {
        format!(
            "the checked-in bindings of FFmpeg (ffi/src/bindings.rs) do not hold for {}: build with the feature `bindgen` \
             of bucket-streamer-ffi, which makes them anew and needs libclang",
            target("TARGET")
        )
    })
}

/// Generated bindings are valid for the target.
#[cfg(feature = "bindgen")]
pub(crate) fn check_target() -> Result<(), String> {
    Ok(())
}

/// Generates `bindings.rs` in Cargo's folder for this build, from FFmpeg's headers in `include`. Its text depends
/// neither on the compiler's version nor on rustfmt.
#[cfg(feature = "bindgen")]
pub(crate) fn generate(include: &Path) -> Result<(), String> {
    let out = Path::new(&env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR")).join("bindings.rs");
    bindgen::Builder::default()
        .header("shim/bindings.h")
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_function("bs_.*|av_cpu_count")
        .allowlist_function("av_(buffer_create|malloc|mallocz|freep|free|strerror)")
        .allowlist_function("av_(frame|packet)_(alloc|free|clone|apply_cropping)")
        .allowlist_function("av_packet_(new_side_data|side_data_get|side_data_new)|av_frame_get_side_data")
        .allowlist_type("AVMasteringDisplayMetadata|AVContentLightMetadata|AVDOVIDecoderConfigurationRecord")
        .allowlist_function("av_(pix_fmt_desc_get|get_pix_fmt|get_pix_fmt_name|color_.*_name|chroma_location_name)")
        .allowlist_function("av_(display_rotation_get|find_input_format|read_frame)")
        .allowlist_function("av_parser_(init|parse2|close)")
        .allowlist_function("avcodec_(alloc_context3|free_context|open2|find_decoder|flush_buffers)")
        .allowlist_function(
            "avcodec_(send_packet|receive_frame_flags|get_name|descriptor_get_by_name|profile_name|configuration)",
        )
        .allowlist_function("avcodec_parameters_(alloc|copy|free|to_context)")
        .allowlist_function("avformat_(alloc_context|open_input|close_input|index_get_.*)")
        .allowlist_function("avio_(alloc_context|context_free)|av_dict_(set|free)")
        .allowlist_var(
            "BS_.*|AV_CODEC_RECEIVE_FRAME_FLAG_SYNCHRONOUS|AV_CODEC_FLAG_COPY_OPAQUE|AV_CODEC_FLAG_OUTPUT_CORRUPT|AV_EF_EXPLODE|AV_CODEC_FLAG_UNALIGNED|AV_PKT_FLAG_.*|AV_FRAME_FLAG_.*",
        )
        .allowlist_var("AV_INPUT_BUFFER_PADDING_SIZE|AVFMT_FLAG_.*|AVSEEK_.*|AV_LOG_.*|AV_BUFFER_FLAG_READONLY")
        .allowlist_var("FF_THREAD_.*|AV_PIX_FMT_FLAG_.*|FF_DECODE_ERROR_.*|AV_DISPOSITION_.*")
        .allowlist_type("BsError|BsExceeded|BsLimits|BsMeter|BsMarks|BsFound|BsMovFlags|BsCrop|BsPictureFlags")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .layout_tests(false)
        .generate_comments(false)
        .raw_line("// Made by scripts/bindings of ffi/shim/bindings.h: do not edit.")
        .raw_line(format!("{KEY}{}", key(include)?))
        .rust_target(env!("CARGO_PKG_RUST_VERSION").parse().expect("a version of Rust"))
        .formatter(bindgen::Formatter::None)
        .generate()
        .map_err(|error| format!("bindgen: {error}"))?
        .write_to_file(&out)
        .map_err(|error| format!("{}: {error}", out.display()))
}
