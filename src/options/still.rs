//! Options of stills: format, quality and fit.

use bucket_streamer::pixels::Fit;
use bucket_streamer::still::StillFormat;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

/// `--quality`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Quality {
    /// Quality of stills in JPEG and WebP
    #[arg(short, long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Still(StillFormat),
    Raw,
    Framemd5,
}

/// The still formats, then the others.
const FORMATS: [Format; StillFormat::ALL.len() + 2] = {
    let mut all = [Format::Raw; StillFormat::ALL.len() + 2];
    let mut at = 0;
    while at < StillFormat::ALL.len() {
        all[at] = Format::Still(StillFormat::ALL[at]);
        at += 1;
    }
    all[at + 1] = Format::Framemd5;
    all
};

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Format::Still(format) => {
                (format.name(), format!("{} files, with colours converted to JFIF's", format.title()))
            }
            Format::Raw => ("raw", "The decoded planes, unconverted".to_owned()),
            Format::Framemd5 => ("framemd5", "MD5 sums of the planes, as `ffmpeg -f framemd5` prints them".to_owned()),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArgument {
    /// Scale to fit inside, without cropping
    Contain,
    /// Scale to fill, and crop the rest
    Cover,
    /// Stretch to fill
    Fill,
}

impl Format {
    /// The format of the still, if it is one.
    pub(crate) fn still(self) -> Option<StillFormat> {
        match self {
            Format::Still(format) => Some(format),
            Format::Raw | Format::Framemd5 => None,
        }
    }

    /// The extension of file names.
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
