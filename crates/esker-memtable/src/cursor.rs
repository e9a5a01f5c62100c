//! A position in the tree that moves both ways.
//!
//! Going forward, it follows the links between leaves. Leaves have no backward links: going back,
//! it uses the inner node above the leaf, if it has come through that since its last seek, and
//! descends from the root again when that node ends or has changed. Either way, it prefetches the
//! entries of the next leaf while it reads this one.

use std::ptr;

use esker_base::{InternalKey, SeqNo, key_head};

use crate::descent::{
    Approach, Position, Way, first_leaf, last_before, last_in, last_leaf, lower_bound,
    lower_bound_near,
};
use crate::entry::EntryRef;
use crate::leaf::Leaf;
use crate::map::EntryCursor;
use crate::node::Root;
use crate::target::Target;

/// A cursor over an [`ArenaTree`](crate::ArenaTree).
///
/// Sees every entry that was inserted before its last seek, and any or none of the later ones.
#[derive(Clone)]
pub struct TreeCursor<'a> {
    root: &'a Root,
    current: Option<Place<'a>>,
    /// The way to the leaf that covered the first possible entry of a user key when that was
    /// approached; or the upper part of that way.
    approached: Option<Approach<'a>>,
    /// The way to a leaf, found since the last seek began; used to go back from there.
    way: Option<Way<'a>>,
}

/// An entry and its position. The permutation was the leaf's at some time, and stays valid.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: Position<'a>,
    entry: EntryRef<'a>,
    head: u64,
}

impl<'a> Place<'a> {
    #[inline]
    fn new(at: Position<'a>) -> Self {
        let entry = at.entry();
        Self { at, entry, head: key_head(entry.user_key()) }
    }

    #[inline]
    fn first_of(leaf: &'a Leaf) -> Self {
        Self::new(Position { leaf, permutation: leaf.slots().permutation(), position: 0 })
    }

    fn last_of(leaf: &'a Leaf) -> Self {
        let permutation = leaf.slots().permutation();
        Self::new(Position { leaf, permutation, position: permutation.count() - 1 })
    }
}

impl<'a> TreeCursor<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, current: None, approached: None, way: None }
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
    /// If the cursor is not on an entry.
    #[inline]
    #[must_use]
    pub fn head(&self) -> u64 {
        self.place().head
    }

    /// Moves to the next entry if it is in the same leaf and of another user key, and returns its
    /// head.
    #[inline]
    pub(crate) fn step(&mut self) -> Option<u64> {
        let Position { leaf, permutation, position } = self.current.as_ref()?.at;
        let next = position + 1;
        if next == permutation.count() {
            return None;
        }
        self.go(Position { leaf, permutation, position: next })
    }

    /// As [`TreeCursor::step`], going back.
    #[inline]
    pub(crate) fn step_back(&mut self) -> Option<u64> {
        let Position { leaf, permutation, position } = self.current.as_ref()?.at;
        self.go(Position { leaf, permutation, position: position.checked_sub(1)? })
    }

    #[inline]
    fn go(&mut self, at: Position<'a>) -> Option<u64> {
        let place = Place::new(at);
        let left = self.place();
        let is_other = place.head != left.head || place.entry.user_key() != left.entry.user_key();
        is_other.then(|| self.current.insert(place).head)
    }

    /// Finds the node above the leaf that a seek to an entry of `user_key` leads to, and starts
    /// loading it.
    pub(crate) fn approach(&mut self, user_key: &[u8]) {
        let target = Target::new(first_of(user_key));
        self.approached = Approach::to_lowest_inner(self.root, &target);
    }

    /// Starts loading the leaf that a seek leads to, if it was approached.
    pub(crate) fn prefetch_approached(&mut self, user_key: &[u8]) {
        let target = Target::new(first_of(user_key));
        self.approached = self.approached.map(|approach| approach.to_leaf(&target));
    }

    /// Starts loading the entry that a seek leads to, if its leaf was prefetched.
    pub(crate) fn hold_approached(&self, user_key: &[u8]) {
        let Some(approach) = self.approached.filter(Approach::is_at_leaf) else { return };
        let target = Target::new(first_of(user_key));
        let Way { leaf, .. } = approach.way(&target);
        let permutation = leaf.slots().permutation();
        let position = leaf.lower_bound(permutation, &target);
        leaf.prefetch_at(permutation, position..position + 1);
    }

    /// The way to the leaf that was approached.
    fn take_approached(&mut self, user_key: &[u8]) -> Option<Way<'a>> {
        let target = Target::new(first_of(user_key));
        self.approached.take().map(|approach| approach.way(&target))
    }

    /// The rest of a seek to `key`, whose user key was approached. Inserts since then may have
    /// split the leaf, just as they may after the descent of any seek.
    pub(crate) fn seek_approached(&mut self, key: InternalKey<'_>) {
        let target = Target::new(key);
        self.way = self.take_approached(key.user_key);
        let found = match self.way {
            Some(way) => lower_bound_near(self.root, way.leaf, &target),
            None => lower_bound(self.root, &target),
        };
        if let Some(Position { leaf, permutation, position }) = found {
            leaf.prefetch_at(permutation, position..position + ENTRIES_PREFETCHED);
            if let Some(next) = leaf.next() {
                next.prefetch();
            }
        }
        self.current = found.map(Place::new);
    }

    /// The rest of a seek to the last entry not after `key`, whose user key was approached.
    pub(crate) fn seek_for_prev_approached(&mut self, key: InternalKey<'_>) {
        let target = Target::new(key);
        let in_leaf = self.take_approached(key.user_key).and_then(|way| {
            let leaf = way.leaf;
            let permutation = leaf.slots().permutation();
            let count = leaf.upper_bound(permutation, &target);
            // If all or nothing of the leaf is before the target, the entry may be in another leaf.
            let position = count.checked_sub(1).filter(|_| count < permutation.count())?;
            Some((Position { leaf, permutation, position }, way))
        });
        let found = in_leaf.or_else(|| last_before(self.root, &target, Leaf::upper_bound));
        if let Some((Position { leaf, permutation, position }, way)) = found {
            let first = position.saturating_sub(ENTRIES_PREFETCHED - 1);
            leaf.prefetch_at(permutation, first..position + 1);
            if let Some(before) = leaf_before(way) {
                before.leaf.prefetch();
            }
        }
        self.go_by(found);
    }

    /// Takes the position that a search has found, and keeps the way to it.
    fn go_by(&mut self, found: Option<(Position<'a>, Way<'a>)>) {
        self.way = found.map(|(_, way)| way);
        self.current = found.map(|(position, _)| Place::new(position));
    }

    /// Goes back across the start of a leaf, from its first entry `first`.
    fn cross_back(&mut self, leaf: &Leaf, first: EntryRef<'_>) {
        let target = Target::new(first.key());
        let at_hand = self.way.filter(|way| ptr::eq(way.leaf, leaf)).and_then(|way| {
            let way = leaf_before(way)?;
            Some((last_in(way.leaf, &target, Leaf::lower_bound)?, way))
        });
        let found = at_hand.or_else(|| last_before(self.root, &target, Leaf::lower_bound));
        if let Some((_, way)) = found {
            way.leaf.prefetch_entries();
            if let Some(ahead) = leaf_before(way) {
                ahead.leaf.prefetch_entries();
                if let Some(far) = leaf_before(ahead) {
                    far.leaf.prefetch();
                }
            }
        }
        self.go_by(found);
    }

    /// Whether the previous entry is in the same leaf, and of another user key.
    #[inline]
    pub(crate) fn is_first_of_key(&self) -> bool {
        let Position { leaf, permutation, position } = self.place().at;
        let head = |position| leaf.slots().head(permutation.slot(position));
        // Equal heads prove nothing; only different ones do.
        position.checked_sub(1).is_some_and(|before| head(before) != head(position))
    }
}

/// How many entries a seek prefetches, of those that a short scan reads.
const ENTRIES_PREFETCHED: usize = 4;

/// The previous leaf, if the way to it is at hand.
fn leaf_before(way: Way<'_>) -> Option<Way<'_>> {
    way.branch?.leaf_before()
}

/// The position before every possible entry of `user_key`.
#[inline]
fn first_of(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::seek(user_key, SeqNo::MAX)
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
        self.way = None;
        self.current = first_leaf(self.root).map(Place::first_of);
    }

    fn seek_to_last(&mut self) {
        self.way = None;
        self.current = last_leaf(self.root).map(Place::last_of);
    }

    fn seek(&mut self, key: InternalKey<'_>) {
        self.way = None;
        self.current = lower_bound(self.root, &Target::new(key)).map(Place::new);
    }

    fn seek_for_prev(&mut self, key: InternalKey<'_>) {
        self.go_by(last_before(self.root, &Target::new(key), Leaf::upper_bound));
    }

    #[inline]
    fn next(&mut self) {
        let Position { leaf, permutation, position } = self.place().at;
        self.current = if position + 1 < permutation.count() {
            Some(Place::new(Position { leaf, permutation, position: position + 1 }))
        } else {
            leaf.next().map(|next| {
                next.prefetch_entries();
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
        let Place { at: Position { leaf, permutation, position }, entry, .. } = *self.place();
        match position.checked_sub(1) {
            Some(position) => {
                self.current = Some(Place::new(Position { leaf, permutation, position }));
            }
            None => self.cross_back(leaf, entry),
        }
    }
}
