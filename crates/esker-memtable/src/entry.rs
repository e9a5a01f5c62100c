//! One entry in the arena: written once, then only read.
//!
//! | offset | size | field       |
//! |-------:|-----:|-------------|
//! |      0 |    8 | trailer     |
//! |      8 |    4 | value length |
//! |     12 |    2 | key length  |
//! |     14 |    k | key         |
//! | 14 + k |    v | value       |
//!
//! Aligned to two bytes and no more: the lowest bit of a pointer to an entry is free for a mark,
//! and a 130-byte entry takes 130 bytes.

#![expect(unsafe_code, reason = "reads entries through pointers; see UNSAFE.md")]

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;

use esker_base::{InternalKey, Trailer};

use crate::arena::Arena;

const VALUE_LEN_AT: usize = 8;
const KEY_LEN_AT: usize = 12;
const KEY_AT: usize = 14;

/// Alignment of every entry.
pub(crate) const ENTRY_ALIGN: usize = 2;

/// A complete entry in an arena that outlives `'a`.
#[derive(Clone, Copy)]
pub(crate) struct EntryRef<'a> {
    start: NonNull<u8>,
    arena: PhantomData<&'a Arena>,
}

// SAFETY: an entry is immutable from the moment that an `EntryRef` to it exists.
unsafe impl Send for EntryRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for EntryRef<'_> {}

impl<'a> EntryRef<'a> {
    /// Writes an entry into `arena` and returns where it starts.
    ///
    /// # Panics
    /// If the key or the value is longer than the limits of `esker_base::limits`.
    #[inline]
    pub(crate) fn write(arena: &mut Arena, key: InternalKey<'_>, value: &[u8]) -> NonNull<u8> {
        let key_len = u16::try_from(key.user_key.len()).expect("keys have at most 65,535 bytes");
        let value_len = u32::try_from(value.len()).expect("values have less than 4 GiB");
        let size = KEY_AT + key.user_key.len() + value.len();
        let layout = Layout::from_size_align(size, ENTRY_ALIGN).expect("far below isize::MAX");
        let start = arena.allocate(layout);
        let put = |at: usize, bytes: &[u8]| {
            // SAFETY: every `at + bytes.len()` below is at most `size`, which was allocated.
            let to = unsafe { start.add(at) };
            // SAFETY: as above; the memory is ours alone, so it does not overlap `bytes`.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        };
        put(0, &key.trailer.word().to_le_bytes());
        put(VALUE_LEN_AT, &value_len.to_le_bytes());
        put(KEY_LEN_AT, &key_len.to_le_bytes());
        put(KEY_AT, key.user_key);
        put(KEY_AT + key.user_key.len(), value);
        start
    }

    /// The entry at `start`.
    ///
    /// # Safety
    /// - `start` was returned by [`EntryRef::write`], and that write happens before this call.
    /// - The arena it was written to outlives `'a`.
    #[inline]
    pub(crate) const unsafe fn from_raw(start: NonNull<u8>) -> Self {
        Self { start, arena: PhantomData }
    }

    /// The address of the entry.
    #[inline]
    pub(crate) const fn as_raw(self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    fn chunk<const N: usize>(self, at: usize) -> [u8; N] {
        // SAFETY: `from_raw` was promised a complete entry, and `at + N <= KEY_AT` at each call.
        let from = unsafe { self.start.add(at) };
        // SAFETY: as above; an array of bytes has no alignment and no invalid values.
        unsafe { from.cast::<[u8; N]>().read() }
    }

    #[inline]
    fn slice(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: `from_raw` was promised a complete entry; the callers pass the places and
        // lengths that stand in its first fourteen bytes.
        let from = unsafe { self.start.add(at) };
        // SAFETY: as above; written once before, and the arena outlives `'a`.
        unsafe { std::slice::from_raw_parts(from.as_ptr(), len) }
    }

    #[inline]
    fn key_len(self) -> usize {
        usize::from(u16::from_le_bytes(self.chunk(KEY_LEN_AT)))
    }

    /// Sequence number and kind.
    #[inline]
    pub(crate) fn trailer(self) -> Trailer {
        Trailer::from_word(u64::from_le_bytes(self.chunk(0))).expect("written from a trailer")
    }

    /// The trailer's word, unchecked: for comparisons.
    #[inline]
    pub(crate) fn trailer_word(self) -> u64 {
        u64::from_le_bytes(self.chunk(0))
    }

    /// The key as the user wrote it.
    #[inline]
    pub(crate) fn user_key(self) -> &'a [u8] {
        self.slice(KEY_AT, self.key_len())
    }

    /// The whole key.
    #[inline]
    pub(crate) fn key(self) -> InternalKey<'a> {
        InternalKey { user_key: self.user_key(), trailer: self.trailer() }
    }

    /// The value.
    #[inline]
    pub(crate) fn value(self) -> &'a [u8] {
        let len = u32::from_le_bytes(self.chunk(VALUE_LEN_AT)) as usize;
        self.slice(KEY_AT + self.key_len(), len)
    }
}

#[cfg(test)]
mod tests {
    use esker_base::{EntryKind, SeqNo};

    use super::*;

    #[test]
    fn entries_read_back_at_every_length() {
        let mut arena = Arena::new();
        let lens = [(0, 0), (1, 0), (0, 1), (7, 100), (16, 100), (65_535, 3), (3, 5 << 20)];
        let mut places = Vec::new();
        for (key_len, value_len) in lens {
            let (key, value) = (vec![b'k'; key_len], vec![b'v'; value_len]);
            let key = InternalKey::new(&key, SeqNo::MAX, EntryKind::Merge);
            places.push(EntryRef::write(&mut arena, key, &value));
        }
        for ((key_len, value_len), place) in lens.into_iter().zip(places) {
            // SAFETY: written just above, and the arena is alive to the end of this test.
            let entry = unsafe { EntryRef::from_raw(place) };
            assert_eq!(entry.user_key(), vec![b'k'; key_len]);
            assert_eq!(entry.value(), vec![b'v'; value_len]);
            assert_eq!(entry.trailer(), Trailer::new(SeqNo::MAX, EntryKind::Merge));
        }
    }
}
