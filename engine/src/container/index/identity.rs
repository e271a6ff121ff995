//! The identity of the file that an index describes: its length, and a checksum of both ends.
//!
//! Name and time are not part of it, so that the index is as portable as the video. The ends are cheap to read from any
//! source. Muxing, cutting or encoding a video again changes its length, and the tables at one of its ends. An
//! overwrite in the middle is not detected.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bad;
use crate::error::Result;
use crate::source::{ByteRange, Source};

/// Length of an end, in bytes.
const END: u64 = 64 * 1024;

/// The identity of a file.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct ContentIdentity {
    /// Length in bytes.
    length: u64,
    /// SHA-256 over the first 64 KiB and the last 64 KiB, in hexadecimal; of a shorter file, over all of it, twice.
    sha256_of_ends: String,
}

impl ContentIdentity {
    pub(super) fn of(source: &dyn Source) -> Result<ContentIdentity> {
        let (length, end) = (source.len(), source.len().min(END));
        let mut hash = Sha256::new();
        hash.update(source.read(ByteRange { start: 0, len: end })?);
        hash.update(source.read(ByteRange { start: length - end, len: end })?);
        let sha256_of_ends = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ContentIdentity { length, sha256_of_ends })
    }

    /// An identity without a checksum, which no file has.
    pub(super) fn unread(source: &dyn Source) -> ContentIdentity {
        ContentIdentity { length: source.len(), sha256_of_ends: String::new() }
    }

    /// Checks that `source` has this identity.
    ///
    /// # Errors
    /// `BadIndex` for another file; and those of the source.
    pub(super) fn check(&self, source: &dyn Source) -> Result<()> {
        let (name, length) = (source.name(), source.len());
        if length != self.length {
            let expected = self.length;
            return Err(bad(format!("it is of a file of {expected} bytes, {name} has {length}: make it anew")));
        }
        let found = ContentIdentity::of(source).map_err(|error| error.of(name))?;
        source.check()?;
        if found != *self {
            return Err(bad(format!("it is of another file of the same length as {name}: make it anew")));
        }
        Ok(())
    }
}
