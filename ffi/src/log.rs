//! FFmpeg's log, line by line. Silent until a sink is set; writing the lines is left to the sink.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use crate::sys;

/// The severity of a line in FFmpeg's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A failure.
    Error,
    /// A possible problem.
    Warning,
    /// Any other message.
    Info,
}

type Sink = Box<dyn Fn(LogLevel, &str) + Send + Sync>;
static SINK: OnceLock<Sink> = OnceLock::new();

extern "C" fn on_line(level: c_int, line: *const c_char) {
    // SAFETY: log.c passes a NUL-terminated line that lives until this returns.
    let line = unsafe { CStr::from_ptr(line) }.to_string_lossy();
    let level = match level {
        level if level <= sys::AV_LOG_ERROR as c_int => LogLevel::Error,
        level if level <= sys::AV_LOG_WARNING as c_int => LogLevel::Warning,
        _ => LogLevel::Info,
    };
    if let Some(sink) = SINK.get() {
        sink(level, &line);
    }
}

/// Sends FFmpeg's messages up to `level` to `sink`, for the whole process. Only the first sink is used.
pub fn set_log(level: LogLevel, sink: impl Fn(LogLevel, &str) + Send + Sync + 'static) {
    if SINK.set(Box::new(sink)).is_err() {
        return;
    }
    let level = match level {
        LogLevel::Error => sys::AV_LOG_ERROR,
        LogLevel::Warning => sys::AV_LOG_WARNING,
        LogLevel::Info => sys::AV_LOG_INFO,
    };
    // SAFETY: on_line may be called from any thread, at any time: it only reads the sink, which is set for good.
    unsafe { sys::bs_log_install(level as c_int, Some(on_line)) };
}

/// Keeps FFmpeg from writing to standard error, unless a sink was set. Called before anything is opened.
pub(crate) fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if SINK.get().is_none() {
            // SAFETY: without a sink on_line drops the line.
            unsafe { sys::bs_log_install(sys::AV_LOG_QUIET as c_int, Some(on_line)) };
        }
    });
}
