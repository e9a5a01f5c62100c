//! The commit queue: batches that wait to be written, and which writer leads.
//!
//! A writer that finds no leader becomes the leader; others leave their batch here and wait for an
//! answer, or for leadership. Knows nothing of logs and memtables: what a leader does is in
//! `commit`.

pub(crate) mod turns;
pub(crate) mod waiter;

use std::collections::VecDeque;
use std::sync::{Arc, TryLockError};

use esker_base::SeqNo;

use crate::commit_queue::turns::Turns;
use crate::commit_queue::waiter::{Request, Waiter};
use crate::error::Error;
use crate::logs::Appender;
use crate::logs::packed_group::Packer;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A group accepts no further batches once it has this many bytes: the first members should not
/// wait for a huge frame.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// How many waiters are kept for the next batches.
const SPARE_COUNT_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct CommitPipeline {
    /// 0 if nobody leads; otherwise 1, plus 2 for each batch in `queue`. Anyone may change it from
    /// 0 to 1 and back; all other changes are made under `queue`. Acquire on entering pairs with
    /// Release on leaving; the state that one leader passes to the next is behind `leader`.
    state: AtomicUsize,
    /// Lock order: before everything else. Never held while working.
    queue: Mutex<Queue>,
    /// Held by the leader, and by code that must keep everybody from leading. Lock order: after
    /// `queue`, before the ledger.
    leader: Mutex<Leader>,
    /// Several threads write without pause. Counter only: it decides how long a waiter spins.
    is_busy: AtomicBool,
}

/// Part of [`CommitPipeline`]'s state: somebody leads.
const LED: usize = 1;

/// Part of [`CommitPipeline`]'s state: one waiting batch.
const ONE_WAITS: usize = 2;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Waiter>>,
    /// Answered waiters, kept for their memory.
    spare: Vec<Arc<Waiter>>,
}

/// State that only the leader accesses.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// Last sequence number assigned.
    pub(crate) last_seqno: SeqNo,
    /// Last sequence number in the log.
    pub(crate) last_logged: SeqNo,
    pub(crate) appender: Appender,
    /// Reused for the header of each group.
    pub(crate) header: Vec<u8>,
    /// None if groups are never compressed.
    pub(crate) packer: Option<Packer>,
    /// Whether the group being applied has filled a memtable.
    pub(crate) has_full_memtable: bool,
    /// Whether a memtable has taken more memory.
    pub(crate) has_grown_memtable: bool,
    /// Answered waiters, to be reused.
    pub(crate) served: Vec<Arc<Waiter>>,
    pub(crate) turns: Turns,
}

impl Leader {
    pub(crate) fn starting_at(
        last_seqno: SeqNo,
        last_logged: SeqNo,
        packer: Option<Packer>,
    ) -> Self {
        Self { last_seqno, last_logged, packer, ..Self::default() }
    }

    /// Keeps an answered waiter, to be reused.
    pub(crate) fn keep(&mut self, waiter: Arc<Waiter>) {
        if waiter.is_worth_keeping() {
            self.served.push(waiter);
        }
    }
}

impl CommitPipeline {
    pub(crate) fn starting_at(leader: Leader) -> Self {
        Self { leader: Mutex::new(leader), ..Self::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody else leads while the result is held.
    pub(crate) fn lead(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`CommitPipeline::lead`]; `None` if somebody, possibly the caller, is leading now.
    pub(crate) fn try_lead(&self) -> Option<MutexGuard<'_, Leader>> {
        match self.leader.try_lock() {
            Ok(leader) => Some(leader),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn change_state(&self, from: usize, to: usize) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Puts a copy of `request` into the queue if somebody leads. `None` if nobody did: the caller
    /// is now the leader.
    #[inline]
    pub(crate) fn join(&self, request: &Request<'_>) -> Option<Arc<Waiter>> {
        if self.change_state(0, LED) { None } else { self.enqueue(request) }
    }

    fn enqueue(&self, request: &Request<'_>) -> Option<Arc<Waiter>> {
        let mut queue = self.queue();
        let mut waiter = queue.spare_waiter();
        let own = Arc::get_mut(&mut waiter).expect("a spare waiter is nobody's");
        own.fill(request, self.is_busy.load(Ordering::Relaxed));
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state == 0 && self.change_state(0, LED) {
                queue.keep(waiter);
                return None;
            }
            if state != 0 && self.change_state(state, state + ONE_WAITS) {
                queue.waiting.push_back(Arc::clone(&waiter));
                return Some(waiter);
            }
        }
    }

    /// Moves the next group from the queue into `group`, and recycles the waiters in `served`.
    /// False if nobody waits: the caller is then no longer the leader.
    pub(crate) fn take_group(
        &self,
        group: &mut Vec<Arc<Waiter>>,
        served: &mut Vec<Arc<Waiter>>,
    ) -> bool {
        if self.change_state(LED, 0) {
            return false;
        }
        let mut queue = self.queue();
        served.drain(..).for_each(|waiter| queue.keep(waiter));
        let mut bytes = 0;
        while let Some(waiter) = queue.waiting.pop_front_if(|_| bytes <= GROUP_BYTES_MAX) {
            bytes += waiter.request().operations.len();
            group.push(waiter);
        }
        self.state.fetch_sub(group.len() * ONE_WAITS, Ordering::Relaxed);
        true
    }

    /// Gives leadership to a waiter that is awake, if there is one. A sleeping one would keep
    /// everybody waiting until it is awake; it is quicker to serve it than to wake it.
    pub(crate) fn hand_over(&self) -> bool {
        let mut queue = self.queue();
        let mut waiting = queue.waiting.iter();
        let position = match esker_base::planted::is("leadership-not-handed-over") {
            true => waiting.next().map(|_| 0),
            false => waiting.position(|waiter| waiter.let_lead()),
        };
        let Some(position) = position else { return false };
        queue.waiting.remove(position);
        self.state.fetch_sub(ONE_WAITS, Ordering::Relaxed);
        true
    }

    /// Sets whether waiters spin only briefly.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Whether nobody leads, and therefore nobody waits.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0 && self.queue().waiting.is_empty()
    }

    /// Memory that waiters keep for the next batches, in bytes.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        let (queue, leader) = (self.queue(), self.lead());
        let kept = queue.spare.iter().chain(&leader.served);
        kept.map(|waiter| waiter.kept_bytes()).sum()
    }

    /// Gives up leadership in the middle of a group: fails `group` and all waiters with `error`.
    /// Returns those to wake.
    pub(crate) fn abandon(&self, group: &mut Vec<Arc<Waiter>>, error: &Error) -> Vec<Arc<Waiter>> {
        let mut queue = self.queue();
        if esker_base::planted::is("panicked-leader-forgets-its-group") {
            group.clear();
        }
        let mut told: Vec<_> = group.drain(..).chain(queue.waiting.drain(..)).collect();
        self.state.store(0, Ordering::Release);
        drop(queue);
        told.retain(|waiter| waiter.answer(Err(error.clone())));
        told
    }
}

impl Queue {
    /// A waiter that nobody else references.
    fn spare_waiter(&mut self) -> Arc<Waiter> {
        // Its previous writer may still hold it.
        let spare = self.spare.iter_mut().position(|waiter| Arc::get_mut(waiter).is_some());
        spare.map_or_else(|| Arc::new(Waiter::new()), |index| self.spare.swap_remove(index))
    }

    fn keep(&mut self, waiter: Arc<Waiter>) {
        if self.spare.len() < SPARE_COUNT_MAX && waiter.is_worth_keeping() {
            self.spare.push(waiter);
        }
    }
}
