//! Point reads: newest to oldest, stopping at the first visible entry of the key.
//!
//! Memtables, then level 0 newest run first, then the deeper levels. A table is not looked into if
//! its key range, its sequence range or its filter rules the key out.

use std::sync::Arc;

use esker_base::{EntryKind, SeqNo, checksum::hash_key, key_head};
use esker_memtable::Memtable;
use esker_table::{BlockSlice, NoTrace, ReadTrace, Table};
use esker_tree::{Run, UnsupportedKind};

use crate::bytes::{Bytes, PINNED_LEN_MIN, Value};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::operation::check_key;
use crate::read_view::ReadView;

/// Where the value of a key was found. Borrows from the view that was searched.
pub(crate) enum Found<'a> {
    /// In a memtable; with what finds it there again.
    Memtable { memtable: &'a Arc<Memtable>, key: &'a [u8], snapshot: SeqNo, value: &'a [u8] },
    /// In a block of a table.
    Table(BlockSlice),
}

impl Found<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Memtable { value, .. } => value,
            Self::Table(slice) => slice,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Table(slice) => Bytes::of_block(slice),
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
}

impl GetTrace for NoTrace {}

/// The newest visible entry of `key`, if it is a value.
pub(crate) fn find<'a, T: GetTrace>(
    view: &'a ReadView,
    key: &'a [u8],
    snapshot: SeqNo,
    trace: &mut T,
) -> Result<Option<Found<'a>>> {
    for memtable in view.memtables() {
        let entry = memtable.get(key, snapshot);
        trace.memtable(memtable, entry.is_some());
        if let Some(entry) = entry {
            let exists = value_exists(entry.trailer.kind())?;
            let found = Found::Memtable { memtable, key, snapshot, value: entry.value };
            return Ok(exists.then_some(found));
        }
    }
    let (hash, head) = (hash_key(key), key_head(key));
    for (number, level) in view.version.levels().iter().enumerate() {
        if T::ENABLED {
            let outside = level.runs().iter().filter(|run| run.find(key).is_none());
            outside.for_each(|run| trace.outside(number, run));
        }
        for table in level.candidates(key, head) {
            if snapshot < table.properties().seqno_min {
                trace.too_new(number, table);
                continue;
            }
            trace.enter(number, table);
            let entry = table.get(key, hash, snapshot, trace)?;
            trace.leave(entry.is_some());
            if let Some(entry) = entry {
                let exists = value_exists(entry.trailer.kind())?;
                return Ok(exists.then_some(Found::Table(entry.value)));
            }
        }
    }
    Ok(None)
}

/// Whether an entry of `kind` says that its key has a value.
fn value_exists(kind: EntryKind) -> Result<bool> {
    match kind {
        EntryKind::Put => Ok(true),
        EntryKind::Tombstone => Ok(false),
        kind => Err(UnsupportedKind { kind }.into()),
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
        }
    }
}

impl Engine {
    /// Hands the value of `key` to `use_value`, where it lies.
    pub(crate) fn get_with<R>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        snapshot: Option<SeqNo>,
        use_value: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        keyspace.check_live()?;
        check_key(key)?;
        // The view first, the number second: every version that the number needs and that is not
        // in a newer memtable is then in the view. For a single key either order of a concurrent
        // write and this read is right.
        let view = keyspace.view();
        let snapshot = snapshot.unwrap_or_else(|| self.snapshots.visible());
        Ok(find(&view, key, snapshot, &mut NoTrace)?.map(use_value))
    }

    pub(crate) fn get(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        snapshot: Option<SeqNo>,
    ) -> Result<Option<Value>> {
        self.get_with(keyspace, key, snapshot, |found| found.into_value())
    }

    /// The values of `keys`, all as of one moment.
    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &KeyspaceCore,
        keys: &[K],
        snapshot: Option<SeqNo>,
    ) -> Result<Vec<Option<Value>>> {
        self.check_open()?;
        keyspace.check_live()?;
        keys.iter().try_for_each(|key| check_key(key.as_ref()))?;
        let (view, snapshot) =
            keyspace.view_with_seqno(|| snapshot.unwrap_or_else(|| self.snapshots.visible()));
        let one = |key: &K| {
            let found = find(&view, key.as_ref(), snapshot, &mut NoTrace)?;
            Ok(found.map(Found::into_value))
        };
        keys.iter().map(one).collect()
    }
}
