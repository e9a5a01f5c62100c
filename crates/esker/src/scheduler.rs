//! What background work is wanted, and which of it comes first.
//!
//! Requests are kept here until somebody takes them; who takes them, and what they mean, is in
//! `workers`. Waiters are woken by requests and by the ends of jobs; nothing polls.

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
    /// As `changed`, and on requests for the log: for the thread that serves it. Writers make such a
    /// request, and to wake a thread takes them as long as ten writes.
    pub(crate) log_changed: Condvar,
    /// Jobs look at it once for each block, so it is outside of `state`; written inside, so that no
    /// thread goes to sleep having missed it. Counter only.
    is_stopping: AtomicBool,
    /// Jobs look at it once for each block; written inside of `state`, as `is_stopping`. Counter only.
    is_paused: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Keyspaces with immutable memtables, in the order of the requests.
    flushes: VecDeque<KeyspaceId>,
    /// Keyspaces whose tree may want a compaction.
    compactions: BTreeSet<KeyspaceId>,
    /// The keyspace that was served last: the next one gets its turn first.
    last_compacted: Option<KeyspaceId>,
    /// Compactions that were asked for, in the order of their turns.
    on_demand: VecDeque<Arc<OnDemand>>,
    /// Those that wait for another compaction of their keyspace to end.
    parked: Vec<Arc<OnDemand>>,
    /// Nobody takes what was asked for any more.
    is_over: bool,
    /// Merges with parts that other threads may take.
    parts: Vec<Arc<SharedMerge>>,
    wants_log: bool,
    /// Blocks are to be loaded into the cache.
    wants_warming: bool,
    /// No compaction is begun.
    is_paused: bool,
    /// Jobs that were taken and have not ended, the clearing up after them included.
    running: usize,
    /// Threads that were started, or are about to be, and have not ended.
    workers: usize,
    /// Whoever dropped the last handle did not wait for them.
    is_left_to_workers: bool,
    /// Counts changes, so that a waiter can tell that there was one since it looked.
    pub(crate) epoch: u64,
}

/// What a thread takes on.
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
    /// Asks for what time alone has made due.
    LookAtTime,
    /// Hands waiting frames to the system, and marks a log that has ended at `mark` for a while.
    TendLog {
        mark: Option<u64>,
    },
}

/// Which jobs a thread takes on.
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

    /// `task` has its turn once those that asked before have had theirs; after
    /// [`Scheduler::end_on_demand`] it ends at once.
    pub(crate) fn request_on_demand(&self, task: &Arc<OnDemand>) {
        self.change(|state| {
            if !state.ends_at_once(task) {
                state.on_demand.push_back(Arc::clone(task));
            }
        });
    }

    /// Other threads may take parts of `merge`.
    pub(crate) fn request_parts(&self, merge: &Arc<SharedMerge>) {
        self.change(|state| state.parts.push(Arc::clone(merge)));
    }

    /// `task` waits for the end of another compaction of its keyspace. The caller makes sure that the
    /// end is still to come. After [`Scheduler::end_on_demand`] it ends at once.
    pub(crate) fn park(&self, task: &Arc<OnDemand>) {
        self.change(|state| {
            if !state.ends_at_once(task) {
                state.parked.push(Arc::clone(task));
            }
        });
    }

    /// Ends the compactions that were asked for and wait, and from here on whichever would: the
    /// database is closed, and no thread takes them any more.
    pub(crate) fn end_on_demand(&self) {
        self.change(|state| {
            state.is_over = true;
            let waiting = state.on_demand.drain(..).chain(state.parked.drain(..));
            waiting.for_each(|task| task.end(Err(Error::closed())));
        });
    }

    /// A compaction of `keyspace` has ended.
    pub(crate) fn unpark(&self, keyspace: KeyspaceId) {
        self.change(|state| {
            let freed = state.parked.extract_if(.., |task| task.keyspace.id == keyspace);
            state.on_demand.extend(freed);
        });
    }

    /// Whether a compaction that was asked for waits, and not because somebody paused it.
    pub(crate) fn wants_on_demand(&self) -> bool {
        let state = self.state();
        let mut waiting = state.on_demand.iter().chain(&state.parked);
        !state.is_paused && waiting.any(|task| !task.is_paused() && !task.has_ended())
    }

    /// The log is to ready what writers need next.
    pub(crate) fn request_log(&self) {
        let mut state = self.state();
        state.wants_log = true;
        state.epoch += 1;
        if !esker_base::planted::is("workers-not-woken") {
            self.log_changed.notify_all();
        }
    }

    /// Blocks are to be loaded into the cache, once nothing else is to be done.
    pub(crate) fn request_warming(&self) {
        self.change(|state| state.wants_warming = true);
    }

    /// Whether blocks are to be loaded into the cache.
    pub(crate) fn wants_warming(&self) -> bool {
        self.state().wants_warming
    }

    /// A job that was taken has ended.
    pub(crate) fn note_end(&self) {
        self.change(|state| state.running -= 1);
    }

    /// While it stays the same, no job is running, and none has ended; `None` if one runs.
    pub(crate) fn idle_epoch(&self) -> Option<u64> {
        let state = self.state();
        (state.running == 0).then_some(state.epoch)
    }

    /// Lets everybody who waits look again.
    pub(crate) fn wake(&self) {
        self.change(|_| ());
    }

    pub(crate) fn stop(&self) {
        self.change(|_| self.is_stopping.store(true, Ordering::Relaxed));
    }

    /// As [`Scheduler::stop`], where nobody waits for the threads: the last of them is to do what is
    /// left to do then.
    pub(crate) fn leave_to_workers(&self) {
        self.change(|state| {
            state.is_left_to_workers = true;
            self.is_stopping.store(true, Ordering::Relaxed);
        });
    }

    /// A thread is about to be started.
    pub(crate) fn note_worker(&self) {
        self.state().workers += 1;
    }

    /// A thread has ended, or could not be started. Whether it was the last, and all is left to it.
    pub(crate) fn note_worker_end(&self) -> bool {
        let mut state = self.state();
        state.workers -= 1;
        state.workers == 0 && state.is_left_to_workers
    }

    /// Begins no compaction, and lets those that run wait, until it is called with `false`.
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
    /// Ends `task` if nobody would take it any more.
    fn ends_at_once(&self, task: &OnDemand) -> bool {
        if self.is_over {
            task.end(Err(Error::closed()));
        }
        self.is_over
    }

    /// The most urgent job that `duty` covers: flushes first, parts of what is under way once nothing
    /// else is automatic, then what somebody asked for, and the cache last. It counts as running until
    /// [`Scheduler::note_end`].
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

    /// As [`State::take`], but for what somebody asked for.
    pub(crate) fn take_automatic(
        &mut self,
        duty: Duty,
        is_due: impl Fn(JobKind, KeyspaceId) -> bool,
    ) -> Option<Job> {
        let job = self.most_urgent(duty, is_due)?;
        Some(self.begin(job))
    }

    /// The job for the log, if there is one. It counts as running, as in [`State::take`].
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
            // A compaction that failed holds up no flush, which writers wait for.
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
