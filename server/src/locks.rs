//! The mutex of the server: the standard library's, or one that counts (feature `lock-statistics`).

#[cfg(feature = "lock-statistics")]
pub(super) use bucket_streamer::lock_statistics::{CountedGuard as MutexGuard, CountedMutex as Mutex};
#[cfg(not(feature = "lock-statistics"))]
pub(super) use std::sync::{Mutex, MutexGuard};

/// Logs the counts of all locks of the process.
#[cfg(feature = "lock-statistics")]
pub(super) fn log_counts() {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return };
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    let work = std::time::Duration::from_micros(u64::try_from(microseconds).unwrap_or_default());
    tracing::info!("processor time {work:?}");
    bucket_streamer::lock_statistics::table(work).lines().for_each(|line| tracing::info!("{line}"));
}
