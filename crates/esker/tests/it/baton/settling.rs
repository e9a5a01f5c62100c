//! Compactions that become due while something is in their way: they are done once that is gone, whether or
//! not it says so, and who waits for a database to settle sleeps in the meantime.

use esker::env::{Fault, Operation, Rule, When};
use esker::{Db, Keyspace, KeyspaceOptions, Options};
use esker_base::baton::{self, Policy, Settings, Thread};

use super::gate::{Gate, rest};
use super::world::{self, World};
use crate::random::for_each_seed;
use crate::recovered::DIR;

/// Far more than any of these runs takes that gets on.
const STEPS_MAX: u64 = 1_000_000;

fn in_a_run(seed: u64, test: impl FnOnce(&World) + Send + 'static) {
    let settings = Settings::new(seed, Policy::Uniform { one_in: 4 });
    world::run_test(Settings { steps_max: STEPS_MAX, ..settings }, test);
}

/// A database, and a keyspace in which time makes nothing due.
fn open(world: &World, background_threads: usize) -> (Db, Keyspace) {
    let options = Options { background_threads, ..Options::default() };
    let db = Db::builder(DIR).env(world.env.clone()).options(options).open().unwrap();
    let keyspace = db.keyspace("k", untimed()).unwrap();
    (db, keyspace)
}

fn untimed() -> KeyspaceOptions {
    KeyspaceOptions { idle_compaction: None, block_size_bytes: 512, ..KeyspaceOptions::default() }
}

/// So many runs of the same keys in level 0.
fn write(db: &Db, keyspace: &Keyspace, runs: usize) {
    for run in 0..runs {
        let mut batch = db.batch();
        for key in 0..300 {
            batch.put(keyspace, format!("key {key:03}"), [run as u8; 50]);
        }
        batch.commit().unwrap();
        keyspace.flush().unwrap();
    }
}

fn runs(keyspace: &Keyspace) -> usize {
    keyspace.levels().levels.first().map_or(0, |level| level.runs.len())
}

fn compact(keyspace: &Keyspace, expected: bool) -> Thread {
    let keyspace = keyspace.clone();
    let compact = move || assert_eq!(keyspace.compact::<&[u8]>(..).is_ok(), expected);
    baton::spawn("compacts", Box::new(compact))
}

fn wait_until_settled(db: &Db) -> Thread {
    let db = db.clone();
    baton::spawn("waits", Box::new(move || db.wait_until_settled().unwrap()))
}

/// How a step ends that is in the way.
#[derive(Clone, Copy, Debug)]
enum End {
    Cancelled,
    Failed,
    /// On the thread of the call.
    FailedThere,
}

/// Four runs make a compaction due, three of which somebody else compacts; then he does not.
fn end_in_the_midst(world: &World, end: End) {
    let (db, keyspace) = open(world, 2);
    write(&db, &keyspace, 3);
    let gate = Gate::before(world, Operation::Create, "table");
    let is_blocking = matches!(end, End::FailedThere);
    let thread = is_blocking.then(|| compact(&keyspace, false));
    let handle = (!is_blocking).then(|| keyspace.start_compaction::<&[u8]>(..).unwrap());
    gate.wait();
    if let Some(handle) = &handle {
        // Its thread, which is the only one for compactions, stands still at the next block and
        // takes what was requested.
        handle.pause();
        gate.open();
    }
    write(&db, &keyspace, 1);
    rest();
    assert_eq!(runs(&keyspace), 4, "{end:?}: nothing can begin");
    if !matches!(end, End::Cancelled) {
        let rule = Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path("*.table");
        world.faults.add(rule.when(When::Nth(1)));
    }
    gate.open();
    match (&handle, end) {
        (Some(handle), End::Cancelled) => handle.cancel(),
        (Some(handle), _) => {
            handle.resume();
            handle.wait().unwrap_err();
        }
        (None, _) => {}
    }
    thread.into_iter().for_each(Thread::join);
    // Nobody writes any more, or asks.
    rest();
    assert!(runs(&keyspace) < 4, "{end:?}: {} runs are left as they are", runs(&keyspace));
    db.wait_until_settled().unwrap();
    world.faults.observe(|_| ());
}

/// Nobody asked again. Four runs stayed until the next flush; without one, whoever waited for the database
/// to settle waited for ever.
#[test]
fn what_a_step_was_in_the_way_of_is_done_however_that_ends() {
    for_each_seed("what_a_step_was_in_the_way_of_is_done_however_that_ends", 6, |seed| {
        for end in [End::Cancelled, End::Failed, End::FailedThere] {
            in_a_run(seed, move |world| end_in_the_midst(world, end));
        }
    });
}

/// A flush of another keyspace kept him waiting, a snapshot the deleted table; that the snapshot had gone
/// was not told to anybody, and he waited for ever.
#[test]
fn who_waits_finds_what_a_snapshot_was_in_the_way_of() {
    for_each_seed("who_waits_finds_what_a_snapshot_was_in_the_way_of", 6, |seed| {
        in_a_run(seed, move |world| {
            let (db, keyspace) = open(world, 1 + (seed % 3) as usize);
            write(&db, &keyspace, 1);
            let snapshot = db.snapshot();
            keyspace.delete_range::<&[u8]>(..).unwrap();
            keyspace.flush().unwrap();
            let other = db.keyspace("other", untimed()).unwrap();
            other.put("key", "value").unwrap();
            let gate = Gate::before(world, Operation::Create, "table");
            let flush = baton::spawn("flushes", Box::new(move || other.flush().unwrap()));
            gate.wait();
            let waiter = wait_until_settled(&db);
            rest();
            assert_eq!(keyspace.levels().table_count(), 2, "a snapshot needs both");
            drop(snapshot);
            gate.open();
            [flush, waiter].into_iter().for_each(Thread::join);
            assert_eq!(keyspace.levels().table_count(), 0);
            world.faults.observe(|_| ());
        });
    });
}

/// Without background threads he asked for what nobody could begin, looked, and asked again, all the time.
#[test]
fn who_waits_for_the_compaction_of_another_thread_sleeps() {
    for_each_seed("who_waits_for_the_compaction_of_another_thread_sleeps", 6, |seed| {
        in_a_run(seed, move |world| {
            let (db, keyspace) = open(world, (seed % 3) as usize);
            write(&db, &keyspace, 3);
            let gate = Gate::before(world, Operation::Create, "table");
            let compaction = compact(&keyspace, true);
            gate.wait();
            let other = db.keyspace("other", untimed()).unwrap();
            if seed.is_multiple_of(2) {
                // Something else is due, which nobody may begin.
                db.pause_compactions();
                write(&db, &other, 4);
            }
            let waiter = wait_until_settled(&db);
            rest();
            assert_eq!(runs(&keyspace), 3);
            db.resume_compactions();
            gate.open();
            [compaction, waiter].into_iter().for_each(Thread::join);
            assert_eq!(keyspace.levels().table_count(), 1);
            assert!(runs(&other) < 4);
            world.faults.observe(|_| ());
        });
    });
}
