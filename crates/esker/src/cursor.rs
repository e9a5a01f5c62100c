//! The public cursor: seek anywhere, move both ways, borrow the current entry.

use std::sync::Arc;

use esker_base::{KeyRange, SeqNo};
use esker_tree::{MergingCursor, SEARCHES_PER_READ, SourceCursor, SteppedOver, VisibleCursor};

use crate::bytes::{Bytes, Key, PINNED_LEN_MIN, Value};
use crate::engine::Engine;
use crate::engine::snapshots::PinnedSeqNo;
use crate::error::Result;
use crate::key_order::KeyOrder;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::ReadView;
use crate::read::AsOf;
use crate::read::sources::{coverage, prefix_excludes, run_count, source_cursors};

/// A movable position among the entries of a keyspace, as of one moment.
///
/// Owned and `Send`. It shows the keyspace as it was when the cursor was created or last refreshed,
/// and keeps the memtables and tables of that moment alive; so a long-lived cursor should be
/// refreshed.
///
/// A new cursor is not valid; any seek positions it. After an error it is not valid either, except
/// that a failed [`Cursor::refresh`] leaves it as it was.
///
/// # Cost
/// A seek costs a search in every memtable and run of the range; a step costs some ten
/// nanoseconds and no allocation. Where filters hold prefixes and all keys of the range share one,
/// creating the cursor asks the filter of one table in each run, and leaves the run out if the
/// filter rules the prefix out.
pub struct Cursor {
    inner: VisibleCursor<MergingCursor<SourceCursor>>,
    /// Where keys are not stored as they are.
    shown: Option<ShownKey>,
    origin: Origin,
}

/// The current key, as the user knows it.
struct ShownKey {
    code: Arc<dyn KeyOrder>,
    key: Vec<u8>,
    /// The key could not be decoded: the cursor is not valid.
    is_bad: bool,
}

/// What a cursor was created from, to create it again.
struct Origin {
    engine: Arc<Engine>,
    keyspace: Arc<KeyspaceCore>,
    range: KeyRange,
    pin: Option<Arc<PinnedSeqNo>>,
    /// How many memtables and runs are merged.
    sources: usize,
    /// How many runs each seek searches beyond the first.
    extra_runs: u32,
    /// Seeks not yet counted for the keyspace.
    seeks: u32,
    /// Blocks that seeks have read, as the merge counts them; and how many of them are counted for
    /// the keyspace.
    blocks_read: u32,
    blocks_told: u32,
    keys_only: bool,
}

/// A keyspace at one moment, with everything that a cursor reads.
#[derive(Clone)]
pub(crate) struct Moment {
    engine: Arc<Engine>,
    keyspace: Arc<KeyspaceCore>,
    view: Arc<ReadView>,
    seqno: SeqNo,
    /// What expiry goes by, in milliseconds since the epoch.
    millis: u64,
    /// Where keys are not stored as they are.
    code: Option<Arc<dyn KeyOrder>>,
    pin: Option<Arc<PinnedSeqNo>>,
}

impl Moment {
    /// That of `pin`, or now.
    ///
    /// # Errors
    /// If the database is closed, or the keyspace dropped.
    pub(crate) fn take(
        engine: &Arc<Engine>,
        keyspace: &Arc<KeyspaceCore>,
        pin: Option<Arc<PinnedSeqNo>>,
    ) -> Result<Self> {
        engine.check_open()?;
        let code = keyspace.key_code()?;
        let AsOf { view, seqno, millis } = engine.as_of(keyspace, pin.as_deref())?;
        Ok(Self {
            engine: Arc::clone(engine),
            keyspace: Arc::clone(keyspace),
            view,
            seqno,
            millis,
            code,
            pin,
        })
    }

    /// Releases it, and with it files that nobody else holds.
    pub(crate) fn let_go(self) {
        let engine = Arc::clone(&self.engine);
        drop(self);
        if !engine.garbage.is_empty() {
            engine.collect_garbage();
        }
    }
}

/// How many seeks of one cursor are counted for its keyspace at a time.
const SEEKS_COUNTED: u32 = 1024;

impl Origin {
    /// Counts a seek and the blocks that seeks have read; passes the counts on to the keyspace from
    /// time to time.
    #[inline]
    fn count_seek(&mut self, blocks_read: u32) {
        self.seeks += 1;
        self.blocks_read = blocks_read;
        if self.seeks == SEEKS_COUNTED {
            self.tell_seeks();
        }
    }

    /// Of what seeks have read, a merge would spare the share of the runs beyond the first.
    fn tell_seeks(&mut self) {
        let extra = u64::from(self.extra_runs);
        let read = self
            .blocks_read
            .wrapping_sub(std::mem::replace(&mut self.blocks_told, self.blocks_read));
        let searches = u64::from(std::mem::take(&mut self.seeks)) * extra
            + u64::from(read) * SEARCHES_PER_READ * extra / (extra + 1);
        if searches > 0 {
            self.engine.note_searches(&self.keyspace, searches);
        }
    }
}

impl Cursor {
    /// A cursor over the stored keys of `range`.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        keyspace: &Arc<KeyspaceCore>,
        range: KeyRange,
        pin: Option<Arc<PinnedSeqNo>>,
    ) -> Result<Self> {
        Self::at(Moment::take(engine, keyspace, pin)?, range)
    }

    /// A cursor over the stored keys of `range` at that moment.
    pub(crate) fn at(moment: Moment, range: KeyRange) -> Result<Self> {
        let Moment { engine, keyspace, view, seqno, millis, code, pin } = moment;
        let shown = code.map(|code| ShownKey { code, key: Vec::new(), is_bad: false });
        let counters = &engine.counters;
        let sources =
            source_cursors(&view, &range, seqno, |table| prefix_excludes(table, &range, counters))?;
        let context = engine.read_context(&keyspace, millis);
        let origin = Origin {
            engine,
            keyspace,
            range: range.clone(),
            pin,
            sources: sources.len(),
            extra_runs: run_count(&sources).saturating_sub(1),
            seeks: 0,
            blocks_read: 0,
            blocks_told: 0,
            keys_only: false,
        };
        let inner = VisibleCursor::new(MergingCursor::new(sources), seqno, range, context)
            .with_coverage(coverage(&view, seqno));
        Ok(Self { inner, shown, origin })
    }

    /// From the next move on, does not read values in blob files, and shows them as empty.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.origin.keys_only = true;
        self.inner.show_keys_only();
        self
    }

    /// Whether the cursor is positioned on an entry.
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.inner.is_valid() && !self.shown.as_ref().is_some_and(|shown| shown.is_bad)
    }

    /// The key of the current entry.
    ///
    /// # Panics
    /// If it is not valid.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match &self.shown {
            None => self.inner.key(),
            Some(shown) => {
                assert!(self.is_valid(), "the cursor is valid");
                &shown.key
            }
        }
    }

    /// The current key, as stored in the tree.
    pub(crate) fn stored_key(&self) -> &[u8] {
        self.inner.key()
    }

    /// The value of the current entry.
    ///
    /// # Panics
    /// If it is not valid.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.inner.value()
    }

    /// The current key and value, as owned values.
    ///
    /// # Panics
    /// If it is not valid.
    ///
    /// # Cost
    /// Copies the key, and the value if it is small; a large value is shared, not copied.
    #[must_use]
    pub fn entry(&self) -> (Key, Value) {
        let value = self.inner.value();
        let value = if value.len() < PINNED_LEN_MIN {
            Bytes::copy_of(value)
        } else {
            Bytes::of_pinned(self.inner.pinned_value())
        };
        (Bytes::copy_of(self.key()), value)
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.inner.seek_to_first().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.inner.seek_to_last().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the first entry whose key is not less than `key`.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let key = self.origin.keyspace.stored_bound(key.as_ref())?;
        self.inner.seek(&key).map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the last entry whose key is not greater than `key`.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let key = self.origin.keyspace.stored_bound(key.as_ref())?;
        self.inner.seek_for_prev(&key).map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the next entry; after the last one, the cursor is not valid.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[expect(clippy::should_implement_trait, reason = "a cursor lends its entries and can fail")]
    pub fn next(&mut self) -> Result<()> {
        self.inner.next().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.show_key()
    }

    /// Moves to the previous entry; before the first one, the cursor is not valid.
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get), but for `Closed` and a key that is too long.
    ///
    /// # Panics
    /// If the cursor is not valid.
    pub fn prev(&mut self) -> Result<()> {
        self.inner.prev().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.show_key()
    }

    /// Makes the cursor show the keyspace as it is now, or still as of its snapshot if it was
    /// created from one, and releases memtables and tables that are no longer part of it. A valid
    /// cursor is positioned on the same key, or on the next one that exists.
    ///
    /// # Errors
    /// If the database is closed, the keyspace was dropped, or a table cannot be read. The cursor
    /// then stays where it was, and shows what it did before.
    pub fn refresh(&mut self) -> Result<()> {
        let origin = &self.origin;
        let key = self.is_valid().then(|| self.key().to_vec());
        let mut fresh =
            Self::new(&origin.engine, &origin.keyspace, origin.range.clone(), origin.pin.clone())?;
        if origin.keys_only {
            fresh = fresh.keys_only();
        }
        if let Some(key) = key {
            fresh.seek(key)?;
        }
        *self = fresh;
        Ok(())
    }

    /// How many memtables and runs the cursor merges: those that can hold a key of its range.
    #[must_use]
    pub fn source_count(&self) -> usize {
        self.origin.sources
    }

    /// Decodes the current key, where that is needed.
    #[inline]
    fn show_key(&mut self) -> Result<()> {
        match &mut self.shown {
            Some(shown) if self.inner.is_valid() => {
                shown.key.clear();
                let keyspace = &self.origin.keyspace;
                let decoded = keyspace.decode_key(&*shown.code, self.inner.key(), &mut shown.key);
                shown.is_bad = decoded.is_err();
                decoded
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn stepped_over(&self) -> SteppedOver {
        self.inner.stepped_over()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tell_seeks();
        // The sources are gone by now: fields drop in order, and `inner` is before `origin`.
        if !self.engine.garbage.is_empty() {
            self.engine.collect_garbage();
        }
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cursor over {:?}", self.origin.keyspace)
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as of {:?}", self.keyspace, self.seqno)
    }
}
