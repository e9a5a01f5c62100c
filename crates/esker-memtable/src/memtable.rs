//! A memtable: the tree, with counts of what is in it.
//!
//! Knows how much it holds, and nothing of when that is too much.

use std::sync::atomic::{AtomicU64, Ordering};

use esker_base::{EntryKind, InternalKey, SeqNo, Trailer};

use crate::cursor::TreeCursor;
use crate::entry::EntryRef;
use crate::map::EntryMap;
use crate::tree::{ArenaTree, TreeWriter};

/// The newest writes of a keyspace, sorted, in memory.
///
/// One thread at a time inserts, through [`Memtable::writer`]; any number read without a lock.
/// A reader that takes its snapshot number first, from where it is published after the inserts up
/// to it, sees all of them. A cursor must seek again before it is used at a newer snapshot.
#[derive(Default)]
pub struct Memtable {
    tree: ArenaTree,
    counts: Counts,
}

/// Written by the writer alone, after each insert. Counters only: they order nothing, but whoever
/// sees an insert published (by any Release and Acquire) also sees it counted.
struct Counts {
    used_bytes: AtomicU64,
    reserved_bytes: AtomicU64,
    entry_count: AtomicU64,
    tombstone_count: AtomicU64,
    seqno_min: AtomicU64,
    seqno_max: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            used_bytes: zero(),
            reserved_bytes: zero(),
            entry_count: zero(),
            tombstone_count: zero(),
            seqno_min: AtomicU64::new(u64::MAX),
            seqno_max: zero(),
        }
    }
}

/// An entry of a memtable, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemtableEntry<'a> {
    /// Sequence number and kind.
    pub trailer: Trailer,
    /// The value.
    pub value: &'a [u8],
}

impl Memtable {
    /// An empty memtable.
    ///
    /// # Cost
    /// Allocates nothing; the first insert takes a chunk of 16 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the right to insert, which ends when the writer drops.
    ///
    /// # Panics
    /// If a writer panicked before.
    ///
    /// # Cost
    /// One lock: take a writer per batch, not per entry. Readers are not held up.
    #[must_use]
    pub fn writer(&self) -> MemtableWriter<'_> {
        MemtableWriter { tree: self.tree.writer(), counts: &self.counts }
    }

    /// The newest entry of `user_key` whose sequence number is not above `snapshot`, whatever its
    /// kind.
    ///
    /// # Cost
    /// No lock, no allocation, no copy; two or three cache misses in a full memtable.
    #[inline]
    #[must_use]
    pub fn get(&self, user_key: &[u8], snapshot: SeqNo) -> Option<MemtableEntry<'_>> {
        let entry = self.newest(user_key, snapshot)?;
        Some(MemtableEntry { trailer: entry.trailer(), value: entry.value() })
    }

    /// A cursor that borrows the memtable, and stands nowhere yet.
    #[must_use]
    pub fn borrowed_cursor(&self) -> TreeCursor<'_> {
        self.tree.cursor()
    }

    /// [`Memtable::get`], as the entry lies in the arena.
    #[inline]
    pub(crate) fn newest(&self, user_key: &[u8], snapshot: SeqNo) -> Option<EntryRef<'_>> {
        self.tree.newest(user_key, snapshot)
    }

    /// Bytes that the entries take, with everything that finds them: grows with each insert. A
    /// function of the inserts alone, so that a replay switches memtables at the same places.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.counts.used_bytes.load(Ordering::Relaxed)
    }

    /// Bytes taken from the system: what a memory budget should be charged. More than
    /// [`Memtable::size_bytes`] by the unused part of the last chunk, at most 2 MiB.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.counts.reserved_bytes.load(Ordering::Relaxed)
    }

    /// How many entries there are, versions of one key counted each.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.counts.entry_count.load(Ordering::Relaxed)
    }

    /// How many of the entries only hide others.
    #[must_use]
    pub fn tombstone_count(&self) -> u64 {
        self.counts.tombstone_count.load(Ordering::Relaxed)
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry_count() == 0
    }

    /// The smallest and the largest sequence number inside; `None` if there is no entry.
    #[must_use]
    pub fn seqno_range(&self) -> Option<(SeqNo, SeqNo)> {
        let seqno = |word: &AtomicU64| SeqNo::new(word.load(Ordering::Relaxed));
        // The minimum of an empty memtable is no sequence number. The maximum is stored first.
        let min = seqno(&self.counts.seqno_min)?;
        Some((min, seqno(&self.counts.seqno_max)?.max(min)))
    }
}

/// The right to insert into a memtable.
pub struct MemtableWriter<'a> {
    tree: TreeWriter<'a>,
    counts: &'a Counts,
}

impl MemtableWriter<'_> {
    /// Adds an entry. Readers may see it at once; sequence numbers decide whether they look.
    ///
    /// # Panics
    /// If the same key was inserted with the same sequence number and kind before, or key or value
    /// exceed [`esker_base::limits`].
    ///
    /// # Cost
    /// One copy of key and value; no allocation but every few thousand entries.
    #[inline]
    pub fn insert(&mut self, user_key: &[u8], seqno: SeqNo, kind: EntryKind, value: &[u8]) {
        self.tree.insert(InternalKey::new(user_key, seqno, kind), value);
        let counts = self.counts;
        let set = |count: &AtomicU64, value: u64| count.store(value, Ordering::Relaxed);
        set(&counts.used_bytes, self.tree.used_bytes());
        set(&counts.reserved_bytes, self.tree.reserved_bytes());
        set(&counts.entry_count, counts.entry_count.load(Ordering::Relaxed) + 1);
        let tombstone_count = counts.tombstone_count.load(Ordering::Relaxed);
        set(&counts.tombstone_count, tombstone_count + u64::from(kind.is_tombstone()));
        let seqno_max = counts.seqno_max.load(Ordering::Relaxed);
        set(&counts.seqno_max, seqno_max.max(seqno.get()));
        let seqno_min = counts.seqno_min.load(Ordering::Relaxed);
        set(&counts.seqno_min, seqno_min.min(seqno.get()));
    }
}

#[cfg(all(test, not(loom)))]
mod concurrent_tests;
#[cfg(all(test, not(loom)))]
mod tests;
