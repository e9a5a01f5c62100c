//! The nodes of the tree: write-once slots, an order that is published in one store, and
//! references between nodes that outlive every reader.
//!
//! Promises, to readers on any thread: whatever a node's [`Permutation`] names was written before,
//! and never changes. Two words of a node do change after it is published: a leaf's `next`, and
//! the child of a slot, which is exchanged for one that covers less (see `tree.rs`).
//!
//! A pointer in a node is null or leads to a complete entry or node of the same arena: it is
//! stored with Release after the pointed-to was written, and loaded with Acquire. So following
//! one is sound whatever the order of slots says, and only answers depend on the rest.

#![expect(unsafe_code, reason = "follows pointers into the arena; see UNSAFE.md")]

use std::array;
use std::cmp::Ordering as Order;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use esker_base::{InternalKey, key_head};

use crate::arena::Arena;
use crate::entry::EntryRef;
use crate::permutation::{Permutation, SLOT_COUNT_MAX};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::target::Target;

/// What leaves and inner nodes begin with: two cache lines, all that most searches read.
#[repr(C)]
pub(crate) struct Common {
    /// A [`Permutation`]. Stored with Release by the writer, after the slots it names; loaded
    /// with Acquire by readers.
    permutation: AtomicU64,
    /// Zero for a leaf; an inner node is one above its children.
    level: u8,
    /// How many first bytes all user keys of the node have in common, at least: its fences have.
    skip: u16,
    /// Of each slot, [`key_head`] of the user key behind `skip`. Ordered by `permutation`.
    heads: [AtomicU64; SLOT_COUNT_MAX],
}

/// A node that holds entries.
#[repr(C, align(64))]
pub(crate) struct Leaf {
    common: Common,
    entries: [AtomicPtr<u8>; SLOT_COUNT_MAX],
    /// The leaf behind this one, or null. Stored with Release, loaded with Acquire.
    next: AtomicPtr<Leaf>,
}

/// A node that holds children: one before all separators, and one behind each.
#[repr(C, align(64))]
pub(crate) struct Inner {
    common: Common,
    first_child: AtomicPtr<Common>,
    children: [AtomicPtr<Common>; SLOT_COUNT_MAX],
    /// Pointers to entries, with [`WHOLE_KEY`] as a mark.
    separators: [AtomicPtr<u8>; SLOT_COUNT_MAX],
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<Leaf>() == 256 && size_of::<Inner>() == 384);

/// Marks a separator that stands before every entry of its user key.
const WHOLE_KEY: usize = 1;

/// Where two neighbouring nodes part: what is not before it lies to its right.
#[derive(Clone, Copy)]
pub(crate) struct Separator<'a> {
    /// The first entry to the right at the time of the split.
    pub(crate) entry: EntryRef<'a>,
    /// Whether all versions of the entry's user key lie to the right, not only those from `entry`
    /// on. So a get of that key goes to the right at once.
    pub(crate) is_whole_key: bool,
}

impl Separator<'_> {
    /// The separator between two neighbouring entries.
    pub(crate) fn between<'a>(left: EntryRef<'a>, right: EntryRef<'a>) -> Separator<'a> {
        Separator { entry: right, is_whole_key: left.user_key() != right.user_key() }
    }

    /// Whether `target` lies to the right, where both user keys share `skip` bytes.
    #[inline]
    pub(crate) fn is_at_most(self, target: &Target<'_>, skip: usize) -> bool {
        if self.is_whole_key {
            target.cmp_user_key(self.entry, skip) != Order::Less
        } else {
            target.cmp(self.entry, skip) != Order::Less
        }
    }
}

/// A node of either kind, in an arena that outlives `'a`.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    start: NonNull<Common>,
    arena: PhantomData<&'a Arena>,
}

// SAFETY: all that changes in a node is atomic, and what it refers to lives as long as it does.
unsafe impl Send for NodeRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for NodeRef<'_> {}

/// What a [`NodeRef`] turns out to be.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    Leaf(&'a Leaf),
    Inner(&'a Inner),
}

impl<'a> NodeRef<'a> {
    /// # Safety
    /// `start` is the start of a [`Leaf`] or [`Inner`] that was placed in an arena which outlives
    /// `'a`, with that provenance; placing it happens before this call.
    #[inline]
    unsafe fn from_raw(start: NonNull<Common>) -> Self {
        Self { start, arena: PhantomData }
    }

    #[inline]
    pub(crate) fn from_leaf(leaf: &'a Leaf) -> Self {
        Self { start: NonNull::from(leaf).cast(), arena: PhantomData }
    }

    #[inline]
    pub(crate) fn from_inner(inner: &'a Inner) -> Self {
        Self { start: NonNull::from(inner).cast(), arena: PhantomData }
    }

    #[inline]
    pub(crate) fn common(self) -> &'a Common {
        // SAFETY: `from_raw` was promised a node, which starts with a `Common`, alive for `'a`.
        unsafe { self.start.as_ref() }
    }

    /// The node as what it is.
    #[inline]
    pub(crate) fn node(self) -> Node<'a> {
        if self.common().level == 0 {
            // SAFETY: `Leaf::new` alone sets level 0, so a whole leaf starts here.
            Node::Leaf(unsafe { self.start.cast::<Leaf>().as_ref() })
        } else {
            // SAFETY: `Inner::new` alone sets a level above 0, so a whole inner node starts here.
            Node::Inner(unsafe { self.start.cast::<Inner>().as_ref() })
        }
    }

    /// Starts loading the lines that a search in the node reads.
    #[inline]
    pub(crate) fn prefetch(self) {
        prefetch_lines::<4>(self.start.cast());
    }
}

impl PartialEq for NodeRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.start == other.start
    }
}

impl Common {
    fn new(level: u8, skip: usize, heads: &[u64]) -> Self {
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
    fn publish(&self, permutation: Permutation) {
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

    /// How many of the first `count` slots have a head for which `holds`.
    #[inline]
    fn count_heads(&self, count: usize, holds: impl Fn(u64) -> bool) -> usize {
        // Without branches, and over the slots as they lie: their order is not needed to count.
        self.heads[..count]
            .iter()
            .map(|head| usize::from(holds(head.load(Ordering::Relaxed))))
            .sum()
    }

    /// The first position whose slot is not `before`, where `head` is that of the target and
    /// `before` decides among the slots with the same head.
    #[inline]
    fn partition(
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
}

/// Fills an array of slots from the front, and the rest with `unused`.
fn slots<T: Copy, A>(
    used: impl IntoIterator<Item = T>,
    unused: T,
    atomic: impl Fn(T) -> A,
) -> [A; SLOT_COUNT_MAX] {
    let mut used = used.into_iter();
    let filled = array::from_fn(|_| atomic(used.next().unwrap_or(unused)));
    assert!(used.next().is_none(), "a node takes no more than its slots");
    filled
}

impl Leaf {
    fn new(skip: usize, entries: &[(u64, EntryRef<'_>)], next: *mut Self) -> Self {
        let heads: [u64; SLOT_COUNT_MAX] =
            array::from_fn(|slot| entries.get(slot).map_or(0, |(head, _)| *head));
        let pointers = entries.iter().map(|(_, entry)| entry.as_raw().as_ptr());
        Self {
            common: Common::new(0, skip, &heads[..entries.len()]),
            entries: slots(pointers, ptr::null_mut(), AtomicPtr::new),
            next: AtomicPtr::new(next),
        }
    }

    #[inline]
    pub(crate) fn common(&self) -> &Common {
        &self.common
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
        let skip = self.common.skip();
        self.common.partition(permutation, target.head(skip), |slot| {
            target.cmp(self.entry(slot), skip) == Order::Greater
        })
    }

    /// The first position whose entry is behind `target`.
    pub(crate) fn upper_bound(&self, permutation: Permutation, target: &Target<'_>) -> usize {
        let skip = self.common.skip();
        self.common.partition(permutation, target.head(skip), |slot| {
            target.cmp(self.entry(slot), skip) != Order::Less
        })
    }

    /// What `bound` (one of the two above) gives, for a target that may lie outside the fences of
    /// this leaf, and so need not share the bytes that its heads skip.
    pub(crate) fn bound_from_outside(
        &self,
        permutation: Permutation,
        target: &Target<'_>,
        bound: impl Fn(&Self, Permutation, &Target<'_>) -> usize,
    ) -> usize {
        match target.cmp_prefix(self.entry(permutation.slot(0)), self.common.skip()) {
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
    pub(crate) fn insert<'a>(&self, position: usize, entry: EntryRef<'a>, _: &Nursery<'a, '_>) {
        let permutation = self.common.permutation();
        let slot = permutation.count();
        let head = key_head(&entry.user_key()[self.common.skip()..]);
        // Relaxed: `publish` below releases it.
        self.common.heads[slot].store(head, Ordering::Relaxed);
        // Release pairs with the Acquire in `entry`.
        self.entries[slot].store(entry.as_raw().as_ptr(), Ordering::Release);
        self.common.publish(permutation.with_next_slot_at(position));
    }

    /// Makes `next` the leaf behind this one.
    pub(crate) fn set_next<'a>(&self, next: &'a Self, _: &Nursery<'a, '_>) {
        // Release pairs with the Acquire in `next`.
        self.next.store(ptr::from_ref(next).cast_mut(), Ordering::Release);
    }

    /// Starts loading the lines that reading the leaf's entries in order needs.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_lines::<4>(NonNull::from(self).cast());
    }

    /// Starts loading the first lines of every entry of the leaf.
    #[inline]
    pub(crate) fn prefetch_entries(&self) {
        for slot in 0..self.common.permutation().count() {
            prefetch_lines::<1>(self.entry(slot).as_raw());
        }
    }
}

impl Inner {
    fn new(level: u8, skip: usize, content: &InnerContent<'_>) -> Self {
        let separators = &content.separators[..content.count];
        let heads: [u64; SLOT_COUNT_MAX] = array::from_fn(|slot| {
            separators.get(slot).map_or(0, |it| key_head(&it.entry.user_key()[skip..]))
        });
        let children = content.children[1..=content.count].iter().map(|child| child.start.as_ptr());
        Self {
            common: Common::new(level, skip, &heads[..content.count]),
            first_child: AtomicPtr::new(content.children[0].start.as_ptr()),
            children: slots(children, ptr::null_mut(), AtomicPtr::new),
            separators: slots(
                separators.iter().map(|it| mark(*it)),
                ptr::null_mut(),
                AtomicPtr::new,
            ),
        }
    }

    #[inline]
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    #[inline]
    fn separator_in(&self, slot: usize) -> Separator<'_> {
        // Acquire pairs with the Release in `insert`, or in whatever published the whole node.
        let marked = self.separators[slot].load(Ordering::Acquire);
        let start = NonNull::new(marked.map_addr(|address| address & !WHOLE_KEY))
            .expect("a slot is read only once it is published");
        // SAFETY: not null, so stored from an `EntryRef` of this arena (module header), and the
        // mark is taken off; the arena outlives this borrow of a node inside it.
        let entry = unsafe { EntryRef::from_raw(start) };
        Separator { entry, is_whole_key: marked.addr() & WHOLE_KEY != 0 }
    }

    /// The separator before the child at `index + 1`.
    pub(crate) fn separator(&self, permutation: Permutation, index: usize) -> Separator<'_> {
        self.separator_in(permutation.slot(index))
    }

    #[inline]
    fn child_place(&self, permutation: Permutation, index: usize) -> &AtomicPtr<Common> {
        match index {
            0 => &self.first_child,
            _ => &self.children[permutation.slot(index - 1)],
        }
    }

    /// The child at `index`, counted from 0 for the one before all separators.
    ///
    /// Right for `permutation` only while that is the node's: see [`Inner::read`].
    #[inline]
    pub(crate) fn child(&self, permutation: Permutation, index: usize) -> NodeRef<'_> {
        // Acquire pairs with the Release in `insert` and `set_child`, or in whatever published
        // the whole node.
        let start = self.child_place(permutation, index).load(Ordering::Acquire);
        let start = NonNull::new(start).expect("a slot is read only once it is published");
        // SAFETY: not null, so stored from a `NodeRef` of this arena (module header), which
        // outlives this borrow of a node inside it.
        unsafe { NodeRef::from_raw(start) }
    }

    /// Calls `read` until the permutation that it gets held throughout the call.
    ///
    /// A split first publishes the new right child, then exchanges the child of the old slot for
    /// one that covers less. A reader that loads the permutation before the first and the child
    /// after the second would look for a key on the wrong side; but then it also finds a changed
    /// permutation, because loading the exchanged child acquires it. Permutations never repeat.
    #[inline]
    pub(crate) fn read<T>(&self, read: impl Fn(Permutation) -> T) -> T {
        let mut permutation = self.common.permutation();
        loop {
            let result = read(permutation);
            // Acquire and not Relaxed for the sake of the next turn only.
            let again = self.common.permutation();
            if again == permutation {
                return result;
            }
            permutation = again;
        }
    }

    /// Which child covers `target`.
    #[inline]
    pub(crate) fn child_index(&self, permutation: Permutation, target: &Target<'_>) -> usize {
        let skip = self.common.skip();
        self.common.partition(permutation, target.head(skip), |slot| {
            self.separator_in(slot).is_at_most(target, skip)
        })
    }

    /// [`Inner::child_index`] for a target that may lie outside the fences of this node.
    pub(crate) fn child_index_from_outside(
        &self,
        permutation: Permutation,
        target: &Target<'_>,
    ) -> usize {
        if permutation.count() == 0 {
            return 0;
        }
        match target.cmp_prefix(self.separator_in(0).entry, self.common.skip()) {
            Order::Less => 0,
            Order::Equal => self.child_index(permutation, target),
            Order::Greater => permutation.count(),
        }
    }

    /// Publishes `right` behind `separator` at `index`: it covers the upper part of what the child
    /// at `index` covers.
    pub(crate) fn insert<'a>(
        &self,
        index: usize,
        separator: Separator<'a>,
        right: NodeRef<'a>,
        _: &Nursery<'a, '_>,
    ) {
        let permutation = self.common.permutation();
        let slot = permutation.count();
        let head = key_head(&separator.entry.user_key()[self.common.skip()..]);
        // Relaxed: `publish` below releases it.
        self.common.heads[slot].store(head, Ordering::Relaxed);
        // Release pairs with the Acquire in `separator_in`.
        self.separators[slot].store(mark(separator), Ordering::Release);
        // Release pairs with the Acquire in `child`.
        self.children[slot].store(right.start.as_ptr(), Ordering::Release);
        self.common.publish(permutation.with_next_slot_at(index));
    }

    /// Exchanges the child at `index`. The one that it had stays readable.
    pub(crate) fn set_child<'a>(&self, index: usize, child: NodeRef<'a>, _: &Nursery<'a, '_>) {
        // Release pairs with the Acquire in `child`; it also carries the permutation published
        // before, which `read` relies on.
        let place = self.child_place(self.common.permutation(), index);
        place.store(child.start.as_ptr(), Ordering::Release);
    }
}

/// A separator as it is stored.
fn mark(separator: Separator<'_>) -> *mut u8 {
    let mark = if separator.is_whole_key { WHOLE_KEY } else { 0 };
    separator.entry.as_raw().as_ptr().map_addr(|address| address | mark)
}

/// What an inner node is made from: `count` separators and one child more.
pub(crate) struct InnerContent<'a> {
    separators: [Separator<'a>; SLOT_COUNT_MAX],
    children: [NodeRef<'a>; SLOT_COUNT_MAX + 1],
    count: usize,
}

impl<'a> InnerContent<'a> {
    /// One child and no separator. `unused` stands where there is no separator yet.
    pub(crate) fn of_one_child(child: NodeRef<'a>, unused: Separator<'a>) -> Self {
        Self {
            separators: [unused; SLOT_COUNT_MAX],
            children: [child; SLOT_COUNT_MAX + 1],
            count: 0,
        }
    }

    /// Adds `child` behind `separator`, to the right of all others.
    pub(crate) fn push(&mut self, separator: Separator<'a>, child: NodeRef<'a>) {
        self.separators[self.count] = separator;
        self.count += 1;
        self.children[self.count] = child;
    }
}

/// Where the tree starts; empty until the first insert.
pub(crate) struct Root(AtomicPtr<Common>);

impl Root {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The topmost node.
    ///
    /// The root and the arena whose nodes it leads to belong to one tree, so that a borrow of the
    /// root keeps the nodes.
    #[inline]
    pub(crate) fn load(&self) -> Option<NodeRef<'_>> {
        // Acquire pairs with the Release in `store`.
        let start = NonNull::new(self.0.load(Ordering::Acquire))?;
        // SAFETY: not null, so stored from a `NodeRef` of the tree's arena (module header).
        Some(unsafe { NodeRef::from_raw(start) })
    }

    pub(crate) fn store<'a>(&self, node: NodeRef<'a>, _: &Nursery<'a, '_>) {
        // Release pairs with the Acquire in `load`.
        self.0.store(node.start.as_ptr(), Ordering::Release);
    }
}

/// The writer's access to the arena: makes entries and nodes that live for `'a`, and stands as
/// proof, where nodes are linked, that one writer does it.
pub(crate) struct Nursery<'a, 'w> {
    arena: &'w mut Arena,
    /// Invariant in `'a`, so that nothing shorter-lived is linked.
    tree: PhantomData<fn(&'a Arena) -> &'a Arena>,
}

impl<'a, 'w> Nursery<'a, 'w> {
    /// # Safety
    /// - The arena outlives `'a`, and is neither replaced nor dropped before.
    /// - Everything that is linked under this nursery comes from it, or from an earlier one over
    ///   the same arena.
    pub(crate) unsafe fn new(arena: &'w mut Arena) -> Self {
        Self { arena, tree: PhantomData }
    }

    /// Copies an entry into the arena.
    #[inline]
    pub(crate) fn entry(&mut self, key: InternalKey<'_>, value: &[u8]) -> EntryRef<'a> {
        let start = EntryRef::write(self.arena, key, value);
        // SAFETY: written just above, into an arena that outlives `'a` (promised to `new`).
        unsafe { EntryRef::from_raw(start) }
    }

    /// Makes a leaf of `entries` with their heads, in order.
    pub(crate) fn leaf(
        &mut self,
        skip: usize,
        entries: &[(u64, EntryRef<'a>)],
        next: Option<&'a Leaf>,
    ) -> &'a Leaf {
        let next = next.map_or(ptr::null_mut(), |next| ptr::from_ref(next).cast_mut());
        let leaf = self.arena.place(Leaf::new(skip, entries, next));
        // SAFETY: placed just above, in an arena that outlives `'a` (promised to `new`).
        unsafe { leaf.as_ref() }
    }

    /// Makes an inner node.
    pub(crate) fn inner(
        &mut self,
        level: u8,
        skip: usize,
        content: &InnerContent<'a>,
    ) -> &'a Inner {
        assert!(level > 0, "leaves are made by another function");
        let inner = self.arena.place(Inner::new(level, skip, content));
        // SAFETY: placed just above, in an arena that outlives `'a` (promised to `new`).
        unsafe { inner.as_ref() }
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
