//! Which keys range tombstones hide from a reader, queried key by key.
//!
//! The tombstones stay in their memtables and tables; what is kept here is the stretch of keys
//! around the last queried key over which the answer is the same. A table is opened for its range
//! tombstones only when a key within their bounds is queried. Those of a memtable are fragmented
//! anew for a reader only if newer ones, which it does not see, overlap those that it sees.

use std::sync::Arc;

use esker_base::{Fragments, SeqNo, Stretch, ends_within, is_before_end};
use esker_env::FileError;
use esker_memtable::Memtable;

use crate::run::Run;

/// The range tombstones that a reader at one snapshot sees.
pub struct Coverage {
    sources: Vec<Source>,
    snapshot: SeqNo,
    /// Whether the stretch has a meaning.
    is_known: bool,
    /// Around the last queried key.
    stretch: OwnStretch,
}

enum Source {
    /// With the fragments that the reader sees, once they were needed.
    Memtable(Arc<Memtable>, Option<Arc<Fragments>>),
    Run(Arc<Run>),
}

/// A [`Stretch`] in reusable memory.
#[derive(Default)]
struct OwnStretch {
    start: Vec<u8>,
    end: Vec<u8>,
    seqno: Option<SeqNo>,
}

impl OwnStretch {
    /// Sets it to all keys, covered by nothing.
    fn clear(&mut self) {
        self.start.clear();
        self.end.clear();
        self.seqno = None;
    }

    /// Narrows it to the keys that are also in `other`, with the newer of the tombstones. Both
    /// contain the queried key.
    fn narrow(&mut self, other: Stretch<'_>) {
        if self.start.as_slice() < other.start {
            self.start.clear();
            self.start.extend_from_slice(other.start);
        }
        if !ends_within(&self.end, other.end) {
            self.end.clear();
            self.end.extend_from_slice(other.end);
        }
        self.seqno = self.seqno.max(other.seqno);
    }
}

impl Coverage {
    /// The coverage for a reader at `snapshot` of these memtables and runs; `None` if they have no
    /// range tombstones.
    ///
    /// # Cost
    /// One look at each source.
    #[must_use]
    pub fn new<'a>(
        snapshot: SeqNo,
        memtables: impl IntoIterator<Item = &'a Arc<Memtable>>,
        runs: impl IntoIterator<Item = &'a Arc<Run>>,
    ) -> Option<Box<Self>> {
        let memtables = memtables.into_iter().filter(|memtable| memtable.has_ranges(snapshot));
        let memtables = memtables.map(|memtable| Source::Memtable(Arc::clone(memtable), None));
        let mut sources: Vec<Source> = memtables.collect();
        let runs = runs.into_iter().filter(|run| !run.tables_with_ranges().is_empty());
        sources.extend(runs.map(|run| Source::Run(Arc::clone(run))));
        if sources.is_empty() {
            return None;
        }
        let stretch = OwnStretch::default();
        Some(Box::new(Self { sources, snapshot, is_known: false, stretch }))
    }

    /// The newest tombstone over `key`: the key's entries with a smaller sequence number are
    /// hidden.
    ///
    /// # Errors
    /// Of reading a table.
    ///
    /// # Cost
    /// Two comparisons within the stretch of the last call, otherwise a search in each source.
    pub fn at(&mut self, key: &[u8]) -> Result<Option<SeqNo>, FileError> {
        let Self { sources, snapshot, is_known, stretch } = self;
        if *is_known && stretch.start.as_slice() <= key && is_before_end(key, &stretch.end) {
            return Ok(stretch.seqno);
        }
        *is_known = false;
        stretch.clear();
        for source in sources {
            source.narrow(stretch, key, *snapshot)?;
        }
        *is_known = true;
        Ok(stretch.seqno)
    }

    /// The first key of the stretch around the last queried key.
    pub(crate) fn start(&self) -> &[u8] {
        &self.stretch.start
    }

    /// The first key after that stretch; empty if there is none.
    pub(crate) fn end(&self) -> &[u8] {
        &self.stretch.end
    }
}

impl Source {
    /// Narrows `known` to the keys around `key` that are covered alike here.
    fn narrow(
        &mut self,
        known: &mut OwnStretch,
        key: &[u8],
        snapshot: SeqNo,
    ) -> Result<(), FileError> {
        match self {
            Self::Memtable(memtable, fragments) => {
                if fragments.is_none() {
                    let narrowed = memtable.stretch(key, snapshot, |found| known.narrow(found));
                    if narrowed.is_some() {
                        return Ok(());
                    }
                    *fragments = memtable.fragments(snapshot);
                }
                if let Some(fragments) = fragments {
                    known.narrow(fragments.stretch(key, snapshot));
                }
            }
            Self::Run(run) => known.narrow(stretch_in(run, key, snapshot)?),
        }
        Ok(())
    }
}

/// The keys around `key` that the range tombstones of `run` cover alike.
fn stretch_in<'a>(run: &'a Run, key: &[u8], snapshot: SeqNo) -> Result<Stretch<'a>, FileError> {
    // For the gaps between the tombstones of tables, nothing has to be read.
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

impl std::fmt::Debug for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coverage({} sources at {})", self.sources.len(), self.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use esker_base::{EntryKind, RangeTombstone};

    use super::*;
    use crate::test_random::TestRandom;

    #[test]
    fn memtables_that_take_more_range_tombstones_cover_what_a_reader_saw() {
        for seed in 0..60 {
            let mut random = TestRandom::new(seed);
            let memtables = [Arc::new(Memtable::new()), Arc::new(Memtable::new())];
            let mut all: Vec<RangeTombstone> = Vec::new();
            let delete = |random: &mut TestRandom, all: &mut Vec<RangeTombstone>| {
                let seqno = SeqNo::new(all.len() as u64 + 1).unwrap();
                let end = if random.one_in(8) { Vec::new() } else { random.key(3, 3) };
                let tombstone = RangeTombstone { start: random.key(3, 3), end, seqno };
                let RangeTombstone { start, end, seqno } = &tombstone;
                let mut writer = memtables[random.below(2) as usize].writer();
                writer.insert(start, *seqno, EntryKind::RangeTombstone, end);
                all.push(tombstone);
            };
            (0..random.below(12)).for_each(|_| delete(&mut random, &mut all));
            let snapshot = SeqNo::new(random.below(all.len() as u64 + 1)).unwrap();
            let mut coverage = Coverage::new(snapshot, &memtables, &[]);
            let covering = |all: &[RangeTombstone], key: &[u8]| {
                let seen = all.iter().filter(|t| t.seqno <= snapshot && t.covers(key));
                seen.map(|tombstone| tombstone.seqno).max()
            };
            for _ in 0..40 {
                let (key, other) = (random.key(3, 3), random.key(3, 3));
                let Some(coverage) = &mut coverage else {
                    assert_eq!(covering(&all, &key), None, "seed {seed}");
                    break;
                };
                let found = coverage.at(&key).unwrap();
                assert_eq!(found, covering(&all, &key), "seed {seed} {key:?} {all:?}");
                if coverage.start() <= &other[..] && is_before_end(&other, coverage.end()) {
                    assert_eq!(found, covering(&all, &other), "seed {seed} {key:?} {other:?}");
                }
                if random.one_in(3) {
                    delete(&mut random, &mut all);
                }
            }
        }
    }
}
