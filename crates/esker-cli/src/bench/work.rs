//! The work of one benchmark, on one thread or on all. Does not know how it is shown.

use esker::env::SystemClock;

use super::latencies::Latencies;

/// What was done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) operations: u64,
    /// Keys that were found; entries that were read.
    pub(super) found: u64,
    /// Keys and values that were written.
    pub(super) user_bytes: u64,
    pub(super) latencies: Latencies,
}

impl Work {
    pub(super) fn start(clock: SystemClock) -> Self {
        Self { operations: 0, found: 0, user_bytes: 0, latencies: Latencies::start(clock) }
    }

    pub(super) fn add(mut self, other: &Self) -> Self {
        self.operations += other.operations;
        self.found += other.found;
        self.user_bytes += other.user_bytes;
        self.latencies.add(&other.latencies);
        self
    }
}
