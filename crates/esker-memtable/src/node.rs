//! Inner nodes, and references to nodes of either kind.
//!
//! Promises what `slots.rs` does. The only part of an inner node that changes after it is published
//! is the child of a slot: it is replaced by one that covers less (see `tree.rs`). Pointers are
//! stored and followed by the same rule as those of leaves: see `leaf.rs`.

#![expect(unsafe_code, reason = "follows pointers into the arena; see UNSAFE.md")]

use std::array;
use std::cmp::Ordering as Order;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use esker_base::key_head;

use crate::arena::Arena;
use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::permutation::{Permutation, SLOT_COUNT_MAX};
use crate::slots::{Slots, Writing, prefetch_lines, slots};
use crate::sync::{AtomicPtr, Ordering};
use crate::target::Target;

/// A node that holds children: one before all separators, and one after each.
#[repr(C, align(64))]
pub(crate) struct Inner {
    slots: Slots,
    first_child: AtomicPtr<Slots>,
    children: [AtomicPtr<Slots>; SLOT_COUNT_MAX],
    /// Pointers to entries, with [`WHOLE_KEY`] as a mark.
    separators: [AtomicPtr<u8>; SLOT_COUNT_MAX],
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<Inner>() == 384);

/// A node of either kind, in an arena that outlives `'a`.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    start: NonNull<Slots>,
    arena: PhantomData<&'a Arena>,
}

// SAFETY: all that changes in a node is atomic, and what it refers to lives as long as it does.
unsafe impl Send for NodeRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for NodeRef<'_> {}

/// The node that a [`NodeRef`] refers to.
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
    unsafe fn from_raw(start: NonNull<Slots>) -> Self {
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
    pub(crate) fn slots(self) -> &'a Slots {
        // SAFETY: `from_raw` was promised a node, which starts with `Slots`, alive for `'a`.
        unsafe { self.start.as_ref() }
    }

    /// The node as a leaf or an inner node.
    #[inline]
    pub(crate) fn node(self) -> Node<'a> {
        if self.slots().level() == 0 {
            // SAFETY: `Leaf::new` alone sets level 0, so a whole leaf starts here.
            Node::Leaf(unsafe { self.start.cast::<Leaf>().as_ref() })
        } else {
            // SAFETY: `Inner::new` alone sets a level above 0, so a whole inner node starts here.
            Node::Inner(unsafe { self.start.cast::<Inner>().as_ref() })
        }
    }

    /// Starts loading the cache lines that a search in the node reads.
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

/// Marks a separator that is before every entry of its user key.
const WHOLE_KEY: usize = 1;

/// The boundary between two neighbouring nodes: what is not before it is to its right.
#[derive(Clone, Copy)]
pub(crate) struct Separator<'a> {
    /// The first entry to the right at the time of the split.
    pub(crate) entry: EntryRef<'a>,
    /// Whether all versions of the entry's user key are to the right, not only those from `entry`
    /// on: then a get of that key goes to the right at once.
    pub(crate) is_whole_key: bool,
}

impl Separator<'_> {
    /// The separator between two neighbouring entries.
    pub(crate) fn between<'a>(left: EntryRef<'a>, right: EntryRef<'a>) -> Separator<'a> {
        Separator { entry: right, is_whole_key: left.user_key() != right.user_key() }
    }

    /// Whether `target` is to the right, given that both user keys share `skip` bytes.
    #[inline]
    pub(crate) fn is_at_most(self, target: &Target<'_>, skip: usize) -> bool {
        if self.is_whole_key {
            target.cmp_user_key(self.entry, skip) != Order::Less
        } else {
            target.cmp(self.entry, skip) != Order::Less
        }
    }
}

impl Inner {
    /// A node of `content`; not yet in an arena.
    pub(crate) fn new<'a>(
        level: u8,
        skip: usize,
        content: &InnerContent<'a>,
        _: &Writing<'a>,
    ) -> Self {
        assert!(level > 0, "level 0 marks a leaf");
        let separators = &content.separators[..content.count];
        let heads: [u64; SLOT_COUNT_MAX] = array::from_fn(|slot| {
            separators.get(slot).map_or(0, |it| key_head(&it.entry.user_key()[skip..]))
        });
        let children = content.children[1..=content.count].iter().map(|child| child.start.as_ptr());
        Self {
            slots: Slots::new(level, skip, &heads[..content.count]),
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
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
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
    fn child_place(&self, permutation: Permutation, index: usize) -> &AtomicPtr<Slots> {
        match index {
            0 => &self.first_child,
            _ => &self.children[permutation.slot(index - 1)],
        }
    }

    /// The child at `index`; index 0 is the one before all separators.
    ///
    /// Correct for `permutation` only as long as that is the node's: see [`Inner::read`].
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

    /// Calls `read` until the permutation passed to it was valid throughout the call.
    ///
    /// A split first publishes the new right child, then replaces the child of the old slot by one
    /// that covers less. A reader that loads the permutation before the first step and the child
    /// after the second would search on the wrong side; but then it also finds a changed
    /// permutation, because loading the replaced child acquires that too. Permutations never
    /// repeat.
    #[inline]
    pub(crate) fn read<T>(&self, read: impl Fn(Permutation) -> T) -> T {
        let mut permutation = self.slots.permutation();
        loop {
            let result = read(permutation);
            // Acquire rather than Relaxed only for the next iteration.
            let again = self.slots.permutation();
            if again == permutation {
                return result;
            }
            permutation = again;
        }
    }

    /// Which child covers `target`.
    #[inline]
    pub(crate) fn child_index(&self, permutation: Permutation, target: &Target<'_>) -> usize {
        let skip = self.slots.skip();
        self.slots.partition(permutation, target.head(skip), |slot| {
            self.separator_in(slot).is_at_most(target, skip)
        })
    }

    /// [`Inner::child_index`] for a target that may be outside the fences of this node.
    pub(crate) fn child_index_from_outside(
        &self,
        permutation: Permutation,
        target: &Target<'_>,
    ) -> usize {
        if permutation.count() == 0 {
            return 0;
        }
        match target.cmp_prefix(self.separator_in(0).entry, self.slots.skip()) {
            Order::Less => 0,
            Order::Equal => self.child_index(permutation, target),
            Order::Greater => permutation.count(),
        }
    }

    /// Publishes `right` after `separator` at `index`: it covers the upper part of what the child
    /// at `index` covers.
    pub(crate) fn insert<'a>(
        &self,
        index: usize,
        separator: Separator<'a>,
        right: NodeRef<'a>,
        writing: &Writing<'a>,
    ) {
        let permutation = self.slots.permutation();
        let slot = permutation.count();
        let head = key_head(&separator.entry.user_key()[self.slots.skip()..]);
        self.slots.set_head(slot, head, writing);
        // Release pairs with the Acquire in `separator_in`.
        self.separators[slot].store(mark(separator), Ordering::Release);
        // Release pairs with the Acquire in `child`.
        self.children[slot].store(right.start.as_ptr(), Ordering::Release);
        self.slots.publish(permutation.with_next_slot_at(index), writing);
    }

    /// Replaces the child at `index`. The old child stays readable.
    pub(crate) fn set_child<'a>(&self, index: usize, child: NodeRef<'a>, _: &Writing<'a>) {
        // Release pairs with the Acquire in `child`; it also carries the permutation published
        // before, which `read` relies on.
        let place = self.child_place(self.slots.permutation(), index);
        place.store(child.start.as_ptr(), Ordering::Release);
    }
}

/// A separator as it is stored.
fn mark(separator: Separator<'_>) -> *mut u8 {
    let mark = if separator.is_whole_key { WHOLE_KEY } else { 0 };
    separator.entry.as_raw().as_ptr().map_addr(|address| address | mark)
}

/// The content of a new inner node: `count` separators and one more child than that.
pub(crate) struct InnerContent<'a> {
    separators: [Separator<'a>; SLOT_COUNT_MAX],
    children: [NodeRef<'a>; SLOT_COUNT_MAX + 1],
    count: usize,
}

impl<'a> InnerContent<'a> {
    /// One child and no separator. `unused` fills the slots that have no separator yet.
    pub(crate) fn of_one_child(child: NodeRef<'a>, unused: Separator<'a>) -> Self {
        Self {
            separators: [unused; SLOT_COUNT_MAX],
            children: [child; SLOT_COUNT_MAX + 1],
            count: 0,
        }
    }

    /// Adds `child` after `separator`, to the right of all others.
    pub(crate) fn push(&mut self, separator: Separator<'a>, child: NodeRef<'a>) {
        self.separators[self.count] = separator;
        self.count += 1;
        self.children[self.count] = child;
    }
}

/// The root of the tree; empty until the first insert.
pub(crate) struct Root(AtomicPtr<Slots>);

impl Root {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The topmost node.
    ///
    /// The root and the arena of its nodes belong to one tree, so a borrow of the root keeps the
    /// nodes alive.
    #[inline]
    pub(crate) fn load(&self) -> Option<NodeRef<'_>> {
        // Acquire pairs with the Release in `store`.
        let start = NonNull::new(self.0.load(Ordering::Acquire))?;
        // SAFETY: not null, so stored from a `NodeRef` of the tree's arena (module header).
        Some(unsafe { NodeRef::from_raw(start) })
    }

    pub(crate) fn store<'a>(&self, node: NodeRef<'a>, _: &Writing<'a>) {
        // Release pairs with the Acquire in `load`.
        self.0.store(node.start.as_ptr(), Ordering::Release);
    }
}
