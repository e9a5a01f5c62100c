//! The threads that do the background work.
//!
//! The first thread only flushes (and serves the log), so that a flush never waits behind a
//! compaction; if there is only one thread, it does everything, and flushes between two blocks of a
//! compaction. Without threads, [`Engine::run_background_job`] does the same jobs one at a time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use esker_base::KeyspaceId;
use esker_env::{IoError, JoinHandle};

use crate::engine::Engine;
use crate::error::Error;
use crate::jobs::worker::Worker;
use crate::keyspace_core::KeyspaceCore;
use crate::logs::watch::LogWatch;
use crate::running::JobKind;
use crate::scheduler::on_demand::OnDemand;
use crate::scheduler::{Duty, Job};
use crate::sync::atomic::Ordering;

impl Engine {
    /// Starts the background threads, and passes each to `keep`. A read-only open has at most one,
    /// which loads blocks into the cache.
    ///
    /// # Errors
    /// If a thread cannot be started; those already started end when the engine is stopped.
    pub(crate) fn start_threads(
        self: &Arc<Self>,
        mut keep: impl FnMut(JoinHandle),
    ) -> Result<(), IoError> {
        let count = match self.is_read_only {
            false => self.options.background_threads,
            true => {
                self.options.background_threads.min(usize::from(self.scheduler.wants_warming()))
            }
        };
        let duty_of = |index| match (index, count) {
            _ if self.is_read_only => Duty::Compacting,
            (0, 1) => Duty::Everything,
            (0, _) => Duty::Flushing,
            _ => Duty::Compacting,
        };
        (0..count).try_for_each(|index| {
            let worker = Worker::new(self);
            let duty = duty_of(index);
            let name = if duty == Duty::Compacting { "esker-compact" } else { "esker-flush" };
            keep(self.env.threads.spawn(name, Box::new(move || worker.begin().serve(duty)))?);
            Ok(())
        })
    }

    fn serve(&self, duty: Duty) {
        let mut watch = LogWatch::default();
        while let Some(job) = self.next_job(duty, &mut watch) {
            self.run_job(job);
        }
    }

    /// Waits for a job; `None` once the engine is stopping. Serves the log in the meantime.
    fn next_job(&self, duty: Duty, watch: &mut LogWatch) -> Option<Job> {
        let scheduler = &self.scheduler;
        let mut state = scheduler.state();
        loop {
            if scheduler.is_stopping() {
                return None;
            }
            let now = self.now();
            let looks = duty != Duty::Compacting;
            if looks && self.looks_between_jobs(now) {
                return Some(state.begin(Job::LookAtTime));
            }
            if let Some(job) = state.take(duty, |kind, id| self.is_due(kind, id, now)) {
                return Some(job);
            }
            let log_due = match duty {
                // On behalf of the thread that serves the log, which may be waiting for the device.
                Duty::Compacting => self.buffered_due().map(|due| due.max(now)),
                Duty::Flushing | Duty::Everything => watch.look(self.state_of_log(), now),
            };
            let until_look = self.next_look(now).filter(|_| looks);
            if until_look == Some(Duration::ZERO) {
                return Some(state.begin(Job::LookAtTime));
            }
            if log_due == Some(now) {
                return Some(state.begin(Job::TendLog { mark: watch.take(now) }));
            }
            let until_log = log_due.map(|due| due - now);
            let limits = [self.next_retry(duty, now), until_log, until_look];
            let limit = limits.into_iter().flatten().min();
            let changed = if looks { &scheduler.log_changed } else { &scheduler.changed };
            let Some(limit) = limit else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let epoch = state.epoch;
            let (woken, _) = changed
                .wait_timeout_while(state, limit, |state| state.epoch == epoch)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
        }
    }

    /// Whether the last failure of such a job in this keyspace is long enough ago.
    fn is_due(&self, kind: JobKind, id: KeyspaceId, now: Duration) -> bool {
        let failure = self.keyspace(id).and_then(|keyspace| keyspace.failure(kind));
        failure.is_none_or(|failure| failure.retry_at <= now)
    }

    /// How long until the next failed job that `duty` covers is tried again. One that is already
    /// due but was not taken is no longer needed, or paused: whatever changes that wakes the
    /// thread.
    fn next_retry(&self, duty: Duty, now: Duration) -> Option<Duration> {
        let kinds: &[JobKind] = match duty {
            Duty::Flushing => &[JobKind::Flush],
            Duty::Compacting => &[JobKind::Compaction],
            Duty::Everything => &[JobKind::Flush, JobKind::Compaction],
        };
        let keyspaces = self.keyspaces();
        let failures = keyspaces.iter().flat_map(|keyspace| {
            kinds.iter().filter_map(|kind| keyspace.failure(*kind).map(|failure| failure.retry_at))
        });
        failures.filter(|retry_at| now < *retry_at).min().map(|retry_at| retry_at - now)
    }

    /// Does one background job, if there is one, on this thread.
    pub(crate) fn run_background_job(&self) -> bool {
        if self.scheduler.is_stopping() && !esker_base::planted::is("closed-database-has-jobs") {
            // Of what a closed database still has to do, nothing can be done.
            return false;
        }
        self.write_overdue();
        self.look_at_time();
        let now = self.now();
        let is_due = |kind, id| self.is_due(kind, id, now);
        let job = self.scheduler.state().take(Duty::Everything, is_due);
        job.is_some_and(|job| {
            self.run_job(job);
            true
        })
    }

    /// Called by a running flush at each block: prepares what the log needs next, if requested.
    /// After the flush it would be too late, and writers would have to do it.
    pub(crate) fn serve_log(&self) {
        let job = self.scheduler.state().take_log();
        if let Some(job) = job {
            self.run_job(job);
        }
    }

    /// Does one job. A panic in it poisons the database, and ends the compaction on demand that it
    /// was part of, but nothing else.
    fn run_job(&self, job: Job) {
        let task = match &job {
            Job::OnDemand(task) => Some(Arc::clone(task)),
            _ => None,
        };
        let work = std::panic::AssertUnwindSafe(|| match job {
            Job::Flush(id) => self.with_keyspace(id, |keyspace| self.flush_job(keyspace)),
            Job::Compact(id) => self.with_keyspace(id, |keyspace| self.compaction_job(keyspace)),
            Job::OnDemand(task) => self.on_demand_job(&task),
            Job::Part(merge) => drop(self.merge_next_part(&merge)),
            Job::PrepareLog => self.prepare_log_job(),
            Job::Warm => self.warm_job(),
            Job::LookAtTime => self.look_at_time(),
            Job::TendLog { mark } => self.tend_log(mark),
        });
        if let Err(panic) = std::panic::catch_unwind(work) {
            self.poison_by_panic(&*panic);
            if let Some((task, cause)) = task.zip(self.poison_cause()) {
                task.end(Err(Error::poisoned(cause)));
            }
        }
        self.scheduler.note_end();
    }

    /// Called by a running compaction at about each block: returns when it may go on, or when it
    /// `must_end`. A compaction on demand waits while it is paused, and until its thread has done
    /// the automatic compactions that it would have taken. If there is only one thread, it flushes
    /// here.
    pub(crate) fn hold_back(&self, task: Option<&OnDemand>, must_end: impl Fn() -> bool) {
        let rests = || self.scheduler.is_paused() || task.is_some_and(|task| self.rests(task));
        let duty = self.duty_beside(task);
        if !task.is_some_and(|task| task.is_queued) && !rests() {
            while duty.is_some_and(|duty| self.take_beside(duty)) && !must_end() {}
            return;
        }
        self.scheduler.wait_until(|| {
            while !must_end() && self.serve_beside(duty) {}
            (!rests() || must_end()).then_some(())
        });
    }

    /// Waits until `has_ended`, which other threads bring about. In the meantime, this thread does
    /// what it would do during a compaction.
    pub(crate) fn serve_until(&self, task: Option<&OnDemand>, has_ended: impl Fn() -> bool) {
        let duty = self.duty_beside(task);
        self.scheduler.wait_until(|| {
            while !has_ended() && self.serve_beside(duty) {}
            has_ended().then_some(())
        });
    }

    /// How many threads may take parts of one compaction, including the one that runs it: the
    /// compaction threads, and a caller that runs its compaction itself.
    pub(crate) fn threads_for(&self, task: Option<&OnDemand>) -> usize {
        let compacting = self.options.background_threads.saturating_sub(1);
        compacting + usize::from(task.is_some_and(|task| !task.is_queued))
    }

    /// Called by a job that loads blocks, before each of them: if there is only one thread, it
    /// flushes here.
    pub(crate) fn flush_beside(&self) {
        if let Some(duty) = self.duty_beside(None) {
            while self.take_beside(duty) && !self.scheduler.is_stopping() {}
        }
    }

    /// Whether `task` is paused now. Without background threads, a step is always finished.
    fn rests(&self, task: &OnDemand) -> bool {
        task.is_paused() && 0 < self.options.background_threads
    }

    /// What the thread of a running compaction has to look after during it.
    fn duty_beside(&self, task: Option<&OnDemand>) -> Option<Duty> {
        match (self.options.background_threads, task) {
            (0, _) => None,
            (1, None) if esker_base::planted::is("flush-waits-for-the-compaction") => None,
            (1, None) => Some(Duty::Flushing),
            (1, Some(task)) => task.is_queued.then_some(Duty::Everything),
            (_, task) => task.filter(|task| task.is_queued).map(|_| Duty::Compacting),
        }
    }

    /// Does one automatic job, if there is one for `duty`.
    fn serve_beside(&self, duty: Option<Duty>) -> bool {
        let Some(duty) = duty else { return false };
        if duty != Duty::Compacting && self.waits_for_the_log() {
            // A failure has poisoned the database, and every later write says so.
            drop(self.write_buffered());
        }
        self.take_beside(duty)
    }

    fn take_beside(&self, duty: Duty) -> bool {
        let now = self.now();
        if duty != Duty::Compacting {
            if self.looks_between_jobs(now) {
                self.look_at_time();
            }
            self.tend_log_beside(now);
        }
        let is_due = |kind, id| self.is_due(kind, id, now);
        let job = self.scheduler.state().take_automatic(duty, is_due);
        job.is_some_and(|job| {
            self.run_job(job);
            true
        })
    }

    /// Does what the thread that serves the log would do now if it waited for jobs.
    fn tend_log_beside(&self, now: Duration) {
        if !self.has_unmarked.load(Ordering::Relaxed)
            || esker_base::planted::is("log-waits-for-the-compaction")
        {
            return;
        }
        let mut watch = self.watch_beside.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = match watch.look(self.state_of_log(), now) {
            Some(due) if due <= now => watch.take(now),
            _ => return,
        };
        drop(watch);
        self.tend_log(mark);
    }

    /// Hands waiting frames to the system, and marks the log if it still ends at `mark`. A failure
    /// poisons the database, and every later write reports it.
    fn tend_log(&self, mark: Option<u64>) {
        drop(self.write_buffered());
        if let Some(position) = mark {
            drop(self.mark_log(position));
        }
    }

    fn with_keyspace(&self, id: KeyspaceId, work: impl FnOnce(&Arc<KeyspaceCore>)) {
        if let Some(keyspace) = self.keyspace(id) {
            work(&keyspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_env::{Env, Fault, FaultFileSystem, ManualClock, Operation, Rule};

    use super::*;
    use crate::db::Db;
    use crate::options::{Durability, Options};

    /// A database without threads, and its clock.
    fn machine(fs: impl FnOnce(&Env) -> Env) -> (Db, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_000)));
        let env = fs(&Env { clock: clock.clone(), ..Env::memory(1) });
        let options = Options { background_threads: 0, ..Options::default() };
        (Db::builder("db").env(env).options(options).open().unwrap(), clock)
    }

    /// A thread that always found something to flush never looked.
    #[test]
    fn a_thread_with_flushes_all_the_time_does_what_time_has_made_due() {
        let (db, clock) = machine(Env::clone);
        let engine = db.default_keyspace().handle().engine();
        engine.look_at_time();
        clock.advance(Duration::from_secs(60));
        let mut watch = LogWatch::default();
        let has_looked = (0..10).any(|_| {
            engine.scheduler.request_flush(KeyspaceId::DEFAULT);
            let job = engine.next_job(Duty::Flushing, &mut watch);
            engine.scheduler.note_end();
            matches!(job, Some(Job::LookAtTime))
        });
        assert!(has_looked);
    }

    /// The only thread did not look during a compaction.
    #[test]
    fn the_thread_of_a_compaction_does_what_time_has_made_due_if_it_is_the_only_one() {
        let (db, clock) = machine(Env::clone);
        let engine = db.default_keyspace().handle().engine();
        let take = |duty| engine.scheduler.state().take(duty, |_, _| true);
        engine.look_at_time();
        while take(Duty::Everything).is_some() {}
        clock.advance(Duration::from_secs(60));
        while engine.take_beside(Duty::Compacting) {}
        assert!(take(Duty::Compacting).is_none(), "another thread looks");
        while engine.take_beside(Duty::Flushing) {}
        assert!(matches!(take(Duty::Compacting), Some(Job::Compact(_))));
    }

    /// Ten times a second until the close, the write that had failed was tried again.
    #[test]
    fn a_log_that_takes_nothing_more_is_left_alone() {
        let mut faults = None;
        let (db, clock) = machine(|env| {
            let failing = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
            faults = Some(failing.clone());
            Env { fs: Arc::new(failing), ..env.clone() }
        });
        let engine = db.default_keyspace().handle().engine();
        db.put_with("key", "value", Durability::Buffered).unwrap();
        let mut watch = LogWatch::default();
        assert!(watch.look(engine.state_of_log(), engine.now()).is_some());
        let fault = Rule::new(Fault::Error(5)).on(&[Operation::Write]).path("*.log");
        faults.unwrap().add(fault);
        clock.advance(Options::BUFFERED_INTERVAL);
        assert_eq!(watch.look(engine.state_of_log(), engine.now()), Some(engine.now()));
        engine.tend_log(None);
        assert_eq!(watch.look(engine.state_of_log(), engine.now()), None);
    }

    /// Each look at the log beside a compaction that was paused tried the write again, which woke who looks.
    #[test]
    fn a_log_that_takes_nothing_more_wakes_nobody_beside_a_compaction() {
        let mut faults = None;
        let (db, _clock) = machine(|env| {
            let failing = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
            faults = Some(failing.clone());
            Env { fs: Arc::new(failing), ..env.clone() }
        });
        let engine = db.default_keyspace().handle().engine();
        db.put_with("key", "value", Durability::Buffered).unwrap();
        let fault = Rule::new(Fault::Error(5)).on(&[Operation::Write]).path("*.log");
        faults.unwrap().add(fault);
        engine.serve_beside(Some(Duty::Flushing));
        assert!(engine.poison_cause().is_some());
        let epoch = engine.scheduler.state().epoch;
        engine.serve_beside(Some(Duty::Flushing));
        assert_eq!(engine.scheduler.state().epoch, epoch);
    }

    /// A job of another thread that had failed and was due woke this one every ten milliseconds: for
    /// as long as a disk was full.
    #[test]
    fn a_thread_wakes_for_failed_jobs_of_its_own_and_while_they_are_not_due() {
        let db = Db::in_memory().unwrap();
        let engine = db.default_keyspace().handle().engine();
        let failed = Err(Error::invalid_input("test"));
        let (now, keyspace) = (engine.now(), db.default_keyspace());
        keyspace.core().note_outcome(JobKind::Compaction, &failed, now);
        let wait = Duration::from_millis(200);
        let next = |duty, now| engine.next_retry(duty, now);
        assert_eq!(next(Duty::Flushing, now), None);
        assert_eq!(next(Duty::Compacting, now), Some(wait));
        assert_eq!(next(Duty::Everything, now), Some(wait));
        assert_eq!(next(Duty::Compacting, now + wait), None);
        keyspace.core().note_outcome(JobKind::Flush, &failed, now);
        assert_eq!(next(Duty::Flushing, now), Some(wait));
        assert_eq!(next(Duty::Flushing, now + wait), None);
    }
}
