//! The work that keeps the tree in shape: compactions, and installing the results of jobs.
//!
//! A job first writes new files, then one edit, then replaces the view of its keyspace. Until the
//! edit is durable, nothing refers to the new files; afterwards, only readers that started earlier
//! refer to the old ones.

mod blobs;
mod closing;
mod compact;
pub(crate) mod flush;
mod log_jobs;
pub(crate) mod outputs;
mod timed;
mod upkeep;
mod warm_cache;
mod worker;
mod workers;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use esker_table::TableProperties;
use esker_tree::{
    Busy, EditRecord, JobId, Plan, PlanReason, Progress, RunId, Version, VersionEdit, pick_drop,
};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result, panic_message};
use crate::events::Event;
use crate::jobs::outputs::Work;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::{ReadView, WriteBuffer};
use crate::running::{JobKind, JobRecord};
use crate::scheduler::on_demand::OnDemand;

impl Engine {
    pub(crate) fn note_job(&self, keyspace: &KeyspaceCore, kind: JobKind, result: &Result<()>) {
        keyspace.note_outcome(kind, result, self.now());
        if let Err(error) = result {
            self.tell_poison();
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

    /// Makes `edit` durable and installs it for readers, without the memtables that it replaces.
    /// False if the keyspace was dropped: then the files of the edit are removed.
    pub(crate) fn install(
        &self,
        keyspace: &KeyspaceCore,
        edit: VersionEdit,
        flushed: &[Arc<WriteBuffer>],
    ) -> Result<bool> {
        let is_flushed =
            |buffer: &Arc<WriteBuffer>| flushed.iter().any(|flushed| Arc::ptr_eq(flushed, buffer));
        // Checked under the ledger's lock: a drop may have come first.
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
            if !esker_base::planted::is("failed-edit-leaves-its-tables") {
                self.garbage.doubt(tables_added(&edit).cloned());
            }
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

    /// Removes the tables of an edit that was not written because the keyspace was dropped.
    fn remove_tables_of(&self, edit: &VersionEdit) {
        self.remove_outputs(tables_added(edit).map(|table| &**table));
    }

    /// Removes the tables of failed edits, once the manifest is certain not to have them.
    pub(crate) fn remove_doubtful(&self) {
        // The tables first: an edit that fails in the meantime adds its own after these.
        let tables = self.garbage.take_doubtful();
        if tables.is_empty() {
            return;
        }
        match self.ledger.settle() {
            Ok(()) => self.remove_outputs(tables.iter().map(|table| &**table)),
            Err(_) => self.garbage.doubt(tables),
        }
    }

    /// Removes tables that were written but never installed, and their blob files.
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
        if self.takes_no_edits() {
            return;
        }
        let picked = {
            let mut busy = keyspace.busy();
            let version = Arc::clone(&keyspace.view().version);
            match self.due_plan(keyspace, &version, &busy) {
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
        // Another thread may find something that can run concurrently with this.
        self.scheduler.request_compaction(keyspace.id);
        let result = self.run_plan(keyspace, job, version, &plan, None);
        let gave_way = plan.reason == PlanReason::Idle
            && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed);
        if !self.scheduler.is_stopping() && !keyspace.is_dropped() && !gave_way {
            self.note_job(keyspace, JobKind::Compaction, &result);
        }
        self.scheduler.request_compaction(keyspace.id);
    }

    /// Called when there is nothing to compact. If nothing is in flight either (`is_idle`), what
    /// failed before is no longer needed, since it has been done otherwise; but a failed flush is,
    /// while its memtables wait.
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

    /// The next automatic plan that can begin beside those in flight.
    pub(crate) fn due_plan(
        &self,
        keyspace: &KeyspaceCore,
        version: &Version,
        busy: &Busy,
    ) -> Option<Plan> {
        let drop = self.pick_drop(keyspace, version, busy);
        drop.or_else(|| self.next_plan(keyspace, &version.shape(), busy))
    }

    /// The plan that drops tables covered by range tombstones, if compaction is automatic. Tables
    /// whose range tombstones cannot be read stay: the compaction that has to read them fails and
    /// reports it.
    pub(crate) fn pick_drop(
        &self,
        keyspace: &KeyspaceCore,
        version: &Version,
        busy: &Busy,
    ) -> Option<Plan> {
        keyspace.settings().policy.as_ref()?;
        pick_drop(version, busy, &self.readers().0).unwrap_or_default()
    }

    /// Carries out a plan for `version` that is registered as `job`, for `task` if it is on demand.
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
            let installed = written.copied().flatten();
            task.note_end(installed.map(|(_, written)| (plan, written)));
        }
        // No longer held, so that what the plan made obsolete can be removed, by this thread or by
        // one that waits for the end of the job.
        drop(version);
        keyspace.busy().finish(job);
        self.scheduler.unpark(keyspace.id);
        let installed = match result {
            // If the keyspace was dropped in the meantime, nobody else removes what the plan has
            // held.
            Ok(done) => done.inspect_err(|_| self.collect_garbage())?,
            Err(panic) => {
                self.poison_by_panic(&*panic);
                std::panic::resume_unwind(panic);
            }
        };
        self.update_pressure(keyspace);
        self.collect_garbage();
        let Some((bytes_read, bytes_written)) = installed else { return Ok(()) };
        let duration = self.now().saturating_sub(started);
        let name = keyspace.name().to_string();
        self.events.record(
            self.now(),
            Event::Compacted {
                keyspace: name,
                plan: keyspace.plan_text(plan),
                bytes_read,
                bytes_written,
                duration,
            },
        );
        Ok(())
    }

    /// Returns the bytes read and written, or `None` if the keyspace was dropped before the result
    /// could be installed. `version` is the one that the plan was made for: the keyspace's own is
    /// empty if it has been dropped since.
    fn execute(&self, keyspace: &Arc<KeyspaceCore>, work: Work<'_>) -> Result<Option<(u64, u64)>> {
        let Work { version, plan, .. } = work;
        let removed: Vec<_> = plan.tables().collect();
        let is_removed =
            |table: &&Arc<esker_table::Table>| removed.contains(&table.properties().id);
        let mut records: Vec<EditRecord> = removed
            .iter()
            .map(|table| EditRecord::TableRemoved { keyspace: keyspace.id, table: *table })
            .collect();
        if plan.is_drop {
            // The drop of a keyspace takes over its tables.
            if !self.install(keyspace, VersionEdit { records }, &[])? {
                return Ok(None);
            }
            self.garbage.add(version.tables().filter(is_removed));
            return Ok(Some((0, 0)));
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
            if !self.install(keyspace, VersionEdit { records }, &[])? {
                return Ok(None);
            }
            Counters::add(&self.counters.trivial_moves, plan.table_count() as u64);
            return Ok(Some((0, 0)));
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
            return Ok(None);
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
        Ok(Some((plan.input_bytes, bytes_written)))
    }

    pub(crate) fn poison_by_panic(&self, panic: &(dyn Any + Send)) {
        let message = panic_message(panic);
        let error = Error::new(
            ErrorKind::Poisoned,
            format!("a background task panicked: {message}; reopen the database"),
        );
        self.poison(&error);
    }
}

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
        inputs: keyspace.plan_text(plan),
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

pub(crate) fn added(
    keyspace: &KeyspaceCore,
    level: usize,
    run: RunId,
    properties: TableProperties,
) -> EditRecord {
    EditRecord::TableAdded { keyspace: keyspace.id, level, run, properties: Arc::new(properties) }
}
