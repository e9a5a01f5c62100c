//! Data blocks of a table being written, kept for the cache.
//!
//! While a block is built, its bytes are at hand, unpacked: a copy costs a tenth of what a reader
//! would pay to read, verify and unpack the block again. Promises that nothing is evicted for these
//! blocks: they take only room that is free when each one is closed. Does not know who will read
//! them.

use std::sync::Arc;

use esker_base::FileId;
use esker_cache::{BlockCache, Weigh as _};

use crate::cached_block::{CachedBlock, Content};
use crate::data_block::DataBlock;
use crate::spare;

/// Blocks with their numbers, until their table is complete.
pub(crate) struct KeptBlocks {
    cache: Arc<BlockCache<CachedBlock>>,
    blocks: Vec<(u32, CachedBlock)>,
    bytes: usize,
}

impl KeptBlocks {
    pub(crate) fn new(cache: &Arc<BlockCache<CachedBlock>>) -> Self {
        Self { cache: Arc::clone(cache), blocks: Vec::new(), bytes: 0 }
    }

    /// Keeps a copy of block `number`, if there is room.
    pub(crate) fn note(&mut self, number: u32, payload: &[u8]) {
        let len = payload.len();
        if spare::LEN_MAX < len || self.cache.room_bytes() < (self.bytes + 2 * len) as u64 {
            return;
        }
        let mut copy = spare::payload(len);
        copy[..len].copy_from_slice(payload);
        let block = DataBlock::decode(copy, len).expect("a block that was built is one");
        let block = CachedBlock(Content::Data(block));
        self.bytes += block.weight_bytes();
        self.blocks.push((number, block));
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the blocks to the cache, for when `file` is opened.
    pub(crate) fn hand_over(self, file: FileId, slot_count: u32) {
        if !self.blocks.is_empty() {
            self.cache.keep(file, slot_count, self.blocks);
        }
    }
}
