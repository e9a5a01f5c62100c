//! The commit queue: batches that wait to be written, and who writes them.
//!
//! A writer that finds no leader leads; others leave their batch here and wait for its answer, or
//! for leadership. Knows nothing of logs and memtables: what leading means is in `commit`.

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

/// A group takes no further batch once it has this many bytes: the members that came first should
/// not wait for a huge frame.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// How many waiters are kept for the next batches.
const SPARE_COUNT_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct CommitPipeline {
    /// 0 if nobody leads; else 1, and 2 for each batch in `queue`. From 0 to 1 and back it is changed
    /// by anyone, otherwise under `queue`. Acquire on entering pairs with Release on leaving; what a
    /// leader leaves to the next is behind `leader`.
    state: AtomicUsize,
    /// Lock order: before everything else. Never held while working.
    queue: Mutex<Queue>,
    /// Held by whoever leads, and by who must keep everybody from leading. Lock order: after
    /// `queue`, before the ledger.
    leader: Mutex<Leader>,
    /// Several threads write without pause. Counter only: it says how long to look for an answer.
    is_busy: AtomicBool,
}

/// Of [`CommitPipeline`]'s state: somebody leads.
const LED: usize = 1;

/// Of [`CommitPipeline`]'s state: one batch that waits.
const ONE_WAITS: usize = 2;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Waiter>>,
    /// Used up, kept for their memory.
    spare: Vec<Arc<Waiter>>,
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
    /// None if all groups go to the log plain.
    pub(crate) packer: Option<Packer>,
    /// Whether the group that is being applied has filled a memtable.
    pub(crate) has_full_memtable: bool,
    /// Some memtable has taken more memory.
    pub(crate) has_grown_memtable: bool,
    /// Waiters that have been answered, for others to use.
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
}

impl CommitPipeline {
    pub(crate) fn starting_at(leader: Leader) -> Self {
        Self { leader: Mutex::new(leader), ..Self::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody from leading while the result is held.
    pub(crate) fn lead(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`CommitPipeline::lead`], unless somebody leads just now, the caller included.
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

    /// Puts a copy of `request` into the queue, if somebody leads. `None` if nobody did: the caller
    /// leads now.
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

    /// Takes the next group into `group`, and what of it was answered out of `served`. False if
    /// nobody waits: the caller leads no more.
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

    /// Gives leadership to one who waits, unless all of them sleep: they would keep everybody waiting
    /// until they are awake, and are served sooner than woken.
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

    /// Says how long waiters look for an answer.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Whether nobody leads, and so nobody waits.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0 && self.queue().waiting.is_empty()
    }

    /// Gives up leadership in the middle of it: those of `group` and all who wait are told `error`.
    /// Returns whom of them to wake.
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
    /// A waiter that nobody else has.
    fn spare_waiter(&mut self) -> Arc<Waiter> {
        // Its former writer may not have gone yet.
        let spare = self.spare.iter_mut().position(|waiter| Arc::get_mut(waiter).is_some());
        spare.map_or_else(|| Arc::new(Waiter::new()), |index| self.spare.swap_remove(index))
    }

    fn keep(&mut self, waiter: Arc<Waiter>) {
        if self.spare.len() < SPARE_COUNT_MAX {
            self.spare.push(waiter);
        }
    }
}
