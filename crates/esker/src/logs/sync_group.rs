//! Syncs shared by several writers: one runs at a time, and serves everybody who wrote before it
//! began.
//!
//! Promises that nothing is reported durable before a sync has succeeded, that no sync is tried
//! after one that failed, and that one that fails or panics leaves nobody waiting. Does not know
//! what is synced.

use std::mem;
use std::time::Duration;

use esker_base::planted;

use crate::logs::gathering::Gathering;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Whether a sync is running, who waits for one, and how far everything is durable.
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
    /// How many wait for a sync that has not begun.
    waiting_count: usize,
    gathering: Gathering,
}

impl SyncGroup {
    fn syncing(&self) -> MutexGuard<'_, Syncing> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once everything up to `position`, which has been written, is durable. Callers share
    /// syncs: one that arrives during a sync is served by the next, together with all others that
    /// wait, and with those just served if they come back soon: see [`Gathering`]. `sync` makes
    /// durable what was written before it is called, and returns how far that goes; `now` is a
    /// clock.
    ///
    /// # Errors
    /// If a sync fails or has ever failed: it is not retried.
    pub(crate) fn sync_to(
        &self,
        position: u64,
        now: impl Fn() -> Duration,
        sync: impl Fn() -> Result<u64>,
    ) -> Result<()> {
        let mut syncing = self.syncing();
        let mut is_counted = false;
        loop {
            if position <= syncing.durable {
                return Ok(());
            }
            if let Some(failure) = &syncing.failure {
                return Err(failure.clone());
            }
            // Whoever begins a sync subtracts from the count all whom it serves.
            if !mem::replace(&mut is_counted, true) {
                syncing.waiting_count += 1;
            }
            let waiting_count = syncing.waiting_count;
            if syncing.is_running || syncing.gathering.goes_on_without(waiting_count) {
                syncing = self.synced.wait(syncing).unwrap_or_else(PoisonError::into_inner);
                if planted::is("sync-under-way-serves-all") {
                    return Ok(());
                }
                continue;
            }
            if let Some(limit) = syncing.gathering.begin(waiting_count) {
                let goes_on = |syncing: &mut Syncing| syncing.gathering.goes_on();
                let waited = self.synced.wait_timeout_while(syncing, limit, goes_on);
                syncing = waited.unwrap_or_else(PoisonError::into_inner).0;
                // If this caller was served meanwhile, the gathering may be somebody else's by now.
                if syncing.durable < position {
                    syncing.gathering.give_up();
                }
                continue;
            }
            syncing = self.run(syncing, &now, &sync);
        }
    }

    /// Runs a sync for all who wait.
    fn run<'a>(
        &'a self,
        mut syncing: MutexGuard<'a, Syncing>,
        now: impl Fn() -> Duration,
        sync: impl Fn() -> Result<u64>,
    ) -> MutexGuard<'a, Syncing> {
        let served_count = mem::take(&mut syncing.waiting_count);
        syncing.is_running = true;
        drop(syncing);
        let begun = now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sync));
        let took = now().saturating_sub(begun);
        let mut syncing = self.syncing();
        syncing.is_running = false;
        match &result {
            Ok(Ok(durable)) => syncing.durable = syncing.durable.max(*durable),
            Ok(Err(error)) => syncing.failure = Some(error.clone()),
            Err(_) if planted::is("sync-that-panics-runs-on") => syncing.is_running = true,
            Err(_) => syncing.failure = Some(panicked()),
        }
        let arrived_count = syncing.waiting_count;
        syncing.gathering.note_sync(served_count + arrived_count, took);
        if !planted::is("sync-waiters-not-woken") {
            self.synced.notify_all();
        }
        if let Err(panic) = result {
            drop(syncing);
            std::panic::resume_unwind(panic);
        }
        syncing
    }
}

/// The error of all syncs after one that panicked, since it is unknown what that one did.
fn panicked() -> Error {
    Error::new(ErrorKind::Poisoned, "a sync of the log panicked; reopen the database")
}
