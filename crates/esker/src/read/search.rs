//! The search of a point read: through the sources from newest to oldest, until one decides.
//!
//! The order is: memtables, level 0 with its newest run first, the deeper levels. A table is
//! skipped if its key range, its sequence range or its filter rules the key out.
//!
//! A put or a tombstone decides at once. Every other kind is handled by a [`PointRead`], off this
//! path; merge operands make the search go on to older sources. A range tombstone over the key ends
//! the search after the source that has it: everything older is hidden.
//!
//! A reader may have taken its view, its number and its time in turn. What decides at once is then
//! what the key had at some moment in between. Where several entries or the time count, they must
//! be of one moment, and a [`PointRead`] that finds them not to be starts over: see [`Taken`].

use std::ops::ControlFlow::{self, Break, Continue};

use esker_base::{EntryKind, KeyRange, SeqNo, Trailer, checksum::hash_key};
use esker_memtable::Memtable;
use esker_table::{Ahead, NoTrace, ReadTrace, Table};
use esker_tree::{
    Cursor, MergingCursor, PointMerge, PointStep, ReadContext, ReadError, Run, SourceCursor,
    VisibleCursor,
};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::ReadView;
use crate::read::Found;
use crate::read::read_ahead::KeyAhead;
use crate::read::sources::{coverage, source_cursors};

/// Observes a point read. Ordinary reads use [`NoTrace`], which compiles to nothing.
pub(crate) trait GetTrace: ReadTrace {
    /// A memtable was searched; `decides` if it has a visible entry of the key.
    fn memtable(&mut self, _memtable: &Memtable, _decides: bool) {}

    /// No table of this run covers the key.
    fn outside(&mut self, _level: usize, _run: &Run) {}

    /// The table was skipped: all its entries are newer than the reader.
    fn too_new(&mut self, _level: usize, _table: &Table) {}

    /// The table is searched next; calls about it follow.
    fn enter(&mut self, _level: usize, _table: &Table) {}

    /// The table was searched; `decides` if it has a visible entry of the key.
    fn leave(&mut self, _decides: bool) {}

    /// The last searched source has a range tombstone over the key, which hides everything older.
    fn covered(&mut self, _seqno: SeqNo) {}

    /// This many operands were merged.
    fn merged(&mut self, _operands: u64) {}

    /// The value expires, or has expired, at this time in milliseconds since the epoch.
    fn expires(&mut self, _millis: u64) {}
}

impl GetTrace for NoTrace {}

/// What to read, and where.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) keyspace: &'a KeyspaceCore,
    pub(crate) view: &'a ReadView,
    pub(crate) key: &'a [u8],
    pub(crate) snapshot: SeqNo,
}

/// What a point read goes by once it has met an entry that is neither a put nor a tombstone.
pub(crate) struct Basis<'a> {
    pub(crate) context: ReadContext,
    pub(crate) taken: Taken<'a>,
}

impl Basis<'_> {
    pub(crate) const fn at_once(context: ReadContext) -> Self {
        Self { context, taken: Taken::AtOnce }
    }
}

/// How the view, the number and the time of a point read were taken.
///
/// Taken in turn, they may show what never was. A load can put a value into the tables behind the
/// view, and a merge can then add an operand to a memtable of the view, before the number is taken:
/// the value beneath the operand is then not the one in the view. And a value that has expired by
/// the time may have been renewed before, but after the number was taken.
#[derive(Clone, Copy)]
pub(crate) enum Taken<'a> {
    /// They are of one moment, or those of a snapshot.
    AtOnce,
    /// First the view, then the latest number, then the time. If the answer depends on more than
    /// one of them, and it is not certain that they are of one moment, the engine reads again.
    InTurn(&'a Engine),
}

/// The value of a key, if it has one. `basis` is asked for only if the newest visible entry is
/// neither a put nor a tombstone.
#[inline]
pub(crate) fn find<'a, T: GetTrace>(
    target: Target<'a>,
    basis: impl FnOnce() -> Basis<'a>,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    find_from(None, target, basis, trace)
}

/// As [`find`], but continues from what a look-ahead has found, if there was one.
#[inline]
pub(super) fn find_from<'a, T: GetTrace>(
    ahead: Option<KeyAhead<'_>>,
    target: Target<'a>,
    basis: impl FnOnce() -> Basis<'a>,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    let Target { view, key, snapshot, .. } = target;
    let mut search = Search { target, basis: Some(basis), other: None };
    for memtable in view.memtables() {
        let covering = memtable.covering(key, snapshot);
        let entry = memtable.get(key, snapshot).filter(|entry| is_above(entry.trailer, covering));
        trace.memtable(memtable, entry.is_some());
        if let Some(entry) = entry {
            let found = Found::Memtable { memtable, key, snapshot, value: entry.value };
            let entry = (entry.trailer, found);
            if let Break(answer) = search.take(entry, covering, || memtable.cursor(), trace) {
                return answer;
            }
        }
        if let Some(covering) = covering {
            trace.covered(covering);
            return search.finish(trace);
        }
    }
    let hash = hash_key(key);
    let mut told = 0;
    for (candidate, (number, table)) in view.version.candidates(key).enumerate() {
        tell_outside(target, &mut told, number + 1, trace);
        if snapshot < table.properties().seqno_min {
            trace.too_new(number, table);
            continue;
        }
        trace.enter(number, table);
        let covering = table.covering(key, snapshot)?;
        let entry = match ahead.map_or(Ahead::Unknown, |ahead| ahead.at(candidate)) {
            Ahead::RuledOut => None,
            Ahead::Block(block) => table.get_in(block, key, snapshot, trace)?,
            Ahead::Unknown => table.get(key, hash, snapshot, trace)?,
        };
        let entry = entry.filter(|entry| is_above(entry.trailer, covering));
        trace.leave(entry.is_some());
        if let Some(entry) = entry {
            let entry = (entry.trailer, Found::Table(entry.value));
            if let Break(answer) = search.take(entry, covering, || table.cursor(true), trace) {
                return answer;
            }
        }
        if let Some(covering) = covering {
            trace.covered(covering);
            return search.finish(trace);
        }
    }
    tell_outside(target, &mut told, usize::MAX, trace);
    search.finish(trace)
}

/// A point read on its way from newer sources to older ones.
struct Search<'a, F> {
    target: Target<'a>,
    basis: Option<F>,
    /// Set once an entry was met that is neither a put nor a tombstone.
    other: Option<PointRead<'a>>,
}

impl<'a, F: FnOnce() -> Basis<'a>> Search<'a, F> {
    /// Processes the newest visible entry of a source. A range tombstone of the source may hide
    /// everything older than `covering`. Breaks with the answer once it is known.
    #[inline]
    fn take<C: Cursor, T: GetTrace>(
        &mut self,
        (trailer, found): (Trailer, Found<'a>),
        covering: Option<SeqNo>,
        cursor: impl FnOnce() -> C,
        trace: &mut T,
    ) -> ControlFlow<Result<Option<Found<'a>>>> {
        match trailer.kind() {
            EntryKind::Put if self.other.is_none() => Break(Ok(Some(found))),
            EntryKind::Tombstone if self.other.is_none() => Break(Ok(None)),
            _ => {
                let other = PointRead::start(&mut self.other, self.target, &mut self.basis);
                match other.step((trailer, found), covering, cursor, trace) {
                    Ok(None) => Continue(()),
                    Ok(Some(answer)) => Break(Ok(other.end(answer, trace))),
                    Err(error) => Break(Err(error)),
                }
            }
        }
    }

    /// The answer, if nothing older counts.
    fn finish<T: GetTrace>(self, trace: &mut T) -> Result<Option<Found<'a>>> {
        match self.other {
            None => Ok(None),
            Some(other) => other.finish(trace),
        }
    }
}

/// Whether an entry is newer than the range tombstone over its key, or there is none.
#[inline]
fn is_above(trailer: Trailer, covering: Option<SeqNo>) -> bool {
    covering.is_none_or(|covering| covering < trailer.seqno())
}

/// Reports to `trace` the runs without a table for the key, in the levels from `told` up to but
/// excluding `end`.
#[inline]
fn tell_outside<T: GetTrace>(target: Target<'_>, told: &mut usize, end: usize, trace: &mut T) {
    if T::ENABLED {
        let levels = target.view.version.levels();
        let end = end.min(levels.len());
        for (number, level) in levels.iter().enumerate().take(end).skip(*told) {
            let outside = level.runs().iter().filter(|run| run.find(target.key).is_none());
            outside.for_each(|run| trace.outside(number, run));
        }
        *told = end.max(*told);
    }
}

/// A point read that has met an entry that is neither a put nor a tombstone.
struct PointRead<'a> {
    target: Target<'a>,
    context: ReadContext,
    taken: Taken<'a>,
    merge: PointMerge,
}

impl<'a> PointRead<'a> {
    #[cold]
    fn start<'r>(
        read: &'r mut Option<Self>,
        target: Target<'a>,
        basis: &mut Option<impl FnOnce() -> Basis<'a>>,
    ) -> &'r mut Self {
        read.get_or_insert_with(|| {
            let basis = basis.take().expect("a read starts once");
            let Basis { context, taken } = basis();
            Self { target, context, taken, merge: PointMerge::default() }
        })
    }

    /// Whether what lies beneath an operand in the view is what lay there when it was written.
    fn has_whole_view(&self) -> bool {
        match self.taken {
            Taken::AtOnce => true,
            Taken::InTurn(_) => {
                self.target.keyspace.is_current(self.target.view)
                    || esker_base::planted::is("operand-over-an-old-view")
            }
        }
    }

    /// Whether view and number were the current ones at the time of the context.
    fn is_of_one_moment(&self) -> bool {
        match self.taken {
            Taken::AtOnce => true,
            Taken::InTurn(engine) => {
                let is_latest = engine.snapshots.visible() == self.target.snapshot
                    || esker_base::planted::is("expiry-at-a-later-time");
                is_latest && self.has_whole_view()
            }
        }
    }

    /// Reads again, with view, number and time taken at once.
    fn start_over<T: GetTrace>(&mut self, trace: &mut T) -> Result<Option<Found<'a>>> {
        // What was met does not count.
        self.merge = PointMerge::default();
        let Taken::InTurn(engine) = self.taken else {
            unreachable!("what was taken at once is of one moment");
        };
        let Target { keyspace, key, .. } = self.target;
        let found = engine.find_at_once(keyspace, key, self.context.keys_only)?;
        Ok(found.map(|(value, expiry)| {
            expiry.into_iter().for_each(|millis| trace.expires(millis));
            Found::Made(value)
        }))
    }

    /// Processes the newest visible entry of a source, and returns the answer if it is then known.
    /// A range tombstone of the source may hide everything older than `covering`.
    #[cold]
    fn step<C: Cursor, T: GetTrace>(
        &mut self,
        (trailer, found): (Trailer, Found<'a>),
        covering: Option<SeqNo>,
        cursor: impl FnOnce() -> C,
        trace: &mut T,
    ) -> Result<Option<Option<Found<'a>>>> {
        let Target { key, .. } = self.target;
        if trailer.kind() == EntryKind::Merge && !self.has_whole_view() {
            return self.start_over(trace).map(Some);
        }
        let entry = (trailer, found.as_bytes());
        let floor = covering.unwrap_or(SeqNo::ZERO);
        let step = self.merge.step(&self.context, key, entry, floor, cursor);
        // Of too many operands it is not known here whether what lies beneath them has expired.
        let is_timely = self.merge.has_met_expired() || matches!(step, Ok(PointStep::TooMany));
        if is_timely && !self.is_of_one_moment() {
            return self.start_over(trace).map(Some);
        }
        let step = step.map_err(|error| self.error_of(error))?;
        Ok(match step {
            PointStep::Stored { from: 0 } => Some(Some(found)),
            PointStep::Stored { from } => {
                Some(Some(Found::Made(found.as_bytes()[from..].to_vec())))
            }
            PointStep::Blob if self.context.keys_only => Some(Some(Found::Made(Vec::new()))),
            PointStep::Blob => {
                let value = self.context.read_blob(key, found.as_bytes(), trace)?;
                Some(Some(Found::Table(value)))
            }
            PointStep::Merged(value) => Some(Some(Found::Made(value))),
            PointStep::Nothing => Some(None),
            PointStep::Older => None,
            PointStep::TooMany => {
                if T::ENABLED {
                    self.count_operands()?;
                }
                Some(self.read_by_cursor()?)
            }
        })
    }

    /// A merge over all sources, starting at the newest entry of the key.
    fn sources(&self, range: &KeyRange) -> Result<MergingCursor<SourceCursor>> {
        let Target { view, snapshot, .. } = self.target;
        Ok(MergingCursor::new(source_cursors(view, range, snapshot, |_| Ok(false))?))
    }

    /// Counts, for the trace, operands that are too many to be kept in memory.
    fn count_operands(&mut self) -> Result<()> {
        let Target { view, key, snapshot, .. } = self.target;
        let covering = match coverage(view, snapshot) {
            Some(mut coverage) => coverage.at(key)?,
            None => None,
        };
        let floor = covering.unwrap_or(SeqNo::ZERO);
        let mut sources = self.sources(&KeyRange::from_bounds(&(key..=key)))?;
        let counted = self.merge.count(&self.context, (key, snapshot), floor, &mut sources);
        counted.map_err(|error| self.target.keyspace.read_error(error))
    }

    /// Reads again, with a cursor, when operands are too many to be kept in memory.
    fn read_by_cursor(&self) -> Result<Option<Found<'a>>> {
        let Target { view, key, snapshot, .. } = self.target;
        let range = KeyRange::from_bounds(&(key..=key));
        let sources = self.sources(&range)?;
        let mut cursor = VisibleCursor::new(sources, snapshot, range, self.context.clone())
            .with_coverage(coverage(view, snapshot));
        cursor.seek_to_first().map_err(|error| self.error_of(error))?;
        Ok(cursor.is_valid().then(|| Found::Made(cursor.value().to_vec())))
    }

    fn end<T: GetTrace>(&self, answer: Option<Found<'a>>, trace: &mut T) -> Option<Found<'a>> {
        trace.merged(self.merge.operand_count());
        self.merge.expiry().into_iter().for_each(|millis| trace.expires(millis));
        answer
    }

    /// The answer after the last source.
    #[cold]
    fn finish<T: GetTrace>(self, trace: &mut T) -> Result<Option<Found<'a>>> {
        trace.merged(self.merge.operand_count());
        let Target { keyspace, key, .. } = self.target;
        let value = self.merge.finish(&self.context, key);
        Ok(value.map_err(|error| keyspace.read_error(error))?.map(Found::Made))
    }

    fn error_of(&self, error: ReadError) -> Error {
        self.target.keyspace.read_error(error)
    }
}
