//! The order of a node's slots, in one word that is published in one store.
//!
//! The idea is from Masstree (Mao, Kohler, Morris: Cache Craftiness for Fast Multicore Key-Value
//! Storage, 2012): entries stay in the slots where they were written, and a word of 4-bit slot
//! numbers says in which order to read them. Here slots are never freed, so the slots in use are
//! always the first `count`, and a word once loaded stays valid forever.

/// Slots of a node. Fourteen, not the fifteen that a word could name, so that a leaf fills exactly
/// four cache lines. Only a few under loom, so that a short model reaches splits.
pub(crate) const SLOT_COUNT_MAX: usize = if cfg!(all(test, loom)) { 3 } else { 14 };

const _: () = assert!(SLOT_COUNT_MAX < 16, "a slot number and the count have four bits each");

/// How many slots are in use, and their order: the count in the lowest four bits, then the slot
/// at each position, first position lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permutation(u64);

impl Permutation {
    /// `count` slots in the order of their numbers.
    pub(crate) const fn identity(count: usize) -> Self {
        assert!(count <= SLOT_COUNT_MAX, "a node has this many slots");
        let all = 0xfedc_ba98_7654_3210_u64;
        let used = if count == 0 { 0 } else { all & (u64::MAX >> (64 - 4 * count)) };
        Self(used << 4 | count as u64)
    }

    /// The permutation of a word from [`Permutation::word`].
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// How many slots are in use: `0..count` are.
    #[inline]
    pub(crate) const fn count(self) -> usize {
        (self.0 & 15) as usize
    }

    /// The slot at `position` in the order.
    #[inline]
    pub(crate) const fn slot(self, position: usize) -> usize {
        (self.0 >> (4 + 4 * position) & 15) as usize
    }

    /// Inserts the next free slot at `position`, moving those after it.
    #[inline]
    pub(crate) const fn with_next_slot_at(self, position: usize) -> Self {
        let (order, count) = (self.0 >> 4, self.count() as u64);
        let below = order & ((1 << (4 * position)) - 1);
        let above = (order ^ below) << 4;
        Self((above | count << (4 * position) | below) << 4 | (count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::{Permutation, SLOT_COUNT_MAX};

    fn order(permutation: Permutation) -> Vec<usize> {
        (0..permutation.count()).map(|position| permutation.slot(position)).collect()
    }

    #[test]
    fn slots_are_taken_in_turn_and_stand_where_inserted() {
        // Every sequence of positions, against a vector that does the same.
        fn visit(permutation: Permutation, expected: &[usize]) {
            assert_eq!(order(permutation), expected);
            assert_eq!(Permutation::from_word(permutation.word()), permutation);
            if expected.len() == SLOT_COUNT_MAX.min(6) {
                return;
            }
            for position in 0..=expected.len() {
                let mut next = expected.to_vec();
                next.insert(position, expected.len());
                visit(permutation.with_next_slot_at(position), &next);
            }
        }
        visit(Permutation::identity(0), &[]);
    }

    #[test]
    fn a_full_node_keeps_its_order() {
        for position in 0..SLOT_COUNT_MAX {
            let full = Permutation::identity(SLOT_COUNT_MAX - 1).with_next_slot_at(position);
            let mut expected: Vec<usize> = (0..SLOT_COUNT_MAX - 1).collect();
            expected.insert(position, SLOT_COUNT_MAX - 1);
            assert_eq!(order(full), expected);
        }
        assert_eq!(order(Permutation::identity(SLOT_COUNT_MAX)).len(), SLOT_COUNT_MAX);
    }
}
