//! Syncs that several writers share: one runs at a time, and serves everybody whose writes came before.
//!
//! Promises that nobody is told that something is durable before a sync has said so, that a sync is
//! not tried again after one that failed, and that one which fails or panics leaves nobody waiting.
//! Does not know what is synced.

use esker_base::planted;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who syncs, who waits for that, and how far everything is durable.
#[derive(Debug, Default)]
pub(crate) struct SyncGroup {
    /// Lock order: last. Not held across a sync.
    syncing: Mutex<Syncing>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct Syncing {
    durable: u64,
    is_running: bool,
    failure: Option<Error>,
}

impl SyncGroup {
    fn syncing(&self) -> MutexGuard<'_, Syncing> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once everything up to `position` is durable. Callers share syncs: one that arrives
    /// while a sync runs is served by the next, with all others that wait. `sync` makes durable what
    /// has been written when it is called, and says how far that goes.
    ///
    /// # Errors
    /// If a sync fails, now or ever before: it is not tried again.
    pub(crate) fn sync_to(&self, position: u64, sync: impl Fn() -> Result<u64>) -> Result<()> {
        let mut syncing = self.syncing();
        loop {
            if position <= syncing.durable {
                return Ok(());
            }
            if let Some(failure) = &syncing.failure {
                return Err(failure.clone());
            }
            if syncing.is_running {
                syncing = self.synced.wait(syncing).unwrap_or_else(PoisonError::into_inner);
                if planted::is("sync-under-way-serves-all") {
                    return Ok(());
                }
                continue;
            }
            syncing.is_running = true;
            drop(syncing);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&sync));
            syncing = self.syncing();
            syncing.is_running = false;
            match &result {
                Ok(Ok(durable)) => syncing.durable = syncing.durable.max(*durable),
                Ok(Err(error)) => syncing.failure = Some(error.clone()),
                Err(_) if planted::is("sync-that-panics-runs-on") => syncing.is_running = true,
                Err(_) => syncing.failure = Some(panicked()),
            }
            if !planted::is("sync-waiters-not-woken") {
                self.synced.notify_all();
            }
            if let Err(panic) = result {
                drop(syncing);
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// What all later syncs answer behind one that panicked, of which nobody knows what it did.
fn panicked() -> Error {
    Error::new(ErrorKind::Poisoned, "a sync of the log panicked; reopen the database")
}
