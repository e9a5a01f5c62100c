//! Flushing: when memtables are switched, and how they become tables.

use std::sync::{Arc, PoisonError};

use esker_base::KeyspaceId;
use esker_tree::{BlobAccount, EditRecord, Progress, VersionEdit};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::error::Result;
use crate::events::Event;
use crate::jobs::added;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::WriteBuffer;
use crate::running::{JobKind, JobRecord};
use crate::scheduler::Scheduler;

/// If there is more log than this, in segments, the keyspace that needs the oldest part is flushed.
const LOG_SEGMENTS_HELD_MAX: u64 = 8;

impl Engine {
    /// After a write that filled the memtable: switches it and requests its flush.
    pub(crate) fn after_write(&self, keyspace: &Arc<KeyspaceCore>) {
        let view = keyspace.view();
        let settings = keyspace.settings();
        let memtable = &view.active.memtable;
        if memtable.size_bytes() < settings.memtable_bytes
            && memtable.tombstone_count() < keyspace.tombstone_limit()
        {
            return;
        }
        drop(view);
        if !may_switch(keyspace) {
            // The next writes have to wait for room; see `throttle`.
            keyspace.set_under_pressure(true);
            return;
        }
        self.switch_memtable(keyspace);
        self.release_old_memtables();
    }

    /// Makes the active memtable immutable. Only for the commit leader.
    pub(crate) fn switch_memtable(&self, keyspace: &KeyspaceCore) {
        self.note_deletes_in_log(keyspace);
        keyspace.switch_memtable(&self.budget);
        // The cache gives up the memory that memtables have taken.
        self.cache.trim();
        self.scheduler.request_flush(keyspace.id);
        self.update_pressure(keyspace);
    }

    /// Switches memtables that hold too much memory or too old log segments. Only for the commit
    /// leader; called when a memtable is switched or a log segment is full, which is rare. Skips
    /// keyspaces where too many immutable ones wait already: their writers must wait, and the
    /// waiting ones hold older log.
    pub(crate) fn release_old_memtables(&self) {
        let (log_bytes, _) = self.logs.size();
        let keyspaces = self.keyspaces();
        // Writers of a cold keyspace must not hold the log of the others.
        if LOG_SEGMENTS_HELD_MAX.saturating_mul(self.logs.segment_bytes()) < log_bytes {
            let held = |keyspace: &&Arc<KeyspaceCore>| keyspace.view().active.oldest_log();
            let oldest =
                keyspaces.iter().filter(|keyspace| held(keyspace).is_some()).min_by_key(held);
            if let Some(keyspace) = oldest.filter(|keyspace| {
                may_switch(keyspace) || esker_base::planted::is("memtables-wait-without-limit")
            }) {
                self.switch_memtable(keyspace);
            }
        }
        self.bound_active_memtables();
    }

    /// Writes everything in memory to tables, on this thread.
    pub(crate) fn flush(&self, keyspace: &KeyspaceCore) -> Result<()> {
        self.check_writable()?;
        keyspace.check_live()?;
        self.flush_whole(keyspace)
    }

    /// As [`Engine::flush`], without its checks.
    pub(crate) fn flush_whole(&self, keyspace: &KeyspaceCore) -> Result<()> {
        let owed = OwedFlush::new(self, keyspace);
        {
            let _leader = self.pipeline.lead();
            if !keyspace.view().active.memtable.is_empty() {
                self.note_deletes_in_log(keyspace);
                keyspace.switch_memtable(&self.budget);
            }
        }
        self.flush_immutables(keyspace)?;
        owed.note_done();
        Ok(())
    }

    pub(crate) fn flush_job(&self, keyspace: &Arc<KeyspaceCore>) {
        if self.takes_no_edits() {
            return;
        }
        let result = self.flush_immutables(keyspace);
        self.note_job(keyspace, JobKind::Flush, &result);
        if result.is_err() {
            self.scheduler.request_flush(keyspace.id);
        }
    }

    /// Flushes the memtables that are immutable now, as one run of level 0.
    pub(crate) fn flush_immutables(&self, keyspace: &KeyspaceCore) -> Result<()> {
        let _flushing = keyspace.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_switched(keyspace, || self.write_buffered())
    }

    /// As [`Engine::flush_immutables`], for a caller that holds the keyspace's `flushing`;
    /// `write_log` hands frames that wait in memory to the system.
    pub(crate) fn flush_switched(
        &self,
        keyspace: &KeyspaceCore,
        write_log: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let started = self.now();
        let view = keyspace.view();
        let buffers: Vec<Arc<WriteBuffer>> = view.immutables.iter().rev().cloned().collect();
        let last_seqno = buffers
            .iter()
            .filter_map(|buffer| buffer.memtable.seqno_range())
            .map(|(_, newest)| newest)
            .max();
        let Some(last_seqno) = last_seqno else { return Ok(()) };
        write_log()?;
        if self.holds_entries_elsewhere(keyspace) {
            // The tables must not survive a crash that earlier writes of other keyspaces do not
            // survive. If this is the only keyspace, it can lose only writes later than those in
            // the tables.
            self.sync_to(self.logs.written_position())?;
        }
        let memory = buffers.iter().map(|buffer| buffer.memtable.size_bytes()).sum();
        let listed = self.running.start(JobRecord {
            kind: JobKind::Flush,
            keyspace: keyspace.name(),
            reason: "flush",
            inputs: format!("{} memtables to L0 new run", buffers.len()),
            input_count: buffers.len(),
            input_bytes: memory,
            entry_count: buffers.iter().map(|buffer| buffer.memtable.entry_count()).sum(),
            started,
            progress: Progress::default(),
        });
        let tables = self.write_memtables(keyspace, &buffers, &listed.progress)?;
        // Only now: the newest run of the level must have the largest id.
        let run = self.ledger.allocate_run().inspect_err(|_| self.remove_outputs(tables.iter()))?;
        let bytes: u64 = tables.iter().map(|table| table.file_bytes).sum();
        let table_count = tables.len();
        let left = tables.iter().map(|table| table.entry_count).sum();
        let blob_bytes = BlobAccount::of(tables.iter()).file_bytes();
        let mut records: Vec<EditRecord> =
            tables.into_iter().map(|table| added(keyspace, 0, run, table)).collect();
        records.push(EditRecord::FlushedUpTo { keyspace: keyspace.id, seqno: last_seqno });
        records.push(EditRecord::LastSeqno(last_seqno));
        records.append(&mut self.grown_log().records);
        let is_installed = self.install(keyspace, VersionEdit { records }, &buffers)?;
        drop(listed);
        if !is_installed {
            // The keyspace was dropped in the meantime, and nobody else removes what this has held.
            drop((view, buffers));
            self.collect_garbage();
            return Ok(());
        }

        let duration = self.now().saturating_sub(started);
        self.throttle.note_drained(memory, duration);
        // Whoever has flushed: writers are refused no longer.
        keyspace.note_outcome(JobKind::Flush, &Ok(()), self.now());
        Counters::add(&self.counters.flushes, 1);
        Counters::add(&self.counters.flush_bytes, bytes);
        Counters::add(&self.counters.blob_flush_bytes, blob_bytes);
        let name = keyspace.name().to_string();
        self.events
            .record(self.now(), Event::Flushed { keyspace: name, table_count, bytes, duration });
        self.note_tombstones_flushed(keyspace, &buffers, left);
        drop((view, buffers));
        self.collect_garbage();
        self.update_pressure(keyspace);
        self.scheduler.request_compaction(keyspace.id);
        self.release_log()
    }

    /// What an edit that raises the last sequence number says of the log: how far its segments are
    /// durable. A log that lacks its front looks complete to whoever knows that number alone.
    pub(crate) fn grown_log(&self) -> VersionEdit {
        if esker_base::planted::is("flush-forgets-the-log") {
            return VersionEdit::default();
        }
        self.ledger.changed_ends(&self.logs.durable_ends())
    }

    /// Whether another keyspace has entries in memory only.
    fn holds_entries_elsewhere(&self, keyspace: &KeyspaceCore) -> bool {
        let holds_entries =
            |other: &KeyspaceCore| other.view().memtables().any(|memtable| !memtable.is_empty());
        self.keyspaces().iter().any(|other| other.id != keyspace.id && holds_entries(other))
    }
}

/// A flush that a call does itself. If it fails or panics, the switched memtables still need a
/// flush, and writers may wait for it: so a background flush is requested when this is dropped.
pub(crate) struct OwedFlush<'a> {
    scheduler: &'a Scheduler,
    keyspace: Option<KeyspaceId>,
}

impl<'a> OwedFlush<'a> {
    pub(crate) fn new(engine: &'a Engine, keyspace: &KeyspaceCore) -> Self {
        Self { scheduler: &engine.scheduler, keyspace: Some(keyspace.id) }
    }

    /// The call has done the flush.
    pub(crate) fn note_done(mut self) {
        self.keyspace = None;
    }
}

impl Drop for OwedFlush<'_> {
    fn drop(&mut self) {
        if let Some(keyspace) = self.keyspace {
            self.scheduler.request_flush(keyspace);
        }
    }
}

/// Whether one more memtable may be switched and wait for its flush.
pub(crate) fn may_switch(keyspace: &KeyspaceCore) -> bool {
    keyspace.view().immutables.len() < keyspace.settings().options.immutable_memtables_max
}
