//! Collects the entries of one data block and encodes them as the arrays of `data_block.rs`.
//!
//! Its buffers are reused from block to block, so an entry costs copies but no allocation.

use std::cmp::Ordering;

use esker_base::{EntryKind, InternalKey, Trailer};

use crate::data_block::HEADER_LEN;
use crate::ends::Ends;
use crate::separators::shared_prefix_len;

/// Column bytes of an entry in most blocks: a tag, and two ends of two bytes each.
const ENTRY_COLUMNS_LEN: usize = 5;

/// Most bytes of full keys that are held for one block: long keys that differ only in their last
/// bytes take almost no space in its payload.
const KEYS_HELD_MAX: usize = 16 << 20;

/// A buffer that grew past this, for a large value or many long keys, is freed.
const BUFFER_KEPT_MAX: usize = 4 << 20;

/// The entries of a block that is not closed yet.
#[derive(Default)]
pub(crate) struct DataBlockBuilder {
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    values: Vec<u8>,
    value_ends: Vec<u32>,
    tags: Vec<u8>,
    trailers: Vec<u64>,
}

/// What a closed block adds to the properties of its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockFacts {
    pub(crate) entry_count: u64,
    pub(crate) tombstone_count: u64,
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
    pub(crate) seqno_min: u64,
    pub(crate) seqno_max: u64,
}

impl BlockFacts {
    /// Facts of no entries.
    pub(crate) const NONE: Self = Self {
        entry_count: 0,
        tombstone_count: 0,
        key_bytes: 0,
        value_bytes: 0,
        seqno_min: u64::MAX,
        seqno_max: 0,
    };

    /// Adds those of another block.
    pub(crate) fn add(&mut self, block: Self) {
        self.entry_count += block.entry_count;
        self.tombstone_count += block.tombstone_count;
        self.key_bytes += block.key_bytes;
        self.value_bytes += block.value_bytes;
        self.seqno_min = self.seqno_min.min(block.seqno_min);
        self.seqno_max = self.seqno_max.max(block.seqno_max);
    }
}

impl DataBlockBuilder {
    pub(crate) const fn entry_count(&self) -> u64 {
        self.tags.len() as u64
    }

    /// Entries that only hide others.
    pub(crate) fn tombstone_count(&self) -> u64 {
        let kinds = self.trailers.iter().filter_map(|word| Trailer::from_word(*word));
        kinds.filter(|trailer| trailer.kind().is_tombstone()).count() as u64
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// What is allocated, in bytes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        let ends = self.key_ends.capacity() + self.value_ends.capacity();
        let columns = ends * size_of::<u32>() + self.tags.capacity();
        let trailers = self.trailers.capacity() * size_of::<u64>();
        self.keys.capacity() + self.values.capacity() + columns + trailers
    }

    /// About how long the payload is.
    pub(crate) const fn size_bytes(&self) -> usize {
        HEADER_LEN + self.keys.len() + self.values.len() + self.tags.len() * ENTRY_COLUMNS_LEN
    }

    /// About how long the payload would be with one more entry.
    pub(crate) fn size_bytes_with(&self, user_key: &[u8], value_len: usize, limit: usize) -> usize {
        let size = self.size_bytes() + ENTRY_COLUMNS_LEN + user_key.len() + value_len;
        if size <= limit || KEYS_HELD_MAX < self.keys.len() {
            return size;
        }
        // Only if the block seems full is it worth computing how much the prefix saves.
        let prefix_len = shared_prefix_len(self.key(0), user_key);
        size - prefix_len * self.tags.len()
    }

    /// Adds an entry, which must be greater than the last.
    #[inline]
    pub(crate) fn push(&mut self, key: InternalKey<'_>, value: &[u8], tag: u8) {
        self.keys.extend_from_slice(key.user_key);
        self.key_ends.push(self.keys.len() as u32);
        self.values.extend_from_slice(value);
        self.value_ends.push(self.values.len() as u32);
        self.tags.push(tag);
        self.trailers.push(key.trailer.word());
    }

    /// User key of the last entry.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(crate) fn last_key(&self) -> &[u8] {
        self.key(self.tags.len() - 1)
    }

    /// How `key` compares with the user key of the last entry, and whether it is greater as an
    /// internal key.
    #[inline]
    pub(crate) fn compare_to_last(&self, key: InternalKey<'_>) -> (Ordering, bool) {
        let order = key.user_key.cmp(self.last_key());
        let is_older = || self.trailers.last().is_some_and(|last| key.trailer.word() < *last);
        (order, order.is_gt() || (order.is_eq() && is_older()))
    }

    fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.key_ends[index - 1] };
        &self.keys[start as usize..self.key_ends[index] as usize]
    }

    /// Appends the payload to `out`, removes the entries, and returns facts about them.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> BlockFacts {
        let facts = self.facts();
        let count = self.tags.len();
        let prefix_len = shared_prefix_len(self.key(0), self.last_key());
        let kind = (self.trailers[0] & 0xff) as u8;
        let has_kinds = self.trailers.iter().any(|trailer| (trailer & 0xff) as u8 != kind);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        out.extend_from_slice(&(prefix_len as u16).to_le_bytes());
        let shape_at = out.len();
        out.extend_from_slice(&[0, if has_kinds { 0 } else { kind }]);
        out.extend_from_slice(&facts.seqno_min.to_le_bytes());
        out.extend_from_slice(&self.tags);
        if has_kinds {
            out.extend(self.trailers.iter().map(|trailer| (trailer & 0xff) as u8));
        }
        let seqno_code = self.encode_seqnos(out, facts.seqno_min, facts.seqno_max);
        let suffix_ends = self.key_ends.iter().enumerate();
        let suffix_ends = suffix_ends
            .map(|(index, &end)| u64::from(end) - (index as u64 + 1) * prefix_len as u64);
        let key_form = Ends::encode(out, suffix_ends);
        let value_form = Ends::encode(out, self.value_ends.iter().map(|&end| u64::from(end)));
        out[shape_at] = key_form | value_form << 2 | seqno_code << 4 | u8::from(has_kinds) << 7;
        out.extend_from_slice(&self.keys[..prefix_len]);
        if prefix_len == 0 {
            out.extend_from_slice(&self.keys);
        } else {
            (0..count).for_each(|index| out.extend_from_slice(&self.key(index)[prefix_len..]));
        }
        out.extend_from_slice(&self.values);
        self.clear();
        facts
    }

    fn facts(&self) -> BlockFacts {
        let seqnos = || self.trailers.iter().map(|trailer| trailer >> 8);
        let is_tombstone = |trailer: &&u64| {
            Trailer::from_word(**trailer).map(Trailer::kind).is_some_and(EntryKind::is_tombstone)
        };
        BlockFacts {
            entry_count: self.tags.len() as u64,
            tombstone_count: self.trailers.iter().filter(is_tombstone).count() as u64,
            key_bytes: self.keys.len() as u64,
            value_bytes: self.values.len() as u64,
            seqno_min: seqnos().min().expect("a block is closed with entries in it"),
            seqno_max: seqnos().max().expect("a block is closed with entries in it"),
        }
    }

    /// Appends the column of sequence numbers and returns the code of its width.
    fn encode_seqnos(&self, out: &mut Vec<u8>, base: u64, largest: u64) -> u8 {
        let deltas = self.trailers.iter().map(|trailer| (trailer >> 8) - base);
        match largest - base {
            0 => 0,
            1..=0xff => {
                out.extend(deltas.map(|delta| delta as u8));
                1
            }
            0x100..=0xffff => {
                deltas.for_each(|delta| out.extend_from_slice(&(delta as u16).to_le_bytes()));
                2
            }
            0x1_0000..=0xffff_ffff => {
                deltas.for_each(|delta| out.extend_from_slice(&(delta as u32).to_le_bytes()));
                3
            }
            _ => {
                deltas.for_each(|delta| out.extend_from_slice(&delta.to_le_bytes()));
                4
            }
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.values.clear();
        self.value_ends.clear();
        self.tags.clear();
        self.trailers.clear();
        for buffer in [&mut self.keys, &mut self.values] {
            if buffer.capacity() > BUFFER_KEPT_MAX {
                *buffer = Vec::new();
            }
        }
    }
}
