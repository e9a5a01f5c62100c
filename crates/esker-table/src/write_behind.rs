//! Write-behind: a thread that writes and syncs pieces of files for another thread, in the order in
//! which they were given.
//!
//! The first piece starts the thread. If no thread can be started, the giving thread writes pieces
//! itself. The system is told to start writeback of each piece at once, in parallel with further
//! work, so that a sync has little left to wait for. Pieces wait in memory, up to a limit; beyond
//! that, the giving thread waits. Their buffers go back to the giving thread for reuse. After the
//! first failure nothing more is written, and every later call fails with the same error. A panic
//! of the thread counts as such a failure.
//!
//! Nothing is guaranteed to be written, let alone durable, before [`WriteBehind::settle`] has
//! returned. Knows neither what the pieces mean nor who removes the files.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use esker_base::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use esker_env::{File, FileExt, IoError, JoinHandle, Threads};

/// Most pieces that wait to be written: about as many as are produced during the sync of a table.
const PIECES_WAITING_MAX: usize = 8;

/// Writes in the background for a thread that fills files.
pub struct WriteBehind {
    threads: Arc<dyn Threads>,
    shared: Arc<Shared>,
}

/// What the thread shares with those that give it work.
struct Shared {
    piece_bytes: usize,
    /// Not held while a file is written or synced.
    state: Mutex<State>,
    /// Signalled when there is something to do, or nothing more will come.
    given: Condvar,
    /// Signalled when something is done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    thread: Thread,
    steps: VecDeque<Step>,
    /// The file of the running step.
    under_way: Option<Arc<dyn File>>,
    /// Memory of pieces that were written.
    kept: Vec<Vec<u8>>,
    /// The first failure.
    failure: Option<IoError>,
    /// Nothing more will come.
    has_ended: bool,
}

#[derive(Default)]
enum Thread {
    #[default]
    NotStarted,
    Running(JoinHandle),
    /// No thread can be started.
    None,
}

enum Step {
    Write { file: Arc<dyn File>, offset: u64, bytes: Vec<u8> },
    Sync(Arc<dyn File>),
}

impl WriteBehind {
    /// A writer of pieces of about `piece_bytes`, on a thread out of `threads`.
    #[must_use]
    pub fn new(threads: Arc<dyn Threads>, piece_bytes: usize) -> Arc<Self> {
        let state = Mutex::new(State::default());
        let (given, done) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { piece_bytes, state, given, done });
        Arc::new(Self { threads, shared })
    }

    /// The length of a piece.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.shared.piece_bytes
    }

    /// Hands over a piece for `offset` of `file`. Returns an empty buffer for the next one. Waits
    /// while too many pieces are waiting.
    ///
    /// # Errors
    /// The first failure, of whatever file.
    pub(crate) fn write(
        &self,
        file: &Arc<dyn File>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, IoError> {
        self.give(Step::Write { file: Arc::clone(file), offset, bytes })?;
        Ok(self.shared.state().kept.pop().unwrap_or_default())
    }

    /// Requests a sync of what was given for `file` so far, once that is written.
    ///
    /// # Errors
    /// As [`WriteBehind::write`].
    pub(crate) fn sync(&self, file: &Arc<dyn File>) -> Result<(), IoError> {
        self.give(Step::Sync(Arc::clone(file)))
    }

    fn give(&self, step: Step) -> Result<(), IoError> {
        let mut state = self.shared.wait_for_room()?;
        if matches!(state.thread, Thread::NotStarted) {
            let shared = Arc::clone(&self.shared);
            let started = self.threads.spawn("esker-write", Box::new(move || shared.serve()));
            state.thread = started.map_or(Thread::None, Thread::Running);
        }
        state.steps.push_back(step);
        if matches!(state.thread, Thread::Running(_)) {
            self.shared.given.notify_one();
            return Ok(());
        }
        drop(state);
        let ending = Ending(&self.shared);
        self.shared.take_step();
        drop(ending);
        self.shared.state().outcome()
    }

    /// Returns once everything given is written, and durable where that was requested.
    ///
    /// # Errors
    /// The first failure.
    pub fn settle(&self) -> Result<(), IoError> {
        self.shared.wait_until_idle(self.shared.state()).outcome()
    }

    /// Discards what is not written yet, and returns once no step is running.
    pub fn abandon(&self) {
        let mut state = self.shared.state();
        state.steps.clear();
        drop(self.shared.wait_until_idle(state));
    }

    /// Memory held for pieces, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let state = self.shared.state();
        let under_way = state.under_way.as_ref().map_or(0, |_| self.shared.piece_bytes);
        let kept: usize = state.kept.iter().map(Vec::capacity).sum();
        state.waiting_bytes() + under_way + kept
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.steps.clear();
        state.has_ended = true;
        let thread = std::mem::take(&mut state.thread);
        drop(state);
        self.shared.given.notify_one();
        if let Thread::Running(thread) = thread {
            thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_room(&self) -> Result<MutexGuard<'_, State>, IoError> {
        let mut state = self.state();
        while PIECES_WAITING_MAX * self.piece_bytes <= state.waiting_bytes() {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.outcome()?;
        Ok(state)
    }

    fn wait_until_idle<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while !state.steps.is_empty() || state.under_way.is_some() {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// What the thread does.
    fn serve(&self) {
        let _ending = Ending(self);
        loop {
            while self.take_step() {}
            let mut state = self.state();
            while state.steps.is_empty() {
                if state.has_ended {
                    return;
                }
                state = self.given.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Does the next step, if there is one.
    fn take_step(&self) -> bool {
        let mut state = self.state();
        let Some(step) = state.steps.pop_front() else { return false };
        state.under_way = Some(Arc::clone(step.file()));
        drop(state);
        let (outcome, bytes) = match step {
            Step::Write { file, offset, bytes } => {
                let outcome = file.write_all_at(offset, &bytes);
                file.begin_sync(offset..offset + bytes.len() as u64);
                (outcome, bytes)
            }
            Step::Sync(file) => (file.sync_data(), Vec::new()),
        };
        let mut state = self.state();
        state.under_way = None;
        // A buffer that has grown for a large value is not kept.
        if 0 < bytes.capacity() && bytes.capacity() <= 4 * self.piece_bytes.max(1 << 20) {
            state.keep(bytes);
        }
        if let Err(error) = outcome {
            state.fail(error);
        }
        drop(state);
        self.done.notify_all();
        true
    }
}

impl State {
    fn outcome(&self) -> Result<(), IoError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn waiting_bytes(&self) -> usize {
        self.steps.iter().map(Step::len).sum()
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.kept.len() < PIECES_WAITING_MAX {
            bytes.clear();
            self.kept.push(bytes);
        }
    }

    fn fail(&mut self, error: IoError) {
        self.failure.get_or_insert(error);
        self.steps.clear();
    }
}

impl Step {
    const fn file(&self) -> &Arc<dyn File> {
        match self {
            Self::Write { file, .. } | Self::Sync(file) => file,
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::Sync(_) => 0,
        }
    }
}

/// Dropped by a thread that took steps, in the middle of one if it panics.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(file) = state.under_way.take() {
            let source = io::Error::other("the thread that writes has panicked");
            state.fail(IoError::new("write", file.path(), source));
        }
        drop(state);
        self.0.done.notify_all();
    }
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBehind({} bytes a piece)", self.shared.piece_bytes)
    }
}

#[cfg(test)]
mod tests;
