//! Turns one frame into the requested output: a file, bytes, or an MD5 sum. `extract` orders the outputs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bucket_streamer::still::{StillMaker, StillOptions, raw};
use bucket_streamer::{DeviceFrame, DevicePicture, Error, ErrorKind, Frame, Result, Video, VideoFrame};
use serde::Serialize;

use crate::options::Format;
use crate::unfinished::UnfinishedFile;

/// The destination of outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Files in a folder.
    Folder(PathBuf),
    /// Bytes on standard output.
    StandardOutput,
}

/// The output of one frame.
#[derive(Debug)]
pub(crate) struct OutputRecord {
    pub(crate) line: FrameLine,
    pub(crate) duration: i64,
    /// Length of the planes in bytes.
    pub(crate) raw_size: usize,
    /// The output, if it goes to standard output.
    pub(crate) bytes: Vec<u8>,
}

/// One line of `--json`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FrameLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) height: Option<usize>,
    /// `jpeg`, `png` or `webp` for stills; for planes and their MD5, the pixel format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) corrupt: bool,
}

impl FrameLine {
    /// The properties of a frame that need no decoding.
    pub(crate) fn of(video: &Video, index: u32) -> FrameLine {
        let sample = video.sample_of(index);
        FrameLine {
            index: Some(index),
            pts: sample.map(|sample| sample.pts),
            time_s: sample.map(|sample| video.timeline().seconds(sample.pts)),
            key: sample.map(|sample| sample.key),
            ..FrameLine::default()
        }
    }
}

/// The picture that output is made from.
#[derive(Clone, Copy)]
enum SourcePicture<'a> {
    Host(&'a Frame),
    Device(&'a DevicePicture),
}

impl SourcePicture<'_> {
    fn properties(&self) -> &Frame {
        match self {
            SourcePicture::Host(picture) => picture,
            SourcePicture::Device(picture) => picture.properties(),
        }
    }
}

/// A worker's state for making output.
pub(crate) struct OutputMaker {
    video: Video,
    format: Format,
    options: StillOptions,
    destination: Destination,
    stills: Option<StillMaker>,
    buffer: Vec<u8>,
}

impl OutputMaker {
    pub(crate) fn new(video: Video, format: Format, options: StillOptions, destination: Destination) -> OutputMaker {
        OutputMaker { video, format, options, destination, stills: None, buffer: Vec::new() }
    }

    /// Another maker for the same work.
    pub(crate) fn fresh(&self) -> OutputMaker {
        OutputMaker::new(self.video.clone(), self.format, self.options, self.destination.clone())
    }

    /// Makes the requested output of a frame. A failed still concerns this frame only; a failed write concerns the run.
    pub(crate) fn make(&mut self, frame: &VideoFrame) -> Result<OutputRecord> {
        let VideoFrame { index, duration, picture, .. } = frame;
        self.with_coordinates(*index, |maker| maker.record(*index, *duration, SourcePicture::Host(picture)))
    }

    /// The same for a frame in GPU memory. It makes stills only.
    pub(crate) fn make_on_device(&mut self, frame: &DeviceFrame) -> Result<OutputRecord> {
        let DeviceFrame { index, duration, picture, .. } = frame;
        self.with_coordinates(*index, |maker| maker.record(*index, *duration, SourcePicture::Device(picture)))
    }

    fn with_coordinates(
        &mut self,
        index: u32,
        make: impl FnOnce(&mut OutputMaker) -> Result<OutputRecord>,
    ) -> Result<OutputRecord> {
        make(self).map_err(|error| match error.kind() {
            ErrorKind::Still(why) => {
                let name = self.video.source().name();
                ErrorKind::Still(format!("{name}: frame {index}: {why}")).into()
            }
            _ => error,
        })
    }

    fn record(&mut self, index: u32, duration: i64, source: SourcePicture<'_>) -> Result<OutputRecord> {
        let picture = source.properties();
        let mut line = FrameLine {
            width: Some(picture.width()),
            height: Some(picture.height()),
            format: Some(picture.format().name()),
            corrupt: picture.is_corrupt(),
            ..FrameLine::of(&self.video, index)
        };
        let mut bytes = Vec::new();
        match self.format {
            Format::Framemd5 => line.md5 = Some(raw::hex(&raw::md5(picture))),
            Format::Raw => {
                bytes = raw::write(picture);
                bytes = self.deliver(index, bytes, &mut line)?;
            }
            Format::Still(_) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                let stills = match &mut self.stills {
                    Some(stills) => stills,
                    none => none.insert(StillMaker::new()?),
                };
                let (width, height) = match source {
                    SourcePicture::Host(picture) => stills.encode(picture, &self.options, &mut buffer)?,
                    SourcePicture::Device(picture) => stills.encode_on_device(picture, &self.options, &mut buffer)?,
                };
                let format = self.options.format;
                (line.width, line.height, line.format) = (Some(width), Some(height), Some(format.name()));
                if self.destination == Destination::StandardOutput {
                    bytes = self.deliver(index, buffer, &mut line)?;
                } else {
                    self.buffer = self.deliver(index, buffer, &mut line)?;
                }
            }
        }
        Ok(OutputRecord { line, duration, raw_size: raw::len(picture), bytes })
    }

    /// Writes output into the folder, or returns it for standard output.
    fn deliver(&self, index: u32, bytes: Vec<u8>, line: &mut FrameLine) -> Result<Vec<u8>> {
        if let Destination::Folder(folder) = &self.destination {
            let path = frame_path(folder, index, self.format.extension());
            write_whole(&path, &bytes)?;
            line.file = Some(path.to_string_lossy().into_owned());
        }
        Ok(bytes)
    }
}

/// Writes a file completely or not at all: under a temporary name beside its place, then renamed. An existing pipe or
/// device is written to directly, and stays.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if is_special(path) {
            return File::options().write(true).open(path)?.write_all(bytes);
        }
        let (unfinished, mut file) = UnfinishedFile::beside(path)?;
        file.write_all(bytes)?;
        unfinished.finish(path)
    };
    write().map_err(|error| write_error(path, error))
}

/// Checks whether [`write_whole`] could write there, without changing anything.
#[cfg(feature = "bench")]
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let check = || {
        if path.exists() {
            File::options().append(true).open(path)?;
        }
        if is_special(path) { Ok(()) } else { UnfinishedFile::beside(path).map(drop) }
    };
    check().map_err(|error| write_error(path, error))
}

fn write_error(path: &Path, error: io::Error) -> Error {
    ErrorKind::Write { path: path.to_string_lossy().into_owned(), error }.into()
}

fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Whether the input (a path or an address) is the file at `output`, under any name.
pub(crate) fn is_same_file(input: &str, output: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
    let input = identity(Path::new(input.strip_prefix("file://").unwrap_or(input)));
    input.is_some() && input == identity(output)
}

/// The path of a frame's output in a folder.
fn frame_path(folder: &Path, index: u32, extension: &str) -> PathBuf {
    folder.join(format!("frame-{index:06}.{extension}"))
}

impl Destination {
    /// The first of these frames whose output would overwrite an input, and the path.
    pub(crate) fn overwritten(&self, frames: &[u32], format: Format, inputs: &[&str]) -> Option<(u32, PathBuf)> {
        let Destination::Folder(folder) = self else { return None };
        let extension = format.extension();
        // The folder is listed because it has few files or none; frames may be many.
        let named = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
            let index = entry.file_name().to_str()?.strip_prefix("frame-")?.split('.').next()?.parse().ok()?;
            let path = frame_path(folder, index, extension);
            (path.file_name()? == entry.file_name()).then_some((index, path))
        });
        let taken = named.filter(|(_, place)| inputs.iter().any(|input| is_same_file(input, place)));
        taken.filter(|(index, _)| frames.contains(index)).min()
    }
}
