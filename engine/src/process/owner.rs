//! The process that an object was made in, for objects that must not be used after `fork`.
//!
//! A child has a copy of its parent's memory and one of its threads. Workers do not exist there, and a lock that
//! another thread held stays locked. So an object with workers or locks records its owner, and in any other process
//! returns an error before it touches them. There it is never dropped: a child leaves it in memory.

use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use crate::error::{ErrorKind, Result};

/// The process that an object was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// The calling process.
    pub fn current() -> Owner {
        Owner(ffi::process_number())
    }

    /// True in the owner's process. Costs one load from memory.
    pub fn is_current(self) -> bool {
        self == Owner::current()
    }

    /// Checks that this is the owner's process.
    ///
    /// # Errors
    /// `Forked` in a child of the owner's process.
    pub fn check(self) -> Result<()> {
        if self.is_current() { Ok(()) } else { Err(ErrorKind::Forked.into()) }
    }
}

/// An [`Arc`] that is only dropped in its owner's process.
#[derive(Debug)]
pub(crate) struct ProcessBound<T> {
    /// Present until drop.
    value: Option<Arc<T>>,
    owner: Owner,
}

impl<T> ProcessBound<T> {
    /// An object owned by this process.
    #[cfg(feature = "remote")]
    pub(crate) fn new(value: T) -> ProcessBound<T> {
        ProcessBound::of(Arc::new(value), Owner::current())
    }

    pub(crate) fn of(value: Arc<T>, owner: Owner) -> ProcessBound<T> {
        ProcessBound { value: Some(value), owner }
    }

    pub(crate) fn is_current(&self) -> bool {
        self.owner.is_current()
    }

    /// See [`Owner::check`].
    pub(crate) fn check(&self) -> Result<()> {
        self.owner.check()
    }

    pub(crate) fn arc(&self) -> &Arc<T> {
        self.value.as_ref().expect("present until drop")
    }

    pub(crate) fn downgrade(&self) -> WeakProcessBound<T> {
        WeakProcessBound { value: Arc::downgrade(self.arc()), owner: self.owner }
    }
}

impl<T> Deref for ProcessBound<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.arc()
    }
}

impl<T> Clone for ProcessBound<T> {
    fn clone(&self) -> ProcessBound<T> {
        ProcessBound::of(Arc::clone(self.arc()), self.owner)
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if !self.is_current() {
            std::mem::forget(self.value.take());
        }
    }
}

/// A weak [`ProcessBound`], from [`ProcessBound::downgrade`].
#[derive(Debug)]
pub(crate) struct WeakProcessBound<T> {
    value: Weak<T>,
    owner: Owner,
}

impl<T> WeakProcessBound<T> {
    pub(crate) fn upgrade(&self) -> Option<ProcessBound<T>> {
        Some(ProcessBound::of(self.value.upgrade()?, self.owner))
    }

    pub(crate) fn strong_count(&self) -> usize {
        self.value.strong_count()
    }
}

impl<T> Clone for WeakProcessBound<T> {
    fn clone(&self) -> WeakProcessBound<T> {
        WeakProcessBound { value: self.value.clone(), owner: self.owner }
    }
}

/// A value that each process initialises at its first use. The values of parent processes stay in memory, untouched.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    value: OnceLock<(Owner, T)>,
    /// The value of a child process.
    next: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { value: OnceLock::new(), next: OnceLock::new() }
    }

    /// A value that belongs to this process.
    #[cfg(feature = "remote")]
    pub(crate) fn of(value: T) -> PerProcess<T> {
        PerProcess { value: OnceLock::from((Owner::current(), value)), next: OnceLock::new() }
    }

    /// The value of this process. If several threads initialise it at the same time, one value stays.
    pub(crate) fn get_or_try_init<E>(
        &self,
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<&T, E> {
        let mut place = self;
        while let Some((owner, value)) = place.value.get() {
            if owner.is_current() {
                return Ok(value);
            }
            place = place.next.get_or_init(|| Box::new(PerProcess::new()));
        }
        let value = make()?;
        Ok(&place.value.get_or_init(|| (Owner::current(), value)).1)
    }

    /// As `get_or_try_init`, for a value that cannot fail.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }
}
