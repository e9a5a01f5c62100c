//! A data block: entries as arrays, one column after another.
//!
//! | offset | size | field         | meaning                                                    |
//! |-------:|-----:|---------------|------------------------------------------------------------|
//! |      0 |    4 | `count`       | entries, at least one                                      |
//! |      4 |    2 | `prefix_len`  | bytes that all user keys start with                        |
//! |      6 |    1 | `shape`       | forms of the columns, see below                            |
//! |      7 |    1 | `kind`        | kind of every entry; zero if there is a column of kinds    |
//! |      8 |    8 | `seqno_base`  | smallest sequence number                                   |
//!
//! Then the columns, each of `count` items, and the bytes:
//!
//! | column      | item                                    | left out                            |
//! |-------------|-----------------------------------------|-------------------------------------|
//! | tags        | low byte of the user key's hash         | never                               |
//! | kinds       | kind byte                               | unless bit 7 of `shape` is set      |
//! | seqnos      | seqno less `seqno_base`, 1, 2, 4 or 8 B | if all are equal (bits 4..7 are 0)  |
//! | key ends    | where the key's suffix ends             | stride only, if all are as long     |
//! | value ends  | where the value ends                    | stride only, if all are as long     |
//! | prefix, suffixes, values |                            |                                     |
//!
//! `shape`: bits 0..2 form of the key ends, bits 2..4 form of the value ends (see `ends.rs`),
//! bits 4..7 width of the seqnos (0: none, 1, 2, 3, 4: 1, 2, 4, 8 bytes), bit 7 kinds.
//!
//! So a point read compares eight tags at a time, and one key; a seek does a binary search on the
//! first eight bytes of suffixes; and any entry can be decoded directly, in both directions,
//! without its neighbours. A block of puts whose sequence numbers are all zero spends nothing on
//! trailers.
//!
//! [`DataBlock::decode`] checks every column once; the code here relies on that.

mod decode;

use std::cmp::Ordering;
use std::ops::Range;

use esker_base::{EntryKind, InternalKey, SeqNo, Trailer, is_same_key, key_head, strip_key_prefix};

use crate::ends::Ends;
use crate::prefetch::prefetch_bytes;

/// Bytes before the columns.
pub(crate) const HEADER_LEN: usize = 16;

/// Blocks with more entries than this are searched by binary search, since every 256th tag matches
/// by chance.
const TAG_SCAN_MAX: usize = 1024;

/// Most bytes of a value that a point read prefetches.
const VALUE_PREFETCHED_MAX: usize = 128;

/// A data block in memory: the payload as it was stored, and the positions of its columns.
///
/// Positions are 32 bits: columns and keys end before 4 GiB, and only values may extend past that.
/// So the struct takes two cache lines, including the counts of its `Arc`, instead of three.
#[derive(Debug)]
pub(crate) struct DataBlock {
    /// May be longer than the payload; the rest is never looked at.
    payload: Box<[u8]>,
    seqno_base: u64,
    count: u32,
    kinds_at: u32,
    seqnos_at: u32,
    prefix_at: u32,
    suffixes_at: u32,
    values_at: u32,
    key_ends: Ends,
    value_ends: Ends,
    /// The kind of all entries; if they differ, there is a column of kinds.
    kind: Option<EntryKind>,
    seqnos: Seqnos,
}

const _: () = assert!(size_of::<DataBlock>() <= 128 - 2 * size_of::<usize>() - 8);

/// The form of the column of sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seqnos {
    Equal,
    U8,
    U16,
    U32,
    U64,
}

/// The result of looking up one user key in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// The newest entry that the snapshot sees.
    pub(crate) entry: Option<usize>,
    /// Entries of the key that are too new for the snapshot.
    pub(crate) stepped_over: u64,
}

impl DataBlock {
    /// How many entries there are, at least one.
    #[inline]
    pub(crate) const fn count(&self) -> usize {
        self.count as usize
    }

    /// The tags of all entries.
    #[inline]
    pub(crate) fn tags(&self) -> &[u8] {
        &self.payload[HEADER_LEN..HEADER_LEN + self.count()]
    }

    /// The first entry with this tag.
    #[inline]
    pub(crate) fn first_with_tag(&self, tag: u8) -> Option<usize> {
        self.tags().iter().position(|&other| other == tag)
    }

    /// The bytes that a seek may look at: the columns after the kinds, and all keys.
    #[inline]
    pub(crate) fn columns_and_keys(&self) -> &[u8] {
        &self.payload[self.seqnos_at as usize..self.values_at as usize]
    }

    /// The bytes that a search may look at: everything before the values.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        &self.payload[..self.values_at as usize]
    }

    /// The tag of entry `index`.
    #[inline]
    pub(crate) fn tag(&self, index: usize) -> u8 {
        self.payload[HEADER_LEN + index]
    }

    /// The prefix of all user keys.
    #[inline]
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.payload[self.prefix_at as usize..self.suffixes_at as usize]
    }

    /// The part after the prefix of the user key of entry `index`.
    #[inline]
    pub(crate) fn suffix(&self, index: usize) -> &[u8] {
        let bounds = self.key_ends.bounds(&self.payload, index);
        let suffixes_at = self.suffixes_at as usize;
        &self.payload[suffixes_at + bounds.start..suffixes_at + bounds.end]
    }

    /// The payload, with possible extra bytes after it; ranges of values are relative to it.
    #[inline]
    pub(crate) const fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The range of the value of entry `index` in the payload.
    #[inline]
    pub(crate) fn value_range(&self, index: usize) -> Range<usize> {
        let bounds = self.value_ends.bounds(&self.payload, index);
        let values_at = self.values_at as usize;
        values_at + bounds.start..values_at + bounds.end
    }

    /// The value of entry `index`.
    #[inline]
    pub(crate) fn value(&self, index: usize) -> &[u8] {
        &self.payload[self.value_range(index)]
    }

    /// The values from entry `index` on.
    #[inline]
    pub(crate) fn values_from(&self, index: usize) -> &[u8] {
        &self.payload[self.value_range(index).start..]
    }

    /// The values of the entries up to `index`, inclusive.
    #[inline]
    pub(crate) fn values_up_to(&self, index: usize) -> &[u8] {
        &self.payload[self.values_at as usize..self.value_range(index).end]
    }

    /// Sequence number and kind of entry `index`.
    #[inline]
    pub(crate) fn trailer(&self, index: usize) -> Trailer {
        let kind = match self.kind {
            Some(kind) => kind,
            None => EntryKind::from_byte(self.payload[self.kinds_at as usize + index])
                .expect("kinds were checked when the block was decoded"),
        };
        let seqno = SeqNo::new(self.seqno_word(index));
        Trailer::new(seqno.expect("and so were sequence numbers"), kind)
    }

    /// Whether two entries have the same user key. Does not use tags, which a walk does not need
    /// otherwise and which may not be in the processor's cache.
    #[inline]
    pub(crate) fn has_same_key(&self, a: usize, b: usize) -> bool {
        is_same_key(self.suffix(a), self.suffix(b))
    }

    #[inline]
    fn seqno_word(&self, index: usize) -> u64 {
        let delta = match self.seqnos {
            Seqnos::Equal => 0,
            Seqnos::U8 => u64::from(u8::from_le_bytes(self.seqno_bytes(index))),
            Seqnos::U16 => u64::from(u16::from_le_bytes(self.seqno_bytes(index))),
            Seqnos::U32 => u64::from(u32::from_le_bytes(self.seqno_bytes(index))),
            Seqnos::U64 => u64::from_le_bytes(self.seqno_bytes(index)),
        };
        self.seqno_base + delta
    }

    #[inline]
    fn seqno_bytes<const N: usize>(&self, index: usize) -> [u8; N] {
        let column = &self.payload[self.seqnos_at as usize + index * N..];
        *column.first_chunk().expect("columns were checked when the block was decoded")
    }

    /// The newest entry of `user_key` that `snapshot` sees, found by tags; `tag` is the key's.
    #[inline]
    pub(crate) fn find(&self, user_key: &[u8], tag: u8, snapshot: SeqNo) -> Found {
        let Some(suffix) = strip_key_prefix(user_key, self.prefix()) else {
            return Found { entry: None, stepped_over: 0 };
        };
        if self.count() > TAG_SCAN_MAX {
            return self.find_by_order(suffix, snapshot);
        }
        let mut found = Found { entry: None, stepped_over: 0 };
        let (words, rest) = self.payload[HEADER_LEN..HEADER_LEN + self.count()].as_chunks::<8>();
        let splat = u64::from_le_bytes([tag; 8]);
        for (number, word) in words.iter().enumerate() {
            let mut matches = zero_bytes(u64::from_le_bytes(*word) ^ splat);
            while matches != 0 {
                let index = number * 8 + matches.trailing_zeros() as usize / 8;
                // Prefetched before the key is compared, since it usually matches.
                prefetch_bytes(self.value(index), VALUE_PREFETCHED_MAX);
                if self.settles(index, suffix, snapshot, &mut found) {
                    return found;
                }
                matches &= matches - 1;
            }
        }
        for (offset, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == tag) {
            let index = words.len() * 8 + offset;
            if self.settles(index, suffix, snapshot, &mut found) {
                return found;
            }
        }
        found
    }

    /// Checks entry `index`, whose tag matches; returns whether the search is over.
    #[inline]
    fn settles(&self, index: usize, suffix: &[u8], snapshot: SeqNo, found: &mut Found) -> bool {
        if !is_same_key(self.suffix(index), suffix) {
            return false;
        }
        // Entries of one key come newest first, so the first visible one is the newest.
        if self.seqno_word(index) <= snapshot.get()
            || esker_base::planted::is("block-ignores-snapshot")
        {
            found.entry = Some(index);
            return true;
        }
        found.stepped_over += 1;
        false
    }

    fn find_by_order(&self, suffix: &[u8], snapshot: SeqNo) -> Found {
        let first = self.partition_point(|index| self.suffix(index) < suffix);
        let mut found = Found { entry: None, stepped_over: 0 };
        for index in first..self.count() {
            if self.suffix(index) != suffix || self.settles(index, suffix, snapshot, &mut found) {
                break;
            }
        }
        found
    }

    /// The first entry that is not less than `target`; [`DataBlock::count`] if there is none.
    #[inline]
    pub(crate) fn lower_bound(&self, target: InternalKey<'_>) -> usize {
        let Some(suffix) = strip_key_prefix(target.user_key, self.prefix()) else {
            return if target.user_key < self.prefix() { 0 } else { self.count() };
        };
        let head = key_head(suffix);
        let first = self.first_with_head(head);
        if first < self.count() && key_head(self.suffix(first)) == head {
            self.lower_bound_among_equal_heads(first, suffix, target.trailer)
        } else {
            first
        }
    }

    /// The first entry whose suffix has a head that is not less than `head`. If suffixes have equal
    /// lengths, each comparison takes a single load at a computed position.
    #[inline]
    fn first_with_head(&self, head: u64) -> usize {
        let suffixes = &self.payload[self.suffixes_at as usize..self.values_at as usize];
        match self.key_ends.stride() {
            Some(stride @ 8..) => self
                .partition_point(|index| suffixes.get(index * stride..).map_or(0, key_head) < head),
            _ => self.partition_point(|index| key_head(self.suffix(index)) < head),
        }
    }

    /// [`DataBlock::lower_bound`] among the entries, from `first` on, whose heads equal the
    /// target's, so that heads do not decide.
    fn lower_bound_among_equal_heads(
        &self,
        first: usize,
        suffix: &[u8],
        trailer: Trailer,
    ) -> usize {
        let is_less = |index: usize| match self.suffix(index).cmp(suffix) {
            Ordering::Less => true,
            // Newer entries of the key come before the target.
            Ordering::Equal if esker_base::planted::is("wrong-bound-in-seek") => {
                trailer <= self.trailer(index)
            }
            Ordering::Equal => trailer < self.trailer(index),
            Ordering::Greater => false,
        };
        // Usually it is the first. After it, binary search: there may be very many with the same
        // head.
        if !is_less(first) {
            return first;
        }
        self.partition_point(|index| index <= first || is_less(index))
    }

    /// The first entry for which `is_before` is false; it is true for all entries before that.
    #[inline]
    fn partition_point(&self, is_before: impl Fn(usize) -> bool) -> usize {
        let (mut start, mut end) = (0, self.count());
        while start < end {
            let middle = start.midpoint(end);
            if is_before(middle) {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        start
    }

    /// Whether entry `index` is not less than `target`.
    pub(crate) fn is_at_or_after(&self, index: usize, target: InternalKey<'_>) -> bool {
        index >= self.lower_bound(target)
    }

    /// The memory of the payload, to be reused for another block.
    pub(crate) fn into_payload(self) -> Box<[u8]> {
        self.payload
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val::<[u8]>(&self.payload)
    }
}

/// The top bit of every byte of `word` that is zero, and no other bit.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    !(((word & LOW) + LOW) | word | LOW)
}

#[cfg(test)]
mod tests;
