//! Point reads: newest to oldest, stopping at the first visible entry of the key.
//!
//! Memtables, then level 0 newest run first, then the deeper levels. A table is not looked into if
//! its key range, its sequence range or its filter rules the key out.
//!
//! A put or a tombstone decides at once. Every other kind is given its meaning by a [`PointRead`],
//! apart from this path; operands of a merge make it go on to the sources that are older. A range
//! tombstone over the key ends the search behind the source that has it: what is older is hidden.

mod read_ahead;
pub(crate) mod sources;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use esker_base::{EntryKind, KeyRange, SeqNo, Trailer, checksum::hash_key};
use esker_memtable::Memtable;
use esker_table::{Ahead, BlockSlice, NoTrace, ReadTrace, Table};
use esker_tree::{
    Cursor, MergeError, MergingCursor, PointMerge, PointStep, ReadContext, Run, UnsupportedKind,
    VisibleCursor,
};

use crate::bytes::{Bytes, PINNED_LEN_MIN, Value};
use crate::engine::Engine;
use crate::engine::snapshots::PinnedSeqNo;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::ReadView;
use crate::read::read_ahead::{ASKED_MAX, Announcer, KeyAhead, look_ahead};
use crate::read::sources::{coverage, source_cursors};

/// Where the value of a key was found. Borrows from the view that was searched.
pub(crate) enum Found<'a> {
    /// In a memtable; with what finds it there again.
    Memtable { memtable: &'a Arc<Memtable>, key: &'a [u8], snapshot: SeqNo, value: &'a [u8] },
    /// In a block of a table, or in a blob file.
    Table(BlockSlice),
    /// In memory of its own: it was made for this read.
    Made(Vec<u8>),
}

impl Found<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Memtable { value, .. } => value,
            Self::Table(slice) => slice,
            Self::Made(value) => value,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Table(slice) => Bytes::of_block(slice),
            Self::Made(value) => Bytes::copy_of(&value),
            Self::Memtable { memtable, key, snapshot, value } if PINNED_LEN_MIN <= value.len() => {
                // A second search, next to nothing beside the copy that it saves.
                let pinned = memtable.get_pinned(key, snapshot).map(|(_, slice)| slice);
                pinned.map_or_else(|| Bytes::copy_of(value), Bytes::of_memtable)
            }
            Self::Memtable { value, .. } => Bytes::copy_of(value),
        }
    }
}

/// Watches a point read. The ordinary read is watched by [`NoTrace`], which compiles to nothing.
pub(crate) trait GetTrace: ReadTrace {
    /// A memtable was searched; `decides` if it has a visible entry of the key.
    fn memtable(&mut self, _memtable: &Memtable, _decides: bool) {}

    /// No table of this run has the key in its range.
    fn outside(&mut self, _level: usize, _run: &Run) {}

    /// The table was left out: all its entries are newer than the reader.
    fn too_new(&mut self, _level: usize, _table: &Table) {}

    /// The table is searched next; its own events follow.
    fn enter(&mut self, _level: usize, _table: &Table) {}

    /// The table was searched; `decides` if it has a visible entry of the key.
    fn leave(&mut self, _decides: bool) {}

    /// The source searched last has a range tombstone over the key: what is older is hidden.
    fn covered(&mut self, _seqno: SeqNo) {}

    /// So many operands were merged.
    fn merged(&mut self, _operands: u64) {}

    /// The value expires or has expired then, in milliseconds since the epoch.
    fn expires(&mut self, _millis: u64) {}
}

impl GetTrace for NoTrace {}

impl GetTrace for Announcer<'_> {}

/// Notes when the value expires that is found.
#[derive(Default)]
struct ExpiryTrace {
    expiry: Option<u64>,
}

impl ReadTrace for ExpiryTrace {}

impl GetTrace for ExpiryTrace {
    fn expires(&mut self, millis: u64) {
        self.expiry = Some(millis);
    }
}

/// What is read, and where.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) view: &'a ReadView,
    pub(crate) key: &'a [u8],
    pub(crate) snapshot: SeqNo,
}

/// The value of a key, if it has one. `context` is asked for only if the newest visible entry is
/// neither a put nor a tombstone.
#[inline]
pub(crate) fn find<'a, T: GetTrace>(
    target: Target<'a>,
    context: impl FnOnce() -> ReadContext,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    find_from(None, target, context, trace)
}

/// As [`find`], from where a look ahead has come to, if there was one.
#[inline]
fn find_from<'a, T: GetTrace>(
    ahead: Option<KeyAhead<'_>>,
    target: Target<'a>,
    context: impl FnOnce() -> ReadContext,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    let Target { view, key, snapshot } = target;
    let mut context = Some(context);
    let mut other: Option<PointRead<'a>> = None;
    for memtable in view.memtables() {
        let covering = memtable.covering(key, snapshot);
        let entry = memtable.get(key, snapshot);
        let entry = entry.filter(|entry| is_above(entry.trailer, covering));
        trace.memtable(memtable, entry.is_some());
        if let Some(entry) = entry {
            let found = Found::Memtable { memtable, key, snapshot, value: entry.value };
            match entry.trailer.kind() {
                EntryKind::Put if other.is_none() => return Ok(Some(found)),
                EntryKind::Tombstone if other.is_none() => return Ok(None),
                _ => {
                    let other = PointRead::start(&mut other, target, &mut context);
                    let entry = (entry.trailer, found);
                    let cursor = || memtable.cursor();
                    if let Some(answer) = other.step(entry, covering, cursor, trace)? {
                        return other.end(answer, trace);
                    }
                }
            }
        }
        if let Some(covering) = covering {
            trace.covered(covering);
            return end_of_search(other, trace);
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
            let found = Found::Table(entry.value);
            match entry.trailer.kind() {
                EntryKind::Put if other.is_none() => return Ok(Some(found)),
                EntryKind::Tombstone if other.is_none() => return Ok(None),
                _ => {
                    let other = PointRead::start(&mut other, target, &mut context);
                    let cursor = || table.cursor(true);
                    let entry = (entry.trailer, found);
                    if let Some(answer) = other.step(entry, covering, cursor, trace)? {
                        return other.end(answer, trace);
                    }
                }
            }
        }
        if let Some(covering) = covering {
            trace.covered(covering);
            return end_of_search(other, trace);
        }
    }
    tell_outside(target, &mut told, usize::MAX, trace);
    end_of_search(other, trace)
}

/// Whether an entry is not hidden by the range tombstone over its key, if there is one.
#[inline]
fn is_above(trailer: Trailer, covering: Option<SeqNo>) -> bool {
    covering.is_none_or(|covering| covering < trailer.seqno())
}

/// The answer where nothing that is older counts.
fn end_of_search<'a, T: GetTrace>(
    other: Option<PointRead<'a>>,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    match other {
        None => Ok(None),
        Some(other) => other.finish(trace),
    }
}

/// Tells `trace` of the runs without a table for the key, in the levels from `told` to before `end`.
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

/// A point read that has met an entry which is neither a put nor a tombstone.
struct PointRead<'a> {
    target: Target<'a>,
    context: ReadContext,
    merge: PointMerge,
}

impl<'a> PointRead<'a> {
    #[cold]
    fn start<'r>(
        read: &'r mut Option<Self>,
        target: Target<'a>,
        context: &mut Option<impl FnOnce() -> ReadContext>,
    ) -> &'r mut Self {
        read.get_or_insert_with(|| {
            let context = context.take().expect("a read starts once");
            Self { target, context: context(), merge: PointMerge::default() }
        })
    }

    /// Takes the newest visible entry of a source, in which a range tombstone may hide what is older
    /// than `covering`, and returns the answer if it is known then.
    #[cold]
    fn step<C: Cursor, T: ReadTrace>(
        &mut self,
        (trailer, found): (Trailer, Found<'a>),
        covering: Option<SeqNo>,
        cursor: impl FnOnce() -> C,
        trace: &mut T,
    ) -> Result<Option<Option<Found<'a>>>> {
        let Target { key, .. } = self.target;
        let entry = (trailer, found.as_bytes());
        let floor = covering.unwrap_or(SeqNo::ZERO);
        let step = self.merge.step(&self.context, key, entry, floor, cursor)?;
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
            PointStep::TooMany => Some(self.read_by_cursor()?),
        })
    }

    /// The read over again, for operands that are too many to be kept in memory.
    fn read_by_cursor(&self) -> Result<Option<Found<'a>>> {
        let Target { view, key, snapshot } = self.target;
        let range = KeyRange::from_bounds(&(key..=key));
        let sources = MergingCursor::new(source_cursors(view, &range, snapshot, |_| Ok(false))?);
        let mut cursor = VisibleCursor::new(sources, snapshot, range, self.context.clone())
            .with_coverage(coverage(view, snapshot));
        cursor.seek_to_first()?;
        Ok(cursor.is_valid().then(|| Found::Made(cursor.value().to_vec())))
    }

    fn end<T: GetTrace>(
        &self,
        answer: Option<Found<'a>>,
        trace: &mut T,
    ) -> Result<Option<Found<'a>>> {
        trace.merged(self.merge.operand_count());
        self.merge.expiry().into_iter().for_each(|millis| trace.expires(millis));
        Ok(answer)
    }

    /// The answer after the last source.
    #[cold]
    fn finish<T: GetTrace>(self, trace: &mut T) -> Result<Option<Found<'a>>> {
        trace.merged(self.merge.operand_count());
        Ok(self.merge.finish(&self.context, self.target.key)?.map(Found::Made))
    }
}

impl From<UnsupportedKind> for Error {
    fn from(error: UnsupportedKind) -> Self {
        Self::new(ErrorKind::UnsupportedFormat, error.to_string())
    }
}

impl From<esker_tree::ReadError> for Error {
    fn from(error: esker_tree::ReadError) -> Self {
        match error {
            esker_tree::ReadError::File(error) => error.into(),
            esker_tree::ReadError::UnsupportedKind(error) => error.into(),
            esker_tree::ReadError::Merge(error) => error.into(),
        }
    }
}

impl From<MergeError> for Error {
    fn from(error: MergeError) -> Self {
        Self::new(ErrorKind::UserCode, error.to_string())
    }
}

impl Engine {
    /// Hands the value of `key` to `use_value`, where it lies.
    pub(crate) fn get_with<R>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
        use_value: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        let key = &*keyspace.stored_key(key)?;
        // The view first, the number second: every version that the number needs and that is not
        // in a newer memtable is then in the view. For a single key either order of a concurrent
        // write and this read is right.
        let view = keyspace.live_view()?;
        let snapshot = self.seqno_of(pin);
        let target = Target { view: &view, key, snapshot };
        let context = || self.read_context(keyspace, self.time_of(pin));
        Ok(find(target, context, &mut NoTrace)?.map(use_value))
    }

    fn seqno_of(&self, pin: Option<&PinnedSeqNo>) -> SeqNo {
        pin.map_or_else(|| self.snapshots.visible(), PinnedSeqNo::seqno)
    }

    /// The time that expiry goes by: that of a snapshot, or now. To be asked for after the view is
    /// taken whose entries it decides about.
    pub(crate) fn time_of(&self, pin: Option<&PinnedSeqNo>) -> u64 {
        pin.map_or_else(|| self.snapshots.clock.now(), PinnedSeqNo::millis)
    }

    /// Whether `key` has a value, which is not read if it lies in a blob file.
    pub(crate) fn contains(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
    ) -> Result<bool> {
        Ok(self.find_key(keyspace, key, pin, &mut NoTrace)?.is_some())
    }

    /// When the value of `key` expires; `None` if it has no value.
    pub(crate) fn expires_at(&self, keyspace: &KeyspaceCore, key: &[u8]) -> Result<Option<Expiry>> {
        let mut trace = ExpiryTrace::default();
        let found = self.find_key(keyspace, key, None, &mut trace)?;
        Ok(found.map(|()| trace.expiry.map_or(Expiry::Never, Expiry::at_millis)))
    }

    /// Finds out whether `key` has a value, which is not read if it lies in a blob file.
    fn find_key<T: GetTrace>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
        trace: &mut T,
    ) -> Result<Option<()>> {
        self.check_open()?;
        let key = &*keyspace.stored_key(key)?;
        let view = keyspace.live_view()?;
        let target = Target { view: &view, key, snapshot: self.seqno_of(pin) };
        let context = || {
            let context = self.read_context(keyspace, self.time_of(pin));
            ReadContext { keys_only: true, ..context }
        };
        Ok(find(target, context, trace)?.map(drop))
    }

    pub(crate) fn get(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
    ) -> Result<Option<Value>> {
        self.get_with(keyspace, key, pin, |found| found.into_value())
    }

    /// The value of a stored key in a view that was made for this read.
    pub(crate) fn get_in(
        &self,
        keyspace: &KeyspaceCore,
        view: &ReadView,
        key: &[u8],
        snapshot: SeqNo,
    ) -> Result<Option<Value>> {
        keyspace.check_live()?;
        let context = || self.read_context(keyspace, self.time_of(None));
        let found = find(Target { view, key, snapshot }, context, &mut NoTrace)?;
        Ok(found.map(Found::into_value))
    }

    /// The values of `keys`, all as of one moment.
    pub(crate) fn multi_get<'k, K: AsRef<[u8]>>(
        &self,
        keyspace: &KeyspaceCore,
        keys: &'k [K],
        pin: Option<&PinnedSeqNo>,
    ) -> Result<Vec<Option<Value>>> {
        self.check_open()?;
        let stored = |key: &'k K| keyspace.stored_key(key.as_ref());
        let keys: Vec<Cow<'k, [u8]>> = keys.iter().map(stored).collect::<Result<_>>()?;
        let (view, snapshot) = keyspace.view_with_seqno(|| self.seqno_of(pin));
        // Behind the view: see `live_view`.
        keyspace.check_live()?;
        // One time for all, asked for only if one of them needs it.
        let time = OnceCell::new();
        let mut values = Vec::with_capacity(keys.len());
        let mut announcer = Announcer::new(&view, snapshot, &keys);
        let mut ahead = [KeyAhead::default(); ASKED_MAX];
        for (number, key) in keys.iter().enumerate() {
            if number.is_multiple_of(ASKED_MAX) {
                ahead = look_ahead(&view, &keys[number..keys.len().min(number + ASKED_MAX)]);
            }
            announcer.go_on_to(number);
            let target = Target { view: &view, key, snapshot };
            let now = || *time.get_or_init(|| self.time_of(pin));
            let context = || self.read_context(keyspace, now());
            let found =
                find_from(Some(ahead[number % ASKED_MAX]), target, context, &mut announcer)?;
            values.push(found.map(Found::into_value));
        }
        Ok(values)
    }
}
