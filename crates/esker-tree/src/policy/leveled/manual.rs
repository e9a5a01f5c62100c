//! Compaction on demand: a range moves down level by level, the shallowest first, to the last, where
//! small tables are joined.

use std::sync::Arc;

use esker_base::TableId;
use esker_table::TableProperties;

use crate::plan::{Plan, PlanReason};
use crate::policy::leveled::level_zero::Group;
use crate::policy::leveled::small::Worth;
use crate::policy::leveled::view::{Choice, LAST, View};
use crate::policy::{LastLevel, RangeRequest};
use crate::shape::RunShape;

impl<'a> View<'a> {
    pub(super) fn plan_range(&self, request: &RangeRequest) -> Option<Plan> {
        let is_asked = |table: &TableProperties| {
            table.seqno_min <= request.up_to
                && request.range.overlaps(&table.smallest_key, &table.largest_key)
        };
        for level in 0..LAST {
            if !self.shape.levels[level].tables().any(|table| is_asked(table)) {
                continue;
            }
            // Deeper levels wait until this one is done: what comes down is then merged with them.
            let plan = match self.shape.levels[level].runs.as_slice() {
                _ if level == 0 => self.range_out_of_level_zero(is_asked),
                [run] => self.range_out_of(level, run, is_asked),
                _ => self.merge_runs(level, |_| true),
            };
            return plan.map(|plan| Plan { reason: PlanReason::Manual, ..plan });
        }
        if self.shape.levels[LAST].runs.len() > 1 {
            let plan = self.merge_runs(LAST, is_asked);
            return plan.map(|plan| Plan { reason: PlanReason::Manual, ..plan });
        }
        self.rewrite_last(request, is_asked).or_else(|| self.join_last(request, is_asked))
    }

    fn range_out_of_level_zero(&self, is_asked: impl Fn(&TableProperties) -> bool) -> Option<Plan> {
        let mut groups = self.groups(0);
        groups.retain(|group| {
            let mut tables = group.choices.iter().flat_map(|choice| &choice.tables);
            !group.is_busy && tables.any(|table| is_asked(table))
        });
        // All that can be moved at once: one by one, 1,500 flushes took 1,500 edits.
        self.move_out(&groups).or_else(|| {
            let into_base = |group: Group<'a>| {
                self.plan_into(PlanReason::Manual, group.choices, self.base).ok()
            };
            groups.into_iter().find_map(into_base)
        })
    }

    fn range_out_of(
        &self,
        level: usize,
        run: &'a RunShape,
        is_asked: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        // A shallower plan may be bringing more of the range down: its target tables are in
        // flight, and this waits for them.
        self.stretches(run, is_asked).into_iter().find_map(|tables| {
            let choice = |tables: &'a [Arc<TableProperties>]| {
                vec![Choice { level, run: run.id, tables: tables.iter().collect() }]
            };
            self.plan_into(PlanReason::Manual, choice(tables), level + 1)
                .or_else(|_| self.plan_into(PlanReason::Manual, choice(&tables[..1]), level + 1))
                .ok()
        })
    }

    fn rewrite_last(
        &self,
        request: &RangeRequest,
        is_asked: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        let is_before = |id: TableId, before: u64| id.0.counter < before;
        let is_due = |table: &TableProperties| match request.last_level {
            LastLevel::Keep => false,
            LastLevel::RewriteTombstones(before) => {
                let expiry = table.extras.expiry;
                let has_expired = expiry.is_some_and(|it| it.earliest <= request.expired_at);
                let has_spent = match esker_base::planted::is("spent-values-kept") {
                    true => table.has_tombstones(),
                    false => table.has_spent(),
                };
                let wanted = request.compression.unwrap_or(table.compression);
                (has_spent || has_expired || table.compression != wanted)
                    && is_before(table.id, before)
            }
            LastLevel::RewriteAll(before) => is_before(table.id, before),
        };
        let run = self.shape.levels[LAST].runs.first()?;
        let is_wanted = |table: &TableProperties| is_asked(table) && is_due(table);
        self.stretches(run, is_wanted).into_iter().find_map(|tables| {
            let first = tables.first()?.smallest_key.as_slice();
            let last = tables.last()?.largest_key.as_slice();
            if self.busy.writes_into(LAST, first, last) {
                return None;
            }
            let choice = Choice { level: LAST, run: run.id, tables: tables.iter().collect() };
            Some(self.plan(PlanReason::Manual, vec![choice], LAST, Some(run.id), false))
        })
    }

    /// Joins small tables of the last level: each once, like everything that this rewrites.
    fn join_last(
        &self,
        request: &RangeRequest,
        is_asked: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        let (LastLevel::RewriteTombstones(before) | LastLevel::RewriteAll(before)) =
            request.last_level
        else {
            return None;
        };
        let is_wanted = |table: &TableProperties| table.id.0.counter < before && is_asked(table);
        let plan = self.join_small_of(LAST, Worth::Any, is_wanted)?;
        Some(Plan { reason: PlanReason::Manual, ..plan })
    }

    /// The idle tables of `run` that are wanted, in adjacent groups, each up to the most that one
    /// plan takes.
    fn stretches(
        &self,
        run: &'a RunShape,
        is_wanted: impl Fn(&TableProperties) -> bool,
    ) -> Vec<&'a [Arc<TableProperties>]> {
        let is_open = |table: &TableProperties| !self.busy.has(table.id) && is_wanted(table);
        let (mut stretches, mut start) = (Vec::new(), 0);
        while start < run.tables.len() {
            let (mut end, mut bytes) = (start, 0);
            while end < run.tables.len() && is_open(&run.tables[end]) {
                bytes += run.tables[end].file_bytes;
                if end > start && bytes > self.options.source_bytes_max() {
                    break;
                }
                end += 1;
            }
            if end > start {
                stretches.push(&run.tables[start..end]);
            }
            start = end.max(start + 1);
        }
        stretches
    }
}
