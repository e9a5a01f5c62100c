//! The rows of the tables: which workload, on what database, how.

/// What the threads of a row do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Puts every key once.
    Fill,
    /// The same in batches of so many.
    FillBatch(usize),
    /// Puts, each of which waits for the device.
    FillSync,
    Overwrite,
    DeleteRandom,
    ReadRandom,
    /// Zipf-distributed.
    ReadHot,
    ReadMissing,
    /// Batches of so many keys.
    MultiGet(usize),
    /// A seek, and entries up to this many, in ascending order.
    Seek(u64),
    SeekReverse(u64),
    ReadSeq,
    ReadReverse,
    /// One thread reads while another writes at a fixed rate.
    ReadWhileWriting,
    /// Zipf-distributed; so many of 100 operations read (or scan), the others write.
    Ycsb(Mix),
    /// Every key, ascending, by what the engine has for loading many at once.
    BulkLoad,
    Compact,
    OpenClean,
    OpenAfterKill,
}

/// A mix of YCSB: so many of 100 operations only read, the others write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mix {
    pub(crate) reads: u64,
    pub(crate) kind: MixKind,
}

/// What reads and writes of a mix are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MixKind {
    /// Gets, and puts of keys that exist (A, B, C).
    Update,
    /// Gets of what was inserted last, and puts of new keys (D).
    Latest,
    /// Scans, and puts of new keys (E).
    Scan,
    /// Gets, and gets that are followed by a put of the same key (F).
    ReadModifyWrite,
}

/// Which database a row works on. Rows that share one come in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Data {
    /// An empty one of its own, removed afterwards.
    Fresh,
    /// One of its own that was filled by single puts just before, off the clock: flushes and
    /// compactions are still to be done. Where compactions are what is measured, only these are, and
    /// none has run before, in engines that let one say so.
    JustFilled,
    /// An empty one that the rows with `Filled` use afterwards.
    Fills,
    /// What `Fills` has left.
    Filled,
}

/// How much of the data the cache holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CacheSize {
    /// A ninth of the data; the rest is in the page cache.
    Small,
    /// All of it, and it is read before the clock starts.
    Everything,
    /// 64 MiB, in a process that may use 256 MiB, the system's page cache included, and that finds
    /// nothing of the files in memory.
    Cold,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) workload: Workload,
    pub(crate) data: Data,
    pub(crate) cache: CacheSize,
    pub(crate) threads: u64,
    pub(crate) is_sequential: bool,
    pub(crate) is_quick: bool,
}

impl Data {
    /// Whether the database is made for the row, and removed after it.
    pub(crate) const fn is_own(self) -> bool {
        matches!(self, Fresh | JustFilled)
    }
}

impl Row {
    const fn new(name: &'static str, workload: Workload, data: Data, cache: CacheSize) -> Self {
        let (threads, is_sequential, is_quick) = (1, false, false);
        Self { name, workload, data, cache, threads, is_sequential, is_quick }
    }

    const fn quick(self) -> Self {
        Self { is_quick: true, ..self }
    }

    const fn threads(self, threads: u64) -> Self {
        Self { threads, ..self }
    }

    const fn sequential(self) -> Self {
        Self { is_sequential: true, ..self }
    }

    /// Whether it measures a time of which less is better, in milliseconds.
    pub(crate) const fn is_time(&self) -> bool {
        matches!(self.workload, Workload::OpenClean | Workload::OpenAfterKill)
    }

    /// Whether it waits for the device at each write (durability D2).
    pub(crate) const fn syncs(&self) -> bool {
        matches!(self.workload, Workload::FillSync)
    }

    pub(crate) const fn writes(&self) -> bool {
        use Workload::{
            BulkLoad, Compact, DeleteRandom, Fill, FillBatch, FillSync, Overwrite,
            ReadWhileWriting, Ycsb,
        };
        match self.workload {
            Fill | FillBatch(_) | FillSync | Overwrite | DeleteRandom | ReadWhileWriting
            | BulkLoad | Compact => true,
            Ycsb(mix) => mix.reads < 100,
            _ => false,
        }
    }
}

use CacheSize::{Cold, Everything, Small};
use Data::{Filled, Fills, Fresh, JustFilled};
use MixKind::{Latest, ReadModifyWrite, Scan, Update};

const fn ycsb(reads: u64, kind: MixKind) -> Workload {
    Workload::Ycsb(Mix { reads, kind })
}

/// All rows, in the order in which they run.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    Row::new("fillseq", Workload::Fill, Fresh, Small).sequential(),
    Row::new("fillrandom, 4 threads", Workload::Fill, Fresh, Small).threads(4),
    Row::new("fillbatch(1000)", Workload::FillBatch(1000), Fresh, Small).quick(),
    Row::new("fillsync", Workload::FillSync, Fresh, Small),
    Row::new("fillsync, 8 threads", Workload::FillSync, Fresh, Small).threads(8),
    Row::new("fillsync, 16 threads", Workload::FillSync, Fresh, Small).threads(16),
    Row::new("bulkload", Workload::BulkLoad, Fresh, Small).sequential(),
    Row::new("compact", Workload::Compact, JustFilled, Small),
    Row::new("seekrandom, next 10, before settling", Workload::Seek(10), JustFilled, Everything),
    Row::new("open after kill -9", Workload::OpenAfterKill, Fresh, Small),
    Row::new("fillrandom", Workload::Fill, Fills, Small).quick(),
    Row::new("open", Workload::OpenClean, Filled, Small),
    Row::new("readrandom, small cache", Workload::ReadRandom, Filled, Small).quick(),
    Row::new("readrandom, all in cache", Workload::ReadRandom, Filled, Everything).quick(),
    Row::new("readrandom, all in cache, 2 threads", Workload::ReadRandom, Filled, Everything).threads(2),
    Row::new("readhot", Workload::ReadHot, Filled, Everything),
    Row::new("readmissing", Workload::ReadMissing, Filled, Everything).quick(),
    Row::new("multiget(32)", Workload::MultiGet(32), Filled, Everything),
    Row::new("seekrandom, next 10", Workload::Seek(10), Filled, Everything).quick(),
    Row::new("seekrandom, next 10, small cache", Workload::Seek(10), Filled, Small),
    Row::new("seekrandom, next 100", Workload::Seek(100), Filled, Everything),
    Row::new("seekrandom, reverse 10", Workload::SeekReverse(10), Filled, Everything),
    Row::new("readseq", Workload::ReadSeq, Filled, Everything).quick(),
    Row::new("readreverse", Workload::ReadReverse, Filled, Everything),
    Row::new("cold readrandom", Workload::ReadRandom, Filled, Cold),
    Row::new("cold readrandom, 8 threads", Workload::ReadRandom, Filled, Cold).threads(8),
    Row::new("cold multiget(32)", Workload::MultiGet(32), Filled, Cold),
    Row::new("YCSB C, 2 threads", ycsb(100, Update), Filled, Everything).threads(2),
    Row::new("YCSB B, 2 threads", ycsb(95, Update), Filled, Everything).threads(2),
    Row::new("YCSB A, 2 threads", ycsb(50, Update), Filled, Everything).threads(2).quick(),
    Row::new("YCSB F, 2 threads", ycsb(50, ReadModifyWrite), Filled, Everything).threads(2),
    Row::new("YCSB D, 2 threads", ycsb(95, Latest), Filled, Everything).threads(2),
    Row::new("YCSB E, 2 threads", ycsb(95, Scan), Filled, Everything).threads(2),
    Row::new("readwhilewriting", Workload::ReadWhileWriting, Filled, Everything),
    Row::new("overwrite", Workload::Overwrite, Filled, Small),
    Row::new("overwrite, 4 threads", Workload::Overwrite, Filled, Small).threads(4),
    Row::new("compact what is left", Workload::Compact, Filled, Small),
    Row::new("seekrandom, next 10, compacted", Workload::Seek(10), Filled, Everything),
    Row::new("seekrandom, next 100, compacted", Workload::Seek(100), Filled, Everything),
    Row::new("seekrandom, reverse 10, compacted", Workload::SeekReverse(10), Filled, Everything),
    Row::new("deleterandom", Workload::DeleteRandom, Filled, Small),
];

/// The row called `name`.
pub(crate) fn named(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
