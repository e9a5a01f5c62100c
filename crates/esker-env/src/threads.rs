//! Threads for background work.

use std::fmt;

use crate::IoError;

/// Starts threads.
pub trait Threads: Send + Sync + fmt::Debug + 'static {
    /// Runs `task` on a thread called `name`.
    ///
    /// # Errors
    /// If the system has no thread to give.
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError>;
}

/// Waits for a thread to end.
pub struct JoinHandle(Box<dyn FnOnce() + Send>);

impl JoinHandle {
    /// A handle whose [`JoinHandle::join`] runs `wait`.
    #[must_use]
    pub fn new(wait: Box<dyn FnOnce() + Send>) -> Self {
        Self(wait)
    }

    /// Returns when the thread has ended, however it ended.
    pub fn join(self) {
        (self.0)();
    }
}

impl fmt::Debug for JoinHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}
