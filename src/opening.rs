//! Makes engines and opens videos as the options say, and reports failures.

use std::path::PathBuf;
use std::sync::OnceLock;
#[cfg(feature = "remote")]
use std::time::Duration;

use bucket_streamer::quantities::MemorySize;
use bucket_streamer::{Device, Engine, EngineBuilder, IndexCache, OpenOptions, Video};

use crate::console::{CommandOutcome, report, say};
use crate::options::{DeviceName, TrackAndIndex, TrackOption, VideoLimitOptions};

/// The index cache, if one is configured.
static INDEXES: OnceLock<IndexCache> = OnceLock::new();

/// The longest duration of opening a remote video, if configured; 0 for no limit.
#[cfg(feature = "remote")]
static OPEN_TIMEOUT: OnceLock<Duration> = OnceLock::new();

/// Keeps indexes in this folder from now on. Reports a failure.
pub(crate) fn keep_indexes(folder: PathBuf) -> Result<(), CommandOutcome> {
    match IndexCache::open(folder) {
        Ok(cache) => _ = INDEXES.set(cache),
        Err(error) => {
            say(&format!("bucket-streamer: --index-cache: {error}"));
            return Err(CommandOutcome::Usage);
        }
    }
    Ok(())
}

/// The index cache, if one is configured.
pub(crate) fn index_cache() -> Option<&'static IndexCache> {
    INDEXES.get()
}

/// Limits the duration of opening from now on.
#[cfg(feature = "remote")]
pub(crate) fn limit_opening(timeout: Duration) {
    let _ = OPEN_TIMEOUT.set(timeout);
}

impl TrackOption {
    /// The options for opening the video.
    pub(crate) fn opening(self) -> OpenOptions {
        OpenOptions::new().track(self.track).index_cache(index_cache().cloned())
    }
}

impl TrackAndIndex {
    /// The options for opening the video.
    pub(crate) fn opening(&self) -> OpenOptions {
        match &self.index {
            Some(file) => self.track.opening().index_file(file, self.verify),
            None => self.track.opening(),
        }
    }
}

/// The engine with this device. Reports a failure.
pub(crate) fn engine(builder: EngineBuilder, device: DeviceName) -> Result<Engine, CommandOutcome> {
    Ok(builder.device(open_device(device)?).build())
}

/// The chosen device. Reports why it is not available.
pub(crate) fn open_device(DeviceName(choice): DeviceName) -> Result<Device, CommandOutcome> {
    let device = Device::open(choice).map_err(|error| {
        say(&format!("bucket-streamer: --device {choice}: {error}"));
        CommandOutcome::Usage
    })?;
    if let Some(why) = device.unavailable_reason() {
        say(&format!("bucket-streamer: --device auto: no NVDEC ({why}): decoding on the CPU"));
    }
    Ok(device)
}

/// Reports the engine's notes on its GPU.
pub(crate) fn report_device_notes(engine: &Engine) {
    engine.device_notes().iter().for_each(|note| say(&format!("bucket-streamer: {note}")));
}

/// An engine builder with the settings of the command line.
pub(crate) fn builder(threads: Option<u16>, memory: Option<MemorySize>, limits: VideoLimitOptions) -> EngineBuilder {
    let mut builder = limits.apply(Engine::builder()).pin_threads_if_alone();
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

/// Opens the video. Reports a failure.
pub(crate) fn open(engine: &Engine, location: &str, options: OpenOptions) -> Result<Video, CommandOutcome> {
    options.open(engine, location).map_err(|error| {
        report(&error);
        CommandOutcome::Unreadable
    })
}

/// Leaves a video and its engine to the end of the process, which frees their memory faster than destructors do. With a
/// GPU the destructors run: its driver has threads of its own.
pub(crate) fn leave_to_exit(engine: Engine, video: Video) {
    if engine.gpu().is_none() {
        std::mem::forget((video, engine));
    }
}
