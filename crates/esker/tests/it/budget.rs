//! The memory of all memtables together, however many there are.

use std::sync::Arc;

use esker::env::{Env, Fault, FaultFileSystem, Operation, Rule};
use esker::{Db, Keyspace, KeyspaceOptions, Options, StallCause};

use crate::recovered::{open, options};
use crate::watchdog::Watchdog;

/// Only a memtable that was full by itself, or a log segment that was, had anybody look at what all of
/// them held; and then the largest went, which was small. Many keyspaces took as many times the budget.
#[test]
fn memtables_of_many_keyspaces_stay_within_half_of_the_budget() {
    let budget = 4 << 20;
    for log in [true, false] {
        let engine =
            Options { memory_budget_bytes: budget, log_segment_bytes: 64 << 20, ..options() };
        let db = open(&Env::memory(1), &engine).unwrap();
        let options = || KeyspaceOptions { log, ..KeyspaceOptions::default() };
        let keyspaces: Vec<_> =
            (0..40).map(|number| db.keyspace(&number.to_string(), options()).unwrap()).collect();
        let active = || -> u64 {
            let each = keyspaces.iter().map(|keyspace| keyspace.levels().memtables[0].bytes);
            each.sum()
        };
        for number in 0..200_u32 {
            for keyspace in &keyspaces {
                keyspace.put(number.to_le_bytes(), [1; 1000]).unwrap();
            }
            let charged = charged(&db);
            assert!(active() <= charged, "{number}: {} of {charged}", active());
            assert!(active() <= budget / 2 + (128 << 10), "{number}: {} in use", active());
            while db.run_background_job() {}
        }
    }
}

/// How many memtables may wait for their flush was bounded for each keyspace, and for all of them only by
/// their number: forty, each with little, took three times the budget while flushes were late.
#[test]
fn memtables_that_wait_stay_within_the_budget_with_those_that_take_writes() {
    let budget = 2 << 20;
    let engine = Options { memory_budget_bytes: budget, log_segment_bytes: 64 << 20, ..options() };
    let db = open(&Env::memory(1), &engine).unwrap();
    let keyspaces = forty(&db);
    let mut most = 0;
    for number in 0..400_u32 {
        for keyspace in &keyspaces {
            keyspace.put(number.to_le_bytes(), [1; 1000]).unwrap();
        }
        most = charged(&db).max(most);
        // A chunk more of a memtable, which no other write came before.
        assert!(most <= budget + (128 << 10), "{number}: {most} bytes of {budget}");
    }
    assert!(budget * 3 / 4 < most, "{most} bytes: written without need");
    let health = db.health();
    let causes = health.stalls.iter().map(|stall| stall.info.cause);
    let causes: Vec<_> = causes.filter(|cause| *cause == StallCause::MemoryBudget).collect();
    assert_eq!(causes.len(), keyspaces.len() + 1, "{health}");
    assert!(
        health.to_string().contains("memtables of all keyspaces together take the memory budget"),
        "{health}"
    );
    while db.run_background_job() {}
    assert!(db.health().stalls.is_empty(), "{}", db.health());
    for keyspace in &keyspaces {
        assert_eq!(keyspace.iter().count(), 400);
    }
}

/// A memtable that waited for its flush with nothing but a range delete, too small to be charged for, was not
/// flushed for others: without threads they waited for ever for the large one behind it.
#[test]
fn a_small_memtable_that_waits_is_flushed_for_the_large_one_behind_it() {
    let _watchdog = Watchdog::start("a small memtable before a large one".to_owned());
    let env = Env::memory(1);
    let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
    let env = Env { fs: Arc::new(faults.clone()), ..env };
    let db = open(&env, &Options { memory_budget_bytes: 0, ..options() }).unwrap();
    let one = KeyspaceOptions { immutable_memtables_max: 1, ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("one may wait", one).unwrap();
    keyspace.put("a", "value").unwrap();
    keyspace.flush().unwrap();
    keyspace.delete_range("a".."b").unwrap();
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table"));
    keyspace.flush().unwrap_err();
    faults.clear();
    keyspace.put("large", vec![0; 1 << 20]).unwrap();
    db.put("elsewhere", "value").unwrap();
    assert!(charged(&db) < 1 << 20);
    assert_eq!(keyspace.iter().count(), 1);
}

/// A batch was held back for each of its keyspaces, by all of its bytes each time.
#[test]
fn a_batch_over_many_keyspaces_is_delayed_once() {
    let budget = 16 << 20;
    let engine = Options {
        background_threads: 1,
        memory_budget_bytes: budget,
        log_segment_bytes: 64 << 20,
        ..options()
    };
    let env = Env { clock: Env::os().clock, ..Env::memory(1) };
    let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
    let db = open(&Env { fs: Arc::new(faults.clone()), ..env }, &engine).unwrap();
    let keyspaces = forty(&db);
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table"));
    let mut number = 0_usize;
    while charged(&db) < budget / 5 * 4 {
        keyspaces[number % 40].put(number.to_le_bytes(), [1; 5000]).unwrap();
        number += 1;
    }
    let mut batch = db.batch();
    // Long enough to be waited for, and not only noted.
    batch.put(&keyspaces[0], "large", vec![1; 256 << 10]);
    keyspaces.iter().for_each(|keyspace| batch.put(keyspace, "key", "value"));
    let before = db.stats().counters;
    batch.commit().unwrap();
    let after = db.stats().counters;
    assert_eq!(after.delayed_writes - before.delayed_writes, 1);
    faults.clear();
}

fn forty(db: &Db) -> Vec<Keyspace> {
    let keyspace = |number: u32| db.keyspace(&number.to_string(), KeyspaceOptions::default());
    (0..40).map(|number| keyspace(number).unwrap()).collect()
}

fn charged(db: &Db) -> u64 {
    let charged = |(owner, bytes): (&str, u64)| (owner == "memtables").then_some(bytes);
    db.stats().memory.into_iter().find_map(charged).unwrap()
}
