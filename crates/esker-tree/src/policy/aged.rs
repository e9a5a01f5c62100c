//! A tree as a list of runs by age, for policies that merge whole runs.
//!
//! Of two runs, the one in the shallower level is newer; within a level, the one with the larger
//! id. Adjacent runs of the list can be merged into the place of the oldest of them, whatever else
//! the tree holds, and the oldest runs can be dropped: that preserves the order of all entries of a
//! key.

use std::ops::Range;
use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Busy, Plan, PlanInput, PlanReason};
use crate::shape::{LEVEL_COUNT_MAX, RunId, RunShape, Shape};

/// The deepest level.
pub(super) const LAST: usize = LEVEL_COUNT_MAX - 1;

/// A run and its place.
#[derive(Clone, Copy)]
pub(super) struct Aged<'a> {
    pub(super) level: usize,
    pub(super) run: &'a RunShape,
}

impl Aged<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.run.bytes()
    }

    /// How many tables it has.
    pub(super) fn count(&self) -> u64 {
        self.run.tables.len() as u64
    }
}

/// Every run, the newest first.
pub(super) fn by_age(shape: &Shape) -> Vec<Aged<'_>> {
    assert_eq!(shape.levels.len(), LEVEL_COUNT_MAX, "a shape has every level");
    let levels = shape.levels.iter().enumerate();
    levels.flat_map(|(level, runs)| runs.runs.iter().map(move |run| Aged { level, run })).collect()
}

/// How many of `runs`, from the newest on, plans in flight neither take from nor add to: all of
/// them if nothing is in flight, otherwise at most those of level 0.
pub(super) fn idle_count(runs: &[Aged<'_>], busy: &Busy) -> usize {
    if busy.is_empty() {
        return runs.len();
    }
    let is_idle = |aged: &&Aged<'_>| {
        let is_target = |plan: &Plan| plan.target_run == Some(aged.run.id);
        aged.level == 0
            && aged.run.tables.iter().all(|table| !busy.has(table.id))
            && !busy.plans().any(is_target)
    };
    runs.iter().take_while(is_idle).count()
}

/// The plan that merges adjacent runs into one, in the place of the oldest of them, or in the last
/// level if nothing is older.
pub(super) fn merge(
    reason: PlanReason,
    runs: &[Aged<'_>],
    span: Range<usize>,
    table_bytes: u64,
) -> Plan {
    let oldest = runs[span.end - 1];
    let level = if span.end == runs.len() { LAST } else { oldest.level };
    let newest_there = runs[span.clone()].iter().find(|aged| aged.level == level);
    let target_run = newest_there.map(|aged| aged.run.id);
    merge_into(reason, &runs[span], (level, target_run), table_bytes)
}

/// The plan that merges `runs` into one run of the level, or into a new one if no run is given.
pub(super) fn merge_into(
    reason: PlanReason,
    runs: &[Aged<'_>],
    target: (usize, Option<RunId>),
    table_bytes: u64,
) -> Plan {
    let inputs = runs.iter().map(|aged| (*aged, aged.run.tables.iter().collect()));
    plan(reason, inputs.collect(), target, table_bytes)
}

/// The plan for exactly these tables, chosen by run; runs without any are left out.
pub(super) fn plan(
    reason: PlanReason,
    mut choices: Vec<(Aged<'_>, Vec<&Arc<TableProperties>>)>,
    (target_level, target_run): (usize, Option<RunId>),
    table_bytes: u64,
) -> Plan {
    choices.retain(|(_, tables)| !tables.is_empty());
    let tables = || choices.iter().flat_map(|(_, tables)| tables.iter().copied());
    let first = tables().map(|table| &table.smallest_key).min().expect("a plan has inputs");
    let last = tables().map(|table| &table.largest_key).max().expect("a plan has inputs");
    let inputs = choices.iter().map(|(aged, tables)| PlanInput {
        level: aged.level,
        run: aged.run.id,
        tables: tables.iter().map(|table| table.id).collect(),
    });
    Plan {
        reason,
        inputs: inputs.collect(),
        target_level,
        target_run,
        cut_keys: Vec::new(),
        output_bytes_max: table_bytes,
        is_trivial_move: false,
        is_drop: false,
        first_key: first.clone(),
        last_key: last.clone(),
        input_bytes: tables().map(|table| table.file_bytes).sum(),
    }
}

/// The plan that drops `tables`: all of each run, except perhaps of the newest of these runs.
pub(super) fn drop_tables(
    reason: PlanReason,
    choices: Vec<(Aged<'_>, Vec<&Arc<TableProperties>>)>,
) -> Plan {
    Plan { is_drop: true, output_bytes_max: 0, ..plan(reason, choices, (LAST, None), 0) }
}
