//! Drops whole tables that range tombstones make unneeded, without reading them.
//!
//! Two kinds, wherever they are in the tree:
//!
//! - A table *hidden* by range tombstones of newer tables, over all its keys and from every reader
//!   who sees any of it. What its own entries hide in older tables is hidden as well.
//! - A *spent* table of range tombstones only: every reader sees them all, and no table that stays
//!   holds anything older in their range.
//!
//! Valid under every policy, so it is not part of one: the plan depends only on the tree.

use std::collections::BTreeSet;

use esker_base::{Fragments, TableId};
use esker_env::FileError;
use esker_table::TableProperties;

use crate::gc::Readers;
use crate::older::OlderRuns;
use crate::plan::{Busy, Plan, PlanInput, PlanReason};
use crate::range_gc::hides_table;
use crate::shape::{LEVEL_COUNT_MAX, table_bytes};
use crate::version::Version;

/// The plan that drops every table of `version` that range tombstones make unneeded and that is not
/// in flight; `None` if there is none.
///
/// # Errors
/// If the range tombstones of a table cannot be read.
///
/// # Cost
/// Looks at each run once if there are no range tombstones; otherwise one search per table.
pub fn pick_drop(
    version: &Version,
    busy: &Busy,
    readers: &Readers,
) -> Result<Option<Plan>, FileError> {
    let runs = || version.levels().iter().flat_map(|level| level.runs());
    let mut all = Vec::new();
    for table in runs().flat_map(|run| run.tables_with_ranges()) {
        all.extend(table.ranges()?.into_iter().flat_map(Fragments::as_slice));
    }
    if all.is_empty() {
        return Ok(None);
    }
    let fragments = Fragments::merged(all, |seqno| readers.newest_blind(seqno));
    let mut dropped: BTreeSet<TableId> = BTreeSet::new();
    for table in version.tables().map(|table| table.properties()) {
        if !busy.has(table.id) && hides_table(&fragments, readers, table) {
            dropped.insert(table.id);
        }
    }
    let spent = spent_tables(version, readers, &dropped);
    dropped.extend(spent.into_iter().filter(|&id| !busy.has(id)));
    Ok(drop_plan(version, &dropped))
}

fn spent_tables(version: &Version, readers: &Readers, dropped: &BTreeSet<TableId>) -> Vec<TableId> {
    let mut spent = Vec::new();
    for (level, runs) in version.levels().iter().enumerate() {
        for run in runs.runs().iter().filter(|run| !run.tables_with_ranges().is_empty()) {
            let older = OlderRuns::than(version, level, Some(run.id()));
            for table in run.tables_with_ranges().iter().map(|table| table.properties()) {
                let is_bare = table.entry_count == 0 && table.seqno_max <= readers.oldest();
                if is_bare && !older.may_hold_any(&table.smallest_key, &table.largest_key, dropped)
                {
                    spent.push(table.id);
                }
            }
        }
    }
    spent
}

fn drop_plan(version: &Version, dropped: &BTreeSet<TableId>) -> Option<Plan> {
    let mut inputs: Vec<PlanInput> = Vec::new();
    let mut tables: Vec<std::sync::Arc<TableProperties>> = Vec::new();
    for (level, runs) in version.levels().iter().enumerate() {
        for run in runs.runs() {
            let properties = run.tables().iter().map(|table| table.properties());
            let leaving: Vec<_> = properties.filter(|table| dropped.contains(&table.id)).collect();
            if !leaving.is_empty() {
                let ids = leaving.iter().map(|table| table.id).collect();
                inputs.push(PlanInput { level, run: run.id(), tables: ids });
                tables.extend(leaving.into_iter().cloned());
            }
        }
    }
    Some(Plan {
        reason: PlanReason::RangeDeleted,
        inputs,
        target_level: LEVEL_COUNT_MAX - 1,
        target_run: None,
        cut_keys: Vec::new(),
        output_bytes_max: 0,
        is_trivial_move: false,
        is_drop: true,
        first_key: tables.iter().map(|table| &table.smallest_key).min()?.clone(),
        last_key: tables.iter().map(|table| &table.largest_key).max()?.clone(),
        input_bytes: table_bytes(&tables),
    })
}

#[cfg(test)]
mod tests;
