//! Upkeep beside the policies: which plan comes next, and when deleted data is cleared from memory
//! and log.
//!
//! To meet a delete deadline, the value must leave every place where it may be: memtables are
//! flushed and the log is left behind after a quarter of the time, tables are compacted after half
//! of it, and files are removed as soon as nobody reads them.

use std::sync::Arc;
use std::time::Duration;

use esker_memtable::Memtable;
use esker_tree::{
    Busy, Moment, Plan, Shape, newest_run_frees_much, oldest_delete, reclaimable_bytes,
};

use crate::engine::Engine;
use crate::error::Result;
use crate::jobs::outputs::with_compression;
use crate::keyspace_core::read_view::WriteBuffer;
use crate::keyspace_core::upkeep_notes::TOMBSTONES_SWITCH_MIN;
use crate::keyspace_core::write_times::as_millis;
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::CompactionPolicy;
use crate::sync::atomic::Ordering;

/// Represents no time.
const NONE: u64 = u64::MAX;

impl Engine {
    fn moment(&self, keyspace: &KeyspaceCore, settings: &Settings) -> Moment {
        let idle_after = settings.options.idle_compaction;
        let is_idle = idle_after.is_some_and(|after| after <= self.quiet_for(keyspace));
        // Flushes come first, and change what is searched.
        let is_flushed = keyspace.view().immutables.is_empty();
        let searches = if is_flushed { keyspace.upkeep.searches() } else { 0 };
        let oldest_reader = self.readers().0.oldest();
        Moment { now: self.wall(), oldest_reader, is_idle, searches }
    }

    /// Notes what a cursor has searched; requests a compaction once the searches may have paid for
    /// it.
    pub(crate) fn note_searches(&self, keyspace: &KeyspaceCore, count: u64) {
        if keyspace.upkeep.note_searches(count) {
            self.scheduler.request_compaction(keyspace.id);
        }
    }

    /// How long nothing has been written to the keyspace, as far as checks have seen.
    fn quiet_for(&self, keyspace: &KeyspaceCore) -> Duration {
        keyspace.upkeep.quiet_for(keyspace.write_mark(), self.now())
    }

    /// The next automatic compaction: expired tables, then deletes that are due, then the policy,
    /// then the rest.
    pub(crate) fn next_plan(
        &self,
        keyspace: &KeyspaceCore,
        shape: &Shape,
        busy: &Busy,
    ) -> Option<Plan> {
        let expired = self.expired_tables(keyspace, shape, busy);
        if expired.is_some() {
            return expired;
        }
        let settings = keyspace.settings();
        let moment = self.moment(keyspace, &settings);
        let upkeep = &settings.upkeep;
        let is_leveled = settings.options.compaction == CompactionPolicy::Leveled;
        if busy.is_empty() || is_leveled {
            let overdue = upkeep.pick_overdue(shape, busy, moment);
            if let Some(plan) = overdue {
                return Some(with_compression(&settings.options, plan, shape));
            }
        } else if upkeep.is_overdue(shape, moment) {
            // It is their turn once the plans in flight have ended.
            return None;
        }
        let planned = settings.pick(shape, busy, moment.now);
        let planned = planned.or_else(|| upkeep.pick(shape, busy, moment))?;
        Some(with_compression(&settings.options, planned, shape))
    }

    /// Requests what time alone has made due in a keyspace.
    pub(crate) fn look(&self, keyspace: &KeyspaceCore) {
        self.scheduler.request_compaction(keyspace.id);
        self.quiet_for(keyspace);
        let Some(deadline) = keyspace.settings().options.delete_deadline else { return };
        self.note_deletes_in_log(keyspace);
        let since = self.deletes_in_log.load(Ordering::Relaxed);
        if since != NONE && since.saturating_add(as_millis(deadline / 4)) <= as_millis(self.wall())
        {
            // A failure has poisoned the database, or will be met again by the next check.
            drop(self.leave_log());
        }
    }

    /// Notes the deletes of the active memtable: after it is switched, they are still in the log.
    pub(crate) fn note_deletes_in_log(&self, keyspace: &KeyspaceCore) {
        if keyspace.settings().options.delete_deadline.is_some()
            && let Some(oldest) = keyspace.view().active.times.oldest_tombstone()
        {
            self.deletes_in_log.fetch_min(oldest, Ordering::Relaxed);
        }
    }

    /// Notes deletes that are in no memtable, made at `time` in milliseconds since the epoch: what
    /// they deleted may be in the log.
    pub(crate) fn note_deletes_before_log_end(&self, keyspace: &KeyspaceCore, time: u64) {
        if keyspace.settings().options.delete_deadline.is_some() {
            self.deletes_in_log.fetch_min(time, Ordering::Relaxed);
        }
    }

    /// Notes the result of flushing memtables that were switched early for their many tombstones.
    pub(crate) fn note_tombstones_flushed(
        &self,
        keyspace: &KeyspaceCore,
        buffers: &[Arc<WriteBuffer>],
        left: u64,
    ) {
        let memtables = buffers.iter().map(|buffer| &buffer.memtable);
        let is_early = |memtable: &&Arc<Memtable>| {
            TOMBSTONES_SWITCH_MIN <= memtable.tombstone_count()
                && memtable.size_bytes() < keyspace.memtable_bytes()
        };
        if memtables.clone().any(|memtable| is_early(&memtable)) {
            let frees = newest_run_frees_much(&keyspace.view().version.shape());
            let entries = memtables.map(|memtable| memtable.entry_count()).sum();
            keyspace.upkeep.note_flush(entries, left, frees);
        }
    }

    /// Switches every memtable and begins a new log segment, so that all earlier segments are
    /// removed once everything is flushed.
    pub(crate) fn leave_log(&self) -> Result<()> {
        self.check_writable()?;
        let mut leader = self.pipeline.lead();
        leader.begin_log_segment(self)?;
        for keyspace in self.keyspaces() {
            if !keyspace.view().active.memtable.is_empty() {
                self.switch_memtable(&keyspace);
            }
        }
        self.deletes_in_log.store(NONE, Ordering::Relaxed);
        drop(leader);
        self.logs.release_before(|| self.oldest_log_needed(), &self.ledger)
    }

    /// Updates whether log files may be reused, which they may not if some keyspace promises that
    /// deleted data leaves the disk.
    pub(crate) fn update_log_reuse(&self) {
        let keyspaces = self.keyspaces();
        let promises = keyspaces.iter().any(|k| k.settings().options.delete_deadline.is_some());
        self.logs.set_reuses(!promises);
    }

    /// Bytes of the keyspace's tables that compactions could free, and the age of the oldest delete
    /// whose deleted entries may still be in them.
    pub(crate) fn deletes(&self, keyspace: &KeyspaceCore) -> (u64, Option<Duration>) {
        let shape = keyspace.view().version.shape();
        let bytes = reclaimable_bytes(&shape, keyspace.upkeep.overwrite_percent());
        let now = self.wall();
        (bytes, oldest_delete(&shape).map(|time| now.saturating_sub(time)))
    }
}
