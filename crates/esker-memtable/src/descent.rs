//! Ways down the tree, as readers go: from a node to the leaf that covers a key, and from there to
//! the entry before or behind it.
//!
//! The essay in `tree.rs` says why they are right while the writer inserts. Safe code throughout.

use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::node::{Inner, Node, NodeRef, Root};
use crate::permutation::Permutation;
use crate::target::Target;

/// An entry by where it stands: in a leaf, under one of the leaf's permutations.
#[derive(Clone, Copy)]
pub(crate) struct Position<'a> {
    pub(crate) leaf: &'a Leaf,
    pub(crate) permutation: Permutation,
    pub(crate) position: usize,
}

impl<'a> Position<'a> {
    #[inline]
    pub(crate) fn entry(&self) -> EntryRef<'a> {
        self.leaf.entry(self.permutation.slot(self.position))
    }
}

/// The leaf that covers `target`.
#[inline]
pub(crate) fn leaf_for<'a>(root: &'a Root, target: &Target<'_>) -> Option<&'a Leaf> {
    let mut node = root.load()?;
    loop {
        match node.node() {
            Node::Leaf(leaf) => return Some(leaf),
            Node::Inner(inner) => {
                node = inner.read(|permutation| {
                    inner.child(permutation, inner.child_index(permutation, target))
                });
                node.prefetch();
            }
        }
    }
}

/// The first entry that is not before `target`.
pub(crate) fn lower_bound<'a>(root: &'a Root, target: &Target<'_>) -> Option<Position<'a>> {
    lower_bound_from(leaf_for(root, target)?, target)
}

/// The first entry that is not before `target`, going by a leaf that covers it, or covers the first
/// entry that the same user key may have.
pub(crate) fn lower_bound_from<'a>(leaf: &'a Leaf, target: &Target<'_>) -> Option<Position<'a>> {
    let permutation = leaf.slots().permutation();
    let position = leaf.lower_bound(permutation, target);
    if position < permutation.count() {
        return Some(Position { leaf, permutation, position });
    }
    first_not_before(leaf.next()?, target)
}

/// The last entry for which `count_before` counts it before `target`, given a leaf: with
/// [`Leaf::lower_bound`] the last one before, with [`Leaf::upper_bound`] the last not behind.
pub(crate) fn last_before<'a>(
    root: &'a Root,
    target: &Target<'_>,
    count_before: impl Fn(&Leaf, Permutation, &Target<'_>) -> usize,
) -> Option<Position<'a>> {
    let mut node = root.load()?;
    loop {
        let (leaf, left) = leaf_and_left_for(node, target);
        let permutation = leaf.slots().permutation();
        let count = leaf.bound_from_outside(permutation, target, &count_before);
        // Who goes back comes to it next.
        left.inspect(|left| left.prefetch());
        if let Some(position) = count.checked_sub(1) {
            return Some(Position { leaf, permutation, position });
        }
        // All that belongs to the left is before the target. But the way down goes by the
        // target and not by the right edge: in the middle of a split, `left` may be the old
        // node, with what belongs to the right.
        node = left?;
    }
}

/// The leaf that covers the smallest keys.
pub(crate) fn first_leaf(root: &Root) -> Option<&Leaf> {
    Some(edge_leaf(root.load()?, |_| 0))
}

/// The leaf that covers the largest keys.
pub(crate) fn last_leaf(root: &Root) -> Option<&Leaf> {
    Some(last_leaf_under(root.load()?))
}

/// The first entry that is not before `target`, in `leaf` or behind it. All that `leaf` follows is
/// before the target.
///
/// Nearly always the first entry of `leaf`. But an appending split narrows the range of a leaf
/// that readers have already been sent to, and what it puts behind may still be before the target.
pub(crate) fn first_not_before<'a>(
    mut leaf: &'a Leaf,
    target: &Target<'_>,
) -> Option<Position<'a>> {
    loop {
        let permutation = leaf.slots().permutation();
        let position = leaf.bound_from_outside(permutation, target, Leaf::lower_bound);
        if position < permutation.count() {
            return Some(Position { leaf, permutation, position });
        }
        leaf = leaf.next()?;
    }
}

/// The leaf below `node` that covers `target`, and the node left of the way to it: everything
/// below `node` that stands before that leaf ends there.
fn leaf_and_left_for<'a>(
    mut node: NodeRef<'a>,
    target: &Target<'_>,
) -> (&'a Leaf, Option<NodeRef<'a>>) {
    let mut left = None;
    loop {
        match node.node() {
            Node::Leaf(leaf) => return (leaf, left),
            Node::Inner(inner) => {
                // Both children under one permutation, so that nothing lies between them.
                let (child, before) = inner.read(|permutation| {
                    let index = inner.child_index_from_outside(permutation, target);
                    let child = inner.child(permutation, index);
                    // In the middle of a split whose right half is the old node, that node stands
                    // in both slots.
                    let mut before = (0..index).rev().map(|left| inner.child(permutation, left));
                    (child, before.find(|before| *before != child))
                });
                (node, left) = (child, before.or(left));
            }
        }
    }
}

/// The leaf that covers the largest keys below `node`. Not for readers below a node that may be
/// in the middle of a split.
pub(crate) fn last_leaf_under(node: NodeRef<'_>) -> &Leaf {
    edge_leaf(node, Permutation::count)
}

fn edge_leaf(mut node: NodeRef<'_>, index: impl Fn(Permutation) -> usize) -> &Leaf {
    loop {
        match node.node() {
            Node::Leaf(leaf) => return leaf,
            Node::Inner(inner) => node = edge_child(inner, &index),
        }
    }
}

fn edge_child(inner: &Inner, index: impl Fn(Permutation) -> usize) -> NodeRef<'_> {
    inner.read(|permutation| inner.child(permutation, index(permutation)))
}
