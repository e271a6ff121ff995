//! Opens videos by location, with options: the track, and a stored index. Bytes are left to [`source`], and making an
//! index to [`container`](crate::container).

use crate::container::Index;
use crate::error::Result;
use crate::index_cache::IndexCache;
use crate::session::engine::Engine;
use crate::session::video::Video;
use crate::source;

/// Options for opening a video.
///
/// ```no_run
/// # use bucket_streamer::{Engine, OpenOptions};
/// let video = OpenOptions::new().track(1).open(&Engine::builder().build(), "cam.mp4")?;
/// # Ok::<(), bucket_streamer::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    track: usize,
    index: Option<IndexFile>,
    cache: Option<IndexCache>,
}

/// An index stored in a file.
#[derive(Debug, Clone)]
struct IndexFile {
    location: String,
    verify: bool,
}

impl OpenOptions {
    /// The first video track, without a stored index.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Selects another video track, counted from 0. An index file names its track itself.
    #[must_use]
    pub fn track(mut self, track: usize) -> OpenOptions {
        self.track = track;
        self
    }

    /// Uses the index in the file at this location (a path or an address), instead of analysing the video. With
    /// `verify` the video is analysed as well, and opening fails if the two indexes differ; otherwise parts that cannot
    /// be checked are trusted.
    #[must_use]
    pub fn index_file(mut self, location: impl Into<String>, verify: bool) -> OpenOptions {
        self.index = Some(IndexFile { location: location.into(), verify });
        self
    }

    /// The location of the index file, if there is one.
    pub fn index_location(&self) -> Option<&str> {
        self.index.as_ref().map(|index| index.location.as_str())
    }

    /// Reads and stores indexes in this cache, unless there is an index file.
    #[must_use]
    pub fn index_cache(mut self, cache: Option<IndexCache>) -> OpenOptions {
        self.cache = cache;
        self
    }

    /// The same options without `verify`, for further openings after a successful verification.
    #[must_use]
    pub fn verified(mut self) -> OpenOptions {
        if let Some(index) = &mut self.index {
            index.verify = false;
        }
        self
    }

    /// Opens the video at a path or an address, within the time limit of the engine
    /// ([`EngineBuilder::open_timeout`](crate::EngineBuilder::open_timeout)). Blocks until the index is complete.
    ///
    /// # Errors
    /// Those of [`source::open`] and of [`Engine::open`]; `BadIndex` for an index file that is damaged or of another
    /// video.
    pub fn open(&self, engine: &Engine, location: &str) -> Result<Video> {
        engine.opening(|| {
            let source = source::open(location)?;
            match (&self.index, &self.cache) {
                (Some(IndexFile { location, verify }), _) => {
                    let index = Index::read(&*source::open(location)?)?;
                    if *verify {
                        engine.open_with_verified_index(source, &index)
                    } else {
                        engine.open_with_index(source, &index)
                    }
                }
                (None, Some(cache)) => cache.open_video(engine, source, self.track),
                (None, None) => engine.open(source, self.track),
            }
        })
    }
}
