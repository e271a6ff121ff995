//! Builds the static libraries and programs from the pinned sources, once per machine and configuration. Fetching is
//! left to `fetch`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::VendorError;
use crate::fetch::run;
use crate::pins::{DAV1D, FFMPEG, NV_HEADERS};
use crate::{cache, fetch, recipe};

/// A finished build of everything, in the cache.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// Cache entry of FFmpeg: `lib`, `include`, `bin`, and `internal` with the headers that C shims need.
    pub ffmpeg: PathBuf,
    /// Cache entry of dav1d: `lib`, `include`.
    pub dav1d: PathBuf,
    /// Cache entry of dav1d's internal headers, with its `config.h`: `src`, `include`.
    pub dav1d_internal: PathBuf,
    /// The cache key of `ffmpeg`; it depends on dav1d's.
    pub key: String,
}

impl Prefix {
    /// Path of one of the programs (`ffmpeg`, `ffprobe`).
    pub fn program(&self, name: &str) -> PathBuf {
        self.ffmpeg.join("bin").join(name)
    }
}

/// The C compiler and its version: part of every key.
pub fn compiler() -> Result<(String, String), VendorError> {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let version = run(Command::new(&cc).arg("--version")).map_err(|_| VendorError::MissingTools(vec!["cc"]))?;
    Ok((cc, version))
}

/// The finished build for this configuration, built first if the cache has none. Reports long steps to `say`.
///
/// # Errors
/// Those of fetching and building, see [`VendorError`].
pub fn ensure(say: &mut dyn FnMut(&str)) -> Result<Prefix, VendorError> {
    ensure_as(&recipe::ffmpeg_configure(), say)
}

/// A separate entry whose programs read plain HTTP; used only by `scripts/vendor path ffmpeg-http`.
///
/// # Errors
/// Those of [`ensure`].
pub fn ensure_with_http(say: &mut dyn FnMut(&str)) -> Result<Prefix, VendorError> {
    ensure_as(&recipe::ffmpeg_configure_with_http(), say)
}

fn ensure_as(ffmpeg_arguments: &[String], say: &mut dyn FnMut(&str)) -> Result<Prefix, VendorError> {
    let (cc, version) = compiler()?;
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let is_x86 = std::env::consts::ARCH == "x86_64";
    let assembler = if is_x86 { run(Command::new("nasm").arg("-v")).unwrap_or_default() } else { String::new() };
    let flags = ["CFLAGS", "CPPFLAGS", "LDFLAGS"].map(|name| std::env::var(name).unwrap_or_default()).join("|");
    let common = [cc, version, target, assembler, flags];

    let arguments = recipe::dav1d_meson();
    let dav1d_key = cache::key([&common[..], &[DAV1D.content_sha256.to_owned()], &arguments].concat());
    let dav1d = cache::entry("dav1d", &dav1d_key, |dir| build_dav1d(dir, &arguments, say))?;

    let internal_key = cache::key([&[dav1d_key.clone()][..], &["internal headers".to_owned()]].concat());
    let dav1d_internal = cache::entry("dav1d-internal", &internal_key, |dir| dav1d_headers(dir, &arguments))?;

    let contents = [&FFMPEG, &NV_HEADERS].map(|pin| pin.content_sha256.to_owned());
    let own = [&[dav1d_key][..], &contents, &[INSTALL_LAYOUT.to_owned()]].concat();
    let key = cache::key([&common[..], &own, ffmpeg_arguments].concat());
    let ffmpeg = cache::entry("ffmpeg", &key, |dir| build_ffmpeg(dir, &dav1d, ffmpeg_arguments, say))?;
    Ok(Prefix { ffmpeg, dav1d, dav1d_internal, key })
}

/// To be changed with the files that [`build_ffmpeg`] leaves in an entry.
const INSTALL_LAYOUT: &str = "2: lib include bin internal configure.txt, NVIDIA's headers in include";

fn check_tools() -> Result<(), VendorError> {
    let tools: [(&'static str, &str); 7] = [
        ("cc", "--version"),
        ("make", "--version"),
        ("nasm", "-v"),
        ("meson", "--version"),
        ("ninja", "--version"),
        ("pkg-config", "--version"),
        ("xz", "--version"),
    ];
    let missing: Vec<_> =
        tools.iter().filter(|(tool, flag)| run(Command::new(tool).arg(flag)).is_err()).map(|(tool, _)| *tool).collect();
    if missing.is_empty() { Ok(()) } else { Err(VendorError::MissingTools(missing)) }
}

fn jobs() -> String {
    std::thread::available_parallelism().map_or(2, |cores| cores.get()).to_string()
}

fn build_dav1d(dir: &Path, arguments: &[String], say: &mut dyn FnMut(&str)) -> Result<(), VendorError> {
    check_tools()?;
    let source = fetch::ensure(&DAV1D)?;
    say("building dav1d, once for this machine");
    let work = dir.join("work");
    run(Command::new("meson").arg("setup").arg(&work).arg(&source).args(arguments))?;
    run(Command::new("ninja").arg("-C").arg(&work))?;
    run(Command::new("meson").args(["install", "--no-rebuild", "-C"]).arg(&work).env("DESTDIR", dir))?;
    fs::remove_dir_all(&work).map_err(VendorError::io(&work))
}

/// The internal headers of dav1d, configured as [`build_dav1d`] configures it.
fn dav1d_headers(dir: &Path, arguments: &[String]) -> Result<(), VendorError> {
    check_tools()?;
    let source = fetch::ensure(&DAV1D)?;
    let work = dir.join("work");
    run(Command::new("meson").arg("setup").arg(&work).arg(&source).args(arguments))?;
    copy_headers(&source.join("src"), &dir.join("src"), false)?;
    copy_headers(&source.join("include"), &dir.join("include"), false)?;
    copy_headers(&work.join("include"), &dir.join("include"), false)?;
    let config = work.join("config.h");
    fs::copy(&config, dir.join("config.h")).map_err(VendorError::io(&config))?;
    fs::remove_dir_all(&work).map_err(VendorError::io(&work))
}

fn build_ffmpeg(dir: &Path, dav1d: &Path, arguments: &[String], say: &mut dyn FnMut(&str)) -> Result<(), VendorError> {
    check_tools()?;
    let source = fetch::ensure(&FFMPEG)?;
    install_nv_headers(dir)?;
    say("building FFmpeg, once for this machine: 3 to 6 minutes on two cores");
    let work = dir.join("work");
    fs::create_dir(&work).map_err(VendorError::io(&work))?;
    // `--define-prefix`: .pc files lie below a cache entry, not at their configured prefix.
    let packages = [dav1d, dir].map(|entry| entry.join("lib/pkgconfig").display().to_string()).join(":");
    run(Command::new(source.join("configure"))
        .args(arguments)
        .arg("--pkg-config-flags=--static --define-prefix")
        .env("PKG_CONFIG_PATH", packages)
        .current_dir(&work))?;
    let config = work.join("config.h");
    let config_text = fs::read_to_string(&config).map_err(VendorError::io(&config))?;
    if let Some(why) = recipe::ffmpeg_unfit(&config_text) {
        return Err(VendorError::Unfit(why));
    }
    run(Command::new("make").arg("-j").arg(jobs()).current_dir(&work))?;
    run(Command::new("make").arg("install").env("DESTDIR", dir).current_dir(&work))?;
    for library in ["libavformat.a", "libavcodec.a"] {
        let undefined = run(Command::new("nm").arg("--undefined-only").arg(dir.join("lib").join(library)))?;
        if let Some(why) = recipe::missing_hardening(&undefined) {
            return Err(VendorError::Unfit(format!("{library}: {why}")));
        }
    }
    let internal = dir.join("internal");
    copy_headers(&source, &internal, true)?;
    copy_headers(&work, &internal, true)?;
    fs::write(dir.join("configure.txt"), arguments.join("\n")).map_err(VendorError::io(dir))?;
    fs::remove_dir_all(&work).map_err(VendorError::io(&work))
}

/// Installs NVIDIA's headers where FFmpeg's own will be, and a .pc file for `configure` beside its libraries.
fn install_nv_headers(dir: &Path) -> Result<(), VendorError> {
    let source = fetch::ensure(&NV_HEADERS)?;
    copy_headers(&source.join("include"), &dir.join("include"), false)?;
    let template = source.join("ffnvcodec.pc.in");
    let text = fs::read_to_string(&template).map_err(VendorError::io(&template))?;
    let packages = dir.join("lib/pkgconfig");
    fs::create_dir_all(&packages).map_err(VendorError::io(&packages))?;
    let file = packages.join("ffnvcodec.pc");
    fs::write(&file, text.replace("@@PREFIX@@", "/")).map_err(VendorError::io(&file))
}

/// Copies the headers below `from`, keeping folders: C shims are compiled against libavcodec's internals.
fn copy_headers(from: &Path, to: &Path, top: bool) -> Result<(), VendorError> {
    fs::create_dir_all(to).map_err(VendorError::io(to))?;
    for entry in fs::read_dir(from).map_err(VendorError::io(from))? {
        let entry = entry.map_err(VendorError::io(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name();
        if path.is_dir() {
            let kept = name.as_encoded_bytes().starts_with(b"lib") || name == "compat";
            if !top || kept {
                copy_headers(&path, &target, false)?;
            }
        } else if path.extension() == Some(OsStr::new("h")) {
            fs::copy(&path, &target).map_err(VendorError::io(&target))?;
        }
    }
    Ok(())
}
