//! Ends the tests when one hangs, and reports which, with its seed.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use esker::env::{SystemThreads, Threads as _};

/// The longest that a test may go without a step, however slow the machine.
const LIMIT: Duration = Duration::from_secs(30);

thread_local! {
    /// Steps of the test that runs on this thread.
    static STEPS: RefCell<Arc<AtomicU64>> = RefCell::default();
}

/// Watches the test on this thread until it is dropped.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "its drop ends the watch")] Sender<()>);

impl Watchdog {
    /// `test` is what to call it when it hangs.
    pub(crate) fn start(test: String) -> Self {
        let (sender, receiver) = channel();
        let steps = STEPS.with_borrow(Arc::clone);
        let task = Box::new(move || watch(&receiver, &steps, &test));
        drop(SystemThreads.spawn("watchdog", task).unwrap());
        Self(sender)
    }
}

/// The test on this thread is getting on.
pub(crate) fn step() {
    STEPS.with_borrow(|steps| steps.fetch_add(1, Ordering::Relaxed));
}

fn watch(end: &Receiver<()>, steps: &AtomicU64, test: &str) {
    let mut seen = steps.load(Ordering::Relaxed);
    while end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
        let now = steps.load(Ordering::Relaxed);
        if now == seen {
            eprintln!("{test} hangs: no step for {} s", LIMIT.as_secs());
            std::process::abort();
        }
        seen = now;
    }
}
