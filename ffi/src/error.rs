//! FFmpeg's error codes. Their meaning for a video is left to the engine.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use crate::sys;

/// A negative return value of an FFmpeg function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AvError(pub c_int);

impl AvError {
    /// The data violate the format.
    pub const INVALID_DATA: AvError = AvError(sys::BsError::BS_AVERROR_INVALIDDATA);
    /// Out of memory.
    pub const NO_MEMORY: AvError = AvError(-libc::ENOMEM);
    /// An invalid argument.
    pub const INVALID_ARGUMENT: AvError = AvError(-libc::EINVAL);
    /// A read failed.
    pub const IO: AvError = AvError(-libc::EIO);
    /// A failure outside of libavcodec: a GPU's driver.
    pub const EXTERNAL: AvError = AvError(sys::BsError::BS_AVERROR_EXTERNAL);
    /// The GPU or its driver does not support it.
    pub const NOT_SUPPORTED: AvError = AvError(-libc::ENOSYS);
    /// libavcodec does not support it yet.
    pub const NOT_YET: AvError = AvError(sys::BsError::BS_AVERROR_PATCHWELCOME);
    /// The end of the data.
    pub const END: AvError = AvError(sys::BsError::BS_AVERROR_EOF);
    /// No result now: the caller must send or receive first.
    pub const AGAIN: AvError = AvError(-libc::EAGAIN);

    /// `Ok` with the value if it is not negative.
    pub(crate) fn check(value: c_int) -> Result<c_int, AvError> {
        if value < 0 { Err(AvError(value)) } else { Ok(value) }
    }
}

impl fmt::Display for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as c_char; 128];
        // SAFETY: the buffer has the given length, and av_strerror always ends it with NUL, for unknown numbers too.
        let message = unsafe {
            sys::av_strerror(self.0, text.as_mut_ptr(), text.len());
            CStr::from_ptr(text.as_ptr())
        };
        f.write_str(&message.to_string_lossy())
    }
}

impl fmt::Debug for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvError({}, {self})", self.0)
    }
}

impl std::error::Error for AvError {}
