//! Threads for background work.

use std::fmt;
use std::thread;

use crate::IoError;

/// Starts threads.
pub trait Threads: Send + Sync + fmt::Debug + 'static {
    /// Runs `task` on a thread called `name`.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError>;
}

/// Waits for a thread to end. Dropped without a join, it lets the thread run on.
pub struct JoinHandle(Box<dyn FnOnce() + Send>);

impl JoinHandle {
    /// A handle whose [`JoinHandle::join`] runs `wait`.
    #[must_use]
    pub fn new(wait: Box<dyn FnOnce() + Send>) -> Self {
        Self(wait)
    }

    /// Waits until the thread has ended, however it ended. Returns at once if it is the caller's
    /// own thread.
    pub fn join(self) {
        (self.0)();
    }
}

impl fmt::Debug for JoinHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}

/// The threads of the operating system.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemThreads;

impl Threads for SystemThreads {
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(task)
            .map_err(|source| IoError::new("start thread", name, source))?;
        Ok(JoinHandle::new(Box::new(move || {
            if thread.thread().id() != thread::current().id()
                || esker_base::planted::is("thread-waits-for-itself")
            {
                // A panic has been printed by the thread; whoever joins only wants to know that it ended.
                drop(thread.join());
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn join_waits_for_the_end() {
        let done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&done);
        let task = Box::new(move || flag.store(true, Ordering::Release));
        SystemThreads.spawn("worker", task).unwrap().join();
        assert!(done.load(Ordering::Acquire));
    }

    #[test]
    fn join_returns_from_a_thread_that_panicked() {
        SystemThreads.spawn("panics", Box::new(|| panic!("as the test asks"))).unwrap().join();
    }

    #[test]
    fn join_on_the_thread_itself_returns_at_once() {
        let (give, given) = mpsc::channel::<JoinHandle>();
        let (say, has_returned) = mpsc::channel();
        let task = Box::new(move || {
            given.recv().unwrap().join();
            say.send(()).unwrap();
        });
        give.send(SystemThreads.spawn("joins itself", task).unwrap()).unwrap();
        has_returned.recv().unwrap();
    }
}
