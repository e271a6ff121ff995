//! Errors of fetching, verifying and building the pinned sources, each with advice.

use std::fmt;
use std::path::{Path, PathBuf};

#[allow(missing_docs, reason = "the fields are named after what they hold")]
/// A failed fetch, verification or build of a vendored source.
#[derive(Debug)]
pub enum VendorError {
    /// A file or folder could not be read, written or locked.
    Io { path: PathBuf, source: std::io::Error },
    /// A program that the build needs is not installed.
    MissingTools(Vec<&'static str>),
    /// A program ran and failed; `tail` is the end of what it printed.
    Command { command: String, tail: String },
    /// The fetched content differs from the pinned one.
    Mismatch { what: String, expected: String, found: String },
    /// No carrier could deliver the source; one line for each attempt.
    NoCarrier { source_name: String, tried: Vec<String> },
    /// The configured build lacks a required property.
    Unfit(String),
}

impl VendorError {
    /// A closure for `map_err` that adds the path to an I/O error.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> VendorError {
        let path = path.as_ref().to_path_buf();
        move |source| VendorError::Io { path, source }
    }
}

impl fmt::Display for VendorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VendorError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            VendorError::MissingTools(tools) => write!(
                f,
                "programs needed to build the vendored C sources are missing: {}. On Debian and Ubuntu run \
                 scripts/install-deps; elsewhere install: a C compiler, make, nasm 2.14 or later, meson, ninja, \
                 cmake, pkg-config, xz and curl",
                tools.join(", ")
            ),
            VendorError::Command { command, tail } => write!(f, "`{command}` failed:\n{tail}"),
            VendorError::Mismatch { what, expected, found } => {
                write!(f, "{what} is not what is pinned: expected sha256 {expected}, found {found}")
            }
            VendorError::NoCarrier { source_name, tried } => {
                write!(f, "no carrier brought {source_name}:\n  {}", tried.join("\n  "))
            }
            VendorError::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for VendorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // `Display` includes the error itself, so its cause is next.
            VendorError::Io { source, .. } => source.source(),
            _ => None,
        }
    }
}
