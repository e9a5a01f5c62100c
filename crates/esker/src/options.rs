//! The options that a user may set. Everything else is derived from them.

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

/// How safe a write is when its call returns. All writes acknowledged before it are then at least
/// as safe, whatever their own durability, except in keyspaces [without a
/// log](KeyspaceOptions::log). This holds for an empty batch too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Durability {
    /// In the memory of this process, for at most [`Options::BUFFERED_INTERVAL`]. **Lost if the
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
    /// Memory that all memtables, the block cache, filters, indexes and buffers may take together,
    /// in bytes. Default 512 MiB.
    pub memory_budget_bytes: u64,
    /// Limit of the block cache within the budget, in bytes. Default: what the others leave.
    pub cache_bytes: Option<u64>,
    /// Threads for flushes and compactions. The first only flushes, so that a flush never waits
    /// behind a compaction. With 0, nothing runs in the background: a write that needs a flush does
    /// it itself, and [`Db::run_background_job`](crate::Db::run_background_job) does one job at a
    /// time. Default 2.
    pub background_threads: usize,
    /// Bytes per second that all compactions together may read while nothing is urgent; they write
    /// about as much. Flushes are never held back. The limit rises with the backlog, and is lifted
    /// once writes would be slowed down. At least 64 KiB; ignored without [background
    /// threads](Options::background_threads). Default: no limit.
    pub compaction_bytes_per_second: Option<u64>,
    /// Durability of writes that do not name one. Default [`Durability::Process`].
    pub durability: Durability,
    /// Directory of the log, if it is not to be beside the tables. No other database may use it,
    /// and this one must always be opened with the same.
    pub log_dir: Option<PathBuf>,
    /// Size at which a log segment is full, in bytes; values below 64 KiB count as 64 KiB. Default
    /// 32 MiB.
    pub log_segment_bytes: u64,
    /// A commit group of at least this many bytes goes to the log compressed with LZ4, if that saves
    /// more than an eighth. The writing thread spends the time to compress; this pays where
    /// the log's device is slow or wears out. 512 is a good size. Releases without this option
    /// refuse log segments begun with it. Default `None`: nothing is compressed.
    pub log_compression_threshold_bytes: Option<u32>,
    /// When the database is [closed](crate::Db::close), record which blocks are in the cache; at
    /// the next open with this option, load them again in the background: the most used first, many
    /// in one read, as long as the cache has free room. Nothing waits for them. Values in blob
    /// files are not included. Default false.
    pub warm_cache: bool,
    /// For tests: split compactions into parts, and pass the output of bulk loads to their writing
    /// thread in pieces, of about this many bytes, however many threads there are. Default: only
    /// where it pays.
    #[doc(hidden)]
    pub part_bytes: Option<u64>,
}

/// Lowest limit on compactions, in bytes per second: what they read between two checks of it.
const COMPACTION_RATE_MIN: u64 = 64 << 10;

impl Options {
    /// Longest time that a [`Durability::Buffered`] write stays in the memory of the process.
    /// Without [background threads](Options::background_threads), the next write after that time,
    /// or the next [`Db::run_background_job`](crate::Db::run_background_job), hands it to the
    /// system.
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

/// A duration as it is recorded in options: in milliseconds.
fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How blocks are compressed.
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

/// Options of one keyspace. They are recorded when it is created; options given when it is opened
/// again replace the recorded ones, as described at [`Db::keyspace`](crate::Db::keyspace).
#[derive(Clone, PartialEq, Debug)]
pub struct KeyspaceOptions {
    /// How the tree is kept in shape. Default [`CompactionPolicy::Leveled`].
    pub compaction: CompactionPolicy,
    /// Compression of the two deepest levels, which hold nearly all data. Default LZ4.
    pub compression: Compression,
    /// Compression of the levels above those two, and of flushes. Default LZ4.
    pub shallow_compression: Compression,
    /// Compression of the last level, if it differs from [`KeyspaceOptions::compression`]. Default:
    /// the same.
    pub last_level_compression: Option<Compression>,
    /// Compression level of Zstandard, where it is used: from 1 to 22. Default 3.
    pub zstd_level: u8,
    /// Maximum size of the dictionary, in bytes, that a compaction into the last level trains on
    /// its inputs if that level uses Zstandard; each table has its own. At most 1 MiB; 16 KiB is a
    /// good size. Default 0: no dictionary.
    pub zstd_dictionary_bytes: u32,
    /// Size of a block before compression, in bytes: from 256 to 1 MiB. Default 4096.
    pub block_size_bytes: u32,
    /// Filter bits per key, at most 64; 0 for no filter. Default 10: about 1 in 100 reads of a
    /// missing key searches a table in vain.
    pub filter_bits_per_key: u32,
    /// Rule for the key prefixes that filters hold besides whole keys. A scan or cursor, in either
    /// direction, whose range can only hold keys of one prefix then skips, unread, tables without
    /// that prefix. Results are the same with and without it, for all ranges and for keys without a
    /// prefix; tables written under another rule stay as they are. The rule applies to encoded
    /// keys: with [`Order::reverse_bytewise`], give the complement of a separator. Costs
    /// [`KeyspaceOptions::filter_bits_per_key`] bits for each distinct prefix in a table. Default
    /// none; set it where scans ask for prefixes that most tables do not have.
    pub prefix_filter: Option<PrefixRule>,
    /// Size at which a memtable is switched and flushed, in bytes; at least 1. It is capped at a
    /// quarter of the memory budget, or at 64 KiB if that is larger. Default 64 MiB.
    pub memtable_bytes: u64,
    /// How many full memtables may wait to be flushed before writes have to wait; at least 1.
    /// Default 3.
    pub immutable_memtables_max: usize,
    /// Whether writes go to the log. Without it, they are durable only once flushed, each keyspace
    /// separately: a crash may leave part of a batch over several keyspaces if none of them has a
    /// log. If at least one has, the whole batch is logged. Default true.
    pub log: bool,
    /// Time after a delete by which the deleted value is in no file of the database any more,
    /// unless a snapshot, scan or cursor still reads it; docs/OPERATIONS.md lists further
    /// conditions. Not allowed under policies that keep ages apart. At least a second; default
    /// `None`: deleted values are removed whenever compaction reaches them.
    pub delete_deadline: Option<Duration>,
    /// Age at which a table is rewritten into the deepest level. Not allowed under policies that
    /// keep ages apart. At least a second; default `None`.
    pub periodic_compaction: Option<Duration>,
    /// After this time without a write, level 0 is compacted early, as far as that is cheap, to
    /// make reads faster. It is also compacted, even during writes, once seeks have spent as much
    /// on searching several runs as merging those costs: at most 64 bytes are merged for each run
    /// that a seek searches beyond the first, ten times that where it reads a block which is not in
    /// the cache. Under [`CompactionPolicy::Leveled`] only. At least a second; default a minute;
    /// `None` turns off both.
    pub idle_compaction: Option<Duration>,
    /// Time after which a put expires that does not name an expiry: [`Keyspace::put`] and
    /// [`Batch::put`](crate::Batch::put). Counted from the put; a later change of the option does
    /// not affect earlier puts, and entries that are bulk loaded or ingested do not expire by it.
    /// Rounded up to whole milliseconds. Default `None`: never.
    ///
    /// [`Keyspace::put`]: crate::Keyspace::put
    pub default_ttl: Option<Duration>,
    /// The key order. Fixed when the keyspace is created: opening it with another order is refused.
    /// Default [`Order::bytewise`].
    pub order: Order,
    /// The operator that applies merge operands to values. Its name, of 1 to 255 bytes, is
    /// recorded, and from then on opening the keyspace with another operator is refused. An
    /// operator of the module [`operators`](crate::operators) is found by its name; any other must
    /// be given at each open: until it is, operands are kept as they are, and reads of their keys
    /// fail. Default none.
    pub merge_operator: Option<Merge>,
    /// Code that compactions ask about values that no snapshot sees. It is not recorded: it is in
    /// force from when it is given until the database is closed, or until the keyspace is opened
    /// with options that have no filter or another one. Default none.
    pub compaction_filter: Option<Filter>,
    /// Values of at least this many bytes are written to blob files instead of tables when they are
    /// flushed, so that compactions need not move them. At least 32. Default `None`: all values are
    /// in tables, and values in blob files return to them as tables are rewritten. Operands and
    /// puts that expire stay in tables, whatever their size.
    pub blob_threshold_bytes: Option<u32>,
    /// How much of the blob files may be garbage, in percent, once background work is done. If
    /// there is more, tables that refer to the worst file are rewritten. From 1 to 95; default 30.
    /// Has no effect if compaction is on demand only.
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

/// The reference that replaces the value in a table is about as long.
const BLOB_THRESHOLD_MIN: u32 = 32;

/// How much of the blob files may be garbage, in percent.
const BLOB_WASTE: RangeInclusive<u32> = 1..=95;

/// Sizes of a block, in bytes.
const BLOCK_SIZES: RangeInclusive<u32> = 256..=1 << 20;

/// Most bits of a filter for each key.
const FILTER_BITS_MAX: u32 = 64;

/// The shortest time allowed for the upkeep options.
const UPKEEP_TIME_MIN: Duration = Duration::from_secs(1);

impl KeyspaceOptions {
    /// These options as they apply to the keyspace `name`, which has `recorded`: the merge operator
    /// is kept, with its code as given now or earlier.
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
