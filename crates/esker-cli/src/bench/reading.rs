//! All meters at one moment.

use std::time::Duration;

use esker::Db;
use esker::env::{Clock as _, SystemClock};

use super::process;

/// What the meters show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) now: Duration,
    pub(super) processor: Duration,
    /// Bytes that the process handed to the system to write.
    pub(super) process_bytes: Option<u64>,
    /// Bytes that the engine counts as written: log, flushes, compactions.
    pub(super) engine_bytes: u64,
    pub(super) delayed_micros: u64,
}

impl Reading {
    pub(super) fn take(clock: SystemClock, db: &Db) -> Self {
        let counters = db.stats().counters;
        Self {
            now: clock.now(),
            processor: process::processor_time(),
            process_bytes: process::written_bytes(),
            engine_bytes: counters.log_bytes
                + counters.flush_bytes
                + counters.compaction_write_bytes,
            delayed_micros: counters.delayed_micros,
        }
    }
}
