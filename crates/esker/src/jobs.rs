//! The work that keeps the tree in shape: flushes, compactions, log segments, and their ends.
//!
//! A job writes new files first, then one edit, then exchanges the view of its keyspace. Until the
//! edit is durable nothing refers to the files, and once it is, nothing refers to the old ones but
//! readers that started before.

use std::any::Any;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use esker_cache::Owner;
use esker_table::TableProperties;
use esker_tree::{
    BlobAccount, Busy, EditRecord, JobId, Plan, PlanReason, Progress, RunId, Version, VersionEdit,
    pick_drop,
};

use crate::commit_queue::Leader;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::keyspace_core::KeyspaceCore;
use crate::on_demand::OnDemand;
use crate::outputs::Work;
use crate::read_view::{ReadView, WriteBuffer};
use crate::running::{JobKind, JobRecord};
use crate::sync::atomic::Ordering;

/// Memtables that together hold less than this are left in the log when the database is closed:
/// replaying them costs a few milliseconds, and a small table for each close costs more.
const CLOSE_FLUSH_BYTES_MIN: u64 = 512 << 10;

/// What memtables that take writes may take together, however small the budget.
const ACTIVE_BYTES_MAX_MIN: u64 = 256 << 10;

/// With this many log segments memtables are flushed at close, however small they are.
const CLOSE_FLUSH_SEGMENTS_MIN: usize = 4;

impl Engine {
    /// After a write that found the memtable full: switches it, and asks for its flush.
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
            // The next writes wait for room; see `throttle`.
            keyspace.set_under_pressure(true);
            return;
        }
        self.switch_memtable(keyspace);
        self.release_old_memtables();
    }

    /// Makes the active memtable immutable. Only for who leads.
    pub(crate) fn switch_memtable(&self, keyspace: &KeyspaceCore) {
        self.note_deletes_in_log(keyspace);
        keyspace.switch_memtable(&self.budget);
        // What memtables have come to take, the cache gives up.
        self.cache.trim();
        self.scheduler.request_flush(keyspace.id);
        self.update_pressure(keyspace);
    }

    /// Switches memtables that hold more memory, or older log segments, than is good. Only for who
    /// leads; called when a memtable is switched or a log segment is full, which is rare. Not those of
    /// keyspaces where too many wait already, whose writers are to wait: what waits holds older log.
    pub(crate) fn release_old_memtables(&self) {
        let (log_bytes, _) = self.logs.size();
        let keyspaces = self.keyspaces();
        // Writers of a cold keyspace must not hold the log of the others.
        if LOG_SEGMENTS_HELD_MAX.saturating_mul(self.logs.segment_bytes()) < log_bytes {
            let held = |keyspace: &&Arc<KeyspaceCore>| keyspace.view().active.oldest_log();
            let oldest =
                keyspaces.iter().filter(|keyspace| held(keyspace).is_some()).min_by_key(held);
            if let Some(keyspace) = oldest.filter(|keyspace| may_switch(keyspace)) {
                self.switch_memtable(keyspace);
            }
        }
        self.bound_active_memtables();
    }

    /// Switches the largest of the memtables that take writes, as long as all of them take more than
    /// half of the budget. Only for who leads; called when one has taken more memory, which is rare. Not
    /// those of keyspaces where too many wait already: as [`Engine::release_old_memtables`].
    pub(crate) fn bound_active_memtables(&self) {
        let bytes_max = (self.options.memory_budget_bytes / 2).max(ACTIVE_BYTES_MAX_MIN);
        // With those that wait for their flush: mostly this ends here.
        if self.budget.used(Owner::Memtables) <= bytes_max {
            return;
        }
        let sized = |keyspace: Arc<KeyspaceCore>| {
            (keyspace.view().active.memtable.reserved_bytes(), keyspace)
        };
        let sized = self.keyspaces().into_iter().map(sized);
        let mut active: Vec<_> = sized.filter(|(bytes, _)| 0 < *bytes).collect();
        active.sort_by_key(|(bytes, _)| *bytes);
        let mut total: u64 = active.iter().map(|(bytes, _)| bytes).sum();
        while bytes_max < total
            && let Some((bytes, keyspace)) = active.pop()
        {
            if may_switch(&keyspace) {
                self.switch_memtable(&keyspace);
                total -= bytes;
            }
        }
    }

    /// Writes all that is in memory to tables, on this thread.
    pub(crate) fn flush(&self, keyspace: &KeyspaceCore) -> Result<()> {
        self.check_writable()?;
        keyspace.check_live()?;
        self.flush_all(keyspace)
    }

    pub(crate) fn flush_all(&self, keyspace: &KeyspaceCore) -> Result<()> {
        {
            let _leader = self.pipeline.lead();
            if !keyspace.view().active.memtable.is_empty() {
                self.note_deletes_in_log(keyspace);
                keyspace.switch_memtable(&self.budget);
            }
        }
        let result = self.flush_keyspace(keyspace);
        if result.is_err() {
            // What was switched waits for a flush all the same, and writers may wait for that.
            self.scheduler.request_flush(keyspace.id);
        }
        result
    }

    pub(crate) fn flush_job(&self, keyspace: &Arc<KeyspaceCore>) {
        if self.poison_cause().is_some() {
            return;
        }
        let result = self.flush_keyspace(keyspace);
        self.note_job(keyspace, JobKind::Flush, &result);
        if result.is_err() {
            self.scheduler.request_flush(keyspace.id);
        }
    }

    fn note_job(&self, keyspace: &KeyspaceCore, kind: JobKind, result: &Result<()>) {
        keyspace.note_outcome(kind, result, self.now());
        if let Err(error) = result {
            if error.kind() == ErrorKind::NoSpace && esker_base::planted::is("full-disk-poisons") {
                self.poison(error);
            }
            Counters::add(&self.counters.job_failures, 1);
            let (keyspace, job) = (Some(keyspace.name().to_string()), kind.name());
            self.events
                .record(self.now(), Event::JobFailed { keyspace, job, error: error.clone() });
        }
        self.throttle.wake();
    }

    /// Flushes the memtables that are immutable now, as one run of level 0.
    pub(crate) fn flush_keyspace(&self, keyspace: &KeyspaceCore) -> Result<()> {
        let _flushing = keyspace.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_switched(keyspace, || self.write_buffered())
    }

    /// As [`Engine::flush_keyspace`], for who holds `flushing` of the keyspace; `write_log` hands
    /// the frames that wait in memory to the system.
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
            // The tables must not survive a crash which earlier writes, of other keyspaces, do
            // not. Alone, the keyspace loses nothing but writes after those in the tables.
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
        let run = self.ledger.allocate_run()?;
        let bytes: u64 = tables.iter().map(|table| table.file_bytes).sum();
        let table_count = tables.len();
        let left = tables.iter().map(|table| table.entry_count).sum();
        let blob_bytes = BlobAccount::of(tables.iter()).file_bytes();
        let mut records: Vec<EditRecord> =
            tables.into_iter().map(|table| added(keyspace, 0, run, table)).collect();
        records.push(EditRecord::FlushedUpTo { keyspace: keyspace.id, seqno: last_seqno });
        records.push(EditRecord::LastSeqno(last_seqno));
        self.install(keyspace, VersionEdit { records }, &buffers)?;
        drop(listed);

        let duration = self.now().saturating_sub(started);
        self.throttle.note_drained(memory, duration);
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
        self.logs.release_before(|| self.oldest_log_needed(), &self.ledger)
    }

    /// Whether another keyspace has entries in memory only.
    fn holds_entries_elsewhere(&self, keyspace: &KeyspaceCore) -> bool {
        let holds_entries =
            |other: &KeyspaceCore| other.view().memtables().any(|memtable| !memtable.is_empty());
        self.keyspaces().iter().any(|other| other.id != keyspace.id && holds_entries(other))
    }

    /// Makes `edit` durable and shows it to readers, without the memtables that it replaces. False if
    /// the keyspace was dropped: then the files of the edit are removed.
    pub(crate) fn install(
        &self,
        keyspace: &KeyspaceCore,
        edit: VersionEdit,
        flushed: &[Arc<WriteBuffer>],
    ) -> Result<bool> {
        let is_flushed =
            |buffer: &Arc<WriteBuffer>| flushed.iter().any(|flushed| Arc::ptr_eq(flushed, buffer));
        // Looked at under the ledger's lock: a drop may have come first.
        let exists = |catalog: &esker_tree::Catalog| catalog.keyspaces.contains_key(&keyspace.id);
        let committed = self.ledger.commit_if(exists, edit.clone(), |_| {
            keyspace.change_view(|view| {
                let version = view.version.apply(&edit, |table| self.open_table(table))?;
                self.release_blob_files(&view.version, &version);
                let immutables = view.immutables.iter().filter(|buffer| {
                    !is_flushed(buffer)
                        && (flushed.is_empty()
                            || !esker_base::planted::is("flush-drops-later-memtables"))
                });
                Ok::<_, esker_tree::EditRefused>(ReadView {
                    active: Arc::clone(&view.active),
                    immutables: immutables.cloned().collect(),
                    version: Arc::new(version),
                })
            })
        });
        let exchanged = committed.inspect_err(|_| {
            self.garbage.doubt(tables_added(&edit).cloned());
            self.remove_doubtful();
        })?;
        self.remove_doubtful();
        let Some(exchanged) = exchanged else {
            self.remove_tables_of(&edit);
            return Ok(false);
        };
        exchanged.map(|()| true).map_err(|refused| {
            let error = Error::new(
                ErrorKind::Poisoned,
                format!("an edit that is durable does not fit the tree: {refused}"),
            );
            self.poison(&error);
            error
        })
    }

    /// Removes the tables of an edit that was not written, since the keyspace was dropped.
    fn remove_tables_of(&self, edit: &VersionEdit) {
        self.remove_outputs(tables_added(edit).map(|table| &**table));
    }

    /// Removes the tables of edits that failed, once the manifest is surely without them.
    fn remove_doubtful(&self) {
        // First the tables: an edit that fails meanwhile has its own in doubt behind these.
        let tables = self.garbage.take_doubtful();
        if tables.is_empty() {
            return;
        }
        match self.ledger.settle() {
            Ok(()) => self.remove_outputs(tables.iter().map(|table| &**table)),
            Err(_) => self.garbage.doubt(tables),
        }
    }

    /// Removes tables that were written and never came to be, and their blob files.
    pub(crate) fn remove_outputs<'a>(
        &self,
        tables: impl Iterator<Item = &'a TableProperties> + Clone,
    ) {
        self.tables.owned.while_owned(|| {
            for table in tables.clone() {
                // Left where it is, it is an orphan that the next open removes.
                drop(self.env.fs.remove(&self.dir.join(table.id.file_name())));
                self.cache.forget_file(table.id.0);
            }
            self.remove_blob_files_of(tables);
        });
    }

    pub(crate) fn compaction_job(&self, keyspace: &Arc<KeyspaceCore>) {
        if self.poison_cause().is_some() {
            return;
        }
        let picked = {
            let mut busy = keyspace.busy();
            let version = Arc::clone(&keyspace.view().version);
            let plan = self.pick_drop(keyspace, &version, &busy);
            let plan = plan.or_else(|| self.next_plan(keyspace, &version.shape(), &busy));
            match plan {
                Some(plan) => Ok((busy.start(plan.clone()), plan, version)),
                None => {
                    let due = || keyspace.settings().upkeep.searches_due(&version.shape());
                    keyspace.upkeep.looked_at_searches(due);
                    Err(busy.is_empty())
                }
            }
        };
        let (job, plan, version) = match picked {
            Ok(picked) => picked,
            Err(is_idle) => return self.forget_failure(keyspace, is_idle),
        };
        // Another thread may find something that can run beside this.
        self.scheduler.request_compaction(keyspace.id);
        let result = self.run_plan(keyspace, job, version, &plan, None);
        let gave_way = plan.reason == PlanReason::Idle
            && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed);
        if !self.scheduler.is_stopping() && !keyspace.is_dropped() && !gave_way {
            self.note_job(keyspace, JobKind::Compaction, &result);
        }
        self.scheduler.request_compaction(keyspace.id);
    }

    /// Nothing is to be compacted, nor is anything if `is_idle`: what failed before is not wanted any
    /// more, since somebody else has done it. A flush that failed still is, while its memtables wait.
    fn forget_failure(&self, keyspace: &KeyspaceCore, is_idle: bool) {
        if !is_idle || keyspace.failures().is_empty() {
            return;
        }
        keyspace.note_outcome(JobKind::Compaction, &Ok(()), self.now());
        if keyspace.view().immutables.is_empty() {
            keyspace.note_outcome(JobKind::Flush, &Ok(()), self.now());
        }
        self.scheduler.wake();
    }

    /// What range tombstones make needless, where compaction is automatic. Tables whose range
    /// tombstones cannot be read stay: the compaction that has to read them fails, and says so.
    pub(crate) fn pick_drop(
        &self,
        keyspace: &KeyspaceCore,
        version: &Version,
        busy: &Busy,
    ) -> Option<Plan> {
        keyspace.settings().policy.as_ref()?;
        pick_drop(version, busy, &self.readers().0).unwrap_or_default()
    }

    /// Carries out a plan for `version` that is registered as `job`, for `task` if that asked for it.
    pub(crate) fn run_plan(
        &self,
        keyspace: &Arc<KeyspaceCore>,
        job: JobId,
        version: Arc<Version>,
        plan: &Plan,
        task: Option<&Arc<OnDemand>>,
    ) -> Result<()> {
        let started = self.now();
        let listed = self.running.start(record_of(keyspace, &version, plan, started));
        if let Some(task) = task {
            task.note_start(listed.record());
        }
        let work = Work { version: &version, plan, record: listed.record(), task };
        let work = std::panic::AssertUnwindSafe(|| self.execute(keyspace, work));
        let result = std::panic::catch_unwind(work);
        drop(listed);
        if let Some(task) = task {
            let written = result.as_ref().ok().and_then(|done| done.as_ref().ok());
            task.note_end(written.map(|(_, written)| (plan, *written)));
        }
        // No longer held, so that what the plan made obsolete can be removed, by this thread or by
        // who waits for the end of the job.
        drop(version);
        keyspace.busy().finish(job);
        self.scheduler.unpark(keyspace.id);
        let (bytes_read, bytes_written) = match result {
            // Of a keyspace that was dropped meanwhile nobody else removes what the plan has held.
            Ok(done) => done.inspect_err(|_| self.collect_garbage())?,
            Err(panic) => {
                self.poison_by_panic(&*panic);
                std::panic::resume_unwind(panic);
            }
        };
        self.update_pressure(keyspace);
        self.collect_garbage();
        let duration = self.now().saturating_sub(started);
        let name = keyspace.name().to_string();
        self.events.record(
            self.now(),
            Event::Compacted {
                keyspace: name,
                plan: plan.to_string(),
                bytes_read,
                bytes_written,
                duration,
            },
        );
        Ok(())
    }

    /// Returns the bytes read and written. `version` is the one that the plan was made for: the
    /// keyspace itself may have been dropped since, and its version be empty.
    fn execute(&self, keyspace: &Arc<KeyspaceCore>, work: Work<'_>) -> Result<(u64, u64)> {
        let Work { version, plan, .. } = work;
        let removed: Vec<_> = plan.tables().collect();
        let is_removed =
            |table: &&Arc<esker_table::Table>| removed.contains(&table.properties().id);
        let mut records: Vec<EditRecord> = removed
            .iter()
            .map(|table| EditRecord::TableRemoved { keyspace: keyspace.id, table: *table })
            .collect();
        if plan.is_drop {
            // Whoever drops a keyspace takes over its tables.
            if self.install(keyspace, VersionEdit { records }, &[])? {
                self.garbage.add(version.tables().filter(is_removed));
            }
            return Ok((0, 0));
        }
        let run = match plan.target_run {
            Some(run) => run,
            None => self.ledger.allocate_run()?,
        };
        if plan.is_trivial_move {
            let moved = |table| EditRecord::TableMoved {
                keyspace: keyspace.id,
                table,
                level: plan.target_level,
                run,
            };
            let records = plan.tables().map(moved).collect();
            self.install(keyspace, VersionEdit { records }, &[])?;
            Counters::add(&self.counters.trivial_moves, plan.table_count() as u64);
            return Ok((0, 0));
        }
        let (output, hold) = self.merge_tables(keyspace, work)?;
        let bytes_written = output.added.iter().map(|table| table.file_bytes).sum();
        Counters::add(&self.counters.blob_move_bytes, output.blob_bytes_written);
        let added = output.added.into_iter();
        records.extend(added.map(|table| self::added(keyspace, plan.target_level, run, table)));
        if esker_base::planted::is("orphan-removed-early") {
            removed.iter().for_each(|id| drop(self.env.fs.remove(&self.dir.join(id.file_name()))));
        }
        let is_installed = self.install(keyspace, VersionEdit { records }, &[])?;
        drop(hold);
        if !is_installed {
            return Ok((0, 0));
        }
        self.garbage.add(version.tables().filter(is_removed));
        let kept_apart = plan.inputs.last().map_or(&[][..], |oldest| &oldest.tables);
        let tables = version.tables().map(|table| table.properties());
        let newer = tables.filter(|t| removed.contains(&t.id) && !kept_apart.contains(&t.id));
        let newer = newer.map(|table| table.entry_count).sum();
        keyspace.upkeep.note_dropped(newer, output.entries_dropped);
        Counters::add(&self.counters.compactions, 1);
        Counters::add(&self.counters.compaction_read_bytes, plan.input_bytes);
        Counters::add(&self.counters.compaction_write_bytes, bytes_written);
        Counters::add(&self.counters.compaction_entries, output.entries_in);
        Counters::add(&self.counters.compaction_entries_dropped, output.entries_dropped);
        Ok((plan.input_bytes, bytes_written))
    }

    /// Readies the next log segment. A failure is no harm: the leader makes one itself.
    pub(crate) fn prepare_log_job(&self) {
        if self.poison_cause().is_none()
            && let Err(error) = self.logs.prepare(&self.ledger)
        {
            let event = Event::JobFailed { keyspace: None, job: "preparing a log segment", error };
            self.events.record(self.now(), event);
        }
    }

    /// Hands frames that wait in memory to the system.
    pub(crate) fn write_buffered(&self) -> Result<()> {
        if !self.has_buffered.load(Ordering::Acquire) {
            return Ok(());
        }
        self.write_buffered_led(&mut self.pipeline.lead())
    }

    fn write_buffered_led(&self, leader: &mut Leader) -> Result<()> {
        leader.write_log(self)?;
        // Only now: who finds it false relies on the frames being written. Release pairs with the
        // Acquire in `write_buffered`.
        self.has_buffered.store(false, Ordering::Release);
        Ok(())
    }

    /// Asked by a running job once for each block: does it for the thread that serves the log, which
    /// may be this one, if that has not come to it in time.
    pub(crate) fn write_overdue(&self) {
        if self.buffered_due().is_some_and(|due| due <= self.now())
            && let Some(mut leader) = self.pipeline.try_lead()
        {
            // A failure has poisoned the database, and every later write says so.
            drop(self.write_buffered_led(&mut leader));
        }
    }

    /// After a time without writes: makes the log durable, and marks it so that damage to any of it
    /// can be told from a torn tail. `position` is its end as of the last look; if it has moved, this
    /// does nothing.
    pub(crate) fn mark_log(&self, position: u64) -> Result<()> {
        self.sync_to(position)?;
        let mut leader = self.pipeline.lead();
        let has_moved =
            self.logs.written_position() != position || leader.appender.buffered_bytes() != 0;
        if has_moved || self.poison_cause().is_some() {
            return Ok(());
        }
        self.has_unmarked.store(false, Ordering::Relaxed);
        let marked = leader.append_mark(self)?;
        drop(leader);
        self.sync_to(marked)
    }

    /// Makes every acknowledged write durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        self.write_buffered()?;
        self.sync_to(self.logs.written_position())
    }

    /// Returns when nothing is left to do in the background.
    pub(crate) fn wait_until_settled(&self) -> Result<()> {
        // Also what no request stands for, after a call that failed.
        for keyspace in self.keyspaces() {
            if !keyspace.view().immutables.is_empty() {
                self.scheduler.request_flush(keyspace.id);
            }
            self.scheduler.request_compaction(keyspace.id);
        }
        self.look_at_time();
        if self.options.background_threads == 0 {
            while self.run_background_job() {}
        }
        let result = self.scheduler.wait_until(|| match self.check_writable() {
            Err(error) => Some(Err(error)),
            Ok(()) => {
                let idle = self.scheduler.idle_epoch();
                let keyspaces = self.keyspaces();
                let failure = keyspaces.iter().flat_map(|keyspace| keyspace.failures()).next();
                match failure {
                    Some(failure) => Some(Err(failure.error)),
                    None => {
                        let is_settled = keyspaces.iter().all(|keyspace| self.is_settled(keyspace));
                        let wants_none = !self.scheduler.wants_on_demand();
                        // No job may have changed what was looked at, or still clear up.
                        let is_idle = idle.is_some() && idle == self.scheduler.idle_epoch();
                        (is_settled && wants_none && is_idle).then_some(Ok(()))
                    }
                }
            }
        });
        // What readers held when the jobs ended may be free since.
        self.collect_garbage();
        self.remove_doubtful();
        result
    }

    fn is_settled(&self, keyspace: &KeyspaceCore) -> bool {
        let busy = keyspace.busy();
        let view = keyspace.view();
        let wants = || {
            let drop = self.pick_drop(keyspace, &view.version, &busy);
            drop.or_else(|| self.next_plan(keyspace, &view.version.shape(), &busy))
        };
        // A flush holds what it replaces until its end.
        let is_flushing = matches!(keyspace.flushing.try_lock(), Err(TryLockError::WouldBlock));
        let rests = || busy.is_empty() && (self.scheduler.is_paused() || wants().is_none());
        view.immutables.is_empty() && !is_flushing && rests()
    }

    /// Takes no more writes. False if that was so already.
    pub(crate) fn mark_closing(&self) -> bool {
        // Nobody is in the middle of a commit while this is held.
        let _leader = self.pipeline.lead();
        self.mark_closed()
    }

    /// Ends everything in an orderly way, once no thread works any more.
    pub(crate) fn shut_down(&self) -> Result<()> {
        let result = self.write_out();
        // A call on another thread that is still under way changes nothing any more.
        self.ledger.close();
        self.unlock();
        result
    }

    fn write_out(&self) -> Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        if let Some(cause) = self.poison_cause() {
            return Err(Error::poisoned(cause));
        }
        self.has_buffered.store(true, Ordering::Relaxed);
        self.write_buffered()?;
        let keyspaces = self.keyspaces();
        let bytes = |keyspace: &Arc<KeyspaceCore>| -> u64 {
            let view = keyspace.view();
            view.memtables().filter(|m| !m.is_empty()).map(|m| m.size_bytes()).sum()
        };
        let (_, segment_count) = self.logs.size();
        let flushes_all = CLOSE_FLUSH_BYTES_MIN < keyspaces.iter().map(bytes).sum()
            || CLOSE_FLUSH_SEGMENTS_MIN <= segment_count;
        let mut flushed = Ok(());
        for keyspace in &keyspaces {
            // Whatever the option says by now.
            if flushes_all || keyspace.view().has_unlogged() {
                // One that cannot be flushed takes nothing from the others.
                flushed = flushed.and(self.flush_all(keyspace));
            }
        }
        self.sync_to(self.logs.written_position())?;
        flushed?;
        let mut leader = self.pipeline.lead();
        let last_logged = leader.last_logged;
        let needed = self.oldest_log_needed();
        let ends = self.logs.close(&mut leader.appender, last_logged, needed, &self.ledger)?;
        drop(leader);
        self.collect_garbage();
        self.remove_doubtful();
        self.ledger.end(&ends)
    }

    /// What is left to do when the last handle goes without [`Engine::shut_down`].
    pub(crate) fn abandon(&self) {
        if !self.mark_closing() {
            return;
        }
        if !self.is_read_only && self.poison_cause().is_none() {
            self.has_buffered.store(true, Ordering::Relaxed);
            if let Err(error) = self.write_buffered() {
                self.events.record(
                    self.now(),
                    Event::JobFailed { keyspace: None, job: "writing the log", error },
                );
            }
        }
        // This may be the thread of a job, which ends later and changes nothing any more.
        self.ledger.close();
        self.unlock();
    }

    pub(crate) fn poison_by_panic(&self, panic: &(dyn Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let error = Error::new(
            ErrorKind::Poisoned,
            format!("a background task panicked: {message}; reopen the database"),
        );
        self.poison(&error);
    }
}

/// Whether another memtable may wait for its flush.
fn may_switch(keyspace: &KeyspaceCore) -> bool {
    keyspace.view().immutables.len() < keyspace.settings().options.immutable_memtables_max
}

/// More log than this, in segments, makes the keyspace that holds the oldest of it flush.
const LOG_SEGMENTS_HELD_MAX: u64 = 4;

fn record_of(
    keyspace: &KeyspaceCore,
    version: &Version,
    plan: &Plan,
    started: Duration,
) -> JobRecord {
    let inputs: Vec<_> = plan.tables().collect();
    let tables = version.tables().map(|table| table.properties());
    let tables = tables.filter(|table| inputs.contains(&table.id));
    JobRecord {
        kind: JobKind::Compaction,
        keyspace: keyspace.name(),
        reason: plan.reason.name(),
        inputs: plan.to_string(),
        input_count: inputs.len(),
        input_bytes: plan.input_bytes,
        entry_count: tables.map(|table| table.entry_count).sum(),
        started,
        progress: Progress::default(),
    }
}

/// The tables that `edit` adds.
fn tables_added(edit: &VersionEdit) -> impl Iterator<Item = &Arc<TableProperties>> + Clone {
    edit.records.iter().filter_map(|record| match record {
        EditRecord::TableAdded { properties, .. } => Some(properties),
        _ => None,
    })
}

fn added(
    keyspace: &KeyspaceCore,
    level: usize,
    run: RunId,
    properties: TableProperties,
) -> EditRecord {
    EditRecord::TableAdded { keyspace: keyspace.id, level, run, properties: Arc::new(properties) }
}

#[cfg(test)]
mod tests;
