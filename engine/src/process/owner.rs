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
    /// This process.
    pub fn this() -> Owner {
        Owner(ffi::process_number())
    }

    /// True in the owner's process. Costs one load from memory.
    pub fn is_here(self) -> bool {
        self == Owner::this()
    }

    /// Checks that this is the owner's process.
    ///
    /// # Errors
    /// `Forked` in a child of the owner's process.
    pub fn check(self) -> Result<()> {
        if self.is_here() { Ok(()) } else { Err(ErrorKind::Forked.into()) }
    }
}

/// An [`Arc`] that is only dropped in its owner's process.
#[derive(Debug)]
pub(crate) struct Owned<T> {
    /// Present until drop.
    value: Option<Arc<T>>,
    owner: Owner,
}

impl<T> Owned<T> {
    /// An object owned by this process.
    #[cfg(feature = "remote")]
    pub(crate) fn new(value: T) -> Owned<T> {
        Owned::of(Arc::new(value), Owner::this())
    }

    pub(crate) fn of(value: Arc<T>, owner: Owner) -> Owned<T> {
        Owned { value: Some(value), owner }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.owner.is_here()
    }

    /// See [`Owner::check`].
    pub(crate) fn check(&self) -> Result<()> {
        self.owner.check()
    }

    pub(crate) fn arc(&self) -> &Arc<T> {
        self.value.as_ref().expect("it is there until it is dropped")
    }

    pub(crate) fn downgrade(&self) -> WeakOwned<T> {
        WeakOwned { value: Arc::downgrade(self.arc()), owner: self.owner }
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.arc()
    }
}

impl<T> Clone for Owned<T> {
    fn clone(&self) -> Owned<T> {
        Owned::of(Arc::clone(self.arc()), self.owner)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}

/// The result of [`Owned::downgrade`].
#[derive(Debug)]
pub(crate) struct WeakOwned<T> {
    value: Weak<T>,
    owner: Owner,
}

impl<T> WeakOwned<T> {
    pub(crate) fn upgrade(&self) -> Option<Owned<T>> {
        Some(Owned::of(self.value.upgrade()?, self.owner))
    }

    pub(crate) fn strong_count(&self) -> usize {
        self.value.strong_count()
    }
}

impl<T> Clone for WeakOwned<T> {
    fn clone(&self) -> WeakOwned<T> {
        WeakOwned { value: self.value.clone(), owner: self.owner }
    }
}

/// A value that each process makes when it first needs it. The values of its parents stay in memory, untouched.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    made: OnceLock<(Owner, T)>,
    /// The value of a child process.
    next: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { made: OnceLock::new(), next: OnceLock::new() }
    }

    /// A value that this process has made.
    #[cfg(feature = "remote")]
    pub(crate) fn of(value: T) -> PerProcess<T> {
        PerProcess { made: OnceLock::from((Owner::this(), value)), next: OnceLock::new() }
    }

    /// The value of this process. If several threads make it at the same time, one value stays.
    pub(crate) fn get_or_try_make<E>(
        &self,
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<&T, E> {
        let mut place = self;
        while let Some((owner, value)) = place.made.get() {
            if owner.is_here() {
                return Ok(value);
            }
            place = place.next.get_or_init(|| Box::new(PerProcess::new()));
        }
        let value = make()?;
        Ok(&place.made.get_or_init(|| (Owner::this(), value)).1)
    }

    /// As `get_or_try_make`, for a value that cannot fail.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_make(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }
}
