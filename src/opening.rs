//! Engines and videos, as the command line says that they are to be made and opened; what fails is said here.

use std::path::PathBuf;
use std::sync::OnceLock;
#[cfg(feature = "remote")]
use std::time::Duration;

use bucket_streamer::quantities::MemorySize;
use bucket_streamer::{Device, Engine, EngineBuilder, IndexCache, Machine, OpenOptions, Video};

use crate::console::{Outcome, say};
use crate::options::{DeviceName, Limits, TrackOption, Which};

/// Where indexes are kept, if they are to be.
static INDEXES: OnceLock<IndexCache> = OnceLock::new();

/// The longest that opening a video of a remote source may take, if it was chosen; 0 for no limit.
#[cfg(feature = "remote")]
static OPEN_TIMEOUT: OnceLock<Duration> = OnceLock::new();

/// From now on indexes are kept in this folder; or says why they cannot be.
pub(crate) fn keep_indexes(folder: PathBuf) -> Result<(), Outcome> {
    match IndexCache::open(folder) {
        Ok(cache) => _ = INDEXES.set(cache),
        Err(error) => {
            say(&format!("bucket-streamer: --index-cache: {error}"));
            return Err(Outcome::Usage);
        }
    }
    Ok(())
}

/// Where indexes are kept, if they are to be.
pub(crate) fn index_cache() -> Option<&'static IndexCache> {
    INDEXES.get()
}

/// From now on opening takes no longer.
#[cfg(feature = "remote")]
pub(crate) fn limit_opening(timeout: Duration) {
    let _ = OPEN_TIMEOUT.set(timeout);
}

impl TrackOption {
    /// As the video is to be opened.
    pub(crate) fn opening(self) -> OpenOptions {
        OpenOptions::new().track(self.track).index_cache(index_cache().cloned())
    }
}

impl Which {
    /// As the video is to be opened.
    pub(crate) fn opening(&self) -> OpenOptions {
        match &self.index {
            Some(file) => self.track.opening().index_file(file, self.verify),
            None => self.track.opening(),
        }
    }
}

/// The engine with this device, or says why there is none.
pub(crate) fn engine(builder: EngineBuilder, device: DeviceName) -> Result<Engine, Outcome> {
    Ok(builder.device(open_device(device)?).build())
}

/// The device that was asked for, or says why it is not to be had.
pub(crate) fn open_device(DeviceName(choice): DeviceName) -> Result<Device, Outcome> {
    let device = Device::open(choice).map_err(|error| {
        say(&format!("bucket-streamer: --device {choice}: {error}"));
        Outcome::Usage
    })?;
    if let Some(why) = device.why_not() {
        say(&format!("bucket-streamer: --device auto: no NVDEC ({why}): decoding on the CPU"));
    }
    Ok(device)
}

/// Says what should be known of the GPU.
pub(crate) fn tell_of_device(engine: &Engine) {
    engine.device_notes().iter().for_each(|note| say(&format!("bucket-streamer: {note}")));
}

/// What the command line says of the engine.
pub(crate) fn builder(threads: Option<u16>, memory: Option<MemorySize>, limits: Limits) -> EngineBuilder {
    // The processors are this program's, if they are given to it alone.
    let mut builder = limits.apply(Engine::builder()).pin_threads(Machine::read().may_pin());
    #[cfg(feature = "remote")]
    if let Some(&timeout) = OPEN_TIMEOUT.get() {
        builder = builder.open_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()));
    }
    if let Some(threads) = threads {
        builder = builder.threads(threads.into());
    }
    if let Some(MemorySize(bytes)) = memory {
        builder = builder.checkpoint_memory(bytes);
    }
    builder
}

/// Opens the video, or says why not.
pub(crate) fn open(engine: &Engine, location: &str, options: OpenOptions) -> Result<Video, Outcome> {
    options.open(engine, location).map_err(|error| {
        say(&format!("bucket-streamer: {error}"));
        Outcome::Unreadable
    })
}
