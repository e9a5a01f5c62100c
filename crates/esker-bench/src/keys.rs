//! The keys: functions of an index, and all different. The same as those of `esker bench`.

use crate::random::mix;

/// Size of a key, in bytes.
pub(crate) const KEY_BYTES: usize = 16;

/// One key.
pub(crate) type Key = [u8; KEY_BYTES];

/// How keys follow from indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Hashes of the index: one index after the other gives random keys.
    Hashed,
    /// Ascending with the index, spread evenly.
    Ascending,
}

/// Makes keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    order: Order,
    /// Indexes below it belong to keys that exist.
    pub(crate) count: u64,
    seed: u64,
}

impl Keys {
    pub(crate) const fn new(order: Order, count: u64, seed: u64) -> Self {
        Self { order, count, seed: mix(seed) }
    }

    /// The key of `index`. Those of indexes not below the count do not exist, unless they were
    /// inserted since.
    #[inline]
    pub(crate) fn of(&self, index: u64) -> Key {
        let head = match self.order {
            Order::Hashed => mix(index.wrapping_add(self.seed)),
            Order::Ascending => index * (u64::MAX / self.count),
        };
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&head.swap_bytes().to_le_bytes());
        let tail = mix(head ^ 0x9e37_79b9_7f4a_7c15);
        key[8..].copy_from_slice(&tail.to_le_bytes());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_keys_ascend_and_hashed_keys_differ() {
        let ascending = Keys::new(Order::Ascending, 1000, 1);
        assert!((1..1000).all(|index| ascending.of(index - 1) < ascending.of(index)));
        let hashed = Keys::new(Order::Hashed, 1000, 1);
        let mut all: Vec<Key> = (0..2000).map(|index| hashed.of(index)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2000);
    }
}
