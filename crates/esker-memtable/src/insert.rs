//! The writer: finds the leaf, inserts, and splits full nodes.
//!
//! The essay in `tree.rs` relies on the order of stores here; `node.rs` gives each store its memory
//! ordering. Safe code throughout.

use std::array;
use std::cmp::Ordering as Order;
use std::ptr;

use esker_base::{InternalKey, key_head};

use crate::descent::last_leaf_under;
use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::node::{Inner, InnerContent, Node, NodeRef, Root, Separator};
use crate::nursery::Nursery;
use crate::permutation::{Permutation, SLOT_COUNT_MAX};
use crate::target::Target;

/// More levels than a tree can have: an inner node splits only after it has taken seven more
/// children than it started with, and no machine has memory for 7^20 nodes.
const HEIGHT_MAX: usize = 20;

/// How many further bytes the keys of a node must share before the node skips them. With fewer,
/// many splits would read all keys of a node, each a cache miss, although heads distinguish almost
/// all keys anyway.
const SKIP_STEP_BYTES: usize = 4;

/// Where the last insert went, in case the next one goes there too.
///
/// A sequence of ascending or descending keys therefore needs a descent only at each split.
pub(crate) struct Hint<'a> {
    leaf: &'a Leaf,
    /// Set only after two inserts in a row went to this leaf, since finding them costs a few reads.
    fences: Option<Fences<'a>>,
}

/// The fences between which all keys of a node lie; `None` is no limit.
#[derive(Clone, Copy)]
struct Fences<'a> {
    low: Option<Separator<'a>>,
    high: Option<Separator<'a>>,
}

impl<'a> Fences<'a> {
    fn contain(&self, target: &Target<'_>) -> bool {
        self.low.is_none_or(|low| low.is_at_most(target, 0))
            && self.high.is_none_or(|high| !high.is_at_most(target, 0))
    }

    /// How many bytes a new node between these fences skips, if the one it replaces skipped `skip`.
    fn skip(&self, skip: usize) -> usize {
        let (Some(low), Some(high)) = (self.low, self.high) else { return skip };
        let pair = low.entry.user_key()[skip..].iter().zip(&high.entry.user_key()[skip..]);
        let shared = skip + pair.take_while(|(a, b)| a == b).count();
        if shared < skip + SKIP_STEP_BYTES { skip } else { shared }
    }

    fn below(self, high: Separator<'a>) -> Self {
        Self { high: Some(high), ..self }
    }

    fn above(self, low: Separator<'a>) -> Self {
        Self { low: Some(low), ..self }
    }
}

/// The way from the root down to a leaf.
struct Path<'a> {
    steps: [Option<Step<'a>>; HEIGHT_MAX],
    depth: usize,
}

/// An inner node on the way, and the child that the way continues with.
#[derive(Clone, Copy)]
struct Step<'a> {
    inner: &'a Inner,
    permutation: Permutation,
    index: usize,
}

impl<'a> Path<'a> {
    fn push(&mut self, step: Step<'a>) {
        self.steps[self.depth] = Some(step);
        self.depth += 1;
    }

    /// The step into the node at `level`: 0 is the leaf.
    fn above(&self, level: usize) -> Option<&Step<'a>> {
        let index = self.depth.checked_sub(level + 1)?;
        self.steps[index].as_ref()
    }

    /// The steps into the node at `level`, nearest first.
    fn all_above(&self, level: usize) -> impl Iterator<Item = &Step<'a>> {
        self.steps[..self.depth - level].iter().rev().flatten()
    }

    /// The fences of the node at `level`.
    fn fences(&self, level: usize) -> Fences<'a> {
        let left = self.all_above(level).find(|step| step.index > 0);
        let right = self.all_above(level).find(|step| step.index < step.permutation.count());
        Fences {
            low: left.map(|step| step.inner.separator(step.permutation, step.index - 1)),
            high: right.map(|step| step.inner.separator(step.permutation, step.index)),
        }
    }

    /// The leaf before the one at the end of the path.
    fn previous_leaf(&self) -> Option<&'a Leaf> {
        let step = self.all_above(0).find(|step| step.index > 0)?;
        let left = step.inner.child(step.permutation, step.index - 1);
        Some(last_leaf_under(left))
    }
}

/// The two results of a split, to be linked in: each is either new or the split node.
struct Halves<'a> {
    left: NodeRef<'a>,
    separator: Separator<'a>,
    right: NodeRef<'a>,
}

/// One insert into the tree at `root`.
pub(crate) struct Insertion<'a, 'w> {
    pub(crate) root: &'a Root,
    pub(crate) nursery: Nursery<'a, 'w>,
}

impl<'a> Insertion<'a, '_> {
    /// Adds an entry. `hint` is as the last insert into the same tree left it.
    ///
    /// # Panics
    /// If `key` is in the tree already, or key or value exceed the limits.
    #[inline]
    pub(crate) fn insert(
        mut self,
        key: InternalKey<'_>,
        value: &[u8],
        hint: &mut Option<Hint<'a>>,
    ) {
        let target = Target::new(key);
        let entry = self.nursery.entry(key, value);
        if let Some(Hint { leaf, fences: Some(fences) }) = hint
            && leaf.slots().permutation().count() < SLOT_COUNT_MAX
            && fences.contain(&target)
        {
            self.insert_into_free_slot(leaf, &target, entry);
            return;
        }
        let Some(root) = self.root.load() else {
            let leaf = self.nursery.leaf(0, &[(target.head(0), entry)], None);
            self.root.store(NodeRef::from_leaf(leaf), &self.nursery.writing);
            return;
        };
        let (path, leaf) = descend(root, &target);
        if leaf.slots().permutation().count() < SLOT_COUNT_MAX {
            self.insert_into_free_slot(leaf, &target, entry);
            let is_again = hint.as_ref().is_some_and(|hint| ptr::eq(hint.leaf, leaf));
            *hint = Some(Hint { leaf, fences: is_again.then(|| path.fences(0)) });
        } else {
            let is_again = hint.as_ref().is_some_and(|hint| ptr::eq(hint.leaf, leaf));
            let leaf = self.insert_by_split(&path, leaf, &target, entry, is_again);
            *hint = Some(Hint { leaf, fences: None });
        }
    }

    #[inline]
    fn insert_into_free_slot(&self, leaf: &Leaf, target: &Target<'_>, entry: EntryRef<'a>) {
        let permutation = leaf.slots().permutation();
        let position = leaf.lower_bound(permutation, target);
        assert_absent(leaf, permutation, position, target);
        leaf.insert(position, entry, &self.nursery.writing);
    }

    /// Inserts into a full leaf, and returns the leaf that the entry ended up in. `is_again` if the
    /// last insert went to the full one, too.
    #[inline(never)]
    fn insert_by_split(
        &mut self,
        path: &Path<'a>,
        leaf: &'a Leaf,
        target: &Target<'_>,
        entry: EntryRef<'a>,
        is_again: bool,
    ) -> &'a Leaf {
        let permutation = leaf.slots().permutation();
        let position = leaf.lower_bound(permutation, target);
        assert_absent(leaf, permutation, position, target);
        let mut cut = cut_of_split(permutation, position);
        // The sequence that filled the leaf is over, and what comes descends: kept full, the leaf
        // would leave each entry a new one of its own. Its last entry makes a home for them.
        if cut == SLOT_COUNT_MAX && !is_again && leaf.next().is_some_and(has_one_entry) {
            cut -= 1;
        }

        let skip = leaf.slots().skip();
        let entries: [(u64, EntryRef<'a>); SLOT_COUNT_MAX + 1] = array::from_fn(|index| {
            if index == position {
                return (target.head(skip), entry);
            }
            let slot = permutation.slot(if index < position { index } else { index - 1 });
            (leaf.slots().head(slot), leaf.entry(slot))
        });
        let separator = Separator::between(entries[cut - 1].1, entries[cut].1);
        let fences = path.fences(0);

        // A half that is the whole old leaf remains the old leaf.
        let right = if position == 0 && cut == 1 {
            leaf
        } else {
            self.leaf_between(fences.above(separator), skip, &entries[cut..], leaf.next())
        };
        let left = if position == SLOT_COUNT_MAX && cut == SLOT_COUNT_MAX {
            leaf
        } else {
            self.leaf_between(fences.below(separator), skip, &entries[..cut], Some(right))
        };

        let previous = if ptr::eq(left, leaf) { Some(leaf) } else { path.previous_leaf() };
        let halves =
            Halves { left: NodeRef::from_leaf(left), separator, right: NodeRef::from_leaf(right) };
        self.link(path, 0, NodeRef::from_leaf(leaf), halves);
        if let Some(previous) = previous {
            let behind = if ptr::eq(left, leaf) { right } else { left };
            previous.set_next(behind, &self.nursery.writing);
        }
        if position < cut { left } else { right }
    }

    /// A new leaf of `entries`, whose heads are from a leaf that skips `skip`.
    fn leaf_between(
        &mut self,
        fences: Fences<'a>,
        skip: usize,
        entries: &[(u64, EntryRef<'a>)],
        next: Option<&'a Leaf>,
    ) -> &'a Leaf {
        let skip_all = fences.skip(skip);
        if skip_all == skip {
            return self.nursery.leaf(skip, entries, next);
        }
        let mut fresh = [entries[0]; SLOT_COUNT_MAX];
        for (fresh, (_, entry)) in fresh.iter_mut().zip(entries) {
            *fresh = (key_head(&entry.user_key()[skip_all..]), *entry);
        }
        self.nursery.leaf(skip_all, &fresh[..entries.len()], next)
    }

    /// Makes `halves` reachable in place of `old`, the node at `level` of the path.
    fn link(&mut self, path: &Path<'a>, level: usize, old: NodeRef<'a>, halves: Halves<'a>) {
        let Some(step) = path.above(level) else {
            let mut content = InnerContent::of_one_child(halves.left, halves.separator);
            content.push(halves.separator, halves.right);
            let root = self.nursery.inner(old.slots().level() + 1, 0, &content);
            self.root.store(NodeRef::from_inner(root), &self.nursery.writing);
            return;
        };
        if step.permutation.count() < SLOT_COUNT_MAX {
            step.inner.insert(step.index, halves.separator, halves.right, &self.nursery.writing);
            if halves.left != old {
                step.inner.set_child(step.index, halves.left, &self.nursery.writing);
            }
            return;
        }
        let halves = self.split_inner(path.fences(level + 1), step, old, &halves);
        self.link(path, level + 1, NodeRef::from_inner(step.inner), halves);
    }

    /// Splits a full inner node whose child `old` has become `halves`.
    fn split_inner(
        &mut self,
        fences: Fences<'a>,
        step: &Step<'a>,
        old: NodeRef<'a>,
        halves: &Halves<'a>,
    ) -> Halves<'a> {
        let (inner, level) = (step.inner, step.inner.slots().level());
        let whole = NodeRef::from_inner(inner);
        let skip = inner.slots().skip();
        // A node that grows at its end stays as it is, and a new one takes what comes there.
        if step.index == SLOT_COUNT_MAX && halves.left == old {
            let content = InnerContent::of_one_child(halves.right, halves.separator);
            let skip = fences.above(halves.separator).skip(skip);
            let right = self.nursery.inner(level, skip, &content);
            return Halves { left: whole, right: NodeRef::from_inner(right), ..*halves };
        }
        if step.index == 0 && halves.right == old {
            let content = InnerContent::of_one_child(halves.left, halves.separator);
            let skip = fences.below(halves.separator).skip(skip);
            let left = self.nursery.inner(level, skip, &content);
            return Halves { left: NodeRef::from_inner(left), right: whole, ..*halves };
        }
        let separator = |index: usize| match index.cmp(&step.index) {
            Order::Less => inner.separator(step.permutation, index),
            Order::Equal => halves.separator,
            Order::Greater => inner.separator(step.permutation, index - 1),
        };
        let child = |index: usize| match index.checked_sub(step.index) {
            None => inner.child(step.permutation, index),
            Some(0) => halves.left,
            Some(1) => halves.right,
            Some(_) => inner.child(step.permutation, index - 1),
        };
        let middle = SLOT_COUNT_MAX / 2;
        let mut low = InnerContent::of_one_child(child(0), separator(0));
        (0..middle).for_each(|index| low.push(separator(index), child(index + 1)));
        let mut high = InnerContent::of_one_child(child(middle + 1), separator(0));
        (middle + 1..=SLOT_COUNT_MAX)
            .for_each(|index| high.push(separator(index), child(index + 1)));
        let separator = separator(middle);
        let left = self.nursery.inner(level, fences.below(separator).skip(skip), &low);
        let right = self.nursery.inner(level, fences.above(separator).skip(skip), &high);
        Halves { left: NodeRef::from_inner(left), separator, right: NodeRef::from_inner(right) }
    }
}

/// Descends to the leaf that covers `target`. The writer need not check permutations again: nobody
/// else changes them.
#[inline]
fn descend<'a>(root: NodeRef<'a>, target: &Target<'_>) -> (Path<'a>, &'a Leaf) {
    let mut path = Path { steps: [None; HEIGHT_MAX], depth: 0 };
    let mut node = root;
    loop {
        match node.node() {
            Node::Leaf(leaf) => return (path, leaf),
            Node::Inner(inner) => {
                let permutation = inner.slots().permutation();
                let index = inner.child_index(permutation, target);
                node = inner.child(permutation, index);
                node.prefetch();
                path.push(Step { inner, permutation, index });
            }
        }
    }
}

/// How many of a full leaf's entries, including the one inserted at `position`, go left.
///
/// Half of them, unless the last two inserts and this one are in sequence. Of an ascending one, the
/// cut is where it continues, so that the part that it has filled stays full. A descending one, such
/// as the versions of a key that is written again and again, continues behind the entry before it,
/// so that entry goes with it; and once it has filled a leaf but for that entry, it stays behind.
fn cut_of_split(permutation: Permutation, position: usize) -> usize {
    let is_inserted = |position: usize, nth_last: usize| {
        position < SLOT_COUNT_MAX && permutation.slot(position) == SLOT_COUNT_MAX - nth_last
    };
    if position >= 2 && is_inserted(position - 1, 1) && is_inserted(position - 2, 2) {
        position
    } else if is_inserted(position, 1) && is_inserted(position + 1, 2) {
        if position < 2 { position + 1 } else { position - 1 }
    } else {
        SLOT_COUNT_MAX.div_ceil(2)
    }
}

fn has_one_entry(leaf: &Leaf) -> bool {
    leaf.slots().permutation().count() == 1
}

/// Internal keys are unique, since each operation has a sequence number of its own.
#[inline]
fn assert_absent(leaf: &Leaf, permutation: Permutation, position: usize, target: &Target<'_>) {
    if position < permutation.count() {
        let slot = permutation.slot(position);
        let skip = leaf.slots().skip();
        let is_other = leaf.slots().head(slot) != target.head(skip)
            || target.cmp(leaf.entry(slot), skip) != Order::Equal;
        assert!(is_other, "an internal key is inserted once");
    }
}
