//! Maps the levels of a policy with its own number of levels to the deepest levels of the tree.
//!
//! Such a policy numbers its levels from 1; its last level is the last of the tree, where the trees
//! of all policies meet. What another policy left elsewhere is brought in first: several runs of a
//! level are merged into one, and tables between level 0 and level 1 are merged down with level 0.

use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Plan, PlanReason};
use crate::policy::aged::{Aged, LAST, merge_into, plan};
use crate::shape::{LevelShape, Shape};

/// A level's tables, chosen by run.
pub(super) type Choices<'a> = Vec<(Aged<'a>, Vec<&'a Arc<TableProperties>>)>;

pub(super) struct BottomLevels<'a> {
    shape: &'a Shape,
    count: usize,
}

impl<'a> BottomLevels<'a> {
    /// The deepest `count` levels of `shape`; from 1 to [`LAST`].
    pub(super) fn new(shape: &'a Shape, count: usize) -> Self {
        assert!((1..=LAST).contains(&count), "a tree has so many levels below level 0");
        Self { shape, count }
    }

    /// The level of the tree that the policy calls `level`.
    pub(super) fn place(&self, level: usize) -> usize {
        if level == 0 { 0 } else { LAST - self.count + level }
    }

    /// The level that the policy calls `level`.
    pub(super) fn level(&self, level: usize) -> &'a LevelShape {
        &self.shape.levels[self.place(level)]
    }

    /// How many tables it has.
    pub(super) fn table_count(&self, level: usize) -> u64 {
        self.level(level).tables().count() as u64
    }

    /// All tables of the level.
    pub(super) fn all(&self, level: usize) -> Choices<'a> {
        let place = self.place(level);
        let runs = self.level(level).runs.iter();
        runs.map(|run| (Aged { level: place, run }, run.tables.iter().collect())).collect()
    }

    /// The plan that brings in tables that do not fit into these levels, if there are any.
    pub(super) fn bring_in(&self, table_bytes: u64) -> Option<Plan> {
        for level in (1..=self.count).rev() {
            let runs: Vec<Aged<'_>> = self.all(level).iter().map(|(aged, _)| *aged).collect();
            if let [newest, _, ..] = runs.as_slice() {
                let target = (newest.level, Some(newest.run.id));
                return Some(merge_into(PlanReason::Runs, &runs, target, table_bytes));
            }
        }
        if (1..self.place(1)).all(|place| self.shape.levels[place].runs.is_empty()) {
            return None;
        }
        let strays = self.shape.levels.iter().enumerate().take(self.place(1));
        let sources = strays.flat_map(|(level, shape)| {
            shape.runs.iter().map(move |run| (Aged { level, run }, run.tables.iter().collect()))
        });
        let filled = (1..=self.count).find(|&level| self.table_count(level) > 0);
        let target = filled.unwrap_or(self.count);
        Some(self.merge_down(PlanReason::Runs, sources.collect(), target, table_bytes))
    }

    /// The plan that merges `sources`, which are shallower, and what they overlap in the level.
    pub(super) fn merge_down(
        &self,
        reason: PlanReason,
        mut sources: Choices<'a>,
        level: usize,
        table_bytes: u64,
    ) -> Plan {
        let tables = || sources.iter().flat_map(|(_, tables)| tables);
        let first = tables().map(|table| table.smallest_key.as_slice()).min();
        let last = tables().map(|table| table.largest_key.as_slice()).max();
        let (first, last) = first.zip(last).expect("a plan has inputs");
        let place = self.place(level);
        let target = self.level(level).runs.first();
        if let Some(run) = target {
            let overlapping = run.overlapping(first, last).iter().collect();
            sources.push((Aged { level: place, run }, overlapping));
        }
        plan(reason, sources, (place, target.map(|run| run.id)), table_bytes)
    }
}
