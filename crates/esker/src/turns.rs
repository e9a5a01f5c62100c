//! Turns: while several threads write without pause, one of them leads and the others sleep.
//!
//! Two writers that each wait for the other's write to end keep two processors busy with the work of
//! one, and to sleep between two writes costs as much as twenty writes. So, while the log is *busy*, a
//! waiter that has an answer and sleeps is left asleep, and the thread that leads has the processor
//! and the caches to itself. It does so for a *turn*, a few hundred reigns; then one sleeper after the
//! other is woken, and the leader hands over to the first that comes. Of all writes, less than one in
//! a hundred then waits for a turn.
//!
//! Promises that whoever sleeps is back after a limited time, turn or not: the waiter itself sees to
//! that, so it holds even if nobody ever writes again. Does not know what is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::waiter::Waiter;

/// Length of a turn, in reigns. A quarter of it makes one in a hundred writes wait for a turn; four
/// times as much makes turns last over a millisecond.
const TURN_REIGNS: u32 = 256;

/// How many reigns apart sleepers are woken once a turn is over, until one takes it: longer than a
/// wake-up takes.
const CALL_REIGNS: u32 = 64;

/// How many reigns apart the clock is asked.
const LOOK_REIGNS: u32 = 64;

/// The log is busy while so many reigns take less than this: a put takes 0.7 us of a reign.
const BUSY_TIME: Duration = Duration::from_micros(200);

/// Where no time passes, nobody would be woken by it.
const HAS_TIME: bool = !cfg!(any(loom, shuttle));

/// Whose turn it is to lead, and who sleeps meanwhile. Owned by the commit leader.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Reigns since the clock was asked, and what it said.
    reigns: u32,
    looked_at: Duration,
    is_busy: bool,
    /// Reigns of this turn.
    turn: u32,
    /// They have an answer, and were not woken; those that sleep longest first.
    sleepers: VecDeque<Arc<Waiter>>,
}

impl Turns {
    /// A reign begins. Returns whether the log is busy, if that may have changed.
    #[inline]
    pub(crate) fn begin_reign(&mut self, clock: impl FnOnce() -> Duration) -> Option<bool> {
        self.turn = self.turn.saturating_add(1);
        self.reigns += 1;
        if self.reigns < LOOK_REIGNS {
            return None;
        }
        self.reigns = 0;
        let now = clock();
        self.is_busy = HAS_TIME && now.saturating_sub(self.looked_at) < BUSY_TIME;
        self.looked_at = now;
        Some(self.is_busy)
    }

    /// Whether it is somebody else's turn.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_busy && TURN_REIGNS <= self.turn
    }

    /// Leadership was handed over.
    pub(crate) const fn begin(&mut self) {
        self.turn = 0;
    }

    /// A reign ends in which `asleep` were answered. Leaves those in it that are to be woken now.
    #[inline]
    pub(crate) fn end_reign(
        &mut self,
        asleep: &mut Vec<Arc<Waiter>>,
        clock: impl FnOnce() -> Duration,
    ) {
        if asleep.is_empty() && self.sleepers.is_empty() {
            return;
        }
        // Writes may have become rare since the last look.
        let is_stale = !asleep.is_empty() && BUSY_TIME * 2 < clock().saturating_sub(self.looked_at);
        if !self.is_busy || is_stale {
            return asleep.extend(self.sleepers.drain(..));
        }
        self.sleepers.extend(asleep.extract_if(.., |waiter| waiter.may_sleep_on()));
        if self.is_over() && (self.turn - TURN_REIGNS).is_multiple_of(CALL_REIGNS) {
            asleep.extend(self.sleepers.pop_front());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::options::Durability;
    use crate::waiter::Request;

    fn waiter(durability: Durability) -> Arc<Waiter> {
        let mut waiter = Waiter::new();
        waiter.fill(&Request { operations: b"", count: 1, keyspaces: &[], durability }, true);
        Arc::new(waiter)
    }

    /// Reigns of a microsecond each, in which nobody is answered; how many woke somebody.
    fn reign(turns: &mut Turns, count: u32, now: &mut Duration) -> usize {
        let woken = (0..count).map(|_| {
            *now += Duration::from_micros(1);
            turns.begin_reign(|| *now);
            let mut asleep = Vec::new();
            turns.end_reign(&mut asleep, || *now);
            asleep.len()
        });
        woken.sum()
    }

    #[test]
    fn sleepers_sleep_on_until_the_turn_is_over() {
        let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
        reign(&mut turns, 2 * LOOK_REIGNS, &mut now);
        let mut asleep = vec![waiter(Durability::Process), waiter(Durability::Buffered)];
        turns.begin();
        turns.end_reign(&mut asleep, || now);
        assert!(asleep.is_empty());
        assert_eq!(reign(&mut turns, TURN_REIGNS - 1, &mut now), 0);
        assert!(!turns.is_over());
        assert_eq!(reign(&mut turns, CALL_REIGNS, &mut now), 1);
        assert!(turns.is_over());
        assert_eq!(reign(&mut turns, CALL_REIGNS, &mut now), 1);
        assert_eq!(reign(&mut turns, TURN_REIGNS, &mut now), 0, "nobody sleeps");
    }

    #[test]
    fn who_waits_for_the_device_is_woken_at_once() {
        let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
        reign(&mut turns, 2 * LOOK_REIGNS, &mut now);
        let mut asleep = vec![waiter(Durability::Process), waiter(Durability::Power)];
        turns.end_reign(&mut asleep, || now);
        assert!(matches!(asleep.as_slice(), [one] if !one.may_sleep_on()));
    }

    #[test]
    fn all_are_woken_once_writes_are_rare() {
        let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
        let mut asleep = vec![waiter(Durability::Process)];
        turns.end_reign(&mut asleep, || now);
        assert_eq!(asleep.len(), 1, "nobody knows yet whether the log is busy");
        reign(&mut turns, 2 * LOOK_REIGNS, &mut now);
        turns.end_reign(&mut asleep, || now);
        now += BUSY_TIME * 3;
        let mut another = vec![waiter(Durability::Process)];
        turns.end_reign(&mut another, || now);
        assert_eq!(another.len(), 2);
    }
}
