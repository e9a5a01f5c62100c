//! Universal compaction: tiered by bytes, in RocksDB's order of checks.
//!
//! Once there are enough runs: if the newer ones hold too many bytes compared with the oldest, all
//! runs are merged into one. Otherwise, from the newest run on, the first sequence of adjacent runs
//! is merged in which no run is larger than all newer ones in it together. Otherwise, if there are
//! too many runs, the newest are merged. An entry is rewritten about once for each doubling of the
//! data, and a read searches a few more runs than under a leveled policy.
//!
//! While a plan is in flight, newer runs of level 0 can be merged with each other.

use std::ops::Range;
use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, by_age, idle_count, merge};
use crate::policy::{BadOption, Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`Universal`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UniversalOptions {
    /// Number of runs at which merging starts. 4 by default; at least 2.
    pub level0_file_num_compaction_trigger: u64,
    /// By how many percent a run may be larger than all newer ones together and still be merged
    /// with them. 1 by default; at most 1,000,000.
    pub size_ratio: u64,
    /// Minimum number of runs in such a merge. 2 by default; at least 2.
    pub min_merge_width: u64,
    /// Maximum number of runs in a merge that does not take all; unlimited if not given. At least 2.
    pub max_merge_width: Option<u64>,
    /// How much the newer runs may hold, in percent of the oldest. 200 by default.
    pub max_size_amplification_percent: u64,
}

impl Default for UniversalOptions {
    fn default() -> Self {
        Self {
            level0_file_num_compaction_trigger: 4,
            size_ratio: 1,
            min_merge_width: 2,
            max_merge_width: None,
            max_size_amplification_percent: 200,
        }
    }
}

impl UniversalOptions {
    /// # Errors
    /// The first option that [`Universal`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        let (trigger, name) =
            (self.level0_file_num_compaction_trigger, "level0_file_num_compaction_trigger");
        BadOption::unless(trigger >= 2, name, trigger, "at least 2")?;
        let (ratio, name) = (self.size_ratio, "size_ratio");
        BadOption::unless(ratio <= 1_000_000, name, ratio, "at most 1000000")?;
        let (width, name) = (self.min_merge_width, "min_merge_width");
        BadOption::unless(width >= 2, name, width, "at least 2")?;
        let width = self.max_merge_width.unwrap_or(u64::MAX);
        BadOption::unless(width >= 2, "max_merge_width", width, "at least 2")?;
        let (percent, name) =
            (self.max_size_amplification_percent, "max_size_amplification_percent");
        BadOption::unless(percent <= 1_000_000, name, percent, "at most 1000000")
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Universal {
    options: UniversalOptions,
    table_bytes: u64,
}

impl Universal {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`UniversalOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: UniversalOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    /// Which of `runs` to merge, and why. Only the first `idle` of them are available.
    fn choose(&self, runs: &[Aged<'_>], idle: usize) -> Option<(PlanReason, Range<usize>)> {
        let trigger = usize::try_from(self.options.level0_file_num_compaction_trigger).ok()?;
        // The inputs in flight count as one run here.
        let count = if idle < runs.len() { idle + 1 } else { idle };
        if count < trigger {
            return None;
        }
        if idle == runs.len() && self.is_garbage(runs) {
            return Some((PlanReason::Garbage, 0..runs.len()));
        }
        if let Some(stretch) = self.similar(&runs[..idle]) {
            return Some((PlanReason::SizeRatio, stretch));
        }
        let width = (count - trigger + 1).min(idle).min(self.width_max());
        (width >= 2).then_some((PlanReason::Runs, 0..width))
    }

    fn width_max(&self) -> usize {
        let width = self.options.max_merge_width.unwrap_or(u64::MAX);
        usize::try_from(width).unwrap_or(usize::MAX)
    }

    fn is_garbage(&self, runs: &[Aged<'_>]) -> bool {
        let Some((oldest, newer @ [_, ..])) = runs.split_last() else { return false };
        let newer: u128 = newer.iter().map(|run| u128::from(run.bytes())).sum();
        let percent = u128::from(self.options.max_size_amplification_percent);
        newer * 100 >= u128::from(oldest.bytes()) * percent
    }

    /// The first sequence of adjacent runs of similar size.
    fn similar(&self, runs: &[Aged<'_>]) -> Option<Range<usize>> {
        (0..runs.len()).find_map(|start| {
            let mut bytes = u128::from(runs[start].bytes());
            let mut end = start + 1;
            while end < runs.len() && end - start < self.width_max() {
                let next = u128::from(runs[end].bytes());
                if bytes * u128::from(100 + self.options.size_ratio) < next * 100 {
                    break;
                }
                bytes += next;
                end += 1;
            }
            ((end - start) as u64 >= self.options.min_merge_width).then_some(start..end)
        })
    }
}

impl Policy for Universal {
    fn name(&self) -> &'static str {
        "universal"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        let runs = by_age(shape);
        let (reason, span) = self.choose(&runs, idle_count(&runs, busy))?;
        Some(merge(reason, &runs, span, self.table_bytes))
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    /// The limit for the newer runs together is reported for level 0, where the flushes are.
    fn level_targets(&self, shape: &Shape) -> Vec<u64> {
        let mut targets = vec![0; LEVEL_COUNT_MAX];
        if let Some(oldest) = by_age(shape).last() {
            let percent = self.options.max_size_amplification_percent;
            targets[0] = oldest.bytes().saturating_mul(percent) / 100;
        }
        targets
    }

    /// The score by number of runs is reported for level 0, where the flushes are.
    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let mut scores = vec![0.0; LEVEL_COUNT_MAX];
        let trigger = self.options.level0_file_num_compaction_trigger as f64;
        // At the trigger itself, there may be nothing to do.
        scores[0] = by_age(shape).len() as f64 / (trigger + 1.0);
        scores
    }

    /// The bytes of the runs beyond the number: a merge of all may be due, and yet not be a reason
    /// to slow down writes.
    fn debt_bytes(&self, shape: &Shape) -> u64 {
        let runs = by_age(shape);
        let excess =
            (runs.len() as u64).saturating_sub(self.options.level0_file_num_compaction_trigger);
        runs.iter().take(excess as usize).map(Aged::bytes).sum()
    }

    fn resting_run_count(&self) -> usize {
        usize::try_from(self.options.level0_file_num_compaction_trigger).unwrap_or(usize::MAX)
    }
}
