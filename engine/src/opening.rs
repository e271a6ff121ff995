//! Videos by their location, with what may be said about how they are opened: which track, with which index. Where bytes come
//! from is a matter of [`source`], how an index is made one of [`container`](crate::container).

use crate::container::Index;
use crate::error::Result;
use crate::index_cache::IndexCache;
use crate::session::engine::Engine;
use crate::session::video::Video;
use crate::source;

/// How a video is opened.
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

/// An index that was written to a file.
#[derive(Debug, Clone)]
struct IndexFile {
    location: String,
    verify: bool,
}

impl OpenOptions {
    /// The first video track, looked for in the file itself.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Another video track, counted from 0. An index file knows its own.
    #[must_use]
    pub fn track(mut self, track: usize) -> OpenOptions {
        self.track = track;
        self
    }

    /// With the index in the file at this location (a path or an address), in place of looking for a track. With `verify` the
    /// index is made anew, and opening fails if the file says anything else: else it is believed where it cannot be checked.
    #[must_use]
    pub fn index_file(mut self, location: impl Into<String>, verify: bool) -> OpenOptions {
        self.index = Some(IndexFile { location: location.into(), verify });
        self
    }

    /// Where the index file is, if there is one.
    pub fn index_location(&self) -> Option<&str> {
        self.index.as_ref().map(|index| index.location.as_str())
    }

    /// Indexes are looked for, and left, in this folder; not if there is an index file.
    #[must_use]
    pub fn index_cache(mut self, cache: Option<IndexCache>) -> OpenOptions {
        self.cache = cache;
        self
    }

    /// The same once the index file has been verified: it need not be again.
    #[must_use]
    pub fn verified(mut self) -> OpenOptions {
        if let Some(index) = &mut self.index {
            index.verify = false;
        }
        self
    }

    /// Opens the video at a path or an address, within the engine's limit of time.
    ///
    /// # Errors
    /// What cannot be read, is no video, has no such track, or is not the video of the index file.
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
