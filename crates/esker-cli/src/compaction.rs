//! Names of compaction policies on the command line, each with its defaults.

use clap::ValueEnum;
use esker::CompactionPolicy;

/// Compaction policies.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Compaction {
    /// Levels of one run each, every one ten times the one before it.
    Leveled,
    /// Only on demand.
    None,
    /// Levels of one run each, by counts of tables.
    Simple,
    /// Runs of any age, by counts of tables.
    Tiered,
    /// Four levels of one run each, by bytes.
    LeveledByBytes,
    /// Runs of any age, by bytes.
    Universal,
    /// Several runs in each level but the last.
    Lazy,
    /// Nothing is merged; the oldest tables are dropped once all take more than 1 GiB.
    Fifo,
    /// Tables of one hour become one run, and hours stay apart.
    TimeWindow,
}

impl Compaction {
    /// The policy with its defaults.
    pub(crate) fn policy(self) -> CompactionPolicy {
        match self {
            Self::Leveled => CompactionPolicy::Leveled,
            Self::None => CompactionPolicy::None,
            Self::Simple => CompactionPolicy::Simple(Default::default()),
            Self::Tiered => CompactionPolicy::Tiered(Default::default()),
            Self::LeveledByBytes => CompactionPolicy::LeveledByBytes(Default::default()),
            Self::Universal => CompactionPolicy::Universal(Default::default()),
            Self::Lazy => CompactionPolicy::Lazy(Default::default()),
            Self::Fifo => CompactionPolicy::Fifo(Default::default()),
            Self::TimeWindow => CompactionPolicy::TimeWindow(Default::default()),
        }
    }
}
