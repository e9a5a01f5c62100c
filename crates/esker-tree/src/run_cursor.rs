//! A cursor over one run: its tables, one after another.
//!
//! Opens a table only when it is reached, and none outside its key range. From the tables at the
//! ends of the range it also shows entries outside; the caller must keep to the range.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use esker_base::{Corruption, InternalKey, KeyRange, SeqNo};
use esker_env::FileError;
use esker_table::{Blocks, Table, TableCursor};

use crate::cursor::{Cursor, PinnedValue, Step};
use crate::run::Run;

/// The entries of the tables of one run.
///
/// # Cost
/// A seek is one binary search over integers and a seek in one table. Crossing from one table to
/// the next opens a cursor on it.
pub struct RunCursor {
    run: Arc<Run>,
    /// The tables of the run from `first` up to `end`, exclusive, are shown.
    first: usize,
    end: usize,
    blocks: Blocks,
    /// Whether tables are closed when the cursor leaves them.
    closes: bool,
    /// On the table at `index`; `None` until the first seek.
    table: Option<TableCursor>,
    index: usize,
}

impl RunCursor {
    /// A cursor over the tables of `run` that may hold a key of `range`. With `fill_cache`, blocks
    /// that it reads stay in the cache.
    #[must_use]
    pub fn new(run: Arc<Run>, range: &KeyRange, fill_cache: bool) -> Self {
        Self::with_blocks(run, range, if fill_cache { Blocks::Kept } else { Blocks::Passing })
    }

    /// A cursor over all tables of `run` that keeps only its current table open, for callers that
    /// read more tables than they may have open files. Bypasses the cache.
    #[must_use]
    pub fn closing(run: Arc<Run>) -> Self {
        Self { closes: true, ..Self::with_blocks(run, &KeyRange::all(), Blocks::Passing) }
    }

    /// As [`RunCursor::new`], for a caller that will replace the tables by what it reads.
    #[must_use]
    pub fn last_reader(run: Arc<Run>, range: &KeyRange) -> Self {
        Self::with_blocks(run, range, Blocks::ReadLast)
    }

    fn with_blocks(run: Arc<Run>, range: &KeyRange, blocks: Blocks) -> Self {
        let Range { start: first, end } = run.places(range);
        Self { run, first, end, blocks, closes: false, table: None, index: 0 }
    }

    /// The table of the current entry.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        self.current().table()
    }

    #[inline]
    fn current(&self) -> &TableCursor {
        self.table.as_ref().expect("the cursor is valid")
    }

    /// The cursor on the table at `index`, which is one of those shown.
    fn open(&mut self, index: usize) -> &mut TableCursor {
        if self.index != index {
            self.table = None;
        }
        self.index = index;
        self.table.get_or_insert_with(|| {
            let table = &self.run.tables()[index];
            if self.closes {
                table.anew().cursor_with(self.blocks)
            } else {
                table.cursor_with(self.blocks)
            }
        })
    }

    /// The position of the cursor in the run, or its last position.
    fn place(&self) -> (usize, Option<(usize, usize, usize)>) {
        (self.index, self.table.as_ref().map(TableCursor::place))
    }

    /// Refuses damaged tables: those in which a move from `before` to a key that is `way` of it has
    /// not led that way.
    fn check_place(
        &self,
        before: (usize, Option<(usize, usize, usize)>),
        way: Ordering,
    ) -> Result<(), FileError> {
        let is_lost = self.is_valid() && self.place().cmp(&before) != way;
        if is_lost { Err(Cursor::out_of_order(self)) } else { Ok(()) }
    }

    /// Moves to the first entry of the next table, if this one is used up.
    fn cross_next(&mut self) -> Result<(), FileError> {
        while !self.current().is_valid() {
            if self.index + 1 >= self.end {
                self.table = None;
                break;
            }
            self.open(self.index + 1).seek_to_first()?;
        }
        Ok(())
    }

    /// Moves back to the last entry of the previous table, if this one is used up.
    fn cross_prev(&mut self) -> Result<(), FileError> {
        while !self.current().is_valid() {
            if self.index <= self.first {
                self.table = None;
                break;
            }
            self.open(self.index - 1).seek_to_last()?;
        }
        Ok(())
    }
}

impl Cursor for RunCursor {
    #[inline]
    fn is_valid(&self) -> bool {
        self.table.as_ref().is_some_and(TableCursor::is_valid)
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.current().key()
    }

    #[inline]
    fn head(&self) -> u64 {
        self.current().head()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current().value()
    }

    fn pinned_value(&self) -> PinnedValue {
        PinnedValue::Block(self.current().value_slice())
    }

    /// Tables that are passed whole are not opened.
    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if below <= self.current().table().properties().seqno_max {
            return Ok(false);
        }
        let tables = &self.run.tables()[..self.end];
        let is_passed = |table: &&Arc<Table>| {
            let properties = table.properties();
            properties.seqno_max < below && (end.is_empty() || properties.ends_before(end))
        };
        let passed = tables[self.index..].iter().take_while(is_passed).count();
        let (index, before) = (self.index + passed, self.place());
        let Some(table) = tables.get(index).map(|table| table.properties()) else {
            self.table = None;
            return Ok(true);
        };
        if table.seqno_max < below {
            self.open(index).seek(InternalKey::seek(end, SeqNo::MAX))?;
        } else {
            self.open(index).seek_to_first()?;
        }
        self.cross_next()?;
        self.check_place(before, Ordering::Greater)?;
        Ok(true)
    }

    /// Tables that are passed whole are not opened.
    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if below <= self.current().table().properties().seqno_max {
            return Ok(false);
        }
        let tables = self.run.tables();
        let is_passed = |table: &&Arc<Table>| {
            let properties = table.properties();
            properties.seqno_max < below && start <= properties.smallest_key.as_slice()
        };
        let unpassed = tables[self.first..=self.index].iter().rposition(|table| !is_passed(&table));
        let Some(index) = unpassed.map(|unpassed| self.first + unpassed) else {
            self.table = None;
            return Ok(true);
        };
        let (is_older, before) = (tables[index].properties().seqno_max < below, self.place());
        if is_older {
            self.open(index).seek_for_prev(InternalKey::seek(start, SeqNo::MAX))?;
        } else {
            self.open(index).seek_to_last()?;
        }
        self.cross_prev()?;
        self.check_place(before, Ordering::Less)?;
        Ok(true)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(target.user_key, None)?;
        self.seek_approached(target)
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(target.user_key, None)?;
        self.seek_for_prev_approached(target)
    }

    /// Finds the first table that ends at or after the key, if there is one.
    fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        let index = self.run.lower_bound(user_key).max(self.first);
        if index >= self.end {
            self.table = None;
            return Ok(());
        }
        self.open(index).approach(user_key)
    }

    fn prefetch_head(&mut self, _user_key: &[u8]) {
        if let Some(table) = &self.table {
            table.prefetch_head();
        }
    }

    fn announce(&self) {
        if let Some(table) = &self.table {
            table.announce();
        }
    }

    fn hold_approached(
        &mut self,
        _user_key: &[u8],
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<bool, FileError> {
        self.table.as_mut().map_or(Ok(false), |table| table.hold_approached(waits))
    }

    fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        let Some(table) = &mut self.table else { return Ok(()) };
        table.seek_approached(target)?;
        self.cross_next()
    }

    fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        // The table that was approached may also start after the key.
        let starts_before =
            |table: &Table| table.properties().smallest_key.as_slice() <= target.user_key;
        if let Some(table) = &mut self.table
            && starts_before(table.table())
        {
            table.seek_for_prev_approached(target)?;
            return self.cross_prev();
        }
        let end = if self.table.is_some() { self.index } else { self.end };
        if end <= self.first {
            self.table = None;
            return Ok(());
        }
        self.open(end - 1).seek_to_last()?;
        self.cross_prev()
    }

    fn seek_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        let before = self.place();
        self.seek(target)?;
        self.check_place(before, Ordering::Greater)
    }

    fn seek_back_on(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        let before = self.place();
        self.seek_for_prev(target)?;
        self.check_place(before, Ordering::Less)
    }

    fn out_of_order(&self) -> FileError {
        if let Some(table) = &self.table {
            return table.out_of_order();
        }
        let file = self.run.tables()[0].properties().id.file_name();
        Corruption::new(file, 0, "keys do not ascend").into()
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        if self.first == self.end {
            return Ok(());
        }
        self.open(self.first).seek_to_first()?;
        self.cross_next()
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        if self.first == self.end {
            return Ok(());
        }
        self.open(self.end - 1).seek_to_last()?;
        self.cross_prev()
    }

    #[inline]
    fn next(&mut self) -> Result<(), FileError> {
        let table = self.table.as_mut().expect("the cursor is valid");
        table.next()?;
        if table.is_valid() { Ok(()) } else { self.cross_next() }
    }

    #[inline]
    fn prev(&mut self) -> Result<(), FileError> {
        let table = self.table.as_mut().expect("the cursor is valid");
        table.prev()?;
        if table.is_valid() { Ok(()) } else { self.cross_prev() }
    }

    #[inline]
    fn step(&mut self) -> Option<Step> {
        Cursor::step(self.table.as_mut()?)
    }

    #[inline]
    fn step_back(&mut self) -> Option<Step> {
        Cursor::step_back(self.table.as_mut()?)
    }

    #[inline]
    fn is_first_of_key(&self) -> bool {
        self.current().is_first_of_key()
    }
}

#[cfg(test)]
mod tests;
