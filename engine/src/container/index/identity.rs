//! Which file an index is of: its length, and a checksum of both of its ends.
//!
//! Not its name or time: the index is as portable as the video. The ends are cheap to read from anywhere, and whatever
//! muxes, cuts or encodes a video anew changes its length, and the tables that stand at one of its ends. What somebody
//! overwrites in the middle is not seen.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bad;
use crate::error::Result;
use crate::source::{ByteRange, Source};

/// Length of an end, in bytes.
const END: u64 = 64 * 1024;

/// A file, as an index knows it.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Identity {
    /// Bytes.
    length: u64,
    /// SHA-256 over the first 64 KiB and the last 64 KiB, in hexadecimal; of a shorter file, over all of it, twice.
    sha256_of_ends: String,
}

impl Identity {
    pub(super) fn of(source: &dyn Source) -> Result<Identity> {
        let (length, end) = (source.len(), source.len().min(END));
        let mut hash = Sha256::new();
        hash.update(source.read(ByteRange { start: 0, len: end })?);
        hash.update(source.read(ByteRange { start: length - end, len: end })?);
        let sha256_of_ends = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Identity { length, sha256_of_ends })
    }

    /// Of a file whose ends were not looked at: no file is it.
    pub(super) fn unread(source: &dyn Source) -> Identity {
        Identity { length: source.len(), sha256_of_ends: String::new() }
    }

    /// `BadIndex` unless `source` is the file.
    pub(super) fn check(&self, source: &dyn Source) -> Result<()> {
        let (name, length) = (source.name(), source.len());
        if length != self.length {
            let wanted = self.length;
            return Err(bad(format!("it is of a file of {wanted} bytes, {name} has {length}: make it anew")));
        }
        let found = Identity::of(source).map_err(|error| error.of(name))?;
        source.check()?;
        if found != *self {
            return Err(bad(format!("it is of another file of the same length as {name}: make it anew")));
        }
        Ok(())
    }
}
