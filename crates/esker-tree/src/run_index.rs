//! All runs of a version in one list, in the order in which a point read searches them.
//!
//! Most levels are empty and most runs cannot hold a given key, so a walk over levels and their
//! runs costs more than searching the few that can. Here the bounds of all runs are side by side.
//! Does not know which table of a run has a visible entry, or what levels mean.

use std::sync::Arc;

use esker_table::Table;

use crate::level::Level;
use crate::run::Run;

/// Runs, shallower levels first, newer runs of a level first; never changed.
#[derive(Clone, Default, Debug)]
pub(crate) struct RunIndex {
    entries: Box<[RunEntry]>,
    /// Whether one of them has range tombstones.
    has_ranges: bool,
}

/// A run with the heads of its first and of its last key, both inclusive.
#[derive(Clone, Debug)]
struct RunEntry {
    first: u64,
    last: u64,
    level: usize,
    run: Arc<Run>,
}

impl RunIndex {
    pub(crate) fn new(levels: &[Level]) -> Self {
        let runs = levels.iter().enumerate().flat_map(|(level, runs)| {
            runs.runs().iter().map(move |run| {
                let (first, last) = run.head_bounds();
                RunEntry { first, last, level, run: Arc::clone(run) }
            })
        });
        let entries: Box<[RunEntry]> = runs.collect();
        let has_ranges = entries.iter().any(|entry| !entry.run.tables_with_ranges().is_empty());
        Self { entries, has_ranges }
    }

    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = &Arc<Run>> {
        self.entries.iter().map(|entry| &entry.run)
    }

    pub(crate) const fn has_ranges(&self) -> bool {
        self.has_ranges
    }

    /// The tables that may hold `user_key`, whose head is `head`, with their levels.
    #[inline]
    pub(crate) fn candidates<'a>(
        &'a self,
        user_key: &'a [u8],
        head: u64,
    ) -> impl Iterator<Item = (usize, &'a Arc<Table>)> {
        self.entries
            .iter()
            .filter(move |entry| {
                entry.first <= head
                    && (head < entry.last
                        || head == entry.last && !esker_base::planted::is("level-bound-off-by-one"))
            })
            .filter_map(move |entry| Some((entry.level, entry.run.find(user_key)?)))
    }
}
