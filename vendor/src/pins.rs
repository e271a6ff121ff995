//! The pinned sources.
//!
//! A pin's identity is its *content checksum*: SHA-256 over the sorted list of `sha256  path` lines of the files that
//! take part in a build (`covered`). Carriers have the same content in different archives (one omits the manual,
//! another the reference tests), so an archive's own checksum can differ from carrier to carrier; the content cannot.

/// One pinned source.
#[derive(Debug)]
pub struct Pin {
    /// Name, as in cache entries and messages.
    pub name: &'static str,
    /// Upstream version.
    pub version: &'static str,
    /// SPDX licence expression of our configuration's build.
    pub licence: &'static str,
    /// Upstream's web page.
    pub homepage: &'static str,
    /// Files and folders, relative to the source's root, that the content checksum covers.
    pub covered: &'static [&'static str],
    /// SHA-256 of the covered content, see the module's comment.
    pub content_sha256: &'static str,
    /// The carriers, in order of preference.
    pub carriers: &'static [Carrier],
}

/// A place from which a source can be fetched.
#[derive(Debug)]
pub enum Carrier {
    /// A crate that contains the source: immutable once published, with its checksum in `vendor/carriers/Cargo.lock`.
    Crate {
        /// Folder name of the unpacked crate, `name-version`.
        package: &'static str,
        /// The source within the crate: an archive or a folder.
        inside: CrateContent,
    },
    /// An archive behind a URL, fetched with curl.
    Url {
        /// Address.
        url: &'static str,
        /// SHA-256 of the archive, if known; the content checksum is checked in any case.
        archive_sha256: Option<&'static str>,
    },
}

/// The form of a source within a crate.
#[derive(Debug)]
pub enum CrateContent {
    /// An archive at this path.
    Archive {
        /// Path inside the crate.
        path: &'static str,
        /// SHA-256 of the archive.
        sha256: &'static str,
    },
    /// A folder at this path.
    Folder(&'static str),
}

/// FFmpeg: demuxers, decoders, and the `ffmpeg` and `ffprobe` programs.
pub const FFMPEG: Pin = Pin {
    name: "ffmpeg",
    version: "9.0.2",
    licence: "LGPL-2.1-or-later",
    homepage: "https://ffmpeg.org",
    covered: &[
        "COPYING.LGPLv2.1",
        "LICENSE.md",
        "Makefile",
        "RELEASE",
        "compat",
        "configure",
        "doc/Makefile",
        "ffbuild",
        "fftools",
        "libavcodec",
        "libavdevice",
        "libavfilter",
        "libavformat",
        "libavutil",
        "libswresample",
        "libswscale",
        "presets",
        "tests/Makefile",
        "tools",
    ],
    content_sha256: "10736521cbd9257a72914376ace25835422a42c38969d2fc43e2194e68b9a010",
    carriers: &[
        Carrier::Crate {
            package: "ramp-ffmpeg-sys-9.0.5",
            inside: CrateContent::Archive {
                path: "vendor/ffmpeg-9.0.2.tar.xz",
                sha256: "b8663330d81917929710c9d6e644fbc0004a6c491b71900c1605a470a46e39b7",
            },
        },
        Carrier::Url {
            url: "https://ffmpeg.org/releases/ffmpeg-9.0.2.tar.xz",
            archive_sha256: Some("8c3850283eb25fa026482078a04051e0be17347b09ef81a0849bec15a96e002e"),
        },
        // Last, since Debian's pool drops files when a suite changes.
        Carrier::Url {
            url: "https://deb.debian.org/debian/pool/main/f/ffmpeg/ffmpeg_9.0.2.orig.tar.xz",
            archive_sha256: Some("8c3850283eb25fa026482078a04051e0be17347b09ef81a0849bec15a96e002e"),
        },
    ],
};

/// dav1d: the AV1 decoder behind libavcodec's `libdav1d` (FFmpeg's own AV1 decoder is for hardware only).
pub const DAV1D: Pin = Pin {
    name: "dav1d",
    version: "1.4.3",
    licence: "BSD-2-Clause",
    homepage: "https://code.videolan.org/videolan/dav1d",
    covered: &["COPYING", "include", "meson.build", "meson_options.txt", "src"],
    content_sha256: "f41c0dde04230288057eb9b7808dddceac7ecb0ac70e3c9d383e3b1fd2475fa8",
    carriers: &[
        Carrier::Crate { package: "libdav1d-sys-0.7.1+libdav1d.1.4.3", inside: CrateContent::Folder("vendor") },
        Carrier::Url {
            url: "https://downloads.videolan.org/pub/videolan/dav1d/1.4.3/dav1d-1.4.3.tar.xz",
            archive_sha256: None,
        },
    ],
};

/// nv-codec-headers: declarations of NVIDIA's driver libraries, which are loaded at run time if present. Headers only;
/// their checksum is in FFmpeg's key.
pub const NV_HEADERS: Pin = Pin {
    name: "nv-codec-headers",
    version: "12.1.14.0",
    licence: "MIT",
    homepage: "https://git.videolan.org/?p=ffmpeg/nv-codec-headers.git",
    covered: &["README", "ffnvcodec.pc.in", "include"],
    content_sha256: "0596153659f7103ee24dddef2814e20361802895d128068d0d998ec771840172",
    carriers: &[
        Carrier::Url {
            url: "https://deb.debian.org/debian/pool/main/n/nv-codec-headers/nv-codec-headers_12.1.14.0.orig.tar.xz",
            archive_sha256: Some("0ca1a0c85b149646fa6ce4d600584507fdccf5a23d58e668d8701e89cee0c3fb"),
        },
        Carrier::Url {
            url: "https://snapshot.debian.org/archive/debian/20250901T000000Z/pool/main/n/nv-codec-headers/nv-codec-headers_12.1.14.0.orig.tar.xz",
            archive_sha256: Some("0ca1a0c85b149646fa6ce4d600584507fdccf5a23d58e668d8701e89cee0c3fb"),
        },
        Carrier::Url {
            url: "https://github.com/FFmpeg/nv-codec-headers/archive/refs/tags/n12.1.14.0.tar.gz",
            archive_sha256: None,
        },
    ],
};

/// Every pinned source, in the order in which they are built.
pub const ALL: &[&Pin] = &[&DAV1D, &NV_HEADERS, &FFMPEG];
