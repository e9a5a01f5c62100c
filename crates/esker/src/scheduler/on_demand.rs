//! A compaction on demand: the state that its handle and the thread working on it share.
//!
//! It is done in steps, one plan each; between steps it waits in the scheduler's queue. It knows
//! its progress and how it ended, not what the steps do.

use std::fmt;
use std::sync::{Arc, OnceLock};

use esker_base::KeyRange;
use esker_tree::{Plan, RangeRequest};

use crate::error::Result;
use crate::keyspace_core::KeyspaceCore;
use crate::running::JobRecord;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The progress of a compaction on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CompactionProgress {
    /// Its present state.
    pub state: CompactionState,
    /// Bytes of table files compacted so far, including the part of the running step that is done.
    pub bytes_done: u64,
    /// Bytes that will have been compacted at the end: an estimate, which changes with the tree. 0
    /// before the first step.
    pub bytes_estimated: u64,
    /// Tables compacted by finished steps.
    pub tables_done: usize,
    /// Tables that will have been compacted at the end: an estimate, like that of the bytes.
    pub tables_estimated: usize,
}

/// The state of a compaction on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CompactionState {
    /// Waiting for a thread, or for other compactions of the same tables.
    Waiting,
    /// A step is under way.
    Running,
    /// It was paused by its handle.
    Paused,
    /// It has ended, for whatever reason.
    Ended,
}

/// How a compaction on demand ended, if nothing failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactionEnd {
    /// Everything requested is done.
    Finished,
    /// It was cancelled: finished steps keep their effect, and nothing is left of an unfinished
    /// one.
    Cancelled,
}

/// What a compaction on demand has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CompactionReport {
    /// How it ended.
    pub end: CompactionEnd,
    /// Steps that were installed: merges, moves and drops.
    pub steps: usize,
    /// Tables that went into them.
    pub tables: usize,
    /// Bytes of their files.
    pub bytes_in: u64,
    /// Bytes of the tables that came out of merges.
    pub bytes_out: u64,
}

impl fmt::Display for CompactionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.end {
            CompactionEnd::Finished => "finished",
            CompactionEnd::Cancelled => "cancelled",
        };
        let Self { steps, tables, bytes_in, bytes_out, .. } = self;
        write!(
            f,
            "{end} after {steps} steps with {tables} tables: {bytes_in} bytes in, {bytes_out} out"
        )
    }
}

/// A compaction on demand.
pub(crate) struct OnDemand {
    pub(crate) keyspace: Arc<KeyspaceCore>,
    pub(crate) range: KeyRange,
    /// Whether background threads work on it, rather than the thread that requested it.
    pub(crate) is_queued: bool,
    /// The request to the policy; created by the first step, once memtables are flushed.
    pub(crate) request: OnceLock<RangeRequest>,
    /// Checked at each block. Counter only: written under `state`, and waiters are woken through
    /// the scheduler.
    is_cancelled: AtomicBool,
    /// As `is_cancelled`.
    is_paused: AtomicBool,
    /// Held only briefly; nothing else is locked under it.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Totals of the finished steps.
    done: CompactionReport,
    bytes_expected: u64,
    tables_expected: usize,
    /// The running step.
    record: Option<Arc<JobRecord>>,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Running,
    Ended(Result<CompactionReport>),
}

impl OnDemand {
    pub(crate) fn new(keyspace: &Arc<KeyspaceCore>, range: &KeyRange, is_queued: bool) -> Self {
        let end = CompactionEnd::Finished;
        let done = CompactionReport { end, steps: 0, tables: 0, bytes_in: 0, bytes_out: 0 };
        Self {
            keyspace: Arc::clone(keyspace),
            range: range.clone(),
            is_queued,
            request: OnceLock::new(),
            is_cancelled: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            state: Mutex::new(State {
                phase: Phase::Waiting,
                done,
                bytes_expected: 0,
                tables_expected: 0,
                record: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        let _state = self.state();
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Ends it at once if no step is running; otherwise the step ends it.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        self.is_cancelled.store(true, Ordering::Relaxed);
        if matches!(state.phase, Phase::Waiting) {
            state.end(Ok(CompactionEnd::Cancelled));
        }
    }

    /// How it ended, once it has.
    pub(crate) fn outcome(&self) -> Option<Result<CompactionReport>> {
        match &self.state().phase {
            Phase::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state().phase, Phase::Ended(_))
    }

    /// Takes it for one step; false if it has ended.
    pub(crate) fn begin_step(&self) -> bool {
        let mut state = self.state();
        let begins = matches!(state.phase, Phase::Waiting);
        if begins {
            state.phase = Phase::Running;
        }
        begins
    }

    /// Gives it back after a step; false if it was cancelled in the meantime, and so has ended.
    pub(crate) fn end_step(&self) -> bool {
        let mut state = self.state();
        if self.is_cancelled() {
            state.end(Ok(CompactionEnd::Cancelled));
            return false;
        }
        state.phase = Phase::Waiting;
        true
    }

    /// Ends it, unless it has ended: the first outcome counts.
    pub(crate) fn end(&self, outcome: Result<CompactionEnd>) {
        self.state().end(outcome);
    }

    /// A step is under way.
    pub(crate) fn note_start(&self, record: &Arc<JobRecord>) {
        self.state().record = Some(Arc::clone(record));
    }

    /// Sets the estimate of what is left, including the next step.
    pub(crate) fn expect(&self, (bytes, tables): (u64, usize)) {
        let mut state = self.state();
        state.bytes_expected = state.done.bytes_in + bytes;
        state.tables_expected = state.done.tables + tables;
    }

    /// Notes that the step has ended; if it was installed, `installed` has its plan and the bytes
    /// that it wrote.
    pub(crate) fn note_end(&self, installed: Option<(&Plan, u64)>) {
        let mut state = self.state();
        state.record = None;
        if let Some((plan, bytes_written)) = installed {
            state.done.steps += 1;
            state.done.tables += plan.table_count();
            state.done.bytes_in += plan.input_bytes;
            state.done.bytes_out += bytes_written;
        }
    }

    pub(crate) fn progress(&self) -> CompactionProgress {
        let state = self.state();
        let running = state.record.as_ref().map_or(0, |record| record.bytes_in());
        let bytes_done = state.done.bytes_in + running;
        CompactionProgress {
            state: match state.phase {
                Phase::Ended(_) => CompactionState::Ended,
                _ if self.is_paused() => CompactionState::Paused,
                Phase::Waiting => CompactionState::Waiting,
                Phase::Running => CompactionState::Running,
            },
            bytes_done,
            bytes_estimated: state.bytes_expected.max(bytes_done),
            tables_done: state.done.tables,
            tables_estimated: state.tables_expected.max(state.done.tables),
        }
    }
}

impl State {
    fn end(&mut self, outcome: Result<CompactionEnd>) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        if matches!(outcome, Ok(CompactionEnd::Finished)) {
            (self.bytes_expected, self.tables_expected) = (self.done.bytes_in, self.done.tables);
        }
        self.phase = Phase::Ended(outcome.map(|end| CompactionReport { end, ..self.done }));
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compaction of {:?}: {:?}", self.keyspace, self.progress())
    }
}
