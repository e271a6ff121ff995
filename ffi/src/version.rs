//! Names, versions and licences of the linked C libraries.

use std::ffi::CStr;

use crate::sys;

/// A C library that is linked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Name.
    pub name: String,
    /// Upstream version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// Upstream's home.
    pub homepage: String,
}

/// The linked C libraries.
pub fn components() -> Vec<Component> {
    let component = |fields: Vec<&str>| match fields[..] {
        [name, version, licence, homepage] => Some(Component {
            name: name.into(),
            version: version.into(),
            licence: licence.into(),
            homepage: homepage.into(),
        }),
        _ => None,
    };
    let pins = env!("BUCKET_STREAMER_PINS").split(';').map(|pin| pin.split('|').collect());
    let jpeg = vec!["libjpeg-turbo", "3.1.0", "IJG AND BSD-3-Clause AND Zlib", "https://libjpeg-turbo.org"];
    // SAFETY: returns a constant.
    let version = unsafe { libwebp_sys::WebPGetEncoderVersion() };
    let version = format!("{}.{}.{}", version >> 16 & 0xff, version >> 8 & 0xff, version & 0xff);
    let webp = vec!["libwebp", &version, "BSD-3-Clause", "https://chromium.googlesource.com/webm/libwebp"];
    pins.chain([jpeg, webp]).filter_map(component).collect()
}

/// The configuration of FFmpeg, as the linked library reports it.
pub fn ffmpeg_configuration() -> String {
    // SAFETY: a constant string of the library.
    unsafe { CStr::from_ptr(sys::avcodec_configuration()) }.to_string_lossy().into_owned()
}

/// Number of cores that this process may use, as libavcodec counts them for its default number of threads.
pub fn cpu_count() -> usize {
    // SAFETY: takes no arguments and only reads the process's affinity.
    unsafe { sys::av_cpu_count() }.max(1) as usize
}
