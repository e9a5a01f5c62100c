//! Counts and prints how much the harnesses have run, so that figures in documents come from runs.
//!
//! A line `counted: NUMBER WHAT` on standard error; `cargo run -p xtask -- prove` adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count of one kind of thing, over all seeds of a test.
pub(crate) struct Tally {
    what: &'static str,
    count: AtomicU64,
}

impl Tally {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, count: AtomicU64::new(0) }
    }

    /// So many more.
    pub(crate) fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    /// Prints what was counted since the last time.
    pub(crate) fn print(&self) {
        eprintln!("counted: {} {}", self.count.swap(0, Ordering::Relaxed), self.what);
    }
}
