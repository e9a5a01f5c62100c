//! The cursor: a place among the entries of one sorted source, and the same calls on all of them.
//!
//! A cursor sees internal keys: every version and every tombstone, in the order of
//! [`InternalKey`]. It borrows what it shows, so that stepping over an entry allocates and copies
//! nothing. What a user sees is made of it by [`VisibleCursor`](crate::VisibleCursor).
//!
//! Does not know how the source keeps its entries, nor which of them a reader may see.

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

/// A place in a sorted source of entries, or outside of it ("not valid").
///
/// A cursor is made not valid; a seek places it. After an error it is not valid, and only another
/// seek makes it so.
pub trait Cursor {
    /// Whether the cursor stands on an entry.
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

    /// Going forward, passes entries that a range tombstone over the keys from the current one up to
    /// `end`, which is none of them, hides: those below sequence number `below`. An empty `end` is
    /// no end. False if nothing could be passed without looking at it; the cursor then stands where
    /// it stood.
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

    /// The first part of a seek to an entry of `user_key`, where that has parts: finds out where to
    /// look. Whoever seeks in several sources does this in all of them, then each of the following
    /// parts, and nothing in between, so that they wait for memory together.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    #[inline]
    fn approach(&mut self, _user_key: &[u8]) -> Result<(), FileError> {
        Ok(())
    }

    /// The second part, which may be left out: asks for what that place starts with.
    #[inline]
    fn ask_head(&mut self, _user_key: &[u8]) {}

    /// Instead of the second part, for a seek that will wait for the device: has the system start
    /// to read the place. Waits for nobody.
    #[inline]
    fn announce(&self) {}

    /// The third part: holds the place, and asks for its keys. `waits` is called before it is waited
    /// for the device, and may announce other sources. Returns whether a block was read for it.
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

    /// [`Cursor::seek`] of one who goes forward, to a `target` behind the entry that the cursor stands on.
    ///
    /// # Errors
    /// Of reading a table; `Corruption` if that leads back, as it does where entries are out of order: who
    /// goes forward by seeks would never come to an end.
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

    /// What to say where the entries prove to be out of order.
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

    /// Moves one entry on; past the last one the cursor is not valid.
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

    /// Moves one entry on if that one is at hand and of another user key, and returns where that
    /// leads; `None` if it takes [`Cursor::next`] to say, and then nothing has changed.
    fn step(&mut self) -> Option<Step>;

    /// As [`Cursor::step`], going back.
    fn step_back(&mut self) -> Option<Step>;

    /// Whether it is certain, without a move, that the entry before is of another user key; only
    /// for a cursor that goes back.
    ///
    /// # Panics
    /// If the cursor is not valid.
    fn is_first_of_key(&self) -> bool;
}

/// The entry to which a step has led, as far as mostly nothing more has to be known about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// [`Cursor::head`].
    pub head: u64,
    /// That of [`Cursor::key`].
    pub trailer: Trailer,
}

/// A value that outlives the cursor which showed it.
#[derive(Clone)]
pub enum PinnedValue {
    /// In the memory of a memtable.
    Memtable(MemtableSlice),
    /// In a block of a table.
    Block(BlockSlice),
    /// In memory of its own.
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
