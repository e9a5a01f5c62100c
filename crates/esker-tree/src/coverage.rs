//! Which keys range tombstones hide from a reader, asked key by key.
//!
//! The tombstones stay in the memtables and tables where they are; what is kept here is the stretch
//! of keys around the key asked for last, over which the answer is the same. A table is opened for
//! its range tombstones when a key inside of them is asked for.

use std::sync::Arc;

use esker_base::{Fragments, SeqNo, Stretch, is_before_end};
use esker_env::FileError;
use esker_memtable::Memtable;

use crate::run::Run;

/// The range tombstones that a reader at one snapshot sees.
pub struct Coverage {
    sources: Vec<Source>,
    snapshot: SeqNo,
    /// Whether the stretch has a meaning.
    is_known: bool,
    /// The stretch around the key asked for last.
    start: Vec<u8>,
    end: Vec<u8>,
    seqno: Option<SeqNo>,
}

enum Source {
    Memtable(Arc<Fragments>),
    Run(Arc<Run>),
}

impl Coverage {
    /// For a reader at `snapshot` of these memtables and runs; `None` if they have no range
    /// tombstones.
    ///
    /// # Cost
    /// One look at each source; fragments of memtables are made if need be.
    #[must_use]
    pub fn new<'a>(
        snapshot: SeqNo,
        memtables: impl IntoIterator<Item = &'a Arc<Memtable>>,
        runs: impl IntoIterator<Item = &'a Arc<Run>>,
    ) -> Option<Box<Self>> {
        let memtables = memtables.into_iter().filter_map(|memtable| memtable.fragments(snapshot));
        let mut sources: Vec<Source> = memtables.map(Source::Memtable).collect();
        let runs = runs.into_iter().filter(|run| !run.tables_with_ranges().is_empty());
        sources.extend(runs.map(|run| Source::Run(Arc::clone(run))));
        if sources.is_empty() {
            return None;
        }
        let (start, end) = (Vec::new(), Vec::new());
        Some(Box::new(Self { sources, snapshot, is_known: false, start, end, seqno: None }))
    }

    /// The newest tombstone over `key`; of the key's entries, those with a smaller sequence number
    /// are hidden.
    ///
    /// # Errors
    /// Of reading a table.
    ///
    /// # Cost
    /// Two comparisons inside of the stretch of the last call, else a search in each source.
    pub(crate) fn at(&mut self, key: &[u8]) -> Result<Option<SeqNo>, FileError> {
        if self.is_known && self.start.as_slice() <= key && is_before_end(key, &self.end) {
            return Ok(self.seqno);
        }
        self.is_known = false;
        let mut stretch = Stretch::ALL;
        for source in &self.sources {
            stretch = stretch.and(source.stretch(key, self.snapshot)?);
        }
        self.start.clear();
        self.start.extend_from_slice(stretch.start);
        self.end.clear();
        self.end.extend_from_slice(stretch.end);
        self.seqno = stretch.seqno;
        self.is_known = true;
        Ok(self.seqno)
    }

    /// The first key of the stretch around the key asked for last.
    pub(crate) fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key behind that stretch; empty if there is none.
    pub(crate) fn end(&self) -> &[u8] {
        &self.end
    }
}

impl Source {
    fn stretch(&self, key: &[u8], snapshot: SeqNo) -> Result<Stretch<'_>, FileError> {
        let run = match self {
            Self::Memtable(fragments) => return Ok(fragments.stretch(key, snapshot)),
            Self::Run(run) => run,
        };
        // Between the tables' tombstones there are gaps, which nothing has to be read for.
        let tables = run.tables_with_ranges();
        let spans = |place: usize| tables.get(place)?.properties().extras.ranges.as_ref();
        let next = tables.partition_point(|table| {
            let ranges = table.properties().extras.ranges.as_ref();
            ranges.is_some_and(|ranges| ranges.end.as_slice() <= key)
        });
        if let Some(span) = spans(next)
            && span.start.as_slice() <= key
            && let Some(fragments) = tables[next].ranges()?
        {
            return Ok(fragments.stretch(key, snapshot));
        }
        let before = next.checked_sub(1).and_then(spans);
        Ok(Stretch {
            start: before.map_or(b"", |span| &span.end),
            end: spans(next).map_or(b"", |span| &span.start),
            seqno: None,
        })
    }
}

impl std::fmt::Debug for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coverage({} sources at {})", self.sources.len(), self.snapshot)
    }
}
