//! The commit queue: batches that wait to be written, and who writes them.
//!
//! A writer that finds no leader leads; others leave their batch here and wait for its answer, or
//! for leadership. Knows nothing of logs and memtables: what leading means is in `commit`.

use std::collections::VecDeque;
use std::sync::Arc;

use esker_base::SeqNo;

use crate::error::Result;
use crate::keyspace_core::KeyspaceCore;
use crate::logs::Appender;
use crate::options::Durability;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A group takes no further batch once it has this many bytes: the members that came first should
/// not wait for a huge frame.
const GROUP_BYTES_MAX: usize = 1 << 20;

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

#[derive(Debug, Default)]
pub(crate) struct CommitPipeline {
    /// Lock order: before everything else. Never held while working.
    queue: Mutex<Queue>,
    /// Held by whoever leads, and by who must keep everybody from leading. Lock order: after
    /// `queue`, before the ledger.
    leader: Mutex<Leader>,
}

#[derive(Debug, Default)]
struct Queue {
    has_leader: bool,
    waiting: VecDeque<Arc<Waiter>>,
}

/// What only the leader touches.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// Last sequence number given out.
    pub(crate) last_seqno: SeqNo,
    /// Last sequence number that is in a log.
    pub(crate) last_logged: SeqNo,
    pub(crate) appender: Appender,
    /// Reused for the header of each group.
    pub(crate) header: Vec<u8>,
    /// Whether the group that is being applied has filled a memtable.
    pub(crate) has_full_memtable: bool,
}

impl Leader {
    pub(crate) fn starting_at(last_seqno: SeqNo, last_logged: SeqNo) -> Self {
        Self { last_seqno, last_logged, ..Self::default() }
    }
}

/// A batch whose writer waits for a leader.
#[derive(Debug)]
pub(crate) struct Waiter {
    operations: Vec<u8>,
    count: u64,
    keyspaces: Vec<Arc<KeyspaceCore>>,
    durability: Durability,
    answer: Mutex<Answer>,
    /// Set with Release after `answer` was given; lets the waiter spin a little first.
    is_answered: AtomicBool,
    answered: Condvar,
}

#[derive(Debug)]
struct Answer {
    state: WaiterState,
    /// Whether the waiter has to be woken: a call of the system, which the leader saves where the
    /// waiter still looks.
    is_asleep: bool,
}

#[derive(Debug)]
pub(crate) enum WaiterState {
    Waiting,
    /// Leadership was handed over; the batch is not written.
    Leads,
    /// The end position of the log, for a later sync.
    Done(Result<u64>),
}

/// How often a waiter looks before it sleeps. A wake-up costs about a microsecond, a look about
/// ten nanoseconds; more looks only take the processor from the leader on a small machine.
const SPINS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 50 };

impl Waiter {
    pub(crate) fn answer(&self, state: WaiterState) {
        let mut answer = self.locked();
        answer.state = state;
        let is_asleep = answer.is_asleep;
        drop(answer);
        // Release pairs with the Acquire in `wait`.
        self.is_answered.store(true, Ordering::Release);
        if is_asleep && !esker_base::planted::is("waiter-not-woken") {
            self.answered.notify_one();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait(&self) -> WaiterState {
        for _ in 0..SPINS {
            if self.is_answered.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut answer = self.locked();
        // Seen by whoever answers after this: it takes the lock first.
        answer.is_asleep = true;
        let waiting = |answer: &mut Answer| matches!(answer.state, WaiterState::Waiting);
        let mut answer =
            self.answered.wait_while(answer, waiting).unwrap_or_else(PoisonError::into_inner);
        answer.is_asleep = false;
        self.is_answered.store(false, Ordering::Relaxed);
        std::mem::replace(&mut answer.state, WaiterState::Waiting)
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

impl CommitPipeline {
    pub(crate) fn starting_at(leader: Leader) -> Self {
        Self { queue: Mutex::default(), leader: Mutex::new(leader) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody from leading while the result is held.
    pub(crate) fn lead(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a copy of `request` into the queue, if somebody leads. `None` if nobody did: the caller
    /// leads now.
    pub(crate) fn join(&self, request: &Request<'_>) -> Option<Arc<Waiter>> {
        let mut queue = self.queue();
        if !queue.has_leader {
            queue.has_leader = true;
            return None;
        }
        let waiter = Arc::new(Waiter {
            operations: request.operations.to_vec(),
            count: request.count,
            keyspaces: request.keyspaces.to_vec(),
            durability: request.durability,
            answer: Mutex::new(Answer { state: WaiterState::Waiting, is_asleep: false }),
            is_answered: AtomicBool::new(false),
            answered: Condvar::new(),
        });
        queue.waiting.push_back(Arc::clone(&waiter));
        Some(waiter)
    }

    /// The next group; `None` if nobody waits: the caller leads no more.
    pub(crate) fn take_group(&self) -> Option<Vec<Arc<Waiter>>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.has_leader = false;
            return None;
        }
        Some(queue.take_group())
    }

    /// Gives leadership to who waits longest, if anybody waits.
    pub(crate) fn hand_over(&self) {
        let mut queue = self.queue();
        match queue.waiting.pop_front() {
            Some(_) if esker_base::planted::is("leadership-not-handed-over") => {}
            Some(next) => next.answer(WaiterState::Leads),
            None => queue.has_leader = false,
        }
    }

    /// Gives up leadership for good, and returns everybody who waits.
    pub(crate) fn abandon(&self) -> Vec<Arc<Waiter>> {
        let mut queue = self.queue();
        queue.has_leader = false;
        queue.waiting.drain(..).collect()
    }
}

impl Queue {
    fn take_group(&mut self) -> Vec<Arc<Waiter>> {
        let mut bytes = 0;
        let mut group = Vec::with_capacity(self.waiting.len());
        while let Some(waiter) = self.waiting.pop_front() {
            bytes += waiter.operations.len();
            group.push(waiter);
            if GROUP_BYTES_MAX < bytes {
                break;
            }
        }
        group
    }
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
