//! What all public handles of one database share, and what happens when the last of them goes.

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
        // First of all the handle: should a thread fail to start, its drop ends the others.
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
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop_threads();
        self.engine.abandon();
    }
}
