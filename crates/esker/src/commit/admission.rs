//! Admission of writes: at once; after a short delay while background work is behind; or, only when
//! there is no room at all, after a longer wait.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use esker_tree::INTERRUPT_BYTES;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::options::Options;
use crate::throttle::WAIT_MIN;
use crate::throttle::io_limit::allowed_rate;
use crate::throttle::pressure::{Backlog, delay};

/// A writer that finds no room checks again at least this often, so that a closed database or a
/// failing flush cannot leave it waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Blocks that a compaction reads between checks of its rate limit.
const PACED_BLOCKS: u64 = 16;

/// A compaction that is held back looks around this often: frames that wait in memory may be
/// overdue, and nobody wakes it when it must end.
const PACED_WAIT_MAX: Duration = Options::BUFFERED_INTERVAL.checked_div(2).expect("not zero");

impl Engine {
    /// Admits a write of `bytes` to `keyspaces` together, now or after a delay: once for all of
    /// them, by the one that is most behind.
    ///
    /// # Errors
    /// As [`Engine::check_writable`]; `NoSpace` if there is no room and flushes fail for lack of
    /// space; the error of flushes that keep failing.
    #[inline]
    pub(crate) fn admit(&self, keyspaces: &[Arc<KeyspaceCore>], bytes: u64) -> Result<()> {
        if self.throttle.memtable_bytes() == 0
            && !keyspaces.iter().any(|keyspace| keyspace.is_under_pressure())
        {
            return Ok(());
        }
        self.admit_later(keyspaces, bytes)
    }

    #[inline(never)]
    fn admit_later(&self, keyspaces: &[Arc<KeyspaceCore>], bytes: u64) -> Result<()> {
        let started = self.now();
        let pressures = keyspaces.iter().map(|keyspace| self.backlog(keyspace).pressure().0);
        let pressure = pressures.fold(0.0, f64::max);
        let owed = self.throttle.owe(delay(pressure, self.throttle.drain_rate(), bytes));
        if let Some(owed) = owed.filter(|_| self.options.background_threads != 0) {
            // Not cut short when a job finishes: that makes the backlog only a little smaller.
            let until = started + owed;
            while !self.is_closed() && self.now() < until {
                let left = until.saturating_sub(self.now());
                if !self.throttle.wait(self.throttle.epoch(), left) {
                    break;
                }
            }
        }
        keyspaces.iter().try_for_each(|keyspace| self.wait_for_room(keyspace))?;
        let waited = self.now().saturating_sub(started);
        if Duration::ZERO < waited && (owed.is_some() || WAIT_MIN < waited) {
            self.counters.note_delay(waited);
        }
        Ok(())
    }

    /// Waits while the memtable is full and may not be switched, and while the memtables of all
    /// keyspaces take all the memory that they may. Whoever frees memtable memory wakes it.
    fn wait_for_room(&self, keyspace: &KeyspaceCore) -> Result<()> {
        loop {
            let epoch = self.throttle.epoch();
            let is_out_of_room = self.is_out_of_room(keyspace);
            if !is_out_of_room && !self.is_out_of_memory() {
                return Ok(());
            }
            self.check_writable()?;
            let frees_memory = if is_out_of_room {
                self.lasting_flush_failure(keyspace).map_or(Ok(None), Err)?
            } else {
                self.find_memory()?
            };
            if self.options.background_threads == 0 {
                self.flush_immutables(frees_memory.as_deref().unwrap_or(keyspace))?;
                continue;
            }
            self.throttle.wait(epoch, LOOK_AGAIN);
        }
    }

    /// The error of failing flushes, for whoever would wait for one. Without background threads nobody
    /// waits: the write flushes, and learns how that ends now.
    pub(crate) fn lasting_flush_failure(&self, keyspace: &KeyspaceCore) -> Option<Error> {
        let waits = self.options.background_threads != 0
            || esker_base::planted::is("write-waits-for-nobody");
        keyspace.lasting_flush_failure().filter(|_| waits)
    }

    fn is_out_of_room(&self, keyspace: &KeyspaceCore) -> bool {
        let settings = keyspace.settings();
        let view = keyspace.view();
        settings.options.immutable_memtables_max <= view.immutables.len()
            && settings.memtable_bytes <= view.active.memtable.size_bytes()
    }

    /// How far background work is behind for `keyspace`.
    pub(crate) fn backlog(&self, keyspace: &KeyspaceCore) -> Backlog {
        let settings = keyspace.settings();
        let view = keyspace.view();
        let filled =
            view.active.memtable.size_bytes() as f64 / settings.memtable_bytes.max(1) as f64;
        let level0_runs = match &settings.policy {
            Some(policy) => {
                let runs = view.version.levels()[0].runs().len();
                runs.saturating_sub(policy.resting_run_count())
            }
            None => 0,
        };
        Backlog {
            memtables: view.immutables.len() as f64 + filled.min(1.0),
            immutables_max: settings.options.immutable_memtables_max,
            level0_runs,
            debt_bytes: keyspace.debt_bytes(),
            memtable_bytes: settings.memtable_bytes,
            memory: self.throttle.memtable_bytes() as f64 / self.memtables_bytes_max() as f64,
        }
    }

    /// Recomputes whether writes to `keyspace` must check the backlog. Called whenever a job or a
    /// switch has changed the backlog, so that writes pay one load while background work keeps up.
    pub(crate) fn update_pressure(&self, keyspace: &KeyspaceCore) {
        let debt = keyspace.settings().debt_bytes(&keyspace.view().version.shape());
        keyspace.set_debt_bytes(debt);
        let expires = |table: &Arc<esker_table::Table>| {
            table.properties().extras.expiry.is_some_and(|expiry| expiry.latest.is_some())
        };
        keyspace.set_may_expire(keyspace.view().version.tables().any(expires));
        let backlog = self.backlog(keyspace);
        // The active memtable counts as full: it will be before this is called again.
        let ahead = Backlog { memtables: backlog.memtables.ceil(), ..backlog };
        keyspace.set_under_pressure(0.0 < ahead.pressure().0);
        self.note_memtables();
        self.throttle.wake();
    }

    /// Called by a compaction of `keyspace` for each block that it reads: waits until its rate
    /// limit allows more, or until `must_end`. `blocks` counts since the last check.
    pub(crate) fn pace_compaction(
        &self,
        keyspace: &KeyspaceCore,
        blocks: &Cell<u64>,
        must_end: impl Fn() -> bool,
    ) {
        let Some(limit) = self.options.compaction_bytes_per_second else { return };
        blocks.set(blocks.get() + 1);
        // Without background threads there is nobody to hold back for, and time may stand still.
        if blocks.get() < PACED_BLOCKS || self.options.background_threads == 0 {
            return;
        }
        let bytes = blocks.replace(0) * INTERRUPT_BYTES;
        let Some(rate) = allowed_rate(limit, &self.backlog(keyspace)) else { return };
        let wait = self.throttle.io_limit.pace(bytes, rate, self.now());
        let until = self.now().saturating_add(wait);
        // Waits for the whole time are enough, whatever the clock says: in tests it may stand
        // still.
        let mut waited = Duration::ZERO;
        while waited < wait && !must_end() && self.now() < until {
            let step = until.saturating_sub(self.now()).min(PACED_WAIT_MAX);
            if !self.throttle.wait(self.throttle.epoch(), step) {
                waited += step;
            }
            self.write_overdue();
        }
    }
}
