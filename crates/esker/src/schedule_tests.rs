//! The commit queue, shared syncs, the exchange of a view and the pinning of snapshots, with few
//! threads and many schedules: some hundred that seeds pick, or under loom all of up to three
//! preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
//!     cargo test --release -p esker --lib schedule
//! ```
//!
//! The memtables of a view keep the atomics of std: models of their own check them.

mod queue;
mod syncs;

use std::sync::Arc;
use std::time::Duration;

use esker_base::{EntryKind, KeyspaceId, SeqNo};
use esker_cache::Budget;
use esker_env::{Clock, ManualClock};
use esker_tree::Version;

use crate::engine::snapshots::Snapshots;
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::KeyspaceOptions;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

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

/// A wall clock in milliseconds; others may go on at each look at it.
#[derive(Debug)]
struct SteppedClock(AtomicU64);

impl Clock for SteppedClock {
    fn now(&self) -> Duration {
        self.wall()
    }

    fn wall(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Acquire))
    }

    fn sleep(&self, _: Duration) {
        unreachable!("snapshots do not wait");
    }
}

/// A snapshot had the time after the renewal of a value, and the number before it.
#[test]
fn the_time_of_a_snapshot_is_one_at_which_its_number_was_visible() {
    in_many_orders(|| {
        let clock = Arc::new(SteppedClock(AtomicU64::new(0)));
        let snapshots = Arc::new(Snapshots::starting_at(SeqNo::ZERO, clock.clone()));
        let writer = Arc::clone(&snapshots);
        let join = spawn(move || {
            // The value that expires at 10 is renewed before, and then the time comes.
            writer.publish(SeqNo::ZERO.plus(1));
            clock.0.store(10, Ordering::Release);
        });
        let pin = snapshots.pin(Duration::ZERO);
        let is_renewed = SeqNo::ZERO < pin.seqno();
        assert!(is_renewed || pin.millis() < 10, "the value is missing for {pin:?}");
        join();
    });
}
