//! All meters at one moment.

use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use esker::{CounterValues, Db};

use super::process;

/// What the meters show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) now: Duration,
    pub(super) processor: Duration,
    /// Bytes that the process handed to the system for writing.
    pub(super) process_bytes: Option<u64>,
    /// What the engine has counted since it was opened.
    pub(super) counters: CounterValues,
}

impl Reading {
    pub(super) fn take(clock: SystemClock, db: &Db) -> Self {
        Self {
            now: clock.now(),
            processor: process::processor_time(),
            process_bytes: process::written_bytes(),
            counters: db.stats().counters,
        }
    }
}
