//! What a scan merges: the memtables and runs that can hold a key of its range, and the range tombstones
//! of all.
//!
//! A run of which one table lies in the range is left out if the prefix filter of that table excludes
//! the range. Its range tombstones are not: they are asked for apart from its entries. Of two tables of
//! a run that lie in the range, both hold keys of it, but for those that reach into it by range
//! tombstones alone; so nothing is asked there.

use std::sync::Arc;

use esker_base::{KeyRange, SeqNo};
use esker_memtable::Memtable;
use esker_table::{FilterVerdict, Table};
use esker_tree::{Coverage, RunCursor, SourceCursor};

use crate::counters::Counters;
use crate::error::Result;
use crate::keyspace_core::read_view::ReadView;

/// How many of `sources` are not memtables.
pub(crate) fn run_count(sources: &[SourceCursor]) -> u32 {
    let is_run = |source: &&SourceCursor| !matches!(source, SourceCursor::Memtable(_));
    sources.iter().filter(is_run).count() as u32
}

/// What range tombstones hide of `view` from a reader at `seqno`.
pub(crate) fn coverage(view: &ReadView, seqno: SeqNo) -> Option<Box<Coverage>> {
    let has_ranges = |memtable: &Arc<Memtable>| memtable.range_tombstone_count() > 0;
    if !view.version.has_ranges() && !view.memtables().any(has_ranges) {
        return None;
    }
    Coverage::new(seqno, view.memtables(), view.version.runs())
}

/// A cursor for each memtable and run that can hold a key of `range`, newest first. `excludes` is
/// asked about the table of a run of which no other one can.
///
/// # Errors
/// Of `excludes`.
pub(crate) fn source_cursors(
    view: &ReadView,
    range: &KeyRange,
    seqno: SeqNo,
    excludes: impl Fn(&Table) -> Result<bool>,
) -> Result<Vec<SourceCursor>> {
    let runs = view.version.runs();
    let mut sources = Vec::with_capacity(1 + view.immutables.len() + runs.len());
    for memtable in view.memtables() {
        let is_visible = memtable.entry_seqno_range().is_some_and(|(oldest, _)| oldest <= seqno);
        if is_visible {
            sources.push(SourceCursor::Memtable(memtable.cursor()));
        }
    }
    for run in runs {
        match run.overlapping(range) {
            [] => {}
            [table] if excludes(table)? => {}
            [table] => sources.push(SourceCursor::Table(table.cursor(true))),
            _ => {
                let cursor = RunCursor::new(Arc::clone(run), range, true);
                sources.push(SourceCursor::Run(cursor));
            }
        }
    }
    Ok(sources)
}

/// Whether the prefix filter of `table` says that none of its entries lies in `range`; counts what it
/// says.
///
/// # Errors
/// If the table cannot be opened, or its filter not be read; not if the filter is damaged.
#[inline]
pub(crate) fn prefix_excludes(
    table: &Table,
    range: &KeyRange,
    counters: &Counters,
) -> Result<bool> {
    if table.properties().extras.prefix_rule.is_none() {
        return Ok(false);
    }
    let verdict = table.prefix_verdict(range)?;
    let is_excluded = verdict == FilterVerdict::Excluded;
    if verdict != FilterVerdict::Absent {
        Counters::add(&counters.prefix_filters_asked, 1);
        Counters::add(&counters.prefix_filters_excluded, u64::from(is_excluded));
    }
    Ok(is_excluded)
}
