//! What a test asked of a database and was promised: recoveries are measured by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::state::State;

/// Every state that the database may be in after a crash, and which of them it may no longer.
///
/// Shared with the observer of the file system, which looks at the marks in the middle of a call.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    states: Vec<State>,
    marks: Marks,
}

/// Indexes of states: each one was promised to stay.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Marks {
    /// The last state that was asked for.
    pub(crate) issued: usize,
    /// Writes up to this one survive loss of power.
    pub(crate) durable: usize,
    /// Writes up to this one survive the end of the process.
    pub(crate) process: usize,
    /// Keyspaces created, renamed and dropped up to this one survive everything.
    pub(crate) keyspaces: usize,
    /// Writes to keyspaces without a log up to this one survive everything.
    pub(crate) flushed: usize,
}

impl Journal {
    /// Of a new database.
    pub(crate) fn new() -> Self {
        let journal = Self::default();
        journal.inner().states.push(State::new());
        journal
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn marks(&self) -> Marks {
        self.inner().marks
    }

    /// The last state that was asked for.
    pub(crate) fn last(&self) -> State {
        self.inner().states.last().cloned().expect("a journal starts with a state")
    }

    pub(crate) fn states(&self) -> Vec<State> {
        self.inner().states.clone()
    }

    /// Asks for `state`; returns its index.
    pub(crate) fn issue(&self, state: State) -> usize {
        let mut inner = self.inner();
        inner.states.push(state);
        inner.marks.issued = inner.states.len() - 1;
        inner.marks.issued
    }

    /// The last state that was asked for was refused: it never comes.
    pub(crate) fn take_back(&self) {
        let mut inner = self.inner();
        inner.states.pop();
        inner.marks.issued = inner.states.len() - 1;
    }

    /// Notes a promise.
    pub(crate) fn promise(&self, change: impl FnOnce(&mut Marks)) {
        let mut inner = self.inner();
        change(&mut inner.marks);
        inner.marks.process = inner.marks.process.max(inner.marks.durable);
    }
}
