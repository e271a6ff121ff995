//! What a measurement is given by the program that it runs in: the terminal, the files, and what was said of engines, videos
//! and servers. A benchmark has no options and no messages of its own for these.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use bucket_streamer::{Engine, EngineBuilder, OpenOptions, Result};

/// What the program does for a measurement.
pub trait Host: Debug + Sync {
    /// A message for the user, without the program's name before it.
    fn say(&self, message: &str);

    /// A result, on standard output.
    ///
    /// # Errors
    /// Those of writing.
    fn print(&self, text: &[u8]) -> io::Result<()>;

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    /// `Write`.
    fn write(&self, file: &Path, bytes: &[u8]) -> Result<()>;

    /// Finds out whether [`Host::write`] could write there, and leaves everything as it is.
    ///
    /// # Errors
    /// `Write`.
    fn check_writable(&self, file: &Path) -> Result<()>;

    /// Is the file that is read (a path or an address) the one that is there at `output`, under whatever name?
    fn is_same_file(&self, input: &str, output: &Path) -> bool;

    /// The file is removed when the process is terminated while what this gives is kept.
    fn remove_at_termination(&self, file: &Path) -> Box<dyn Any>;

    /// What the process is given and what this engine makes of it, in a line.
    fn resources(&self, engine: &Engine) -> String;
}

/// What holds for all of a benchmark's engines, videos and requests.
#[derive(Debug, Clone)]
pub struct Given {
    /// The program.
    pub host: &'static dyn Host,
    /// Engines, but for what a measurement varies.
    pub engine: EngineBuilder,
    /// How videos are opened.
    pub opening: OpenOptions,
    /// Headers that servers are sent, by name.
    pub headers: Vec<(String, String)>,
    /// Certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// What a benchmark comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was measured, and every frame of ours was right.
    Done,
    /// Some frames failed or were wrong, or a report could not be written.
    SomeFailed,
    /// What was asked for makes no sense.
    Usage,
    /// The video or the server cannot be read.
    Unreadable,
}
