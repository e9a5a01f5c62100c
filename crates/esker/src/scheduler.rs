//! Requests for background work, and which of it comes first.
//!
//! Requests are kept here until a thread takes them; the threads, and what the requests mean, are
//! in `workers`. Waiters are woken by requests and by the ends of jobs; nothing polls.

pub(crate) mod on_demand;
pub(crate) mod shared_merge;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use esker_base::KeyspaceId;

use crate::error::Error;
use crate::running::JobKind;
use crate::scheduler::on_demand::OnDemand;
use crate::scheduler::shared_merge::SharedMerge;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Requests for background work.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Not held while working.
    state: Mutex<State>,
    /// Signalled on every request and every end of a job, but not on requests for the log.
    pub(crate) changed: Condvar,
    /// As `changed`, but also signalled on requests for the log: for the thread that serves the
    /// log. Writers make such requests, and waking a thread takes them as long as ten writes.
    pub(crate) log_changed: Condvar,
    /// Jobs check it at each block, so it is outside `state`; it is written under `state`, so that
    /// no thread can miss it and go to sleep. Counter only.
    is_stopping: AtomicBool,
    /// Jobs check it at each block; written under `state`, as `is_stopping`. Counter only.
    is_paused: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Keyspaces with immutable memtables, in the order of the requests.
    flushes: VecDeque<KeyspaceId>,
    /// Keyspaces whose tree may need a compaction.
    compactions: BTreeSet<KeyspaceId>,
    /// The keyspace that was served last: the next one is served first.
    last_compacted: Option<KeyspaceId>,
    /// Compactions on demand, in the order in which they get their turns.
    on_demand: VecDeque<Arc<OnDemand>>,
    /// Compactions on demand that wait for another compaction of their keyspace to end.
    parked: Vec<Arc<OnDemand>>,
    /// No thread takes compactions on demand any more.
    has_ended_on_demand: bool,
    /// Merges with parts that other threads may take.
    parts: Vec<Arc<SharedMerge>>,
    wants_log: bool,
    /// Whether blocks are to be loaded into the cache.
    wants_warming: bool,
    /// Whether compactions are paused.
    is_paused: bool,
    /// Jobs that were taken and have not ended, including the clean-up after them.
    running: usize,
    /// Threads that were or are about to be started, and have not ended.
    workers: usize,
    /// The last handle was dropped without waiting for the threads.
    is_left_to_workers: bool,
    /// Counts changes, so that a waiter can tell whether there was one since it last looked.
    pub(crate) epoch: u64,
}

/// A job for a thread.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Flush(KeyspaceId),
    Compact(KeyspaceId),
    /// One step of it.
    OnDemand(Arc<OnDemand>),
    /// One part of it.
    Part(Arc<SharedMerge>),
    PrepareLog,
    /// One step of loading blocks into the cache.
    Warm,
    /// Check for work that time alone has made due.
    LookAtTime,
    /// Hand waiting frames to the system, and mark the log if it has ended at `mark` for a while.
    TendLog {
        mark: Option<u64>,
    },
}

/// Which jobs a thread takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Duty {
    Flushing,
    Compacting,
    Everything,
}

impl Scheduler {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.epoch += 1;
        if !esker_base::planted::is("workers-not-woken") {
            self.changed.notify_all();
            self.log_changed.notify_all();
        }
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

    /// Whether a compaction of `keyspace` is requested, and nobody has taken it yet.
    pub(crate) fn wants_compaction(&self, keyspace: KeyspaceId) -> bool {
        self.state().compactions.contains(&keyspace)
    }

    /// Queues `task`: it gets its turn after those queued before it. After
    /// [`Scheduler::end_on_demand`], it ends at once.
    pub(crate) fn request_on_demand(&self, task: &Arc<OnDemand>) {
        self.change(|state| {
            if !state.ends_at_once(task) {
                state.on_demand.push_back(Arc::clone(task));
            }
        });
    }

    /// Lets other threads take parts of `merge`.
    pub(crate) fn request_parts(&self, merge: &Arc<SharedMerge>) {
        self.change(|state| state.parts.push(Arc::clone(merge)));
    }

    /// Makes `task` wait for another compaction of its keyspace to end. The caller ensures that
    /// this end is still to come. After [`Scheduler::end_on_demand`], `task` ends at once.
    pub(crate) fn park(&self, task: &Arc<OnDemand>) {
        self.change(|state| {
            if !state.ends_at_once(task) {
                state.parked.push(Arc::clone(task));
            }
        });
    }

    /// Ends all waiting compactions on demand, and from now on every one that would have to wait:
    /// the database is closed, and no thread takes them any more.
    pub(crate) fn end_on_demand(&self) {
        self.change(|state| {
            state.has_ended_on_demand = true;
            let waiting = state.on_demand.drain(..).chain(state.parked.drain(..));
            waiting.for_each(|task| task.end(Err(Error::closed())));
        });
    }

    /// Notes that a compaction of `keyspace` has ended: those parked for it are queued again.
    pub(crate) fn unpark(&self, keyspace: KeyspaceId) {
        self.change(|state| {
            let freed = state.parked.extract_if(.., |task| task.keyspace.id == keyspace);
            state.on_demand.extend(freed);
        });
    }

    /// Whether a compaction on demand is waiting, and not because it is paused.
    pub(crate) fn wants_on_demand(&self) -> bool {
        let state = self.state();
        let mut waiting = state.on_demand.iter().chain(&state.parked);
        !state.is_paused && waiting.any(|task| !task.is_paused() && !task.has_ended())
    }

    /// Requests preparation of what writers need next from the log.
    pub(crate) fn request_log(&self) {
        let mut state = self.state();
        state.wants_log = true;
        state.epoch += 1;
        if !esker_base::planted::is("workers-not-woken") {
            self.log_changed.notify_all();
        }
    }

    /// Requests that blocks be loaded into the cache, once there is nothing else to do.
    pub(crate) fn request_warming(&self) {
        self.change(|state| state.wants_warming = true);
    }

    /// Whether blocks are to be loaded into the cache.
    pub(crate) fn wants_warming(&self) -> bool {
        self.state().wants_warming
    }

    /// Notes that a job that was taken has ended.
    pub(crate) fn note_end(&self) {
        self.change(|state| state.running -= 1);
    }

    /// The epoch, if no job is running. As long as this result stays the same, none has run in
    /// between.
    pub(crate) fn idle_epoch(&self) -> Option<u64> {
        let state = self.state();
        (state.running == 0).then_some(state.epoch)
    }

    /// Wakes all waiters to check again.
    pub(crate) fn wake(&self) {
        self.change(|_| ());
    }

    pub(crate) fn stop(&self) {
        self.change(|_| self.is_stopping.store(true, Ordering::Relaxed));
    }

    /// As [`Scheduler::stop`], if nobody waits for the threads: the last of them to end does what
    /// is then left to do.
    pub(crate) fn leave_to_workers(&self) {
        self.change(|state| {
            state.is_left_to_workers = true;
            self.is_stopping.store(true, Ordering::Relaxed);
        });
    }

    /// Notes that a thread is about to be started.
    pub(crate) fn note_worker(&self) {
        self.state().workers += 1;
    }

    /// Notes that a thread has ended, or could not be started. Returns whether it was the last, and
    /// the rest is left to it.
    pub(crate) fn note_worker_end(&self) -> bool {
        let mut state = self.state();
        state.workers -= 1;
        state.workers == 0 && state.is_left_to_workers
    }

    /// Pauses compactions, running ones included, until called with `false`.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.change(|state| {
            state.is_paused = is_paused;
            self.is_paused.store(is_paused, Ordering::Relaxed);
        });
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Waits until `done` returns a value; checks after each change, and at least every
    /// `LOOK_AGAIN`.
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

/// Longest wait of a thread without checking: bounds the harm of a lost wake-up.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl State {
    /// Ends `task` if no thread would take it any more.
    fn ends_at_once(&self, task: &OnDemand) -> bool {
        if self.has_ended_on_demand {
            task.end(Err(Error::closed()));
        }
        self.has_ended_on_demand
    }

    /// Takes the most urgent job that `duty` covers: flushes first; then automatic compactions;
    /// then parts of running merges; then compactions on demand; last, loading the cache. It counts
    /// as running until [`Scheduler::note_end`].
    pub(crate) fn take(
        &mut self,
        duty: Duty,
        is_due: impl Fn(JobKind, KeyspaceId) -> bool,
    ) -> Option<Job> {
        let job = self.most_urgent(duty, is_due).or_else(|| self.next_part(duty));
        let job = job.or_else(|| self.next_on_demand(duty)).or_else(|| self.next_warming(duty))?;
        Some(self.begin(job))
    }

    /// Counts `job` as running until [`Scheduler::note_end`].
    pub(crate) fn begin(&mut self, job: Job) -> Job {
        self.running += 1;
        job
    }

    /// As [`State::take`], but without parts, compactions on demand and loading of the cache.
    pub(crate) fn take_automatic(
        &mut self,
        duty: Duty,
        is_due: impl Fn(JobKind, KeyspaceId) -> bool,
    ) -> Option<Job> {
        let job = self.most_urgent(duty, is_due)?;
        Some(self.begin(job))
    }

    /// Takes the job for the log, if there is one. It counts as running, as in [`State::take`].
    pub(crate) fn take_log(&mut self) -> Option<Job> {
        let job = std::mem::take(&mut self.wants_log).then_some(Job::PrepareLog);
        self.running += usize::from(job.is_some());
        job
    }

    fn next_part(&mut self, duty: Duty) -> Option<Job> {
        self.parts.retain(|merge| merge.has_more());
        if duty == Duty::Flushing || self.is_paused {
            return None;
        }
        let is_paused = |task: &OnDemand| task.is_paused();
        let mut merges = self.parts.iter();
        let merge = merges.find(|merge| !merge.task.as_deref().is_some_and(is_paused));
        merge.cloned().map(Job::Part)
    }

    fn next_on_demand(&mut self, duty: Duty) -> Option<Job> {
        self.on_demand.retain(|task| !task.has_ended());
        if duty == Duty::Flushing || self.is_paused {
            return None;
        }
        let position = self.on_demand.iter().position(|task| !task.is_paused())?;
        self.on_demand.remove(position).map(Job::OnDemand)
    }

    fn next_warming(&mut self, duty: Duty) -> Option<Job> {
        (duty != Duty::Flushing && std::mem::take(&mut self.wants_warming)).then_some(Job::Warm)
    }

    fn most_urgent(
        &mut self,
        duty: Duty,
        is_due: impl Fn(JobKind, KeyspaceId) -> bool,
    ) -> Option<Job> {
        if duty != Duty::Compacting {
            if std::mem::take(&mut self.wants_log) {
                return Some(Job::PrepareLog);
            }
            // A failed compaction must not hold up flushes, which writers wait for.
            let waits = esker_base::planted::is("flush-waits-for-compactions");
            let is_flush_due = |id: &KeyspaceId| {
                is_due(JobKind::Flush, *id) && (!waits || is_due(JobKind::Compaction, *id))
            };
            if let Some(position) = self.flushes.iter().position(is_flush_due) {
                return self.flushes.remove(position).map(Job::Flush);
            }
        }
        if duty == Duty::Flushing || self.is_paused {
            return None;
        }
        let after_last = |id: &KeyspaceId| self.last_compacted.is_some_and(|last| last < *id);
        let is_compaction_due = |id: &KeyspaceId| is_due(JobKind::Compaction, *id);
        let mut due = self.compactions.iter().copied().filter(is_compaction_due);
        let first = due.clone().next();
        let next = due.find(after_last).or(first)?;
        self.compactions.remove(&next);
        self.last_compacted = Some(next);
        Some(Job::Compact(next))
    }
}
