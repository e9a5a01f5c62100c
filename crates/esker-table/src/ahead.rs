//! Reads announced ahead, so that several of them wait for memory together.
//!
//! A read from the cache waits for memory four times, each time for what the load before named: the
//! line of the filter, the slot, the block with the front of its payload, the value.
//! Whoever has several reads to do asks for the first of these of all reads, then for the second,
//! and so on, before he does the reads themselves.
//!
//! Promises to change no answer, no count of uses and nothing in a file: what is not in the cache
//! is left to the read. A table that is not open stays so.

use crate::builder::tag_of;
use crate::filter::FilterBlock;
use crate::open_table::OpenTable;
use crate::prefetch::{prefetch_at, prefetch_bytes};
use crate::{Table, cached_block::CachedBlock};

/// Most bytes of a value that are asked for.
const VALUE_LEN_MAX: usize = 256;

/// The block that a read will look into, by its slot in the cache.
#[derive(Clone, Copy, Debug)]
pub struct BlockAhead<'a> {
    open: &'a OpenTable,
    slot: u32,
    tag: u8,
}

impl Table {
    /// Asks for what the filter has of the key with this hash.
    #[inline]
    pub fn ask_filter(&self, user_key: &[u8], hash: u64) {
        if let Some(open) = self.opened()
            && let Some(partition) = open.top.candidate(user_key)
        {
            open.with_cached_filter(partition, |filter| filter.ask(hash));
        }
    }

    /// Says to the file system what a point read of `user_key` will read from the file; whether it
    /// may find the key here. Nothing is read for it: what is not known without reading is left out.
    ///
    /// # Cost
    /// Three locks, none of which is waited for, and a call of the system for a block that is not in
    /// the cache.
    #[must_use]
    pub fn announce(&self, user_key: &[u8], hash: u64) -> bool {
        let Some(open) = self.opened() else { return true };
        let partition = open.top.candidate(user_key);
        partition.is_some_and(|partition| open.announce(partition, user_key, hash))
    }

    /// The block that a point read of `user_key` looks into, whose slot is asked for; `None` if the
    /// filter rules the key out.
    #[inline]
    #[must_use]
    pub fn block_of_key(&self, user_key: &[u8], hash: u64) -> Option<BlockAhead<'_>> {
        let open = self.opened()?;
        let partition = open.top.candidate(user_key)?;
        let may_contain = |filter: &FilterBlock| filter.may_contain(hash);
        if !open.with_cached_filter(partition, may_contain).unwrap_or(true) {
            return None;
        }
        open.block_ahead(partition, user_key, tag_of(hash))
    }
}

impl OpenTable {
    #[inline]
    fn block_ahead(&self, partition: usize, user_key: &[u8], tag: u8) -> Option<BlockAhead<'_>> {
        let number = self.cached_candidate(partition, user_key)?;
        let slot = self.block_number(partition, number);
        prefetch_at(self.slot_address(slot), 1);
        Some(BlockAhead { open: self, slot, tag })
    }
}

impl BlockAhead<'_> {
    /// Second, after its slot: asks for the block, and for its tags and keys.
    #[inline]
    pub fn ask_block(&self) {
        self.open.ask_data(self.slot);
    }

    /// Third, for a point read: asks for the value of the first entry with the tag.
    #[inline]
    pub fn ask_value(&self) {
        self.look(|block| {
            let data = block.data();
            if let Some(entry) = data.first_with_tag(self.tag) {
                prefetch_bytes(data.value(entry), VALUE_LEN_MAX);
            }
        });
    }

    #[inline]
    fn look(&self, look: impl FnOnce(&CachedBlock)) {
        self.open.peek_with(self.slot, look);
    }
}

#[cfg(test)]
mod tests;
