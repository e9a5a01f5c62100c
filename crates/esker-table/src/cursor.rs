//! A cursor over the entries of one table, in both directions.
//!
//! Owned and `'static`: it keeps its table and its current block alive. The user key is assembled
//! in a reused buffer; from entry to entry, only the part after the block's shared prefix is
//! replaced. Values are not copied. A cursor that has walked through some blocks prefetches the
//! following ones.
//!
//! After an error the cursor is not valid; a seek makes it usable again.
//!
//! Figures: docs/BENCHMARKS.md, under what was tried.

mod prefetching;
mod seek;

use std::sync::Arc;

use esker_base::{Corruption, EntryKind, InternalKey, KeyBuffer, PrefixHead, SeqNo, Trailer};
use esker_env::FileError;

use crate::cached_block::{BlockSlice, CachedBlock};
use crate::index_block::{Candidates, IndexBlock};
use crate::readahead::{Blocks, Readahead};
use crate::table::with_seqno;
use crate::{NoTrace, Table};

/// When this many entries of the block are left, the next block is prefetched; when none is left,
/// its values.
const LEFT_PREFETCHED: usize = 2;

/// This many blocks in a row are taken for a scan that will go on; fewer may be a seek with some
/// steps, which would prefetch memory that it never reaches.
const IN_A_ROW_MIN: u32 = 2;

/// A cursor over the entries of one table.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<Table>,
    /// The table's: see [`with_seqno`].
    seqno: Option<SeqNo>,
    fill_cache: bool,
    readahead: Readahead,

    /// Number and index of the cursor's current or last partition.
    partition: usize,
    index: Option<Arc<CachedBlock>>,
    /// The cursor's current or last block, and its number in the partition.
    block: Option<Arc<CachedBlock>>,
    block_number: usize,
    /// Zero as long as the block is held but was not looked into.
    entry_count: usize,
    /// If fewer entries than this are left in the block, the next block is prefetched: see
    /// [`TableCursor::prefetch_beside`].
    prefetches_below: usize,
    /// What [`TableCursor::approach`] has found.
    approached: Option<Candidates>,
    /// Whether the last block was not in the cache, and was read.
    was_read: bool,

    // The current entry. Meaningless unless `is_valid`.
    is_valid: bool,
    entry: usize,
    trailer: Trailer,
    head: u64,
    /// The user key: the block's prefix, then the entry's suffix.
    key: KeyBuffer,
    prefix_len: usize,
    prefix_head: PrefixHead,
}

/// The direction of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Ascending,
    Descending,
}

impl Table {
    /// A cursor over all entries. With `fill_cache`, blocks that it reads are put into the cache;
    /// without it, they bypass the cache, which is for scans of everything.
    #[must_use]
    pub fn cursor(self: &Arc<Self>, fill_cache: bool) -> TableCursor {
        self.cursor_with(if fill_cache { Blocks::Kept } else { Blocks::Passing })
    }

    /// A cursor over all entries that treats the blocks it reads as `blocks` says.
    #[must_use]
    pub fn cursor_with(self: &Arc<Self>, blocks: Blocks) -> TableCursor {
        TableCursor::new(Arc::clone(self), blocks)
    }
}

impl TableCursor {
    fn new(table: Arc<Table>, blocks: Blocks) -> Self {
        Self {
            seqno: table.seqno(),
            table,
            fill_cache: blocks == Blocks::Kept,
            readahead: Readahead::new(blocks),
            partition: 0,
            index: None,
            block: None,
            block_number: 0,
            entry_count: 0,
            prefetches_below: 0,
            approached: None,
            was_read: false,
            is_valid: false,
            entry: 0,
            trailer: Trailer::new(SeqNo::ZERO, EntryKind::Put),
            head: 0,
            key: KeyBuffer::new(),
            prefix_len: 0,
            prefix_head: PrefixHead::default(),
        }
    }

    /// The table of the cursor.
    #[must_use]
    pub const fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether the cursor is on an entry.
    #[inline]
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.is_valid
    }

    /// The entry's key.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    #[must_use]
    pub fn key(&self) -> InternalKey<'_> {
        assert!(self.is_valid, "the cursor stands on an entry");
        InternalKey { user_key: &self.key, trailer: self.trailer }
    }

    /// The head of the entry's user key, see [`esker_base::key_head`]. Meaningless unless the
    /// cursor is on an entry.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// Sequence number and kind of the entry. Meaningless unless the cursor is on an entry.
    #[inline]
    #[must_use]
    pub const fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// The entry's value.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.standing().data().value(self.entry)
    }

    /// The entry's value, which keeps its block in memory as long as it lives.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[must_use]
    pub fn value_slice(&self) -> BlockSlice {
        let block = self.standing();
        BlockSlice::new(Arc::clone(block), block.data().value_range(self.entry))
    }

    /// The position of the entry in the table: later entries have greater positions.
    #[must_use]
    pub const fn place(&self) -> (usize, usize, usize) {
        (self.partition, self.block_number, self.entry)
    }

    /// The error if entries prove to be out of order, about the cursor's current or last block.
    #[must_use]
    pub fn out_of_order(&self) -> FileError {
        let handle = self.index.as_ref().map(|index| index.index().handle(self.block_number));
        let offset = handle.map_or(0, |handle| handle.offset);
        let file = self.table.properties().id.file_name();
        Corruption::new(file, offset, "keys do not ascend").into()
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_to_first(&mut self) -> Result<(), FileError> {
        self.is_valid = false;
        if self.table.open()?.top.partitions().is_empty() {
            return Ok(());
        }
        self.enter_partition(0)?;
        self.enter_block(0, Direction::Ascending)?;
        self.settle(0);
        Ok(())
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_to_last(&mut self) -> Result<(), FileError> {
        self.is_valid = false;
        let Some(last) = self.table.open()?.top.partitions().len().checked_sub(1) else {
            return Ok(());
        };
        self.enter_partition(last)?;
        self.enter_block(self.current_index().block_count() - 1, Direction::Descending)?;
        self.settle(self.entry_count - 1);
        Ok(())
    }

    /// Moves to the next entry; past the last one, the cursor is no longer valid.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor lends its entries; no iterator can"
    )]
    pub fn next(&mut self) -> Result<(), FileError> {
        assert!(self.is_valid, "the cursor stands on an entry");
        let next = self.entry + 1;
        if next < self.entry_count {
            self.settle(next);
            return Ok(());
        }
        self.next_block()
    }

    /// Moves to the previous entry; before the first one, the cursor is no longer valid.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    pub fn prev(&mut self) -> Result<(), FileError> {
        assert!(self.is_valid, "the cursor stands on an entry");
        if let Some(before) = self.entry.checked_sub(1) {
            self.settle(before);
            return Ok(());
        }
        self.prev_block()
    }

    /// Moves to the next entry if it is in the same block and of another user key, and returns its
    /// head; `None` if that takes [`TableCursor::next`], and then nothing has changed.
    #[inline]
    pub fn step(&mut self) -> Option<u64> {
        let next = self.entry + 1;
        if !self.is_valid || next >= self.entry_count {
            return None;
        }
        let head = self.step_to(next)?;
        let left = self.entry_count - 1 - next;
        if left < self.prefetches_below {
            self.prefetch_beside(left, Direction::Ascending);
        }
        Some(head)
    }

    /// As [`TableCursor::step`], going back.
    #[inline]
    pub fn step_back(&mut self) -> Option<u64> {
        let before = self.entry.checked_sub(1).filter(|_| self.is_valid)?;
        let head = self.step_to(before)?;
        if before < self.prefetches_below {
            self.prefetch_beside(before, Direction::Descending);
        }
        Some(head)
    }

    /// Moves to `entry`, a neighbour in the block, if it is of another user key.
    #[inline]
    fn step_to(&mut self, entry: usize) -> Option<u64> {
        let data = self.block.as_ref()?.data();
        let suffix = data.suffix(entry);
        let head = self.prefix_head.of(suffix);
        if head == self.head && data.has_same_key(self.entry, entry) {
            return None;
        }
        self.key.set_after(self.prefix_len, suffix);
        self.head = head;
        self.trailer = with_seqno(data.trailer(entry), self.seqno);
        self.entry = entry;
        Some(head)
    }

    /// Whether it is certain that the previous entry is of another user key.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    #[must_use]
    pub fn is_first_of_key(&self) -> bool {
        match self.entry.checked_sub(1) {
            Some(before) => {
                let data = self.standing().data();
                self.prefix_head.of(data.suffix(before)) != self.head
                    || !data.has_same_key(before, self.entry)
            }
            None => self.is_first_of_block(),
        }
    }

    /// [`TableCursor::is_first_of_key`] for the first entry of a block: a key that extends over two
    /// blocks is the separator between them, and no key extends over two partitions.
    fn is_first_of_block(&self) -> bool {
        let before = self.block_number.checked_sub(1);
        before.is_none_or(|before| !self.current_index().is_separator(before, &self.key))
    }

    /// Moves to the first entry of the next block.
    fn next_block(&mut self) -> Result<(), FileError> {
        self.is_valid = false;
        if self.block_number + 1 < self.current_index().block_count() {
            self.enter_block(self.block_number + 1, Direction::Ascending)?;
        } else if self.partition + 1 < self.table.open()?.top.partitions().len() {
            self.enter_partition(self.partition + 1)?;
            self.enter_block(0, Direction::Ascending)?;
        } else {
            return Ok(());
        }
        self.look_ahead(Direction::Ascending)?;
        self.settle(0);
        Ok(())
    }

    /// Moves to the last entry of the previous block.
    fn prev_block(&mut self) -> Result<(), FileError> {
        self.is_valid = false;
        if let Some(before) = self.block_number.checked_sub(1) {
            self.enter_block(before, Direction::Descending)?;
        } else if let Some(before) = self.partition.checked_sub(1) {
            self.enter_partition(before)?;
            self.enter_block(self.current_index().block_count() - 1, Direction::Descending)?;
        } else {
            return Ok(());
        }
        self.look_ahead(Direction::Descending)?;
        self.settle(self.entry_count - 1);
        Ok(())
    }

    /// Holds the index of partition `number`.
    fn enter_partition(&mut self, number: usize) -> Result<(), FileError> {
        if self.index.is_none() || self.partition != number {
            self.index = None;
            self.block = None;
            self.index = Some(self.table.open()?.index(number, &mut NoTrace)?);
            self.partition = number;
        }
        Ok(())
    }

    /// Holds data block `number` of the partition, and looks into it.
    fn enter_block(&mut self, number: usize, direction: Direction) -> Result<(), FileError> {
        self.hold_block(number, direction, None)?;
        if self.entry_count == 0 {
            let data = self.block.as_ref().expect("a block is held").data();
            let prefix = data.prefix();
            self.key.set(prefix);
            self.prefix_len = prefix.len();
            self.prefix_head = PrefixHead::new(prefix);
            self.entry_count = data.count();
        }
        Ok(())
    }

    /// Holds data block `number` of the partition.
    fn hold_block(
        &mut self,
        number: usize,
        direction: Direction,
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<(), FileError> {
        if self.block.is_some() && self.block_number == number {
            return Ok(());
        }
        self.block = None;
        self.entry_count = 0;
        let block = self.load_block(number, direction, waits)?;
        self.block_number = number;
        self.block = Some(block);
        let is_scan = self.readahead.in_a_row() >= IN_A_ROW_MIN;
        self.prefetches_below = if is_scan { 0 } else { LEFT_PREFETCHED + 1 };
        Ok(())
    }

    fn load_block(
        &mut self,
        number: usize,
        direction: Direction,
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<Arc<CachedBlock>, FileError> {
        let open = self.table.open()?;
        self.readahead.visit(open.block_number(self.partition, number));
        if let Some(block) = open.cached_data_block(self.partition, number, self.fill_cache) {
            return Ok(block);
        }
        self.was_read = true;
        let index = self.index.as_ref().expect("a block is entered after its partition").index();
        let handle = index.handle(number);
        let is_descending = direction == Direction::Descending;
        let (readahead, budget) = (&mut self.readahead, &self.table.context().budget);
        let read = || {
            let within = index.data();
            let stored =
                readahead.read(&open.file, budget, handle, within, is_descending, waits)?;
            open.decode_data_block(handle, stored)
        };
        if self.fill_cache {
            open.cache_data_block(self.partition, number, read)
        } else {
            read().map(Arc::new)
        }
    }

    /// Moves to entry `entry` of the block.
    #[inline]
    fn settle(&mut self, entry: usize) {
        let data = self.block.as_ref().expect("a block was entered").data();
        let suffix = data.suffix(entry);
        self.key.set_after(self.prefix_len, suffix);
        // From the parts, not from the assembled key, whose two copies are still in flight.
        self.head = self.prefix_head.of(suffix);
        self.trailer = with_seqno(data.trailer(entry), self.seqno);
        self.entry = entry;
        self.is_valid = true;
    }

    #[inline]
    fn standing(&self) -> &Arc<CachedBlock> {
        assert!(self.is_valid, "the cursor stands on an entry");
        self.block.as_ref().expect("a block was entered")
    }

    fn current_block(&self) -> &CachedBlock {
        self.block.as_ref().expect("a block was entered")
    }

    fn current_index(&self) -> &IndexBlock {
        self.index.as_ref().expect("a partition was entered").index()
    }
}

#[cfg(test)]
mod tests;
