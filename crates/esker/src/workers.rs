//! The threads that do the background work.
//!
//! The first thread only flushes (and serves the log), so that a flush never waits behind a
//! compaction. Without threads, [`Engine::run_background_job`] does the same jobs one at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use esker_base::KeyspaceId;
use esker_env::{IoError, JoinHandle};

use crate::engine::Engine;
use crate::keyspace_core::KeyspaceCore;
use crate::options::Options;
use crate::scheduler::{Duty, Job};

impl Engine {
    /// Starts the background threads.
    ///
    /// # Errors
    /// If the system gives no thread; those that were started end when the engine is stopped.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<Vec<JoinHandle>, IoError> {
        let count = self.options.background_threads;
        let duty_of = |index| match (index, count) {
            (0, 1) => Duty::Everything,
            (0, _) => Duty::Flushing,
            _ => Duty::Compacting,
        };
        (0..count)
            .map(|index| {
                let engine = Arc::clone(self);
                let duty = duty_of(index);
                let name = if index == 0 { "esker-flush" } else { "esker-compact" };
                self.env.threads.spawn(name, Box::new(move || engine.serve(duty)))
            })
            .collect()
    }

    fn serve(&self, duty: Duty) {
        while let Some(job) = self.next_job(duty) {
            self.run_job(job);
        }
    }

    /// Waits for a job; `None` once the engine is stopping.
    fn next_job(&self, duty: Duty) -> Option<Job> {
        let scheduler = &self.scheduler;
        let mut state = scheduler.state();
        loop {
            if scheduler.is_stopping() {
                return None;
            }
            let now = self.now();
            if let Some(job) = state.take(duty, |id| self.is_due(id, now)) {
                return Some(job);
            }
            let serves_log = duty != Duty::Compacting;
            let has_buffered = serves_log && self.has_buffered.load(Ordering::Relaxed);
            let limit = match self.next_retry(now) {
                _ if has_buffered => Some(Options::BUFFERED_INTERVAL),
                retry => retry,
            };
            let Some(limit) = limit else {
                state = scheduler.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let epoch = state.epoch;
            let (woken, timeout) = scheduler
                .changed
                .wait_timeout_while(state, limit, |state| state.epoch == epoch)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if has_buffered && timeout.timed_out() {
                drop(state);
                // A failure has poisoned the database, and every later write says so.
                drop(self.write_buffered());
                state = scheduler.state();
            }
        }
    }

    /// Whether the last failure of a job in this keyspace is long enough ago.
    fn is_due(&self, id: KeyspaceId, now: Duration) -> bool {
        let failure = self.keyspace(id).and_then(|keyspace| keyspace.failure());
        failure.is_none_or(|failure| failure.retry_at <= now)
    }

    /// How long until the next failed job is tried again.
    fn next_retry(&self, now: Duration) -> Option<Duration> {
        let failures = self.keyspaces().into_iter().filter_map(|keyspace| keyspace.failure());
        let waits = failures.map(|failure| failure.retry_at.saturating_sub(now));
        // Never zero: a job may be due and yet not be this thread's duty.
        waits.min().map(|wait| wait.max(Duration::from_millis(10)))
    }

    /// Does one background job, if there is one, on this thread.
    pub(crate) fn run_background_job(&self) -> bool {
        let now = self.now();
        let job = self.scheduler.state().take(Duty::Everything, |id| self.is_due(id, now));
        job.is_some_and(|job| {
            self.run_job(job);
            true
        })
    }

    /// Does one job. A panic in it poisons the database and ends nothing else.
    fn run_job(&self, job: Job) {
        let work = std::panic::AssertUnwindSafe(|| match job {
            Job::Flush(id) => self.with_keyspace(id, |keyspace| self.flush_job(keyspace)),
            Job::Compact(id) => self.with_keyspace(id, |keyspace| self.compaction_job(keyspace)),
            Job::PrepareLog => self.prepare_log_job(),
        });
        if let Err(panic) = std::panic::catch_unwind(work) {
            self.poison_by_panic(&*panic);
        }
        self.scheduler.wake();
    }

    fn with_keyspace(&self, id: KeyspaceId, work: impl FnOnce(&Arc<KeyspaceCore>)) {
        if let Some(keyspace) = self.keyspace(id) {
            work(&keyspace);
        }
    }
}
