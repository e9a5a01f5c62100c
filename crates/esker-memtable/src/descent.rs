//! Descents of readers: from a node to the leaf that covers a key, and from there to the entry
//! before or after it.
//!
//! The essay in `tree.rs` explains why they are right while the writer inserts. Safe code
//! throughout.

use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::node::{Inner, Node, NodeRef, Root};
use crate::permutation::Permutation;
use crate::target::Target;

/// The position of an entry: in a leaf, under one of the leaf's permutations.
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

/// The place of a node in its parent: the index of the child, under one of the inner node's
/// permutations.
#[derive(Clone, Copy)]
pub(crate) struct Branch<'a> {
    inner: &'a Inner,
    permutation: Permutation,
    index: usize,
}

impl<'a> Branch<'a> {
    /// The previous child, as of some moment since the branch was found; `None` if that takes a new
    /// descent because the inner node has none, or has changed.
    pub(crate) fn before(self) -> Option<(NodeRef<'a>, Self)> {
        let index = self.index.checked_sub(1)?;
        let child = self.inner.child(self.permutation, index);
        // For the reason given at `Inner::read`. A node that was replaced is not changed any more,
        // and holds everything that was old then.
        let holds = self.inner.slots().permutation() == self.permutation;
        holds.then_some((child, Self { index, ..self }))
    }

    /// The previous leaf, if this is the place of a leaf and the previous one is at hand.
    pub(crate) fn leaf_before(self) -> Option<Way<'a>> {
        let (node, branch) = self.before()?;
        match node.node() {
            Node::Leaf(leaf) => Some(Way { leaf, branch: Some(branch) }),
            Node::Inner(_) => None,
        }
    }
}

/// A leaf, and its place in its parent, if known; the root has none.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) leaf: &'a Leaf,
    pub(crate) branch: Option<Branch<'a>>,
}

/// The leaf that covers `target`.
#[inline]
pub(crate) fn leaf_for<'a>(root: &'a Root, target: &Target<'_>) -> Option<&'a Leaf> {
    Some(Approach::start(root)?.way(target).leaf)
}

/// A descent in progress: down to a node that is being prefetched and was not looked at yet.
#[derive(Clone, Copy)]
pub(crate) struct Approach<'a> {
    node: NodeRef<'a>,
    branch: Option<Branch<'a>>,
    /// Whether the node is known to be a leaf.
    is_at_leaf: bool,
}

impl<'a> Approach<'a> {
    #[inline]
    fn start(root: &'a Root) -> Option<Self> {
        Some(Self { node: root.load()?, branch: None, is_at_leaf: false })
    }

    /// Descends to the lowest inner node on the way to the leaf that covers `target`. Those above
    /// are few enough to be in the processor's cache.
    #[inline]
    pub(crate) fn to_lowest_inner(root: &'a Root, target: &Target<'_>) -> Option<Self> {
        let mut way = Self::start(root)?;
        while let Node::Inner(inner) = way.node.node()
            && inner.slots().level() > 1
        {
            way = Self::below(inner, target);
            if inner.slots().level() == 2 {
                break;
            }
        }
        Some(way)
    }

    /// Searches the lowest inner node, and goes on to the leaf.
    #[inline]
    pub(crate) fn to_leaf(self, target: &Target<'_>) -> Self {
        match self.node.node() {
            Node::Leaf(_) => Self { is_at_leaf: true, ..self },
            Node::Inner(inner) => Self::below(inner, target),
        }
    }

    #[inline]
    pub(crate) fn is_at_leaf(&self) -> bool {
        self.is_at_leaf
    }

    /// Goes down to the leaf.
    #[inline]
    pub(crate) fn way(mut self, target: &Target<'_>) -> Way<'a> {
        loop {
            match self.node.node() {
                Node::Leaf(leaf) => return Way { leaf, branch: self.branch },
                Node::Inner(inner) => self = Self::below(inner, target),
            }
        }
    }

    #[inline]
    fn below(inner: &'a Inner, target: &Target<'_>) -> Self {
        let (node, permutation, index) = inner.read(|permutation| {
            let index = inner.child_index(permutation, target);
            (inner.child(permutation, index), permutation, index)
        });
        node.prefetch();
        let branch = Some(Branch { inner, permutation, index });
        Self { node, branch, is_at_leaf: inner.slots().level() == 1 }
    }
}

/// The first entry that is not before `target`.
pub(crate) fn lower_bound<'a>(root: &'a Root, target: &Target<'_>) -> Option<Position<'a>> {
    let leaf = leaf_for(root, target)?;
    let permutation = leaf.slots().permutation();
    let position = leaf.lower_bound(permutation, target);
    if position < permutation.count() {
        return Some(Position { leaf, permutation, position });
    }
    first_not_before(leaf.next()?, target)
}

/// [`lower_bound`], given the leaf that covers the first possible entry of the same user key, and
/// so usually the target too.
pub(crate) fn lower_bound_near<'a>(
    root: &'a Root,
    leaf: &'a Leaf,
    target: &Target<'_>,
) -> Option<Position<'a>> {
    let permutation = leaf.slots().permutation();
    let position = leaf.lower_bound(permutation, target);
    if position < permutation.count() {
        return Some(Position { leaf, permutation, position });
    }
    lower_bound_behind(root, leaf.next()?, target)
}

/// [`lower_bound_near`], if the leaf before `next` ends before `target`. If `next` does too, newer
/// versions of the key may fill any number of leaves, and a descent from the root is shorter.
#[cold]
fn lower_bound_behind<'a>(
    root: &'a Root,
    next: &'a Leaf,
    target: &Target<'_>,
) -> Option<Position<'a>> {
    lower_bound_from_outside(next, target).or_else(|| lower_bound(root, target))
}

/// The first entry of `leaf` that is not before `target`, which may be outside its fences.
fn lower_bound_from_outside<'a>(leaf: &'a Leaf, target: &Target<'_>) -> Option<Position<'a>> {
    let permutation = leaf.slots().permutation();
    let position = leaf.bound_from_outside(permutation, target, Leaf::lower_bound);
    (position < permutation.count()).then_some(Position { leaf, permutation, position })
}

/// The last entry before `target` as counted by `count_before`, given a leaf and the way to it:
/// with [`Leaf::lower_bound`], the last one before; with [`Leaf::upper_bound`], the last one not
/// after.
pub(crate) fn last_before<'a>(
    root: &'a Root,
    target: &Target<'_>,
    count_before: impl Fn(&Leaf, Permutation, &Target<'_>) -> usize,
) -> Option<(Position<'a>, Way<'a>)> {
    let (mut node, mut branch) = (root.load()?, None);
    loop {
        let (way, left) = way_and_left_for(node, branch, target);
        // A cursor going back comes to it next.
        left.inspect(|(left, _)| left.prefetch());
        if let Some(position) = last_in(way.leaf, target, &count_before) {
            return Some((position, way));
        }
        // Everything to the left is before the target. But the descent goes by the target, not by
        // the right edge: in the middle of a split, `left` may be the old node, which also has what
        // belongs to the right.
        let (left, at) = left?;
        (node, branch) = (left, Some(at));
    }
}

/// As [`last_before`], in one leaf, which need not cover the target.
pub(crate) fn last_in<'a>(
    leaf: &'a Leaf,
    target: &Target<'_>,
    count_before: impl Fn(&Leaf, Permutation, &Target<'_>) -> usize,
) -> Option<Position<'a>> {
    let permutation = leaf.slots().permutation();
    let count = leaf.bound_from_outside(permutation, target, count_before);
    let position = count.checked_sub(1)?;
    Some(Position { leaf, permutation, position })
}

/// The leaf that covers the smallest keys.
pub(crate) fn first_leaf(root: &Root) -> Option<&Leaf> {
    Some(edge_leaf(root.load()?, |_| 0))
}

/// The leaf that covers the largest keys.
pub(crate) fn last_leaf(root: &Root) -> Option<&Leaf> {
    Some(last_leaf_under(root.load()?))
}

/// The first entry that is not before `target`, in `leaf` or after it. Everything before `leaf` is
/// before the target.
///
/// Nearly always the first entry of `leaf`. But an appending split narrows the range of a leaf that
/// readers are already on their way to, and entries that it puts into the new leaf may still be
/// before the target.
pub(crate) fn first_not_before<'a>(
    mut leaf: &'a Leaf,
    target: &Target<'_>,
) -> Option<Position<'a>> {
    loop {
        #[cfg(test)]
        tests::LEAVES_FOLLOWED.with(|count| count.set(count.get() + 1));
        if let Some(found) = lower_bound_from_outside(leaf, target) {
            return Some(found);
        }
        leaf = leaf.next()?;
    }
}

/// The way to the leaf below `node` that covers `target`, and the node left of it with its place:
/// everything below `node` that is before that leaf ends there. `branch` is the place of `node`.
fn way_and_left_for<'a>(
    mut node: NodeRef<'a>,
    mut branch: Option<Branch<'a>>,
    target: &Target<'_>,
) -> (Way<'a>, Option<(NodeRef<'a>, Branch<'a>)>) {
    let mut left = None;
    loop {
        match node.node() {
            Node::Leaf(leaf) => return (Way { leaf, branch }, left),
            Node::Inner(inner) => {
                // Both children under one permutation, so that nothing is between them.
                let (child, at, before) = inner.read(|permutation| {
                    let index = inner.child_index_from_outside(permutation, target);
                    let at = |index| Branch { inner, permutation, index };
                    let child = inner.child(permutation, index);
                    // In the middle of a split whose right half is the old node, that node is in
                    // both slots.
                    let left = |left| (inner.child(permutation, left), at(left));
                    let mut before = (0..index).rev().map(left);
                    (child, at(index), before.find(|(before, _)| *before != child))
                });
                (node, branch, left) = (child, Some(at), before.or(left));
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

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Leaves that searches on this thread have reached by the links between leaves.
        pub(crate) static LEAVES_FOLLOWED: Cell<u64> = const { Cell::new(0) };
    }
}
