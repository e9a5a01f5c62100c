//! What a user may choose. Everything else is derived.

mod policy;
mod presets;
mod recorded;
mod sections;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use esker_table::PrefixRule;
use esker_tree::{Filter, Merge};

use crate::key_order::Order;

pub use policy::CompactionPolicy;

/// How safe a write is when its call returns. What was acknowledged before it is as safe then, whatever was
/// asked for it, but in keyspaces [without a log](KeyspaceOptions::log); also where the write is a batch
/// with nothing in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Durability {
    /// In the memory of this process, at most [`Options::BUFFERED_INTERVAL`] long. **Lost if the
    /// process dies.**
    Buffered,
    /// Handed to the operating system: survives any end of the process, `kill -9` included.
    /// **Lost if the machine loses power** before the system writes it out.
    #[default]
    Process,
    /// On the device: survives loss of power.
    Power,
}

/// Options of a database. The defaults are good; see `docs/TUNING.md` for each.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// What all memtables, the block cache, filters, indexes and buffers may take together, in
    /// bytes. Default 512 MiB.
    pub memory_budget_bytes: u64,
    /// At most this much of the budget goes to the block cache. Default: what the others leave.
    pub cache_bytes: Option<u64>,
    /// Threads for flushes and compactions. The first only flushes, so that a flush never waits
    /// behind a compaction. With 0 nothing runs in the background: a write that needs a flush does
    /// it, and [`Db::run_background_job`](crate::Db::run_background_job) does one job at a time.
    /// Default 2.
    pub background_threads: usize,
    /// Bytes per second that all compactions together may read, and so about what they write, while
    /// nothing is urgent; flushes are never held back. The limit gives way as the backlog grows, and
    /// there is none once writes would be slowed down. At least 64 KiB; with no
    /// [background threads](Options::background_threads) there is no limit. Default none.
    pub compaction_bytes_per_second: Option<u64>,
    /// Durability of writes that do not name one. Default [`Durability::Process`].
    pub durability: Durability,
    /// Where the log lies, if not beside the tables: a directory that no other database uses. A
    /// database must be reopened with the same.
    pub log_dir: Option<PathBuf>,
    /// Size at which a log segment is full, in bytes; less than 64 KiB counts as that. Default 32 MiB.
    pub log_segment_bytes: u64,
    /// Batches that are committed together, and have at least this many bytes together, go to the log
    /// compressed by LZ4, unless that saves less than an eighth. Costs the time of compressing on the
    /// thread that writes; pays where the device of the log is slow or wears. 512 is a good size.
    /// Segments that are begun with it are refused by releases that do not have it. Default `None`:
    /// nothing is compressed.
    pub log_compression_threshold_bytes: Option<u32>,
    /// Which blocks are in the cache is written down when the database is [closed](crate::Db::close),
    /// and at the next open that has this option they are loaded again, in the background: those first
    /// that were used most, many in one read, as long as the cache has free room. Nothing waits for
    /// them. Not what lies in blob files. Default false.
    pub warm_cache: bool,
    /// For tests: compactions are cut into parts, and bulk loads write behind in pieces, of about so
    /// many bytes, whatever threads there are to share them. Default none: where it pays.
    #[doc(hidden)]
    pub part_bytes: Option<u64>,
}

/// Lowest limit on compactions, in bytes per second: what they read between two looks at it.
const COMPACTION_RATE_MIN: u64 = 64 << 10;

impl Options {
    /// Longest time that a [`Durability::Buffered`] write stays in the memory of the process. Without
    /// [background threads](Options::background_threads) it is the next write after that, or the next
    /// [`Db::run_background_job`](crate::Db::run_background_job), that hands it over.
    pub const BUFFERED_INTERVAL: Duration = Duration::from_millis(100);

    /// What is wrong with these options, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.compaction_bytes_per_second {
            Some(limit) if limit < COMPACTION_RATE_MIN => Err(format!(
                "compaction_bytes_per_second is {limit}, and must be at least \
                 {COMPACTION_RATE_MIN}"
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 512 << 20,
            cache_bytes: None,
            background_threads: 2,
            compaction_bytes_per_second: None,
            durability: Durability::Process,
            log_dir: None,
            log_segment_bytes: 32 << 20,
            log_compression_threshold_bytes: None,
            warm_cache: false,
            part_bytes: None,
        }
    }
}

/// A duration as options are recorded: in milliseconds.
fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How the blocks of deeper levels are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Zstandard: smaller and slower. Needs the feature `zstd`.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// The largest level of Zstandard.
const ZSTD_LEVEL_MAX: u8 = 22;

/// A larger dictionary would not pay for itself in any table.
const ZSTD_DICTIONARY_BYTES_MAX: u32 = 1 << 20;

impl Compression {
    /// The compression that is recorded as `byte`, if this build has it.
    const fn recorded(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            #[cfg(feature = "zstd")]
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The compression as tables know it.
    pub(crate) const fn of_tables(self) -> esker_table::Compression {
        match self {
            Self::None => esker_table::Compression::None,
            Self::Lz4 => esker_table::Compression::Lz4,
            #[cfg(feature = "zstd")]
            Self::Zstd => esker_table::Compression::Zstd,
        }
    }
}

/// Options of one keyspace. Recorded when it is created; given again at a later open they replace
/// the recorded ones, as [`Db::keyspace`](crate::Db::keyspace) says.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyspaceOptions {
    /// How the tree is kept in shape. Default [`CompactionPolicy::Leveled`].
    pub compaction: CompactionPolicy,
    /// Compression of the two deepest levels, which hold nearly all data. Default LZ4.
    pub compression: Compression,
    /// Compression of the levels above those two, and of flushes. Default LZ4.
    pub shallow_compression: Compression,
    /// Compression of the last level, if it is another than [`KeyspaceOptions::compression`].
    /// Default: the same.
    pub last_level_compression: Option<Compression>,
    /// How hard Zstandard tries, where it is chosen: from 1 to 22. Default 3.
    pub zstd_level: u8,
    /// Most bytes of the dictionary that a compaction into the last level learns from its inputs,
    /// where that level has Zstandard; each table has its own. 0 for none, which is the default, and
    /// at most 1 MiB; 16 KiB is a good size.
    pub zstd_dictionary_bytes: u32,
    /// Size of a block before compression, in bytes: from 256 to 1 MiB. Default 4096.
    pub block_size_bytes: u32,
    /// Bits of filter per key, at most 64; 0 for no filter. Default 10: about 1 in 100 reads of a
    /// missing key looks into a table in vain.
    pub filter_bits_per_key: u32,
    /// Which prefixes of keys the filters hold besides the keys, for scans of one prefix: a scan or
    /// a cursor whose range holds keys of one prefix only leaves out tables without it, unread, both
    /// ways. Answers are the same with it and without it, whatever the range, and keys without a
    /// prefix are as well; tables that were written under another choice stay as they are. Goes by
    /// keys as the order writes them: with [`Order::reverse_bytewise`], give a separator
    /// complemented. Costs [`KeyspaceOptions::filter_bits_per_key`] bits for each different prefix
    /// of a table. Default none; *set* it where scans ask for prefixes that most tables have not.
    pub prefix_filter: Option<PrefixRule>,
    /// Size at which a memtable is switched and flushed, in bytes: at least 1, and no more than a
    /// quarter of the memory budget, or 64 KiB if that is larger, takes effect. Default 64 MiB.
    pub memtable_bytes: u64,
    /// How many full memtables may wait for their flush before writes wait: at least 1. Default 3.
    pub immutable_memtables_max: usize,
    /// Whether writes go to the log. Without it they are durable only once flushed, each keyspace by
    /// itself: a crash may leave a part of a batch over several keyspaces of which none has a log. One
    /// with a log is enough for the batch to be logged whole. Default true.
    pub log: bool,
    /// Deleted values are in no file of the database this long after their delete, unless a
    /// snapshot, scan or cursor still reads them; docs/OPERATIONS.md says what else is needed. Not
    /// under policies that keep ages apart. At least a second; default `None`: they go as
    /// compactions come by.
    pub delete_deadline: Option<Duration>,
    /// A table is rewritten into the deepest level when it is this old. Not under policies that
    /// keep ages apart. At least a second; default `None`.
    pub periodic_compaction: Option<Duration>,
    /// After so long without a write, level 0 is compacted before its time, as far as that is
    /// cheap: reads become faster. Also, whoever writes, once seeks have spent as much on searching
    /// several runs as merging these costs: at most 64 bytes are merged for each run that a seek
    /// searches beyond the first. Under [`CompactionPolicy::Leveled`] only. At least a second;
    /// default a minute, `None` for neither.
    pub idle_compaction: Option<Duration>,
    /// After how long a put expires that does not say when it does: [`Keyspace::put`] and
    /// [`Batch::put`](crate::Batch::put). Counted from the put; a later change does not touch what
    /// was put before, and what is loaded in bulk or taken over from tables does not expire.
    /// In whole milliseconds, rounded up. Default none: never.
    ///
    /// [`Keyspace::put`]: crate::Keyspace::put
    pub default_ttl: Option<Duration>,
    /// In which order keys stand. Fixed when the keyspace is created: opening it with another one
    /// is refused. Default [`Order::bytewise`].
    pub order: Order,
    /// What the operands of merges do to values. Its name, of 1 to 255 bytes, is recorded: from then on
    /// the keyspace keeps it, and opening it with another one is refused. An operator of the module
    /// [`operators`](crate::operators) is found again by its name; any other one must be given at
    /// each open, or operands are kept as they are and reads of their keys fail. Default none.
    pub merge_operator: Option<Merge>,
    /// Asked by compactions about the values that no snapshot sees. Code, and not recorded: it
    /// works from when it is given until the database is closed, or until the keyspace is opened with
    /// options that have none or another. Default none.
    pub compaction_filter: Option<Filter>,
    /// Values of at least this many bytes are moved out of tables into blob files when they are
    /// flushed, so that compactions leave them where they are. From 32 on; default `None`: all
    /// values lie in tables, and those that lie in blob files come back as tables are rewritten.
    /// Operands and puts that expire stay in tables whatever their size.
    pub blob_threshold_bytes: Option<u32>,
    /// How much of the blob files may be garbage, in percent, once what is to be done in the
    /// background is done; more makes the tables be rewritten that refer to the worst of them.
    /// From 1 to 95; default 30. Does nothing where compaction is on demand only.
    pub blob_waste_percent_max: u32,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            compaction: CompactionPolicy::Leveled,
            compression: Compression::Lz4,
            shallow_compression: Compression::Lz4,
            last_level_compression: None,
            zstd_level: 3,
            zstd_dictionary_bytes: 0,
            block_size_bytes: 4096,
            filter_bits_per_key: 10,
            prefix_filter: None,
            memtable_bytes: 64 << 20,
            immutable_memtables_max: 3,
            log: true,
            delete_deadline: None,
            periodic_compaction: None,
            idle_compaction: Some(Duration::from_secs(60)),
            default_ttl: None,
            order: Order::bytewise(),
            merge_operator: None,
            compaction_filter: None,
            blob_threshold_bytes: None,
            blob_waste_percent_max: 30,
        }
    }
}

/// Longest name of a merge operator, in bytes.
const MERGE_NAME_LEN_MAX: usize = 255;

/// What stands in a table instead of a value is about as long.
const BLOB_THRESHOLD_MIN: u32 = 32;

/// How much of the blob files may be garbage, in percent.
const BLOB_WASTE: RangeInclusive<u32> = 1..=95;

/// Sizes of a block, in bytes.
const BLOCK_SIZES: RangeInclusive<u32> = 256..=1 << 20;

/// Most bits of a filter for each key.
const FILTER_BITS_MAX: u32 = 64;

/// The shortest time that upkeep goes by.
const UPKEEP_TIME_MIN: Duration = Duration::from_secs(1);

impl KeyspaceOptions {
    /// These options for the keyspace `name`, which has `recorded`: the merge operator stays, with
    /// the code that is given or that it had.
    pub(crate) fn over(&self, recorded: &Self, name: &str) -> Result<Self, String> {
        let mut options = self.clone();
        let Some(kept) = &recorded.merge_operator else { return Ok(options) };
        match &self.merge_operator {
            Some(given) if given != kept => {
                return Err(format!(
                    "merge_operator is {:?}, and must be {:?}, which the keyspace {name:?} was \
                     given first",
                    given.name(),
                    kept.name()
                ));
            }
            Some(given) if given.operator().is_some() => {}
            _ => options.merge_operator = Some(kept.clone()),
        }
        Ok(options)
    }

    fn check_times(&self) -> Result<(), String> {
        for (name, time) in [
            ("delete_deadline", self.delete_deadline),
            ("periodic_compaction", self.periodic_compaction),
            ("idle_compaction", self.idle_compaction),
        ] {
            if let Some(time) = time.filter(|time| *time < UPKEEP_TIME_MIN) {
                return Err(format!("{name} is {time:?}, and must be at least 1s"));
            }
            if name != "idle_compaction" && time.is_some() && self.compaction.keeps_ages_apart() {
                return Err(format!("{name} is set, and this compaction keeps ages apart"));
            }
        }
        Ok(())
    }

    /// What is wrong with these options, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_layout(self.block_size_bytes, self.filter_bits_per_key)?;
        check_prefix(self.prefix_filter)?;
        self.order.check()?;
        if !(1..=ZSTD_LEVEL_MAX).contains(&self.zstd_level) {
            return Err(format!("zstd_level is {}, and must be from 1 to 22", self.zstd_level));
        }
        if ZSTD_DICTIONARY_BYTES_MAX < self.zstd_dictionary_bytes {
            return Err(format!(
                "zstd_dictionary_bytes is {}, and must be at most 1048576",
                self.zstd_dictionary_bytes
            ));
        }
        if let Some(merge) = &self.merge_operator
            && !(1..=MERGE_NAME_LEN_MAX).contains(&merge.name().len())
        {
            return Err(format!(
                "the name of merge_operator has {} bytes, and must have from 1 to \
                 {MERGE_NAME_LEN_MAX}",
                merge.name().len()
            ));
        }
        if self.default_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err("default_ttl is 0, and must be more than 0".into());
        }
        self.compaction.check().map_err(|bad| format!("compaction: {bad}"))?;
        self.check_times()?;
        if self.blob_threshold_bytes.is_some_and(|threshold| threshold < BLOB_THRESHOLD_MIN) {
            return Err(format!(
                "blob_threshold_bytes is {}, and must be at least {BLOB_THRESHOLD_MIN}",
                self.blob_threshold_bytes.unwrap_or(0)
            ));
        }
        if !BLOB_WASTE.contains(&self.blob_waste_percent_max) {
            return Err(format!(
                "blob_waste_percent_max is {}, and must be from 1 to 95",
                self.blob_waste_percent_max
            ));
        }
        if self.memtable_bytes == 0 || self.immutable_memtables_max == 0 {
            return Err("memtable_bytes and immutable_memtables_max must not be zero".into());
        }
        Ok(())
    }
}

/// What is wrong with how a table would be laid out, if anything is.
pub(crate) fn check_layout(block_size_bytes: u32, filter_bits_per_key: u32) -> Result<(), String> {
    if !BLOCK_SIZES.contains(&block_size_bytes) {
        return Err(format!(
            "block_size_bytes is {block_size_bytes}, and must be from 256 to 1048576"
        ));
    }
    if FILTER_BITS_MAX < filter_bits_per_key {
        return Err(format!(
            "filter_bits_per_key is {filter_bits_per_key}, and must be at most 64"
        ));
    }
    Ok(())
}

/// What is wrong with the prefixes that filters would hold, if anything is.
pub(crate) fn check_prefix(prefix_filter: Option<PrefixRule>) -> Result<(), String> {
    let checked = prefix_filter.map_or(Ok(()), |rule| rule.check());
    checked.map_err(|bad| format!("prefix_filter is {bad}"))
}

#[cfg(test)]
mod tests;
