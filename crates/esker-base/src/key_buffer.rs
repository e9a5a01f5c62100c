//! The current key of a cursor, copied from entry to entry into reused memory.
//!
//! Promises that short keys are copied without a call and without an allocation. Does not know
//! what keys mean or how they compare.

use std::ops::Deref;

/// Initial capacity, so that keys of common lengths never make it grow.
const LEN_MIN: usize = 64;

/// A user key that is replaced again and again.
#[derive(Clone, Default, Debug)]
pub struct KeyBuffer {
    /// Longer than the key: the rest is left over from other keys.
    bytes: Box<[u8]>,
    len: usize,
}

impl KeyBuffer {
    /// An empty key, for which nothing is allocated.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The key.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Replaces the key.
    #[inline]
    pub fn set(&mut self, key: &[u8]) {
        self.set_after(0, key);
    }

    /// Replaces everything after the first `kept` bytes of the key.
    ///
    /// # Panics
    /// If the key is shorter than `kept`.
    #[inline]
    pub fn set_after(&mut self, kept: usize, suffix: &[u8]) {
        assert!(kept <= self.len, "only bytes of the key are kept");
        let len = kept + suffix.len();
        if self.bytes.len() < len {
            self.grow(len);
        }
        copy(suffix, &mut self.bytes[kept..len]);
        self.len = len;
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let room = len.next_power_of_two().max(LEN_MIN);
        // Not `vec![0; room]`: allocators have less zeroed memory at hand.
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&self.bytes[..self.len]);
        bytes.resize(room, 0);
        self.bytes = bytes.into_boxed_slice();
    }
}

impl Deref for KeyBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Copies `from` to `to`, which has the same length. Keys of common lengths are copied as two words
/// that may overlap, with a fifth of the instructions of a call.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        8..=16 => copy_ends::<8>(from, to),
        17..=32 => copy_ends::<16>(from, to),
        4..=7 => copy_ends::<4>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        if let Some(to) = to.first_chunk_mut() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KeyBuffer;

    #[test]
    fn keys_of_all_lengths_follow_each_other_behind_what_is_kept() {
        let bytes: Vec<u8> = (1..=200).collect();
        let mut buffer = KeyBuffer::new();
        assert!(buffer.is_empty());
        for len in (0..70).chain((0..70).rev()).chain([100, 3]) {
            buffer.set(&bytes[..len]);
            assert_eq!(*buffer, bytes[..len]);
            for kept in [0, len / 2, len] {
                buffer.set(&bytes[..len]);
                buffer.set_after(kept, &bytes[100..100 + len]);
                assert_eq!(*buffer, [&bytes[..kept], &bytes[100..100 + len]].concat());
            }
        }
    }

    #[test]
    #[should_panic(expected = "only bytes of the key are kept")]
    fn bytes_of_keys_before_are_not_kept() {
        let mut buffer = KeyBuffer::new();
        buffer.set(b"long");
        buffer.set(b"l");
        buffer.set_after(2, b"st");
    }
}
