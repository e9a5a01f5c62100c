//! A leaf: up to fourteen entries, in order, and a link to the next leaf.
//!
//! Promises what `slots.rs` does. Only `next` changes after a leaf is published.
//!
//! A pointer in a node is null or points to a complete entry or node in the same arena: it is
//! stored with Release after its target was written, and loaded with Acquire. So following a
//! pointer is always sound, whatever the order of slots says; only the correctness of answers
//! depends on the rest.

#![expect(unsafe_code, reason = "follows pointers into the arena; see UNSAFE.md")]

use std::array;
use std::cmp::Ordering as Order;
use std::ops::Range;
use std::ptr::{self, NonNull};

use esker_base::key_head;

use crate::entry::EntryRef;
use crate::permutation::{Permutation, SLOT_COUNT_MAX};
use crate::slots::{Slots, Writing, prefetch_lines, slots};
use crate::sync::{AtomicPtr, Ordering};
use crate::target::Target;

/// A node that holds entries.
#[repr(C, align(64))]
pub(crate) struct Leaf {
    slots: Slots,
    entries: [AtomicPtr<u8>; SLOT_COUNT_MAX],
    /// The next leaf, or null. Stored with Release, loaded with Acquire.
    next: AtomicPtr<Leaf>,
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<Leaf>() == 256);

/// How many cache lines of an entry are prefetched: all of one with a value of a hundred bytes.
const ENTRY_LINES: usize = 3;

impl Leaf {
    /// A leaf of `entries`, in order, with their heads after `skip`; not yet in an arena.
    pub(crate) fn new<'a>(
        skip: usize,
        entries: &[(u64, EntryRef<'a>)],
        next: Option<&'a Self>,
        _: &Writing<'a>,
    ) -> Self {
        let next = next.map_or(ptr::null_mut(), |next| ptr::from_ref(next).cast_mut());
        let heads: [u64; SLOT_COUNT_MAX] =
            array::from_fn(|slot| entries.get(slot).map_or(0, |(head, _)| *head));
        let pointers = entries.iter().map(|(_, entry)| entry.as_raw().as_ptr());
        Self {
            slots: Slots::new(0, skip, &heads[..entries.len()]),
            entries: slots(pointers, ptr::null_mut(), AtomicPtr::new),
            next: AtomicPtr::new(next),
        }
    }

    #[inline]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The entry in `slot`.
    #[inline]
    pub(crate) fn entry(&self, slot: usize) -> EntryRef<'_> {
        // Acquire pairs with the Release in `insert`, or in whatever published the whole leaf.
        let start = self.entries[slot].load(Ordering::Acquire);
        let start = NonNull::new(start).expect("a slot is read only once it is published");
        // SAFETY: not null, so stored from an `EntryRef` of this arena (module header); the arena
        // outlives this borrow of a leaf inside it.
        unsafe { EntryRef::from_raw(start) }
    }

    /// The first position whose entry is not before `target`.
    #[inline]
    pub(crate) fn lower_bound(&self, permutation: Permutation, target: &Target<'_>) -> usize {
        let skip = self.slots.skip();
        self.slots.partition(permutation, target.head(skip), |slot| {
            target.cmp(self.entry(slot), skip) == Order::Greater
        })
    }

    /// The first position whose entry is after `target`.
    pub(crate) fn upper_bound(&self, permutation: Permutation, target: &Target<'_>) -> usize {
        let skip = self.slots.skip();
        self.slots.partition(permutation, target.head(skip), |slot| {
            target.cmp(self.entry(slot), skip) != Order::Less
        })
    }

    /// The result of `bound` (one of the two above) for a target that may be outside the fences of
    /// this leaf, and so need not share the bytes that its heads skip.
    pub(crate) fn bound_from_outside(
        &self,
        permutation: Permutation,
        target: &Target<'_>,
        bound: impl Fn(&Self, Permutation, &Target<'_>) -> usize,
    ) -> usize {
        match target.cmp_prefix(self.entry(permutation.slot(0)), self.slots.skip()) {
            Order::Less => 0,
            Order::Equal => bound(self, permutation, target),
            Order::Greater => permutation.count(),
        }
    }

    /// The leaf behind this one.
    #[inline]
    pub(crate) fn next(&self) -> Option<&Self> {
        // Acquire pairs with the Release in `set_next`.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or a leaf of this arena (module header), which outlives this borrow.
        unsafe { next.as_ref() }
    }

    /// Writes `entry` into the next free slot and publishes it at `position`.
    #[inline]
    pub(crate) fn insert<'a>(&self, position: usize, entry: EntryRef<'a>, writing: &Writing<'a>) {
        let permutation = self.slots.permutation();
        let slot = permutation.count();
        let head = key_head(&entry.user_key()[self.slots.skip()..]);
        self.slots.set_head(slot, head, writing);
        // Release pairs with the Acquire in `entry`.
        self.entries[slot].store(entry.as_raw().as_ptr(), Ordering::Release);
        self.slots.publish(permutation.with_next_slot_at(position), writing);
    }

    /// Makes `next` the next leaf.
    pub(crate) fn set_next<'a>(&self, next: &'a Self, _: &Writing<'a>) {
        // Release pairs with the Acquire in `next`.
        self.next.store(ptr::from_ref(next).cast_mut(), Ordering::Release);
    }

    /// Starts loading the cache lines needed to read the leaf's entries in order.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_lines::<4>(NonNull::from(self).cast());
    }

    /// Starts loading the cache lines of the entries at `positions` that a short scan reads.
    #[inline]
    pub(crate) fn prefetch_at(&self, permutation: Permutation, positions: Range<usize>) {
        for position in positions.start..positions.end.min(permutation.count()) {
            prefetch_lines::<ENTRY_LINES>(self.entry(permutation.slot(position)).as_raw());
        }
    }

    /// Starts loading the cache lines of every entry of the leaf.
    #[inline]
    pub(crate) fn prefetch_entries(&self) {
        for slot in 0..self.slots.permutation().count() {
            prefetch_lines::<ENTRY_LINES>(self.entry(slot).as_raw());
        }
    }
}
