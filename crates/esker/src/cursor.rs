//! The public cursor: seek anywhere, walk both ways, borrow what stands there.

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
use crate::read::sources::{coverage, prefix_excludes, run_count, source_cursors};

/// A place in a keyspace at one moment, that can be moved.
///
/// Owned and `Send`. It shows the keyspace as it was when the cursor was made, or refreshed last,
/// and keeps memtables and tables of that moment alive: a long-lived one should be refreshed.
///
/// Made not valid; any seek places it. After an error it is not valid, but for one of
/// [`Cursor::refresh`], which leaves it as it was.
///
/// # Cost
/// A seek costs a search in every memtable and run of the range; a step costs some ten
/// nanoseconds and no allocation. Where filters hold prefixes and all keys of the range have one of
/// them, making the cursor asks the filter of one table in each run, and leaves that run out if the
/// filter says so.
pub struct Cursor {
    inner: VisibleCursor<MergingCursor<SourceCursor>>,
    /// Where keys are not stored as they are.
    shown: Option<ShownKey>,
    origin: Origin,
}

/// The key on which a cursor stands, as its user knows it.
struct ShownKey {
    code: Arc<dyn KeyOrder>,
    key: Vec<u8>,
    /// The key could not be decoded: the cursor is not valid.
    is_bad: bool,
}

/// What a cursor was made from, to make it anew.
struct Origin {
    engine: Arc<Engine>,
    keyspace: Arc<KeyspaceCore>,
    range: KeyRange,
    pin: Option<Arc<PinnedSeqNo>>,
    /// How many memtables and runs are merged.
    sources: usize,
    /// How many runs of them each seek searches beyond one.
    extra_runs: u32,
    /// Seeks that were not counted for the keyspace yet.
    seeks: u32,
    /// Blocks that seeks have read, as the merge counts them; those that were counted for the keyspace.
    blocks_read: u32,
    blocks_told: u32,
    keys_only: bool,
}

/// A keyspace at one moment, with all that a cursor reads.
#[derive(Clone)]
pub(crate) struct Moment {
    engine: Arc<Engine>,
    keyspace: Arc<KeyspaceCore>,
    view: Arc<ReadView>,
    seqno: SeqNo,
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
        let (view, seqno) = keyspace.view_with_seqno(|| {
            pin.as_ref().map_or_else(|| engine.snapshots.visible(), |pin| pin.seqno())
        });
        // Behind the view: see `live_view`.
        keyspace.check_live()?;
        Ok(Self {
            engine: Arc::clone(engine),
            keyspace: Arc::clone(keyspace),
            view,
            seqno,
            code,
            pin,
        })
    }

    /// Lets go of it, and of files that nobody else holds.
    pub(crate) fn let_go(self) {
        let engine = Arc::clone(&self.engine);
        drop(self);
        if !engine.garbage.is_empty() {
            engine.collect_garbage();
        }
    }
}

/// Seeks of one cursor that are counted for its keyspace together.
const SEEKS_COUNTED: u32 = 1024;

impl Origin {
    /// Counts a seek, with all blocks that seeks have read. One that lives on tells the keyspace now
    /// and then.
    #[inline]
    fn count_seek(&mut self, blocks_read: u32) {
        self.seeks += 1;
        self.blocks_read = blocks_read;
        if self.seeks == SEEKS_COUNTED {
            self.tell_seeks();
        }
    }

    /// Of what seeks have read, the part of the runs beyond one is what a merge would spare.
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
        let Moment { engine, keyspace, view, seqno, code, pin } = moment;
        let shown = code.map(|code| ShownKey { code, key: Vec::new(), is_bad: false });
        let counters = &engine.counters;
        let sources =
            source_cursors(&view, &range, seqno, |table| prefix_excludes(table, &range, counters))?;
        let context = engine.read_context(&keyspace, engine.time_of(pin.as_deref()));
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

    /// From the next move on, shows keys alone: a value that lies in a blob file is not read, and is
    /// shown as an empty one.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.origin.keys_only = true;
        self.inner.show_keys_only();
        self
    }

    /// Whether the cursor stands on an entry.
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.inner.is_valid() && !self.shown.as_ref().is_some_and(|shown| shown.is_bad)
    }

    /// The key on which the cursor stands.
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

    /// The key as the tree holds it.
    pub(crate) fn stored_key(&self) -> &[u8] {
        self.inner.key()
    }

    /// The value on which the cursor stands.
    ///
    /// # Panics
    /// If it is not valid.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.inner.value()
    }

    /// The key and value on which the cursor stands, to keep.
    ///
    /// # Panics
    /// If it is not valid.
    ///
    /// # Cost
    /// Copies the key, and the value if it is small; a large one is kept where it lies.
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
    /// If a table cannot be read.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.inner.seek_to_first().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.inner.seek_to_last().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the first entry whose key is not less than `key`.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let key = self.origin.keyspace.stored_bound(key.as_ref())?;
        self.inner.seek(&key).map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the last entry whose key is not greater than `key`.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let key = self.origin.keyspace.stored_bound(key.as_ref())?;
        self.inner.seek_for_prev(&key).map_err(|error| self.origin.keyspace.read_error(error))?;
        self.origin.count_seek(self.inner.source().blocks_read());
        self.show_key()
    }

    /// Moves to the next entry; not valid behind the last one.
    ///
    /// # Errors
    /// If a table cannot be read.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[expect(clippy::should_implement_trait, reason = "a cursor lends its entries and can fail")]
    pub fn next(&mut self) -> Result<()> {
        self.inner.next().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.show_key()
    }

    /// Moves to the entry before; not valid before the first one.
    ///
    /// # Errors
    /// If a table cannot be read.
    ///
    /// # Panics
    /// If the cursor is not valid.
    pub fn prev(&mut self) -> Result<()> {
        self.inner.prev().map_err(|error| self.origin.keyspace.read_error(error))?;
        self.show_key()
    }

    /// Shows the keyspace as it is now, or still as of its snapshot if it was made from one, and
    /// lets go of memtables and tables that are no longer part of it. A valid cursor is placed on
    /// the same key, or the next one that exists.
    ///
    /// # Errors
    /// If the database is closed, the keyspace was dropped, or a table cannot be read. The cursor is
    /// where it was then, and shows what it did.
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

    /// Decodes the key on which the cursor stands, where that is needed.
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
