//! Finds tables that have expired and can be dropped without being read.
//!
//! Pure: a function of the shape and a time. A table is dropped if each of its entries has expired
//! or only hides others, and it hides nothing: no older table overlaps it, except those that are
//! dropped with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::TableId;
use esker_table::TableProperties;

use crate::plan::{Busy, Plan, PlanInput, PlanReason};
use crate::shape::{RunId, Shape};

/// The plan that drops every table in which everything has expired at `expired_at`, in milliseconds
/// since 1970-01-01 UTC; `None` if there is none, or if one that would be dropped is in flight.
///
/// The time must be one that every reader has passed: what is dropped is gone for snapshots too.
///
/// # Cost
/// One look at each table; for each that has expired, one at each older table.
#[must_use]
pub fn drop_expired(shape: &Shape, busy: &Busy, expired_at: u64) -> Option<Plan> {
    let is_expired = |table: &TableProperties| {
        let expiry = table.extras.expiry;
        expiry.and_then(|expiry| expiry.latest).is_some_and(|latest| latest <= expired_at)
    };
    let levels = shape.levels.iter().enumerate();
    let runs = levels.flat_map(|(level, runs)| runs.runs.iter().map(move |run| (level, run)));
    let mut newest_first: Vec<_> = runs.collect();
    newest_first.reverse();
    // From the oldest run on: a table can be dropped if everything older that it overlaps is
    // dropped.
    let mut kept: Vec<&Arc<TableProperties>> = Vec::new();
    let mut inputs = Vec::new();
    for (level, run) in newest_first {
        let mut dropped = Vec::new();
        let mut kept_here = Vec::new();
        for table in &run.tables {
            let hides = |older: &Arc<TableProperties>| {
                older.smallest_key <= table.largest_key && table.smallest_key <= older.largest_key
            };
            if is_expired(table) && !busy.has(table.id) && !kept.iter().any(|older| hides(older)) {
                dropped.push(table);
            } else {
                kept_here.push(table);
            }
        }
        kept.extend(kept_here);
        if !dropped.is_empty() {
            inputs.push((level, run.id, dropped));
        }
    }
    if inputs.is_empty() {
        return None;
    }
    // Shallower levels and newer runs first, as in plans.
    inputs.reverse();
    Some(plan_of(&inputs))
}

fn plan_of(inputs: &[(usize, RunId, Vec<&Arc<TableProperties>>)]) -> Plan {
    let tables = || inputs.iter().flat_map(|(_, _, tables)| tables.iter());
    let distinct: BTreeSet<TableId> = tables().map(|table| table.id).collect();
    assert_eq!(distinct.len(), tables().count(), "a table stands in one place");
    let input = |(level, run, tables): &(usize, RunId, Vec<&Arc<TableProperties>>)| PlanInput {
        level: *level,
        run: *run,
        tables: tables.iter().map(|table| table.id).collect(),
    };
    Plan {
        reason: PlanReason::Expired,
        inputs: inputs.iter().map(input).collect(),
        target_level: inputs[0].0,
        target_run: None,
        cut_keys: Vec::new(),
        output_bytes_max: u64::MAX,
        is_trivial_move: false,
        is_drop: true,
        first_key: tables().map(|table| &table.smallest_key).min().cloned().unwrap_or_default(),
        last_key: tables().map(|table| &table.largest_key).max().cloned().unwrap_or_default(),
        input_bytes: tables().map(|table| table.file_bytes).sum(),
    }
}

#[cfg(test)]
mod tests;
