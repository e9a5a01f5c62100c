//! Waiting of writers for background work: short delays while it is behind, longer ones only when
//! there is no room at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use esker_tree::Policy;

use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::pressure::{Backlog, delay};

/// Shared by all keyspaces: whom to wake, and how fast the backlog drains.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Counts the times that waiting writers had a reason to look again.
    epoch: Mutex<u64>,
    changed: Condvar,
    /// Delay that writes owe and have not yet waited, in nanoseconds. Counter only.
    owed_nanos: AtomicU64,
    /// Bytes per second that flushes took in lately; 0 before the first. Counter only.
    drain_rate: AtomicU64,
}

/// Delays shorter than this are saved up: a wait costs some fifty microseconds by itself.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Rate that is assumed before the first flush has been measured, in bytes per second.
const DRAIN_RATE_ASSUMED: f64 = 64e6;

impl Throttle {
    /// Lets every waiting writer look again.
    pub(crate) fn wake(&self) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn epoch(&self) -> u64 {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody wakes the writers after `epoch` was read, or for `limit`.
    fn wait(&self, epoch: u64, limit: Duration) {
        let guard = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = |now: &mut u64| *now == epoch;
        drop(self.changed.wait_timeout_while(guard, limit, unchanged));
    }

    pub(crate) fn drain_rate(&self) -> f64 {
        match self.drain_rate.load(Ordering::Relaxed) {
            0 => DRAIN_RATE_ASSUMED,
            rate => rate as f64,
        }
    }

    /// Notes that a flush took `bytes` of memtables in `duration`: a moving average over about
    /// four flushes.
    pub(crate) fn note_drained(&self, bytes: u64, duration: Duration) {
        let rate = bytes as f64 / duration.as_secs_f64().max(1e-6);
        let average = match self.drain_rate.load(Ordering::Relaxed) {
            0 => rate,
            before => before as f64 * 0.75 + rate * 0.25,
        };
        self.drain_rate.store((average as u64).max(1), Ordering::Relaxed);
    }

    /// Adds `delay` to what is owed, and takes it all if it is worth a wait.
    fn owe(&self, delay: Duration) -> Option<Duration> {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let owed =
            Duration::from_nanos(self.owed_nanos.fetch_add(nanos, Ordering::Relaxed) + nanos);
        if owed < WAIT_MIN {
            return None;
        }
        self.owed_nanos.store(0, Ordering::Relaxed);
        Some(owed)
    }
}

/// A writer that finds no room looks again at least this often, so that a closed database or a
/// failing flush cannot leave it waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Engine {
    /// Lets a write of `bytes` to `keyspace` pass, now or after a delay.
    ///
    /// # Errors
    /// As [`Engine::check_writable`]; `NoSpace` if there is no room and flushes fail for lack of
    /// space.
    pub(crate) fn admit(&self, keyspace: &KeyspaceCore, bytes: u64) -> Result<()> {
        if !keyspace.is_under_pressure() {
            return Ok(());
        }
        let started = self.now();
        let (pressure, _) = self.backlog(keyspace).pressure();
        let owed = self.throttle.owe(delay(pressure, self.throttle.drain_rate(), bytes));
        if let Some(owed) = owed.filter(|_| self.options.background_threads != 0) {
            // Not cut short by a finished job: the backlog is only a little smaller by it.
            let until = started + owed;
            while !self.is_closed() && self.now() < until {
                self.throttle.wait(self.throttle.epoch(), until.saturating_sub(self.now()));
            }
        }
        self.wait_for_room(keyspace)?;
        let waited = self.now().saturating_sub(started);
        if Duration::ZERO < waited && (owed.is_some() || WAIT_MIN < waited) {
            self.counters.note_delay(waited);
        }
        Ok(())
    }

    /// Waits while the memtable is full and no other may be started.
    fn wait_for_room(&self, keyspace: &KeyspaceCore) -> Result<()> {
        loop {
            let epoch = self.throttle.epoch();
            if !self.is_out_of_room(keyspace) {
                return Ok(());
            }
            self.check_writable()?;
            let failure = keyspace.failure();
            if let Some(failure) = failure.filter(|f| f.error.kind() == ErrorKind::NoSpace) {
                return Err(failure.error);
            }
            if self.options.background_threads == 0 {
                self.flush_keyspace(keyspace)?;
                continue;
            }
            self.throttle.wait(epoch, LOOK_AGAIN);
        }
    }

    fn is_out_of_room(&self, keyspace: &KeyspaceCore) -> bool {
        let settings = keyspace.settings();
        let view = keyspace.view();
        settings.options.immutable_memtables_max <= view.immutables.len()
            && settings.memtable_bytes <= view.active.memtable.size_bytes()
    }

    /// How far background work is behind in `keyspace`.
    pub(crate) fn backlog(&self, keyspace: &KeyspaceCore) -> Backlog {
        let settings = keyspace.settings();
        let view = keyspace.view();
        let filled =
            view.active.memtable.size_bytes() as f64 / settings.memtable_bytes.max(1) as f64;
        let level0_runs = match &settings.policy {
            Some(_) => view.version.levels()[0].runs().len(),
            None => 0,
        };
        Backlog {
            memtables: view.immutables.len() as f64 + filled.min(1.0),
            immutables_max: settings.options.immutable_memtables_max,
            level0_runs,
            debt_bytes: keyspace.debt_bytes(),
            memtable_bytes: settings.memtable_bytes,
        }
    }

    /// Decides anew whether writes to `keyspace` must look at the backlog. Called whenever a job
    /// or a switch has changed it, so that writes of a database that keeps up pay one load.
    pub(crate) fn update_pressure(&self, keyspace: &KeyspaceCore) {
        let settings = keyspace.settings();
        let debt = settings
            .policy
            .as_ref()
            .map_or(0, |policy| policy.debt_bytes(&keyspace.view().version.shape()));
        keyspace.set_debt_bytes(debt);
        let backlog = self.backlog(keyspace);
        // The active memtable counts as full: it will be before this is called again.
        let ahead = Backlog { memtables: backlog.memtables.ceil(), ..backlog };
        keyspace.set_under_pressure(0.0 < ahead.pressure().0);
        self.throttle.wake();
    }
}
