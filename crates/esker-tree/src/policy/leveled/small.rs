//! Joins small adjacent tables of a run into one.
//!
//! Tables that overlap nothing are moved from level to level and never merged. So if every flush or
//! ingest is small and has new keys, a run would get as many tables as there were flushes: each an
//! open file, with its own index and filter.
//!
//! The largest of the joined tables has at most half of their bytes, so a table at least doubles
//! each time its bytes are rewritten: at most `log2(table_bytes / flush_bytes)` times, and a third
//! of that if [`JOINED_MIN`] tables of one size are joined.

use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Plan, PlanReason};
use crate::policy::leveled::view::{Choice, View};
use crate::shape::{LEVEL_COUNT_MAX, table_bytes};

/// A table is small if it is smaller than the wanted size of a table divided by this.
const SMALL_SHARE: u64 = 4;

/// Fewer adjacent tables are not joined unless asked for: a job has costs of its own.
pub(super) const JOINED_MIN: usize = 8;

/// When adjacent tables are worth joining.
#[derive(Clone, Copy)]
pub(super) enum Worth {
    /// Without a request: there are many, with at least twice the bytes of the largest.
    Many,
    /// On request: there are two.
    Any,
}

impl<'a> View<'a> {
    /// The plan that joins small wanted tables of any run, if any are worth joining.
    pub(super) fn join_small(
        &self,
        worth: Worth,
        is_wanted: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        (0..LEVEL_COUNT_MAX).rev().find_map(|level| self.join_small_of(level, worth, &is_wanted))
    }

    /// The same for one level. The tables stay in their run.
    pub(super) fn join_small_of(
        &self,
        level: usize,
        worth: Worth,
        is_wanted: impl Fn(&TableProperties) -> bool,
    ) -> Option<Plan> {
        let is_small =
            |table: &TableProperties| table.file_bytes < self.options.table_bytes / SMALL_SHARE;
        let is_open = |table: &Arc<TableProperties>| {
            !self.busy.has(table.id) && is_small(table) && is_wanted(table)
        };
        self.shape.levels[level].runs.iter().find_map(|run| {
            // A stretch ends at a table that is not open to joining.
            let stretches = run.tables.chunk_by(|a, b| is_open(a) == is_open(b));
            let joined = stretches
                .filter(|stretch| is_open(&stretch[0]))
                .find_map(|stretch| first_worth(stretch, worth, self.options.table_bytes))?;
            let (first, last) = (joined.first()?, joined.last()?);
            if self.busy.writes_into(level, &first.smallest_key, &last.largest_key) {
                return None;
            }
            let choice = Choice { level, run: run.id, tables: joined.iter().collect() };
            let reason = PlanReason::SmallTables;
            Some(self.plan(reason, vec![choice], level, Some(run.id), false))
        })
    }
}

/// The first adjacent tables of `stretch` worth joining, as many as fit into one table.
fn first_worth(
    stretch: &[Arc<TableProperties>],
    worth: Worth,
    bytes_max: u64,
) -> Option<&[Arc<TableProperties>]> {
    let mut start = 0;
    while start < stretch.len() {
        let mut bytes = 0;
        let mut fits = |table: &&Arc<TableProperties>| {
            bytes += table.file_bytes;
            bytes <= bytes_max
        };
        let window = &stretch
            [start..start + stretch[start..].iter().take_while(|table| fits(table)).count()];
        let (largest, table) =
            window.iter().enumerate().max_by_key(|(_, table)| table.file_bytes)?;
        let is_worth = match worth {
            Worth::Any => window.len() >= 2,
            Worth::Many => {
                window.len() >= JOINED_MIN && 2 * table.file_bytes <= table_bytes(window)
            }
        };
        if is_worth {
            return Some(window);
        }
        // Many that are not worth joining include one that is larger than all others together. The
        // window ends at the end of the stretch, or else it would fill a table, of which each is at
        // most a quarter; so any later window with the same table is not worth it either.
        start += if window.len() >= JOINED_MIN { largest + 1 } else { 1 };
    }
    None
}
