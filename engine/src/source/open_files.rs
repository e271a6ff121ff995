//! The budget of open local files, and the choice of the files that are closed when it is used up.
//!
//! A process has a limit of descriptors (`RLIMIT_NOFILE`) and one of mappings (`vm.max_map_count`); an open file takes
//! one of each. So a source owns a `FileSlot` instead of a file. The least recently used slots are emptied when other
//! files need their descriptors, and filled again when their sources are read. Both limits belong to the process, and
//! so does the budget. It is a share of the current limit: a library does not change limits. A server reserves
//! descriptors for its connections. If the rest of the process has used up all descriptors, half of the files are
//! closed at once ([`retry_with_free_files`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ffi::MappedFile;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

use crate::process::PerProcess;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// The upper bound of the budget: half of the slots in `ffi/shim/mapping.c`, since packets may hold maps longer.
const MOST: usize = 8192;
/// The lower bound of the budget.
const LEAST: usize = 8;
/// Descriptors for the rest of the process, at most a quarter of the limit.
const OTHERS: usize = 128;
/// Files may take one in this many mappings.
const SHARE_OF_MAPPINGS: usize = 4;
/// Files closed together when there is no room, so that the list is searched once for several openings.
const AT_ONCE: usize = 16;
/// Attempts after descriptors or mappings have run out.
const ATTEMPTS: u32 = 8;

/// Open files.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Files opened so far: the clock of the least recently used order.
static OPENED: AtomicU64 = AtomicU64::new(0);
/// Files opened again so far.
static REOPENED: AtomicU64 = AtomicU64::new(0);
/// Descriptors reserved for connections.
static RESERVED: AtomicUsize = AtomicUsize::new(0);
/// The slots whose files may be closed.
static SLOTS: PerProcess<Mutex<BTreeMap<u64, Weak<FileSlot>>>> = PerProcess::new();

/// Counts of the files of local sources, see [`super::open_files()`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// Files that are open now.
    pub open: usize,
    /// Files that may be open at one time, under the current limits.
    pub most: usize,
    /// Files that were closed for other files, and opened again, so far.
    pub reopened: u64,
    /// The current limit of descriptors of the process.
    pub descriptors: usize,
}

/// The counts now.
pub(super) fn now() -> OpenFiles {
    OpenFiles { open: OPEN.load(Relaxed), most: most(), reopened: REOPENED.load(Relaxed), descriptors: descriptors() }
}

/// The limit of descriptors. It may change while the process runs.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The limit of mappings of a process.
fn mappings() -> usize {
    static MAPPINGS: OnceLock<usize> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok();
    *MAPPINGS.get_or_init(|| read().unwrap_or(65_530))
}

/// Descriptors without the share of the rest of the process.
fn spare(descriptors: usize) -> usize {
    descriptors - OTHERS.min(descriptors / 4)
}

/// Files that may be open under these limits. Without a reservation, half of the descriptors is left to the rest of the
/// process.
fn budget(descriptors: usize, reserved: usize, mappings: usize) -> usize {
    let spare = spare(descriptors);
    let share = if reserved == 0 { spare / 2 } else { spare.saturating_sub(reserved).max(spare / 8) };
    share.min(MOST).min(mappings / SHARE_OF_MAPPINGS).max(LEAST)
}

fn most() -> usize {
    budget(descriptors(), RESERVED.load(Relaxed), mappings())
}

/// Descriptors reserved for other things than files, released on drop.
#[derive(Debug)]
pub struct DescriptorReservation(usize);

impl DescriptorReservation {
    /// Reserves `requested` descriptors, at most half of the available ones.
    pub fn at_most(requested: usize) -> DescriptorReservation {
        let granted = requested.min(spare(descriptors()) / 2);
        RESERVED.fetch_add(granted, Relaxed);
        DescriptorReservation(granted)
    }

    /// The number of reserved descriptors.
    pub fn count(&self) -> usize {
        self.0
    }
}

impl Drop for DescriptorReservation {
    fn drop(&mut self) {
        RESERVED.fetch_sub(self.0, Relaxed);
    }
}

/// The right to keep one file open.
#[derive(Debug)]
pub(super) struct OpenFilePermit(());

impl OpenFilePermit {
    /// Takes the right to open a file. Closes other files if there is no room, and never waits.
    pub(super) fn take() -> OpenFilePermit {
        OPENED.fetch_add(1, Relaxed);
        let open = OPEN.fetch_add(1, Relaxed) + 1;
        let most = most();
        if open > most {
            close(open - most + most / AT_ONCE);
        }
        OpenFilePermit(())
    }
}

impl Drop for OpenFilePermit {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The mapped file; `None` if it is read.
    pub(super) bytes: Option<Bytes>,
    /// The map behind `bytes`; `None` for an empty file, which cannot be mapped.
    map: Option<Arc<MappedFile>>,
    pub(super) file: File,
    _permit: OpenFilePermit,
}

impl OpenFile {
    /// A file, mapped if `len`, its length, is given.
    pub(super) fn new(
        file: File,
        mapped: Option<u64>,
        broken: &Arc<AtomicBool>,
        permit: OpenFilePermit,
    ) -> io::Result<OpenFile> {
        let Some(len) = mapped.filter(|&len| len > 0) else {
            return Ok(OpenFile { bytes: mapped.map(|_| Bytes::new()), map: None, file, _permit: permit });
        };
        let map = Arc::new(retry_with_free_files(|| MappedFile::map(&file))?);
        let bytes = Bytes::from_owner(MappedBytes { map: Arc::clone(&map), broken: Arc::clone(broken) });
        // Bytes added since were not examined; missing bytes show when the identity is compared.
        let bytes = bytes.slice(..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX)));
        Ok(OpenFile { bytes: Some(bytes), map: Some(map), file, _permit: permit })
    }

    fn is_broken(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.is_broken())
    }
}

/// Lets a shared map own `Bytes`. On drop of the last view it records whether the map was broken.
struct MappedBytes {
    map: Arc<MappedFile>,
    /// See `FileSlot::is_broken`.
    broken: Arc<AtomicBool>,
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        (*self.map).as_ref()
    }
}

impl Drop for MappedBytes {
    fn drop(&mut self) {
        if self.map.is_broken() {
            self.broken.store(true, Relaxed);
        }
    }
}

/// The slot of a source's file, which may be open or closed.
#[derive(Debug)]
pub(super) struct FileSlot {
    number: u64,
    /// Each sample that is read takes it: readers do not wait for each other.
    state: RwLock<FileSlotState>,
    /// The last use, on the clock of `OPENED`.
    used: AtomicU64,
    /// A file that is never closed, outside of the lock, for which a child after `fork` could wait for ever.
    pub(super) kept: Option<Arc<OpenFile>>,
    /// Set when a dropped map was broken, or a read found the file cut.
    pub(super) broken: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct FileSlotState {
    open: Option<Arc<OpenFile>>,
    /// Maps with views that outlive the closing of their file.
    earlier: Vec<Weak<MappedFile>>,
}

impl FileSlot {
    /// A slot with an open file. With `may_close` the file is closed when other files need its descriptor.
    pub(super) fn new(file: OpenFile, broken: Arc<AtomicBool>, may_close: bool) -> Arc<FileSlot> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = Arc::new(file);
        let kept = (!may_close).then(|| Arc::clone(&file));
        let state = RwLock::new(FileSlotState { open: Some(file), earlier: Vec::new() });
        let used = AtomicU64::new(OPENED.load(Relaxed));
        let slot = Arc::new(FileSlot { number: NEXT.fetch_add(1, Relaxed), state, used, kept, broken });
        if may_close {
            slot.enter();
        }
        slot
    }

    /// From now on its file may be closed. Lock order: the state, if it is shared yet, then the list.
    fn enter(self: &Arc<FileSlot>) {
        slots().insert(self.number, Arc::downgrade(self));
    }

    /// The file if it is open, without counting as a use.
    pub(super) fn peek(&self) -> Option<Arc<OpenFile>> {
        self.read().open.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, FileSlotState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file; `open` opens it if it was closed. Callers wait for each other only if they want the same file.
    pub(super) fn get<E>(
        self: &Arc<FileSlot>,
        open: impl FnOnce(OpenFilePermit) -> Result<OpenFile, E>,
    ) -> Result<Arc<OpenFile>, E> {
        if let Some(file) = self.peek() {
            let now = OPENED.load(Relaxed);
            // Usually no file was opened since: threads that read the same file then do not write to the same cache
            // line.
            if self.used.load(Relaxed) != now {
                self.used.store(now, Relaxed);
            }
            return Ok(file);
        }
        // Makes room before the lock is taken: other callers that make room need the lock of this slot.
        let permit = OpenFilePermit::take();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &state.open {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open(permit)?);
        state.open = Some(Arc::clone(&file));
        self.used.store(OPENED.load(Relaxed), Relaxed);
        REOPENED.fetch_add(1, Relaxed);
        self.enter();
        Ok(file)
    }

    /// Closes the file, unless a caller holds the slot or it is closed already. Views of its map stay valid.
    pub(super) fn close(&self) -> bool {
        let mut state = match self.state.try_write() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(file) = state.close() else { return false };
        slots().remove(&self.number);
        drop(state);
        // Dropped after the lock, since unmapping takes time.
        drop(file);
        true
    }

    /// Whether the file has shrunk under any of its maps. Bytes that were read may then be zeros that were never in it.
    pub(super) fn is_broken(&self) -> bool {
        let state = self.read();
        let is_now = state.open.as_ref().is_some_and(|file| file.is_broken());
        let is_earlier = || state.earlier.iter().filter_map(Weak::upgrade).any(|map| map.is_broken());
        if is_now || is_earlier() {
            return true;
        }
        // A map dropped in between has set the flag before.
        fence(Acquire);
        self.broken.load(Relaxed)
    }
}

impl FileSlotState {
    fn close(&mut self) -> Option<Arc<OpenFile>> {
        let file = self.open.take()?;
        self.earlier.retain(|map| map.strong_count() > 0);
        self.earlier.extend(file.map.as_ref().map(Arc::downgrade));
        Some(file)
    }
}

impl Drop for FileSlot {
    fn drop(&mut self) {
        slots().remove(&self.number);
    }
}

fn slots() -> MutexGuard<'static, BTreeMap<u64, Weak<FileSlot>>> {
    lock(SLOTS.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes up to `count` files, the least recently used first, and returns how many were closed.
fn close(count: usize) -> usize {
    // The last owner of a slot removes it from the list: none may be dropped while the list is locked.
    let slots: Vec<Arc<FileSlot>> = slots().values().filter_map(Weak::upgrade).collect();
    let mut aged: Vec<(u64, Arc<FileSlot>)> = slots.into_iter().map(|slot| (slot.used.load(Relaxed), slot)).collect();
    let count = count.min(aged.len());
    if count == 0 {
        return 0;
    }
    aged.select_nth_unstable_by_key(count - 1, |(used, _)| *used);
    aged[..count].iter().filter(|(_, slot)| slot.close()).count()
}

/// Closes half of the files, for the rest of the process. False if no file can be closed.
pub fn close_half() -> bool {
    close(OPEN.load(Relaxed).div_ceil(2)) > 0
}

/// Runs work that takes descriptors or mappings. If the system has no more, it closes half of the files and tries
/// again.
///
/// # Errors
/// Those of `work`, after the last attempt.
pub fn retry_with_free_files<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for attempt in 0..ATTEMPTS {
        match work() {
            Err(error) if is_exhausted(&error) => {
                // Short-lived descriptors are soon free again.
                if !close_half() {
                    std::thread::sleep(Duration::from_millis(1 << attempt));
                }
            }
            done => return done,
        }
    }
    work()
}

/// Whether the error is a lack of descriptors or mappings, of the process or of the system.
pub fn is_exhausted(error: &io::Error) -> bool {
    let is_code = |code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM);
    error.raw_os_error().is_some_and(is_code) || error.kind() == io::ErrorKind::QuotaExceeded
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{LEAST, MOST, budget, is_exhausted, retry_with_free_files, spare};

    #[test]
    fn the_budget_leaves_descriptors_for_everything_else() {
        assert_eq!(budget(1024, 0, 65_530), 448, "half of what is left for the rest of the process");
        assert_eq!((spare(256), budget(256, 96, 65_530)), (192, 96));
        assert_eq!(budget(20_000, 4608, 65_530), MOST);
        assert_eq!(budget(20_000, 4608, 1000), 250, "few mappings");
        assert_eq!([budget(0, 0, 0), budget(16, 0, 65_530), budget(64, 100, 65_530)], [LEAST; 3]);
        assert_eq!(budget(usize::MAX, 0, usize::MAX), MOST);
    }

    #[test]
    fn where_descriptors_have_run_out_it_is_tried_again() {
        let mut left = 3;
        let done = retry_with_free_files(|| {
            left -= 1;
            if left > 0 { Err(io::Error::from_raw_os_error(super::libc::EMFILE)) } else { Ok(7) }
        });
        assert_eq!((done.unwrap(), left), (7, 0));
        let mut calls = 0;
        let failed: io::Result<()> = retry_with_free_files(|| {
            calls += 1;
            Err(io::Error::from_raw_os_error(super::libc::ENFILE))
        });
        assert!(is_exhausted(&failed.unwrap_err()) && calls == 9);
        let failed: io::Result<()> = retry_with_free_files(|| Err(io::ErrorKind::NotFound.into()));
        assert!(!is_exhausted(&failed.unwrap_err()));
    }
}
