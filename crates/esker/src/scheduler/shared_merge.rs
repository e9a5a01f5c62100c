//! A merge whose parts are shared among threads.
//!
//! The owning thread takes one part after another until none is left, then waits for those that
//! other threads have taken. So nothing waits for a thread that does not come; a merge that is not
//! split is one of a single part. If a part fails, the others stop at their next block, and the
//! first failure is that of the whole.
//!
//! Does not know how parts are merged, nor which threads there are.

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

/// What all parts share.
pub(crate) struct MergeInputs {
    pub(crate) version: Arc<Version>,
    pub(crate) plan: Plan,
    pub(crate) readers: Readers,
    pub(crate) passed_millis: u64,
    pub(crate) filter: Option<Filter>,
    /// The write mark when the merge began: an idle-time merge stops when something is written.
    pub(crate) mark: WriteMark,
}

/// The outcome of a part; a panic is passed to the owning thread.
pub(crate) type PartOutcome = std::result::Result<Result<CompactedPart>, Box<dyn Any + Send>>;

/// A merge, as shared by its threads.
pub(crate) struct SharedMerge {
    pub(crate) keyspace: Arc<KeyspaceCore>,
    /// The compaction on demand that it belongs to, if any.
    pub(crate) task: Option<Arc<OnDemand>>,
    /// Where all parts count what they have done.
    pub(crate) record: Arc<JobRecord>,
    parts: Vec<PartRange>,
    /// Checked at each block. Counter only: the failure is in `state`.
    has_failed: AtomicBool,
    /// Held only briefly; nothing else is locked under it.
    state: Mutex<State>,
}

struct State {
    /// Released at the end, and with it the tables of the version.
    inputs: Option<Arc<MergeInputs>>,
    /// The first part not yet taken.
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

    /// Whether a part has failed, which makes the others useless.
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

    /// Takes a part, if one is left. The result must be dropped before the part ends.
    pub(crate) fn begin_part(&self) -> Option<(usize, Arc<MergeInputs>)> {
        let mut state = self.state();
        let part = state.next_of(self.parts.len())?;
        let inputs = state.inputs.clone().expect("parts are left only before the end");
        state.next += 1;
        state.running += 1;
        Some((part, inputs))
    }

    /// Notes that a part that was taken has ended.
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
        // The others fail because this one has.
        state.failure.get_or_insert(failure);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Whether no part is running or left.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.state();
        state.running == 0 && state.next_of(self.parts.len()).is_none()
    }

    /// The results of all parts, in key order, once the merge has ended.
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
    /// The part to take next, of `count`: none after a failure or after the end.
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
