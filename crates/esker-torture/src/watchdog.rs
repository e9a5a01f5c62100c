//! Ends the driver when a run does not end by itself: a hang is a failure with a seed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use esker::env::{SystemThreads, Threads as _};

use crate::say;

/// The longest time for one run.
const LIMIT: Duration = Duration::from_secs(30);

/// Watches runs, one after the other.
pub(crate) struct Watchdog(Sender<String>);

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = channel();
        // Without it, a hang would be left to whoever started the driver.
        let thread = SystemThreads.spawn("watchdog", Box::new(move || watch(&receiver)));
        drop(thread.expect("the system has a thread for the watchdog"));
        Self(sender)
    }

    /// A run begins; the previous one has ended.
    pub(crate) fn enter(&self, run: String) {
        // The thread ends the process before it ends.
        drop(self.0.send(run));
    }
}

fn watch(runs: &Receiver<String>) {
    let mut run = String::new();
    loop {
        let limit = if run.is_empty() { Duration::from_secs(3600) } else { LIMIT };
        match runs.recv_timeout(limit) {
            Ok(next) => run = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                say(&format!("FAILED: hangs since {} s: {run}", limit.as_secs()));
                std::process::exit(1);
            }
        }
    }
}
