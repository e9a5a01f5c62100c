//! Point reads for keyspaces and snapshots: the choice of view, sequence number and time.
//!
//! The search itself is in `search`; what a multi-get starts ahead of it is in `read_ahead`.

mod read_ahead;
mod search;
pub(crate) mod sources;

use std::borrow::Cow;
use std::sync::Arc;

use esker_base::SeqNo;
use esker_memtable::Memtable;
use esker_table::{BlockSlice, NoTrace, ReadTrace};
use esker_tree::{ReadContext, UnsupportedKind};

use crate::bytes::{Bytes, PINNED_LEN_MIN, Value};
use crate::engine::Engine;
use crate::engine::snapshots::PinnedSeqNo;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::ReadView;
use crate::read::read_ahead::{ASKED_MAX, Announcer, KeyAhead, look_ahead};
pub(crate) use crate::read::search::{Basis, GetTrace, Target, find};
use crate::read::search::{Taken, find_from};

/// A view, and the number and the time to read it at, all of one moment.
pub(crate) struct AsOf {
    pub(crate) view: Arc<ReadView>,
    pub(crate) seqno: SeqNo,
    /// What expiry goes by, in milliseconds since the epoch.
    pub(crate) millis: u64,
}

/// A value, and where it was found. Borrows from the view that was searched.
pub(crate) enum Found<'a> {
    /// In a memtable; with what it takes to find it again.
    Memtable { memtable: &'a Arc<Memtable>, key: &'a [u8], snapshot: SeqNo, value: &'a [u8] },
    /// In a block of a table, or in a blob file.
    Table(BlockSlice),
    /// In its own memory: it was computed for this read.
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

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Made(value) => value,
            found => found.as_bytes().to_vec(),
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Table(slice) => Bytes::of_block(slice),
            Self::Made(value) => Bytes::copy_of(&value),
            Self::Memtable { memtable, key, snapshot, value } if PINNED_LEN_MIN <= value.len() => {
                // A second search costs next to nothing compared with the copy that it saves.
                let pinned = memtable.get_pinned(key, snapshot).map(|(_, slice)| slice);
                pinned.map_or_else(|| Bytes::copy_of(value), Bytes::of_memtable)
            }
            Self::Memtable { value, .. } => Bytes::copy_of(value),
        }
    }
}

impl GetTrace for Announcer<'_> {}

/// Notes when the value found expires.
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

impl From<UnsupportedKind> for Error {
    fn from(error: UnsupportedKind) -> Self {
        Self::new(ErrorKind::UnsupportedFormat, error.to_string())
    }
}

impl Engine {
    /// Calls `use_value` with the value of `key`, without copying it.
    pub(crate) fn get_with<R>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
        use_value: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        let key = &*keyspace.stored_key(key)?;
        // The view first, then the number: so every entry visible at the number is in the view, or
        // in a memtable or table that came later. An entry of the view that decides by itself was
        // thus the current one at some moment since the call, and a concurrent write of this one
        // key may count as before or after this read. Of any other entry that is not certain: see
        // `Taken`.
        let view = keyspace.live_view()?;
        let snapshot = self.seqno_of(pin);
        let target = Target { keyspace, view: &view, key, snapshot };
        Ok(find(target, || self.basis(keyspace, pin), &mut NoTrace)?.map(use_value))
    }

    /// What a read goes by whose view and number were taken in turn.
    fn basis(&self, keyspace: &KeyspaceCore, pin: Option<&PinnedSeqNo>) -> Basis<'_> {
        let context = self.read_context(keyspace, self.time_of(pin));
        Basis { context, taken: pin.map_or(Taken::InTurn(self), |_| Taken::AtOnce) }
    }

    /// The value of a stored key now, and when it expires. Takes view, number and time at once.
    pub(crate) fn find_at_once(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        keys_only: bool,
    ) -> Result<Option<(Vec<u8>, Option<u64>)>> {
        let AsOf { view, seqno, millis } = self.as_of(keyspace, None)?;
        let target = Target { keyspace, view: &view, key, snapshot: seqno };
        let context = ReadContext { keys_only, ..self.read_context(keyspace, millis) };
        let mut trace = ExpiryTrace::default();
        let found = find(target, || Basis::at_once(context), &mut trace)?;
        Ok(found.map(|found| (found.into_bytes(), trace.expiry)))
    }

    /// The present moment in `keyspace`, or with `pin` the one that it pinned.
    ///
    /// # Errors
    /// `Closed` if the keyspace was dropped.
    pub(crate) fn as_of(&self, keyspace: &KeyspaceCore, pin: Option<&PinnedSeqNo>) -> Result<AsOf> {
        let (view, (seqno, millis)) = keyspace.view_with_seqno(|| {
            pin.map_or_else(|| self.snapshots.moment(), |pin| (pin.seqno(), pin.millis()))
        });
        // After taking the view: see `live_view`.
        keyspace.check_live()?;
        Ok(AsOf { view, seqno, millis })
    }

    fn seqno_of(&self, pin: Option<&PinnedSeqNo>) -> SeqNo {
        pin.map_or_else(|| self.snapshots.visible(), PinnedSeqNo::seqno)
    }

    /// The time that decides expiry: that of a snapshot, or now. To be called after taking the view
    /// that it is applied to.
    fn time_of(&self, pin: Option<&PinnedSeqNo>) -> u64 {
        pin.map_or_else(|| self.snapshots.clock.now(), PinnedSeqNo::millis)
    }

    /// Whether `key` has a value; a value in a blob file is not read.
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

    /// Finds whether `key` has a value; a value in a blob file is not read.
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
        let target = Target { keyspace, view: &view, key, snapshot: self.seqno_of(pin) };
        let basis = || {
            let Basis { context, taken } = self.basis(keyspace, pin);
            Basis { context: ReadContext { keys_only: true, ..context }, taken }
        };
        Ok(find(target, basis, trace)?.map(drop))
    }

    pub(crate) fn get(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: Option<&PinnedSeqNo>,
    ) -> Result<Option<Value>> {
        self.get_with(keyspace, key, pin, |found| found.into_value())
    }

    /// The value of a stored key in a view created for this read.
    pub(crate) fn get_in(
        &self,
        keyspace: &KeyspaceCore,
        view: &ReadView,
        key: &[u8],
        snapshot: SeqNo,
    ) -> Result<Option<Value>> {
        keyspace.check_live()?;
        let basis = || Basis::at_once(self.read_context(keyspace, self.time_of(None)));
        let found = find(Target { keyspace, view, key, snapshot }, basis, &mut NoTrace)?;
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
        let AsOf { view, seqno: snapshot, millis } = self.as_of(keyspace, pin)?;
        let mut values = Vec::with_capacity(keys.len());
        let mut announcer = Announcer::new(&view, snapshot, &keys);
        let mut ahead = [KeyAhead::default(); ASKED_MAX];
        for (number, key) in keys.iter().enumerate() {
            if number.is_multiple_of(ASKED_MAX) {
                ahead = look_ahead(&view, &keys[number..keys.len().min(number + ASKED_MAX)]);
            }
            announcer.go_on_to(number);
            let target = Target { keyspace, view: &view, key, snapshot };
            let basis = || Basis::at_once(self.read_context(keyspace, millis));
            let ahead = Some(ahead[number % ASKED_MAX]);
            let found = find_from(ahead, target, basis, &mut announcer)?;
            values.push(found.map(Found::into_value));
        }
        Ok(values)
    }
}
