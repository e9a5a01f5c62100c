//! The public snapshot: the database as it was at one moment.

use std::ops::RangeBounds;
use std::sync::Arc;

use esker_base::KeyRange;

use crate::bytes::Value;
use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::engine::snapshots::PinnedSeqNo;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::keyspace_core::KeyspaceCore;
use crate::read::Found;
use crate::scan::Scan;

/// All keyspaces, as they were when the snapshot was taken. Owned, `Send`, cheap to clone.
///
/// While it lives, compaction keeps the entries that it sees; `health` lists it with its age. The
/// exception is data that [`Fifo`](crate::CompactionPolicy::Fifo) and
/// [`TimeWindow`](crate::CompactionPolicy::TimeWindow) drop for size or age: snapshots lose it too.
/// Time stands still in a snapshot: a value that had not expired when it was taken does not expire
/// in it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    engine: Arc<Engine>,
    default: Arc<KeyspaceCore>,
    pin: Arc<PinnedSeqNo>,
}

impl Snapshot {
    pub(crate) fn new(engine: &Arc<Engine>, default: &Arc<KeyspaceCore>) -> Self {
        let pin = Arc::new(engine.snapshots.pin(engine.now()));
        Self { engine: Arc::clone(engine), default: Arc::clone(default), pin }
    }

    /// The sequence number of the last write that the snapshot sees.
    #[must_use]
    pub fn seqno(&self) -> u64 {
        self.pin.seqno().get()
    }

    /// This snapshot's view of `keyspace`. If that belongs to another database, every read is
    /// refused as `InvalidInput`.
    #[must_use]
    pub fn keyspace(&self, keyspace: &Keyspace) -> SnapshotView {
        self.view(keyspace.core_in(&self.engine))
    }

    fn view(&self, core: Result<&Arc<KeyspaceCore>>) -> SnapshotView {
        SnapshotView {
            engine: Arc::clone(&self.engine),
            core: core.cloned(),
            pin: Arc::clone(&self.pin),
        }
    }

    /// The value of `key` in the default keyspace.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.engine.get(&self.default, key.as_ref(), Some(&self.pin))
    }

    /// The values of `keys` in the default keyspace, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.engine.multi_get(&self.default, keys, Some(&self.pin))
    }

    /// Whether `key` has a value in the default keyspace.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.engine.contains(&self.default, key.as_ref(), Some(&self.pin))
    }

    /// The entries of the default keyspace whose keys lie in `range`.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.view(Ok(&self.default)).scan(range)
    }

    /// The entries of the default keyspace whose keys start with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.view(Ok(&self.default)).prefix(prefix)
    }

    /// Every entry of the default keyspace.
    pub fn iter(&self) -> Scan {
        self.view(Ok(&self.default)).iter()
    }

    /// A cursor over every entry of the default keyspace.
    ///
    /// # Errors
    /// As [`Keyspace::cursor`].
    pub fn cursor(&self) -> Result<Cursor> {
        self.view(Ok(&self.default)).cursor()
    }
}

/// One keyspace as a [`Snapshot`] sees it.
#[derive(Clone, Debug)]
pub struct SnapshotView {
    engine: Arc<Engine>,
    /// Why reads are refused, for a keyspace of another database.
    core: Result<Arc<KeyspaceCore>>,
    pin: Arc<PinnedSeqNo>,
}

impl SnapshotView {
    fn core(&self) -> Result<&Arc<KeyspaceCore>> {
        self.core.as_ref().map_err(Error::clone)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.engine.get(self.core()?, key.as_ref(), Some(&self.pin))
    }

    /// Hands the value of `key` to `use_value` where it lies.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let use_found = |found: Found<'_>| use_value(found.as_bytes());
        self.engine.get_with(self.core()?, key.as_ref(), Some(&self.pin), use_found)
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.engine.multi_get(self.core()?, keys, Some(&self.pin))
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.engine.contains(self.core()?, key.as_ref(), Some(&self.pin))
    }

    /// The entries whose keys lie in `range`.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        match self.core() {
            Ok(core) => {
                let pin = Some(Arc::clone(&self.pin));
                Scan::new(&self.engine, core, core.stored_range(&range), pin)
            }
            Err(error) => Scan::refused(error),
        }
    }

    /// Every entry.
    pub fn iter(&self) -> Scan {
        self.scan::<&[u8]>(..)
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        match self.core() {
            Ok(core) => {
                let pin = Some(Arc::clone(&self.pin));
                Scan::of_prefix(&self.engine, core, prefix.as_ref(), pin)
            }
            Err(error) => Scan::refused(error),
        }
    }

    /// A cursor over every entry.
    ///
    /// # Errors
    /// As [`Keyspace::cursor`]; `InvalidInput` for a keyspace of another database.
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(&self.engine, self.core()?, KeyRange::all(), Some(Arc::clone(&self.pin)))
    }

    /// A cursor that stays inside `range`, and looks only at tables that overlap it.
    ///
    /// # Errors
    /// As [`Keyspace::cursor_in`]; `InvalidInput` for a keyspace of another database.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Cursor> {
        let core = self.core()?;
        let range = core.stored_range(&range)?;
        Cursor::new(&self.engine, core, range, Some(Arc::clone(&self.pin)))
    }
}
