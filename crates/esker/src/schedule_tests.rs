//! The commit queue, the exchange of a view and the pinning of snapshots, with few threads and many
//! schedules: some hundred that seeds pick, or under loom all of up to three preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
//!     cargo test --release -p esker --lib schedule
//! ```
//!
//! The memtables of a view keep the atomics of std: models of their own check them.

use std::sync::Arc;
use std::time::Duration;

use esker_base::{EntryKind, KeyspaceId, SeqNo};
use esker_cache::Budget;
use esker_env::ManualClock;
use esker_tree::Version;

use crate::commit_queue::{CommitPipeline, Leader};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::{Durability, KeyspaceOptions};
use crate::snapshots::Snapshots;
use crate::sync::Mutex;
use crate::turns::Turns;
use crate::waiter::{Request, Waiter};

/// Runs `model` in many orders.
#[cfg(loom)]
fn in_many_orders(model: impl Fn() + Send + Sync + 'static) {
    loom::model(model);
}

/// Runs `model` in many orders.
#[cfg(not(loom))]
fn in_many_orders(model: impl Fn() + Send + Sync + 'static) {
    use esker_base::baton::{self, Policy};

    let model = Arc::new(model);
    for seed in 0..400 {
        let model = Arc::clone(&model);
        let policy = match seed % 2 {
            0 => Policy::Uniform { one_in: 1 },
            _ => Policy::Priorities { falls: 2, among: 40 },
        };
        let run = baton::start(baton::Settings::new(seed, policy), move || model());
        let outcome = run.wait(Duration::from_secs(60)).expect("a model is short");
        assert_eq!(outcome.failure, None, "seed {seed}");
    }
}

/// Starts a thread; the result waits for its end.
fn spawn(task: impl FnOnce() + Send + 'static) -> impl FnOnce() {
    #[cfg(loom)]
    let join = {
        let thread = loom::thread::spawn(task);
        move || thread.join().unwrap()
    };
    #[cfg(not(loom))]
    let join = {
        let thread = esker_base::baton::spawn("thread", Box::new(task));
        move || thread.join()
    };
    join
}

/// The commit queue, and a log that only the leader writes to.
struct Queue {
    pipeline: CommitPipeline,
    log: Mutex<Vec<u8>>,
    /// Whether those that sleep are woken once they have an answer.
    wakes: Wakes,
    /// Advances by this at each look.
    clock: Mutex<Duration>,
    step: Duration,
}

/// Who wakes those that sleep once they have an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wakes {
    /// The leader that answered.
    Leader,
    /// Nobody.
    Nobody,
    /// The leader of whom [`Turns`] say so.
    Turns,
}

/// Groups after which a leader of the model hands on.
const GROUPS_PER_LEADER: usize = 1;

impl Queue {
    fn new(wakes: Wakes) -> Arc<Self> {
        Self::with_turns(wakes, Turns::default(), Duration::ZERO)
    }

    fn with_turns(wakes: Wakes, turns: Turns, step: Duration) -> Arc<Self> {
        let leader = Leader { turns, ..Leader::default() };
        let pipeline = CommitPipeline::starting_at(leader);
        pipeline.set_busy(wakes != Wakes::Leader);
        let (log, clock) = (Mutex::new(Vec::new()), Mutex::new(Duration::ZERO));
        Arc::new(Self { pipeline, log, wakes, clock, step })
    }

    fn now(&self) -> Duration {
        let mut clock = self.clock.lock().unwrap();
        *clock += self.step;
        *clock
    }

    /// Appends `name`, as a writer does, and returns once that is done.
    fn commit(&self, name: u8) {
        let operations = [name];
        let request = Request {
            operations: &operations,
            count: 1,
            keyspaces: &[],
            durability: Durability::Buffered,
        };
        if let Some(waiter) = self.pipeline.join(&request)
            && let Some(result) = waiter.wait()
        {
            assert!(result.is_ok());
            assert!(self.log.lock().unwrap().contains(&name), "it was said to be done");
            return;
        }
        let asleep = self.lead(name);
        if self.wakes != Wakes::Nobody {
            asleep.iter().for_each(|waiter| waiter.wake());
        }
    }

    /// Appends `name` and what others left, as `Reign` does; returns whom to wake.
    fn lead(&self, name: u8) -> Vec<Arc<Waiter>> {
        let mut leader = self.pipeline.lead();
        if self.wakes == Wakes::Turns
            && let Some(is_busy) = leader.turns.begin_reign(|| self.now())
        {
            self.pipeline.set_busy(is_busy);
        }
        self.log.lock().unwrap().push(name);
        let (mut group, mut asleep, mut group_count) = (Vec::new(), Vec::new(), 0);
        while !self.hands_over(&mut leader, group_count)
            && self.pipeline.take_group(&mut group, &mut leader.served)
        {
            leader.turns.note_group(group_count, group.len());
            for waiter in group.drain(..) {
                self.log.lock().unwrap().extend(waiter.request().operations);
                let is_asleep = waiter.answer(Ok(0));
                if is_asleep { &mut asleep } else { &mut leader.served }.push(waiter);
            }
            group_count += 1;
        }
        if self.wakes == Wakes::Turns {
            leader.turns.end_reign(&mut asleep, || self.now());
        }
        asleep
    }

    fn hands_over(&self, leader: &mut Leader, group_count: usize) -> bool {
        let is_time = GROUPS_PER_LEADER <= group_count || leader.turns.is_over();
        let has_ended = is_time && self.pipeline.hand_over();
        if has_ended {
            leader.turns.begin();
        }
        has_ended
    }
}

fn check_that_each_is_served_once(queue: &Arc<Queue>) {
    let writers = [1, 2].map(|name| {
        let queue = Arc::clone(queue);
        spawn(move || queue.commit(name))
    });
    queue.commit(0);
    queue.commit(3);
    writers.into_iter().for_each(|join| join());
    let mut log = queue.log.lock().unwrap().clone();
    log.sort_unstable();
    assert_eq!(log, [0, 1, 2, 3]);
    assert!(queue.pipeline.is_idle(), "nobody leads or waits");
}

#[test]
fn each_writer_is_served_once_whoever_leads() {
    in_many_orders(|| check_that_each_is_served_once(&Queue::new(Wakes::Leader)));
}

/// Under loom no time passes.
#[cfg(not(loom))]
#[test]
fn who_is_not_woken_comes_back_in_time() {
    in_many_orders(|| check_that_each_is_served_once(&Queue::new(Wakes::Nobody)));
}

/// In a turn, at its end, and when the leader is found to do other things, too.
#[cfg(not(loom))]
#[test]
fn each_writer_is_served_once_whosever_turn_it_is() {
    for (turn, step) in [(0, 0), (255, 0), (3, 1)] {
        in_many_orders(move || {
            let turns = Turns::busy_at(turn);
            let queue = Queue::with_turns(Wakes::Turns, turns, Duration::from_micros(step));
            check_that_each_is_served_once(&queue);
        });
    }
}

/// A keyspace, and what is visible in it.
struct Keyspace {
    core: Arc<KeyspaceCore>,
    budget: Arc<Budget>,
    snapshots: Arc<Snapshots>,
}

impl Keyspace {
    fn new() -> Arc<Self> {
        let budget = Budget::new(1 << 20);
        let settings = Settings::new(KeyspaceOptions::default(), 1 << 20);
        let version = Version::new(KeyspaceId::DEFAULT);
        let core = KeyspaceCore::new(KeyspaceId::DEFAULT, "k", settings, version, &budget);
        let clock = Arc::new(ManualClock::default());
        let snapshots = Arc::new(Snapshots::starting_at(SeqNo::ZERO, clock));
        Arc::new(Self { core, budget, snapshots })
    }

    /// The next write, as the commit leader does it.
    fn write(&self, seqno: SeqNo) {
        let view = self.core.view();
        let key = seqno.get().to_le_bytes();
        view.active.memtable.writer().insert(&key, seqno, EntryKind::Put, b"");
        self.snapshots.publish(seqno);
    }
}

#[test]
fn a_view_holds_all_that_its_number_sees() {
    in_many_orders(|| {
        let keyspace = Keyspace::new();
        let writer = Arc::clone(&keyspace);
        let join = spawn(move || {
            writer.write(SeqNo::ZERO.plus(1));
            writer.core.switch_memtable(&writer.budget);
            writer.write(SeqNo::ZERO.plus(2));
        });
        let (view, seqno) = keyspace.core.view_with_seqno(|| keyspace.snapshots.visible());
        for number in 1..=seqno.get() {
            let key = number.to_le_bytes();
            let is_there = view.memtables().any(|memtable| memtable.get(&key, seqno).is_some());
            assert!(is_there, "entry {number} is visible and not in the view");
        }
        join();
    });
}

#[test]
fn a_snapshot_is_known_to_a_job_or_stands_after_what_the_job_was_told() {
    in_many_orders(|| {
        let clock = Arc::new(ManualClock::default());
        let snapshots = Arc::new(Snapshots::starting_at(SeqNo::ZERO, clock));
        let told = Arc::new(Mutex::new(None));
        let job = (Arc::clone(&snapshots), Arc::clone(&told));
        let join = spawn(move || {
            job.0.publish(SeqNo::ZERO.plus(1));
            *job.1.lock().unwrap() = Some(job.0.readers());
        });
        let pin = snapshots.pin(Duration::ZERO);
        join();
        let readers = told.lock().unwrap().take().unwrap();
        let is_known = readers.snapshots.contains(&pin.seqno());
        assert!(is_known || readers.visible <= pin.seqno(), "{readers:?} and {pin:?}");
    });
}
