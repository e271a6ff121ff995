//! Which video is meant.

use clap::Args;

/// Where the video is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Location {
    /// The video: a path, or an address: http(s), s3, gs, az
    pub(crate) video: String,
}

/// `--track`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TrackOption {
    /// Which video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
}

/// Which track of a video, and how it is found.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    pub(crate) track: TrackOption,
    /// Open the video with this index file, which `index` has written. It is believed where it cannot be checked: use only
    /// files that come from where the video comes from, or --verify
    #[arg(long, value_name = "FILE", conflicts_with = "track")]
    pub(crate) index: Option<String>,
    /// Make the index anew and refuse the file of --index if it says anything else: reads the whole video if the file says
    /// what pictures refer to
    #[arg(long, requires = "index")]
    pub(crate) verify: bool,
}
