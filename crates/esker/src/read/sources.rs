//! The sources of a scan: the memtables and runs that can hold a key of its range, and all range
//! tombstones.
//!
//! If only one table of a run overlaps the range, and its prefix filter excludes the range, the run
//! is left out. Its range tombstones are not left out: they are read separately. If two tables of a
//! run overlap the range, both hold keys in it, unless they overlap it only by range tombstones; so
//! filters are not asked then.

use std::sync::Arc;

use esker_base::{KeyRange, SeqNo};
use esker_memtable::Memtable;
use esker_table::{FilterVerdict, Table};
use esker_tree::{Coverage, RunCursor, SourceCursor};

use crate::counters::Counters;
use crate::error::Result;
use crate::keyspace_core::read_view::ReadView;

/// The number of `sources` that are runs.
pub(crate) fn run_count(sources: &[SourceCursor]) -> u32 {
    let is_run = |source: &&SourceCursor| !matches!(source, SourceCursor::Memtable(_));
    sources.iter().filter(is_run).count() as u32
}

/// The parts of `view` that range tombstones hide from a reader at `seqno`.
pub(crate) fn coverage(view: &ReadView, seqno: SeqNo) -> Option<Box<Coverage>> {
    let has_ranges = |memtable: &Arc<Memtable>| memtable.range_tombstone_count() > 0;
    if !view.version.has_ranges() && !view.memtables().any(has_ranges) {
        return None;
    }
    Coverage::new(seqno, view.memtables(), view.version.runs())
}

/// A cursor for each memtable and run that can hold a key of `range`, newest first. If a single
/// table of a run can hold one, `excludes` is asked about that table.
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

/// Whether the prefix filter of `table` says that no entry of it is in `range`; counts the answer.
///
/// # Errors
/// If the table cannot be opened or its filter cannot be read, but not if the filter is damaged.
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
