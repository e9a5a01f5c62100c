//! When the entries of an output were written, as precisely as its inputs record it.
//!
//! An output takes the extremes of the inputs that overlap it. The time of the oldest tombstone is
//! that of a debt, not of an entry: a delete whose victims may still exist somewhere below. It is
//! inherited even if a newer put has shadowed the tombstone itself, and the debt is paid once the
//! output holds no tombstone and no replaced entry that a snapshot may need, and overlaps nothing
//! older.
//!
//! Has no clock: all times are arguments.

use std::sync::Arc;

use esker_table::{TableProperties, TableTimes};

use crate::run::Run;

/// Whether something older overlaps these keys, both inclusive.
type HasOlder<'a> = Box<dyn Fn(&[u8], &[u8]) -> bool + 'a>;

/// The source of the times of outputs.
pub(crate) struct OutputTimes<'a> {
    sources: Vec<Source<'a>>,
    /// Whether every reader sees all entries: then none is kept for a snapshot.
    is_seen_by_all: bool,
    /// Concerns tables that are not among the inputs.
    has_older: HasOlder<'a>,
}

/// What an output holds of entries that hide others, or are hidden.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) has_tombstones: bool,
    /// Whether entries stand behind a newer one of their key: for a snapshot, or beneath operands.
    pub(crate) has_replaced: bool,
}

/// Some of the inputs' entries.
struct Source<'a> {
    /// Smallest and largest user key; `None` for any.
    hull: Option<(&'a [u8], &'a [u8])>,
    times: TableTimes,
}

impl<'a> OutputTimes<'a> {
    /// For memtables with these `times`.
    pub(crate) fn of_memtables(
        times: TableTimes,
        is_seen_by_all: bool,
        has_older: impl Fn(&[u8], &[u8]) -> bool + 'a,
    ) -> Self {
        let sources = vec![Source { hull: None, times }];
        Self { sources, is_seen_by_all, has_older: Box::new(has_older) }
    }

    /// For the tables of `runs`, written by `now`.
    pub(crate) fn of_runs(
        runs: &'a [Arc<Run>],
        now: u64,
        is_seen_by_all: bool,
        has_older: impl Fn(&[u8], &[u8]) -> bool + 'a,
    ) -> Self {
        let tables = runs.iter().flat_map(|run| run.tables());
        let source = |properties: &'a TableProperties| Source {
            hull: Some((&properties.smallest_key, &properties.largest_key)),
            times: times_of(properties, now),
        };
        let sources = tables.map(|table| source(table.properties())).collect();
        Self { sources, is_seen_by_all, has_older: Box::new(has_older) }
    }

    /// The times of an output with these keys, both inclusive, written at `now`.
    pub(crate) fn of_output(
        &self,
        (first, last): (&[u8], &[u8]),
        held: Held,
        now: u64,
    ) -> TableTimes {
        let overlaps = |source: &&Source<'_>| {
            source.hull.is_none_or(|(smallest, largest)| smallest <= last && first <= largest)
        };
        let sources = self.sources.iter().filter(overlaps).map(|source| source.times);
        let times = sources.reduce(joined).unwrap_or(TableTimes {
            oldest: now,
            newest: now,
            oldest_tombstone: None,
            written: now,
        });
        let may_keep = held.has_tombstones || held.has_replaced && !self.is_seen_by_all;
        let owes = may_keep || (self.has_older)(first, last);
        let oldest_tombstone = match times.oldest_tombstone.filter(|_| owes) {
            None if held.has_tombstones => Some(times.oldest),
            debt => debt,
        };
        TableTimes { oldest_tombstone, written: now, ..times }
    }
}

/// The recorded times of a table; without any, it was written between the epoch and `now`.
pub(crate) fn times_of(properties: &TableProperties, now: u64) -> TableTimes {
    properties.extras.times.unwrap_or(TableTimes {
        oldest: 0,
        newest: now,
        oldest_tombstone: properties.has_tombstones().then_some(0),
        written: 0,
    })
}

/// The times of all `tables` together, at `now`; `None` if there are none.
pub fn times_of_all<'a>(
    tables: impl Iterator<Item = &'a TableProperties>,
    now: u64,
) -> Option<TableTimes> {
    tables.map(|table| times_of(table, now)).reduce(joined)
}

fn joined(a: TableTimes, b: TableTimes) -> TableTimes {
    let tombstones = [a.oldest_tombstone, b.oldest_tombstone];
    TableTimes {
        oldest: a.oldest.min(b.oldest),
        newest: a.newest.max(b.newest),
        oldest_tombstone: tombstones.into_iter().flatten().min(),
        written: a.written.min(b.written),
    }
}

#[cfg(test)]
mod tests;
