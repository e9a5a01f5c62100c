//! A condition variable of std whose waits, on threads of a run, take virtual time.
//!
//! Who is woken by `notify_one` follows from the seed, and now and then a wait ends for nothing, as
//! std allows.

use std::panic::Location;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use super::locks::MutexGuard;
use super::schedule::Wait;
use super::{place_of, seat};

/// `Condvar` of std; waiting and notifying are steps.
#[derive(Default, Debug)]
pub struct Condvar {
    /// Of a size, so that no two are in one place.
    inner: std::sync::Condvar,
}

/// Whether a wait ended because of its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the limit came first.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    #[must_use]
    pub const fn new() -> Self {
        Self { inner: std::sync::Condvar::new() }
    }

    /// Lets the lock go and waits to be notified.
    ///
    /// # Errors
    /// If a holder of the lock panicked; the lock is held all the same.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        match self.wait_at_most(guard, None) {
            Ok((guard, _)) => Ok(guard),
            Err(poisoned) => Err(PoisonError::new(poisoned.into_inner().0)),
        }
    }

    /// Waits while `condition` holds.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    #[track_caller]
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits while `condition` holds, and no longer than `limit`.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    #[track_caller]
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let Some(seat) = seat() else {
            return self.wait_in_std(guard, limit, condition);
        };
        let until = seat.after(limit);
        let mut has_timed_out = false;
        while condition(&mut guard) {
            if has_timed_out {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, has_timed_out) = match self.wait_at_most(guard, Some(until)) {
                Ok(waited) => waited,
                Err(poisoned) => {
                    let (guard, has_timed_out) = poisoned.into_inner();
                    return Err(PoisonError::new((guard, WaitTimeoutResult(has_timed_out))));
                }
            };
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes one of those who wait.
    #[track_caller]
    pub fn notify_one(&self) {
        self.notify("notify_one", true);
    }

    /// Wakes all who wait.
    #[track_caller]
    pub fn notify_all(&self) {
        self.notify("notify_all", false);
    }

    #[track_caller]
    fn notify(&self, what: &'static str, only_one: bool) {
        match seat() {
            Some(seat) => {
                seat.pause(what, Location::caller());
                seat.wake(place_of(self), only_one);
            }
            None if only_one => self.inner.notify_one(),
            None => self.inner.notify_all(),
        }
    }

    /// Waits once; says whether the time `until` came first.
    #[track_caller]
    fn wait_at_most<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        until: Option<Duration>,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let lock = guard.lock;
        let Some(seat) = seat() else {
            let inner = guard.inner.take().expect("a guard holds its lock until it is dropped");
            return match self.inner.wait(inner) {
                Ok(inner) => Ok((MutexGuard { lock, inner: Some(inner) }, false)),
                Err(poisoned) => {
                    let inner = Some(poisoned.into_inner());
                    Err(PoisonError::new((MutexGuard { lock, inner }, false)))
                }
            };
        };
        let at = Location::caller();
        let is_for_nothing = seat.wakes_for_nothing();
        // Nobody runs between this and the wait: the baton is still here.
        drop(guard);
        let has_timed_out = if is_for_nothing {
            seat.pause("wake for nothing", at);
            false
        } else {
            seat.block(Wait::Place(place_of(self)), until, at)
        };
        match lock.lock() {
            Ok(guard) => Ok((guard, has_timed_out)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), has_timed_out))),
        }
    }

    /// [`Condvar::wait_timeout_while`] on a thread that takes part in no run.
    fn wait_in_std<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let lock = guard.lock;
        let inner = guard.inner.take().expect("a guard holds its lock until it is dropped");
        let wrap = |(inner, result): (_, std::sync::WaitTimeoutResult)| {
            (MutexGuard { lock, inner: Some(inner) }, WaitTimeoutResult(result.timed_out()))
        };
        match self.inner.wait_timeout_while(inner, limit, condition) {
            Ok(waited) => Ok(wrap(waited)),
            Err(poisoned) => Err(PoisonError::new(wrap(poisoned.into_inner()))),
        }
    }
}
