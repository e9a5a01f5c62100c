//! Compaction of level 0: what leaves it, and when its runs are merged with each other instead.

use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Plan, PlanReason};
use crate::policy::leveled::view::{Choice, Hull, View};
use crate::shape::{RunShape, table_bytes};

/// If the base level holds more than this percentage of what would leave level 0, the runs of level
/// 0 are merged with each other instead: a compaction rewrites the base level, however little it
/// brings.
///
/// In a simulation of 4 to 40 flushes of new keys, of uneven sizes, 150 wrote on average a quarter
/// less than 1,000 and 3 % less than 200, with never more than three runs at rest. With random
/// overwrites it wrote up to 29 % less for small trees, which in the meantime hold up to 1.7 bytes
/// for each live one, and as much for large ones.
const BASE_PERCENT_MAX: u64 = 150;

/// Tables of one level, of any of its runs, that overlap each other directly or through others;
/// nothing else in the level overlaps them.
pub(super) struct Group<'a> {
    pub(super) hull: Hull<'a>,
    /// By run, newest first.
    pub(super) choices: Vec<Choice<'a>>,
    /// Whether any of them is in flight.
    pub(super) is_busy: bool,
}

impl Group<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.choices.iter().flat_map(|choice| &choice.tables).map(|table| table.file_bytes).sum()
    }
}

impl<'a> View<'a> {
    /// The tables of `level`, in groups by overlap, ascending by key.
    pub(super) fn groups(&self, level: usize) -> Vec<Group<'a>> {
        let mut tables: Vec<(&RunShape, &'a Arc<TableProperties>)> = Vec::new();
        for run in &self.shape.levels[level].runs {
            tables.extend(run.tables.iter().map(|table| (run, table)));
        }
        tables.sort_by(|a, b| a.1.smallest_key.cmp(&b.1.smallest_key));
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (run, table) in tables {
            let is_apart = |group: &Group<'a>| group.hull.last < table.smallest_key.as_slice();
            if groups.last().is_none_or(is_apart) {
                groups.push(Group { hull: Hull::of(table), choices: Vec::new(), is_busy: false });
            }
            let group = groups.last_mut().expect("one was pushed if there was none");
            group.hull = group.hull.with(Hull::of(table));
            group.is_busy |= self.busy.has(table.id);
            match group.choices.iter_mut().find(|choice| choice.run == run.id) {
                Some(choice) => choice.tables.push(table),
                None => group.choices.push(Choice { level, run: run.id, tables: vec![table] }),
            }
        }
        groups
    }

    /// The best plan to shorten level 0.
    pub(super) fn pick_level_zero(&self) -> Option<Plan> {
        let groups = self.groups(0);
        if let Some(plan) = self.move_out(&groups) {
            return Some(plan);
        }
        let is_open = |group: &&Group<'a>| {
            !group.is_busy && self.target_tables(self.base, group.hull).is_ok()
        };
        // The group that spans the most runs shortens the level most.
        let best = groups.iter().filter(is_open).max_by_key(|g| (g.choices.len(), g.bytes()));
        let runs_max = self.options.level_zero_run_count;
        let Some(group) = best else {
            let is_long = self.shape.levels[0].runs.len() >= 2 * runs_max;
            return if is_long { self.merge_within(runs_max) } else { None };
        };
        let overlap = table_bytes(self.overlapping(self.base, group.hull));
        // At least as many as trigger a compaction: with fewer, a base level close to the limit
        // made every other flush rewrite a large run.
        if group.bytes().saturating_mul(BASE_PERCENT_MAX) / 100 < overlap
            && let Some(plan) = self.merge_within(runs_max)
        {
            return Some(plan);
        }
        let sources = group.choices.iter().map(Choice::same).collect();
        self.plan_into(PlanReason::LevelZero, sources, self.base).ok()
    }

    /// The plan that moves every group that overlaps nothing in level 0 or in the base level.
    pub(super) fn move_out(&self, groups: &[Group<'a>]) -> Option<Plan> {
        let mut choices: Vec<Choice<'a>> = Vec::new();
        for group in groups {
            let [choice] = group.choices.as_slice() else { continue };
            if group.is_busy {
                continue;
            }
            let alone = self.plan_into(PlanReason::LevelZero, vec![choice.same()], self.base);
            if !alone.is_ok_and(|plan| plan.is_trivial_move) {
                continue;
            }
            match choices.iter_mut().find(|chosen| chosen.run == choice.run) {
                Some(chosen) => chosen.tables.extend(&choice.tables),
                None => choices.push(choice.same()),
            }
        }
        let target_run = self.target_run(self.base).ok()?;
        if choices.is_empty() {
            return None;
        }
        Some(self.plan(PlanReason::LevelZero, choices, self.base, target_run, true))
    }

    /// The plan that merges adjacent runs of level 0, at least `run_count_min` of them, into the
    /// newest of them: those with the fewest bytes per run removed.
    pub(super) fn merge_within(&self, run_count_min: usize) -> Option<Plan> {
        let runs: &'a [RunShape] = &self.shape.levels[0].runs;
        let is_idle = |run: &RunShape| run.tables.iter().all(|t| !self.busy.has(t.id));
        let mut cheapest: Option<(u64, &'a [RunShape])> = None;
        for start in 0..runs.len() {
            let idle_count = runs[start..].iter().take_while(|run| is_idle(run)).count();
            let mut bytes = 0;
            for count in 1..=idle_count {
                bytes += runs[start + count - 1].bytes();
                let cost = bytes / (count as u64 - 1).max(1);
                let is_best = cheapest.is_none_or(|(least, _)| cost < least);
                if count >= run_count_min && is_best {
                    cheapest = Some((cost, &runs[start..start + count]));
                }
            }
        }
        let (_, window) = cheapest?;
        let choice = |run: &'a RunShape| Choice {
            level: 0,
            run: run.id,
            tables: run.tables.iter().collect(),
        };
        let choices = window.iter().map(choice).collect();
        let newest = window.first().map(|run| run.id);
        Some(self.plan(PlanReason::WithinLevelZero, choices, 0, newest, false))
    }
}

impl Choice<'_> {
    fn same(&self) -> Self {
        Self { level: self.level, run: self.run, tables: self.tables.clone() }
    }
}
