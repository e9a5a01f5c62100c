//! What is recorded about a keyspace between decisions about its upkeep, and the rules that follow
//! from its options. Decides nothing.

use std::time::Duration;

use esker_tree::{LeveledOptions, Upkeep};

use crate::options::{CompactionPolicy, KeyspaceOptions};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Minimum number of tombstones for which a memtable is switched before it is full: a scan steps
/// over each.
pub(crate) const TOMBSTONES_SWITCH_MIN: u64 = 16_384;

/// A flush because of tombstones was worth it if at most one in this many entries is left.
const LEFT_SHARE: u64 = 4;

/// What is recorded about a keyspace between decisions.
#[derive(Debug)]
pub(crate) struct UpkeepNotes {
    /// What the last look found, and since when that has been so. Not held across anything.
    quiet: Mutex<(WriteMark, Duration)>,
    /// Tombstones at which the memtable is switched; doubled by each such flush that leaves more
    /// than it takes away. Counter only.
    tombstone_limit: AtomicU64,
    /// How many percent of the newer entries replaced an older one in recent compactions. Counter
    /// only.
    overwrite_percent: AtomicU64,
    /// How many runs, beyond the first of each seek, seeks have searched since the tables last
    /// changed. Counter only.
    searches: AtomicU64,
    /// Number of searches at which it is checked whether they pay for a merge; [`NOT_DUE`] during
    /// the check, or if a merge would spare nothing. Counter only: whoever exchanges it does the
    /// check.
    searches_due: AtomicU64,
}

/// More searches than there will ever be.
const NOT_DUE: u64 = u64::MAX;

/// Searches after which the cost of a merge is first checked.
const SEARCHES_FIRST: u64 = 256;

/// Changes whenever something is written: the view's generation and the number of entries in the
/// active memtable.
pub(crate) type WriteMark = (u64, u64);

impl Default for UpkeepNotes {
    fn default() -> Self {
        Self {
            quiet: Mutex::new(((u64::MAX, 0), Duration::ZERO)),
            tombstone_limit: AtomicU64::new(TOMBSTONES_SWITCH_MIN),
            overwrite_percent: AtomicU64::new(0),
            searches: AtomicU64::new(0),
            searches_due: AtomicU64::new(SEARCHES_FIRST),
        }
    }
}

impl UpkeepNotes {
    pub(crate) fn tombstone_limit(&self) -> u64 {
        self.tombstone_limit.load(Ordering::Relaxed)
    }

    /// Notes that a flush because of tombstones read `entries` and left `left`. `frees` says
    /// whether what it wrote will free much in turn.
    pub(crate) fn note_flush(&self, entries: u64, left: u64, frees: bool) {
        let limit = self.tombstone_limit();
        let next = if left.saturating_mul(LEFT_SHARE) <= entries || frees {
            (limit / 2).max(TOMBSTONES_SWITCH_MIN)
        } else {
            limit.saturating_mul(2)
        };
        self.tombstone_limit.store(next, Ordering::Relaxed);
    }

    /// How long looks have been seeing `mark`.
    pub(crate) fn quiet_for(&self, mark: WriteMark, now: Duration) -> Duration {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.0 != mark {
            *quiet = (mark, now);
        }
        now.saturating_sub(quiet.1)
    }

    /// How many runs seeks have searched beyond one each, since the tables last changed.
    pub(crate) fn searches(&self) -> u64 {
        self.searches.load(Ordering::Relaxed)
    }

    /// Adds `count` searches; returns whether the caller should request a check of what they pay
    /// for.
    pub(crate) fn note_searches(&self, count: u64) -> bool {
        let total = self.searches.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        self.searches_due.load(Ordering::Relaxed) <= total
            && self.searches_due.swap(NOT_DUE, Ordering::Relaxed) != NOT_DUE
    }

    /// Starts over, since the tables have changed.
    pub(crate) fn restart_searches(&self) {
        self.searches.store(0, Ordering::Relaxed);
        self.searches_due.store(SEARCHES_FIRST, Ordering::Relaxed);
    }

    /// After a check that found nothing to do: `due` returns how many searches are worth the next
    /// check, if any are.
    pub(crate) fn looked_at_searches(&self, due: impl FnOnce() -> Option<u64>) {
        if self.searches_due.load(Ordering::Relaxed) == NOT_DUE && SEARCHES_FIRST <= self.searches()
        {
            let due = due().map_or(NOT_DUE, |due| due.max(self.searches() + SEARCHES_FIRST));
            self.searches_due.store(due, Ordering::Relaxed);
        }
    }

    pub(crate) fn overwrite_percent(&self) -> u64 {
        self.overwrite_percent.load(Ordering::Relaxed)
    }

    /// Notes that a compaction of `newer` entries with older ones dropped `dropped`: a moving
    /// average over about four compactions.
    pub(crate) fn note_dropped(&self, newer: u64, dropped: u64) {
        if newer == 0 {
            return;
        }
        let percent = (dropped.saturating_mul(100) / newer).min(100);
        let before = self.overwrite_percent();
        self.overwrite_percent.store((before * 3 + percent).div_ceil(4), Ordering::Relaxed);
    }
}

/// The rules for a keyspace with these options.
pub(crate) fn rules(options: &KeyspaceOptions, leveled: LeveledOptions) -> Upkeep {
    let is_automatic = options.compaction != CompactionPolicy::None;
    Upkeep {
        leveled: esker_tree::Leveled::new(leveled),
        delete_deadline: options.delete_deadline,
        rewrite_after: options.periodic_compaction,
        frees_space: is_automatic && !options.compaction.keeps_ages_apart(),
        joins_small_tables: is_automatic && !options.compaction.keeps_ages_apart(),
        uses_idle_time: options.compaction == CompactionPolicy::Leveled
            && options.idle_compaction.is_some(),
        spares_searches: options.compaction == CompactionPolicy::Leveled
            && options.idle_compaction.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_for_tombstones_become_rare_where_they_leave_much() {
        let notes = UpkeepNotes::default();
        notes.note_flush(1000, 900, false);
        assert_eq!(notes.tombstone_limit(), 2 * TOMBSTONES_SWITCH_MIN);
        notes.note_flush(1000, 900, true);
        notes.note_flush(1000, 250, false);
        assert_eq!(notes.tombstone_limit(), TOMBSTONES_SWITCH_MIN);
    }

    #[test]
    fn dropped_entries_are_averaged() {
        let notes = UpkeepNotes::default();
        notes.note_dropped(0, 0);
        assert_eq!(notes.overwrite_percent(), 0);
        for _ in 0..20 {
            notes.note_dropped(200, 100);
        }
        assert_eq!(notes.overwrite_percent(), 50);
    }
}
