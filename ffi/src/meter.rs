//! Limits of memory and work for FFmpeg's calls in one thread: a file that needs too much is refused while libavformat
//! reads its tables, not afterwards. `shim/meter.c` counts. The limits themselves are left to the engine.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::time::Duration;

use crate::sys;

/// The most NAL units of a sample: the parser and the decoders refuse a sample with more.
pub const UNIT_LIMIT: usize = sys::BsLimits::BS_UNIT_LIMIT as usize;

/// The limits of [`run`].
#[derive(Debug, Clone, Copy)]
pub struct MeterLimits {
    /// Bytes that may be allocated before more is requested.
    pub bytes: u64,
    /// Counted steps of work: one more visit to an entry of a table.
    pub steps: u64,
    /// Processor time of the thread: for work that is not counted.
    pub time: Duration,
}

/// The limit of `MeterLimits` that a metered call exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceededLimit {
    /// Bytes.
    Memory,
    /// Steps.
    Work,
    /// Processor time.
    Time,
    /// The bytes are within the limit, but other threads have them in use.
    Busy,
}

/// The answer to a thread that needs more than [`MeterLimits::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The limit from now on.
    Limit(u64),
    /// Other threads use all bytes.
    Busy,
}

/// Requests more: called with the number of bytes that are needed in all.
pub type Grow<'a> = &'a mut dyn FnMut(u64) -> Grant;

unsafe extern "C" fn grow(opaque: *mut c_void, requested: i64) -> i64 {
    // SAFETY: `opaque` is the closure that `run` holds for as long as the meter is installed.
    let grow = unsafe { &mut *opaque.cast::<Grow<'_>>() };
    match grow(requested.max(0) as u64) {
        Grant::Limit(limit) => limit.min(i64::MAX as u64 / 4) as i64,
        Grant::Busy => -1,
    }
}

/// Removes the meter on drop, also after a panic.
struct MeterGuard<'a>(PhantomData<&'a mut sys::BsMeter>);

impl Drop for MeterGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: null removes the meter.
        unsafe { sys::bs_meter_install(std::ptr::null_mut()) };
    }
}

/// Runs `work` with limits for FFmpeg's allocations in this thread, and for what [`charge`] counts. Past them
/// allocations and reads fail; the result is then meaningless, and the exceeded limit is returned beside it. Calls must
/// not be nested.
pub fn run<T>(limits: MeterLimits, mut more: Grow<'_>, work: impl FnOnce() -> T) -> (T, Option<ExceededLimit>) {
    let mut meter = sys::BsMeter {
        used: 0,
        peak: 0,
        limit: limits.bytes.min(i64::MAX as u64 / 4) as i64,
        cap: i64::MAX,
        steps: 0,
        step_limit: limits.steps,
        started_ns: 0,
        time_limit_ns: i64::try_from(limits.time.as_nanos()).unwrap_or(i64::MAX),
        ticks: 0,
        exceeded: 0,
        in_decoder: 0,
        list: std::ptr::null(),
        list_bytes: 0,
        grow: Some(grow),
        opaque: (&raw mut more).cast(),
    };
    let result = {
        // SAFETY: the meter and the closure outlive the guard, which removes the meter; only this thread sees them.
        unsafe {
            sys::bs_meter_install(&mut meter);
            sys::bs_meter_look();
        }
        let _installed = MeterGuard(PhantomData);
        work()
    };
    (result, exceeded_of(meter.exceeded))
}

fn exceeded_of(number: i32) -> Option<ExceededLimit> {
    match number as u32 {
        sys::BsExceeded::BS_EXCEEDED_MEMORY => Some(ExceededLimit::Memory),
        sys::BsExceeded::BS_EXCEEDED_WORK => Some(ExceededLimit::Work),
        sys::BsExceeded::BS_EXCEEDED_TIME => Some(ExceededLimit::Time),
        sys::BsExceeded::BS_EXCEEDED_BUSY => Some(ExceededLimit::Busy),
        _ => None,
    }
}

/// The exceeded limit of this thread; `None` without a meter.
pub fn exceeded() -> Option<ExceededLimit> {
    // SAFETY: reads this thread's meter.
    exceeded_of(unsafe { sys::bs_meter_exceeded() })
}

/// Counts memory that FFmpeg does not allocate. False if a limit is exceeded; true without a meter.
#[must_use]
pub fn charge(bytes: usize) -> bool {
    // SAFETY: changes only this thread's meter.
    unsafe { sys::bs_meter_charge(i64::try_from(bytes).unwrap_or(i64::MAX / 4)) != 0 }
}

/// Counts work, and checks the clock. False if a limit is exceeded; true without a meter.
#[must_use]
pub fn work(steps: u64) -> bool {
    // SAFETY: as in `charge`.
    unsafe {
        sys::bs_meter_work(steps);
        sys::bs_meter_look();
    }
    exceeded().is_none()
}

/// Steps of a read, and bytes of it that count as one more step.
const READ_STEPS: u64 = 64;
const BYTES_A_STEP: u64 = 16;

/// Counts a read of this many bytes.
pub(crate) fn read(bytes: usize) -> Option<ExceededLimit> {
    let _ = work(READ_STEPS + bytes as u64 / BYTES_A_STEP);
    exceeded()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ExceededLimit, Grant, MeterLimits, charge, exceeded, run, work};
    use crate::sys;

    fn limits(bytes: u64) -> MeterLimits {
        MeterLimits { bytes, steps: 1000, time: Duration::from_secs(60) }
    }

    /// Allocates and frees with libavutil; true if there was memory.
    fn allocate(bytes: usize) -> bool {
        // SAFETY: freed at once.
        unsafe {
            let block = sys::av_malloc(bytes);
            sys::av_free(block);
            !block.is_null()
        }
    }

    #[test]
    fn allocations_past_the_limit_fail_and_are_remembered() {
        let mut none = |_| Grant::Limit(0);
        let (results, found) = run(limits(1 << 20), &mut none, || {
            let within: Vec<bool> = (0..100).map(|_| allocate(1 << 19)).collect();
            (within.iter().all(|&is| is), allocate(2 << 20), exceeded())
        });
        assert_eq!((results, found), ((true, false, Some(ExceededLimit::Memory)), Some(ExceededLimit::Memory)));
        assert!(allocate(2 << 20), "outside of it there is no limit");
        assert_eq!(run(limits(1 << 20), &mut none, || allocate(1000)), (true, None));
    }

    #[test]
    fn more_is_granted_on_request() {
        let mut asked = Vec::new();
        let mut more = |wanted| {
            asked.push(wanted);
            Grant::Limit(8 << 20)
        };
        assert_eq!(run(limits(1 << 20), &mut more, || (charge(2 << 20), charge(5 << 20))), ((true, true), None));
        assert_eq!(asked, [2 << 20]);
        assert_eq!(run(limits(0), &mut |_| Grant::Busy, || allocate(1)), (false, Some(ExceededLimit::Busy)));
    }

    #[test]
    fn work_has_a_limit_and_so_has_time() {
        let mut none = |_| Grant::Busy;
        assert_eq!(run(limits(1), &mut none, || (work(1000), work(1))), ((true, false), Some(ExceededLimit::Work)));
        let short = MeterLimits { time: Duration::ZERO, ..limits(1 << 20) };
        let (_, found) = run(short, &mut none, || while work(0) {});
        assert_eq!(found, Some(ExceededLimit::Time));
    }
}
