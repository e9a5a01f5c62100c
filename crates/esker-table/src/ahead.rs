//! Look-ahead for several reads, so that their waits for memory overlap.
//!
//! A read from the cache waits for memory four times, each time for something that the previous
//! load pointed to: the line of the filter, the slot, the block with the front of its payload, the
//! value. A caller with several reads to do prefetches the first of these for all reads, then the
//! second, and so on, before it does the reads themselves, which continue from what was found.
//!
//! Promises to change no answer and to read no file: what is not in the cache is left to the read.
//! A table that is not open stays closed.

use crate::FilterVerdict;
use crate::builder::tag_of;
use crate::open_table::BlockAhead;
use crate::prefetch::{prefetch_at, prefetch_bytes};
use crate::{Table, cached_block::CachedBlock};

/// Most bytes of a value that are prefetched.
const VALUE_LEN_MAX: usize = 256;

/// What a look-ahead finds out about a key in a table.
#[derive(Clone, Copy, Debug)]
pub enum Ahead<'a> {
    /// The table does not have it.
    RuledOut,
    /// If the table has it, then in this block.
    Block(BlockAhead<'a>),
    /// Unknown, since the table is not open, or filter or index are not in the cache.
    Unknown,
}

impl Table {
    /// Prefetches the filter's line for the key with this hash.
    #[inline]
    pub fn prefetch_filter(&self, user_key: &[u8], hash: u64) {
        if let Some(open) = self.opened()
            && let Some(partition) = open.top.candidate(user_key)
        {
            open.with_cached_filter(partition, |filter| filter.prefetch(hash));
        }
    }

    /// Announces to the system what a point read of `user_key` will read from the file; returns
    /// whether it may find the key here. Reads nothing for that: what is not known without reading
    /// is left out.
    ///
    /// # Cost
    /// Three locks, without waiting for any, and a system call for a block that is not in the
    /// cache.
    #[must_use]
    pub fn announce(&self, user_key: &[u8], hash: u64) -> bool {
        let Some(open) = self.opened() else { return true };
        let partition = open.top.candidate(user_key);
        partition.is_some_and(|partition| open.announce(partition, user_key, hash))
    }

    /// The first half of a point read of `user_key`, as far as the cache has what it needs: finds
    /// the block, and prefetches its slot. [`Table::get_in`] is the second half.
    #[inline]
    #[must_use]
    pub fn look_ahead(&self, user_key: &[u8], hash: u64) -> Ahead<'_> {
        let Some(open) = self.opened() else { return Ahead::Unknown };
        let Some(partition) = open.top.candidate(user_key) else { return Ahead::RuledOut };
        match open.cached_verdict(partition, hash) {
            None => return Ahead::Unknown,
            Some(FilterVerdict::Excluded) => return Ahead::RuledOut,
            Some(_) => {}
        }
        match open.cached_candidates(partition, user_key) {
            None => Ahead::Unknown,
            Some(None) => Ahead::RuledOut,
            Some(Some(candidates)) => {
                let block = BlockAhead { open, partition, candidates, tag: tag_of(hash) };
                prefetch_at(open.slot_address(block.slot()), 1);
                Ahead::Block(block)
            }
        }
    }
}

impl BlockAhead<'_> {
    #[inline]
    fn slot(&self) -> u32 {
        self.open.block_number(self.partition, self.candidates.first)
    }

    /// Second, after its slot: prefetches the block, and its tags and keys.
    #[inline]
    pub fn prefetch_block(&self) {
        self.open.prefetch_data(self.slot());
    }

    /// Third, for a point read: prefetches the value of the first entry with the tag.
    #[inline]
    pub fn prefetch_value(&self) {
        self.look(|block| {
            let data = block.data();
            if let Some(entry) = data.first_with_tag(self.tag) {
                prefetch_bytes(data.value(entry), VALUE_LEN_MAX);
            }
        });
    }

    #[inline]
    fn look(&self, look: impl FnOnce(&CachedBlock)) {
        self.open.peek_with(self.slot(), look);
    }
}

#[cfg(test)]
mod tests;
