//! Recent events, for people to read: a bounded list.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use esker_base::Shown;

use crate::error::Error;
use crate::sync::{Mutex, PoisonError};

/// Something that happened inside the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The database was opened.
    Opened {
        /// Operations that were replayed from the log.
        replayed: u64,
        /// How long it took.
        duration: Duration,
    },
    /// A part of the log was dropped at open, because it is damaged or follows damage.
    LogDropped {
        /// The segment.
        file: String,
        /// Where the part starts.
        offset: u64,
        /// How long it was, including the space reserved after the frames.
        bytes: u64,
        /// Why.
        why: String,
    },
    /// Memtables became tables.
    Flushed {
        /// Name of the keyspace.
        keyspace: String,
        /// Tables written.
        table_count: usize,
        /// Bytes written.
        bytes: u64,
        /// How long it took.
        duration: Duration,
    },
    /// Tables were compacted: rewritten or moved.
    Compacted {
        /// Name of the keyspace.
        keyspace: String,
        /// The plan, in words.
        plan: String,
        /// Bytes read.
        bytes_read: u64,
        /// Bytes written.
        bytes_written: u64,
        /// How long it took.
        duration: Duration,
    },
    /// Ingested or bulk-loaded tables joined the tree.
    Ingested {
        /// Name of the keyspace.
        keyspace: String,
        /// How many tables.
        table_count: usize,
        /// Bytes of their files.
        bytes: u64,
        /// The sequence number of all their entries.
        seqno: u64,
        /// How long it took to make them part of the tree, after they were written.
        duration: Duration,
    },
    /// A background job failed. It is tried again, unless it is a compaction that was
    /// [started](crate::Keyspace::start_compaction) on demand.
    JobFailed {
        /// Name of the keyspace, where it has one.
        keyspace: Option<String>,
        /// What failed.
        job: &'static str,
        /// Why.
        error: Error,
    },
    /// An obsolete table or blob file, or an unreferenced file found at open, could not be removed;
    /// the next open tries again.
    RemoveFailed {
        /// Name of the file.
        file: String,
        /// Why.
        error: Error,
    },
    /// A file whose header names another database was removed at open, as nothing refers to it.
    /// Somebody had put it under a name of this one's files, or an ingest was cut short.
    ForeignRemoved {
        /// Name of the file.
        file: String,
    },
    /// The blocks that were in the cache when the database was closed are in it again, as far as
    /// there was room; see [`Options::warm_cache`](crate::Options::warm_cache).
    Warmed {
        /// Blocks that were loaded.
        blocks: u64,
        /// Their size in the cache, in bytes.
        bytes: u64,
        /// File reads that this took, not counting those that opened tables.
        reads: u64,
        /// How long it took.
        duration: Duration,
    },
    /// The list of blocks that were in the cache cannot be used; the cache starts cold.
    WarmListIgnored {
        /// Name of the list.
        file: String,
        /// Why.
        error: Error,
    },
    /// Blocks of a table that were in the cache could not be loaded again; reads of them will
    /// report why.
    WarmBlocksLeftOut {
        /// Name of the table.
        file: String,
        /// Why.
        error: Error,
    },
    /// The list of blocks in the cache could not be written at close. Nothing else is affected.
    WarmListNotSaved {
        /// Why.
        error: Error,
    },
    /// Writing has stopped until the database is reopened.
    Poisoned {
        /// Why.
        cause: Error,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { replayed, duration } => {
                write!(f, "opened in {duration:.1?}, {replayed} operations replayed")
            }
            Self::LogDropped { file, offset, bytes, why } => {
                write!(f, "dropped {bytes} bytes of {file} from {offset} on: {why}")
            }
            Self::Flushed { keyspace, table_count, bytes, duration } => write!(
                f,
                "flushed {}: {bytes} bytes in {table_count} tables, {duration:.1?}",
                Shown::from(&**keyspace)
            ),
            Self::Ingested { keyspace, table_count, bytes, seqno, duration } => write!(
                f,
                "ingested into {}: {bytes} bytes in {table_count} tables as {seqno}, \
                 {duration:.1?}",
                Shown::from(&**keyspace)
            ),
            Self::Compacted { keyspace, plan, bytes_read, bytes_written, duration } => write!(
                f,
                "compacted {}: {plan}, read {bytes_read} and wrote {bytes_written} bytes, \
                 {duration:.1?}",
                Shown::from(&**keyspace)
            ),
            Self::JobFailed { keyspace: Some(keyspace), job, error } => {
                write!(f, "{job} of {} failed: {error}", Shown::from(&**keyspace))
            }
            Self::JobFailed { keyspace: None, job, error } => write!(f, "{job} failed: {error}"),
            Self::RemoveFailed { file, error } => {
                write!(f, "could not remove obsolete {file}: {error}")
            }
            Self::ForeignRemoved { file } => {
                write!(
                    f,
                    "removed {file}, to which nothing refers, and whose header names another database: \
                     somebody had put it there, or an ingest was cut short"
                )
            }
            Self::Warmed { blocks, bytes, reads, duration } => write!(
                f,
                "warmed the cache: {blocks} blocks of {bytes} bytes by {reads} reads, {duration:.1?}"
            ),
            Self::WarmListIgnored { file, error } => {
                write!(f, "did not warm the cache by {file}: {error}")
            }
            Self::WarmBlocksLeftOut { file, error } => {
                write!(f, "did not warm the cache with blocks of {file}: {error}")
            }
            Self::WarmListNotSaved { error } => {
                write!(f, "could not write down what the cache holds: {error}")
            }
            Self::Poisoned { cause } => write!(f, "writing stopped: {cause}"),
        }
    }
}

/// Called with each event as it happens, on the thread where it happens: it should return quickly,
/// and must not call the database. It may drop handles of it; see [`Db`](crate::Db) about the last
/// one. If it panics, only that event is lost to it.
pub type EventListener = Arc<dyn Fn(&Event) + Send + Sync>;

/// How many events are kept.
const EVENT_COUNT_MAX: usize = 256;

/// The last events, oldest first, each with the time of the engine's clock.
pub(crate) struct EventLog {
    events: Mutex<VecDeque<(Duration, Event)>>,
    listener: Option<EventListener>,
}

impl EventLog {
    pub(crate) fn new(listener: Option<EventListener>) -> Self {
        Self { events: Mutex::default(), listener }
    }

    pub(crate) fn record(&self, now: Duration, event: Event) {
        if let Some(listener) = &self.listener {
            // What the engine does next must not depend on the listener.
            _ = catch_unwind(AssertUnwindSafe(|| listener(&event)));
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENT_COUNT_MAX {
            events.pop_front();
        }
        events.push_back((now, event));
    }

    pub(crate) fn list(&self) -> Vec<(Duration, Event)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
