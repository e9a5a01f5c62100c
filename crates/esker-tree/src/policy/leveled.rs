//! Leveled compaction: one run a level, each level a fixed multiple of the one above it.
//!
//! The sizes hang from the last level: it may hold what it holds, each level above it a
//! `multiplier` less, down to a base level of a few memtables. Level 0 compacts straight into the
//! base level, and the levels between stay empty; while it is small beside the base level, its runs
//! are merged with each other instead. So about `1 / multiplier` of all bytes can be garbage, more
//! where the base level is the last, and small databases have few levels.
//!
//! What is done first: the level with the largest score. In it: the table that overlaps the fewest
//! bytes of the target per byte of its own. A table that overlaps nothing is moved, not rewritten.
//!
//! Keeps the order of the tree by four rules, which [`Busy`] extends to plans in flight:
//!
//! - What leaves level 0 takes along every table of level 0 that it overlaps, directly or by way
//!   of others.
//! - No level between level 0 and the base level holds tables.
//! - A deeper level that some other policy left with several runs is merged into one before
//!   anything leaves it.
//! - Two plans in flight never write overlapping ranges into one level.

mod debt;
mod level_zero;
mod manual;
mod pick;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::plan::{Busy, Plan};
use crate::policy::{Policy, RangeRequest};
use crate::shape::Shape;

use view::View;

/// What the sizes of [`Leveled`] derive from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeveledOptions {
    /// Bytes of one flush. 64 MiB by default.
    pub memtable_bytes: u64,
    /// Bytes of one output table. 64 MiB by default.
    pub table_bytes: u64,
    /// How many times more bytes a level may hold than the one above it. 10 by default; at least
    /// 2.
    pub multiplier: u64,
    /// How many runs of level 0 call for a compaction. 4 by default; at least 2.
    pub level_zero_run_count: usize,
}

impl Default for LeveledOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            table_bytes: 64 << 20,
            multiplier: 10,
            level_zero_run_count: 4,
        }
    }
}

impl LeveledOptions {
    /// How many bytes of level 0 call for a compaction: what as many memtables as runs hold.
    #[must_use]
    pub const fn level_zero_bytes(&self) -> u64 {
        self.memtable_bytes.saturating_mul(self.level_zero_run_count as u64)
    }

    /// The most that the base level is meant to hold: what a compaction of level 0 takes in, twice.
    ///
    /// Between once and four times, a base level that grows costs about as much as the level that
    /// it saves; twice was within 1 % of the best for each size of database that was simulated,
    /// and once up to 11 % worse.
    #[must_use]
    pub const fn base_bytes_max(&self) -> u64 {
        self.level_zero_bytes().saturating_mul(2)
    }

    /// Most bytes that one plan takes from its source level, beyond its first table. A plan that
    /// holds more would hold up others for longer than it saves.
    #[must_use]
    pub const fn source_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(4)
    }

    /// Most bytes of the next deeper level that one table may overlap after a trivial move.
    /// Beyond, rewriting it cut into smaller tables makes the compaction after this one cheaper.
    #[must_use]
    pub const fn grandparent_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(self.multiplier).saturating_mul(2)
    }
}

/// The leveled policy; see the head of this file.
#[derive(Clone, Debug)]
pub struct Leveled {
    options: LeveledOptions,
}

impl Leveled {
    /// The policy under `options`.
    ///
    /// # Panics
    /// If a number is smaller than its documentation allows.
    #[must_use]
    pub fn new(options: LeveledOptions) -> Self {
        assert!(options.memtable_bytes > 0 && options.table_bytes > 0, "sizes are not zero");
        assert!(options.multiplier >= 2, "each level is larger than the one above it");
        assert!(
            options.level_zero_run_count >= 2,
            "a compaction of level 0 has something to merge"
        );
        Self { options }
    }

    /// The plan that merges neighbouring runs of level 0 with each other at the lowest price for each
    /// run less; `None` if there are no two.
    #[must_use]
    pub fn merge_within_level_zero(&self, shape: &Shape, busy: &Busy) -> Option<Plan> {
        View::new(&self.options, shape, busy).merge_within(2)
    }

    /// The options it was made with.
    #[must_use]
    pub const fn options(&self) -> &LeveledOptions {
        &self.options
    }
}

impl Policy for Leveled {
    fn name(&self) -> &'static str {
        "leveled"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<Plan> {
        let view = View::new(&self.options, shape, busy);
        let mut by_score: Vec<(usize, f64)> =
            view.scores().into_iter().enumerate().filter(|&(_, score)| score >= 1.0).collect();
        // Stable: of equals, the shallower level first.
        by_score.sort_by(|a, b| b.1.total_cmp(&a.1));
        by_score
            .into_iter()
            .find_map(|(level, _)| view.pick_from(level))
            .or_else(|| view.pick_tombstones())
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        View::new(&self.options, shape, busy).plan_range(request)
    }

    fn level_targets(&self, shape: &Shape) -> Vec<u64> {
        View::new(&self.options, shape, &Busy::new()).targets.clone()
    }

    fn scores(&self, shape: &Shape) -> Vec<f64> {
        View::new(&self.options, shape, &Busy::new()).scores()
    }

    fn debt_bytes(&self, shape: &Shape) -> u64 {
        View::new(&self.options, shape, &Busy::new()).debt_bytes()
    }
}
