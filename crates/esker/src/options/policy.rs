//! The choice of a compaction policy, and how it is recorded.
//!
//! Knows nothing of what policies do.

use std::time::Duration;

use esker_tree::{
    BadOption, FifoOptions, LazyOptions, LeveledByBytesOptions, SimpleOptions, TieredOptions,
    TimeWindowOptions, UniversalOptions,
};

use super::as_millis;

/// How a keyspace's tree is kept in shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CompactionPolicy {
    /// Levels of one run each, every level ten times the one above it.
    #[default]
    Leveled,
    /// Only on demand.
    None,
    /// Levels of one run each, sized by their number of tables: the first policy of the course
    /// mini-lsm.
    Simple(SimpleOptions),
    /// Tiers of runs, sized by their number of tables: the course's second policy.
    Tiered(TieredOptions),
    /// Levels of one run each, sized in bytes, with a given number of levels and base size: the
    /// course's third policy.
    LeveledByBytes(LeveledByBytesOptions),
    /// Tiers of runs, sized in bytes: writes less than leveled, reads more, and takes more space.
    Universal(UniversalOptions),
    /// Lazy leveling: several runs in each level except the last, which has one. Between leveled
    /// and universal.
    Lazy(LazyOptions),
    /// Merges nothing. **Drops the oldest tables, with their data,** once all tables together take
    /// too many bytes or their entries are too old; snapshots lose the data too. The tables of the
    /// last flush are dropped for their age only, however large they are. Durations count in whole
    /// milliseconds.
    Fifo(FifoOptions),
    /// Merges the tables of each time window into one run, and keeps windows apart. If an age is
    /// given, **drops windows that are too old, with their data**; snapshots lose the data too.
    /// Durations count in whole milliseconds.
    TimeWindow(TimeWindowOptions),
}

impl CompactionPolicy {
    /// The number that represents the choice in the manifest, and its parameters.
    pub(super) fn encode(&self) -> (u64, Vec<u64>) {
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

    /// Decodes the output of [`CompactionPolicy::encode`]; `None` if it cannot have produced this.
    pub(super) fn decode(choice: u64, parameters: &[u64]) -> Option<Self> {
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

    pub(super) fn check(&self) -> Result<(), BadOption> {
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

    /// Whether the policy relies on the age of each table, so that nothing but the policy may merge
    /// any.
    pub(crate) const fn keeps_ages_apart(&self) -> bool {
        matches!(self, Self::Fifo(_) | Self::TimeWindow(_))
    }
}
