//! Leveled compaction with a fixed number of levels and a base size: mini-lsm's policy by bytes.
//!
//! The target of the last level is what it holds, but at least the base size. Each level above has
//! the target of the next deeper one divided by the multiplier, as long as that next target is more
//! than the base size; other levels stay empty. In the course's order of checks: once level 0 has
//! enough tables, all of it is merged into the first level with a target; otherwise, the oldest
//! table of the level that most exceeds its target is merged into the next level. One plan at a
//! time, and no trivial moves.

use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, LAST};
use crate::policy::bottom_levels::BottomLevels;
use crate::policy::{BadOption, Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`LeveledByBytes`]; the defaults are the course's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeveledByBytesOptions {
    /// Number of tables at which level 0 is compacted. 2 by default; at least 1.
    pub level0_file_num_compaction_trigger: u64,
    /// Target of a level, as a multiple of the one above it. 2 by default; from 2 to 1000.
    pub level_size_multiplier: u64,
    /// Levels below level 0. 4 by default; at most 6.
    pub max_levels: usize,
    /// Minimum target of the last level, in MiB. 128 by default; from 1 to 1,048,576.
    pub base_level_size_mb: u64,
}

impl Default for LeveledByBytesOptions {
    fn default() -> Self {
        Self {
            level0_file_num_compaction_trigger: 2,
            level_size_multiplier: 2,
            max_levels: 4,
            base_level_size_mb: 128,
        }
    }
}

impl LeveledByBytesOptions {
    /// # Errors
    /// The first option that [`LeveledByBytes`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        let (trigger, name) =
            (self.level0_file_num_compaction_trigger, "level0_file_num_compaction_trigger");
        BadOption::unless(trigger > 0, name, trigger, "at least 1")?;
        let (multiplier, name) = (self.level_size_multiplier, "level_size_multiplier");
        BadOption::unless((2..=1000).contains(&multiplier), name, multiplier, "from 2 to 1000")?;
        let (levels, name) = (self.max_levels, "max_levels");
        BadOption::unless((1..=LAST).contains(&levels), name, levels as u64, "from 1 to 6")?;
        let (base, name) = (self.base_level_size_mb, "base_level_size_mb");
        BadOption::unless((1..=1 << 20).contains(&base), name, base, "from 1 to 1048576")
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct LeveledByBytes {
    options: LeveledByBytesOptions,
    table_bytes: u64,
}

impl LeveledByBytes {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`LeveledByBytesOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: LeveledByBytesOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    /// The target of each level by the policy's parameters, from level 0 on, which has none.
    fn aims(&self, levels: &BottomLevels<'_>) -> Vec<u64> {
        let base = self.options.base_level_size_mb << 20;
        let count = self.options.max_levels;
        let mut aims = vec![0; count + 1];
        aims[count] = levels.level(count).bytes().max(base);
        for level in (1..count).rev() {
            if aims[level + 1] > base {
                aims[level] = aims[level + 1] / self.options.level_size_multiplier;
            }
        }
        aims
    }

    fn is_level_zero_due(&self, levels: &BottomLevels<'_>) -> bool {
        self.options.level0_file_num_compaction_trigger <= levels.table_count(0)
    }

    fn pick_level_zero(&self, levels: &BottomLevels<'_>, aims: &[u64]) -> Plan {
        // A tree that shrank has tables above the first level with a target: they are newer than
        // what is below, and nothing may pass them.
        let is_base = |&level: &usize| aims[level] > 0 || levels.table_count(level) > 0;
        let base = (1..=self.options.max_levels).find(is_base).expect("the last has an aim");
        levels.merge_down(PlanReason::LevelZero, levels.all(0), base, self.table_bytes)
    }

    /// The level that most exceeds its target; of equals, the deeper one.
    fn furthest(&self, levels: &BottomLevels<'_>, aims: &[u64]) -> Option<usize> {
        let over = |level: usize| levels.level(level).bytes() as f64 / aims[level] as f64;
        // Zero over zero is not a number, and no reason.
        let is_over = |&level: &usize| over(level) > 1.0;
        let candidates = (1..self.options.max_levels).filter(is_over);
        candidates.max_by(|&a, &b| over(a).total_cmp(&over(b)))
    }
}

impl Policy for LeveledByBytes {
    fn name(&self) -> &'static str {
        "leveled-by-bytes"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        if !busy.is_empty() {
            return None;
        }
        let levels = BottomLevels::new(shape, self.options.max_levels);
        if let Some(plan) = levels.bring_in(self.table_bytes) {
            return Some(plan);
        }
        let aims = self.aims(&levels);
        if self.is_level_zero_due(&levels) {
            return Some(self.pick_level_zero(&levels, &aims));
        }
        let level = self.furthest(&levels, &aims)?;
        let run = levels.level(level).runs.first()?;
        let oldest = run.tables.iter().min_by_key(|table| table.id)?;
        let source = (Aged { level: levels.place(level), run }, vec![oldest]);
        Some(levels.merge_down(PlanReason::Size, vec![source], level + 1, self.table_bytes))
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    fn level_targets(&self, shape: &Shape) -> Vec<u64> {
        let levels = BottomLevels::new(shape, self.options.max_levels);
        let mut targets = vec![0; LEVEL_COUNT_MAX];
        for (level, aim) in self.aims(&levels).into_iter().enumerate() {
            targets[levels.place(level)] = aim;
        }
        targets
    }

    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let levels = BottomLevels::new(shape, self.options.max_levels);
        let aims = self.aims(&levels);
        let mut scores = vec![0.0; LEVEL_COUNT_MAX];
        let trigger = self.options.level0_file_num_compaction_trigger as f64;
        scores[0] = levels.table_count(0) as f64 / trigger;
        for level in 1..self.options.max_levels {
            let bytes = levels.level(level).bytes();
            // A level that should be empty has a score of 1 or more, without dividing by zero.
            scores[levels.place(level)] = match aims[level] {
                0 if bytes == 0 => 0.0,
                0 => 1.0 + bytes as f64 / (self.options.base_level_size_mb << 20) as f64,
                aim => bytes as f64 / aim as f64,
            };
        }
        scores
    }

    /// Lets the excess flow down; each byte is merged with about as many as the multiplier says.
    fn debt_bytes(&self, shape: &Shape) -> u64 {
        let levels = BottomLevels::new(shape, self.options.max_levels);
        let aims = self.aims(&levels);
        let mut coming = if self.is_level_zero_due(&levels) { levels.level(0).bytes() } else { 0 };
        let mut debt = coming.saturating_mul(2);
        for (level, aim) in aims.iter().enumerate().take(self.options.max_levels).skip(1) {
            let bytes = levels.level(level).bytes();
            if *aim == 0 && bytes == 0 {
                // Passed over.
                continue;
            }
            coming = (bytes + coming).saturating_sub(*aim);
            let cost = coming.saturating_mul(1 + self.options.level_size_multiplier);
            debt = debt.saturating_add(cost);
        }
        debt
    }

    fn resting_run_count(&self) -> usize {
        let rest = self.options.level0_file_num_compaction_trigger - 1;
        usize::try_from(rest).unwrap_or(usize::MAX)
    }
}
