//! A merge whose parts several threads take.
//!
//! The thread that has to do the merge takes part after part until none is left, and then waits for
//! those that others have taken. So nothing waits for a thread that does not come, and a merge that
//! is not cut is one of one part. A part that fails ends the others at their next block, and the
//! first failure is that of the whole.
//!
//! Does not know how a part is merged, nor which threads there are.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use esker_tree::{CompactedPart, Filter, PartRange, Plan, Readers, Version};

use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::upkeep_notes::WriteMark;
use crate::running::JobRecord;
use crate::scheduler::on_demand::OnDemand;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What every part goes by.
pub(crate) struct MergeInputs {
    pub(crate) version: Arc<Version>,
    pub(crate) plan: Plan,
    pub(crate) readers: Readers,
    pub(crate) passed_millis: u64,
    pub(crate) filter: Option<Filter>,
    /// When the merge began: one for idle times ends when something is written.
    pub(crate) mark: WriteMark,
}

/// What came of a part; a panic is for the thread that has to do the merge.
pub(crate) type PartOutcome = std::result::Result<Result<CompactedPart>, Box<dyn Any + Send>>;

/// A merge as its threads share it.
pub(crate) struct SharedMerge {
    pub(crate) keyspace: Arc<KeyspaceCore>,
    /// Who asked for it, if somebody did.
    pub(crate) task: Option<Arc<OnDemand>>,
    /// Where all parts count what they have done.
    pub(crate) record: Arc<JobRecord>,
    parts: Vec<PartRange>,
    /// Looked at once for each block. Counter only: what failed stands in `state`.
    has_failed: AtomicBool,
    /// Held for a moment only; nothing else is locked within it.
    state: Mutex<State>,
}

struct State {
    /// Let go of at the end, and so are the tables of the version.
    inputs: Option<Arc<MergeInputs>>,
    /// The first part that nobody has taken.
    next: usize,
    /// Parts that were taken and have not ended.
    running: usize,
    done: Vec<Option<CompactedPart>>,
    failure: Option<Failure>,
}

enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

impl SharedMerge {
    pub(crate) fn new(
        keyspace: &Arc<KeyspaceCore>,
        task: Option<&Arc<OnDemand>>,
        record: &Arc<JobRecord>,
        inputs: MergeInputs,
        parts: Vec<PartRange>,
    ) -> Self {
        let done = parts.iter().map(|_| None).collect();
        let inputs = Some(Arc::new(inputs));
        Self {
            keyspace: Arc::clone(keyspace),
            task: task.cloned(),
            record: Arc::clone(record),
            parts,
            has_failed: AtomicBool::new(false),
            state: Mutex::new(State { inputs, next: 0, running: 0, done, failure: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The keys of a part.
    pub(crate) fn range(&self, part: usize) -> &PartRange {
        &self.parts[part]
    }

    /// Whether a part has failed, so that the others are in vain.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether there is a part to take.
    pub(crate) fn has_more(&self) -> bool {
        let state = self.state();
        state.next_of(self.parts.len()).is_some()
            || (state.next < self.parts.len()
                && esker_base::planted::is("failed-merge-offers-parts"))
    }

    /// Takes a part, if one is left. What this returns is to be dropped before the part ends.
    pub(crate) fn begin_part(&self) -> Option<(usize, Arc<MergeInputs>)> {
        let mut state = self.state();
        let part = state.next_of(self.parts.len())?;
        let inputs = state.inputs.clone().expect("parts are left only before the end");
        state.next += 1;
        state.running += 1;
        Some((part, inputs))
    }

    /// A part that was taken has ended.
    pub(crate) fn end_part(&self, part: usize, outcome: PartOutcome) {
        let mut state = self.state();
        state.running -= 1;
        let failure = match outcome {
            Ok(Ok(done)) => {
                state.done[part] = Some(done);
                return;
            }
            Ok(Err(error)) => Failure::Error(error),
            Err(panic) => Failure::Panic(panic),
        };
        // The others fail because this has.
        state.failure.get_or_insert(failure);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Whether no part is under way, and none is left.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.state();
        state.running == 0 && state.next_of(self.parts.len()).is_none()
    }

    /// What all parts have come to, in the order of their keys, once it has ended.
    ///
    /// # Panics
    /// As the first part that did.
    pub(crate) fn take(&self) -> Result<Vec<CompactedPart>> {
        let mut state = self.state();
        let (done, failure) = (std::mem::take(&mut state.done), state.failure.take());
        state.inputs = None;
        drop(state);
        match failure {
            None => Ok(done.into_iter().map(|part| part.expect("every part has ended")).collect()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => {
                drop(done);
                std::panic::resume_unwind(panic)
            }
        }
    }
}

impl State {
    /// The part to take next of so many: none once one has failed, nor after the end.
    fn next_of(&self, count: usize) -> Option<usize> {
        let goes_on = self.failure.is_none() && self.inputs.is_some();
        (goes_on && self.next < count).then_some(self.next)
    }
}

impl fmt::Debug for SharedMerge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts of {}", self.parts.len(), self.record.inputs)
    }
}
