//! The commit queue over a log of names: who leads, who is served, in which order, and what becomes of
//! all if a leader fails or never ends.
//!
//! Each name gets a sequence number when it is appended, and whoever appended it is told that number.
//! Knows nothing of what a commit writes.

use std::sync::Arc;
use std::time::Duration;

use esker_base::SeqNo;

use super::{in_many_orders, spawn};
use crate::commit_queue::turns::Turns;
use crate::commit_queue::waiter::{Request, Waiter};
use crate::commit_queue::{CommitPipeline, Leader};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::sync::Mutex;

/// The commit queue, and a log that only the leader writes to.
struct Queue {
    pipeline: CommitPipeline,
    /// Names, each with its sequence number.
    log: Mutex<Vec<(u64, u8)>>,
    durability: Durability,
    /// Size of a batch: its name, again and again.
    batch_bytes: usize,
    /// Whether those that sleep are woken once they have an answer.
    wakes: Wakes,
    /// What becomes of groups that a leader takes.
    fate: Fate,
    /// Advances by this at each look.
    clock: Mutex<Duration>,
    step: Duration,
}

/// Who wakes those that sleep once they have an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wakes {
    /// The leader that answered.
    Leader,
    /// Nobody: they come back in time. Under loom no time passes.
    Nobody,
    /// The leader of whom [`Turns`] say so.
    Turns,
}

/// What becomes of groups that a leader takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Written,
    /// Those of an even number of names fail, and the others are written.
    SomeFail,
    /// The leader panics once it has taken the first.
    Panic,
}

/// Groups after which a leader of the model hands on.
const GROUPS_PER_LEADER: usize = 1;

/// Appended by who keeps others from leading for a moment.
const MARK: u8 = 100;

fn failure() -> Error {
    Error::invalid_input("as the model asks")
}

impl Queue {
    fn new(wakes: Wakes) -> Self {
        Self::with_turns(wakes, Turns::default(), Duration::ZERO)
    }

    fn with_turns(wakes: Wakes, turns: Turns, step: Duration) -> Self {
        let pipeline = CommitPipeline::starting_at(Leader { turns, ..Leader::default() });
        pipeline.set_busy(wakes != Wakes::Leader);
        Self {
            pipeline,
            log: Mutex::new(Vec::new()),
            durability: Durability::Buffered,
            batch_bytes: 1,
            wakes,
            fate: Fate::Written,
            clock: Mutex::new(Duration::ZERO),
            step,
        }
    }

    fn now(&self) -> Duration {
        let mut clock = self.clock.lock().unwrap();
        *clock += self.step;
        *clock
    }

    /// Appends `name`, as a writer does, and returns once that is done, with its sequence number.
    fn commit(&self, name: u8) -> Result<u64> {
        let operations = vec![name; self.batch_bytes];
        let request = Request {
            operations: &operations,
            count: 1,
            keyspaces: &[],
            durability: self.durability,
        };
        if let Some(result) = self.pipeline.join(&request).and_then(|waiter| waiter.wait()) {
            return result;
        }
        let (result, asleep) = self.lead(name);
        if self.wakes != Wakes::Nobody {
            asleep.iter().for_each(|waiter| waiter.wake());
        }
        result
    }

    /// Gives `name` the next number, and then a place in the log, as a group gets them.
    fn append(&self, leader: &mut Leader, name: u8) -> u64 {
        leader.last_seqno = leader.last_seqno.next();
        self.log.lock().unwrap().push((leader.last_seqno.get(), name));
        leader.last_seqno.get()
    }

    /// Appends `name` and what others left, as `Reign` does; returns whom to wake.
    fn lead(&self, name: u8) -> (Result<u64>, Vec<Arc<Waiter>>) {
        let mut leader = self.pipeline.lead();
        if self.wakes == Wakes::Turns
            && let Some(is_busy) = leader.turns.begin_reign(|| self.now())
        {
            self.pipeline.set_busy(is_busy);
        }
        let own = self.append(&mut leader, name);
        let (mut group, mut asleep, mut group_count) = (Vec::new(), Vec::new(), 0);
        while !self.hands_over(&mut leader, group_count)
            && self.pipeline.take_group(&mut group, &mut leader.served)
        {
            if self.fate == Fate::Panic {
                drop(leader);
                asleep.extend(self.pipeline.abandon(&mut group, &failure()));
                return (Err(failure()), asleep);
            }
            leader.turns.note_group(group_count, group.len());
            for waiter in group.drain(..) {
                let name = waiter.request().operations[0];
                let is_asleep = match self.fate {
                    Fate::SomeFail if name.is_multiple_of(2) => waiter.answer(Err(failure())),
                    _ => waiter.answer(Ok(self.append(&mut leader, name))),
                };
                match is_asleep {
                    true => asleep.push(waiter),
                    false => leader.keep(waiter),
                }
            }
            group_count += 1;
        }
        if self.wakes == Wakes::Turns {
            leader.turns.end_reign(&mut asleep, || self.now());
        }
        (Ok(own), asleep)
    }

    fn hands_over(&self, leader: &mut Leader, group_count: usize) -> bool {
        let is_time = GROUPS_PER_LEADER <= group_count || leader.turns.is_turn_over();
        let has_ended = is_time && self.pipeline.hand_over();
        if has_ended {
            leader.turns.begin();
        }
        has_ended
    }

    /// Appends a mark, unless somebody leads just now; whether it did.
    fn mark(&self) -> bool {
        let leader = self.pipeline.try_lead();
        leader.map(|mut leader| self.append(&mut leader, MARK)).is_some()
    }

    /// Appends `name`; what it was told must be so.
    fn commit_and_check(&self, name: u8) {
        match self.commit(name) {
            Ok(seqno) => {
                let log = self.log.lock().unwrap();
                assert!(log.contains(&(seqno, name)), "{name} was said to be done: {:?}", *log);
            }
            Err(error) => {
                assert_eq!(error.to_string(), failure().to_string());
                assert_ne!(self.fate, Fate::Written);
            }
        }
    }

    /// Nobody leads or waits, and frames stand in the order of their numbers. Returns the names.
    fn check_end(&self) -> Vec<u8> {
        assert!(self.pipeline.is_idle(), "nobody leads or waits");
        let log = self.log.lock().unwrap();
        let numbers = log.iter().map(|(seqno, _)| *seqno);
        assert!(numbers.eq(1..=log.len() as u64), "in the order of their numbers: {:?}", *log);
        let last = self.pipeline.lead().last_seqno;
        assert_eq!(SeqNo::new(log.len() as u64), Some(last));
        let mut names: Vec<u8> = log.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names
    }
}

/// Two writers beside this one, which writes twice; returns the names in the log.
fn write_four(queue: Queue) -> (Arc<Queue>, Vec<u8>) {
    let queue = Arc::new(queue);
    let writers = [1, 2].map(|name| {
        let queue = Arc::clone(&queue);
        spawn(move || queue.commit_and_check(name))
    });
    queue.commit_and_check(0);
    queue.commit_and_check(3);
    writers.into_iter().for_each(|join| join());
    let names = queue.check_end();
    (queue, names)
}

fn check_that_each_is_served_once(queue: Queue) {
    assert_eq!(write_four(queue).1, [0, 1, 2, 3]);
}

#[test]
fn each_writer_is_served_once_whoever_leads() {
    in_many_orders(|| check_that_each_is_served_once(Queue::new(Wakes::Leader)));
}

/// Under loom no time passes.
#[cfg(not(loom))]
#[test]
fn who_is_not_woken_comes_back_in_time() {
    in_many_orders(|| check_that_each_is_served_once(Queue::new(Wakes::Nobody)));
}

/// In a turn, at its end, and when the leader is found to do other things, too.
#[cfg(not(loom))]
#[test]
fn each_writer_is_served_once_whosever_turn_it_is() {
    for (turn, step) in [(0, 0), (255, 0), (3, 1)] {
        in_many_orders(move || {
            let turns = Turns::busy_at(turn);
            let step = Duration::from_micros(step);
            check_that_each_is_served_once(Queue::with_turns(Wakes::Turns, turns, step));
        });
    }
}

/// Who waits for the device is woken whosever turn it is, also where no time passes.
#[test]
fn who_waits_for_the_device_is_woken_whosever_turn_it_is() {
    for turn in [0, 255] {
        in_many_orders(move || {
            let queue = Queue::with_turns(Wakes::Turns, Turns::busy_at(turn), Duration::ZERO);
            check_that_each_is_served_once(Queue { durability: Durability::Power, ..queue });
        });
    }
}

/// Some sleep while it does; what they wait for comes all the same.
#[test]
fn who_keeps_others_from_leading_for_a_moment_takes_nothing_from_them() {
    in_many_orders(|| {
        let queue = Arc::new(Queue::new(Wakes::Leader));
        let writers = [1, 2].map(|name| {
            let queue = Arc::clone(&queue);
            spawn(move || queue.commit_and_check(name))
        });
        let is_marked = queue.mark();
        writers.into_iter().for_each(|join| join());
        let names: &[u8] = if is_marked { &[1, 2, MARK] } else { &[1, 2] };
        assert_eq!(queue.check_end(), names);
    });
}

/// A huge batch was copied for the leader, and its copy kept for the next batches.
#[test]
fn no_memory_of_a_huge_batch_is_kept() {
    in_many_orders(|| {
        let queue = Queue { batch_bytes: 100_000, ..Queue::new(Wakes::Leader) };
        let (queue, _) = write_four(queue);
        let kept = queue.pipeline.kept_bytes();
        assert!(kept < 100_000, "{kept} bytes");
    });
}

#[test]
fn a_writer_whose_group_fails_is_told_why_and_others_are_served() {
    in_many_orders(|| {
        let queue = Queue { fate: Fate::SomeFail, ..Queue::new(Wakes::Leader) };
        let (_, names) = write_four(queue);
        assert!([1, 3].iter().all(|name| names.contains(name)), "{names:?}");
    });
}

#[test]
fn a_leader_that_panics_leaves_nobody_waiting() {
    in_many_orders(|| {
        let queue = Queue { fate: Fate::Panic, ..Queue::new(Wakes::Leader) };
        let (queue, _) = write_four(queue);
        // Whoever comes later leads.
        assert!(queue.commit(4).is_ok());
    });
}
