//! FFmpeg's error numbers.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use crate::sys;

/// A negative return value of an FFmpeg function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AvError(pub c_int);

impl AvError {
    /// The data are not what the format asks for.
    pub const INVALID_DATA: AvError = AvError(sys::BsError::BS_AVERROR_INVALIDDATA);
    /// Out of memory.
    pub const NO_MEMORY: AvError = AvError(-libc::ENOMEM);
    /// An argument makes no sense.
    pub const INVALID_ARGUMENT: AvError = AvError(-libc::EINVAL);
    /// Reading failed.
    pub const IO: AvError = AvError(-libc::EIO);
    /// Something that is not libavcodec's failed: a GPU's driver.
    pub const EXTERNAL: AvError = AvError(sys::BsError::BS_AVERROR_EXTERNAL);
    /// Nobody does this here.
    pub const NOT_SUPPORTED: AvError = AvError(-libc::ENOSYS);
    /// libavcodec cannot do it yet.
    pub const NOT_YET: AvError = AvError(sys::BsError::BS_AVERROR_PATCHWELCOME);
    /// The end.
    pub const END: AvError = AvError(sys::BsError::BS_AVERROR_EOF);
    /// Nothing now: feed or take first.
    pub const AGAIN: AvError = AvError(-libc::EAGAIN);

    /// `Ok` with the value if it is not negative.
    pub(crate) fn check(value: c_int) -> Result<c_int, AvError> {
        if value < 0 { Err(AvError(value)) } else { Ok(value) }
    }
}

impl fmt::Display for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as c_char; 128];
        // SAFETY: the buffer is as long as is said, and av_strerror always ends it with NUL, for unknown numbers too.
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
