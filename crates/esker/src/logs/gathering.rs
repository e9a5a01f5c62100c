//! How long a sync waits for other writers that will want it too.
//!
//! Without this, writers that each wait for the device after every write split into two halves:
//! while a sync serves one half, the other arrives, and begins the next sync before the first half
//! is back, so each sync serves only half of them. A sync that waits until all are back serves all.
//! For measurements with eight and sixteen writers, see docs/BENCHMARKS.md, "Tried".
//!
//! Promises that nobody waits for others longer than a sync takes, and that waiting becomes rare if
//! the others do not come. Knows nothing of syncs except how many writers wanted one.

use std::mem;
use std::time::Duration;

/// Nobody waits for less than this: a wake-up takes as long.
const LIMIT_MIN: Duration = Duration::from_micros(10);

/// A miss is followed by at most `2^6 - 1` syncs that do not wait.
const MISSES_MAX: u32 = 6;

/// How many writers are expected before the next sync begins.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    expected_count: usize,
    /// About how long a sync takes.
    limit: Duration,
    /// Whether a writer is waiting for the others.
    is_open: bool,
    /// How many times in a row not all came.
    miss_count: u32,
    /// How many of the next syncs do not wait.
    pause: u32,
}

impl Gathering {
    /// Whether a writer is waiting for more than the `waiting_count` that are there. When the last
    /// expected one arrives, the waiting is over, and that caller is to sync.
    pub(crate) const fn goes_on_without(&mut self, waiting_count: usize) -> bool {
        if self.is_open && self.expected_count <= waiting_count {
            self.is_open = false;
            self.expected_count = 0;
            self.miss_count = 0;
        }
        self.is_open
    }

    pub(crate) const fn goes_on(&self) -> bool {
        self.is_open
    }

    /// How long a caller about to sync for `waiting_count` writers should wait for others; `None`
    /// if it should not wait.
    pub(crate) fn begin(&mut self, waiting_count: usize) -> Option<Duration> {
        self.is_open = waiting_count < self.expected_count && LIMIT_MIN <= self.limit;
        self.is_open.then_some(self.limit)
    }

    /// Time is up. Does nothing if all have come.
    pub(crate) const fn give_up(&mut self) {
        if mem::replace(&mut self.is_open, false) {
            self.expected_count = 0;
            self.pause = (1 << self.miss_count) - 1;
            if self.miss_count < MISSES_MAX {
                self.miss_count += 1;
            }
        }
    }

    /// Notes a sync that took `took`, and how many writers it served or found waiting at its end:
    /// the same number is expected to want the next one.
    pub(crate) fn note_sync(&mut self, count: usize, took: Duration) {
        // One unusually long sync must not make others wait as long.
        let limit_max = if self.limit.is_zero() { took } else { self.limit * 2 };
        self.limit = took.min(limit_max).max(Duration::from_nanos(1));
        self.expected_count = if self.pause == 0 { count } else { 0 };
        self.pause = self.pause.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(100);

    /// After a sync of `SYNC` that `count` wanted.
    fn after_sync_of(count: usize) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.note_sync(count, SYNC);
        gathering
    }

    #[test]
    fn all_who_wanted_the_last_sync_are_waited_for() {
        let mut gathering = after_sync_of(3);
        assert!(!gathering.goes_on_without(1));
        assert_eq!(gathering.begin(1), Some(SYNC));
        assert!(gathering.goes_on_without(2) && gathering.goes_on());
        assert!(!gathering.goes_on_without(3) && !gathering.goes_on());
        assert_eq!(gathering.begin(3), None);
    }

    #[test]
    fn one_writer_waits_for_nobody() {
        assert_eq!(after_sync_of(1).begin(1), None);
        assert_eq!(Gathering::default().begin(1), None);
    }

    /// Syncs until one waits, for somebody who does not come; how many did not wait before.
    fn wait_in_vain(gathering: &mut Gathering) -> usize {
        let mut unwaited_count = 0;
        while gathering.begin(1).is_none() {
            unwaited_count += 1;
            gathering.note_sync(2, SYNC);
        }
        gathering.give_up();
        assert!(!gathering.goes_on(), "time is up");
        unwaited_count
    }

    #[test]
    fn waiting_in_vain_becomes_rare_and_frequent_again_once_all_come() {
        let mut gathering = after_sync_of(2);
        let counts = [(); 9].map(|()| wait_in_vain(&mut gathering));
        // The sync right behind a miss waits for nobody in any case.
        assert_eq!(counts, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        while gathering.begin(1).is_none() {
            gathering.note_sync(2, SYNC);
        }
        assert!(!gathering.goes_on_without(2), "all have come");
        gathering.note_sync(2, SYNC);
        assert_eq!([(); 3].map(|()| wait_in_vain(&mut gathering)), [0, 1, 2]);
    }

    #[test]
    fn nobody_waits_for_long_after_one_long_sync_or_at_all_for_short_ones() {
        let mut gathering = after_sync_of(2);
        gathering.note_sync(2, 100 * SYNC);
        assert_eq!(gathering.begin(1), Some(2 * SYNC));
        gathering.give_up();
        gathering.note_sync(2, Duration::from_micros(9));
        assert_eq!(gathering.begin(1), None);
    }
}
