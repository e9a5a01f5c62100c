//! The tree: a B+-tree with one writer and any number of readers, which take no lock.
//!
//! # Why readers are right
//!
//! *What a reader is owed.* Sequence numbers decide visibility. A reader first takes a snapshot
//! number, which was published after every entry up to it had been inserted, and only then comes
//! here. It must see all entries up to its snapshot; of newer ones it may see any or none, since it
//! steps over them. So the only possible fault is to miss an old entry.
//!
//! *Inside a node nothing moves.* Entries stay in the slots where they were written, and the order
//! of the slots is one word. The writer fills a free slot and then publishes a word that names it.
//! A reader loads the word once and has a picture of the node as of that moment; it stays valid
//! forever, because slots are never reused.
//!
//! *A full leaf is replaced, not changed.* A split writes its entries and the new one into two new
//! leaves and links these in; the old leaf is left as it is, with a working `next` link, until the
//! whole memtable is dropped. A reader that is on it misses only what was inserted after the split,
//! and all of that is newer than its snapshot. Its `next` leads to the leaf that followed at the
//! time of the split, which, by the same argument, holds everything that was old then, and so on to
//! the end. The ranges of stale and current leaves fit together without gaps or overlaps, because a
//! split only ever divides the range of one leaf. A cursor that is given a newer snapshot must seek
//! again before it steps.
//!
//! *Linking in takes two steps,* and a reader may pass between them. First the parent gets the
//! separator and the right node in a free slot; then the child in the old slot is replaced by the
//! left node. After the first step, keys right of the separator lead to the new right node, and the
//! others to the old node, which holds them too. So each of the three states gives right answers. A
//! mixture would not: the order of slots from before the first step, together with the child from
//! after the second, would send a key of the right half to the left node. `Inner::read` rules that
//! out by checking the order again after it has loaded the child, which costs one load of a cached
//! word.
//!
//! *Going backward,* a reader asks for the last entry before a key, and finds it in the leaf that
//! covers the key, or else below the node left of the path to it. After the first step, that node
//! may be the old one, complete, with entries after the key; so the search below it also goes by
//! the key, not by the right edge. If the right half is the old node itself (as when descending
//! keys cause the split), the old node is in both slots for a moment, and the node further left is
//! the right one to search. A cursor remembers the path that it took, and so finds the next leaf to
//! the left without another descent: it is the previous child, as long as the order of slots in the
//! inner node is unchanged, for the reason given at `Inner::read`. An inner node that has been
//! replaced is not changed any more, and its children hold everything that was old then.
//!
//! *Going forward,* a leaf that remains as the left half (as when ascending keys cause the split)
//! has its range cut short while readers may be on their way to it for a key that is now in the
//! next leaf; so a search that runs off the end of a leaf continues in the next one.
//!
//! *A full inner node* is replaced like a leaf, by two new nodes that already contain the change,
//! linked into their parent by the same two steps; a full root gets a new root above its two
//! replacements, stored last.
//!
//! *Heads.* A node stores eight bytes of each key, its head, and a comparison looks at the key
//! itself only if heads are equal. All keys below a node lie between its fences, the separators
//! left and right of the path to it, and so share any prefix that both fences share. When that is
//! long enough to make the heads useless, a split lets the new nodes skip those bytes. The fences
//! of a node never change, so neither does what it skips.
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
    /// Guards the right to insert. Held as long as a [`TreeWriter`] lives; readers never take it.
    writer: Mutex<WriterState>,
}

/// State that only the writer accesses. Dropped with the tree, after which no node is reachable.
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

    /// The newest entry of `user_key` at or before `snapshot`.
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

/// [`ArenaTree::newest`] if `leaf` holds nothing at or after `target`.
///
/// The versions of one key may continue in the next leaf, but only if some are at the end of this
/// one: a separator within a key is between two of its entries, and the one to the left remains the
/// last of its leaf.
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
