//! What background work is wanted, and the threads that do it.
//!
//! The first thread only flushes (and serves the log), so that a flush never waits behind a
//! compaction. Threads wait on one condition variable and are woken by requests; nothing polls.
//! Without threads, [`Engine::run_background_job`] does the same jobs one at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_base::KeyspaceId;
use esker_env::{IoError, JoinHandle};

use crate::engine::Engine;
use crate::keyspace_core::KeyspaceCore;
use crate::options::Options;

/// Requests for background work.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Not held while working.
    state: Mutex<State>,
    /// Signalled on every request and every end of a job.
    changed: Condvar,
    /// Jobs look at it once for each block, so it is outside of `state`; written inside, so that no
    /// thread goes to sleep having missed it. Counter only.
    is_stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Keyspaces with immutable memtables, in the order of the requests.
    flushes: VecDeque<KeyspaceId>,
    /// Keyspaces whose tree may want a compaction.
    compactions: BTreeSet<KeyspaceId>,
    /// The keyspace that was served last: the next one gets its turn first.
    last_compacted: Option<KeyspaceId>,
    wants_log_segment: bool,
    /// Counts changes, so that a waiter can tell that there was one since it looked.
    epoch: u64,
}

/// What a thread takes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    Flush(KeyspaceId),
    Compact(KeyspaceId),
    PrepareLog,
}

/// Which jobs a thread takes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Duty {
    Flushing,
    Compacting,
    Everything,
}

impl Scheduler {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.epoch += 1;
        self.changed.notify_all();
    }

    pub(crate) fn request_flush(&self, keyspace: KeyspaceId) {
        self.change(|state| {
            if !state.flushes.contains(&keyspace) {
                state.flushes.push_back(keyspace);
            }
        });
    }

    pub(crate) fn request_compaction(&self, keyspace: KeyspaceId) {
        self.change(|state| {
            state.compactions.insert(keyspace);
        });
    }

    pub(crate) fn request_log_segment(&self) {
        self.change(|state| state.wants_log_segment = true);
    }

    /// Lets everybody who waits look again.
    pub(crate) fn wake(&self) {
        self.change(|_| ());
    }

    pub(crate) fn stop(&self) {
        self.change(|_| self.is_stopping.store(true, Ordering::Relaxed));
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Waits until `done` or until something changes often enough that it is; looks again after
    /// each change, and at least every `LOOK_AGAIN`.
    pub(crate) fn wait_until<T>(&self, mut done: impl FnMut() -> Option<T>) -> T {
        loop {
            let epoch = self.state().epoch;
            if let Some(result) = done() {
                return result;
            }
            let state = self.state();
            let unchanged = |state: &mut State| state.epoch == epoch;
            drop(self.changed.wait_timeout_while(state, LOOK_AGAIN, unchanged));
        }
    }
}

/// Longest wait of a thread that waits for others: bounds the harm of a lost wake-up.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl State {
    /// The most urgent job that `duty` covers: flushes first.
    fn take(&mut self, duty: Duty, is_due: impl Fn(KeyspaceId) -> bool) -> Option<Job> {
        if duty != Duty::Compacting {
            if std::mem::take(&mut self.wants_log_segment) {
                return Some(Job::PrepareLog);
            }
            if let Some(position) = self.flushes.iter().position(|id| is_due(*id)) {
                return self.flushes.remove(position).map(Job::Flush);
            }
        }
        if duty == Duty::Flushing {
            return None;
        }
        let after_last = |id: &KeyspaceId| self.last_compacted.is_some_and(|last| last < *id);
        let mut due = self.compactions.iter().copied().filter(|id| is_due(*id));
        let first = due.clone().next();
        let next = due.find(after_last).or(first)?;
        self.compactions.remove(&next);
        self.last_compacted = Some(next);
        Some(Job::Compact(next))
    }
}

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
