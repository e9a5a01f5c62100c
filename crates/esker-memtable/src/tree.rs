//! The tree: a B+-tree that one writer grows and any number of readers read without a lock.
//!
//! # Why readers are right
//!
//! *What a reader is owed.* Visibility is the business of sequence numbers. A reader takes a
//! snapshot number, which was published after every entry up to it had been inserted, and only
//! then comes here. It must see all entries up to its snapshot; of newer ones it may see any or
//! none, since it steps over them. So the only fault possible is to miss an old entry.
//!
//! *Inside one node nothing moves.* Entries stay in the slots where they were written, and the
//! order of the slots is one word. The writer fills a free slot and then publishes the word that
//! names it. A reader loads the word once, and has a picture of the node as of that moment, which
//! stays true for as long as it cares to look, because slots are not reused.
//!
//! *A full leaf is replaced, not changed.* A split writes its entries and the new one into two
//! fresh leaves and links these in; the old leaf is left as it is, with a `next` link that still
//! works, until the whole memtable goes. A reader who stands on it misses what was inserted after
//! the split, and nothing else: all that is newer than its snapshot. Its `next` leads to the leaf
//! that followed at the time of the split, which holds all that was old then, by the same
//! argument, and so on to the end. Ranges of stale and current leaves fit together seamlessly,
//! because a split only ever divides the range of one leaf. A cursor that learns of a newer
//! snapshot must seek again before it steps.
//!
//! *Linking in takes two steps,* and a reader may pass between them. First the parent gets the
//! separator and the right node in a fresh slot, then the old slot's child is exchanged for the
//! left one. After the first step, keys right of the separator find the new right node and the
//! others the old node, which holds them too. So each state answers rightly. What would not is
//! half of each: the order of slots from before the first step, with the child from after the
//! second, would send a key from the right half to the left node. `Inner::read` rules that out
//! by looking at the order once more after it has the child, which costs one load of a word in
//! cache.
//!
//! *Going backwards,* a reader asks for the last entry before a key, and finds it in the leaf that
//! covers the key or else below the node left of the way there. After the first step that node may
//! be the old one, whole, with entries behind the key; so the search below it goes by the key too,
//! not by the right edge. Where the right half is the old node itself (a row of descending keys
//! splits so), the old node for a moment stands in both slots, and the one further left is meant.
//! A cursor keeps the way that it came, and so finds the next leaf to the left without going down
//! again: the child before, as long as the order of slots in the inner node is what it was, by the
//! reason of `Inner::read`. An inner node that was replaced meanwhile is not touched any more, and
//! its children hold what was old then.
//! *Going forwards,* a leaf that keeps its place as the left half (a row of ascending keys) has
//! its range cut short under readers who were sent there for a key that is now the next leaf's;
//! so a search that runs off the end of a leaf goes on searching in the next.
//!
//! *An inner node that is full* is replaced like a leaf, by two fresh nodes that already contain
//! the change, linked into their own parent by the same two steps; a root by a new root above
//! both, stored last.
//!
//! *Heads.* A node compares eight bytes of each key, which lie in the node, and looks at a key
//! itself only where these are equal. All keys below a node lie between its fences, the separators
//! left and right of the path to it, and so begin with whatever bytes both fences have in common.
//! When that is long enough to make the heads useless, a split lets the fresh nodes skip those
//! bytes. The fences of a node never change, so neither does what it skips.
//!
//! What this file does not know: how nodes are stored (`slots.rs`, `leaf.rs`, `node.rs`), found
//! (`descent.rs`) and split (`insert.rs`).

use std::ptr;

use esker_base::sync::{Mutex, MutexGuard};
use esker_base::{InternalKey, SeqNo, Trailer, is_same_key};

use crate::arena::Arena;
use crate::cursor::TreeCursor;
use crate::descent::{first_not_before, leaf_for};
use crate::entry::EntryRef;
use crate::insert::{Hint, Insertion};
use crate::leaf::Leaf;
use crate::map::EntryMap;
use crate::node::Root;
use crate::nursery::Nursery;
use crate::permutation::Permutation;
use crate::target::Target;

/// An insert-only sorted map over an arena.
pub struct ArenaTree {
    root: Root,
    /// Guards the right to insert. Held for as long as a [`TreeWriter`] lives; readers never
    /// take it.
    writer: Mutex<WriterState>,
}

/// What only the writer touches. Dropped with the tree, after which no node is reachable.
struct WriterState {
    hint: Option<Hint<'static>>,
    arena: Arena,
}

impl Default for ArenaTree {
    fn default() -> Self {
        Self::new()
    }
}

impl ArenaTree {
    /// An empty tree, which has allocated nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: Root::new(),
            writer: Mutex::new(WriterState { hint: None, arena: Arena::new() }),
        }
    }

    /// Waits for the right to insert.
    pub(crate) fn writer(&self) -> TreeWriter<'_> {
        let state = self.writer.lock().expect("a writer that panicked left this memtable unusable");
        TreeWriter { root: &self.root, state }
    }

    /// The newest entry of `user_key` that stands at or before `snapshot`.
    #[inline]
    pub(crate) fn newest(&self, user_key: &[u8], snapshot: SeqNo) -> Option<EntryRef<'_>> {
        let target = Target::new(InternalKey::seek(user_key, snapshot));
        let leaf = leaf_for(&self.root, &target)?;
        let permutation = leaf.slots().permutation();
        let position = leaf.lower_bound(permutation, &target);
        if permutation.count() <= position {
            return newest_across(leaf, permutation, &target, user_key);
        }
        in_slot(leaf, permutation.slot(position), &target, user_key)
    }

    /// How many levels there are.
    #[cfg(all(test, loom))]
    pub(crate) fn height(&self) -> u64 {
        self.root.load().map_or(0, |root| u64::from(root.slots().level()) + 1)
    }
}

/// [`ArenaTree::newest`] where `leaf` holds nothing at or after `target`.
///
/// The versions of one key may reach into the next leaf, but only where they also stand at the end
/// of this one: a separator inside of a key is put between two of its entries, and the one to the
/// left remains the last of its leaf.
#[cold]
fn newest_across<'a>(
    leaf: &'a Leaf,
    permutation: Permutation,
    target: &Target<'_>,
    user_key: &[u8],
) -> Option<EntryRef<'a>> {
    let last = permutation.slot(permutation.count().checked_sub(1)?);
    in_slot(leaf, last, target, user_key)?;
    let found = first_not_before(leaf.next()?, target)?.entry();
    (found.user_key() == user_key).then_some(found)
}

/// The entry in `slot` of `leaf`, if its key is `user_key`, which is that of `target`.
#[inline]
fn in_slot<'a>(
    leaf: &'a Leaf,
    slot: usize,
    target: &Target<'_>,
    user_key: &[u8],
) -> Option<EntryRef<'a>> {
    // A key whose head differs needs no look at the entry, which is most likely not in cache.
    if leaf.slots().head(slot) != target.head(leaf.slots().skip()) {
        return None;
    }
    Some(leaf.entry(slot)).filter(|entry| is_same_key(entry.user_key(), user_key))
}

/// The right to insert into a tree.
pub(crate) struct TreeWriter<'a> {
    root: &'a Root,
    state: MutexGuard<'a, WriterState>,
}

impl<'a> TreeWriter<'a> {
    /// Adds an entry.
    ///
    /// # Panics
    /// If `key` is in the tree already, or key or value exceed `esker_base::limits`.
    #[inline]
    #[expect(unsafe_code, reason = "vouches for the arena's life; see UNSAFE.md")]
    pub(crate) fn insert(&mut self, key: InternalKey<'_>, value: &[u8]) {
        let WriterState { hint, arena } = &mut *self.state;
        // SAFETY: the arena is a field of the tree that `root` is borrowed from, is replaced
        // nowhere, and drops with the tree. Nodes of this tree are made here and nowhere else.
        let nursery: Nursery<'a, '_> = unsafe { Nursery::new(arena) };
        // SAFETY: only this line reads or writes the hint, so what it refers to lies in the arena,
        // which is still there. Types that differ in lifetimes only have one layout.
        let hint = unsafe { &mut *ptr::from_mut(hint).cast::<Option<Hint<'a>>>() };
        Insertion { root: self.root, nursery }.insert(key, value, hint);
    }

    /// Bytes that entries and nodes take.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.state.arena.used_bytes() as u64
    }

    /// Bytes taken from the system.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.state.arena.reserved_bytes() as u64
    }
}

impl EntryMap for ArenaTree {
    type Cursor<'a> = TreeCursor<'a>;

    fn insert(&self, key: InternalKey<'_>, value: &[u8]) {
        self.writer().insert(key, value);
    }

    fn get_with<T>(
        &self,
        user_key: &[u8],
        snapshot: SeqNo,
        found: impl FnOnce(Trailer, &[u8]) -> T,
    ) -> Option<T> {
        let entry = self.newest(user_key, snapshot)?;
        Some(found(entry.trailer(), entry.value()))
    }

    fn cursor(&self) -> TreeCursor<'_> {
        TreeCursor::new(&self.root)
    }
}
