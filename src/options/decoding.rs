//! What decoding may cost, and how far pictures are believed.

use bucket_streamer::EngineBuilder;
use bucket_streamer::quantities::{MemorySize, PixelCount};
use clap::Args;

/// What is decoded for `extract` and `sheet`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Decoding {
    /// Compare every decoded picture of H.265 with its hash in the stream, where it has one; one that does not match counts as
    /// damaged
    #[arg(long)]
    pub(crate) check_hashes: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What a video may cost.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Limits {
    /// Refuse videos whose pictures have more pixels: 8388608, 8192x4352
    #[arg(long, value_name = "N|WxH", default_value_t)]
    pub(crate) max_pixels: PixelCount,
    /// Memory for the pictures that all decoders have in work: 512M, 2G [default: an eighth of what the process is given, 256M to 1G]
    #[arg(long, value_name = "SIZE")]
    pub(crate) picture_memory: Option<MemorySize>,
    /// Refuse videos whose index takes more memory while it is made
    #[arg(long, value_name = "SIZE", default_value = "384M")]
    pub(crate) index_memory: MemorySize,
}

impl Limits {
    /// What they say to an engine.
    pub(crate) fn apply(self, builder: EngineBuilder) -> EngineBuilder {
        let builder = builder.max_pixels(self.max_pixels.0).index_memory(self.index_memory.0);
        match self.picture_memory {
            Some(MemorySize(bytes)) => builder.picture_memory(bytes),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use bucket_streamer::DEFAULT_INDEX_MEMORY;
    use bucket_streamer::quantities::MemorySize;

    #[test]
    fn what_the_help_says_is_the_default_of_the_library() {
        assert_eq!("384M".parse(), Ok(MemorySize(DEFAULT_INDEX_MEMORY)));
    }
}
