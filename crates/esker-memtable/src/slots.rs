//! What leaves and inner nodes have in common: slots that are written once, their order, and the
//! heads that decide most comparisons.
//!
//! Promises to readers on any thread: every slot that a node's [`Permutation`] names was written
//! before, and never changes.

#![expect(unsafe_code, reason = "prefetches, and vouches for the one writer; see UNSAFE.md")]

use std::array;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::arena::Arena;
use crate::permutation::{Permutation, SLOT_COUNT_MAX};
use crate::sync::{AtomicU64, Ordering};

/// The first part of leaves and inner nodes: two cache lines, which are all that most searches
/// read.
#[repr(C)]
pub(crate) struct Slots {
    /// A [`Permutation`]. Stored with Release by the writer, after the slots it names; loaded
    /// with Acquire by readers.
    permutation: AtomicU64,
    /// Zero for a leaf; an inner node is one above its children.
    level: u8,
    /// A number of leading bytes that all user keys of the node share, since its fences do.
    skip: u16,
    /// For each slot, the [`key_head`] of the user key after `skip` bytes. Ordered by
    /// `permutation`.
    heads: [AtomicU64; SLOT_COUNT_MAX],
}

impl Slots {
    pub(crate) fn new(level: u8, skip: usize, heads: &[u64]) -> Self {
        Self {
            permutation: AtomicU64::new(Permutation::identity(heads.len()).word()),
            level,
            skip: u16::try_from(skip).expect("no key is longer than 65,535 bytes"),
            heads: slots(heads.iter().copied(), 0, AtomicU64::new),
        }
    }

    /// The order to read the slots in.
    #[inline]
    pub(crate) fn permutation(&self) -> Permutation {
        // Acquire pairs with the Release in `publish`: the slots that it names are filled.
        Permutation::from_word(self.permutation.load(Ordering::Acquire))
    }

    /// Publishes the next slot at `position`. The writer calls it, after filling that slot.
    #[inline]
    pub(crate) fn publish(&self, permutation: Permutation, _: &Writing<'_>) {
        // Release pairs with the Acquire in `permutation`.
        self.permutation.store(permutation.word(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    #[inline]
    pub(crate) fn skip(&self) -> usize {
        usize::from(self.skip)
    }

    #[inline]
    pub(crate) fn head(&self, slot: usize) -> u64 {
        // Relaxed: published by `permutation`, and never overwritten.
        self.heads[slot].load(Ordering::Relaxed)
    }

    /// How many of the first `count` slots have a head for which `holds` is true.
    #[inline]
    fn count_heads(&self, count: usize, holds: impl Fn(u64) -> bool) -> usize {
        // Without branches, and over the slots in memory order: counting does not need their sorted
        // order.
        self.heads[..count]
            .iter()
            .map(|head| usize::from(holds(head.load(Ordering::Relaxed))))
            .sum()
    }

    /// The first position whose slot is not before the target: `head` is the target's, and `before`
    /// decides for slots with an equal head.
    #[inline]
    pub(crate) fn partition(
        &self,
        permutation: Permutation,
        head: u64,
        before: impl Fn(usize) -> bool,
    ) -> usize {
        let count = permutation.count();
        let mut low = self.count_heads(count, |other| other < head);
        if low == count || self.head(permutation.slot(low)) != head {
            return low;
        }
        let mut high = low + self.count_heads(count, |other| other == head);
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(permutation.slot(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Writes the head of a free slot, for `publish` to release.
    #[inline]
    pub(crate) fn set_head(&self, slot: usize, head: u64, _: &Writing<'_>) {
        // Relaxed: no reader looks at the slot before it is published.
        self.heads[slot].store(head, Ordering::Relaxed);
    }
}

/// Fills an array of slots from the front, and the rest with `unused`.
pub(crate) fn slots<T: Copy, A>(
    used: impl IntoIterator<Item = T>,
    unused: T,
    atomic: impl Fn(T) -> A,
) -> [A; SLOT_COUNT_MAX] {
    let mut used = used.into_iter();
    let filled = array::from_fn(|_| atomic(used.next().unwrap_or(unused)));
    assert!(used.next().is_none(), "a node takes no more than its slots");
    filled
}

/// Proof, required to change nodes, that the caller is the single writer, and that what it links
/// lives for `'a`.
pub(crate) struct Writing<'a> {
    /// Invariant in `'a`, so that nothing shorter-lived is linked.
    arena: PhantomData<fn(&'a Arena) -> &'a Arena>,
}

impl Writing<'_> {
    /// # Safety
    /// - One writer at a time holds this for a tree.
    /// - What is linked under it lies in the arena of that tree, which outlives `'a`.
    pub(crate) unsafe fn new() -> Self {
        Self { arena: PhantomData }
    }
}

/// Starts loading `COUNT` cache lines from `start` on.
#[inline]
pub(crate) fn prefetch_lines<const COUNT: usize>(start: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..COUNT {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = start.as_ptr().wrapping_add(line * 64);
        // SAFETY: a prefetch is a hint; it reads nothing and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}
