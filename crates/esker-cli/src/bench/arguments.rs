//! The arguments of `esker bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use esker::{Compression, Durability};

use crate::compaction::Compaction;
use crate::prefix_filter::PrefixFilter;

/// Options of `esker bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArguments {
    /// What to run, in this order.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "fillseq,fillrandom,overwrite,readrandom,readmissing,readhot,\
                         multireadrandom,seekrandom,seekreverse,readseq,readreverse,\
                         readwhilewriting,compact,open"
    )]
    pub(crate) benchmarks: Vec<Benchmark>,
    /// Entries in the database.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) num: u64,
    /// Reads of each benchmark that reads single keys, as many as entries if not given; seeks are a
    /// tenth of that.
    #[arg(long)]
    pub(crate) reads: Option<u64>,
    /// Length of a key in bytes, at least 8.
    #[arg(long, default_value_t = 16)]
    pub(crate) key_size: usize,
    /// Length of a value in bytes.
    #[arg(long, default_value_t = 100)]
    pub(crate) value_size: usize,
    /// Threads that work at the same time and share the operations.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: u64,
    /// Where the database goes: a directory `bench-db` in this one, which stays there. If not given,
    /// a directory `esker-benchmark-PID` where temporary files go, which is removed at the end; a
    /// signal that ends the program leaves it.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Size of the block cache.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub(crate) cache_bytes: u64,
    /// Size at which a memtable is flushed.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub(crate) memtable_bytes: u64,
    /// Durability of writes; fillsync always writes with power.
    #[arg(long, value_enum, default_value_t = DurabilityName::Process)]
    pub(crate) durability: DurabilityName,
    /// Writes in a batch of fillbatch.
    #[arg(long, default_value_t = 1000)]
    pub(crate) batch_size: u64,
    /// Keys in a call of multireadrandom.
    #[arg(long, default_value_t = 32)]
    pub(crate) multiget_size: u64,
    /// Entries that a seek reads, the one it finds included.
    #[arg(long, default_value_t = 10)]
    pub(crate) nexts: u64,
    /// Seek with one cursor for each thread; otherwise with a new one for each seek.
    #[arg(long)]
    pub(crate) reuse_cursor: bool,
    /// Writes per second beside the reads of readwhilewriting; 0 for no limit.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) writes_per_second: u64,
    /// Another seed gives other keys and values in another order.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Compression of the deeper levels.
    #[arg(long, value_enum, default_value_t = CompressionName::Lz4)]
    pub(crate) compression: CompressionName,
    /// Values of at least this many bytes go to blob files; none do if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) blob_threshold: Option<u32>,
    /// Commit groups of at least this many bytes are compressed in the log; none are if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) log_compression_threshold: Option<u32>,
    /// Write down at each close what the cache holds, and load it again at the next open.
    #[arg(long)]
    pub(crate) warm_cache: bool,
    /// The prefixes of keys that filters hold: first:8, through:2f or none.
    #[arg(long, value_name = "RULE", default_value = "none")]
    pub(crate) prefix_filter: PrefixFilter,
    /// How the tree is kept in shape.
    #[arg(long, value_enum, default_value_t = Compaction::Leveled)]
    pub(crate) compaction: Compaction,
    /// Print a JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print how many operations ended in each second too: whether writes are slowed smoothly.
    #[arg(long)]
    pub(crate) series: bool,
    /// Print the distribution of latencies too.
    #[arg(long)]
    pub(crate) histogram: bool,
}

/// More threads than any machine has processors, but few enough for their stacks to fit.
const THREADS_MAX: u64 = 4096;

/// Keys of one call: all keys requested at once are held in memory.
const MULTIGET_SIZE_MAX: u64 = 1 << 20;

impl BenchArguments {
    /// Checks the arguments; says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(8..=esker::limits::KEY_LEN_MAX).contains(&self.key_size) {
            return Err(format!("--key-size is {}, and must be from 8 to 65535", self.key_size));
        }
        if !(1..=super::values::POOL_BYTES).contains(&self.value_size) {
            return Err(format!("--value-size is {}, and must be 1 to 1048576", self.value_size));
        }
        for (name, value) in [
            ("num", self.num),
            ("reads", self.read_count()),
            ("threads", self.threads),
            ("batch-size", self.batch_size),
            ("multiget-size", self.multiget_size),
            ("nexts", self.nexts),
            ("memtable-bytes", self.memtable_bytes),
        ] {
            if value == 0 {
                return Err(format!("--{name} must not be 0"));
            }
        }
        for (name, value, most) in [
            ("threads", self.threads, THREADS_MAX),
            ("multiget-size", self.multiget_size, MULTIGET_SIZE_MAX),
        ] {
            if most < value {
                return Err(format!("--{name} is {value}, and must be at most {most}"));
            }
        }
        Ok(())
    }

    pub(super) fn read_count(&self) -> u64 {
        self.reads.unwrap_or(self.num)
    }

    /// Seeks read several entries each, so there are fewer of them.
    pub(super) fn seek_count(&self) -> u64 {
        (self.read_count() / 10).max(1)
    }

    /// A synced write takes a hundred times as long as another, so there are fewer of them.
    pub(super) fn sync_count(&self) -> u64 {
        (self.num / 100).clamp(1, 20_000)
    }
}

/// Names of db_bench, as far as it has them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
#[value(rename_all = "lower")]
pub(crate) enum Benchmark {
    /// Put every key once in ascending order, into an empty database.
    FillSeq,
    /// Put every key once in random order, into an empty database.
    FillRandom,
    /// Put random keys that exist.
    Overwrite,
    /// As fillrandom, in batches.
    FillBatch,
    /// As fillbatch, through a bulk loader.
    FillBulk,
    /// As fillbulk, in ascending order.
    FillBulkSeq,
    /// Put some keys in random order, each on the device before the next, into an empty database.
    FillSync,
    /// Get random keys.
    ReadRandom,
    /// Get random keys that do not exist.
    ReadMissing,
    /// Get keys of which some are far more frequent than others: Zipf, exponent 0.99.
    ReadHot,
    /// Get random keys, several in one call.
    MultiReadRandom,
    /// Seek to random keys and read on from there.
    SeekRandom,
    /// Seek to random keys and read backwards from there.
    SeekReverse,
    /// Read every entry, ascending.
    ReadSeq,
    /// Read every entry, descending.
    ReadReverse,
    /// As readrandom, beside a thread that overwrites.
    ReadWhileWriting,
    /// Delete random keys.
    DeleteRandom,
    /// Compact everything.
    Compact,
    /// Close, and open again.
    Open,
}

impl Benchmark {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it starts with an empty database.
    pub(super) const fn fills(self) -> bool {
        matches!(
            self,
            Self::FillSeq
                | Self::FillRandom
                | Self::FillBatch
                | Self::FillBulk
                | Self::FillBulkSeq
                | Self::FillSync
        )
    }
}

/// Durability of writes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum DurabilityName {
    /// In the memory of the process for up to a tenth of a second.
    Buffered,
    /// Handed to the operating system.
    Process,
    /// On the device.
    Power,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Buffered => Self::Buffered,
            DurabilityName::Process => Self::Process,
            DurabilityName::Power => Self::Power,
        }
    }
}

/// Compression of the deeper levels.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum CompressionName {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Self::None,
            CompressionName::Lz4 => Self::Lz4,
        }
    }
}
