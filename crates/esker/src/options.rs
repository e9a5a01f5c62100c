//! What a user may choose. Everything else is derived.

use std::path::PathBuf;
use std::time::Duration;

use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_tree::{
    BadOption, FifoOptions, Filter, LazyOptions, LeveledByBytesOptions, Merge, SimpleOptions,
    TieredOptions, TimeWindowOptions, UniversalOptions,
};

use crate::expiry::millis_up;
use crate::key_order::Order;
use crate::option_sections::{for_each_section, put_section};

/// How safe a write is when its call returns.
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
    /// there is none once writes would be slowed down. Default none.
    pub compaction_bytes_per_second: Option<u64>,
    /// Durability of writes that do not name one. Default [`Durability::Process`].
    pub durability: Durability,
    /// Where the log lies, if not beside the tables. A database must be reopened with the same.
    pub log_dir: Option<PathBuf>,
    /// Size at which a log segment is full, in bytes. Default 64 MiB.
    pub log_segment_bytes: u64,
    /// For tests: compactions are cut into parts of about so many bytes, whatever threads there are
    /// to share them. Default none: where it pays.
    #[doc(hidden)]
    pub part_bytes: Option<u64>,
}

/// Lowest limit on compactions, in bytes per second: what they read between two looks at it.
const COMPACTION_RATE_MIN: u64 = 64 << 10;

impl Options {
    /// Longest time that a [`Durability::Buffered`] write stays in the memory of the process.
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
            log_segment_bytes: 64 << 20,
            part_bytes: None,
        }
    }
}

/// How a keyspace's tree is kept in shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CompactionPolicy {
    /// Levels of one run each, every level ten times the one above it.
    #[default]
    Leveled,
    /// Only on demand.
    None,
    /// Levels of one run each, judged by how many tables they have: the first policy of the course
    /// mini-lsm.
    Simple(SimpleOptions),
    /// Runs of any age, judged by how many tables they have: the course's second.
    Tiered(TieredOptions),
    /// Levels of one run each, with a number of levels and a base size: the course's third.
    LeveledByBytes(LeveledByBytesOptions),
    /// Runs of any age, judged by their bytes: fewer bytes written than leveled, more of them read
    /// and kept.
    Universal(UniversalOptions),
    /// Several runs in each level but the last, which has one: between leveled and universal.
    Lazy(LazyOptions),
    /// Nothing is merged. **The oldest tables are dropped, with their data,** once all tables take
    /// too many bytes, or their entries are too old. Durations count in whole milliseconds.
    Fifo(FifoOptions),
    /// Tables of one window of time become one run, and windows stay apart; **those that are too
    /// old are dropped, with their data,** if an age is given. Durations count in whole
    /// milliseconds.
    TimeWindow(TimeWindowOptions),
}

impl CompactionPolicy {
    /// The number that stands for the choice in the manifest, and its parameters.
    fn encode(&self) -> (u64, Vec<u64>) {
        // No width is 0 or 1, so 0 stands for none.
        match *self {
            Self::Leveled => (0, Vec::new()),
            Self::None => (1, Vec::new()),
            Self::Simple(o) => {
                let trigger = o.level0_file_num_compaction_trigger;
                (2, vec![o.size_ratio_percent, trigger, o.max_levels as u64])
            }
            Self::Tiered(o) => {
                let widths = (o.min_merge_width, o.max_merge_width.unwrap_or(0));
                let percent = o.max_size_amplification_percent;
                (3, vec![o.num_tiers, percent, o.size_ratio, widths.0, widths.1])
            }
            Self::LeveledByBytes(o) => {
                let (levels, base) = (o.max_levels as u64, o.base_level_size_mb);
                let trigger = o.level0_file_num_compaction_trigger;
                (4, vec![trigger, o.level_size_multiplier, levels, base])
            }
            Self::Universal(o) => {
                let widths = (o.min_merge_width, o.max_merge_width.unwrap_or(0));
                let percent = o.max_size_amplification_percent;
                let trigger = o.level0_file_num_compaction_trigger;
                (5, vec![trigger, o.size_ratio, widths.0, widths.1, percent])
            }
            Self::Lazy(o) => (6, vec![o.runs_per_level, o.size_multiplier]),
            Self::Fifo(o) => match o.age_max {
                None => (7, vec![o.bytes_max]),
                Some(age) => (7, vec![o.bytes_max, as_millis(age)]),
            },
            Self::TimeWindow(o) => {
                let age = o.age_max.map_or(0, as_millis);
                (8, vec![as_millis(o.window), o.runs_per_window, age])
            }
        }
    }

    /// Reads what [`CompactionPolicy::encode`] gave; `None` for what it cannot have given.
    fn decode(choice: u64, parameters: &[u64]) -> Option<Self> {
        let width = |width: u64| (width > 0).then_some(width);
        let age = |millis: Option<&u64>| width(*millis?).map(Duration::from_millis);
        let policy = match (choice, parameters) {
            (0, _) => Self::Leveled,
            (1, _) => Self::None,
            (2, &[size_ratio_percent, trigger, levels, ..]) => Self::Simple(SimpleOptions {
                size_ratio_percent,
                level0_file_num_compaction_trigger: trigger,
                max_levels: usize::try_from(levels).ok()?,
            }),
            (3, &[num_tiers, percent, size_ratio, min, max, ..]) => Self::Tiered(TieredOptions {
                num_tiers,
                max_size_amplification_percent: percent,
                size_ratio,
                min_merge_width: min,
                max_merge_width: width(max),
            }),
            (4, &[trigger, multiplier, levels, base, ..]) => {
                Self::LeveledByBytes(LeveledByBytesOptions {
                    level0_file_num_compaction_trigger: trigger,
                    level_size_multiplier: multiplier,
                    max_levels: usize::try_from(levels).ok()?,
                    base_level_size_mb: base,
                })
            }
            (5, &[trigger, size_ratio, min, max, percent, ..]) => {
                Self::Universal(UniversalOptions {
                    level0_file_num_compaction_trigger: trigger,
                    size_ratio,
                    min_merge_width: min,
                    max_merge_width: width(max),
                    max_size_amplification_percent: percent,
                })
            }
            (6, &[runs_per_level, size_multiplier, ..]) => {
                Self::Lazy(LazyOptions { runs_per_level, size_multiplier })
            }
            (7, &[bytes_max, ref rest @ ..]) => {
                Self::Fifo(FifoOptions { bytes_max, age_max: age(rest.first()) })
            }
            (8, &[window, runs_per_window, ref age_max, ..]) => {
                Self::TimeWindow(TimeWindowOptions {
                    window: Duration::from_millis(window),
                    runs_per_window,
                    age_max: age(Some(age_max)),
                })
            }
            _ => return None,
        };
        policy.check().is_ok().then_some(policy)
    }

    fn check(&self) -> Result<(), BadOption> {
        match self {
            Self::Leveled | Self::None => Ok(()),
            Self::Simple(options) => options.check(),
            Self::Tiered(options) => options.check(),
            Self::LeveledByBytes(options) => options.check(),
            Self::Universal(options) => options.check(),
            Self::Lazy(options) => options.check(),
            Self::Fifo(options) => options.check(),
            Self::TimeWindow(options) => options.check(),
        }
    }

    /// Whether tables are of one age each, so that nothing may merge what the policy does not.
    pub(crate) const fn keeps_ages_apart(&self) -> bool {
        matches!(self, Self::Fifo(_) | Self::TimeWindow(_))
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

/// Tags of the sections behind the parameters of the policy. Those that are not known are ignored.
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
/// the recorded ones.
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
    /// where that level has Zstandard; each table has its own. 0 for none, which is the default;
    /// 16 KiB is a good size.
    pub zstd_dictionary_bytes: u32,
    /// Size of a block before compression, in bytes. Default 4096.
    pub block_size_bytes: u32,
    /// Bits of filter per key; 0 for no filter. Default 10: about 1 in 100 reads of a missing key
    /// looks into a table in vain.
    pub filter_bits_per_key: u32,
    /// Size at which a memtable is switched and flushed, in bytes. Default 64 MiB, or a quarter of
    /// the memory budget where that is less.
    pub memtable_bytes: u64,
    /// How many full memtables may wait for their flush before writes wait. Default 3.
    pub immutable_memtables_max: usize,
    /// Whether writes go to the log. Without it they are durable only once flushed. Default true.
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
    /// cheap: reads become faster. Under [`CompactionPolicy::Leveled`] only. At least a second;
    /// default a minute, `None` for never.
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
    /// What the operands of merges do to values. Its name is recorded: from then on the keyspace
    /// keeps it, and opening it with another one is refused. An operator of the module
    /// [`operators`](crate::operators) is found again by its name; any other one must be given at
    /// each open, or operands are kept as they are and reads of their keys fail. Default none.
    pub merge_operator: Option<Merge>,
    /// Asked by compactions about the values that no snapshot sees. Code, and not recorded: it
    /// works from when it is given until the database is closed. Default none.
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

/// Tags of what follows the parameters of the policy in recorded options.
mod tag {
    pub(super) const MERGE_OPERATOR: u64 = 1;
    pub(super) const DEFAULT_TTL: u64 = 2;
    /// Compression from level to level.
    pub(super) const LEVELS: u64 = 3;
    /// Values that lie outside of tables.
    pub(super) const BLOBS: u64 = 4;
    /// The times of upkeep.
    pub(super) const UPKEEP: u64 = 5;
}

/// What stands in a table instead of a value is about as long.
const BLOB_THRESHOLD_MIN: u32 = 32;

/// The byte that stands for each choice in the manifest.
impl KeyspaceOptions {
    /// The options as the manifest records them, but for the order, which it records beside them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (compaction, parameters) = self.compaction.encode();
        let compression = u64::from(self.compression.of_tables().as_byte());
        for field in [
            compaction,
            compression,
            u64::from(self.block_size_bytes),
            u64::from(self.filter_bits_per_key),
            self.memtable_bytes,
            self.immutable_memtables_max as u64,
            u64::from(self.log),
        ] {
            put_varint(&mut out, field);
        }
        let sections = self.encode_sections();
        // Nothing where there are none: so it was before any policy had parameters.
        if !parameters.is_empty() || !sections.is_empty() {
            put_varint(&mut out, parameters.len() as u64);
            for parameter in parameters {
                put_varint(&mut out, parameter);
            }
        }
        out.extend(sections);
        out
    }

    /// What is not as it is by default.
    fn encode_sections(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(merge) = &self.merge_operator {
            put_section(&mut out, tag::MERGE_OPERATOR, |body| {
                body.extend_from_slice(merge.name().as_bytes());
            });
        }
        if let Some(ttl) = self.default_ttl {
            put_section(&mut out, tag::DEFAULT_TTL, |body| put_varint(body, millis_up(ttl)));
        }
        if let Some(levels) = self.encode_levels() {
            put_section(&mut out, tag::LEVELS, |body| body.extend_from_slice(&levels));
        }
        let blobs = |o: &Self| [o.blob_threshold_bytes.unwrap_or(0), o.blob_waste_percent_max];
        if blobs(self) != blobs(&Self::default()) {
            put_section(&mut out, tag::BLOBS, |body| {
                blobs(self).iter().for_each(|&field| put_varint(body, u64::from(field)));
            });
        }
        let upkeep = |o: &Self| [o.delete_deadline, o.periodic_compaction, o.idle_compaction];
        if upkeep(self) != upkeep(&Self::default()) {
            put_section(&mut out, tag::UPKEEP, |body| {
                upkeep(self).iter().for_each(|time| put_varint(body, time.map_or(0, as_millis)));
            });
        }
        out
    }

    /// Reads what [`KeyspaceOptions::encode_sections`] gave.
    fn decode_sections(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        for_each_section(decoder, |tag, body| {
            match tag {
                tag::MERGE_OPERATOR => {
                    let not_text = body.error("a name is not UTF-8");
                    let name = std::str::from_utf8(body.rest()).ok().ok_or(not_text)?;
                    let known = crate::operators::by_name(name);
                    self.merge_operator = Some(known.unwrap_or_else(|| Merge::named(name)));
                }
                tag::DEFAULT_TTL => {
                    let millis = body.varint()?;
                    self.default_ttl = (millis > 0).then(|| Duration::from_millis(millis));
                }
                tag::LEVELS => self.decode_levels(body.rest())?,
                tag::BLOBS => {
                    let threshold = body.varint_u32()?;
                    self.blob_threshold_bytes = (threshold > 0).then_some(threshold);
                    self.blob_waste_percent_max = body.varint_u32()?;
                }
                tag::UPKEEP => {
                    for time in [
                        &mut self.delete_deadline,
                        &mut self.periodic_compaction,
                        &mut self.idle_compaction,
                    ] {
                        let millis = body.varint()?;
                        *time = (millis > 0).then(|| Duration::from_millis(millis));
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

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

    /// What differs from level to level; `None` where nothing does.
    fn encode_levels(&self) -> Option<Vec<u8>> {
        let defaults = Self::default();
        let is_default = self.shallow_compression == defaults.shallow_compression
            && self.last_level_compression.is_none()
            && self.zstd_level == defaults.zstd_level
            && self.zstd_dictionary_bytes == 0;
        if is_default {
            return None;
        }
        let last = self.last_level_compression.map_or(0, |c| c.of_tables().as_byte() + 1);
        let mut out = vec![self.shallow_compression.of_tables().as_byte(), last, self.zstd_level];
        put_varint(&mut out, u64::from(self.zstd_dictionary_bytes));
        Some(out)
    }

    fn decode_levels(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = Decoder::new(bytes);
        self.shallow_compression =
            Compression::recorded(decoder.u8()?).unwrap_or(self.shallow_compression);
        self.last_level_compression = decoder.u8()?.checked_sub(1).and_then(Compression::recorded);
        self.zstd_level = decoder.u8()?.clamp(1, ZSTD_LEVEL_MAX);
        self.zstd_dictionary_bytes = decoder.varint_u32()?.min(ZSTD_DICTIONARY_BYTES_MAX);
        Ok(())
    }

    /// Reads recorded options. They only tune, so fields that a newer release added are ignored,
    /// and a choice that this build does not have becomes the default. The order is not among them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let defaults = Self::default();
        let choice = decoder.varint()?;
        let mut options = Self {
            compression: u8::try_from(decoder.varint()?)
                .ok()
                .and_then(Compression::recorded)
                .unwrap_or(defaults.compression),
            block_size_bytes: decoder.varint_u32()?,
            filter_bits_per_key: decoder.varint_u32()?,
            memtable_bytes: decoder.varint()?,
            immutable_memtables_max: decoder.varint_usize()?,
            log: decoder.varint()? != 0,
            ..defaults
        };
        let mut parameters = Vec::new();
        if !decoder.is_empty() {
            for _ in 0..decoder.varint()? {
                parameters.push(decoder.varint()?);
            }
        }
        if let Some(compaction) = CompactionPolicy::decode(choice, &parameters) {
            options.compaction = compaction;
        }
        options.decode_sections(&mut decoder)?;
        Ok(options)
    }

    fn check_times(&self) -> Result<(), String> {
        for (name, time) in [
            ("delete_deadline", self.delete_deadline),
            ("periodic_compaction", self.periodic_compaction),
            ("idle_compaction", self.idle_compaction),
        ] {
            if let Some(time) = time.filter(|time| *time < Duration::from_secs(1)) {
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
        if !(1..=95).contains(&self.blob_waste_percent_max) {
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
    if !(256..=1 << 20).contains(&block_size_bytes) {
        return Err(format!(
            "block_size_bytes is {block_size_bytes}, and must be from 256 to 1048576"
        ));
    }
    if filter_bits_per_key > 64 {
        return Err(format!(
            "filter_bits_per_key is {filter_bits_per_key}, and must be at most 64"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspace_options_round_trip() {
        let options = KeyspaceOptions {
            compaction: CompactionPolicy::None,
            compression: Compression::None,
            shallow_compression: Compression::None,
            last_level_compression: Some(Compression::None),
            zstd_level: 19,
            zstd_dictionary_bytes: 16 << 10,
            block_size_bytes: 8192,
            filter_bits_per_key: 0,
            memtable_bytes: 12_345,
            immutable_memtables_max: 7,
            log: false,
            delete_deadline: Some(Duration::from_secs(7)),
            periodic_compaction: Some(Duration::from_millis(1001)),
            idle_compaction: None,
            default_ttl: Some(Duration::from_millis(90_000)),
            order: Order::bytewise(),
            merge_operator: Some(Merge::named("mine")),
            compaction_filter: None,
            blob_threshold_bytes: Some(1024),
            blob_waste_percent_max: 20,
        };
        assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
        let defaults = KeyspaceOptions::default();
        assert_eq!(KeyspaceOptions::decode(&defaults.encode()), Ok(defaults));
    }

    fn policies() -> [CompactionPolicy; 10] {
        let tiered = TieredOptions { num_tiers: 3, max_merge_width: Some(5), ..Default::default() };
        let simple = SimpleOptions { size_ratio_percent: 150, ..Default::default() };
        let by_bytes = LeveledByBytesOptions { base_level_size_mb: 9, ..Default::default() };
        let universal = UniversalOptions { size_ratio: 7, ..Default::default() };
        let age = Some(Duration::from_millis(3_600_001));
        [
            CompactionPolicy::Leveled,
            CompactionPolicy::None,
            CompactionPolicy::Simple(simple),
            CompactionPolicy::Tiered(tiered),
            CompactionPolicy::LeveledByBytes(by_bytes),
            CompactionPolicy::Universal(universal),
            CompactionPolicy::Lazy(LazyOptions { runs_per_level: 9, size_multiplier: 3 }),
            CompactionPolicy::Fifo(FifoOptions { bytes_max: 77, age_max: None }),
            CompactionPolicy::Fifo(FifoOptions { bytes_max: 77, age_max: age }),
            CompactionPolicy::TimeWindow(TimeWindowOptions { age_max: age, ..Default::default() }),
        ]
    }

    #[test]
    fn every_policy_round_trips_and_no_cut_of_it_panics() {
        for compaction in policies() {
            let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
            let bytes = options.encode();
            assert_eq!(KeyspaceOptions::decode(&bytes), Ok(options));
            for length in 0..bytes.len() {
                if let Ok(cut) = KeyspaceOptions::decode(&bytes[..length]) {
                    assert_eq!(cut.check(), Ok(()));
                }
            }
        }
    }

    #[test]
    fn options_as_first_written_still_decode() {
        let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
        assert_eq!(KeyspaceOptions::default().encode(), leveled);
        assert_eq!(KeyspaceOptions::decode(&leveled), Ok(KeyspaceOptions::default()));
        // A choice of a later release, and parameters that no release writes, are the default.
        for (choice, parameter) in [(200, 5), (6, 0)] {
            let mut bytes = leveled.to_vec();
            bytes[0] = choice;
            if choice >= 128 {
                bytes.insert(1, 1);
            }
            bytes.extend([2, parameter, parameter]);
            assert_eq!(KeyspaceOptions::decode(&bytes), Ok(KeyspaceOptions::default()));
        }
    }

    /// The example of FORMAT.md section 4.
    #[test]
    fn golden_bytes_of_a_merge_operator_and_tags_of_later_releases() {
        let merge_operator = Some(Merge::new(crate::operators::AddU64));
        let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let mut bytes = vec![0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
        bytes.extend(b"\x00\x01\x0desker.add-u64");
        assert_eq!(options.encode(), bytes);
        bytes.extend(b"\x63\x02xy");
        let decoded = KeyspaceOptions::decode(&bytes).unwrap();
        assert_eq!(decoded, options);
        assert!(decoded.merge_operator.unwrap().operator().is_some());
        for length in 0..bytes.len() {
            drop(KeyspaceOptions::decode(&bytes[..length]));
        }
        bytes.truncate(11);
        bytes.extend(b"\x00\x01\x01\xff");
        let error = KeyspaceOptions::decode(&bytes).unwrap_err();
        assert_eq!(error.what, "a name is not UTF-8");
    }

    #[test]
    fn times_of_upkeep_are_refused_by_name() {
        let second = Some(Duration::from_secs(1));
        let fifo = CompactionPolicy::Fifo(FifoOptions::default());
        let refused = |change: &dyn Fn(&mut KeyspaceOptions)| {
            let mut options = KeyspaceOptions::default();
            change(&mut options);
            options.check().unwrap_err()
        };
        assert_eq!(
            refused(&|o| o.delete_deadline = Some(Duration::from_millis(999))),
            "delete_deadline is 999ms, and must be at least 1s"
        );
        assert_eq!(
            refused(&|o| o.idle_compaction = Some(Duration::ZERO)),
            "idle_compaction is 0ns, and must be at least 1s"
        );
        assert_eq!(
            refused(&|o| (o.periodic_compaction, o.compaction) = (second, fifo)),
            "periodic_compaction is set, and this compaction keeps ages apart"
        );
    }

    #[test]
    fn sections_follow_the_parameters() {
        let options =
            KeyspaceOptions { idle_compaction: None, ..KeyspaceOptions::default() }.encode();
        let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
        assert_eq!(options, [&leveled[..], &[0, 5, 3, 0, 0, 0]].concat());
        assert_eq!(KeyspaceOptions::decode(&options).unwrap().idle_compaction, None);
        assert!(KeyspaceOptions::decode(&options[..options.len() - 1]).is_err());
        let unknown = [&leveled[..], &[0, 99, 2, 1, 1]].concat();
        assert_eq!(KeyspaceOptions::decode(&unknown), Ok(KeyspaceOptions::default()));
    }

    #[test]
    fn a_default_ttl_has_its_bytes_and_is_not_zero() {
        let ttl = |ttl| KeyspaceOptions { default_ttl: Some(ttl), ..KeyspaceOptions::default() };
        let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
        let bytes = ttl(Duration::from_millis(300)).encode();
        assert_eq!(bytes, [&leveled[..], &[0, 2, 2, 0xac, 2]].concat());
        assert_eq!(KeyspaceOptions::decode(&bytes), Ok(ttl(Duration::from_millis(300))));
        let unknown = [&leveled[..], &[0, 99, 2, 1, 1]].concat();
        assert_eq!(KeyspaceOptions::decode(&unknown), Ok(KeyspaceOptions::default()));
        let refused = "default_ttl is 0, and must be more than 0";
        assert_eq!(ttl(Duration::ZERO).check(), Err(refused.to_owned()));
    }

    #[test]
    fn blob_options_have_their_bytes() {
        let options =
            KeyspaceOptions { blob_threshold_bytes: Some(4096), ..KeyspaceOptions::default() };
        let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
        let section = [4, 3, 0x80, 0x20, 30];
        assert_eq!(options.encode(), [&leveled[..], &[0], &section].concat());
        assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
    }

    #[test]
    fn bad_blob_options_are_refused_by_name() {
        let refused = |threshold, percent| {
            let options = KeyspaceOptions {
                blob_threshold_bytes: threshold,
                blob_waste_percent_max: percent,
                ..KeyspaceOptions::default()
            };
            options.check().unwrap_err()
        };
        assert_eq!(refused(Some(31), 30), "blob_threshold_bytes is 31, and must be at least 32");
        assert_eq!(refused(None, 0), "blob_waste_percent_max is 0, and must be from 1 to 95");
        assert_eq!(refused(Some(32), 96), "blob_waste_percent_max is 96, and must be from 1 to 95");
    }

    #[test]
    fn bad_parameters_of_a_policy_are_refused_by_name() {
        let compaction =
            CompactionPolicy::Lazy(LazyOptions { runs_per_level: 1, size_multiplier: 3 });
        let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
        let refused = "compaction: runs_per_level is 1, and must be from 2 to 1000";
        assert_eq!(options.check(), Err(refused.to_owned()));
    }
}
