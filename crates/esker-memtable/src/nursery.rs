//! Where the writer creates entries and nodes.
//!
//! Promises that what it creates lives as long as the tree. Does not know where that is linked.

#![expect(unsafe_code, reason = "vouches for the life of what lies in the arena; see UNSAFE.md")]

use esker_base::InternalKey;

use crate::arena::Arena;
use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::node::{Inner, InnerContent};
use crate::slots::Writing;

/// The writer's access to the arena: creates entries and nodes that live for `'a`.
pub(crate) struct Nursery<'a, 'w> {
    arena: &'w mut Arena,
    /// What changing nodes asks for.
    pub(crate) writing: Writing<'a>,
}

impl<'a, 'w> Nursery<'a, 'w> {
    /// # Safety
    /// - The arena outlives `'a`, and is neither replaced nor dropped before.
    /// - Everything that is linked under this nursery comes from it, or from an earlier one over
    ///   the same arena.
    pub(crate) unsafe fn new(arena: &'w mut Arena) -> Self {
        // SAFETY: promised to this function; the arena is borrowed by this nursery alone.
        let writing = unsafe { Writing::new() };
        Self { arena, writing }
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
        let leaf = self.arena.place(Leaf::new(skip, entries, next, &self.writing));
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
        let inner = self.arena.place(Inner::new(level, skip, content, &self.writing));
        // SAFETY: placed just above, in an arena that outlives `'a` (promised to `new`).
        unsafe { inner.as_ref() }
    }
}
