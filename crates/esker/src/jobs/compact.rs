//! Compactions on demand: their steps, on the calling thread or on a background thread.
//!
//! A step picks one plan that can run concurrently with those in flight, and carries it out; the
//! first step also flushes. The plan comes from the keyspace's policy for compactions on demand.

use std::sync::Arc;

use esker_base::KeyRange;
use esker_tree::{Busy, LastLevel, Plan, RangeRequest, Version};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::events::Event;
use crate::jobs::outputs::{compression_of_last_level, with_compression};
use crate::keyspace_core::KeyspaceCore;
use crate::scheduler::on_demand::{CompactionEnd, OnDemand};

/// The result of a step.
enum Step {
    /// A plan was carried out; there may be more.
    Done,
    /// A plan in flight is in the way; `ended_count` plans of the keyspace had ended at that time.
    InTheWay { ended_count: u64 },
    /// Nothing is left to do.
    Last,
}

impl Engine {
    /// Compacts the tables that hold a key of `range`, on this thread.
    pub(crate) fn compact(&self, keyspace: &Arc<KeyspaceCore>, range: &KeyRange) -> Result<()> {
        let task = Arc::new(OnDemand::new(keyspace, range, false));
        let must_end = || self.is_closed() || keyspace.is_dropped();
        // Flushes, also while compactions are paused.
        self.request_of(&task)?;
        loop {
            self.hold_back(Some(&task), must_end);
            match self.step(&task, || ())? {
                Step::Done => {}
                Step::InTheWay { ended_count } => self.scheduler.wait_until(|| {
                    let has_changed = keyspace.busy().ended_count() != ended_count;
                    (has_changed || self.is_closed()).then_some(())
                }),
                Step::Last => return Ok(()),
            }
        }
    }

    /// Starts a compaction of the tables that hold a key of `range`, on background threads.
    pub(crate) fn start_compaction(
        &self,
        keyspace: &Arc<KeyspaceCore>,
        range: &KeyRange,
    ) -> Result<Arc<OnDemand>> {
        self.check_writable()?;
        keyspace.check_live()?;
        let task = Arc::new(OnDemand::new(keyspace, range, true));
        self.scheduler.request_on_demand(&task);
        Ok(task)
    }

    /// Does one step of a compaction started that way.
    pub(crate) fn on_demand_job(&self, task: &Arc<OnDemand>) {
        if !task.begin_step() {
            return;
        }
        let park = || {
            if task.end_step() {
                self.scheduler.park(task);
            }
        };
        match self.step(task, park) {
            Ok(Step::InTheWay { .. }) => {}
            Ok(Step::Done) => {
                if task.end_step() {
                    self.scheduler.request_on_demand(task);
                }
            }
            Ok(Step::Last) => task.end(Ok(CompactionEnd::Finished)),
            Err(error) => {
                let is_closing = self.scheduler.is_stopping() || self.is_closed();
                let is_end = error.kind() == ErrorKind::Closed;
                if task.is_cancelled() && is_end && !is_closing && !task.keyspace.is_dropped() {
                    task.end(Ok(CompactionEnd::Cancelled));
                } else {
                    if !is_end {
                        self.note_on_demand_failure(task, &error);
                    }
                    task.end(Err(error));
                }
            }
        }
        self.scheduler.wake();
    }

    fn note_on_demand_failure(&self, task: &OnDemand, error: &crate::error::Error) {
        Counters::add(&self.counters.job_failures, 1);
        let keyspace = Some(task.keyspace.name().to_string());
        let job = "compaction on demand";
        self.events.record(self.now(), Event::JobFailed { keyspace, job, error: error.clone() });
    }

    /// `park` is called if a plan in flight is in the way, before that can end.
    fn step(&self, task: &Arc<OnDemand>, park: impl FnOnce()) -> Result<Step> {
        let keyspace = &task.keyspace;
        let request = self.request_of(task)?;
        self.check_writable()?;
        keyspace.check_live()?;
        let settings = keyspace.settings();
        let mut busy = keyspace.busy();
        let version = Arc::clone(&keyspace.view().version);
        let shape = version.shape();
        let plan = settings.plan_range(&shape, &busy, request);
        let plan = plan.map(|plan| with_compression(&settings.options, plan, &shape));
        let plan = plan.or_else(|| settings.pick_blob_waste(&shape, &busy, self.wall()));
        task.expect(remaining(&version, request, plan.as_ref()));
        let Some(plan) = plan else {
            // Plans in flight may have nothing to do with the range, and may run for long.
            let idle = Busy::new();
            let is_left = || {
                settings.plan_range(&shape, &idle, request).is_some()
                    || settings.pick_blob_waste(&shape, &idle, self.wall()).is_some()
            };
            let waits_for_all = esker_base::planted::is("compaction-waits-for-other-keys");
            if !busy.is_empty() && (waits_for_all || is_left()) {
                park();
                return Ok(Step::InTheWay { ended_count: busy.ended_count() });
            }
            drop(busy);
            self.scheduler.request_compaction(keyspace.id);
            return Ok(Step::Last);
        };
        let job = busy.start(plan.clone());
        drop(busy);
        let result = self.run_plan(keyspace, job, version, &plan, Some(task));
        // However it ended: what its tables were in the way of has been looked for in vain.
        if !esker_base::planted::is("step-ends-without-a-request") {
            self.scheduler.request_compaction(keyspace.id);
        }
        result.map(|()| Step::Done)
    }

    /// The task's request to the policy, as of the first call, which flushes.
    fn request_of<'a>(&self, task: &'a OnDemand) -> Result<&'a RangeRequest> {
        if let Some(request) = task.request.get() {
            return Ok(request);
        }
        self.flush(&task.keyspace)?;
        let next_counter = self.ledger.next_counter()?;
        let settings = task.keyspace.settings();
        let has_code = settings.filter.is_some() || settings.merge.is_some();
        let last_level = if has_code {
            // Any table may hold entries for the filter to decide about, or operands.
            LastLevel::RewriteAll(next_counter)
        } else {
            LastLevel::RewriteTombstones(next_counter)
        };
        let (range, up_to) = (task.range.clone(), self.snapshots.visible());
        let expired_at = self.snapshots.readers().passed_millis;
        let compression = Some(compression_of_last_level(&settings.options));
        Ok(task.request.get_or_init(|| RangeRequest {
            range,
            up_to,
            last_level,
            expired_at,
            compression,
        }))
    }
}

/// Bytes and tables that are left: those of the next plan, and those of the range that have not
/// been rewritten since the request was made. Too high if the last level stays as it is, too low if
/// tables move down in several steps.
fn remaining(version: &Version, request: &RangeRequest, next: Option<&Plan>) -> (u64, usize) {
    let Some(next) = next else { return (0, 0) };
    let planned: Vec<_> = next.tables().collect();
    let made_before = |counter: u64| match request.last_level {
        LastLevel::Keep => true,
        LastLevel::RewriteTombstones(at) | LastLevel::RewriteAll(at) => counter < at,
    };
    let tables = version.tables().map(|table| table.properties());
    let left = tables.filter(|table| {
        !planned.contains(&table.id)
            && made_before(table.id.0.counter)
            && request.range.overlaps(&table.smallest_key, &table.largest_key)
    });
    let bytes = |(bytes, count), file_bytes| (bytes + file_bytes, count + 1);
    left.map(|table| table.file_bytes).fold((next.input_bytes, next.table_count()), bytes)
}
