//! Observes what a read does, as it happens: for `explain` and for metrics.
//!
//! Static dispatch: with [`NoTrace`], every event and every read of the clock compiles to nothing.

use std::fmt;
use std::time::Duration;

use crate::TableProperties;

/// The kind of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlockKind {
    /// Entries.
    Data,
    /// Separators and handles of the data blocks of one partition.
    Index,
    /// The filter of one partition.
    Filter,
    /// The dictionary that data blocks were compressed with.
    Dictionary,
    /// The range tombstones.
    RangeTombstones,
    /// Separators and handles of the partitions.
    TopIndex,
    /// The [`TableProperties`].
    Properties,
    /// One value of a blob file.
    Blob,
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Index => "index",
            Self::Filter => "filter",
            Self::Dictionary => "dictionary",
            Self::RangeTombstones => "range-tombstone",
            Self::TopIndex => "top-index",
            Self::Properties => "properties",
            Self::Blob => "blob",
        })
    }
}

/// What a filter said about a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterVerdict {
    /// The table does not hold the key.
    Excluded,
    /// The table may hold the key.
    MayContain,
    /// The table was built without a filter.
    Absent,
    /// The filter cannot be trusted; the read goes on without it.
    Damaged,
}

/// One block that was needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRead {
    /// What it is.
    pub kind: BlockKind,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Whether it was in the cache; otherwise it was read from the file.
    pub from_cache: bool,
    /// Its size in the file, in bytes.
    pub bytes: u64,
    /// How long it took to read, verify and decode; zero from the cache.
    pub time: Duration,
}

/// Observes what a read does.
pub trait ReadTrace {
    /// Whether anybody listens. If not, events are not even created.
    const ENABLED: bool = true;

    /// Whether anybody listens to [`ReadTrace::waits`]. If not, reads are not first tried without
    /// waiting.
    const LISTENS_TO_WAITS: bool = false;

    /// A data block is not at hand: the read will wait for the device. Called while the block's
    /// slot in the cache is held.
    fn waits(&mut self) {}

    /// A table is being searched.
    fn table(&mut self, _properties: &TableProperties) {}

    /// A filter was asked.
    fn filter(&mut self, _verdict: FilterVerdict) {}

    /// A block was needed.
    fn block(&mut self, _read: BlockRead) {}

    /// `count` entries of the key were stepped over, because the snapshot does not see them.
    fn stepped_over(&mut self, _count: u64) {}
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct NoTrace;

impl ReadTrace for NoTrace {
    const ENABLED: bool = false;
}
