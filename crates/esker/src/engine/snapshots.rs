//! Pinned sequence numbers of readers: what compaction must keep for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_base::SeqNo;
use esker_env::Clock;

use crate::expiry::ExpiryClock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The visible sequence number, and the pinned ones at or below it.
///
/// Pinning and asking happen under one lock, so a compaction that has asked can rely on the answer:
/// every snapshot taken later is at or after the visible number in it.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Last sequence number that readers see. Release on publish pairs with Acquire on read:
    /// whoever sees the number also sees the memtable entries up to it.
    visible: AtomicU64,
    /// Guards the pinned numbers, each with the times at which its holders pinned it.
    pinned: Mutex<Pinned>,
    /// Numbers the pins; counter only.
    next_pin: AtomicU64,
    /// The clock for expiry.
    pub(crate) clock: ExpiryClock,
}

/// The holders of each pinned number, by the number of the pin, so that one of many is found
/// quickly.
type Pinned = BTreeMap<SeqNo, BTreeMap<u64, Pin>>;

#[derive(Clone, Copy, Debug)]
struct Pin {
    taken: Duration,
    /// As [`PinnedSeqNo::millis`].
    millis: u64,
}

/// The readers that a flush or compaction must preserve entries for.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    /// Pinned sequence numbers, ascending, without repetition.
    pub(crate) snapshots: Vec<SeqNo>,
    /// The latest view; later snapshots are at or after it.
    pub(crate) visible: SeqNo,
    /// A time that every reader, present or future, has passed: what has expired by then has
    /// expired for all. In milliseconds since the epoch.
    pub(crate) passed_millis: u64,
}

impl Snapshots {
    pub(crate) fn starting_at(visible: SeqNo, clock: Arc<dyn Clock>) -> Self {
        Self {
            visible: AtomicU64::new(visible.get()),
            pinned: Mutex::default(),
            next_pin: AtomicU64::new(0),
            clock: ExpiryClock::new(clock),
        }
    }

    /// What a read without a snapshot sees.
    pub(crate) fn visible(&self) -> SeqNo {
        SeqNo::new(self.visible.load(Ordering::Acquire)).unwrap_or(SeqNo::MAX)
    }

    /// Makes everything up to `seqno` visible to readers.
    pub(crate) fn publish(&self, seqno: SeqNo) {
        self.visible.store(seqno.get(), Ordering::Release);
    }

    /// The visible sequence number, and a time at which it was the visible one: in milliseconds
    /// since the epoch.
    ///
    /// At a later time, a value could have expired that was renewed before, which a reader at this
    /// number does not see.
    pub(crate) fn moment(&self) -> (SeqNo, u64) {
        loop {
            let seqno = self.visible();
            let millis = self.clock.now();
            if self.visible() == seqno {
                return (seqno, millis);
            }
        }
    }

    /// Pins the visible sequence number, and the time that expiry goes by.
    pub(crate) fn pin(self: &Arc<Self>, now: Duration) -> PinnedSeqNo {
        let is_early = esker_base::planted::is("snapshot-seen-before-pinned");
        let early = is_early.then(|| self.visible());
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no job has been given a later time as passed by every reader.
        let (seqno, millis) = self.moment();
        let seqno = early.unwrap_or(seqno);
        let id = self.next_pin.fetch_add(1, Ordering::Relaxed);
        pinned.entry(seqno).or_default().insert(id, Pin { taken: now, millis });
        PinnedSeqNo { seqno, id, millis, snapshots: Arc::clone(self) }
    }

    /// The present readers, and the point after which new ones will be.
    pub(crate) fn readers(&self) -> Readers {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let times = pinned.values().flat_map(BTreeMap::values).map(|pin| pin.millis);
        Readers {
            passed_millis: times.min().unwrap_or(u64::MAX).min(self.clock.now()),
            snapshots: pinned.keys().copied().collect(),
            visible: self.visible(),
        }
    }

    /// Prevents the pinning of sequence numbers; `None` if one at or after `latest` is pinned
    /// already.
    ///
    /// While the result is held, what readers at `latest` see can change without any snapshot
    /// noticing. Taken before the ledger and any lock of a keyspace; held across the write of an
    /// edit.
    pub(crate) fn hold_from(&self, latest: SeqNo) -> Option<Hold<'_>> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = pinned.range(latest..).next().is_none();
        is_free.then_some(Hold { _pinned: pinned })
    }

    /// The pinned sequence numbers, oldest first, each with the time at which it was taken.
    pub(crate) fn holders(&self) -> Vec<(SeqNo, Duration)> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |(seqno, pins): (&SeqNo, &BTreeMap<u64, Pin>)| {
            pins.values().map(|pin| (*seqno, pin.taken)).collect::<Vec<_>>()
        };
        pinned.iter().flat_map(each).collect()
    }
}

/// Prevents the pinning of sequence numbers while it lives.
pub(crate) struct Hold<'a> {
    _pinned: MutexGuard<'a, Pinned>,
}

/// One pinned sequence number; unpinned when dropped.
#[derive(Debug)]
pub(crate) struct PinnedSeqNo {
    seqno: SeqNo,
    id: u64,
    millis: u64,
    snapshots: Arc<Snapshots>,
}

impl PinnedSeqNo {
    pub(crate) const fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// The time at which the number was pinned, which decides expiry for reads at it: in
    /// milliseconds since the epoch.
    pub(crate) const fn millis(&self) -> u64 {
        self.millis
    }
}

impl Drop for PinnedSeqNo {
    fn drop(&mut self) {
        let mut pinned = self.snapshots.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pins) = pinned.get_mut(&self.seqno) {
            pins.remove(&self.id);
            if pins.is_empty() {
                pinned.remove(&self.seqno);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_env::ManualClock;

    #[test]
    fn a_number_stays_pinned_until_its_last_holder_goes() {
        let clock = Arc::new(ManualClock::new(Duration::ZERO));
        let snapshots = Arc::new(Snapshots::starting_at(SeqNo::ZERO.plus(5), clock));
        let first = snapshots.pin(Duration::from_secs(1));
        let second = snapshots.pin(Duration::from_secs(2));
        snapshots.publish(SeqNo::ZERO.plus(9));
        let third = snapshots.pin(Duration::from_secs(3));
        let pinned = |snapshots: &Snapshots| -> Vec<u64> {
            snapshots.readers().snapshots.iter().map(|seqno| seqno.get()).collect()
        };
        assert_eq!(pinned(&snapshots), [5, 9]);
        drop(first);
        assert_eq!(pinned(&snapshots), [5, 9]);
        assert_eq!(snapshots.holders()[0], (SeqNo::ZERO.plus(5), Duration::from_secs(2)));
        drop(second);
        assert_eq!(pinned(&snapshots), [9]);
        drop(third);
        assert_eq!(pinned(&snapshots), [] as [u64; 0]);
    }

    #[test]
    fn the_time_that_all_have_passed_is_that_of_the_oldest_pin() {
        let clock = Arc::new(ManualClock::new(Duration::from_millis(10)));
        let snapshots = Arc::new(Snapshots::starting_at(SeqNo::ZERO.plus(5), clock.clone()));
        assert_eq!(snapshots.readers().passed_millis, 10);
        let pin = snapshots.pin(Duration::ZERO);
        clock.advance(Duration::from_millis(5));
        let later = snapshots.pin(Duration::ZERO);
        assert_eq!((pin.millis(), later.millis()), (10, 15));
        assert_eq!(snapshots.readers().passed_millis, 10);
        drop(pin);
        clock.advance(Duration::from_millis(5));
        assert_eq!(snapshots.readers().passed_millis, 15);
        drop(later);
        assert_eq!(snapshots.readers().passed_millis, 20);
    }
}
