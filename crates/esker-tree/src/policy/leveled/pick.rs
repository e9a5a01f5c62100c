//! What leaves a level deeper than 0: the tables that are cheapest to merge into the next.

use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Plan, PlanReason};
use crate::policy::leveled::view::{Blocked, Choice, Hull, LAST, View};
use crate::shape::{RunShape, table_bytes};

/// A table is mostly tombstones if they are at least one in this many of its entries.
const MOSTLY_TOMBSTONES: u64 = 2;

impl<'a> View<'a> {
    /// The best plan that takes tables out of `level`, whose score calls for it.
    pub(super) fn pick_from(&self, level: usize) -> Option<Plan> {
        match level {
            0 => self.pick_level_zero(),
            _ if self.shape.levels[level].runs.len() > 1 => self.merge_runs(level, |_| true),
            LAST => None,
            _ => {
                let run = self.shape.levels[level].runs.first()?;
                let excess = self.shape.levels[level].bytes().saturating_sub(self.targets[level]);
                self.pick_table(level, run, PlanReason::Size, excess, |_| true)
            }
        }
    }

    /// A plan for a table that is mostly tombstones, in any level: they cost every scan, and what
    /// they hide costs space.
    pub(super) fn pick_tombstones(&self) -> Option<Plan> {
        (1..LAST).find_map(|level| {
            let [run] = self.shape.levels[level].runs.as_slice() else { return None };
            self.pick_table(level, run, PlanReason::Tombstones, 0, is_mostly_tombstones)
        })
    }

    /// The plan for the table of `run` that is cheapest to merge into the next level, and for its
    /// neighbours as far as they come at no extra overlap.
    fn pick_table(
        &self,
        level: usize,
        run: &'a RunShape,
        reason: PlanReason,
        excess: u64,
        is_wanted: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        let mut cheapest: Option<(f64, usize)> = None;
        for (index, table) in run.tables.iter().enumerate() {
            if self.busy.has(table.id) || !is_wanted(table) {
                continue;
            }
            let Ok(overlap) = self.target_tables(level + 1, Hull::of(table)) else { continue };
            let cost = table_bytes(overlap) as f64 / weight(table);
            if cheapest.is_none_or(|(least, _)| cost < least) {
                cheapest = Some((cost, index));
            }
        }
        let (_, seed) = cheapest?;
        let tables = self.extend(level, run, seed, excess);
        let choice = Choice { level, run: run.id, tables: tables.iter().collect() };
        match self.plan_into(reason, vec![choice], level + 1) {
            Ok(plan) => Some(plan),
            Err(Blocked) if tables.len() > 1 => {
                // A neighbour reaches into something in flight; the table alone does not.
                let choice = Choice { level, run: run.id, tables: vec![&run.tables[seed]] };
                self.plan_into(reason, vec![choice], level + 1).ok()
            }
            Err(Blocked) => None,
        }
    }

    /// The tables around `seed` that overlap no table of the next level beyond those that it
    /// overlaps itself, as far as the level has too much; none that could be moved instead.
    fn extend(
        &self,
        level: usize,
        run: &'a RunShape,
        seed: usize,
        excess: u64,
    ) -> &'a [Arc<TableProperties>] {
        let first = self.overlapping(level + 1, Hull::of(&run.tables[seed]));
        let limit = excess.min(self.options.source_bytes_max());
        let mut bytes = run.tables[seed].file_bytes;
        let mut fits = |index: usize| {
            let table = &run.tables[index];
            let own = self.overlapping(level + 1, Hull::of(table));
            let is_inside = own.is_empty() == first.is_empty()
                && own.iter().all(|a| first.iter().any(|b| a.id == b.id));
            let fits = is_inside && !self.busy.has(table.id) && bytes + table.file_bytes <= limit;
            if fits {
                bytes += table.file_bytes;
            }
            fits
        };
        let (mut start, mut end) = (seed, seed + 1);
        while end < run.tables.len() && fits(end) {
            end += 1;
        }
        while start > 0 && fits(start - 1) {
            start -= 1;
        }
        &run.tables[start..end]
    }

    /// Merges a part of the older runs of `level` into its newest run: tables that overlap
    /// directly or by way of others, with one that `is_wanted`.
    pub(super) fn merge_runs(
        &self,
        level: usize,
        is_wanted: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        let newest = self.shape.levels[level].runs.first()?.id;
        let groups = self.groups(level);
        groups.into_iter().find_map(|group| {
            let is_idle =
                !group.is_busy && !self.busy.writes_into(level, group.hull.first, group.hull.last);
            let has_older = group.choices.iter().any(|choice| choice.run != newest);
            let has_wanted = group
                .choices
                .iter()
                .flat_map(|choice| &choice.tables)
                .any(|table| is_wanted(table));
            if !is_idle || !has_older || !has_wanted {
                return None;
            }
            let is_move = group.choices.len() == 1;
            Some(self.plan(PlanReason::Runs, group.choices, level, Some(newest), is_move))
        })
    }
}

/// Bytes of the table, and more where tombstones promise that bytes go away.
fn weight(table: &TableProperties) -> f64 {
    let share = table.tombstone_count as f64 / table.entry_count.max(1) as f64;
    table.file_bytes.max(1) as f64 * (1.0 + 4.0 * share)
}

fn is_mostly_tombstones(table: &TableProperties) -> bool {
    table.tombstone_count > 0 && table.tombstone_count * MOSTLY_TOMBSTONES >= table.entry_count
}
