//! The cursors of the floors below as [`Cursor`].

use std::cmp::Ordering;

use esker_base::{InternalKey, SeqNo};
use esker_env::FileError;
use esker_memtable::MemtableCursor;
use esker_table::TableCursor;

use super::{Cursor, PinnedValue, Step};

impl Cursor for MemtableCursor {
    #[inline]
    fn is_valid(&self) -> bool {
        self.is_valid()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.key()
    }

    #[inline]
    fn head(&self) -> u64 {
        self.head()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.value()
    }

    fn pinned_value(&self) -> PinnedValue {
        PinnedValue::Memtable(self.value_slice())
    }

    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError> {
        // A write that comes in between is newer than any reader who passes something here.
        let newest = self.memtable().entry_seqno_range().map(|(_, newest)| newest);
        if newest.is_some_and(|newest| below <= newest) {
            return Ok(false);
        }
        skip_forward(self, end).map(|()| true)
    }

    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError> {
        let newest = self.memtable().entry_seqno_range().map(|(_, newest)| newest);
        if newest.is_some_and(|newest| below <= newest) {
            return Ok(false);
        }
        self.seek_for_prev(InternalKey::seek(start, SeqNo::MAX));
        Ok(true)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek(target);
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev(target);
        Ok(())
    }

    fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        self.approach(user_key);
        Ok(())
    }

    fn prefetch_head(&mut self, user_key: &[u8]) {
        self.prefetch_approached(user_key);
    }

    fn hold_approached(
        &mut self,
        user_key: &[u8],
        _waits: Option<&mut dyn FnMut()>,
    ) -> Result<bool, FileError> {
        MemtableCursor::hold_approached(self, user_key);
        Ok(false)
    }

    fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_approached(target);
        Ok(())
    }

    fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev_approached(target);
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        self.seek_to_first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        self.seek_to_last();
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<(), FileError> {
        self.next();
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), FileError> {
        self.prev();
        Ok(())
    }

    #[inline]
    fn step(&mut self) -> Option<Step> {
        let head = self.step()?;
        Some(Step { head, trailer: self.key().trailer })
    }

    #[inline]
    fn step_back(&mut self) -> Option<Step> {
        let head = self.step_back()?;
        Some(Step { head, trailer: self.key().trailer })
    }

    #[inline]
    fn is_first_of_key(&self) -> bool {
        self.is_first_of_key()
    }
}

impl Cursor for TableCursor {
    #[inline]
    fn is_valid(&self) -> bool {
        self.is_valid()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.key()
    }

    #[inline]
    fn head(&self) -> u64 {
        self.head()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.value()
    }

    fn pinned_value(&self) -> PinnedValue {
        PinnedValue::Block(self.value_slice())
    }

    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if below <= self.table().properties().seqno_max {
            return Ok(false);
        }
        moves(self, Ordering::Greater, |cursor| skip_forward(cursor, end)).map(|()| true)
    }

    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if below <= self.table().properties().seqno_max {
            return Ok(false);
        }
        self.seek_back_on(InternalKey::seek(start, SeqNo::MAX))?;
        Ok(true)
    }

    fn seek_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        moves(self, Ordering::Greater, |cursor| cursor.seek(target))
    }

    fn seek_back_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        moves(self, Ordering::Less, |cursor| cursor.seek_for_prev(target))
    }

    fn out_of_order(&self) -> FileError {
        self.out_of_order()
    }

    fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        self.approach(user_key)
    }

    fn prefetch_head(&mut self, _user_key: &[u8]) {
        TableCursor::prefetch_head(self);
    }

    fn announce(&self) {
        self.announce();
    }

    fn hold_approached(
        &mut self,
        _user_key: &[u8],
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<bool, FileError> {
        TableCursor::hold_approached(self, waits)
    }

    fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_approached(target)
    }

    fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev_approached(target)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek(target)
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev(target)
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        self.seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        self.seek_to_last()
    }

    #[inline]
    fn next(&mut self) -> Result<(), FileError> {
        self.next()
    }

    #[inline]
    fn prev(&mut self) -> Result<(), FileError> {
        self.prev()
    }

    #[inline]
    fn step(&mut self) -> Option<Step> {
        let head = self.step()?;
        Some(Step { head, trailer: self.trailer() })
    }

    #[inline]
    fn step_back(&mut self) -> Option<Step> {
        let head = self.step_back()?;
        Some(Step { head, trailer: self.trailer() })
    }

    #[inline]
    fn is_first_of_key(&self) -> bool {
        self.is_first_of_key()
    }
}

/// Moves `cursor`, and refuses a table in which that leads to a place that is not `way` of where it stood.
fn moves(
    cursor: &mut TableCursor,
    way: Ordering,
    go: impl FnOnce(&mut TableCursor) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let before = cursor.place();
    go(cursor)?;
    let is_lost = cursor.is_valid() && cursor.place().cmp(&before) != way;
    if is_lost { Err(cursor.out_of_order()) } else { Ok(()) }
}

/// Goes to the first entry at or after `end`; past the last one if that is empty.
fn skip_forward(cursor: &mut impl Cursor, end: &[u8]) -> Result<(), FileError> {
    if !end.is_empty() {
        return cursor.seek(InternalKey::seek(end, SeqNo::MAX));
    }
    cursor.seek_to_last()?;
    if cursor.is_valid() { cursor.next() } else { Ok(()) }
}
