//! Floor 3 of Esker: many tables as one sorted map.
//!
//! A tree consists of levels, a level of runs (newest first), a run of tables with disjoint keys. A
//! [`Version`] is one state of a tree, a [`VersionEdit`] the change to the next one, the
//! [`Manifest`] the durable log of edits, the [`Catalog`] the sum of them. A [`Policy`] looks at
//! the [`Shape`] of a tree and returns a [`Plan`] that says what to compact; policies are pure
//! functions. Cursors merge runs and memtables into the view of one reader. Flush and compaction
//! write new tables.
//!
//! Does not know who calls it: no threads, no locks, no keyspace options, no scheduling.

#![forbid(unsafe_code)]

mod blob_account;
mod blob_options;
mod blob_output;
mod catalog;
mod compaction;
mod coverage;
mod cursor;
mod edit;
mod expired;
mod fence;
mod filter;
mod flush;
mod gc;
mod imagined;
mod job;
mod level;
mod manifest;
mod meaning;
mod merge;
mod older;
mod operands;
mod operator;
mod output;
mod placement;
mod plan;
mod point_merge;
mod policy;
mod range_drops;
mod range_gc;
mod read_error;
mod recorded;
mod replay;
mod rewrite;
mod run;
mod run_cursor;
mod run_index;
mod shape;
mod sieve;
mod source_cursor;
mod split;
mod times;
mod upkeep;
mod version;
mod visible;
mod waiting;
mod warm_list;

#[cfg(test)]
mod test_random;
#[cfg(test)]
mod test_tree;
#[cfg(test)]
mod testing;

pub use blob_account::{BlobAccount, BlobFileUse, pick_blob_waste};
pub use blob_options::{BlobBound, BlobOptions};
pub use catalog::{Catalog, KeyspaceState, TablePlace};
pub use compaction::{CompactedPart, CompactionOutput, compact, compact_part, join_parts};
pub use coverage::Coverage;
pub use cursor::{Cursor, PinnedValue, Step};
pub use edit::{EditError, EditRecord, EditRefused, MANIFEST_FORMAT, VersionEdit};
pub use expired::drop_expired;
pub use filter::{
    CompactionFilter, CompactionFilterFactory, Filter, FilterContext, FilterDecision, FilterError,
    FilterFailure,
};
pub use flush::{FlushInput, flush};
pub use gc::{Fate, Gc, Readers};
pub use imagined::imagined_table;
pub use job::{Job, JobError, Progress, Signal, TargetLevel};
pub use level::Level;
pub use manifest::{Manifest, Recovered};
pub use meaning::{BlobReads, Meaning, ReadContext};
pub use merge::MergingCursor;
pub use operator::{Merge, MergeError, MergeErrorCause, MergeFailure, MergeOperator};
pub use placement::Placement;
pub use plan::{Busy, JobId, Plan, PlanInput, PlanReason};
pub use point_merge::{PointMerge, PointStep};
pub use policy::{
    BadOption, Fifo, FifoOptions, LastLevel, Lazy, LazyOptions, Leveled, LeveledByBytes,
    LeveledByBytesOptions, LeveledOptions, Never, Policy, RangeRequest, Simple, SimpleOptions,
    Tiered, TieredOptions, TimeWindow, TimeWindowOptions, Universal, UniversalOptions,
};
pub use range_drops::pick_drop;
pub use read_error::{ReadError, UnsupportedKind};
pub use recorded::{Recorded, RecordedMerge};
pub use replay::{Replay, ReplayFacts, ReplayFigures, ReplayLevel, ReplaySetup};
pub use rewrite::INTERRUPT_BYTES;
pub use run::Run;
pub use run_cursor::RunCursor;
pub use shape::{LEVEL_COUNT_MAX, LevelShape, RunId, RunShape, Shape, Timeline};
pub use source_cursor::SourceCursor;
pub use split::{PartRange, split};
pub use times::times_of_all;
pub use upkeep::{
    BYTES_PER_SEARCH, Moment, SEARCHES_PER_READ, Upkeep, newest_run_frees_much, oldest_delete,
    reclaimable_bytes,
};
pub use version::Version;
pub use visible::{SteppedOver, VisibleCursor};
pub use warm_list::{WARM_FORMAT, WarmBlock, WarmList};
