//! When the entries of a memtable were written.
//!
//! Written by the commit leader, read by flushes and by code that decides when to flush. The clock
//! is read twice in the life of a memtable, not once for each write.

use std::time::Duration;

use esker_memtable::Memtable;
use esker_table::TableTimes;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Represents a time that is not known yet.
const NONE: u64 = u64::MAX;

/// Milliseconds since the Unix epoch: no entry is older than the one, no tombstone than the other.
#[derive(Debug)]
pub(crate) struct WriteTimes {
    // Release pairs with the Acquire of the flush, which comes after the switch of the memtable.
    first: AtomicU64,
    first_tombstone: AtomicU64,
}

impl Default for WriteTimes {
    fn default() -> Self {
        Self { first: AtomicU64::new(NONE), first_tombstone: AtomicU64::new(NONE) }
    }
}

impl WriteTimes {
    /// Notes that entries were inserted into `memtable`, `now` or a little earlier. To be called by
    /// the single writer after inserting each batch.
    #[inline]
    pub(crate) fn note(&self, memtable: &Memtable, now: impl Fn() -> u64) {
        if self.first.load(Ordering::Relaxed) == NONE {
            self.first.store(now(), Ordering::Release);
        }
        if self.first_tombstone.load(Ordering::Relaxed) == NONE
            && memtable.tombstone_count() + memtable.range_tombstone_count() > 0
        {
            self.first_tombstone.store(now(), Ordering::Release);
        }
    }

    /// When the oldest tombstone was written, if there is one.
    pub(crate) fn oldest_tombstone(&self) -> Option<u64> {
        Some(self.first_tombstone.load(Ordering::Acquire)).filter(|&time| time != NONE)
    }

    /// The times for a table with everything noted in `all`, flushed at `now`.
    pub(crate) fn joined<'a>(all: impl Iterator<Item = &'a Self> + Clone, now: u64) -> TableTimes {
        let firsts = all.clone().map(|times| times.first.load(Ordering::Acquire));
        let oldest = firsts.min().unwrap_or(NONE).min(now);
        let tombstones = all.filter_map(Self::oldest_tombstone);
        // A clock that was set back must not reverse the times.
        let oldest_tombstone = tombstones.min().map(|time| time.clamp(oldest, now));
        TableTimes { oldest, newest: now, oldest_tombstone, written: now }
    }
}

/// A time since the Unix epoch as recorded in tables.
pub(crate) fn as_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_base::{EntryKind, SeqNo};

    #[test]
    fn the_first_write_and_the_first_tombstone_count() {
        let (memtable, times) = (Memtable::new(), WriteTimes::default());
        let insert = |seqno, kind, now| {
            memtable.writer().insert(b"key", SeqNo::new(seqno).unwrap(), kind, b"");
            times.note(&memtable, || now);
        };
        insert(1, EntryKind::Put, 10);
        insert(2, EntryKind::Put, 20);
        assert_eq!(times.oldest_tombstone(), None);
        insert(3, EntryKind::Tombstone, 30);
        insert(4, EntryKind::Tombstone, 40);
        let expected =
            TableTimes { oldest: 10, newest: 50, oldest_tombstone: Some(30), written: 50 };
        assert_eq!(WriteTimes::joined([&times].into_iter(), 50), expected);
        let set_back = WriteTimes::joined([&times].into_iter(), 5);
        let expected = TableTimes { oldest: 5, newest: 5, oldest_tombstone: Some(5), written: 5 };
        assert_eq!(set_back, expected);
    }
}
