//! Esker: an embeddable, ordered, persistent key-value store.
//!
//! A log-structured merge tree in pure Rust: keys and values are byte strings, kept in key order,
//! in named keyspaces that share one log, one cache and one memory budget.
//!
//! ```
//! # fn main() -> esker::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("esker-doc-tour-{}", std::process::id()));
//! use esker::{Db, KeyspaceOptions};
//!
//! let db = Db::open(&dir)?;
//! db.put("k", "v")?;
//! assert_eq!(db.get("k")?.unwrap(), "v");
//!
//! let users = db.keyspace("users", KeyspaceOptions::default())?;
//! let by_mail = db.keyspace("users by mail", KeyspaceOptions::default())?;
//! let mut batch = db.batch();
//! batch.put(&users, "1", "ada@example.org");
//! batch.put(&by_mail, "ada@example.org", "1");
//! batch.commit()?; // both or neither
//!
//! let before = db.snapshot();
//! users.delete("1")?;
//! assert!(users.get("1")?.is_none());
//! assert!(before.keyspace(&users).get("1")?.is_some());
//!
//! for entry in by_mail.prefix("ada").rev() {
//!     let (mail, id) = entry?;
//!     assert_eq!((&*mail, &*id), (&b"ada@example.org"[..], &b"1"[..]));
//! }
//! db.close()?;
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # Principal types
//! [`Db`] is an open database and doubles as its default keyspace; [`Keyspace`] is one ordered map
//! in it. [`Batch`] writes to several keyspaces atomically, [`Snapshot`] reads them as of one
//! moment, [`Scan`] iterates over a range from both ends, [`Cursor`] moves freely and borrows the
//! entries it shows.
//!
//! # Durability
//! A write returns once it is as safe as requested: [`Durability::Process`], the default, survives
//! any end of the process; [`Durability::Power`] survives loss of power; [`Durability::Buffered`]
//! survives neither during its first tenth of a second. [`Db::sync`] makes all earlier writes
//! survive loss of power. After a crash of either kind, the database holds a prefix of the commits,
//! in commit order, that includes every write promised to survive it; a batch is there as a whole
//! or not at all.
//!
//! # Errors
//! Every call that can fail returns an [`Error`], whose [`ErrorKind`] says what to do; a missing
//! key is `Ok(None)`. Damage on disk is [`ErrorKind::Corruption`], with file and offset; [`doctor`]
//! finds and repairs it.
//!
//! # Looking inside
//! [`Db::explain_get`] shows what a read looked at and why, [`Db::levels`] shows the tree,
//! [`Db::stats`] returns counters, and [`Db::health`] says whether background work keeps up.
//!
//! # Options
//! [`KeyspaceOptions`] holds the [`CompactionPolicy`] and has presets for common uses, such as
//! [`KeyspaceOptions::queue`]; [`Options`] apply to the whole database. The defaults are meant to
//! be left alone.
//!
//! # Limits
//! Keys have up to 65,535 bytes, as encoded by their [`Order`], and values less than 4 GiB; both
//! may be empty. Either one process has a database open for writing, or several have it open for
//! reading ([`DbBuilder::read_only`]).
//!
//! # Features
//! - `zstd`: Zstandard compression; compiles C code.

#![forbid(unsafe_code)]

mod batch;
mod bytes;
mod commit;
mod commit_queue;
mod compaction_handle;
mod counters;
mod cursor;
mod damaged;
mod db;
mod db_builder;
mod deleted_range;
mod directory_syncs;
pub mod doctor;
mod engine;
mod error;
mod events;
mod expiry;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod inspect;
mod jobs;
mod key_order;
pub mod keys;
mod keyspace;
mod keyspace_core;
mod ledger;
mod load;
mod logs;
mod operation;
pub mod operators;
mod options;
mod read;
mod recovery;
mod running;
mod scan;
#[cfg(test)]
mod schedule_tests;
mod scheduler;
mod snapshot;
mod sync;
mod throttle;

pub use batch::Batch;
pub use bytes::{Bytes, Key, Value};
pub use compaction_handle::CompactionHandle;
pub use counters::CounterValues;
pub use cursor::Cursor;
pub use db::Db;
pub use db_builder::DbBuilder;
pub use error::{Error, ErrorKind, Outcome, Result};
pub use esker_base::limits;
pub use esker_cache::CacheStats;
pub use esker_env as env;
pub use esker_table::{BlockRead, FilterVerdict, PrefixRule, UnknownPrefixRule};
pub use esker_tree::{
    CompactionFilter, CompactionFilterFactory, Filter, FilterContext, FilterDecision,
    FilterFailure, Merge, MergeFailure, MergeOperator,
};
pub use esker_tree::{
    FifoOptions, LazyOptions, LeveledByBytesOptions, SimpleOptions, TieredOptions,
    TimeWindowOptions, UniversalOptions,
};
pub use events::{Event, EventListener};
pub use expiry::Expiry;
pub use inspect::explain::{ExcludedTable, GetExplanation, GetStep, ScanExplanation, ScanInput};
pub use inspect::health::{FailingJob, Health, LateDelete, Stall, StallInfo};
pub use inspect::levels::{BlobFileInfo, LevelInfo, Levels, MemtableInfo, RunInfo, TableInfo};
pub use inspect::planned::PlannedJob;
pub use inspect::stats::{KeyspaceStats, Stats};
pub use inspect::what_if::{WhatIf, WhatIfLevel, WhatIfOutcome};
pub use key_order::{KeyOrder, Order, ReverseBytewise, UndecodableKey};
pub use keyspace::Keyspace;
pub use load::bulk_loader::{BulkLoadReport, BulkLoader};
pub use load::ingest::{IngestOptions, IngestReport, IngestedTable};
pub use load::table_writer::{TableFile, TableWriter, TableWriterOptions};
pub use options::{CompactionPolicy, Compression, Durability, KeyspaceOptions, Options};
pub use recovery::mode::RecoveryMode;
pub use running::{JobKind, RunningJob};
pub use scan::Scan;
pub use scheduler::on_demand::{
    CompactionEnd, CompactionProgress, CompactionReport, CompactionState,
};
pub use snapshot::{Snapshot, SnapshotView};
pub use throttle::pressure::StallCause;

/// Compiles and runs the sample of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
