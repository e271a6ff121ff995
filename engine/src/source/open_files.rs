//! How many local files may be open at one time, and which are closed for others.
//!
//! A process has a limit of descriptors (`RLIMIT_NOFILE`) and one of mappings (`vm.max_map_count`), and each open file takes one of
//! both. So a source does not keep its file for ever: it has a `Slot`, which is emptied when other files need the place, the
//! least recently used first, and filled again when the source is read. Both limits are the process's, so the budget is too. It is
//! a share of the limit as it is now: the library is a guest, and changes no limits. A server reserves descriptors for its
//! connections; where others in the process have used up all that are left, half of the files are closed at once
//! ([`with_room`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ffi::MappedFile;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

use crate::process::PerProcess;

/// The most files, whatever the limits: half of the slots in `ffi/shim/mapping.c`, since packets may hold maps longer.
const MOST: usize = 8192;
/// The fewest, whatever the limits.
const LEAST: usize = 8;
/// Descriptors for everything else, but never more than a quarter of the limit.
const OTHERS: usize = 128;
/// The part of all mappings that files may take.
const SHARE_OF_MAPPINGS: usize = 4;
/// When there is no room, the next files make room for some more: the list is gone through once for all of them.
const AT_ONCE: usize = 16;
/// Attempts where descriptors or mappings have run out.
const ATTEMPTS: u32 = 8;

/// Files that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Files that were opened so far: how recently a slot was used is counted in these.
static OPENED: AtomicU64 = AtomicU64::new(0);
/// Files that were opened again so far.
static REOPENED: AtomicU64 = AtomicU64::new(0);
/// Descriptors that are kept for connections.
static RESERVED: AtomicUsize = AtomicUsize::new(0);
/// The slots whose files may be closed.
static SLOTS: PerProcess<Mutex<BTreeMap<u64, Weak<Slot>>>> = PerProcess::new();

/// Files of local sources, see [`super::open_files()`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// Files that are open now.
    pub open: usize,
    /// Files that may be open at one time, as limits are now.
    pub most: usize,
    /// Files that were closed for others and opened again so far.
    pub reopened: u64,
    /// The limit of descriptors of the process, as it is now.
    pub descriptors: usize,
}

/// The counts now.
pub(super) fn now() -> OpenFiles {
    OpenFiles { open: OPEN.load(Relaxed), most: most(), reopened: REOPENED.load(Relaxed), descriptors: descriptors() }
}

/// The limit of descriptors. It may be raised and lowered while the process runs.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Mappings that a process may have.
fn mappings() -> usize {
    static MAPPINGS: OnceLock<usize> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok();
    *MAPPINGS.get_or_init(|| read().unwrap_or(65_530))
}

/// Descriptors besides those that are for everything else.
fn spare(descriptors: usize) -> usize {
    descriptors - OTHERS.min(descriptors / 4)
}

/// Files that may be open under these limits. Where nothing says what others in the process need, they get half.
fn budget(descriptors: usize, reserved: usize, mappings: usize) -> usize {
    let spare = spare(descriptors);
    let share = if reserved == 0 { spare / 2 } else { spare.saturating_sub(reserved).max(spare / 8) };
    share.min(MOST).min(mappings / SHARE_OF_MAPPINGS).max(LEAST)
}

fn most() -> usize {
    budget(descriptors(), RESERVED.load(Relaxed), mappings())
}

/// Descriptors that are kept for something else than files, given back when this is dropped.
#[derive(Debug)]
pub struct Reserved(usize);

impl Reserved {
    /// So many, but at most half of those that there are.
    pub fn at_most(wanted: usize) -> Reserved {
        let granted = wanted.min(spare(descriptors()) / 2);
        RESERVED.fetch_add(granted, Relaxed);
        Reserved(granted)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        RESERVED.fetch_sub(self.0, Relaxed);
    }
}

/// The right to have one file open.
#[derive(Debug)]
pub(super) struct Permit(());

impl Permit {
    /// Never waits: others are closed.
    pub(super) fn take() -> Permit {
        OPENED.fetch_add(1, Relaxed);
        let open = OPEN.fetch_add(1, Relaxed) + 1;
        let most = most();
        if open > most {
            close(open - most + most / AT_ONCE);
        }
        Permit(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// All of it, mapped; `None` where it is to be read.
    pub(super) bytes: Option<Bytes>,
    /// The same map that `bytes` refers to; `None` for an empty file, which cannot be mapped.
    map: Option<Arc<MappedFile>>,
    pub(super) file: File,
    _permit: Permit,
}

impl OpenFile {
    /// A file, mapped if a length is given: that of the file.
    pub(super) fn new(
        file: File,
        mapped: Option<u64>,
        broken: &Arc<AtomicBool>,
        permit: Permit,
    ) -> io::Result<OpenFile> {
        let Some(len) = mapped.filter(|&len| len > 0) else {
            return Ok(OpenFile { bytes: mapped.map(|_| Bytes::new()), map: None, file, _permit: permit });
        };
        let map = Arc::new(with_room(|| MappedFile::map(&file))?);
        let bytes = Bytes::from_owner(View { map: Arc::clone(&map), broken: Arc::clone(broken) });
        // What was added since is not of the file that was looked at; what is missing is missed when the identity is compared.
        let bytes = bytes.slice(..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX)));
        Ok(OpenFile { bytes: Some(bytes), map: Some(map), file, _permit: permit })
    }

    fn is_broken(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.is_broken())
    }
}

/// Lets a shared map own `Bytes`. What its last view has read of a broken map is known when it goes.
struct View {
    map: Arc<MappedFile>,
    /// See `Slot::is_broken`.
    broken: Arc<AtomicBool>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        (*self.map).as_ref()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.map.is_broken() {
            self.broken.store(true, Relaxed);
        }
    }
}

/// The place of a source's file, whether it is open or not.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    state: Mutex<State>,
    /// When it was used last, counted in files that were opened.
    used: AtomicU64,
    /// A file that is never closed, beside the lock that a child after `fork` cannot wait for.
    pub(super) kept: Option<Arc<OpenFile>>,
    /// A map was broken that is gone by now, or a read has found the file to be cut.
    pub(super) broken: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<OpenFile>>,
    /// Maps of which there were still views when their file was closed.
    earlier: Vec<Weak<MappedFile>>,
}

impl Slot {
    /// A slot with an open file. With `may_close` the file is closed when others need the place.
    pub(super) fn new(file: OpenFile, broken: Arc<AtomicBool>, may_close: bool) -> Arc<Slot> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = Arc::new(file);
        let kept = (!may_close).then(|| Arc::clone(&file));
        let state = Mutex::new(State { open: Some(file), earlier: Vec::new() });
        let used = AtomicU64::new(OPENED.load(Relaxed));
        let slot = Arc::new(Slot { number: NEXT.fetch_add(1, Relaxed), state, used, kept, broken });
        if may_close {
            slot.enter();
        }
        slot
    }

    /// From now on its file may be closed. Called with its state locked, or not yet shared; never the other way round.
    fn enter(self: &Arc<Slot>) {
        slots().insert(self.number, Arc::downgrade(self));
    }

    /// The file if it is open, without counting as a use.
    pub(super) fn peek(&self) -> Option<Arc<OpenFile>> {
        lock(&self.state).open.clone()
    }

    /// The file; where it was closed, `open` opens it. Callers wait for each other only where they want the same file.
    pub(super) fn get<E>(
        self: &Arc<Slot>,
        open: impl FnOnce(Permit) -> Result<OpenFile, E>,
    ) -> Result<Arc<OpenFile>, E> {
        if let Some(file) = self.peek() {
            let now = OPENED.load(Relaxed);
            // Mostly nothing has been opened since: threads that read the same file do not write here all the time.
            if self.used.load(Relaxed) != now {
                self.used.store(now, Relaxed);
            }
            return Ok(file);
        }
        // Makes room: not with a lock that others who make room would want.
        let permit = Permit::take();
        let mut state = lock(&self.state);
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

    /// Closes the file, unless a caller is at it or it is closed already. Views of its map stay as they are.
    pub(super) fn close(&self) -> bool {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(file) = state.close() else { return false };
        slots().remove(&self.number);
        drop(state);
        // Unmapping takes its time: not under a lock.
        drop(file);
        true
    }

    /// Has the file shrunk under any of its maps? Then bytes that were read may be zeros that were never in it.
    pub(super) fn is_broken(&self) -> bool {
        let state = lock(&self.state);
        let is_now = state.open.as_ref().is_some_and(|file| file.is_broken());
        let is_earlier = || state.earlier.iter().filter_map(Weak::upgrade).any(|map| map.is_broken());
        if is_now || is_earlier() {
            return true;
        }
        // A map that has gone in between has left its mark before.
        fence(Acquire);
        self.broken.load(Relaxed)
    }
}

impl State {
    fn close(&mut self) -> Option<Arc<OpenFile>> {
        let file = self.open.take()?;
        self.earlier.retain(|map| map.strong_count() > 0);
        self.earlier.extend(file.map.as_ref().map(Arc::downgrade));
        Some(file)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        slots().remove(&self.number);
    }
}

fn slots() -> MutexGuard<'static, BTreeMap<u64, Weak<Slot>>> {
    lock(SLOTS.get_or_make(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes so many files, the least recently used first, and says how many it were.
fn close(count: usize) -> usize {
    // The last owner of a slot takes it out of the list: none may go while that is locked.
    let slots: Vec<Arc<Slot>> = slots().values().filter_map(Weak::upgrade).collect();
    let mut aged: Vec<(u64, Arc<Slot>)> = slots.into_iter().map(|slot| (slot.used.load(Relaxed), slot)).collect();
    let count = count.min(aged.len());
    if count == 0 {
        return 0;
    }
    aged.select_nth_unstable_by_key(count - 1, |(used, _)| *used);
    aged[..count].iter().filter(|(_, slot)| slot.close()).count()
}

/// Closes half of the files: others in the process need descriptors. False if there are none to be closed.
pub fn close_half() -> bool {
    close(OPEN.load(Relaxed).div_ceil(2)) > 0
}

/// Does something that takes descriptors or mappings. Where the system has no more, half of the files are closed and it is
/// tried again.
///
/// # Errors
/// Its own, in the end.
pub fn with_room<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for attempt in 0..ATTEMPTS {
        match work() {
            Err(error) if has_run_out(&error) => {
                // What others have open for a moment is soon back.
                if !close_half() {
                    std::thread::sleep(Duration::from_millis(1 << attempt));
                }
            }
            done => return done,
        }
    }
    work()
}

/// Is it a lack of descriptors or mappings, of the process or of the system?
pub fn has_run_out(error: &io::Error) -> bool {
    let is_code = |code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM);
    error.raw_os_error().is_some_and(is_code) || error.kind() == io::ErrorKind::QuotaExceeded
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{LEAST, MOST, budget, has_run_out, spare, with_room};

    #[test]
    fn the_budget_leaves_descriptors_for_everything_else() {
        assert_eq!(budget(1024, 0, 65_530), 448, "half of what is left: others in the process need some too");
        assert_eq!((spare(256), budget(256, 96, 65_530)), (192, 96));
        assert_eq!(budget(20_000, 4608, 65_530), MOST);
        assert_eq!(budget(20_000, 4608, 1000), 250, "few mappings");
        assert_eq!([budget(0, 0, 0), budget(16, 0, 65_530), budget(64, 100, 65_530)], [LEAST; 3]);
        assert_eq!(budget(usize::MAX, 0, usize::MAX), MOST);
    }

    #[test]
    fn where_descriptors_have_run_out_it_is_tried_again() {
        let mut left = 3;
        let done = with_room(|| {
            left -= 1;
            if left > 0 { Err(io::Error::from_raw_os_error(super::libc::EMFILE)) } else { Ok(7) }
        });
        assert_eq!((done.unwrap(), left), (7, 0));
        let mut calls = 0;
        let failed: io::Result<()> = with_room(|| {
            calls += 1;
            Err(io::Error::from_raw_os_error(super::libc::ENFILE))
        });
        assert!(has_run_out(&failed.unwrap_err()) && calls == 9);
        let failed: io::Result<()> = with_room(|| Err(io::ErrorKind::NotFound.into()));
        assert!(!has_run_out(&failed.unwrap_err()));
    }
}
