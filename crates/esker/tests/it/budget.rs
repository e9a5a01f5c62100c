//! What memtables take together, however many there are.

use esker::env::Env;
use esker::{Db, Keyspace, KeyspaceOptions, Options, StallCause};

use crate::recovered::{open, options};

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

fn forty(db: &Db) -> Vec<Keyspace> {
    let keyspace = |number: u32| db.keyspace(&number.to_string(), KeyspaceOptions::default());
    (0..40).map(|number| keyspace(number).unwrap()).collect()
}

fn charged(db: &Db) -> u64 {
    let charged = |(owner, bytes): (&str, u64)| (owner == "memtables").then_some(bytes);
    db.stats().memory.into_iter().find_map(charged).unwrap()
}
