//! A position in the tree that moves both ways.
//!
//! Forwards it follows the links between leaves, and asks for the entries of the leaf ahead while
//! it reads this one. Backwards across a leaf it goes down from the root again: leaves have no
//! links in that direction.

use esker_base::{InternalKey, key_head};

use crate::entry::EntryRef;
use crate::map::EntryCursor;
use crate::node::Leaf;
use crate::permutation::Permutation;
use crate::target::Target;
use crate::tree::{ArenaTree, last_leaf_under};

/// A cursor over an [`ArenaTree`].
///
/// Sees every entry that was inserted before its last seek; of later ones, any or none.
#[derive(Clone)]
pub struct TreeCursor<'a> {
    tree: &'a ArenaTree,
    current: Option<Place<'a>>,
}

/// An entry, and where it stands. The permutation is the leaf's at some time: it stays true.
#[derive(Clone, Copy)]
struct Place<'a> {
    leaf: &'a Leaf,
    permutation: Permutation,
    position: usize,
    entry: EntryRef<'a>,
    head: u64,
}

impl<'a> Place<'a> {
    #[inline]
    fn new(leaf: &'a Leaf, permutation: Permutation, position: usize) -> Self {
        let entry = leaf.entry(permutation.slot(position));
        Self { leaf, permutation, position, entry, head: key_head(entry.user_key()) }
    }

    fn first_of(leaf: &'a Leaf) -> Self {
        Self::new(leaf, leaf.common().permutation(), 0)
    }

    fn last_of(leaf: &'a Leaf) -> Self {
        let permutation = leaf.common().permutation();
        Self::new(leaf, permutation, permutation.count() - 1)
    }

    /// The place before `position` of `leaf`; the leaf is the one that covers `target`, whose
    /// predecessor is asked for, and `left` the node to its left.
    fn before(
        tree: &'a ArenaTree,
        target: &Target<'_>,
        position: impl Fn(&Leaf, Permutation) -> usize,
    ) -> Option<Self> {
        let (leaf, left) = tree.leaf_and_left_for(target)?;
        let permutation = leaf.common().permutation();
        match position(leaf, permutation).checked_sub(1) {
            Some(position) => Some(Self::new(leaf, permutation, position)),
            None => left.map(|left| Self::last_of(last_leaf_under(left))),
        }
    }
}

impl<'a> TreeCursor<'a> {
    pub(crate) fn new(tree: &'a ArenaTree) -> Self {
        Self { tree, current: None }
    }

    #[inline]
    fn place(&self) -> &Place<'a> {
        self.current.as_ref().expect("the cursor stands on an entry")
    }

    /// The current entry.
    #[inline]
    pub(crate) fn entry(&self) -> EntryRef<'a> {
        self.place().entry
    }

    /// [`key_head`] of the current user key.
    ///
    /// # Panics
    /// If the cursor stands on no entry.
    #[inline]
    #[must_use]
    pub fn head(&self) -> u64 {
        self.place().head
    }
}

impl EntryCursor for TreeCursor<'_> {
    #[inline]
    fn is_valid(&self) -> bool {
        self.current.is_some()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.entry().key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.entry().value()
    }

    fn seek_to_first(&mut self) {
        self.current = self.tree.first_leaf().map(Place::first_of);
    }

    fn seek_to_last(&mut self) {
        self.current = self.tree.last_leaf().map(Place::last_of);
    }

    fn seek(&mut self, key: InternalKey<'_>) {
        let target = Target::new(key);
        self.current = self.tree.leaf_for(&target).and_then(|leaf| {
            let permutation = leaf.common().permutation();
            let position = leaf.lower_bound(permutation, &target);
            if position < permutation.count() {
                Some(Place::new(leaf, permutation, position))
            } else {
                // All of the next leaf lies behind a separator that lies behind the target.
                leaf.next().map(Place::first_of)
            }
        });
    }

    fn seek_for_prev(&mut self, key: InternalKey<'_>) {
        let target = Target::new(key);
        self.current = Place::before(self.tree, &target, |leaf, permutation| {
            leaf.upper_bound(permutation, &target)
        });
    }

    #[inline]
    fn next(&mut self) {
        let Place { leaf, permutation, position, .. } = *self.place();
        self.current = if position + 1 < permutation.count() {
            Some(Place::new(leaf, permutation, position + 1))
        } else {
            leaf.next().map(|next| {
                if let Some(ahead) = next.next() {
                    ahead.prefetch_entries();
                    if let Some(far) = ahead.next() {
                        far.prefetch();
                    }
                }
                Place::first_of(next)
            })
        };
    }

    fn prev(&mut self) {
        let Place { leaf, permutation, position, entry, .. } = *self.place();
        self.current = if position > 0 {
            Some(Place::new(leaf, permutation, position - 1))
        } else {
            let target = Target::new(entry.key());
            Place::before(self.tree, &target, |leaf, permutation| {
                leaf.lower_bound(permutation, &target)
            })
        };
    }
}
