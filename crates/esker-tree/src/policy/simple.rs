//! Simple leveled compaction: levels of one run each, sized by their number of tables.
//!
//! The first policy of the course mini-lsm, in its order of checks: from level 0 down, the first
//! level that is too large compared with the next is merged into it, all tables of both. Level 0 is
//! considered once it has enough tables. One plan at a time.

use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::LAST;
use crate::policy::bottom_levels::BottomLevels;
use crate::policy::{BadOption, Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`Simple`]; the defaults are the course's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SimpleOptions {
    /// A level is merged into the next deeper one if that has fewer tables than this percentage of
    /// its own. 200 by default; from 1 to 1,000,000.
    pub size_ratio_percent: u64,
    /// Number of tables from which on level 0 is considered. 2 by default; at least 1.
    pub level0_file_num_compaction_trigger: u64,
    /// Levels below level 0. 3 by default; at most 6.
    pub max_levels: usize,
}

impl Default for SimpleOptions {
    fn default() -> Self {
        Self { size_ratio_percent: 200, level0_file_num_compaction_trigger: 2, max_levels: 3 }
    }
}

impl SimpleOptions {
    /// # Errors
    /// The first option that [`Simple`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        let (ratio, trigger) = (self.size_ratio_percent, self.level0_file_num_compaction_trigger);
        let is_allowed = (1..=1_000_000).contains(&ratio);
        BadOption::unless(is_allowed, "size_ratio_percent", ratio, "from 1 to 1000000")?;
        let name = "level0_file_num_compaction_trigger";
        BadOption::unless(trigger > 0, name, trigger, "at least 1")?;
        let levels = self.max_levels;
        BadOption::unless((1..=LAST).contains(&levels), "max_levels", levels as u64, "from 1 to 6")
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Simple {
    options: SimpleOptions,
    table_bytes: u64,
}

impl Simple {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`SimpleOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: SimpleOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    /// The level whose next deeper level is too small compared with it, if any.
    fn due(&self, levels: &BottomLevels<'_>) -> Option<usize> {
        (0..self.options.max_levels).find(|&level| {
            let (upper, lower) = (levels.table_count(level), levels.table_count(level + 1));
            let is_looked_at =
                level > 0 || self.options.level0_file_num_compaction_trigger <= upper;
            // An empty level has nothing to merge, whatever the ratio.
            is_looked_at && lower * 100 < upper * self.options.size_ratio_percent
        })
    }
}

impl Policy for Simple {
    fn name(&self) -> &'static str {
        "simple"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        if !busy.is_empty() {
            return None;
        }
        let levels = BottomLevels::new(shape, self.options.max_levels);
        if let Some(plan) = levels.bring_in(self.table_bytes) {
            return Some(plan);
        }
        let level = self.due(&levels)?;
        let reason = if level == 0 { PlanReason::LevelZero } else { PlanReason::SizeRatio };
        let mut sources = levels.all(level);
        sources.extend(levels.all(level + 1));
        let target_run = levels.level(level + 1).runs.first().map(|run| run.id);
        let target = (levels.place(level + 1), target_run);
        Some(super::aged::plan(reason, sources, target, self.table_bytes))
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    /// Counts tables, so it has no target sizes.
    fn level_targets(&self, _shape: &Shape) -> Vec<u64> {
        vec![0; LEVEL_COUNT_MAX]
    }

    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let levels = BottomLevels::new(shape, self.options.max_levels);
        let mut scores = vec![0.0; LEVEL_COUNT_MAX];
        let trigger = self.options.level0_file_num_compaction_trigger as f64;
        scores[0] = levels.table_count(0) as f64 / trigger;
        for level in 1..self.options.max_levels {
            let (upper, lower) = (levels.table_count(level), levels.table_count(level + 1));
            let room = lower.max(1) as f64 * 100.0 / self.options.size_ratio_percent as f64;
            scores[levels.place(level)] = upper as f64 / room;
        }
        scores
    }

    fn debt_bytes(&self, shape: &Shape) -> u64 {
        let levels = BottomLevels::new(shape, self.options.max_levels);
        // Deeper levels are merged whole, which is a lot, but no reason to slow down writes.
        if self.due(&levels) == Some(0) { levels.level(0).bytes().saturating_mul(2) } else { 0 }
    }

    /// Level 0 waits for its share of level 1, however many runs that takes.
    fn resting_run_count(&self) -> usize {
        usize::MAX
    }
}
