//! Open videos for requests: found by their names, opened off the threads that serve.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::flights::Flights;
use super::problem::Problem;
use super::roots::Roots;
use super::scope::Permitted;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::index_cache::IndexCache;
use crate::video::Video;

/// Videos that are opened at one time: more wait.
const OPENING: usize = 32;
/// Videos that are asked for at one time, whether they are still what was opened: more wait.
const CONFIRMING: usize = 64;

/// A video and what tells this version of it from all others.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) name: Arc<str>,
    pub(super) video: Video,
    pub(super) tag: u128,
}

impl Opened {
    /// The tag as addresses and headers have it, without quotes.
    pub(super) fn etag(&self) -> String {
        format!("{:032x}", self.tag)
    }
}

/// The videos of the roots.
#[derive(Debug)]
pub(super) struct Videos {
    pub(super) catalog: Arc<Catalog>,
    flights: Flights<Arc<str>, Result<Opened, Problem>>,
    roots: Arc<Roots>,
    opening: Arc<Semaphore>,
    confirming: Arc<Semaphore>,
}

impl Videos {
    pub(super) fn new(engine: &Engine, roots: &Arc<Roots>, indexes: Option<IndexCache>) -> Videos {
        let own = Arc::clone(roots);
        let catalog = Catalog::new(engine).with_opener(move |name| own.open(name));
        let catalog = Arc::new(match indexes {
            Some(cache) => catalog.with_index_cache(cache),
            None => catalog,
        });
        let turns = |most| Arc::new(Semaphore::new(most));
        let (opening, confirming) = (turns(OPENING), turns(CONFIRMING));
        Videos { catalog, flights: Flights::default(), roots: Arc::clone(roots), opening, confirming }
    }

    /// The video of a name that the visitor may have. Who asks for one that is being opened waits for that, and for its error too.
    pub(super) async fn open(&self, name: Permitted<'_>, patience: Duration) -> Result<Opened, Problem> {
        let name = name.name();
        let (due, known): (Option<Video>, Option<Video>) = match self.catalog.get(name, 0) {
            Some(video) if self.roots.is_due(video.source()) => (Some(video), None),
            known => (None, known),
        };
        if let Some(video) = known
            && let Some(&tag) = video.shared.served.tag.get()
        {
            return Ok(Opened { name: name.into(), video, tag });
        }
        let name: Arc<str> = name.into();
        let (work, _) = self.flights.join(&name, || {
            let (catalog, opening, name) = (Arc::clone(&self.catalog), Arc::clone(&self.opening), Arc::clone(&name));
            let confirming = Arc::clone(&self.confirming);
            async move {
                if let Some(video) = due {
                    let permit = confirming.acquire_owned().await.map_err(|_| Problem::draining())?;
                    // Of all of its bytes and stills in memory none would tell that it was replaced. One that has changed
                    // is opened anew below; a server that cannot be reached now is no reason not to give what is here.
                    let asked = tokio::task::spawn_blocking(move || {
                        let _permit = permit;
                        video.source().confirm();
                    });
                    asked.await.map_err(|_| Problem::internal("no thread"))?;
                }
                let permit = opening.acquire_owned().await.map_err(|_| Problem::draining())?;
                // It goes on when nobody waits any more: what it finds is kept for the next one to ask.
                let opened = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    catalog.open(&name, 0).map(|video| tagged(name, video))
                });
                opened.await.map_err(|_| Problem::internal("opening it failed"))?.map_err(|error| Problem::of(&error))
            }
        });
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Problem::deadline()))
    }
}

/// With its tag, and all else that takes a look at all samples: not for threads that serve.
fn tagged(name: Arc<str>, video: Video) -> Opened {
    let tag = *video.shared.served.tag.get_or_init(|| {
        video.key_frames();
        video.shared.served.look_at(&video.track().samples);
        tag_of(&name, &video)
    });
    Opened { name, video, tag }
}

/// A checksum of what the video is called and of what tells its versions apart: what the source says of itself, or else
/// what it knows to the second, and where all samples lie, how long they are and when they are shown.
fn tag_of(name: &str, video: &Video) -> u128 {
    let source = video.source();
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(source.len().to_le_bytes());
    match source.version() {
        Some(version) => hash.update(version),
        None => {
            hash.update(source.version_hint().unwrap_or_default());
            hash.update(video.track().parameters.extradata());
            for sample in &video.track().samples {
                hash.update(sample.offset.to_le_bytes());
                hash.update(sample.size.to_le_bytes());
                hash.update(sample.pts.to_le_bytes());
            }
        }
    }
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |tag, byte| tag << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::tagged;
    use crate::Engine;

    #[test]
    fn tags_tell_versions_apart_even_by_the_second_alone() {
        let folder = std::env::temp_dir().join(format!("bucket-streamer-tags-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hevc_demo.mp4");
        let copy = folder.join("clip.mp4");
        std::fs::write(&copy, std::fs::read(fixture).unwrap()).unwrap();
        let tag = |seconds: f64, name: &str| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
            std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
            tagged(Arc::from(name), Engine::new(Some(1)).open_path(&copy).unwrap()).tag
        };
        let first = tag(1e9, "a");
        assert_eq!(first, tag(1e9, "a"));
        assert!(first != tag(1e9 + 1.0, "a") && first != tag(1e9 + 0.5, "a") && first != tag(1e9, "b"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
