//! A table that has been opened: its file, its top index and its slots in the cache.
//!
//! Slots are numbered: first data blocks in file order, then, for each partition, its index and its
//! filter. Loading a data block may load an index, but never the other way round, so slots are
//! always locked in the same order.

use std::sync::Arc;
use std::time::Duration;

use esker_base::Fragments;
use esker_base::sync::atomic::{AtomicU64, Ordering};
use esker_cache::{CacheSlots, Charge, Filled, Lookup, Owner, Priority, SlotsId};
use esker_env::{Clock, FileError};

use crate::cached_block::{CachedBlock, Content, prefetch_data};
use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::index_block::{Candidates, IndexBlock};
use crate::table_file::TableFile;
use crate::top_index::{Partition, TopIndex, slot_count};
use crate::{
    BlockHandle, BlockKind, BlockRead, Dictionary, FilterVerdict, ReadTrace, TableContext,
    TableProperties,
};

/// A table that has been opened.
#[derive(Debug)]
pub(crate) struct OpenTable {
    pub(crate) file: TableFile,
    pub(crate) top: TopIndex,
    /// The range tombstones; empty if there are none.
    pub(crate) ranges: Fragments,
    slots: CacheSlots<CachedBlock>,
    clock: Arc<dyn Clock>,
    /// Charges the top index, the range tombstones, the dictionary and the slots themselves.
    charge: Charge,
    /// Filters that were found damaged. Counter only.
    damaged_filters: AtomicU64,
}

/// The block that a read will look into.
#[derive(Clone, Copy, Debug)]
pub struct BlockAhead<'a> {
    pub(crate) open: &'a OpenTable,
    pub(crate) partition: usize,
    pub(crate) candidates: Candidates,
    pub(crate) tag: u8,
}

impl OpenTable {
    pub(crate) fn new(
        context: &TableContext,
        mut file: TableFile,
        properties: &TableProperties,
    ) -> Result<Self, FileError> {
        let top = file.read_top_index()?;
        let data_block_count = properties.data_block_count;
        let ranges = match &properties.extras.ranges {
            Some(ranges) => file.read_ranges(ranges)?,
            None => Fragments::default(),
        };
        file.read_dictionary(properties)?;
        file.forget_tail();
        if top.data_block_count() != data_block_count {
            let offset = file.footer().top_index.offset;
            return Err(file.corruption(offset, "top index counts other blocks than properties"));
        }
        let slot_count = slot_count(data_block_count, top.partitions().len())
            .ok_or_else(|| file.corruption(file.content_end(), "table has too many blocks"))?;
        let slots = context.cache.register_file(properties.id.0, slot_count);
        let slots_bytes = slot_count as usize * CacheSlots::<CachedBlock>::SLOT_LEN;
        let dictionary_bytes = file.dictionary().map_or(0, Dictionary::memory_bytes);
        let memory = top.memory_bytes() + ranges.memory_bytes() + slots_bytes + dictionary_bytes;
        let charge = context.budget.charge(Owner::Indexes, memory as u64);
        let clock = Arc::clone(&context.clock);
        Ok(Self { file, top, ranges, slots, clock, charge, damaged_filters: AtomicU64::new(0) })
    }

    pub(crate) fn damaged_filter_count(&self) -> u64 {
        self.damaged_filters.load(Ordering::Relaxed)
    }

    /// Memory that is held while the table is open, and that of its blocks in the cache.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.charge.bytes() + self.slots.resident_bytes()
    }

    /// Percentage of blocks that are in the cache and were used there.
    pub(crate) fn used_percent(&self) -> u64 {
        self.slots.used_percent()
    }

    pub(crate) fn slots_id(&self) -> SlotsId {
        self.slots.id()
    }

    pub(crate) fn slot_count(&self) -> u32 {
        self.slots.slot_count()
    }

    /// The number of data block slots; those of data blocks come first.
    pub(crate) fn data_slots(&self) -> u32 {
        self.index_slot(0)
    }

    /// Whether `slot` is empty and nobody is loading it. Never waits.
    pub(crate) fn is_wanted(&self, slot: u32) -> bool {
        self.slots.glance(slot, |block| block.is_none()).unwrap_or(false)
    }

    /// The partition whose index or filter belongs in `slot`, and whether it is the filter.
    pub(crate) fn partition_of(&self, slot: u32) -> (usize, bool) {
        let at = slot - self.data_slots();
        ((at / 2) as usize, !at.is_multiple_of(2))
    }

    /// The handle of data block `number` of `partition`, if its index is in the cache. Does not
    /// count as a use.
    pub(crate) fn cached_handle(&self, partition: usize, number: usize) -> Option<BlockHandle> {
        let slot = self.index_slot(partition);
        self.slots.peek_with(slot, |block| block.index().handle(number))
    }

    /// Puts `block` into `slot` if there is room; see [`CacheSlots::fill`].
    pub(crate) fn fill(
        &self,
        slot: u32,
        priority: Priority,
        was_used_again: bool,
        block: CachedBlock,
    ) -> Filled {
        self.slots.fill(slot, priority, was_used_again, block)
    }

    pub(crate) fn index_slot(&self, partition: usize) -> u32 {
        self.slots.slot_count() - 2 * (self.top.partitions().len() - partition) as u32
    }

    /// What the filter of `partition` says about a key with this hash. A damaged filter is ignored,
    /// and the read goes on.
    #[inline]
    pub(crate) fn filter_verdict<T: ReadTrace>(
        &self,
        partition: usize,
        hash: u64,
        trace: &mut T,
    ) -> Result<FilterVerdict, FileError> {
        let Some(handle) = self.top.partitions()[partition].filter else {
            return Ok(FilterVerdict::Absent);
        };
        let slot = self.index_slot(partition) + 1;
        let verdict = match self.slots.with(slot, |block| verdict_of(block, hash)) {
            Some(verdict) => {
                self.trace_hit(trace, BlockKind::Filter, handle);
                verdict
            }
            None => verdict_of(&*self.load_filter(slot, handle, trace)?, hash),
        };
        Ok(verdict)
    }

    /// As [`OpenTable::filter_verdict`], if the filter is in the cache.
    #[inline]
    pub(crate) fn cached_verdict(&self, partition: usize, hash: u64) -> Option<FilterVerdict> {
        if self.top.partitions()[partition].filter.is_none() {
            return Some(FilterVerdict::Absent);
        }
        self.slots.with(self.index_slot(partition) + 1, |block| verdict_of(block, hash))
    }

    /// If the index of `partition` is in the cache: the blocks that may hold `user_key`, if any.
    #[inline]
    pub(crate) fn cached_candidates(
        &self,
        partition: usize,
        user_key: &[u8],
    ) -> Option<Option<Candidates>> {
        self.slots.with(self.index_slot(partition), |block| block.index().candidates(user_key))
    }

    #[cold]
    fn load_filter<T: ReadTrace>(
        &self,
        slot: u32,
        handle: BlockHandle,
        trace: &mut T,
    ) -> Result<Arc<CachedBlock>, FileError> {
        self.load(slot, BlockKind::Filter, handle, trace, |_| {
            let filter = match self.file.read_filter(handle) {
                Ok(filter) => Some(filter),
                Err(FileError::Corruption(_)) => {
                    self.damaged_filters.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Err(error) => return Err(error),
            };
            Ok(CachedBlock(Content::Filter(filter)))
        })
    }

    /// Runs `look` on the filter of `partition`, if it is intact and in the cache. Does not count
    /// as a use.
    #[inline]
    pub(crate) fn with_cached_filter<R>(
        &self,
        partition: usize,
        look: impl FnOnce(&FilterBlock) -> R,
    ) -> Option<R> {
        self.top.partitions()[partition].filter?;
        let slot = self.index_slot(partition) + 1;
        self.slots.peek_with(slot, |block| block.filter().map(look))?
    }

    /// Prefetches the data block in `slot`, if it is in the cache. Does not count as a use.
    #[inline]
    pub(crate) fn prefetch_data(&self, slot: u32) {
        self.slots.prefetch(slot, prefetch_data);
    }

    /// As [`OpenTable::prefetch_data`], for data block `number` of the table, if there is one.
    pub(crate) fn prefetch_data_block(&self, number: u32) {
        if number < self.index_slot(0) {
            self.prefetch_data(number);
        }
    }

    /// Runs `look` on the block in `slot`, if it is in the cache. Does not count as a use.
    #[inline]
    pub(crate) fn peek_with(&self, slot: u32, look: impl FnOnce(&CachedBlock)) {
        self.slots.peek_with(slot, look);
    }

    /// Runs `look` on data block `number` of the table, if there is one and it is in the cache.
    /// Does not count as a use. Never waits.
    pub(crate) fn peek_data_block(&self, number: u32, look: impl FnOnce(&DataBlock)) {
        if number < self.index_slot(0) {
            self.slots.glance(number, |block| block.map(|block| look(block.data())));
        }
    }

    /// The address of `slot`.
    #[inline]
    pub(crate) fn slot_address(&self, slot: u32) -> *const u8 {
        self.slots.address(slot)
    }

    /// Announces to the system what a point read of `user_key` will read from the file, as far as
    /// that is known from the cache. Returns whether the read may look into `partition` at all.
    ///
    /// Never waits: a slot that is locked is being loaded.
    pub(crate) fn announce(&self, partition: usize, user_key: &[u8], hash: u64) -> bool {
        let place = &self.top.partitions()[partition];
        let index_slot = self.index_slot(partition);
        if let Some(handle) = place.filter {
            match self.slots.glance(index_slot + 1, |block| block.map(|it| verdict_of(it, hash))) {
                Some(Some(FilterVerdict::Excluded)) => return false,
                Some(None) => self.file.will_need(handle),
                _ => {}
            }
        }
        let find = |block: &CachedBlock| {
            let first = block.index().candidates(user_key)?.first;
            Some((self.block_number(partition, first), block.index().handle(first)))
        };
        match self.slots.glance(index_slot, |block| block.map(find)) {
            Some(Some(Some((slot, handle)))) => {
                self.announce_block(slot, handle);
            }
            Some(Some(None)) => return false,
            Some(None) => self.file.will_need(place.index),
            None => {}
        }
        true
    }

    /// Announces that the data block at `handle` will be needed soon, unless its `slot` has it or
    /// is in use.
    pub(crate) fn announce_block(&self, slot: u32, handle: BlockHandle) {
        if self.slots.glance(slot, |block| block.is_none()).unwrap_or(false) {
            self.file.will_need(handle);
        }
    }

    /// Runs `look` on the index of `partition`.
    #[inline]
    pub(crate) fn with_index<R, T: ReadTrace>(
        &self,
        partition: usize,
        trace: &mut T,
        look: impl Fn(&IndexBlock) -> R,
    ) -> Result<R, FileError> {
        let slot = self.index_slot(partition);
        if let Some(result) = self.slots.with(slot, |block| look(block.index())) {
            self.trace_hit(trace, BlockKind::Index, self.top.partitions()[partition].index);
            return Ok(result);
        }
        Ok(look(self.index(partition, trace)?.index()))
    }

    /// The index of `partition`.
    pub(crate) fn index<T: ReadTrace>(
        &self,
        partition: usize,
        trace: &mut T,
    ) -> Result<Arc<CachedBlock>, FileError> {
        let place: &Partition = &self.top.partitions()[partition];
        self.load(self.index_slot(partition), BlockKind::Index, place.index, trace, |_| {
            Ok(CachedBlock(Content::Index(self.file.read_index(place)?)))
        })
    }

    /// Data block `number` of `partition`, from the cache, or loaded into it.
    #[inline]
    pub(crate) fn data_block<T: ReadTrace>(
        &self,
        partition: usize,
        number: usize,
        trace: &mut T,
    ) -> Result<Arc<CachedBlock>, FileError> {
        let slot = self.block_number(partition, number);
        if !T::ENABLED
            && let Some(block) = self.slots.get_prefetching(slot, prefetch_data)
        {
            return Ok(block);
        }
        let handle =
            self.with_index(partition, &mut crate::NoTrace, |index| index.handle(number))?;
        self.load(slot, BlockKind::Data, handle, trace, |trace| {
            let waits = T::LISTENS_TO_WAITS.then_some(|| trace.waits());
            Ok(CachedBlock(Content::Data(self.file.read_data(handle, waits)?)))
        })
    }

    /// Data block `number` of `partition`, if it is in the cache; `counts` says whether this counts
    /// as a use.
    pub(crate) fn cached_data_block(
        &self,
        partition: usize,
        number: usize,
        counts: bool,
    ) -> Option<Arc<CachedBlock>> {
        let slot = self.block_number(partition, number);
        if counts { self.slots.get_prefetching(slot, prefetch_data) } else { self.slots.peek(slot) }
    }

    /// Puts data block `number` of `partition` into the cache, unless it is there, from the bytes
    /// that `read` returns.
    pub(crate) fn cache_data_block(
        &self,
        partition: usize,
        number: usize,
        read: impl FnOnce() -> Result<CachedBlock, FileError>,
    ) -> Result<Arc<CachedBlock>, FileError> {
        let slot = self.block_number(partition, number);
        Ok(self.slots.get_or_load(slot, Priority::Normal, read)?.0)
    }

    /// Checks and decodes the data block at `handle` from its stored bytes.
    pub(crate) fn decode_data_block(
        &self,
        handle: BlockHandle,
        stored: Vec<u8>,
    ) -> Result<CachedBlock, FileError> {
        let payload = self.file.unseal(handle, stored)?.payload;
        Ok(CachedBlock(Content::Data(self.file.decode_data(handle, payload)?)))
    }

    /// The number within the table of data block `number` of `partition`, which is also that of its
    /// slot.
    #[inline]
    pub(crate) fn block_number(&self, partition: usize, number: usize) -> u32 {
        self.top.partitions()[partition].first_block + number as u32
    }

    fn load<T: ReadTrace>(
        &self,
        slot: u32,
        kind: BlockKind,
        handle: BlockHandle,
        trace: &mut T,
        read: impl FnOnce(&mut T) -> Result<CachedBlock, FileError>,
    ) -> Result<Arc<CachedBlock>, FileError> {
        let priority = match kind {
            BlockKind::Data => Priority::Normal,
            _ => Priority::High,
        };
        let start = if T::ENABLED { self.clock.now() } else { Duration::ZERO };
        let (block, lookup) = self.slots.get_or_load(slot, priority, || read(trace))?;
        if lookup == Lookup::Hit {
            self.trace_hit(trace, kind, handle);
        } else if T::ENABLED {
            let time = self.clock.now().saturating_sub(start);
            let (offset, bytes) = (handle.offset, handle.len);
            trace.block(BlockRead { kind, offset, from_cache: false, bytes, time });
        }
        Ok(block)
    }

    #[inline]
    fn trace_hit<T: ReadTrace>(&self, trace: &mut T, kind: BlockKind, handle: BlockHandle) {
        if T::ENABLED {
            let (offset, bytes) = (handle.offset, handle.len);
            let time = Duration::ZERO;
            trace.block(BlockRead { kind, offset, from_cache: true, bytes, time });
        }
    }
}

#[inline]
fn verdict_of(block: &CachedBlock, hash: u64) -> FilterVerdict {
    match block.filter() {
        Some(filter) if filter.may_contain(hash) => FilterVerdict::MayContain,
        Some(_) => FilterVerdict::Excluded,
        None => FilterVerdict::Damaged,
    }
}
