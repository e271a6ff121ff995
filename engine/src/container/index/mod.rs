//! The portable index: a file with the results of opening a video, so that later openings need not parse the video.
//!
//! The file is JSON, compressed with gzip; `docs/index-format.md` describes it. This module reads, writes and refuses
//! index files; `layout` has their fields, `export` and `restore` convert them from and to a [`Track`].

mod column;
mod export;
mod identity;
mod layout;
mod references;
mod restore;
mod verify;

use std::io::{Read, Write};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use super::{Track, TrackReferences};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{ByteRange, Source};
use identity::ContentIdentity;
use layout::{FORMAT, IndexFields, IndexHeader, VERSION};

/// Limit of the JSON text in bytes: this for any file, or this many times the file's length, ...
const TEXT_FLOOR: u64 = 16 << 20;
const MOST_COMPRESSION: u64 = 100;
/// ... and never more than this.
const TEXT_LIMIT: u64 = 1 << 30;

/// The index of a video, apart from the video. It identifies the file by its contents, not by its path: the file may be
/// moved.
#[derive(Debug)]
pub struct Index {
    layout: IndexFields,
    /// The name of the index file, for messages.
    name: String,
}

impl Index {
    /// The index of an open track of `source`, with `references` if known. Reads the ends of the source for its
    /// identity.
    ///
    /// # Errors
    /// Those of the source.
    pub(crate) fn of(track: &Track, source: &dyn Source, references: Option<&TrackReferences>) -> Result<Index> {
        let layout = export::layout(track, ContentIdentity::of(source)?, references);
        source.check()?;
        Ok(Index { layout, name: "index".to_owned() })
    }

    /// As [`Index::of`], for a cache that identifies the version of the source: reads nothing, and has no checksum of
    /// the ends.
    pub(crate) fn of_known(track: &Track, source: &dyn Source, references: Option<&TrackReferences>) -> Result<Index> {
        let layout = export::layout(track, ContentIdentity::unread(source), references);
        source.check()?;
        Ok(Index { layout, name: "index".to_owned() })
    }

    /// Reads an index file. The file may be malicious: its text is limited to a multiple of its size, and to 1 GiB.
    ///
    /// # Errors
    /// `BadIndex` for a file that is no index, is damaged, or has another version; and those of the source.
    pub fn read(source: &dyn Source) -> Result<Index> {
        let name = source.name().to_owned();
        let read = || {
            let packed = source.read(ByteRange { start: 0, len: source.len() })?;
            let layout = parse(&packed)?;
            // A file that was cut while mapped reads as zeros.
            source.check()?;
            Ok(layout)
        };
        let layout = read().map_err(|error: Error| error.of(&name))?;
        Ok(Index { layout, name })
    }

    /// The bytes of an index file: gzip-compressed JSON. Equal tracks give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_vec(&self.layout).expect("plain data");
        let packed = pack(&text, Compression::default());
        // A reader would refuse a text above the limit for its compressed size as a bomb: it is stored uncompressed.
        if text.len() as u64 > text_limit(packed.len()) { pack(&text, Compression::none()) } else { packed }
    }

    /// Number of the video track, counted from 0.
    pub fn track(&self) -> usize {
        self.layout.track
    }

    /// The track, as [`Track::open`] would return it for `source`.
    ///
    /// # Errors
    /// `BadIndex` if the index is of another file or has impossible values; and those of the source.
    pub(crate) fn restore(&self, source: &dyn Source) -> Result<Track> {
        self.layout.file.check(source).map_err(|error| error.of(&self.name))?;
        self.restore_known(source)
    }

    /// As [`Index::restore`], for a source that the caller has identified as the index's file.
    ///
    /// # Errors
    /// `BadIndex` if the index has impossible values.
    pub(crate) fn restore_known(&self, source: &dyn Source) -> Result<Track> {
        restore::track(&self.layout, source.len()).map_err(|error| error.of(&self.name))
    }
}

fn bad(why: impl Into<String>) -> Error {
    ErrorKind::BadIndex(why.into()).into()
}

fn parse(packed: &[u8]) -> Result<IndexFields> {
    let text = unpack(packed)?;
    match serde_json::from_slice::<IndexFields>(&text) {
        Ok(layout) if layout.format == FORMAT && layout.version == VERSION => Ok(layout),
        // Missing or different fields may be those of another version; then that is the reason to report.
        parsed => Err(match (serde_json::from_slice::<IndexHeader>(&text), parsed) {
            (Ok(head), _) if head.format == FORMAT && head.version != VERSION => {
                bad(format!("it has version {} of the format, this build reads version {VERSION}", head.version))
            }
            (Ok(head), Err(error)) if head.format == FORMAT => bad(parser_message(&error)),
            _ => bad("it is no index file"),
        }),
    }
}

/// The error of a JSON parser: one line of bounded length, whatever the parser quotes.
fn parser_message(error: &serde_json::Error) -> String {
    let words: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    format!("it is damaged ({words})")
}

fn pack(text: &[u8], compression: Compression) -> Vec<u8> {
    // No name and no time in the header, so that the bytes are reproducible.
    let mut packer = GzBuilder::new().write(Vec::new(), compression);
    packer.write_all(text).expect("memory takes everything");
    packer.finish().expect("memory takes everything")
}

/// The limit of the text, for an index file of `packed` bytes.
fn text_limit(packed: usize) -> u64 {
    (packed as u64).saturating_mul(MOST_COMPRESSION).clamp(TEXT_FLOOR, TEXT_LIMIT)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Err(bad("it is no index file"));
    }
    let limit = text_limit(packed.len());
    let (mut rest, mut text) = (packed, Vec::new());
    let unpacked = GzDecoder::new(&mut rest).take(limit + 1).read_to_end(&mut text);
    unpacked.map_err(|error| bad(format!("it is damaged ({error})")))?;
    if text.len() as u64 > limit {
        return Err(bad(format!("it has more than {limit} bytes, too many for a file of its size")));
    }
    if !rest.is_empty() {
        return Err(bad("it is damaged (bytes follow its end)"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Compression, pack, parse, unpack};

    fn packed(text: &[u8]) -> Vec<u8> {
        pack(text, Compression::fast())
    }

    fn refused(text: &str) -> String {
        parse(&packed(text.as_bytes())).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_is_no_index_and_an_index_of_another_version_have_different_errors() {
        assert_eq!(parse(b"").unwrap_err().to_string(), "this index cannot be used: it is no index file");
        assert!(refused("{}").contains("no index file"));
        assert!(refused("[1,2").contains("no index file"));
        assert!(refused(r#"{"format":"other","version":1}"#).contains("no index file"));
        let newer = refused(r#"{"version":2,"format":"bucket-streamer index","samples":"of another kind"}"#);
        assert!(newer.contains("version 2 of the format, this build reads version 1"), "{newer}");
        assert!(refused(r#"{"format":"bucket-streamer index","version":1}"#).contains("damaged (missing field"));
    }

    #[test]
    fn a_text_out_of_proportion_is_refused_and_so_is_what_follows_the_end() {
        let bomb = packed(&vec![b' '; 20 << 20]);
        assert!(unpack(&bomb).unwrap_err().to_string().contains("too many for a file of its size"));
        let mut longer = packed(b"{}");
        assert_eq!(unpack(&longer).unwrap(), b"{}");
        longer.push(0);
        assert!(unpack(&longer).is_err());
        longer.truncate(longer.len() - 2);
        assert!(unpack(&longer).is_err());
    }
}
