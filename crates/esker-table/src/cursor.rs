//! A cursor over the entries of one table, in both directions.
//!
//! Owned and `'static`: it keeps its table and the block it stands on alive. The user key is
//! assembled in a buffer that is reused; from entry to entry only what follows the block's shared
//! prefix is replaced. Values stay where they are. A cursor that has walked through some blocks has
//! those that follow on their way from memory.
//!
//! After an error the cursor is not valid, and can be used again from a seek on.
//!
//! Figures: docs/BENCHMARKS.md, under what was tried.

use std::sync::Arc;

use esker_base::{EntryKind, InternalKey, KeyBuffer, PrefixHead, SeqNo, Trailer};
use esker_env::FileError;

use crate::cached_block::{BlockSlice, CachedBlock};
use crate::data_block::DataBlock;
use crate::index_block::{Candidates, IndexBlock};
use crate::prefetch::{prefetch_at, prefetch_bytes, prefetch_bytes_back};
use crate::readahead::{Blocks, Readahead};
use crate::table::with_seqno;
use crate::{NoTrace, Table};

/// Most bytes of values that are asked for when a seek has found the first of them: what some steps
/// of a merge read in one of its sources, or ten steps over one source, with values of a hundred bytes.
const VALUES_ASKED_LEN_MAX: usize = 1024;

/// When so many entries of the block are left before the cursor, the next block is asked for, and when
/// none is, its values.
const LEFT_ASKED: usize = 2;

/// Most bytes before the values of a block that are asked for before they are searched: all, in
/// blocks of 4 KiB with entries of some hundred bytes.
const KEYS_ASKED_LEN_MAX: usize = 768;

/// So many blocks in a row are a scan that may go on; fewer are a seek with some steps, which would
/// ask for memory that it does not come to.
const IN_A_ROW_MIN: u32 = 2;

/// Most bytes of the next block that are asked for while one is walked through.
const BLOCK_ASKED_LEN_MAX: usize = 4096;

/// A cursor over the entries of one table.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<Table>,
    /// That of the table: see [`with_seqno`].
    seqno: Option<SeqNo>,
    fill_cache: bool,
    readahead: Readahead,

    /// Number and index of the partition that the cursor was last in.
    partition: usize,
    index: Option<Arc<CachedBlock>>,
    /// The block that the cursor was last on, and its number in the partition.
    block: Option<Arc<CachedBlock>>,
    block_number: usize,
    /// Zero while the block is held but was not looked into.
    entry_count: usize,
    /// With fewer entries than this left in the block, the next one is asked for: see
    /// [`TableCursor::ask_beside`].
    asks_below: usize,
    /// What [`TableCursor::approach`] has found.
    approached: Option<Candidates>,

    // The entry. Without meaning unless `is_valid`.
    is_valid: bool,
    entry: usize,
    trailer: Trailer,
    head: u64,
    /// The user key: the block's prefix, then the entry's suffix.
    key: KeyBuffer,
    prefix_len: usize,
    prefix_head: PrefixHead,
}

/// Where a cursor goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Ascending,
    Descending,
}

impl Table {
    /// A cursor over all entries. With `fill_cache`, blocks that it reads stay in the cache; without
    /// it, they pass by: for scans of everything.
    #[must_use]
    pub fn cursor(self: &Arc<Self>, fill_cache: bool) -> TableCursor {
        self.cursor_with(if fill_cache { Blocks::Kept } else { Blocks::Passing })
    }

    /// A cursor over all entries, which does with the blocks that it reads what `blocks` says.
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
            asks_below: 0,
            approached: None,
            is_valid: false,
            entry: 0,
            trailer: Trailer::new(SeqNo::ZERO, EntryKind::Put),
            head: 0,
            key: KeyBuffer::new(),
            prefix_len: 0,
            prefix_head: PrefixHead::default(),
        }
    }

    /// The table that the cursor goes over.
    #[must_use]
    pub const fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether the cursor stands on an entry.
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

    /// The head of the entry's user key, see [`esker_base::key_head`]. Without meaning unless the
    /// cursor stands on an entry.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// Sequence number and kind of the entry. Without meaning unless the cursor stands on an entry.
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

    /// The entry's value, with its block kept in memory for as long as the result lives.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[must_use]
    pub fn value_slice(&self) -> BlockSlice {
        let block = self.standing();
        BlockSlice::new(Arc::clone(block), block.data().value_range(self.entry))
    }

    /// Moves to the first entry that is not less than `target`.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if a block that is needed is damaged.
    pub fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(None)?;
        self.seek_approached(target)
    }

    /// The first part of a seek to an entry of `user_key`: finds its block. Whoever seeks in several
    /// tables does this in all of them, then [`TableCursor::ask_head`], then
    /// [`TableCursor::hold_approached`], then the rest of the seek, so that they wait for memory
    /// together. Nothing but that may follow; the cursor is not valid.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        self.is_valid = false;
        self.approached = None;
        let Some(partition) = self.table.open()?.top.candidate(user_key) else {
            return Ok(());
        };
        self.enter_partition(partition)?;
        self.approached = self.current_index().candidates(user_key);
        if let (Some(candidates), Some(open)) = (self.approached, self.table.opened()) {
            // On its way while the other sources of a merge are approached.
            let slot = open.block_number(self.partition, candidates.first);
            prefetch_at(open.slot_address(slot), 1);
        }
        Ok(())
    }

    /// The second part, which may be left out: asks for what the block starts with.
    pub fn ask_head(&self) {
        if let (Some(candidates), Some(open)) = (self.approached, self.table.opened()) {
            open.ask_data_block(open.block_number(self.partition, candidates.first));
        }
    }

    /// Instead of the second part, for a seek that will wait for the device: has the system start
    /// to read the block, unless that is in the cache. Waits for nobody.
    pub fn announce(&self) {
        if let (Some(candidates), Some(open), Some(index)) =
            (self.approached, self.table.opened(), &self.index)
        {
            let slot = open.block_number(self.partition, candidates.first);
            open.announce_block(slot, index.index().handle(candidates.first));
        }
    }

    /// The third part: holds the block, and asks for its keys. `waits` is called before it is waited
    /// for the device; it must not wait for anything in the cache.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn hold_approached(&mut self, waits: Option<&mut dyn FnMut()>) -> Result<(), FileError> {
        if let Some(candidates) = self.approached {
            self.hold_block(candidates.first, Direction::Ascending, waits)?;
            prefetch_bytes(self.current_block().data().columns_and_keys(), KEYS_ASKED_LEN_MAX);
        }
        Ok(())
    }

    /// The rest of a seek to `target`, whose user key was [approached](TableCursor::approach).
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        if self.seqno.is_some() {
            return self.seek_adopted(target);
        }
        self.seek_stored(target)
    }

    /// As [`TableCursor::seek_approached`], by the sequence numbers in the blocks.
    fn seek_stored(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.is_valid = false;
        match self.locate(target)? {
            Some(entry) if entry < self.entry_count => {
                self.settle(entry);
                self.ask_values(Direction::Ascending);
                Ok(())
            }
            Some(_) => self.next_block(),
            None => Ok(()),
        }
    }

    /// Moves to the last entry that is not greater than `target`.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(None)?;
        self.seek_for_prev_approached(target)
    }

    /// As [`TableCursor::seek_approached`], for [`TableCursor::seek_for_prev`].
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        if self.seqno.is_some() {
            return self.seek_adopted_for_prev(target);
        }
        self.is_valid = false;
        let Some(entry) = self.locate(target)? else {
            return self.seek_to_last();
        };
        if entry < self.entry_count && self.current_block().data().trailer(entry) == target.trailer
        {
            self.settle(entry);
            if self.key() == target {
                return Ok(());
            }
        }
        match entry.checked_sub(1) {
            Some(before) => {
                self.settle(before);
                self.ask_values(Direction::Descending);
                Ok(())
            }
            None => self.prev_block(),
        }
    }

    /// As [`TableCursor::seek`], where one sequence number stands for all. No key has two entries.
    #[cold]
    fn seek_adopted(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_stored(InternalKey::seek(target.user_key, SeqNo::MAX))?;
        if self.is_valid && self.key() < target { self.next() } else { Ok(()) }
    }

    /// As [`TableCursor::seek_for_prev`], where one sequence number stands for all.
    #[cold]
    fn seek_adopted_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_stored(InternalKey::seek(target.user_key, SeqNo::MAX))?;
        match self.is_valid {
            true if self.key() <= target => Ok(()),
            true => self.prev(),
            false => self.seek_to_last(),
        }
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

    /// Moves to the next entry; past the last, the cursor is not valid any more.
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

    /// Moves to the entry before; before the first, the cursor is not valid any more.
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
    /// head; `None` if only [`TableCursor::next`] can say, and then nothing has changed.
    #[inline]
    pub fn step(&mut self) -> Option<u64> {
        let next = self.entry + 1;
        if !self.is_valid || next >= self.entry_count {
            return None;
        }
        let head = self.step_to(next)?;
        let left = self.entry_count - 1 - next;
        if left < self.asks_below {
            self.ask_beside(left, Direction::Ascending);
        }
        Some(head)
    }

    /// As [`TableCursor::step`], going back.
    #[inline]
    pub fn step_back(&mut self) -> Option<u64> {
        let before = self.entry.checked_sub(1).filter(|_| self.is_valid)?;
        let head = self.step_to(before)?;
        if before < self.asks_below {
            self.ask_beside(before, Direction::Descending);
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

    /// Whether the entry before is of another user key, for certain.
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

    /// [`TableCursor::is_first_of_key`] of the first entry of a block: a key that reaches across
    /// blocks is the separator between them, and none reaches across partitions.
    fn is_first_of_block(&self) -> bool {
        let before = self.block_number.checked_sub(1);
        before.is_none_or(|before| !self.current_index().is_separator(before, &self.key))
    }

    /// Enters the block of the first entry that is not less than `target`, and returns the number
    /// of that entry; one past the block's last if it is the first of the block that follows.
    /// `None` if all entries are less. The key of `target` was approached.
    fn locate(&mut self, target: InternalKey<'_>) -> Result<Option<usize>, FileError> {
        let Some(candidates) = self.approached else {
            return Ok(None);
        };
        // More than one block only where versions of one key reach across blocks.
        let (mut start, mut end) = (candidates.first, candidates.last);
        while start < end {
            let middle = start.midpoint(end);
            self.enter_block(middle, Direction::Ascending)?;
            if self.current_block().data().is_at_or_after(self.entry_count - 1, target) {
                end = middle;
            } else {
                start = middle + 1;
            }
        }
        self.enter_block(start, Direction::Ascending)?;
        Ok(Some(self.current_block().data().lower_bound(target)))
    }

    /// Moves to the first entry of the block that follows.
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

    /// Moves to the last entry of the block before.
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
        self.asks_below = if is_scan { 0 } else { LEFT_ASKED + 1 };
        Ok(())
    }

    /// Asks for the values that a short scan reads from where a seek has led, and for the next block where
    /// that is near. On its way while the other sources of a merge are searched.
    fn ask_values(&self, direction: Direction) {
        let data = self.current_block().data();
        ask_values(data, self.entry, direction);
        let left = match direction {
            Direction::Ascending => self.entry_count - 1 - self.entry,
            Direction::Descending => self.entry,
        };
        if left < self.asks_below {
            self.ask_beside(LEFT_ASKED, direction);
        }
    }

    /// Asks for what the next block starts with when [`LEFT_ASKED`] entries are `left` in this one, and
    /// for its first values when none is. A scan that goes on has [`TableCursor::look_ahead`] for that.
    #[cold]
    #[inline(never)]
    fn ask_beside(&self, left: usize, direction: Direction) {
        let Some(open) = self.table.opened() else { return };
        let number = open.block_number(self.partition, self.block_number);
        let beside = match direction {
            Direction::Ascending => number.checked_add(1),
            Direction::Descending => number.checked_sub(1),
        };
        let Some(beside) = beside else { return };
        if left == LEFT_ASKED {
            open.ask_data_block(beside);
        } else if left == 0 {
            let first = |data: &DataBlock| match direction {
                Direction::Ascending => 0,
                Direction::Descending => data.count() - 1,
            };
            open.peek_data_block(beside, |data| ask_values(data, first(data), direction));
        }
    }

    /// Before the block that was entered is walked through: has the one behind it on its way, and
    /// what the one behind that starts with.
    fn look_ahead(&self, direction: Direction) -> Result<(), FileError> {
        if self.readahead.in_a_row() < IN_A_ROW_MIN {
            return Ok(());
        }
        let open = self.table.open()?;
        let number = open.block_number(self.partition, self.block_number);
        let ahead = |count: u32| match direction {
            Direction::Ascending => number.checked_add(count),
            Direction::Descending => number.checked_sub(count),
        };
        if let Some(next) = ahead(1) {
            open.peek_data_block(next, |data| prefetch_bytes(data.payload(), BLOCK_ASKED_LEN_MAX));
        }
        if let Some(after) = ahead(2) {
            open.ask_data_block(after);
        }
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

    /// Stands on entry `entry` of the block.
    #[inline]
    fn settle(&mut self, entry: usize) {
        let data = self.block.as_ref().expect("a block was entered").data();
        let suffix = data.suffix(entry);
        self.key.set_after(self.prefix_len, suffix);
        // Not of the key: it is still on its way to memory, in two pieces.
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

/// Asks for the values of `data` from that of `entry` on.
#[inline]
fn ask_values(data: &DataBlock, entry: usize, direction: Direction) {
    match direction {
        Direction::Ascending => prefetch_bytes(data.values_from(entry), VALUES_ASKED_LEN_MAX),
        Direction::Descending => {
            prefetch_bytes_back(data.values_up_to(entry), VALUES_ASKED_LEN_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
