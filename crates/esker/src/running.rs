//! The running flushes and compactions, in one list: for people, and for code that waits for one.
//!
//! Does not start or end anything.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use esker_base::Shown;
use esker_tree::Progress;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What a background job does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum JobKind {
    /// Memtables become tables.
    Flush,
    /// Tables become other tables, or change their level.
    Compaction,
}

impl JobKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Compaction => "compaction",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A running flush or compaction, automatic or not.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RunningJob {
    /// What it does.
    pub kind: JobKind,
    /// Name of the keyspace when it began.
    pub keyspace: String,
    /// Why, in a word or two: `flush`, or the reason of a [`PlannedJob`](crate::PlannedJob).
    pub reason: &'static str,
    /// The inputs, in words.
    pub inputs: String,
    /// How many memtables or tables go in.
    pub input_count: usize,
    /// Their size in memory or on disk, in bytes.
    pub input_bytes: u64,
    /// Bytes of the inputs that have been read, estimated from the share of entries read.
    pub bytes_in: u64,
    /// Bytes of table files written.
    pub bytes_out: u64,
    /// When it began, on the clock of [`Db::events`](crate::Db::events).
    pub started: Duration,
    /// How long ago that was.
    pub age: Duration,
}

impl fmt::Display for RunningJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} for {:.1?}: {} of {} bytes read, {} written; {}",
            self.kind,
            Shown::from(&*self.keyspace),
            self.age,
            self.bytes_in,
            self.input_bytes,
            self.bytes_out,
            self.inputs
        )
    }
}

/// A job as the engine keeps it while it runs.
#[derive(Debug)]
pub(crate) struct JobRecord {
    pub(crate) kind: JobKind,
    pub(crate) keyspace: Arc<str>,
    pub(crate) reason: &'static str,
    pub(crate) inputs: String,
    pub(crate) input_count: usize,
    pub(crate) input_bytes: u64,
    /// Entries of the inputs.
    pub(crate) entry_count: u64,
    pub(crate) started: Duration,
    pub(crate) progress: Progress,
}

impl JobRecord {
    /// Bytes of the inputs that have been read: the same share as of their entries.
    pub(crate) fn bytes_in(&self) -> u64 {
        let read = u128::from(self.progress.entries_in().min(self.entry_count));
        let bytes = u128::from(self.input_bytes) * read / u128::from(self.entry_count.max(1));
        u64::try_from(bytes).expect("a share of a number is no larger")
    }

    fn shown(&self, now: Duration) -> RunningJob {
        RunningJob {
            kind: self.kind,
            keyspace: self.keyspace.to_string(),
            reason: self.reason,
            inputs: self.inputs.clone(),
            input_count: self.input_count,
            input_bytes: self.input_bytes,
            bytes_in: self.bytes_in(),
            bytes_out: self.progress.bytes_out(),
            started: self.started,
            age: now.saturating_sub(self.started),
        }
    }
}

/// The list, in the order in which the jobs began.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs {
    /// The number of the next job, and the jobs. Held for a moment only.
    jobs: Mutex<(u64, BTreeMap<u64, Arc<JobRecord>>)>,
}

impl RunningJobs {
    fn jobs(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Arc<JobRecord>>)> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists `record` until what this returns is dropped.
    pub(crate) fn start(&self, record: JobRecord) -> Listed<'_> {
        let record = Arc::new(record);
        let mut jobs = self.jobs();
        let number = jobs.0;
        jobs.0 += 1;
        jobs.1.insert(number, Arc::clone(&record));
        Listed { jobs: self, number, record }
    }

    pub(crate) fn list(&self, now: Duration) -> Vec<RunningJob> {
        self.jobs().1.values().map(|record| record.shown(now)).collect()
    }
}

/// Keeps a job in the list.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    jobs: &'a RunningJobs,
    number: u64,
    record: Arc<JobRecord>,
}

impl Listed<'_> {
    pub(crate) const fn record(&self) -> &Arc<JobRecord> {
        &self.record
    }
}

impl Deref for Listed<'_> {
    type Target = JobRecord;

    fn deref(&self) -> &JobRecord {
        &self.record
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.jobs.jobs().1.remove(&self.number);
    }
}
