//! A batch on its way into the database, and its writer waiting for the leader.
//!
//! Promises that a waiter returns once it has an answer, woken or not. Does not know who leads.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::options::Durability;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Memory that a waiter keeps for the next batch, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// A batch on its way into the database.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Encoded operations.
    pub(crate) operations: &'a [u8],
    pub(crate) count: u64,
    /// Every keyspace that an operation names.
    pub(crate) keyspaces: &'a [Arc<KeyspaceCore>],
    pub(crate) durability: Durability,
}

impl Request<'_> {
    /// # Errors
    /// `Closed` if one of the keyspaces was dropped.
    pub(crate) fn check_live(&self) -> Result<()> {
        self.keyspaces.iter().try_for_each(|keyspace| keyspace.check_live())
    }

    /// A batch goes to the log as a whole if any of its keyspaces has one.
    pub(crate) fn is_logged(&self) -> bool {
        self.keyspaces.iter().any(|keyspace| keyspace.is_logged())
    }
}

/// A batch whose writer waits for a leader.
#[derive(Debug)]
pub(crate) struct Waiter {
    operations: Vec<u8>,
    count: u64,
    keyspaces: Vec<Arc<KeyspaceCore>>,
    durability: Durability,
    /// Goes to sleep soon, and not for long: the log is busy.
    is_brief: bool,
    /// One of the states below, or `DONE` plus eight times the position of the end of the log.
    /// Release by the thread that answers pairs with Acquire in `wait`.
    state: AtomicU64,
    /// Why the batch was not written. Set before `FAILED`; the waiter sleeps with this lock.
    failure: Mutex<Option<Error>>,
    answered: Condvar,
}

/// States of a [`Waiter`]: it spins, looking for an answer.
const WAITING: u64 = 0;
/// It sleeps and has to be woken, by a system call that a spinning waiter does not need.
const ASLEEP: u64 = 1;
/// Leadership was handed over; the batch is not written.
const LEADS: u64 = 2;
/// The batch was not written, or may not have been.
const FAILED: u64 = 3;
/// The batch is written.
const DONE: u64 = 4;

/// How many times a waiter looks before it sleeps, at 27 ns a look: in all, about the processor
/// time that sleeping and being woken takes, some 15 us.
const LOOKS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 600 };

/// The same while the log is busy: just enough for a leader whose turn is over to find it awake.
const LOOKS_IF_BUSY: usize = if cfg!(any(loom, shuttle)) { 1 } else { 30 };

/// While the log is busy, a waiter that has an answer but is not woken sleeps no longer than this;
/// see `turns`.
const SLEEP_MAX: Duration = Duration::from_millis(2);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            operations: Vec::new(),
            count: 0,
            keyspaces: Vec::new(),
            durability: Durability::Buffered,
            is_brief: false,
            state: AtomicU64::new(WAITING),
            failure: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// Copies `request`. While the log is busy, the waiter goes to sleep soon.
    pub(crate) fn fill(&mut self, request: &Request<'_>, is_busy: bool) {
        self.operations.clear();
        self.operations.extend_from_slice(request.operations);
        self.count = request.count;
        // Usually they are the same as last time, and other threads use their reference counts too.
        let same = |(one, other): (&Arc<KeyspaceCore>, _)| Arc::ptr_eq(one, other);
        let is_same = self.keyspaces.len() == request.keyspaces.len()
            && self.keyspaces.iter().zip(request.keyspaces).all(same);
        if !is_same {
            self.keyspaces = request.keyspaces.to_vec();
        }
        self.durability = request.durability;
        self.is_brief = is_busy;
        self.state = AtomicU64::new(WAITING);
    }

    /// Memory that it keeps for the next batch, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.operations.capacity()
    }

    /// Whether it is to be kept for the next batch: a copy of a huge one is given back.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.kept_bytes() <= KEPT_BYTES_MAX
    }

    /// Answers with the result of the batch: the position of the end of the log, for a later sync.
    /// Returns whether the waiter has to be woken.
    #[must_use]
    pub(crate) fn answer(&self, result: Result<u64>) -> bool {
        let state = match result {
            Ok(position) => position << 3 | DONE,
            Err(error) => {
                *self.failure() = Some(error);
                FAILED
            }
        };
        self.state.swap(state, Ordering::AcqRel) == ASLEEP
    }

    /// Makes the waiter the leader, unless it sleeps.
    pub(crate) fn let_lead(&self) -> bool {
        let exchange = (Ordering::AcqRel, Ordering::Relaxed);
        self.state.compare_exchange(WAITING, LEADS, exchange.0, exchange.1).is_ok()
    }

    /// Wakes a waiter that slept when it was answered.
    pub(crate) fn wake(&self) {
        // The waiter holds this lock from when it says that it sleeps until it does.
        drop(self.failure());
        if !esker_base::planted::is("waiter-not-woken") {
            self.answered.notify_one();
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer; `None` if the caller is now the leader.
    pub(crate) fn wait(&self) -> Option<Result<u64>> {
        let looks = if self.is_brief { LOOKS_IF_BUSY } else { LOOKS };
        for _ in 0..looks {
            // Only a check whether it changed; the value is loaded below.
            if self.state.load(Ordering::Relaxed) != WAITING {
                break;
            }
            std::hint::spin_loop();
        }
        let state = match self.state.load(Ordering::Acquire) {
            WAITING => self.sleep(),
            state => state,
        };
        match state {
            LEADS => None,
            FAILED => Some(Err(self.failure().take().unwrap_or_else(Error::closed))),
            done => Some(Ok(done >> 3)),
        }
    }

    #[cold]
    fn sleep(&self) -> u64 {
        let exchange = (Ordering::AcqRel, Ordering::Acquire);
        let mut guard = self.failure();
        if let Err(answer) = self.state.compare_exchange(WAITING, ASLEEP, exchange.0, exchange.1) {
            return answer;
        }
        let is_asleep = || self.state.load(Ordering::Acquire) == ASLEEP;
        let sleeps = |_: &mut Option<Error>| is_asleep();
        let changed = &self.answered;
        while is_asleep() {
            guard = if self.is_brief && !esker_base::planted::is("sleeper-without-limit") {
                let waited = changed.wait_timeout_while(guard, SLEEP_MAX, sleeps);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                changed.wait_while(guard, sleeps).unwrap_or_else(PoisonError::into_inner)
            };
        }
        self.state.load(Ordering::Acquire)
    }

    /// Whether it need not be woken at once, since it wakes by itself. One that waits for the
    /// device must be woken, to share the next sync.
    pub(crate) fn may_sleep_on(&self) -> bool {
        self.is_brief && self.durability != Durability::Power
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            operations: &self.operations,
            count: self.count,
            keyspaces: &self.keyspaces,
            durability: self.durability,
        }
    }
}
