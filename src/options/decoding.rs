//! Limits of decoding, and the check of decoded pictures.

use bucket_streamer::EngineBuilder;
use bucket_streamer::quantities::{MemorySize, PixelCount};
use clap::Args;

/// Options of `extract` and `sheet` for decoding.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Decoding {
    /// Compare each decoded H.265 picture with its hash in the stream, if there is one; a mismatch counts as damage
    #[arg(long)]
    pub(crate) check_hashes: bool,
    #[command(flatten)]
    pub(crate) limits: VideoLimitOptions,
}

/// Limits on the cost of a video.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct VideoLimitOptions {
    /// Refuse videos whose pictures have more pixels: 8388608, 8192x4352
    #[arg(long, value_name = "N|WxH", default_value_t)]
    pub(crate) max_pixels: PixelCount,
    /// Memory for the pictures in all decoders: 512M, 2G [default: 1/8 of the memory available to the process, 256M to
    /// 1G]
    #[arg(long, value_name = "SIZE")]
    pub(crate) picture_memory: Option<MemorySize>,
    /// Refuse videos whose index needs more memory while it is built
    #[arg(long, value_name = "SIZE", default_value = "384M")]
    pub(crate) index_memory: MemorySize,
}

impl VideoLimitOptions {
    /// Sets the limits of an engine.
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
    fn index_memory_in_the_help_is_the_default_of_the_library() {
        assert_eq!("384M".parse(), Ok(MemorySize(DEFAULT_INDEX_MEMORY)));
    }
}
