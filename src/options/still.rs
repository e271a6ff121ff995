//! What stills are like.

use bucket_streamer::pixels::Fit;
use bucket_streamer::still::StillFormat;
use clap::{Args, ValueEnum};

/// `--quality`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Quality {
    /// Quality of JPEG and WebP
    #[arg(short, long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JPEG files, brought to JFIF's colour from the stream's
    Jpeg,
    /// The same picture as PNG files
    Png,
    /// The same picture as WebP files
    Webp,
    /// The planes as they are
    Raw,
    /// MD5 sums of the planes, as `ffmpeg -f framemd5` prints them
    Framemd5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArgument {
    /// As large as fits inside, whole
    Contain,
    /// Fill it, cut off what stands out
    Cover,
    /// Fill it, stretched
    Fill,
}

impl Format {
    /// What kind of still it is, if it is one.
    pub(crate) fn still(self) -> Option<StillFormat> {
        match self {
            Format::Jpeg => Some(StillFormat::Jpeg),
            Format::Png => Some(StillFormat::Png),
            Format::Webp => Some(StillFormat::Webp),
            Format::Raw | Format::Framemd5 => None,
        }
    }

    /// What the names of files end with.
    pub(crate) fn extension(self) -> &'static str {
        self.still().map_or("yuv", StillFormat::extension)
    }
}

impl From<FitArgument> for Fit {
    fn from(fit: FitArgument) -> Fit {
        match fit {
            FitArgument::Contain => Fit::Contain,
            FitArgument::Cover => Fit::Cover,
            FitArgument::Fill => Fit::Fill,
        }
    }
}
