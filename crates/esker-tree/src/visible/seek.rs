//! Seeks of the user's view: they position the source so that what is shown is in the range.

use std::ops::Bound;

use esker_base::InternalKey;

use crate::cursor::Cursor;
use crate::read_error::ReadError;

use super::{Position, VisibleCursor, first_of_key, last_of_key};

impl<C: Cursor> VisibleCursor<C> {
    fn leave(&mut self) {
        self.position = Position::Invalid;
        self.turned_at = None;
    }

    /// Moves to the first key of the range.
    ///
    /// # Errors
    /// Of reading a table, of merging the operands of a key, or an entry of a kind that this
    /// release does not know the meaning of.
    pub fn seek_to_first(&mut self) -> Result<(), ReadError> {
        self.leave();
        if self.range.is_empty() {
            return Ok(());
        }
        match &self.range.start {
            Bound::Unbounded => self.source.seek_to_first()?,
            Bound::Included(start) => {
                self.source.seek(InternalKey::seek(start, self.snapshot))?;
            }
            Bound::Excluded(start) if esker_base::planted::is("wrong-bound-in-range-scan") => {
                self.source.seek(first_of_key(start))?;
            }
            Bound::Excluded(start) => self.source.seek(last_of_key(start))?,
        }
        self.show_next()
    }

    /// Moves to the last key of the range.
    ///
    /// # Errors
    /// As [`VisibleCursor::seek_to_first`].
    pub fn seek_to_last(&mut self) -> Result<(), ReadError> {
        self.leave();
        if self.range.is_empty() {
            return Ok(());
        }
        match &self.range.end {
            Bound::Unbounded => self.source.seek_to_last()?,
            Bound::Included(end) => self.source.seek_for_prev(last_of_key(end))?,
            Bound::Excluded(end) => self.source.seek_for_prev(first_of_key(end))?,
        }
        self.show_prev()
    }

    /// Moves to the first key of the range that is not less than `key`.
    ///
    /// # Errors
    /// As [`VisibleCursor::seek_to_first`].
    pub fn seek(&mut self, key: &[u8]) -> Result<(), ReadError> {
        if self.range.starts_after(key) {
            return self.seek_to_first();
        }
        self.leave();
        if self.range.ends_before(key) {
            return Ok(());
        }
        self.source.seek(InternalKey::seek(key, self.snapshot))?;
        self.show_next()
    }

    /// Moves to the last key of the range that is not greater than `key`.
    ///
    /// # Errors
    /// As [`VisibleCursor::seek_to_first`].
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<(), ReadError> {
        if self.range.ends_before(key) {
            return self.seek_to_last();
        }
        self.leave();
        if self.range.starts_after(key) {
            return Ok(());
        }
        let target = if esker_base::planted::is("wrong-bound-in-seek-for-prev") {
            first_of_key(key)
        } else {
            last_of_key(key)
        };
        self.source.seek_for_prev(target)?;
        self.show_prev()
    }
}
