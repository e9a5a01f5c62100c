//! Turns: while several threads write without pause, one of them leads and the others sleep.
//!
//! When more threads write than there are processors, the leader is interrupted by spinning
//! waiters; and sleeping between two writes costs as much as twenty writes. So, while the log is
//! *busy*, a waiter that has an answer but sleeps is left asleep, and the leading thread has the
//! processor and its caches to itself. This lasts for a *turn*, a few hundred reigns; then the
//! sleepers are woken one after another, and the leader hands over to the first that comes. Fewer
//! than one write in a hundred then waits for a turn.
//!
//! The log is busy only while three or more threads do nothing but write. With two, or with threads
//! that also read, waiters get their answer while spinning: a turn would make a thread wait for
//! hundreds of microseconds, in which it could do other work.
//!
//! Promises that a sleeper wakes after a limited time, turn or not: it sleeps with a timeout, so
//! this holds even if nobody ever writes again. Does not know what is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::commit_queue::waiter::Waiter;

/// Length of a turn, in reigns. A quarter of it makes one in a hundred writes wait for a turn; four
/// times as much makes turns last over a millisecond.
const TURN_REIGNS: u32 = 256;

/// Once a turn is over, reigns between waking one sleeper and the next, until one takes over:
/// longer than a wake-up takes.
const CALL_REIGNS: u32 = 64;

/// Reigns between two looks at the clock.
const LOOK_REIGNS: u32 = 64;

/// The log may be busy while `LOOK_REIGNS` reigns take less than this: a put takes 0.7 us of a
/// reign.
const BUSY_TIME: Duration = Duration::from_micros(200);

/// How many of `LOOK_REIGNS` reigns must have served other writers for the log to become busy.
/// Threads that only write reach 40 and more; two threads that alternate writes and reads reach 16
/// to 36.
const CONTENDED_REIGNS: u32 = 40;

/// For how many looks it is remembered that two waiters were queued at once, besides the leader.
/// Four threads that only write, on two processors, do so in every other look.
const CROWD_LOOKS: u32 = 32;

/// While the log is busy, reigns between two measurements of how long the leader stays away. The
/// measurements must miss the reigns that wake somebody, after which it stays away long.
const STAY_REIGNS: u32 = 8;
const STAY_PHASE: u32 = 4;

/// A leader that only writes is back sooner than this; a get from a cached block takes 0.4 to 0.8
/// us.
const STAY_MAX: Duration = Duration::from_nanos(600);

/// Weight of a long stay, against 1 for a short one, and the sum at which the log is no longer
/// busy: one stay in five may be long.
const LONG_STAY: u32 = 4;
const LONG_STAYS_MAX: u32 = 8;

/// Under loom and shuttle no time passes, so no timeout would wake a sleeper.
const HAS_TIME: bool = !cfg!(any(loom, shuttle));

/// Whose turn it is to lead, and who sleeps in the meantime. Owned by the commit leader.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Reigns since the last look at the clock, and how many of them served others.
    reigns: u32,
    contended: u32,
    looked_at: Duration,
    /// Number of further looks for which it is remembered that two waited at once.
    crowded: u32,
    /// Whether the reigns before the last look took little time.
    is_fast: bool,
    is_busy: bool,
    /// Reigns of this turn.
    turn: u32,
    /// When the last reign ended, if the leader's absence is being measured.
    left_at: Option<Duration>,
    /// Weighted count of recent long stays.
    long_stays: u32,
    /// Waiters that have an answer but were not woken, longest asleep first.
    sleepers: VecDeque<Arc<Waiter>>,
}

impl Turns {
    /// Of a busy log, after `turn` reigns of a turn and one long stay.
    #[cfg(test)]
    pub(crate) fn busy_at(turn: u32) -> Self {
        Self { is_busy: true, turn, long_stays: LONG_STAY, ..Self::default() }
    }

    /// A reign begins. Returns whether the log is busy, if that may have changed.
    #[inline]
    pub(crate) fn begin_reign(&mut self, clock: impl Fn() -> Duration) -> Option<bool> {
        self.turn = self.turn.saturating_add(1);
        self.reigns += 1;
        if let Some(left_at) = self.left_at.take() {
            let is_long = STAY_MAX < clock().saturating_sub(left_at);
            self.long_stays = match is_long {
                true => self.long_stays + LONG_STAY,
                false => self.long_stays.saturating_sub(1),
            };
        }
        let is_left = self.is_busy && LONG_STAYS_MAX <= self.long_stays;
        (LOOK_REIGNS <= self.reigns || is_left).then(|| self.look(is_left, clock()))
    }

    /// Decides whether the log is busy; it is not if `is_left`, that is, if the leader stays away.
    fn look(&mut self, is_left: bool, now: Duration) -> bool {
        let is_fast = HAS_TIME && now.saturating_sub(self.looked_at) < BUSY_TIME;
        let was_fast = std::mem::replace(&mut self.is_fast, is_fast);
        self.is_busy = if self.is_busy {
            // A single slow look only means that the leader lost its processor or prepared
            // something.
            (is_fast || was_fast) && !is_left
        } else {
            is_fast && self.crowded != 0 && CONTENDED_REIGNS <= self.contended
        };
        if !self.is_busy {
            self.long_stays = 0;
        }
        self.crowded = self.crowded.saturating_sub(1);
        (self.reigns, self.contended) = (0, 0);
        self.looked_at = now;
        self.is_busy
    }

    /// Group number `index` of the reign serves `count` others.
    pub(crate) const fn note_group(&mut self, index: usize, count: usize) {
        if index == 0 {
            self.contended += 1;
        }
        if 1 < count {
            self.crowded = CROWD_LOOKS;
        }
    }

    /// Whether it is somebody else's turn.
    pub(crate) const fn is_turn_over(&self) -> bool {
        self.is_busy && TURN_REIGNS <= self.turn
    }

    /// Leadership was handed over.
    pub(crate) const fn begin(&mut self) {
        self.turn = 0;
    }

    /// Ends a reign that answered `asleep`. Leaves in it those that are to be woken now.
    #[inline]
    pub(crate) fn end_reign(
        &mut self,
        asleep: &mut Vec<Arc<Waiter>>,
        clock: impl Fn() -> Duration,
    ) {
        if self.is_busy && self.turn % STAY_REIGNS == STAY_PHASE {
            self.left_at = Some(clock());
        }
        if asleep.is_empty() && self.sleepers.is_empty() {
            return;
        }
        // Writes may have become rare since the last look.
        let is_stale = !asleep.is_empty() && BUSY_TIME * 2 < clock().saturating_sub(self.looked_at);
        if !self.is_busy || is_stale {
            return asleep.extend(self.sleepers.drain(..));
        }
        self.sleepers.extend(asleep.extract_if(.., |waiter| waiter.may_sleep_on()));
        if self.is_turn_over() && (self.turn - TURN_REIGNS).is_multiple_of(CALL_REIGNS) {
            asleep.extend(self.sleepers.pop_front());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::commit_queue::waiter::Request;
    use crate::options::Durability;

    fn waiter(durability: Durability) -> Arc<Waiter> {
        let mut waiter = Waiter::new();
        waiter.fill(&Request { operations: b"", count: 1, keyspaces: &[], durability }, true);
        Arc::new(waiter)
    }

    /// Reigns of half a microsecond each, in which nobody is answered, by a leader that stays away for
    /// `stay`; how many woke somebody.
    fn reign(turns: &mut Turns, count: u32, now: &mut Duration, stay: Duration) -> usize {
        let woken = (0..count).map(|_| {
            *now += stay;
            turns.begin_reign(|| *now);
            *now += Duration::from_nanos(500);
            let mut asleep = Vec::new();
            turns.end_reign(&mut asleep, || *now);
            asleep.len()
        });
        woken.sum()
    }

    /// As long as a leader that only writes stays away.
    const SHORT: Duration = Duration::from_nanos(150);

    /// Reigns for one look, of which `contended` serve a group of `others`.
    fn look(turns: &mut Turns, now: &mut Duration, contended: u32, others: usize) {
        for index in 0..LOOK_REIGNS {
            reign(turns, 1, now, SHORT);
            if index < contended {
                turns.note_group(0, others);
            }
        }
    }

    fn busy() -> (Turns, Duration) {
        let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
        look(&mut turns, &mut now, 0, 0);
        look(&mut turns, &mut now, CONTENDED_REIGNS, 2);
        reign(&mut turns, 1, &mut now, SHORT);
        assert!(turns.is_busy);
        (turns, now)
    }

    #[test]
    fn sleepers_sleep_on_until_the_turn_is_over() {
        let (mut turns, mut now) = busy();
        let mut asleep = vec![waiter(Durability::Process), waiter(Durability::Buffered)];
        turns.begin();
        turns.end_reign(&mut asleep, || now);
        assert!(asleep.is_empty());
        assert_eq!(reign(&mut turns, TURN_REIGNS - 1, &mut now, SHORT), 0);
        assert!(!turns.is_turn_over());
        assert_eq!(reign(&mut turns, CALL_REIGNS, &mut now, SHORT), 1);
        assert!(turns.is_turn_over());
        assert_eq!(reign(&mut turns, CALL_REIGNS, &mut now, SHORT), 1);
        assert_eq!(reign(&mut turns, TURN_REIGNS, &mut now, SHORT), 0, "nobody sleeps");
    }

    #[test]
    fn turns_are_for_three_threads_that_only_write() {
        let cases = [
            ("one", 0, 0, false),
            ("two that only write", LOOK_REIGNS, 1, false),
            ("four that read, too", CONTENDED_REIGNS - 1, 2, false),
            ("three that only write", CONTENDED_REIGNS, 2, true),
        ];
        for (who, contended, others, is_busy) in cases {
            let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
            reign(&mut turns, LOOK_REIGNS, &mut now, SHORT);
            (0..3).for_each(|_| look(&mut turns, &mut now, contended, others));
            assert_eq!(turns.is_busy, is_busy, "{who}");
        }
    }

    #[test]
    fn a_crowd_is_forgotten_after_some_looks() {
        let (mut turns, mut now) = (Turns::default(), Duration::from_secs(1));
        look(&mut turns, &mut now, 1, 2);
        (0..=CROWD_LOOKS).for_each(|_| look(&mut turns, &mut now, 0, 0));
        look(&mut turns, &mut now, LOOK_REIGNS, 1);
        reign(&mut turns, 1, &mut now, SHORT);
        assert!(!turns.is_busy);
    }

    #[test]
    fn all_are_woken_soon_once_the_leader_does_other_things_too() {
        let (mut turns, mut now) = busy();
        let mut asleep = vec![waiter(Durability::Process), waiter(Durability::Process)];
        turns.begin();
        turns.end_reign(&mut asleep, || now);
        let long = STAY_MAX + Duration::from_nanos(1);
        assert_eq!(reign(&mut turns, 3 * STAY_REIGNS, &mut now, long), 2);
        assert!(!turns.is_busy);
    }

    #[test]
    fn a_leader_that_is_held_up_now_and_then_keeps_its_turn() {
        let (mut turns, mut now) = busy();
        let mut asleep = vec![waiter(Durability::Process)];
        turns.begin();
        turns.end_reign(&mut asleep, || now);
        for _ in 0..TURN_REIGNS / (8 * STAY_REIGNS) {
            assert_eq!(reign(&mut turns, STAY_REIGNS, &mut now, 2 * STAY_MAX), 0);
            assert_eq!(reign(&mut turns, 6 * STAY_REIGNS, &mut now, SHORT), 0);
        }
        assert!(turns.is_busy);
    }

    #[test]
    fn a_turn_outlasts_one_slow_look_and_not_two() {
        let (mut turns, mut now) = busy();
        for (slow, is_busy) in [(true, true), (false, true), (true, true), (true, false)] {
            now += if slow { BUSY_TIME } else { Duration::ZERO };
            look(&mut turns, &mut now, 0, 0);
            assert_eq!(turns.is_busy, is_busy);
        }
    }

    #[test]
    fn who_waits_for_the_device_is_woken_at_once() {
        let (mut turns, now) = busy();
        let mut asleep = vec![waiter(Durability::Process), waiter(Durability::Power)];
        turns.end_reign(&mut asleep, || now);
        assert!(matches!(asleep.as_slice(), [one] if !one.may_sleep_on()));
    }

    #[test]
    fn all_are_woken_once_writes_are_rare() {
        let mut asleep = vec![waiter(Durability::Process)];
        Turns::default().end_reign(&mut asleep, || Duration::from_secs(1));
        assert_eq!(asleep.len(), 1, "nobody knows yet whether the log is busy");
        let (mut turns, mut now) = busy();
        turns.end_reign(&mut asleep, || now);
        now += BUSY_TIME * 3;
        let mut another = vec![waiter(Durability::Process)];
        turns.end_reign(&mut another, || now);
        assert_eq!(another.len(), 2);
    }
}
