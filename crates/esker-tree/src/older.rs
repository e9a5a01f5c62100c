//! Whether an older entry of a key may exist outside a job, asked for ascending keys.
//!
//! Decided by the bounds of tables alone; "no" is certain.

use esker_base::{TableId, is_before_end};
use esker_table::{Table, TableProperties};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::run::Run;
use crate::shape::RunId;
use crate::version::Version;

/// The runs that may hold older entries, each with a position that only advances.
///
/// # Cost
/// One or two key comparisons for each such run and call; each table is passed once in the whole
/// job.
pub(crate) struct OlderRuns<'a> {
    runs: Vec<Remaining<'a>>,
}

/// The tables of a run that do not end before the last key asked about.
struct Remaining<'a> {
    tables: &'a [Arc<Table>],
}

impl<'a> OlderRuns<'a> {
    /// All runs of `version`: for a flush, which is newer.
    pub(crate) fn all(version: &'a Version) -> Self {
        let runs = version.levels().iter().flat_map(|level| level.runs());
        Self { runs: runs.map(|run| Remaining { tables: run.tables() }).collect() }
    }

    /// The runs deeper than the run `run` of `level`, or older in the same level: for a compaction
    /// whose outputs go there. Without a run, all of `level` is older.
    ///
    /// Plans preserve the order of entries, so what is not an input and is older than one of the
    /// inputs is also older than the target.
    pub(crate) fn than(version: &'a Version, level: usize, run: Option<RunId>) -> Self {
        let is_older = |other: &&Arc<Run>| run.is_none_or(|run| other.id() < run);
        let beside = version.levels()[level].runs().iter().filter(is_older);
        let deeper = version.levels()[level + 1..].iter().flat_map(|level| level.runs());
        let runs = beside.chain(deeper).map(|run| Remaining { tables: run.tables() });
        Self { runs: runs.collect() }
    }

    /// Whether one of the runs may hold `user_key`, in a table that is not in `inputs`. Keys must
    /// ascend from call to call.
    pub(crate) fn may_hold(&mut self, user_key: &[u8], inputs: &BTreeSet<TableId>) -> bool {
        self.runs.iter_mut().any(|run| {
            let candidate = run.candidate(user_key);
            candidate.is_some_and(|table| {
                !inputs.contains(&table.id) && !esker_base::planted::is("older-tables-overlooked")
            })
        })
    }
}

/// Whether a table for which `counts` holds (level, run, id) overlaps the keys, both inclusive.
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
    /// Whether one of the runs may hold a key of `[start, end)`, in a table that is not in
    /// `inputs`. Called before [`OlderRuns::may_hold`], with ranges in any order.
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

    /// Whether a table that is not in `inputs` may hold a key of `[start, end)`.
    fn may_hold_any(&self, start: &[u8], end: &[u8], inputs: &BTreeSet<TableId>) -> bool {
        let first = self.tables.partition_point(|table| table.properties().ends_before(start));
        let rest = self.tables[first..].iter().map(|table| table.properties());
        let mut overlapping = rest.take_while(|table| is_before_end(&table.smallest_key, end));
        overlapping.any(|table| !inputs.contains(&table.id))
    }
}
