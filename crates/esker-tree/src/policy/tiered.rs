//! Tiered compaction by counts: tiers of runs, sized by their number of tables.
//!
//! The policy of the course mini-lsm, in its order of checks, once there are enough tiers: if the
//! newer tiers have too many tables compared with the oldest, all are merged; otherwise the tiers
//! newer than the first one that is larger than all of them together are merged; otherwise the
//! newest ones are merged. One plan at a time.
//!
//! A tier is a run, in whatever level. Flushes and merged tiers stay in level 0; the oldest tier
//! goes to the last level when it is merged.

use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, by_age, merge};
use crate::policy::{BadOption, Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`Tiered`]; the defaults are the course's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TieredOptions {
    /// Number of tiers at which merging starts. 8 by default; at least 2.
    pub num_tiers: u64,
    /// How many tables the newer tiers may have, in percent of the oldest. 200 by default.
    pub max_size_amplification_percent: u64,
    /// A tier that is larger than all newer ones together by more than this percentage is not
    /// merged with them. 1 by default; at most 1,000,000.
    pub size_ratio: u64,
    /// Minimum number of tiers in such a merge. 2 by default; at least 2.
    pub min_merge_width: u64,
    /// Maximum number of tiers in a merge that only their number calls for; unlimited if not given.
    /// At least 2.
    pub max_merge_width: Option<u64>,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self {
            num_tiers: 8,
            max_size_amplification_percent: 200,
            size_ratio: 1,
            min_merge_width: 2,
            max_merge_width: None,
        }
    }
}

impl TieredOptions {
    /// # Errors
    /// The first option that [`Tiered`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        BadOption::unless(self.num_tiers >= 2, "num_tiers", self.num_tiers, "at least 2")?;
        let (ratio, name) = (self.size_ratio, "size_ratio");
        BadOption::unless(ratio <= 1_000_000, name, ratio, "at most 1000000")?;
        let (percent, name) =
            (self.max_size_amplification_percent, "max_size_amplification_percent");
        BadOption::unless(percent <= 1_000_000, name, percent, "at most 1000000")?;
        let (width, name) = (self.min_merge_width, "min_merge_width");
        BadOption::unless(width >= 2, name, width, "at least 2")?;
        let width = self.max_merge_width.unwrap_or(u64::MAX);
        BadOption::unless(width >= 2, "max_merge_width", width, "at least 2")
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Tiered {
    options: TieredOptions,
    table_bytes: u64,
}

impl Tiered {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`TieredOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: TieredOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    /// How many of the newest tiers to merge, and why.
    fn width(&self, tiers: &[Aged<'_>]) -> Option<(PlanReason, usize)> {
        let (oldest, newer) = tiers.split_last()?;
        if (tiers.len() as u64) < self.options.num_tiers {
            return None;
        }
        let newer_count: u64 = newer.iter().map(Aged::count).sum();
        if newer_count * 100 >= oldest.count() * self.options.max_size_amplification_percent {
            return Some((PlanReason::Garbage, tiers.len()));
        }
        let mut count = 0;
        for (index, pair) in tiers.windows(2).enumerate() {
            count += pair[0].count();
            let is_wide = index as u64 + 1 >= self.options.min_merge_width;
            if is_wide && pair[1].count() * 100 > count * (100 + self.options.size_ratio) {
                return Some((PlanReason::SizeRatio, index + 1));
            }
        }
        let widest = self.options.max_merge_width.unwrap_or(u64::MAX);
        Some((PlanReason::Runs, tiers.len().min(usize::try_from(widest).unwrap_or(usize::MAX))))
    }
}

impl Policy for Tiered {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        if !busy.is_empty() {
            return None;
        }
        let tiers = by_age(shape);
        let (reason, width) = self.width(&tiers)?;
        Some(merge(reason, &tiers, 0..width, self.table_bytes))
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    /// Counts tables, so it has no target sizes.
    fn level_targets(&self, _shape: &Shape) -> Vec<u64> {
        vec![0; LEVEL_COUNT_MAX]
    }

    /// The score by number of tiers is reported for level 0, where the flushes are.
    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let mut scores = vec![0.0; LEVEL_COUNT_MAX];
        scores[0] = by_age(shape).len() as f64 / self.options.num_tiers as f64;
        scores
    }

    /// The bytes of the tiers beyond the number: a merge of all may be due, and yet not be a reason
    /// to slow down writes.
    fn debt_bytes(&self, shape: &Shape) -> u64 {
        let tiers = by_age(shape);
        let excess = (tiers.len() as u64 + 1).saturating_sub(self.options.num_tiers);
        tiers.iter().take(excess as usize).map(Aged::bytes).sum()
    }

    fn resting_run_count(&self) -> usize {
        usize::try_from(self.options.num_tiers - 1).unwrap_or(usize::MAX)
    }
}
