//! The index of one partition: which of its data blocks may hold a key, and where they are.
//!
//! ```text
//! index := count u32, form u8, start u64, block ends (see ends.rs), separators
//! ```
//!
//! The data blocks of a partition follow one another from `start`, so their ends suffice.

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

use esker_base::coding::{DecodeError, Decoder};

use crate::BlockHandle;
use crate::ends::Ends;
use crate::separators::Separators;

/// The index of one partition, in memory.
#[derive(Debug)]
pub(crate) struct IndexBlock {
    payload: Box<[u8]>,
    separators: Separators,
    start: u64,
    ends: Ends,
    data_bytes: u64,
}

/// The data blocks that may hold entries of one user key, by their numbers in the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidates {
    /// The first block with a key that is not less than the searched one.
    pub(crate) first: usize,
    /// The last block that may hold the key. Differs from `first` only if versions of one key
    /// extend over several blocks, or a separator happens to equal the key.
    pub(crate) last: usize,
}

impl IndexBlock {
    /// Appends the index of blocks that follow one another from `start` and end, relative to it, at
    /// `block_ends`.
    pub(crate) fn encode(
        out: &mut Vec<u8>,
        start: u64,
        block_ends: &[u64],
        separator_bytes: &[u8],
        separator_ends: &[usize],
    ) {
        out.extend_from_slice(&(block_ends.len() as u32).to_le_bytes());
        let form_at = out.len();
        out.push(0);
        out.extend_from_slice(&start.to_le_bytes());
        let form = Ends::encode(out, block_ends.iter().copied());
        if let Some(byte) = out.get_mut(form_at) {
            *byte = form;
        }
        Separators::encode(out, separator_bytes, separator_ends);
    }

    /// Decodes the index of a partition of `block_count` data blocks, all of which must be before
    /// `data_end`.
    pub(crate) fn decode(
        payload: Box<[u8]>,
        block_count: u32,
        data_end: u64,
    ) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(&payload);
        let count = decoder.u32()?;
        if count != block_count || count == 0 {
            return Err(decoder.error("index counts other blocks than the top index"));
        }
        let form = decoder.u8()?;
        let start = decoder.u64()?;
        let (ends, data_bytes) = Ends::decode(form, count as usize, &mut decoder)?;
        let data_bytes = data_bytes as u64;
        if start.checked_add(data_bytes).is_none_or(|end| end > data_end) {
            return Err(decoder.error("index names blocks that reach into itself"));
        }
        // Found by fuzzing: four billion empty blocks take forever to search.
        if data_bytes < u64::from(count) {
            return Err(decoder.error("index names more blocks than there are bytes"));
        }
        let separators = Separators::decode(&payload, count as usize, &mut decoder)?;
        decoder.finish()?;
        Ok(Self { separators, start, ends, data_bytes, payload })
    }

    /// If `bytes` may start with an index whose blocks are at or after `least` and end at
    /// `data_end`: its number of blocks, and the length of its payload. Only checks that the
    /// numbers fit.
    pub(crate) fn measure(bytes: &[u8], least: u64, data_end: u64) -> Option<(u32, usize)> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.u32().ok()?;
        let form = decoder.u8().ok()?;
        let start = decoder.u64().ok()?;
        let data_bytes = data_end.checked_sub(start)?;
        if start < least || count == 0 || data_bytes < u64::from(count) {
            return None;
        }
        let (_, found_bytes) = Ends::decode(form, count as usize, &mut decoder).ok()?;
        if found_bytes as u64 != data_bytes {
            return None;
        }
        Separators::skip(count as usize, &mut decoder).ok()?;
        Some((count, decoder.position()))
    }

    /// How many data blocks the partition has.
    pub(crate) const fn block_count(&self) -> usize {
        self.separators.count()
    }

    /// The handle of data block `number`.
    pub(crate) fn handle(&self, number: usize) -> BlockHandle {
        let bounds = self.ends.bounds(&self.payload, number);
        let len = bounds.end.saturating_sub(bounds.start) as u64;
        BlockHandle { offset: self.start.saturating_add(bounds.start as u64), len }
    }

    /// The handle of all data blocks of the partition together.
    pub(crate) const fn data(&self) -> BlockHandle {
        BlockHandle { offset: self.start, len: self.data_bytes }
    }

    /// Which blocks may hold `user_key`; `None` if it is greater than every key of the partition.
    #[inline]
    pub(crate) fn candidates(&self, user_key: &[u8]) -> Option<Candidates> {
        let (first, equal_count) = self.separators.find(&self.payload, user_key);
        let last_block = self.block_count().wrapping_sub(1);
        let last = first.wrapping_add(equal_count).min(last_block);
        (first <= last_block).then_some(Candidates { first, last })
    }

    /// Whether the separator of data block `number` is `user_key`.
    pub(crate) fn is_separator(&self, number: usize, user_key: &[u8]) -> bool {
        self.separators.is_at(&self.payload, number, user_key)
    }

    /// Appends the separator of data block `number`.
    pub(crate) fn append_separator(&self, number: usize, out: &mut Vec<u8>) {
        self.separators.append_to(&self.payload, number, out);
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            .wrapping_add(size_of_val::<[u8]>(&self.payload))
            .wrapping_add(self.separators.memory_bytes())
    }
}
