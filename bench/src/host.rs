//! The interface to the program that runs a measurement: the terminal, the files, and the options of engines, videos
//! and servers. A benchmark has none of these itself.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use bucket_streamer::{Engine, EngineBuilder, OpenOptions, Result};

/// The services of the program.
pub trait BenchHost: Debug + Sync {
    /// Prints a message for the user, which does not begin with the program's name.
    fn say(&self, message: &str);

    /// Prints a result to standard output.
    ///
    /// # Errors
    /// Errors of writing.
    fn print(&self, text: &[u8]) -> io::Result<()>;

    /// Writes a file completely or not at all.
    ///
    /// # Errors
    /// `Write`.
    fn write(&self, file: &Path, bytes: &[u8]) -> Result<()>;

    /// Checks whether [`BenchHost::write`] could write there, without changing anything.
    ///
    /// # Errors
    /// `Write`.
    fn check_writable(&self, file: &Path) -> Result<()>;

    /// Whether the input (a path or an address) is the file at `output`, under any name.
    fn is_same_file(&self, input: &str, output: &Path) -> bool;

    /// Removes the file when the process is terminated while the returned value exists.
    fn remove_at_termination(&self, file: &Path) -> Box<dyn Any>;

    /// One line: the resources of the process, and this engine's use of them.
    fn resources(&self, engine: &Engine) -> String;
}

/// The options for all engines, videos and requests of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchContext {
    /// The program.
    pub host: &'static dyn BenchHost,
    /// The engine's options, except those that a measurement varies.
    pub engine: EngineBuilder,
    /// The options for opening videos.
    pub opening: OpenOptions,
    /// Headers for servers, by name.
    pub headers: Vec<(String, String)>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The result of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchOutcome {
    /// Everything was measured, and every frame of this program's engines was right.
    Done,
    /// Some frames failed or were wrong, or a report could not be written.
    SomeFailed,
    /// The arguments are wrong.
    Usage,
    /// The video or the server cannot be read.
    Unreadable,
}
