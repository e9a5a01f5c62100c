//! Mutual exclusion and reader-writer locks of std that hold a thread of a run up in virtual time.
//!
//! On a thread of a run, a lock that is held is never waited for in std: the thread leaves the
//! baton to the others until the lock is let go. On any other thread they are std's.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

use super::schedule::Wait;
use super::{place_of, seat};

/// Takes the lock at `place` by `attempt`, which does not wait.
#[track_caller]
fn acquire<G>(
    what: &'static str,
    place: usize,
    attempt: impl Fn() -> TryLockResult<G>,
    wait: impl FnOnce() -> LockResult<G>,
) -> LockResult<G> {
    let Some(seat) = seat() else { return wait() };
    let at = Location::caller();
    seat.pause(what, at);
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => seat.block(Wait::Place(place), None, at),
        };
    }
}

/// Lets those who wait for the lock at `place` try again.
fn released(place: usize) {
    if let Some(seat) = seat() {
        seat.wake(place, false);
    }
}

fn map<G, H>(result: LockResult<G>, wrap: impl FnOnce(G) -> H) -> LockResult<H> {
    match result {
        Ok(guard) => Ok(wrap(guard)),
        Err(poisoned) => Err(PoisonError::new(wrap(poisoned.into_inner()))),
    }
}

/// Defines the guard of a lock.
macro_rules! guard {
    ($(#[$docs:meta])* $name:ident, $lock:ident) => {
        $(#[$docs])*
        #[must_use = "the lock is held as long as its guard lives"]
        pub struct $name<'a, T: ?Sized> {
            pub(super) lock: &'a $lock<T>,
            /// None once it was let go.
            pub(super) inner: Option<sync::$name<'a, T>>,
        }

        impl<T: ?Sized> Drop for $name<'_, T> {
            fn drop(&mut self) {
                if self.inner.take().is_some() {
                    released(place_of(self.lock));
                }
            }
        }

        impl<T: ?Sized> Deref for $name<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                self.inner.as_ref().expect("a guard holds its lock until it is dropped")
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

/// Defines what locks have in common.
macro_rules! lock {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Default)]
        #[repr(transparent)]
        pub struct $name<T: ?Sized>(sync::$name<T>);

        impl<T> $name<T> {
            /// A lock that nobody holds, around `value`.
            pub const fn new(value: T) -> Self {
                Self(sync::$name::new(value))
            }

            /// The value.
            ///
            /// # Errors
            /// If a holder panicked.
            pub fn into_inner(self) -> LockResult<T> {
                self.0.into_inner()
            }
        }

        impl<T: ?Sized> $name<T> {
            /// The value, which nobody else can reach.
            ///
            /// # Errors
            /// If a holder panicked.
            pub fn get_mut(&mut self) -> LockResult<&mut T> {
                self.0.get_mut()
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

lock!(
    /// `Mutex` of std; taking it is a step.
    Mutex
);
lock!(
    /// `RwLock` of std; taking it is a step.
    RwLock
);
guard!(
    /// Holds a [`Mutex`].
    MutexGuard,
    Mutex
);
guard!(
    /// Holds a [`RwLock`] beside other readers.
    RwLockReadGuard,
    RwLock
);
guard!(
    /// Holds a [`RwLock`] alone.
    RwLockWriteGuard,
    RwLock
);

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("a guard holds its lock until it is dropped")
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("a guard holds its lock until it is dropped")
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    ///
    /// # Errors
    /// If a holder panicked; the lock is held all the same.
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let wait = || self.0.lock();
        let guard = acquire("lock", place_of(self), || self.0.try_lock(), wait);
        map(guard, |inner| MutexGuard { lock: self, inner: Some(inner) })
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// If somebody does, or a holder panicked.
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        super::step("try_lock");
        let wrap = |inner| MutexGuard { lock: self, inner: Some(inner) };
        match self.0.try_lock() {
            Ok(inner) => Ok(wrap(inner)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                Err(TryLockError::Poisoned(PoisonError::new(wrap(poisoned.into_inner()))))
            }
        }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for the lock, beside other readers.
    ///
    /// # Errors
    /// If a writer panicked; the lock is held all the same.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let wait = || self.0.read();
        let guard = acquire("read", place_of(self), || self.0.try_read(), wait);
        map(guard, |inner| RwLockReadGuard { lock: self, inner: Some(inner) })
    }

    /// Waits for the lock, alone.
    ///
    /// # Errors
    /// If a writer panicked; the lock is held all the same.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let wait = || self.0.write();
        let guard = acquire("write", place_of(self), || self.0.try_write(), wait);
        map(guard, |inner| RwLockWriteGuard { lock: self, inner: Some(inner) })
    }
}
