//! Whether an older entry of a key may exist outside of a job: asked key by key, ascending.
//!
//! The answer goes by the bounds of tables alone; "no" is certain.

use esker_base::{TableId, is_before_end};
use esker_table::{Table, TableProperties};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::run::Run;
use crate::shape::RunId;
use crate::version::Version;

/// The runs that may hold older entries, each with a place that only moves on.
///
/// # Cost
/// One or two comparisons of keys for each such run and question; over a whole job, each table is
/// passed once.
pub(crate) struct OlderRuns<'a> {
    runs: Vec<Remaining<'a>>,
}

/// The tables of one run that do not end before the last key asked for.
struct Remaining<'a> {
    tables: &'a [Arc<Table>],
}

impl<'a> OlderRuns<'a> {
    /// Of everything in `version`: for a flush, which is newer.
    pub(crate) fn all(version: &'a Version) -> Self {
        let runs = version.levels().iter().flat_map(|level| level.runs());
        Self { runs: runs.map(|run| Remaining { tables: run.tables() }).collect() }
    }

    /// Of what stands deeper than the run `run` of `level`, or is older in the same level: for a
    /// compaction whose outputs go there. With no run, all of `level` is older.
    ///
    /// A plan keeps the order of entries, so what is not among its inputs and older than one of
    /// them is older than its target as well.
    pub(crate) fn than(version: &'a Version, level: usize, run: Option<RunId>) -> Self {
        let is_older = |other: &&Arc<Run>| run.is_none_or(|run| other.id() < run);
        let beside = version.levels()[level].runs().iter().filter(is_older);
        let deeper = version.levels()[level + 1..].iter().flat_map(|level| level.runs());
        let runs = beside.chain(deeper).map(|run| Remaining { tables: run.tables() });
        Self { runs: runs.collect() }
    }

    /// Whether one of the runs may hold `user_key`, in a table that is not one of `inputs`. Keys
    /// must ascend from call to call.
    pub(crate) fn may_hold(&mut self, user_key: &[u8], inputs: &BTreeSet<TableId>) -> bool {
        self.runs.iter_mut().any(|run| {
            let candidate = run.candidate(user_key);
            candidate.is_some_and(|table| {
                !inputs.contains(&table.id) && !esker_base::planted::is("older-tables-overlooked")
            })
        })
    }
}

/// Whether a table that `counts`, by its level, run and id, overlaps the keys, both inclusive.
pub(crate) fn older_overlaps(
    version: &Version,
    (first, last): (&[u8], &[u8]),
    counts: impl Fn(usize, RunId, TableId) -> bool,
) -> bool {
    let levels = version.levels().iter().enumerate();
    let mut runs = levels.flat_map(|(level, runs)| runs.runs().iter().map(move |run| (level, run)));
    runs.any(|(level, run)| {
        let tables = run.tables()[run.lower_bound(first)..].iter().map(|table| table.properties());
        let mut overlapping = tables.take_while(|table| table.smallest_key.as_slice() <= last);
        overlapping.any(|table| counts(level, run.id(), table.id))
    })
}

impl OlderRuns<'_> {
    /// Whether one of the runs may hold a key of `[start, end)`, in a table that is not one of
    /// `inputs`. To be asked before [`OlderRuns::may_hold`], in any order of ranges.
    pub(crate) fn may_hold_any(
        &self,
        start: &[u8],
        end: &[u8],
        inputs: &BTreeSet<TableId>,
    ) -> bool {
        self.runs.iter().any(|run| run.may_hold_any(start, end, inputs))
    }
}

impl Remaining<'_> {
    /// The table that may hold `user_key`.
    fn candidate(&mut self, user_key: &[u8]) -> Option<&TableProperties> {
        while let Some((first, rest)) = self.tables.split_first() {
            let table = first.properties();
            if !table.ends_before(user_key) {
                return (table.smallest_key.as_slice() <= user_key).then_some(&**table);
            }
            self.tables = rest;
        }
        None
    }

    /// Whether a table that is not one of `inputs` may hold a key of `[start, end)`.
    fn may_hold_any(&self, start: &[u8], end: &[u8], inputs: &BTreeSet<TableId>) -> bool {
        let first = self.tables.partition_point(|table| table.properties().ends_before(start));
        let rest = self.tables[first..].iter().map(|table| table.properties());
        let mut overlapping = rest.take_while(|table| is_before_end(&table.smallest_key, end));
        overlapping.any(|table| !inputs.contains(&table.id))
    }
}
