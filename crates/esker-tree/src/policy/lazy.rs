//! Lazy leveling: several runs in each level but the last, which has one.
//!
//! A level that has reached its number of runs is merged into one run of the next level, so an
//! entry is rewritten once per level. If that run would be large compared with the last level, it
//! is merged into the last level at once, together with all runs in between. Most bytes are thus in
//! one run, which saves most of what many runs cost in reads and space (Dayan and Idreos,
//! Dostoevsky, 2018).
//!
//! While a plan is in flight, newer runs of level 0 can be merged with each other.

use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, LAST, by_age, idle_count, merge, merge_into};
use crate::policy::{BadOption, Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`Lazy`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LazyOptions {
    /// Number of runs of a level that are merged into one of the next. 4 by default; from 2 to 1000.
    pub runs_per_level: u64,
    /// A merge into the last level takes at least one part in this many of what is there. 10 by
    /// default; from 1 to 1000.
    pub size_multiplier: u64,
}

impl Default for LazyOptions {
    fn default() -> Self {
        Self { runs_per_level: 4, size_multiplier: 10 }
    }
}

impl LazyOptions {
    /// # Errors
    /// The first option that [`Lazy`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        let (runs, name) = (self.runs_per_level, "runs_per_level");
        BadOption::unless((2..=1000).contains(&runs), name, runs, "from 2 to 1000")?;
        let (multiplier, name) = (self.size_multiplier, "size_multiplier");
        BadOption::unless((1..=1000).contains(&multiplier), name, multiplier, "from 1 to 1000")
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Lazy {
    options: LazyOptions,
    table_bytes: u64,
}

impl Lazy {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`LazyOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: LazyOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    fn runs_max(&self) -> usize {
        self.options.runs_per_level as usize
    }

    fn pick_idle(&self, shape: &Shape) -> Option<Plan> {
        let runs = by_age(shape);
        let last = &shape.levels[LAST];
        if last.runs.len() > 1 {
            let start = runs.len() - last.runs.len();
            return Some(merge(PlanReason::Runs, &runs, start..runs.len(), self.table_bytes));
        }
        let level = (0..LAST).find(|&at| self.runs_max() <= shape.levels[at].runs.len())?;
        let is_upper = |aged: &&Aged<'_>| (level..LAST).contains(&aged.level);
        let upper_bytes: u64 = runs.iter().filter(is_upper).map(Aged::bytes).sum();
        let reason = if level == 0 { PlanReason::LevelZero } else { PlanReason::Runs };
        let start = runs.iter().position(|aged| aged.level == level)?;
        let is_large = last.bytes() <= upper_bytes.saturating_mul(self.options.size_multiplier);
        if is_large || level + 1 == LAST {
            return Some(merge(reason, &runs, start..runs.len(), self.table_bytes));
        }
        let here = &runs[start..start + shape.levels[level].runs.len()];
        Some(merge_into(reason, here, (level + 1, None), self.table_bytes))
    }
}

impl Policy for Lazy {
    fn name(&self) -> &'static str {
        "lazy"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        if busy.is_empty() {
            return self.pick_idle(shape);
        }
        let runs = by_age(shape);
        let idle = idle_count(&runs, busy);
        let reason = PlanReason::WithinLevelZero;
        (self.runs_max() <= idle).then(|| merge(reason, &runs, 0..idle, self.table_bytes))
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    /// The limit for all levels above the last together is reported for the one just above it.
    fn level_targets(&self, shape: &Shape) -> Vec<u64> {
        let mut targets = vec![0; LEVEL_COUNT_MAX];
        targets[LAST] = shape.levels[LAST].bytes();
        targets[LAST - 1] = targets[LAST] / self.options.size_multiplier;
        targets
    }

    /// By the number of runs.
    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let runs_max = self.runs_max() as f64;
        let levels = shape.levels.iter().enumerate();
        let score = |(level, runs): (usize, &crate::shape::LevelShape)| match runs.runs.len() {
            0 | 1 if level == LAST => 0.0,
            count if level == LAST => count as f64,
            count => count as f64 / runs_max,
        };
        levels.map(score).collect()
    }

    /// The bytes of the levels that are full; a merge into the last level is no reason to slow down
    /// writes.
    fn debt_bytes(&self, shape: &Shape) -> u64 {
        let upper = shape.levels.iter().take(LAST);
        let full = upper.filter(|level| self.runs_max() <= level.runs.len());
        full.map(crate::shape::LevelShape::bytes).sum()
    }

    fn resting_run_count(&self) -> usize {
        self.runs_max() - 1
    }
}
