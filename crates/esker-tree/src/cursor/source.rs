//! The cursors of the floors below as [`Cursor`], and one type for any of them.

use esker_base::InternalKey;
use esker_env::FileError;
use esker_memtable::MemtableCursor;
use esker_table::TableCursor;

use super::{Cursor, PinnedValue};
use crate::run_cursor::RunCursor;

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

/// A cursor over any source of a tree, without virtual calls.
pub enum SourceCursor {
    /// Over a memtable.
    Memtable(MemtableCursor),
    /// Over one table.
    Table(TableCursor),
    /// Over the tables of one run.
    Run(RunCursor),
}

/// Calls a method of whichever cursor it is.
macro_rules! on_source {
    ($source:expr, $cursor:ident => $call:expr) => {
        match $source {
            SourceCursor::Memtable($cursor) => $call,
            SourceCursor::Table($cursor) => $call,
            SourceCursor::Run($cursor) => $call,
        }
    };
}

impl Cursor for SourceCursor {
    #[inline]
    fn is_valid(&self) -> bool {
        on_source!(self, cursor => cursor.is_valid())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        on_source!(self, cursor => cursor.key())
    }

    #[inline]
    fn head(&self) -> u64 {
        on_source!(self, cursor => cursor.head())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        on_source!(self, cursor => cursor.value())
    }

    fn pinned_value(&self) -> PinnedValue {
        on_source!(self, cursor => cursor.pinned_value())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek(cursor, target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_for_prev(cursor, target))
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_to_first(cursor))
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_to_last(cursor))
    }

    #[inline]
    fn next(&mut self) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::next(cursor))
    }

    #[inline]
    fn prev(&mut self) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::prev(cursor))
    }
}

#[cfg(test)]
mod tests;
