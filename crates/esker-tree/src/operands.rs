//! Operands of one key, collected until it is known what is beneath them.
//!
//! Memory is bounded if the operator can fold operands: past a limit they are folded to one. Does
//! not know whose operands they are; the caller adds only operands that the same readers see.

use crate::operator::{MergeError, Merger};

/// Memory of operands, in bytes, past which they should be folded: much more than chains take that
/// compaction keeps short, and little compared with a block cache.
const HEAVY_BYTES: usize = 1 << 20;

/// Memory that an operand takes besides its bytes.
const OVERHEAD_BYTES: usize = size_of::<usize>() + size_of::<&[u8]>();

/// In which order operands are added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// As found by a cursor going forward.
    NewestFirst,
    /// As found by a cursor going back.
    OldestFirst,
}

/// Adjacent operands of one key, in one buffer that is reused for other keys.
#[derive(Default)]
pub(crate) struct Operands {
    bytes: Vec<u8>,
    /// Where each operand ends in `bytes`.
    ends: Vec<usize>,
    /// How many were added, including those that have been folded since; for statistics.
    added: u64,
    /// Their size after the last fold: they are heavy again at twice that.
    folded_bytes: usize,
}

impl Operands {
    /// Removes all, and frees the memory if it is large.
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > HEAVY_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.ends.clear();
        self.added = 0;
        self.folded_bytes = 0;
    }

    /// Adds one.
    pub(crate) fn add(&mut self, operand: &[u8]) {
        self.bytes.extend_from_slice(operand);
        self.ends.push(self.bytes.len());
        self.added += 1;
    }

    /// How many were added.
    pub(crate) const fn added(&self) -> u64 {
        self.added
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn weight_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * OVERHEAD_BYTES
    }

    /// Whether they take so much memory that they should be folded.
    pub(crate) fn is_heavy(&self) -> bool {
        HEAVY_BYTES.max(2 * self.folded_bytes) < self.weight_bytes()
    }

    /// The operands, the oldest first.
    fn oldest_first(&self, order: Order) -> Vec<&[u8]> {
        let mut start = 0;
        let each =
            self.ends.iter().map(|&end| &self.bytes[std::mem::replace(&mut start, end)..end]);
        let mut operands: Vec<&[u8]> = each.collect();
        if order == Order::NewestFirst && !esker_base::planted::is("merge-operands-swapped") {
            operands.reverse();
        }
        operands
    }

    /// Folds all of them to one operand; false if the operator cannot, or fails: a merge of them will
    /// tell why, if that fails too.
    pub(crate) fn fold(&mut self, merger: Merger<'_>, order: Order) -> bool {
        if self.ends.len() > 1 {
            let mut folded = Vec::new();
            if !merger.fold(&self.oldest_first(order), &mut folded).unwrap_or(false) {
                return false;
            }
            self.ends.clear();
            self.ends.push(folded.len());
            self.bytes = folded;
        }
        self.folded_bytes = self.weight_bytes();
        true
    }

    /// The operand, if there is only one.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        (self.ends.len() == 1).then_some(&self.bytes)
    }

    /// Replaces `out` with the result of merging them into `existing`.
    pub(crate) fn merge(
        &self,
        merger: Merger<'_>,
        existing: Option<&[u8]>,
        order: Order,
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        merger.merge(existing, &self.oldest_first(order), out)
    }
}
