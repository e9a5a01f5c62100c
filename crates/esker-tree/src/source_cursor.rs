//! One type for a cursor over any source of a tree: memtable, table or run.

use esker_base::{InternalKey, SeqNo};
use esker_env::FileError;
use esker_memtable::MemtableCursor;
use esker_table::TableCursor;

use crate::cursor::{Cursor, PinnedValue, Step};
use crate::run_cursor::RunCursor;

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

    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError> {
        on_source!(self, cursor => cursor.skip_to(end, below))
    }

    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError> {
        on_source!(self, cursor => cursor.skip_back_to(start, below))
    }

    fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::approach(cursor, user_key))
    }

    fn prefetch_head(&mut self, user_key: &[u8]) {
        on_source!(self, cursor => Cursor::prefetch_head(cursor, user_key));
    }

    fn announce(&self) {
        on_source!(self, cursor => Cursor::announce(cursor));
    }

    fn hold_approached(
        &mut self,
        user_key: &[u8],
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<bool, FileError> {
        on_source!(self, cursor => Cursor::hold_approached(cursor, user_key, waits))
    }

    fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_approached(cursor, target))
    }

    fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_for_prev_approached(cursor, target))
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek(cursor, target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_for_prev(cursor, target))
    }

    fn seek_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_on(cursor, target))
    }

    fn seek_back_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        on_source!(self, cursor => Cursor::seek_back_on(cursor, target))
    }

    fn out_of_order(&self) -> FileError {
        on_source!(self, cursor => Cursor::out_of_order(cursor))
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

    #[inline]
    fn step(&mut self) -> Option<Step> {
        on_source!(self, cursor => Cursor::step(cursor))
    }

    #[inline]
    fn step_back(&mut self) -> Option<Step> {
        on_source!(self, cursor => Cursor::step_back(cursor))
    }

    #[inline]
    fn is_first_of_key(&self) -> bool {
        on_source!(self, cursor => Cursor::is_first_of_key(cursor))
    }
}

#[cfg(test)]
mod tests;
