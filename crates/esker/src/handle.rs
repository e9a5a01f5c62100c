//! What all public handles of one database share, and what happens when the last one is dropped.
//!
//! Dropping the last handle waits for the threads, writes buffered log frames to the log, and
//! unlocks the directory. If user code drops it on one of the engine's own threads, it cannot wait:
//! then the threads are only told to end, and the last one to end does the rest (`worker.rs`).

use std::sync::Arc;

use esker_env::JoinHandle;

use crate::engine::Engine;
use crate::error::Result;
use crate::sync::{Mutex, PoisonError};

/// What all handles share: the engine, and the threads that work on it.
#[derive(Debug)]
pub(crate) struct Handle {
    engine: Arc<Engine>,
    /// Emptied when the database is closed.
    threads: Mutex<Vec<JoinHandle>>,
}

impl Handle {
    /// Starts the threads of `engine`.
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Self> {
        // The handle comes first: if a thread fails to start, dropping the handle ends the others.
        let handle = Self { engine, threads: Mutex::default() };
        let threads = || handle.threads.lock().unwrap_or_else(PoisonError::into_inner);
        handle.engine.start_threads(|thread| threads().push(thread))?;
        Ok(handle)
    }

    pub(crate) const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn stop_threads(&self) {
        self.engine.scheduler.stop();
        self.engine.throttle.wake();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(JoinHandle::join);
        // No thread takes them any more.
        self.engine.scheduler.end_on_demand();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.engine.is_served_here() {
            // A job has called user code that drops this, perhaps while it holds a lock, or while
            // another thread waits for the job. Nothing may be waited for here.
            self.engine.scheduler.leave_to_workers();
            self.engine.throttle.wake();
            return;
        }
        self.stop_threads();
        self.engine.abandon();
    }
}
