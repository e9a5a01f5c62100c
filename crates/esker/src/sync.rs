//! The locks and atomics of the engine: those of `esker_base::sync`, or loom's under the model
//! checker.
//!
//! Only unit tests built with `--cfg loom` see loom's; see `loom_tests.rs` for the command.

#[cfg(not(all(test, loom)))]
pub(crate) use esker_base::sync::*;
#[cfg(all(test, loom))]
pub(crate) use under_loom::*;

#[cfg(all(test, loom))]
mod under_loom {
    use std::time::Duration;

    pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, atomic};
    pub(crate) use std::sync::{LockResult, PoisonError};
    pub(crate) use std::thread_local;

    /// loom's, with the waits for a condition that it lacks. No limit of time comes first.
    #[derive(Default, Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    /// Nothing times out.
    pub(crate) struct WaitTimeoutResult;

    impl WaitTimeoutResult {
        pub(crate) const fn timed_out(&self) -> bool {
            false
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            self.0.wait(guard)
        }

        pub(crate) fn wait_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            mut condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<MutexGuard<'a, T>> {
            while condition(&mut guard) {
                guard = self.0.wait(guard)?;
            }
            Ok(guard)
        }

        pub(crate) fn wait_timeout_while<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _limit: Duration,
            condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            match self.wait_while(guard, condition) {
                Ok(guard) => Ok((guard, WaitTimeoutResult)),
                Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), WaitTimeoutResult))),
            }
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
