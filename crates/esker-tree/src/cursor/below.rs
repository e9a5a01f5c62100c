//! The cursors of the floors below as [`Cursor`].

use esker_base::InternalKey;
use esker_env::FileError;
use esker_memtable::MemtableCursor;
use esker_table::TableCursor;

use super::{Cursor, PinnedValue};

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

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek(target);
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_for_prev(target);
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
}
