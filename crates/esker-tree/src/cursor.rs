//! The cursor trait: a position among the entries of one sorted source, with the same calls for all
//! kinds of sources.
//!
//! A cursor shows internal keys: every version and every tombstone, in the order of
//! [`InternalKey`]. It borrows what it shows, so stepping over an entry allocates and copies
//! nothing. [`VisibleCursor`](crate::VisibleCursor) derives from it what a user sees.
//!
//! Does not know how a source stores its entries, nor which of them a reader may see.

mod below;
#[cfg(test)]
pub(crate) mod vec_cursor;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use esker_base::{Corruption, InternalKey, SeqNo, Trailer};
use esker_env::FileError;
use esker_memtable::MemtableSlice;
use esker_table::BlockSlice;

/// A position in a sorted source of entries, or outside it ("not valid").
///
/// A new cursor is not valid; a seek positions it. After an error it is not valid until another
/// seek.
pub trait Cursor {
    /// Whether the cursor is positioned on an entry.
    fn is_valid(&self) -> bool;

    /// The internal key of the entry.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn key(&self) -> InternalKey<'_>;

    /// [`key_head`](esker_base::key_head) of the entry's user key.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn head(&self) -> u64;

    /// The value of the entry; empty for a tombstone.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn value(&self) -> &[u8];

    /// Going forward, passes entries hidden by a range tombstone that covers the keys from the
    /// current one up to `end`, exclusive: entries below sequence number `below`. An empty `end`
    /// means no end. False if nothing could be passed without looking at it; the cursor has then
    /// not moved.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError>;

    /// As [`Cursor::skip_to`], going back to the last entry before `start`.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError>;

    /// The value, kept alive after the cursor has moved on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    ///
    /// # Cost
    /// A reference count; no copy.
    fn pinned_value(&self) -> PinnedValue;

    /// Moves to the first entry at or after `target`.
    ///
    /// # Errors
    /// Of reading a table.
    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError>;

    /// Moves to the last entry at or before `target`.
    ///
    /// # Errors
    /// Of reading a table.
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError>;

    /// The first part of a seek to an entry of `user_key`, for sources whose seeks have parts:
    /// finds where to look. A seek over several sources does this in all of them, then each of the
    /// following parts, and nothing in between, so that their waits for memory overlap.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    #[inline]
    fn approach(&mut self, _user_key: &[u8]) -> Result<(), FileError> {
        Ok(())
    }

    /// The second part, which is optional: prefetches the start of that place.
    #[inline]
    fn prefetch_head(&mut self, _user_key: &[u8]) {}

    /// Instead of the second part, for a seek that will wait for the device: makes the system start
    /// reading the place. Does not wait.
    #[inline]
    fn announce(&self) {}

    /// The third part: pins the place, and prefetches its keys. `waits` is called before a wait for
    /// the device, and may announce other sources. Returns whether a block was read.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    #[inline]
    fn hold_approached(
        &mut self,
        _user_key: &[u8],
        _waits: Option<&mut dyn FnMut()>,
    ) -> Result<bool, FileError> {
        Ok(false)
    }

    /// The last part of [`Cursor::seek`]: the user key of `target` was approached.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    #[inline]
    fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek(target)
    }

    /// The last part of [`Cursor::seek_for_prev`].
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    #[inline]
    fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev(target)
    }

    /// [`Cursor::seek`] for a caller going forward, to a `target` after the current entry.
    ///
    /// # Errors
    /// Of reading a table; `Corruption` if it leads backward, as it can if entries are out of
    /// order: otherwise a caller going forward by seeks might never end.
    fn seek_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek(target)
    }

    /// As [`Cursor::seek_on`], going back.
    ///
    /// # Errors
    /// As [`Cursor::seek_on`].
    fn seek_back_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev(target)
    }

    /// The error if entries prove to be out of order.
    fn out_of_order(&self) -> FileError {
        Corruption::new("a table", 0, "keys do not ascend").into()
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// Of reading a table.
    fn seek_to_first(&mut self) -> Result<(), FileError>;

    /// Moves to the last entry.
    ///
    /// # Errors
    /// Of reading a table.
    fn seek_to_last(&mut self) -> Result<(), FileError>;

    /// Moves one entry forward; past the last one the cursor is not valid.
    ///
    /// # Errors
    /// Of reading a table.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn next(&mut self) -> Result<(), FileError>;

    /// Moves one entry back; before the first one the cursor is not valid.
    ///
    /// # Errors
    /// Of reading a table.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn prev(&mut self) -> Result<(), FileError>;

    /// Moves one entry forward if that entry is at hand and of another user key, and returns it;
    /// `None` if that takes [`Cursor::next`], and then nothing has changed.
    fn step(&mut self) -> Option<Step>;

    /// As [`Cursor::step`], going back.
    fn step_back(&mut self) -> Option<Step>;

    /// Whether it is certain, without a move, that the previous entry is of another user key; only
    /// for a cursor going back.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn is_first_of_key(&self) -> bool;
}

/// The entry to which a step has led: as much as is usually needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// [`Cursor::head`].
    pub head: u64,
    /// That of [`Cursor::key`].
    pub trailer: Trailer,
}

/// A value that outlives the cursor that showed it.
#[derive(Clone)]
pub enum PinnedValue {
    /// In the memory of a memtable.
    Memtable(MemtableSlice),
    /// In a block of a table.
    Block(BlockSlice),
    /// In its own memory.
    Owned(Arc<[u8]>),
}

impl Deref for PinnedValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memtable(slice) => slice,
            Self::Block(slice) => slice,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for PinnedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}
