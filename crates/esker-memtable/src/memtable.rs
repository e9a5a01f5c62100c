//! A memtable: the tree, with counts of what is in it.
//!
//! Knows how much it holds, but not when that is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_base::{EntryKind, Fragments, InternalKey, RangeTombstone, SeqNo, Stretch, Trailer};

use crate::cursor::TreeCursor;
use crate::entry::EntryRef;
use crate::map::EntryMap;
use crate::ranges::Ranges;
use crate::tree::{ArenaTree, TreeWriter};

/// The newest writes of a keyspace, sorted, in memory.
///
/// One thread at a time inserts, through [`Memtable::writer`]; any number of threads read without a
/// lock. A reader sees all inserts up to its snapshot number, provided that it obtains the number
/// before it reads, and that the number is published after those inserts. A cursor must seek again
/// before it is used at a newer snapshot.
#[derive(Default)]
pub struct Memtable {
    tree: ArenaTree,
    counts: Counts,
    ranges: Ranges,
}

/// Written only by the writer, after each insert. Counters only: they order nothing, but whoever
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

    /// Waits for the exclusive right to insert, which ends when the writer drops.
    ///
    /// # Panics
    /// If a writer panicked before.
    ///
    /// # Cost
    /// One lock: take a writer per batch, not per entry. Readers are not blocked.
    #[must_use]
    pub fn writer(&self) -> MemtableWriter<'_> {
        MemtableWriter { tree: self.tree.writer(), counts: &self.counts, ranges: &self.ranges }
    }

    /// The newest entry of `user_key`, of any kind, whose sequence number is not above `snapshot`.
    ///
    /// # Cost
    /// No lock, no allocation, no copy; two or three cache misses in a full memtable.
    #[inline]
    #[must_use]
    pub fn get(&self, user_key: &[u8], snapshot: SeqNo) -> Option<MemtableEntry<'_>> {
        let entry = self.newest(user_key, snapshot)?;
        Some(MemtableEntry { trailer: entry.trailer(), value: entry.value() })
    }

    /// The newest range tombstone over `user_key` that is not above `snapshot`: it hides all
    /// entries of the key with smaller sequence numbers.
    ///
    /// # Cost
    /// One branch if there are no range tombstones. Otherwise a short lock shared by readers and a
    /// search in a map; where the newest range tombstone over the key is above `snapshot`, see
    /// [`Memtable::fragments`].
    #[inline]
    #[must_use]
    pub fn covering(&self, user_key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        if self.ranges.count() == 0 {
            return None;
        }
        self.ranges.covering(user_key, snapshot)
    }

    /// Whether there is a range tombstone that is not above `snapshot`.
    #[must_use]
    pub fn has_ranges(&self, snapshot: SeqNo) -> bool {
        self.ranges.count() > 0
            && self.ranges.seqno_range().is_some_and(|(oldest, _)| oldest <= snapshot)
    }

    /// Calls `look` with a stretch of keys around `user_key` over which the newest range tombstone
    /// is the same, and not above `snapshot`, or over which there is none. `None` if the newest is
    /// above `snapshot`: then [`Memtable::fragments`] says what is beneath it.
    ///
    /// # Cost
    /// A short lock shared by readers, and two searches in a map.
    pub fn stretch<R>(
        &self,
        user_key: &[u8],
        snapshot: SeqNo,
        look: impl FnOnce(Stretch<'_>) -> R,
    ) -> Option<R> {
        self.ranges.stretch(user_key, snapshot, look)
    }

    /// The range tombstones that are not above `snapshot`, as fragments with only the newest of
    /// each; `None` if there are none.
    ///
    /// # Cost
    /// Built once for all readers that see the same tombstones; building sorts them.
    #[must_use]
    pub fn fragments(&self, snapshot: SeqNo) -> Option<Arc<Fragments>> {
        if self.ranges.count() == 0 {
            return None;
        }
        self.ranges.fragments(snapshot)
    }

    /// Every range tombstone, oldest first.
    ///
    /// # Cost
    /// Copies them.
    #[must_use]
    pub fn range_tombstones(&self) -> Vec<RangeTombstone> {
        if self.ranges.count() == 0 {
            return Vec::new();
        }
        self.ranges.list(usize::MAX)
    }

    /// How many range tombstones there are; they are not entries.
    #[must_use]
    pub fn range_tombstone_count(&self) -> u64 {
        self.ranges.count()
    }

    /// A cursor that borrows the memtable, without a position. It shows entries, but no range
    /// tombstones.
    #[must_use]
    pub fn borrowed_cursor(&self) -> TreeCursor<'_> {
        self.tree.cursor()
    }

    /// [`Memtable::get`], returning the entry in the arena.
    #[inline]
    pub(crate) fn newest(&self, user_key: &[u8], snapshot: SeqNo) -> Option<EntryRef<'_>> {
        let all = esker_base::planted::is("memtable-ignores-snapshot");
        self.tree.newest(user_key, if all { SeqNo::MAX } else { snapshot })
    }

    /// Bytes that the entries take, including the nodes over them: grows with each insert. Depends
    /// only on the inserts, so that a replay switches memtables at the same places.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.counts.used_bytes.load(Ordering::Relaxed) + self.ranges.size_bytes()
    }

    /// Bytes taken from the system, which a memory budget should be charged. Exceeds
    /// [`Memtable::size_bytes`] by the unused part of the last chunk, at most 2 MiB.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.counts.reserved_bytes.load(Ordering::Relaxed) + self.ranges.size_bytes()
    }

    /// How many entries there are, counting each version of a key but not range tombstones.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.counts.entry_count.load(Ordering::Relaxed)
    }

    /// How many of the entries only hide others.
    #[must_use]
    pub fn tombstone_count(&self) -> u64 {
        self.counts.tombstone_count.load(Ordering::Relaxed)
    }

    /// Whether there is neither an entry nor a range tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry_count() == 0 && self.ranges.count() == 0
    }

    /// The smallest and the largest sequence number inside; `None` if it is empty.
    #[must_use]
    pub fn seqno_range(&self) -> Option<(SeqNo, SeqNo)> {
        let entries = self.entry_seqno_range();
        if self.ranges.count() == 0 {
            return entries;
        }
        let (ranges, entries) = (self.ranges.seqno_range()?, entries);
        Some(entries.map_or(ranges, |(min, max)| (min.min(ranges.0), max.max(ranges.1))))
    }

    /// The smallest and the largest sequence number of an entry, without range tombstones; `None`
    /// if there is no entry.
    #[must_use]
    pub fn entry_seqno_range(&self) -> Option<(SeqNo, SeqNo)> {
        let seqno = |word: &AtomicU64| SeqNo::new(word.load(Ordering::Relaxed));
        // The minimum of an empty memtable is not a sequence number. The maximum is stored first.
        let min = seqno(&self.counts.seqno_min)?;
        Some((min, seqno(&self.counts.seqno_max)?.max(min)))
    }
}

/// The right to insert into a memtable.
pub struct MemtableWriter<'a> {
    tree: TreeWriter<'a>,
    counts: &'a Counts,
    ranges: &'a Ranges,
}

impl MemtableWriter<'_> {
    /// Adds an entry, or a range tombstone over `[user_key, value)`, without an end if `value` is
    /// empty. Readers can find it at once; sequence numbers decide whether they see it.
    ///
    /// # Panics
    /// If the same key was inserted with the same sequence number and kind before, or key or value
    /// exceed [`esker_base::limits`].
    ///
    /// # Cost
    /// One copy of key and value, and one allocation every few thousand entries. A range tombstone
    /// costs a search among the existing ones, whatever it covers.
    #[inline]
    pub fn insert(&mut self, user_key: &[u8], seqno: SeqNo, kind: EntryKind, value: &[u8]) {
        if kind == EntryKind::RangeTombstone {
            return self.ranges.insert(user_key, value, seqno);
        }
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
