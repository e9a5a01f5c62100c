//! One background thread of an engine, from before its start to its end.
//!
//! Knows on which threads jobs run, and which thread is the last to end, but not what they do.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use crate::engine::Engine;

crate::sync::thread_local! {
    /// The engine whose jobs this thread does, or null. Only compared, never dereferenced.
    static SERVED: Cell<*const Engine> = const { Cell::new(ptr::null()) };
}

impl Engine {
    /// Whether this is one of the engine's own threads: if so, the caller was called by a job.
    pub(crate) fn is_served_here(&self) -> bool {
        // A thread past its end serves no engine.
        SERVED.try_with(|served| ptr::eq(served.get(), self)).unwrap_or(false)
    }
}

/// Counts as a thread of its engine until dropped, on that thread if it could be started.
pub(crate) struct Worker {
    engine: Arc<Engine>,
}

impl Worker {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        engine.scheduler.note_worker();
        Self { engine: Arc::clone(engine) }
    }

    /// Makes this thread one of the engine's.
    pub(crate) fn begin(&self) -> &Engine {
        SERVED.with(|served| served.set(Arc::as_ptr(&self.engine)));
        &self.engine
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.engine.scheduler.note_worker_end() {
            self.engine.abandon();
        }
        if self.engine.is_served_here() {
            SERVED.with(|served| served.set(ptr::null()));
        }
    }
}
