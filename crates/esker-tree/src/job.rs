//! What flush and compaction have in common: their environment, their progress, and how they end
//! early.
//!
//! Does not know what is written, nor when it is worthwhile.

use std::fmt;

use esker_base::sync::atomic::{AtomicU64, Ordering};
use esker_base::{KeyspaceId, TableId};
use esker_env::FileError;
use esker_table::{TableContext, TableOptions};

use crate::blob_options::BlobOptions;
use crate::filter::{Filter, FilterError};
use crate::meaning::ReadContext;
use crate::read_error::UnsupportedKind;

/// What the caller of a flush or a compaction provides.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where tables are.
    pub tables: &'a TableContext,
    /// The keyspace of the entries.
    pub keyspace: KeyspaceId,
    /// Gives the entries their meaning. Without the merge operator, operands stay as they are.
    pub context: &'a ReadContext,
    /// The compaction filter, with the name of the keyspace; not for flushes.
    pub filter: Option<(&'a Filter, &'a str)>,
    /// How to build a table for a level.
    pub options: &'a dyn Fn(TargetLevel) -> TableOptions,
    /// Which values go to blob files.
    pub blobs: BlobOptions,
    /// Allocates the id of the next table or blob file; `None`, for a reason that the caller keeps,
    /// cancels the job.
    pub next_id: &'a dyn Fn() -> Option<TableId>,
    /// Called about once for each block that is read; it may wait, to yield to other work.
    pub interrupt: &'a dyn Fn() -> Signal,
    /// Kept up to date while the job runs.
    pub progress: &'a Progress,
}

impl Job<'_> {
    /// Milliseconds since the Unix epoch, by the clock of the machine.
    pub(crate) fn wall_millis(&self) -> u64 {
        u64::try_from(self.tables.clock.wall().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The level that a table is built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetLevel {
    /// The level.
    pub level: usize,
    /// The deepest level that has tables, or gets them from this job.
    pub deepest: usize,
}

impl TargetLevel {
    /// Whether it is one of the two deepest levels, where most data lies and little is rewritten;
    /// a flush into level 0 is not.
    #[must_use]
    pub const fn is_deep(self) -> bool {
        self.level > 0 && self.level + 1 >= self.deepest
    }
}

/// Whether a job goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// It does.
    Continue,
    /// It ends with [`JobError::Cancelled`] and leaves nothing behind.
    Cancel,
}

/// The progress of a job, readable while it runs. A job starts with all zeros, and its parts, if it
/// has several, share one.
#[derive(Default, Debug)]
pub struct Progress {
    // Counters only: added to by the threads of the job, and ordering nothing.
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    entries_in: AtomicU64,
    entries_dropped: AtomicU64,
}

impl Progress {
    /// Bytes of keys, trailers and values read, before compression.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of table files, finished or about to be.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Entries read.
    #[must_use]
    pub fn entries_in(&self) -> u64 {
        self.entries_in.load(Ordering::Relaxed)
    }

    /// How many of those were not written again.
    #[must_use]
    pub fn entries_dropped(&self) -> u64 {
        self.entries_dropped.load(Ordering::Relaxed)
    }

    /// Resets to zeros, for a job that starts over.
    pub fn clear(&self) {
        for counter in [&self.bytes_in, &self.bytes_out, &self.entries_in, &self.entries_dropped] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Adds the difference between `now` and `before`, which may be negative: estimates may go
    /// back.
    pub(crate) fn advance(&self, before: &Reached, now: &Reached) {
        let add = |counter: &AtomicU64, before: u64, now: u64| {
            counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        };
        add(&self.bytes_in, before.bytes_in, now.bytes_in);
        add(&self.bytes_out, before.bytes_out, now.bytes_out);
        add(&self.entries_in, before.entries_in, now.entries_in);
        add(&self.entries_dropped, before.entries_dropped, now.entries_dropped);
    }
}

/// The progress of one part of a job, as counted by [`Progress`].
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Reached {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) entries_in: u64,
    pub(crate) entries_dropped: u64,
}

/// Why a flush or a compaction ended without a result. It left no file behind.
#[derive(Clone, Debug)]
pub enum JobError {
    /// A table could not be read or written.
    File(FileError),
    /// An entry with unknown meaning, so that it is unknown whether it may be dropped.
    UnsupportedKind(UnsupportedKind),
    /// The compaction filter failed.
    Filter(FilterError),
    /// The interrupt requested it, or there was no id for a table.
    Cancelled,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::UnsupportedKind(error) => error.fmt(f),
            Self::Filter(error) => error.fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(error),
            Self::UnsupportedKind(error) => Some(error),
            Self::Filter(error) => Some(error),
            Self::Cancelled => None,
        }
    }
}

impl From<FileError> for JobError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<FilterError> for JobError {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}

impl From<UnsupportedKind> for JobError {
    fn from(error: UnsupportedKind) -> Self {
        Self::UnsupportedKind(error)
    }
}
