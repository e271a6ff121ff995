//! The engine as a guest of a program in another language: a shared library with one C function.
//!
//! The tests of this package are programs with the engine as a guest. The `unsafe` code here is the other side of the
//! border: C pointers, loaders, signal handlers and `fork` of the host.

use std::ffi::{CStr, c_char, c_int};

use bucket_streamer::still::{StillFormat, StillMaker, raw};
use bucket_streamer::{Engine, OpenOptions, Result};

/// Decodes a frame, writes the MD5 of its planes, and makes stills of it. Returns 0 for success.
///
/// # Safety
/// `path` is a C string, and `md5` points to 16 writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn guest_frame(path: *const c_char, index: u32, md5: *mut [u8; 16]) -> c_int {
    // SAFETY: the caller guarantees a C string.
    let (path, md5) = unsafe { (CStr::from_ptr(path), &mut *md5) };
    match path.to_str().map(|path| frame(path, index)) {
        Ok(Ok(sum)) => {
            *md5 = sum;
            0
        }
        _ => 1,
    }
}

fn frame(path: &str, index: u32) -> Result<[u8; 16]> {
    let video = OpenOptions::new().open(&Engine::new(Some(2)), path)?;
    let frame = video.frame(index)?;
    let mut maker = StillMaker::new()?;
    for format in [StillFormat::Jpeg, StillFormat::Webp] {
        let options = bucket_streamer::still::StillOptions { format, ..video.still_options() };
        maker.encode(&frame.picture, &options, &mut Vec::new())?;
    }
    Ok(raw::md5(&frame.picture))
}
