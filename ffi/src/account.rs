//! The memory of pictures, charged to decode runs: `ffi/shim/account.c`. The budget itself is left to the engine, which
//! implements [`Lender`].

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::decoder::Decoder;
use crate::error::AvError;
use crate::sys;

/// Lends memory for pictures to decode runs.
pub trait Lender: Send + Sync + 'static {
    /// Requests memory for a run of a `kind` that has `granted` bytes and needs `used` in all. Returns the bytes that
    /// it has from now on: less than `used` is a refusal. Called from a decoder's threads, under its locks: it must not
    /// wait for other runs.
    fn grow(&self, kind: i32, granted: u64, used: u64) -> u64;
}

/// The total picture memory of all decoders of an engine.
#[derive(Debug)]
pub struct Ledger {
    raw: NonNull<sys::BsLedger>,
}

// SAFETY: its fields are atomic.
unsafe impl Send for Ledger {}
// SAFETY: its fields are atomic.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// An empty ledger.
    ///
    /// # Panics
    /// Without memory.
    pub fn new() -> Ledger {
        // SAFETY: allocates; null means no memory, which Rust's own allocations do not survive either.
        Ledger { raw: NonNull::new(unsafe { sys::bs_ledger_alloc() }).expect("out of memory") }
    }

    /// Bytes that decoders hold, tables included.
    pub fn live(&self) -> u64 {
        // SAFETY: valid from construction to drop.
        unsafe { sys::bs_ledger_live(self.raw.as_ptr()) }.max(0) as u64
    }

    /// The largest number of bytes that they have held.
    pub fn peak(&self) -> u64 {
        // SAFETY: valid from construction to drop.
        unsafe { sys::bs_ledger_peak(self.raw.as_ptr()) }.max(0) as u64
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // SAFETY: ours, released once; accounts keep their own reference.
        unsafe { sys::bs_ledger_unref(self.raw.as_ptr()) };
    }
}

/// The picture memory of one decode run.
#[derive(Debug)]
pub struct PictureAccount {
    raw: NonNull<sys::BsAccount>,
}

// SAFETY: its changing fields are atomic or under its lock.
unsafe impl Send for PictureAccount {}
// SAFETY: its changing fields are atomic or under its lock.
unsafe impl Sync for PictureAccount {}

unsafe extern "C" fn grow<L: Lender>(lender: *mut c_void, kind: c_int, granted: i64, used: i64) -> i64 {
    // SAFETY: the pointer from `PictureAccount::open`, which the account keeps alive.
    let lender = unsafe { &*lender.cast::<L>() };
    let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    // A panic must not unwind into C. A lender that panicked is not left in a state that matters to the caller.
    let call = std::panic::AssertUnwindSafe(|| lender.grow(kind, bytes(granted), bytes(used)));
    std::panic::catch_unwind(call).map_or(granted, |granted| i64::try_from(granted).unwrap_or(i64::MAX))
}

unsafe extern "C" fn release<L: Lender>(lender: *mut c_void) {
    // SAFETY: from `Arc::into_raw` in `PictureAccount::open`; called once.
    drop(unsafe { Arc::from_raw(lender.cast_const().cast::<L>()) });
}

impl PictureAccount {
    /// An account with `granted` bytes, which requests more from the lender. Pictures that may result from damage get
    /// no more than `most` bytes.
    ///
    /// # Panics
    /// Without memory.
    pub fn open<L: Lender>(ledger: &Ledger, lender: &Arc<L>, kind: i32, granted: u64, most: u64) -> PictureAccount {
        let opaque = Arc::into_raw(Arc::clone(lender)).cast_mut().cast::<c_void>();
        let lender = sys::BsLender { opaque, grow: Some(grow::<L>), release: Some(release::<L>) };
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // SAFETY: the ledger is valid; the account owns the reference to the lender from now on.
        let raw = unsafe { sys::bs_account_alloc(ledger.raw.as_ptr(), &lender, kind, bytes(granted), bytes(most)) };
        PictureAccount { raw: NonNull::new(raw).expect("out of memory") }
    }

    /// Bytes that the run may use.
    pub fn granted(&self) -> u64 {
        // SAFETY: valid from construction to drop.
        unsafe { sys::bs_account_granted(self.raw.as_ptr()) }.max(0) as u64
    }

    /// Gives up granted bytes that are not in use. Returns the granted bytes before and after. No decoder may be at
    /// work.
    pub fn shrink(&self) -> (u64, u64) {
        let before = self.granted();
        // SAFETY: valid from construction to drop.
        let now = unsafe { sys::bs_account_shrink(self.raw.as_ptr()) };
        (before, now.max(0) as u64)
    }

    /// The largest number of bytes in use so far.
    pub fn peak(&self) -> u64 {
        // SAFETY: valid from construction to drop.
        unsafe { sys::bs_account_peak(self.raw.as_ptr()) }.max(0) as u64
    }

    /// The bytes in use with those that were refused; `None` without a refusal.
    pub fn refused(&self) -> Option<u64> {
        // SAFETY: valid from construction to drop.
        let requested = unsafe { sys::bs_account_wanted(self.raw.as_ptr()) };
        u64::try_from(requested).ok().filter(|&wanted| wanted > 0)
    }

    /// True if no larger grant would have helped.
    pub fn is_refused_for_good(&self) -> bool {
        // SAFETY: valid from construction to drop.
        unsafe { sys::bs_account_is_final(self.raw.as_ptr()) != 0 }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::BsAccount {
        self.raw.as_ptr()
    }
}

impl Drop for PictureAccount {
    fn drop(&mut self) {
        // SAFETY: ours, released once; decoders and pictures keep their own references.
        unsafe { sys::bs_account_unref(self.raw.as_ptr()) };
    }
}

impl Decoder {
    /// From now on charges the decoder's pictures to the account; to none for `None`. The decoder must be idle: just
    /// opened, or flushed.
    pub fn charge_to(&mut self, account: Option<&PictureAccount>) {
        let account = account.map_or(std::ptr::null_mut(), PictureAccount::as_raw);
        // SAFETY: the context is open; it takes a reference of its own.
        unsafe { sys::bs_account_attach(self.as_raw(), account) };
    }

    /// True if the account refused memory for a picture: the decoder's output is then unusable.
    pub fn lacks_room(&self) -> bool {
        // SAFETY: the context is valid.
        unsafe { sys::bs_decoder_lacks_room(self.as_raw()) != 0 }
    }

    /// Bytes that the decoder keeps while it is idle.
    pub fn table_bytes(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { sys::bs_decoder_table_bytes(self.as_raw()) }.max(0) as u64
    }

    /// Transfers a frame's memory from the decoder to the caller: see `bs_let_out` in `ffi/shim/buffers.c`.
    pub(crate) fn release(frame: *mut sys::AVFrame) -> Result<(), AvError> {
        // SAFETY: a frame of one of our decoders on the processor, with memory from buffers.c.
        AvError::check(unsafe { sys::bs_let_out(frame) }).map(|_| ())
    }
}
