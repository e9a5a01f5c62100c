//! The arguments of `esker simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use esker_sim::Rows;
use esker_tree::{
    BadOption, Fifo, FifoOptions, Lazy, LazyOptions, LeveledByBytes, LeveledByBytesOptions, Policy,
    Simple, SimpleOptions, Tiered, TieredOptions, TimeWindow, TimeWindowOptions, Universal,
    UniversalOptions,
};

use crate::failure::{Failure, Result};

/// The policy and its parameters.
#[derive(Clone, Subcommand, Debug)]
pub(crate) enum Simulated {
    /// Leveled by counts of tables: each level one run, whole levels at a time.
    Simple {
        /// A level takes in the one above it if it has fewer than this percentage of the tables of
        /// that.
        #[arg(long, default_value_t = 200)]
        size_ratio_percent: u64,
        /// With fewer tables than this, level 0 is left alone.
        #[arg(long, default_value_t = 2)]
        level0_file_num_compaction_trigger: u64,
        /// Levels below level 0.
        #[arg(long, default_value_t = 3)]
        max_levels: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Tiered by counts of tables.
    Tiered {
        /// With fewer tiers than this, nothing is compacted.
        #[arg(long, default_value_t = 8)]
        num_tiers: u64,
        /// How many tables the newer tiers may have together, in percent of those of the oldest.
        #[arg(long, default_value_t = 200)]
        max_size_amplification_percent: u64,
        /// A tier larger than all newer ones together by more than this percentage stays as it is.
        #[arg(long, default_value_t = 1)]
        size_ratio: u64,
        /// Fewest tiers that a merge by that ratio takes.
        #[arg(long, default_value_t = 2)]
        min_merge_width: u64,
        /// Most tiers that a merge takes if only their number calls for it [default: all].
        #[arg(long)]
        max_merge_width: Option<u64>,
        #[command(flatten)]
        run: Run,
    },
    /// Leveled by bytes, one table at a time, with random keys.
    Leveled {
        /// Tables of level 0 that call for a compaction.
        #[arg(long, default_value_t = 2)]
        level0_file_num_compaction_trigger: u64,
        /// Target size of a level, as a multiple of that of the level above it.
        #[arg(long, default_value_t = 2)]
        level_size_multiplier: u64,
        /// Levels below level 0.
        #[arg(long, default_value_t = 4)]
        max_levels: usize,
        /// Least target size of the last level, in MiB.
        #[arg(long, default_value_t = 128)]
        base_level_size_mb: u64,
        /// Size of a table, in MiB.
        #[arg(long, default_value_t = 32)]
        sst_size_mb: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Tiered by bytes, as RocksDB does it.
    Universal {
        /// With fewer runs than this, nothing is compacted.
        #[arg(long, default_value_t = 4)]
        level0_file_num_compaction_trigger: u64,
        /// How much larger than all newer ones together a run may be to be merged with them, in
        /// percent.
        #[arg(long, default_value_t = 1)]
        size_ratio: u64,
        /// Fewest runs that a merge by that ratio takes.
        #[arg(long, default_value_t = 2)]
        min_merge_width: u64,
        /// Most runs that a merge takes, unless it takes all [default: any number].
        #[arg(long)]
        max_merge_width: Option<u64>,
        /// How much the newer runs may hold together, in percent of the oldest.
        #[arg(long, default_value_t = 200)]
        max_size_amplification_percent: u64,
        /// Size of a table, in MiB.
        #[arg(long, default_value_t = 32)]
        sst_size_mb: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Several runs in each level but the last, which has one.
    Lazy {
        /// Runs of a level that become one of the next.
        #[arg(long, default_value_t = 4)]
        runs_per_level: u64,
        /// Runs go to the last level once they have at least one part in so many of its bytes.
        #[arg(long, default_value_t = 10)]
        size_multiplier: u64,
        /// Size of a table, in MiB.
        #[arg(long, default_value_t = 32)]
        sst_size_mb: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Nothing is merged, and the oldest tables are dropped.
    Fifo {
        /// What all tables may take together, in bytes.
        #[arg(long, default_value_t = 1 << 30)]
        bytes_max: u64,
        /// Age at which entries are dropped, in seconds [default: never].
        #[arg(long)]
        age_max: Option<u64>,
        /// Time from one flush to the next, in seconds.
        #[arg(long, default_value_t = 60)]
        interval: u64,
        /// Size of a table, in MiB.
        #[arg(long, default_value_t = 32)]
        sst_size_mb: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Runs of one window of time become one run.
    TimeWindow {
        /// Length of a window, in seconds.
        #[arg(long, default_value_t = 3600)]
        window: u64,
        /// Runs of the window that is being written that become one.
        #[arg(long, default_value_t = 4)]
        runs_per_window: u64,
        /// Age at which entries are dropped, in seconds [default: never].
        #[arg(long)]
        age_max: Option<u64>,
        /// Time from one flush to the next, in seconds.
        #[arg(long, default_value_t = 60)]
        interval: u64,
        /// Size of a table, in MiB.
        #[arg(long, default_value_t = 32)]
        sst_size_mb: u64,
        #[command(flatten)]
        run: Run,
    },
}

/// How to run it, and what to print.
#[derive(Args, Clone, Debug)]
pub(crate) struct Run {
    /// Flushes.
    #[arg(long, default_value_t = 50)]
    pub(crate) iterations: u64,
    /// Seed of random keys. Only `leveled` has any: elsewhere a flush covers all keys.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Print how many tables there are, not which.
    #[arg(long)]
    pub(crate) size_only: bool,
    /// Print the numbers of the tables, not of the flushes that they come from.
    #[arg(long, alias = "dump-real-id", conflicts_with = "size_only")]
    pub(crate) dump_ids: bool,
    /// Print the result as one JSON object in the last line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw all trees into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// What [`esker_sim::Setup`] needs besides the seed.
pub(crate) struct Parts {
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) rows: Rows,
    pub(crate) table_bytes: u64,
    pub(crate) interval: Duration,
    pub(crate) has_random_keys: bool,
}

/// The refusal of a parameter, with the name of its flag.
fn refused(bad: BadOption) -> Failure {
    Failure::other(format!("--{bad}").replacen(bad.name, &bad.name.replace('_', "-"), 1))
}

/// The parameter in MiB, in bytes.
fn table_bytes(sst_size_mb: u64) -> Result<u64> {
    if (1..=1 << 20).contains(&sst_size_mb) {
        return Ok(sst_size_mb << 20);
    }
    Err(Failure::other(format!("--sst-size-mb is {sst_size_mb}, and must be from 1 to 1048576")))
}

/// For a policy that counts tables, whose size does not matter.
fn counted(policy: impl Policy, rows: Rows) -> Parts {
    let policy = Box::new(policy);
    Parts { policy, rows, table_bytes: 1, interval: Duration::ZERO, has_random_keys: false }
}

impl Simulated {
    /// How to run it.
    pub(crate) const fn run(&self) -> &Run {
        match self {
            Self::Simple { run, .. }
            | Self::Tiered { run, .. }
            | Self::Leveled { run, .. }
            | Self::Universal { run, .. }
            | Self::Lazy { run, .. }
            | Self::Fifo { run, .. }
            | Self::TimeWindow { run, .. } => run,
        }
    }

    /// The policy under its parameters.
    pub(crate) fn parts(&self) -> Result<Parts> {
        match *self {
            Self::Simple {
                size_ratio_percent,
                level0_file_num_compaction_trigger,
                max_levels,
                ..
            } => {
                let options = SimpleOptions {
                    size_ratio_percent,
                    level0_file_num_compaction_trigger,
                    max_levels,
                };
                options.check().map_err(refused)?;
                Ok(counted(Simple::new(options, 1), Rows::Levels(max_levels)))
            }
            Self::Tiered {
                num_tiers,
                max_size_amplification_percent,
                size_ratio,
                min_merge_width,
                max_merge_width,
                ..
            } => {
                let options = TieredOptions {
                    num_tiers,
                    max_size_amplification_percent,
                    size_ratio,
                    min_merge_width,
                    max_merge_width,
                };
                options.check().map_err(refused)?;
                Ok(counted(Tiered::new(options, 1), Rows::Tiers))
            }
            Self::Leveled {
                level0_file_num_compaction_trigger,
                level_size_multiplier,
                max_levels,
                base_level_size_mb,
                sst_size_mb,
                ..
            } => {
                let options = LeveledByBytesOptions {
                    level0_file_num_compaction_trigger,
                    level_size_multiplier,
                    max_levels,
                    base_level_size_mb,
                };
                options.check().map_err(refused)?;
                let table_bytes = table_bytes(sst_size_mb)?;
                let policy = LeveledByBytes::new(options, table_bytes);
                let parts = counted(policy, Rows::Levels(max_levels));
                Ok(Parts { table_bytes, has_random_keys: true, ..parts })
            }
            _ => self.runs_parts(),
        }
    }

    /// The policies that the course does not have.
    fn runs_parts(&self) -> Result<Parts> {
        let seconds = Duration::from_secs;
        let (parts, sst_size_mb, interval) = match *self {
            Self::Universal {
                level0_file_num_compaction_trigger,
                size_ratio,
                min_merge_width,
                max_merge_width,
                max_size_amplification_percent,
                sst_size_mb,
                ..
            } => {
                let options = UniversalOptions {
                    level0_file_num_compaction_trigger,
                    size_ratio,
                    min_merge_width,
                    max_merge_width,
                    max_size_amplification_percent,
                };
                options.check().map_err(refused)?;
                let policy = Universal::new(options, table_bytes(sst_size_mb)?);
                (counted(policy, Rows::Tiers), sst_size_mb, 0)
            }
            Self::Lazy { runs_per_level, size_multiplier, sst_size_mb, .. } => {
                let options = LazyOptions { runs_per_level, size_multiplier };
                options.check().map_err(refused)?;
                let policy = Lazy::new(options, table_bytes(sst_size_mb)?);
                (counted(policy, Rows::Tiers), sst_size_mb, 0)
            }
            Self::Fifo { bytes_max, age_max, interval, sst_size_mb, .. } => {
                let options = FifoOptions { bytes_max, age_max: age_max.map(seconds) };
                options.check().map_err(refused)?;
                (counted(Fifo::new(options), Rows::Tiers), sst_size_mb, interval)
            }
            Self::TimeWindow {
                window, runs_per_window, age_max, interval, sst_size_mb, ..
            } => {
                let options = TimeWindowOptions {
                    window: seconds(window),
                    runs_per_window,
                    age_max: age_max.map(seconds),
                };
                options.check().map_err(refused)?;
                let policy = TimeWindow::new(options, table_bytes(sst_size_mb)?);
                (counted(policy, Rows::Tiers), sst_size_mb, interval)
            }
            Self::Simple { .. } | Self::Tiered { .. } | Self::Leveled { .. } => {
                return self.parts();
            }
        };
        Ok(Parts { table_bytes: table_bytes(sst_size_mb)?, interval: seconds(interval), ..parts })
    }
}
