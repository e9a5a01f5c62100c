//! The keys of the benchmark: functions of an index, all different.

use esker_base::key_head;

use super::random::mix;

/// How keys are made from indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Hashes of the index: consecutive indexes give random keys.
    Hashed,
    /// Ascending with the index, spread evenly.
    Ascending,
}

/// Makes keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) order: Order,
    /// Indexes below it belong to keys that exist.
    pub(super) count: u64,
    size: usize,
    seed: u64,
}

impl Keys {
    pub(super) const fn new(order: Order, count: u64, size: usize, seed: u64) -> Self {
        Self { order, count, size, seed: mix(seed) }
    }

    /// A buffer for one key.
    pub(super) fn buffer(&self) -> Vec<u8> {
        vec![0; self.size]
    }

    /// Writes the key of `index`.
    #[inline]
    pub(super) fn write(&self, index: u64, key: &mut [u8]) {
        let head = match self.order {
            Order::Hashed => mix(index.wrapping_add(self.seed)),
            Order::Ascending => index * self.stride(),
        };
        write_key(head, key);
    }

    /// Writes a key that does not exist, a neighbour of keys that do.
    #[inline]
    pub(super) fn write_missing(&self, index: u64, key: &mut [u8]) {
        let head = match self.order {
            Order::Hashed => mix((index + self.count).wrapping_add(self.seed)),
            Order::Ascending => index * self.stride() + self.stride() / 2,
        };
        write_key(head, key);
    }

    const fn stride(&self) -> u64 {
        u64::MAX / self.count
    }
}

/// The first eight bytes are `head`; the rest is a function of it.
#[inline]
fn write_key(head: u64, key: &mut [u8]) {
    let (first, rest) = key.split_at_mut(8);
    // As `key_head` reads it: keys are ordered like their heads.
    first.copy_from_slice(&head.swap_bytes().to_le_bytes());
    debug_assert!(key_head(first) == head);
    let mut tail = head;
    for chunk in rest.chunks_mut(8) {
        tail = mix(tail ^ 0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&tail.to_le_bytes()[..chunk.len()]);
    }
}
