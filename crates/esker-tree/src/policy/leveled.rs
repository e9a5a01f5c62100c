//! Leveled compaction: one run per level, each level a fixed multiple of the one above it.
//!
//! Target sizes are derived from the last level: its target is what it holds, and each level above
//! has the target of the next deeper one divided by `multiplier`, up to a base level of a few
//! memtables. Level 0 compacts straight into the base level, and the levels in between stay empty;
//! while level 0 is small compared with the base level, its runs are merged with each other
//! instead. So about `1 / multiplier` of all bytes can be garbage (more if the base level is the
//! last), and small databases have few levels.
//!
//! The level with the largest score comes first and, within it, the table that overlaps the fewest
//! bytes of the target level per byte of its own. A table that overlaps nothing is moved, not
//! rewritten.
//!
//! Preserves the order of the tree by four rules, which [`Busy`] extends to plans in flight:
//!
//! - Tables that leave level 0 take along every table of level 0 that they overlap, directly or
//!   through others.
//! - No level between level 0 and the base level holds tables.
//! - A deeper level that another policy left with several runs is merged into one run before
//!   anything leaves it.
//! - Two plans in flight never write overlapping ranges into one level.

mod debt;
mod level_zero;
mod manual;
mod pick;
mod small;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::plan::{Busy, Plan};
use crate::policy::{Policy, RangeRequest};
use crate::shape::Shape;

use small::Worth;
use view::View;

/// The parameters of [`Leveled`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeveledOptions {
    /// Bytes of one flush. 64 MiB by default.
    pub memtable_bytes: u64,
    /// Bytes of one output table. 64 MiB by default.
    pub table_bytes: u64,
    /// Target of a level, as a multiple of the one above it. 10 by default; at least 2.
    pub multiplier: u64,
    /// Number of runs at which level 0 is compacted. 4 by default; at least 2.
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
    /// Bytes at which level 0 is compacted: those of that many memtables.
    #[must_use]
    pub const fn level_zero_bytes(&self) -> u64 {
        self.memtable_bytes.saturating_mul(self.level_zero_run_count as u64)
    }

    /// Maximum target of the base level: twice what a compaction of level 0 brings in.
    ///
    /// From once to four times that, a larger base level costs about as much as the level that it
    /// saves; twice was within 1 % of the best for every simulated database size, and once up to 11
    /// % worse.
    #[must_use]
    pub const fn base_bytes_max(&self) -> u64 {
        self.level_zero_bytes().saturating_mul(2)
    }

    /// Most bytes that one plan takes from its source level, beyond its first table. A larger plan
    /// would hold up others for longer than it saves.
    #[must_use]
    pub const fn source_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(4)
    }

    /// Most bytes of the next deeper level that one table may overlap after a trivial move. Beyond
    /// that, rewriting it as smaller tables makes the next compaction cheaper.
    #[must_use]
    pub const fn grandparent_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(self.multiplier).saturating_mul(2)
    }
}

/// The leveled policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Leveled {
    options: LeveledOptions,
}

impl Leveled {
    /// The policy with `options`.
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

    /// The plan that merges adjacent runs of level 0 with each other at the lowest cost per run
    /// removed; `None` if there are fewer than two.
    #[must_use]
    pub fn merge_within_level_zero(&self, shape: &Shape, busy: &Busy) -> Option<Plan> {
        View::new(&self.options, shape, busy).merge_within(2)
    }

    /// The plan that makes one table of small neighbours, where a run has many.
    #[must_use]
    pub fn join_small_tables(&self, shape: &Shape, busy: &Busy) -> Option<Plan> {
        View::new(&self.options, shape, busy).join_small(Worth::Many, |_| true)
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
