//! The top index: which partition may hold a key. Small, and in memory while its table is open.
//!
//! ```text
//! top_index := count u32, partition{count}, separators
//! partition := block_count varint, index handle, filter handle (length 0: no filter)
//! handle    := offset varint, length varint
//! ```
//!
//! The separator of a partition is that of its last block. A user key never extends over two
//! partitions, so at most one partition can hold it. A table with only range tombstones has no
//! partition.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use esker_base::coding::{DecodeError, Decoder, put_varint};

use crate::BlockHandle;
use crate::separators::Separators;

/// One partition of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Partition {
    /// Number of its first data block, counted over the whole table.
    pub(crate) first_block: u32,
    pub(crate) block_count: u32,
    pub(crate) index: BlockHandle,
    pub(crate) filter: Option<BlockHandle>,
}

/// The top index, in memory.
#[derive(Debug)]
pub(crate) struct TopIndex {
    payload: Box<[u8]>,
    separators: Separators,
    partitions: Box<[Partition]>,
}

impl TopIndex {
    pub(crate) fn encode(
        out: &mut Vec<u8>,
        partitions: &[Partition],
        separator_bytes: &[u8],
        separator_ends: &[usize],
    ) {
        out.extend_from_slice(&(partitions.len() as u32).to_le_bytes());
        for partition in partitions {
            put_varint(out, u64::from(partition.block_count));
            partition.index.encode(out);
            partition.filter.unwrap_or(BlockHandle { offset: 0, len: 0 }).encode(out);
        }
        Separators::encode(out, separator_bytes, separator_ends);
    }

    pub(crate) fn decode(payload: Box<[u8]>) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(&payload);
        let count = decoder.u32()? as usize;
        // Each partition takes five bytes at least, so the count is bounded by the payload.
        if count > payload.len() {
            return Err(decoder.error("top index has an impossible number of partitions"));
        }
        let mut partitions = Vec::with_capacity(count);
        let mut first_block = 0_u32;
        for _ in 0..count {
            let block_count = decoder.varint_u32()?;
            let index = BlockHandle::decode(&mut decoder)?;
            let filter = BlockHandle::decode(&mut decoder)?;
            let filter = (filter.len != 0).then_some(filter);
            partitions.push(Partition { first_block, block_count, index, filter });
            let overflow = decoder.error("top index counts too many blocks");
            first_block = first_block.checked_add(block_count).ok_or(overflow)?;
        }
        let separators = Separators::decode(&payload, count, &mut decoder)?;
        decoder.finish()?;
        Ok(Self { separators, partitions: partitions.into(), payload })
    }

    pub(crate) const fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Data blocks of all partitions together.
    pub(crate) fn data_block_count(&self) -> u32 {
        self.partitions.last().map_or(0, |last| last.first_block.saturating_add(last.block_count))
    }

    /// The first partition with a key that is not less than `user_key`, which is the only one that
    /// can hold it; `None` if all keys are less.
    #[inline]
    pub(crate) fn find(&self, user_key: &[u8]) -> Option<usize> {
        let (first, _) = self.separators.find(&self.payload, user_key);
        (first < self.partitions.len()).then_some(first)
    }

    /// [`TopIndex::find`], for callers that search the partition's index next: if there is only one
    /// partition, that index also shows whether all keys are less.
    #[inline]
    pub(crate) fn candidate(&self, user_key: &[u8]) -> Option<usize> {
        if self.partitions.len() == 1 { Some(0) } else { self.find(user_key) }
    }

    /// Appends the separator of partition `number`.
    pub(crate) fn append_separator(&self, number: usize, out: &mut Vec<u8>) {
        self.separators.append_to(&self.payload, number, out);
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of_val::<[u8]>(&self.payload)
            .wrapping_add(size_of_val::<[Partition]>(&self.partitions))
            .wrapping_add(self.separators.memory_bytes())
    }
}
/// How many cacheable blocks a table has: its data blocks, and an index and a filter for each
/// partition. `None` if there are too many to number.
pub(crate) fn slot_count(data_block_count: u32, partition_count: usize) -> Option<u32> {
    let others = u32::try_from(partition_count).ok()?.checked_mul(2)?;
    data_block_count.checked_add(others)
}
