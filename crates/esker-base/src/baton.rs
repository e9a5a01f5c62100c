//! A deterministic scheduler of real threads: one runs at a time, and a seed picks the next.
//!
//! The thread that holds the baton runs, and may have to pass it on at each *step*: before it takes
//! a lock, waits, notifies, reads or writes an atomic with an ordering other than `Relaxed`, starts
//! or joins a thread, reads the time, or calls [`step`] itself, as the file systems of tests do.
//! Which thread goes on depends only on the seed, so a run is reproduced by its seed, and runs of
//! the same code with the same seed have the same [`Outcome::hash`].
//!
//! Time is virtual. It stands still while threads run, and jumps to the next timeout when all of
//! them wait; occasionally it jumps early, as it would for a thread that was not given a processor.
//! If all threads wait, and none of them with a timeout, somebody was not woken: the run has
//! failed, and reports who waits where. A panic that escapes a thread is also a failure, and so is
//! a run of too many steps. The threads of a failed run stay where they are for good.
//!
//! Threads that were not started here are not scheduled, and must share nothing with those that
//! were. Does not know what the threads do. Only with the feature `baton`.

mod schedule;

pub(crate) mod atomics;
pub(crate) mod condvar;
pub(crate) mod locks;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use schedule::{Outcome, Policy, Settings};
use schedule::{Schedule, Wait};

/// No thread: the run has ended or failed.
const NOBODY: usize = usize::MAX;

/// What the threads of one run share.
struct Shared {
    schedule: Mutex<Schedule>,
    /// The thread that holds the baton. Release when it is passed on pairs with Acquire when it is
    /// received.
    holder: AtomicUsize,
    /// Signalled when the run has ended.
    ended: Condvar,
}

/// One thread of one run.
#[derive(Clone)]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    id: usize,
}

thread_local! {
    /// Set while a thread takes part in a run.
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// The seat of this thread, if it takes part in a run.
pub(crate) fn seat() -> Option<Seat> {
    SEAT.try_with(|seat| seat.borrow().clone()).ok().flatten()
}

/// A run that has begun.
pub struct Run(Arc<Shared>);

/// Begins a run whose first thread runs `main`; it ends when all its threads have ended.
#[must_use]
pub fn start(settings: Settings, main: impl FnOnce() + Send + 'static) -> Run {
    let shared = Arc::new(Shared {
        schedule: Mutex::new(Schedule::new(settings)),
        holder: AtomicUsize::new(NOBODY),
        ended: Condvar::new(),
    });
    shared.begin("main", Box::new(main));
    Run(shared)
}

/// Starts another thread in the run that this thread takes part in.
///
/// # Panics
/// If it takes part in no run.
#[track_caller]
pub fn spawn(name: &str, task: Box<dyn FnOnce() + Send>) -> Thread {
    let seat = seat().expect("only a thread of a run starts another one");
    let id = seat.shared.begin(name, task);
    seat.pause("spawn", Location::caller());
    Thread(id)
}

/// A thread that was started by [`spawn`].
pub struct Thread(usize);

impl Thread {
    /// Waits for its end.
    ///
    /// # Panics
    /// If this thread takes no part in the run.
    #[track_caller]
    pub fn join(self) {
        let seat = seat().expect("only a thread of a run waits for another one");
        seat.pause("join", Location::caller());
        while !seat.shared.schedule().has_ended(self.0) {
            seat.block(Wait::End(self.0), None, Location::caller());
        }
    }
}

/// A step: another thread of the run may go on here; `what` is about to happen. Does nothing on a
/// thread that takes part in no run.
#[track_caller]
pub fn step(what: &'static str) {
    if let Some(seat) = seat() {
        seat.pause(what, Location::caller());
    }
}

/// Virtual time since the run began.
///
/// # Panics
/// If this thread takes part in no run.
#[track_caller]
pub fn now() -> Duration {
    let seat = seat().expect("only a run has a time of its own");
    seat.pause("now", Location::caller());
    seat.shared.schedule().now()
}

/// How much virtual time has passed while all threads waited. Unlike [`now`], this never jumps as
/// if a thread had lacked a processor. So a call that takes too long by this clock is waiting for a
/// thread that itself waits.
///
/// # Panics
/// If this thread takes part in no run.
#[must_use]
pub fn idle() -> Duration {
    let seat = seat().expect("only a run has a time of its own");
    seat.shared.schedule().idle()
}

/// Waits for this much virtual time.
///
/// # Panics
/// If this thread takes part in no run.
#[track_caller]
pub fn sleep(duration: Duration) {
    let seat = seat().expect("only a run has a time of its own");
    let until = seat.shared.schedule().now().saturating_add(duration);
    seat.block(Wait::Time, Some(until), Location::caller());
}

impl Run {
    /// The outcome of the run, once it has ended; `None` if it has not within `limit` of real time.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<Outcome> {
        let schedule = self.0.schedule();
        let goes_on = |schedule: &mut Schedule| schedule.outcome().is_none();
        let waited = self.0.ended.wait_timeout_while(schedule, limit, goes_on);
        let (schedule, _) = waited.unwrap_or_else(PoisonError::into_inner);
        schedule.outcome()
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.schedule().steps()
    }
}

impl Shared {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread, which runs when it is picked.
    fn begin(self: &Arc<Self>, name: &str, task: Box<dyn FnOnce() + Send>) -> usize {
        let id = self.schedule().add(name);
        let seat = Seat { shared: Arc::clone(self), id };
        let body = move || {
            seat.wait_for_turn();
            SEAT.set(Some(seat.clone()));
            let result = catch_unwind(AssertUnwindSafe(task));
            SEAT.set(None);
            seat.leave(result.err().map(|panic| text_of(&*panic)));
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.expect("the system has a thread to give").thread().clone();
        self.schedule().set_thread(id, thread);
        if id == 0 {
            self.pass_on(0);
        }
        id
    }

    /// Gives the baton to the thread `next`.
    fn pass_on(&self, next: usize) {
        let thread = self.schedule().thread(next);
        self.holder.store(next, Ordering::Release);
        if let Some(thread) = thread {
            thread.unpark();
        }
    }
}

impl Seat {
    fn wait_for_turn(&self) {
        while self.shared.holder.load(Ordering::Acquire) != self.id {
            thread::park();
        }
    }

    /// Passes the baton on, if the schedule says so, and returns when it is back.
    fn go_on(&self, next: Option<usize>) {
        if next == Some(self.id) {
            return;
        }
        self.hand(next);
        self.wait_for_turn();
    }

    fn hand(&self, next: Option<usize>) {
        match next {
            Some(next) => self.shared.pass_on(next),
            None => {
                self.shared.holder.store(NOBODY, Ordering::Release);
                self.shared.ended.notify_all();
            }
        }
    }

    /// Lets another thread go on, if the schedule says so.
    pub(crate) fn pause(&self, what: &'static str, at: &'static Location<'static>) {
        let next = self.shared.schedule().pause(self.id, what, at);
        self.go_on(next);
    }

    /// Waits; returns whether `until` came first.
    pub(crate) fn block(
        &self,
        wait: Wait,
        until: Option<Duration>,
        at: &'static Location<'static>,
    ) -> bool {
        let next = self.shared.schedule().block(self.id, wait, until, at);
        self.go_on(next);
        self.shared.schedule().has_timed_out(self.id)
    }

    /// Wakes the threads that wait at `place`: all, or one of them.
    pub(crate) fn wake(&self, place: usize, only_one: bool) {
        self.shared.schedule().wake(place, only_one);
    }

    /// Whether a wait should end spuriously.
    pub(crate) fn wakes_for_nothing(&self) -> bool {
        self.shared.schedule().wakes_for_nothing()
    }

    /// Time of the run, `limit` from now.
    pub(crate) fn after(&self, limit: Duration) -> Duration {
        self.shared.schedule().now().saturating_add(limit)
    }

    /// The thread ends.
    fn leave(&self, panic: Option<String>) {
        let next = self.shared.schedule().end(self.id, panic);
        self.hand(next);
    }
}

/// The identity of a lock: its address, which does not change while somebody waits for it.
pub(crate) fn place_of<T: ?Sized>(lock: &T) -> usize {
    std::ptr::from_ref(lock).cast::<()>().addr()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
