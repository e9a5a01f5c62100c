//! Cache warming of a table: which blocks are in the cache, and loading them again.
//!
//! Promises: it takes only free room, so nothing that readers brought in is evicted for it; blocks
//! are verified as always. Neighbouring blocks in the file are read together. Does not know who
//! keeps the list, nor when it is used.

use esker_cache::{Charge, Filled, Owner, Priority, SlotsId, Weigh as _};
use esker_env::FileError;

use crate::cached_block::{CachedBlock, Content};
use crate::open_table::OpenTable;
use crate::{BlockHandle, Table};

/// Most bytes per read, except for a longer block.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Largest gap between two blocks that is read along with them, since that is cheaper than another
/// read.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// A block by its slot: data blocks in the order of the file, then for each partition its index and its
/// filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WarmSlot {
    /// Its slot.
    pub slot: u32,
    /// Whether it was used again while it was in the cache.
    pub was_used_again: bool,
}

/// The result of loading blocks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WarmReport {
    /// Blocks that are in the cache now and were not before.
    pub blocks: u64,
    /// Their weight in the cache, in bytes.
    pub bytes: u64,
    /// Calls that read from the file.
    pub reads: u64,
    /// Whether the cache is full.
    pub is_full: bool,
}

/// A data block that is to be read.
struct Wanted {
    warm: WarmSlot,
    handle: BlockHandle,
}

impl Table {
    /// The cache's id for the slots of this table; `None` if the table was not read yet.
    #[must_use]
    pub fn slots_id(&self) -> Option<SlotsId> {
        self.opened().map(OpenTable::slots_id)
    }

    /// Loads the blocks in `slots`, which ascend, into the cache, as far as there is room. Stops
    /// before a read if `may_go_on` is false. Skips slots that the table does not have.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if a block is damaged: what was loaded before stays.
    ///
    /// # Cost
    /// Opens the table if it is not open, and reads the indexes of the blocks.
    pub fn warm(
        &self,
        slots: &[WarmSlot],
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<WarmReport, FileError> {
        let open = self.open()?;
        let mut warming =
            Warming { table: self, open, report: WarmReport::default(), buffer: Vec::new() };
        let data_end = open.data_slots();
        let (data, others) = slots.split_at(slots.partition_point(|warm| warm.slot < data_end));
        for warm in others.iter().filter(|warm| warm.slot < open.slot_count()) {
            if warming.report.is_full || !may_go_on() {
                return Ok(warming.report);
            }
            warming.other(warm.slot)?;
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for &warm in data {
            if warming.report.is_full || !may_go_on() {
                return Ok(warming.report);
            }
            if !open.is_wanted(warm.slot) {
                continue;
            }
            let Some(handle) = warming.handle(warm.slot)? else { break };
            let is_apart = wanted.first().zip(wanted.last()).is_some_and(|(first, last)| {
                handle.offset < last.handle.end()
                    || GAP_BYTES_MAX < handle.offset - last.handle.end()
                    || READ_BYTES_MAX < handle.end() - first.handle.offset
            });
            if is_apart {
                warming.data(&wanted)?;
                wanted.clear();
            }
            wanted.push(Wanted { warm, handle });
        }
        if !warming.report.is_full && may_go_on() {
            warming.data(&wanted)?;
        }
        Ok(warming.report)
    }
}

struct Warming<'a> {
    table: &'a Table,
    open: &'a OpenTable,
    report: WarmReport,
    buffer: Vec<u8>,
}

impl Warming<'_> {
    /// Loads the index or filter in `slot`.
    fn other(&mut self, slot: u32) -> Result<(), FileError> {
        if !self.open.is_wanted(slot) {
            return Ok(());
        }
        let (partition, is_filter) = self.open.partition_of(slot);
        let place = &self.open.top.partitions()[partition];
        let handle = if is_filter { place.filter } else { Some(place.index) };
        let Some(handle) = handle else { return Ok(()) };
        if !self.has_room(handle.len) {
            return Ok(());
        }
        let content = if is_filter {
            Content::Filter(Some(self.open.file.read_filter(handle)?))
        } else {
            Content::Index(self.open.file.read_index(place)?)
        };
        self.report.reads += 1;
        self.offer(WarmSlot { slot, was_used_again: true }, Priority::High, CachedBlock(content));
        Ok(())
    }

    /// The handle of data block `number`; `None` if the cache has no room for its index.
    fn handle(&mut self, number: u32) -> Result<Option<BlockHandle>, FileError> {
        let (partition, at) = Table::place_of(self.open, number);
        let slot = self.open.index_slot(partition);
        if self.open.is_wanted(slot) {
            self.other(slot)?;
        }
        Ok(self.open.cached_handle(partition, at))
    }

    /// Reads the blocks of `wanted`, which are close together, with one read.
    fn data(&mut self, wanted: &[Wanted]) -> Result<(), FileError> {
        let Some((first, last)) = wanted.first().zip(wanted.last()) else { return Ok(()) };
        let start = first.handle.offset;
        let len = last.handle.end() - start;
        if !self.has_room(wanted.iter().map(|one| one.handle.len).sum()) {
            return Ok(());
        }
        let charge: Charge = self.table.context().budget.charge(Owner::Iterators, len);
        self.open.file.read_into(start, len as usize, &mut self.buffer)?;
        self.report.reads += 1;
        for one in wanted {
            let at = (one.handle.offset - start) as usize;
            let stored = self.buffer[at..at + one.handle.len as usize].to_vec();
            let block = self.open.decode_data_block(one.handle, stored)?;
            self.offer(one.warm, Priority::Normal, block);
        }
        drop(charge);
        Ok(())
    }

    /// Whether blocks with this many stored bytes may fit.
    fn has_room(&mut self, bytes: u64) -> bool {
        self.report.is_full |= self.table.context().cache.room_bytes() < bytes;
        !self.report.is_full
    }

    fn offer(&mut self, warm: WarmSlot, priority: Priority, block: CachedBlock) {
        let weight_bytes = block.weight_bytes() as u64;
        match self.open.fill(warm.slot, priority, warm.was_used_again, block) {
            Filled::Kept => {
                self.report.blocks += 1;
                self.report.bytes += weight_bytes;
            }
            Filled::Taken => {}
            Filled::NoRoom => self.report.is_full = true,
        }
    }
}

#[cfg(test)]
mod tests;
