//! Options that select a video, its track and its index file.

use clap::Args;

/// The location of the video.
#[derive(Debug, Clone, Args)]
pub(crate) struct Location {
    /// Path or address (http(s), s3, gs, az) of the video
    pub(crate) video: String,
}

/// `--track`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TrackOption {
    /// Video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
}

/// The track of a video, and its index file.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrackAndIndex {
    #[command(flatten)]
    pub(crate) track: TrackOption,
    /// Open the video with this index file, made by `index`. Claims that cannot be checked are trusted: use only files
    /// from the video's own source, or add --verify
    #[arg(long, value_name = "FILE", conflicts_with = "track")]
    pub(crate) index: Option<String>,
    /// Build the index again and refuse the file of --index if they differ: reads the whole video if the file has the
    /// references between pictures
    #[arg(long, requires = "index")]
    pub(crate) verify: bool,
}
