//! Writers of several keyspaces whose memtables take, together, what they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker::env::{Fault, Operation, Rule, When};
use esker::{Db, ErrorKind, Keyspace, KeyspaceOptions, Options, StallCause};
use esker_base::baton::{self, Policy, Settings};

use super::world::{self, World};
use crate::random::{Rng, for_each_seed};
use crate::recovered::DIR;

/// The least that memtables of all keyspaces may take.
const BUDGET_BYTES: u64 = 512 << 10;

/// What a writer and another one that came at the same time may add to that, each a chunk of a memtable.
const BEYOND_BYTES: u64 = 3 * (128 << 10);

fn open(world: &World, threads: usize) -> (Db, Vec<Keyspace>) {
    let options = Options {
        background_threads: threads,
        memory_budget_bytes: BUDGET_BYTES,
        ..Options::default()
    };
    let db = Db::builder(DIR).env(world.env.clone()).options(options).open().unwrap();
    let keyspace = |number: u32| db.keyspace(&number.to_string(), KeyspaceOptions::default());
    let keyspaces = (0..8).map(|number| keyspace(number).unwrap()).collect();
    (db, keyspaces)
}

fn in_a_run(seed: u64, test: impl FnOnce(&World) + Send + 'static) {
    world::run_test(Settings::new(seed, Policy::Uniform { one_in: 4 }), test);
}

fn memtable_bytes(db: &Db) -> u64 {
    let memtables = |(owner, bytes): (&str, u64)| (owner == "memtables").then_some(bytes);
    db.stats().memory.into_iter().find_map(memtables).unwrap()
}

/// Whoever waits is woken by any flush, and what waits is flushed: or nobody could go on, and the run
/// would fail.
#[test]
fn writers_that_wait_for_memory_of_all_keyspaces_go_on() {
    let stalls = Arc::new(AtomicU64::new(0));
    let all = Arc::clone(&stalls);
    for_each_seed("writers_that_wait_for_memory_of_all_keyspaces_go_on", 10, |seed| {
        let stalls = Arc::clone(&all);
        in_a_run(seed, move |world| {
            let mut rng = Rng::new(seed);
            let (db, keyspaces) = open(world, 1 + rng.index(2));
            if rng.one_in(3) {
                // Flushes fail for a while, and are tried again.
                let rule = Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table");
                world.faults.add(rule.when(When::Nth(1)));
            }
            // Longer than what writers are delayed lasts for: they have to wait.
            let slow = Rule::new(Fault::Delay(Duration::from_secs(30)));
            world.faults.add(slow.on(&[Operation::Sync]).path("*.table"));
            let most = Arc::new(AtomicU64::new(0));
            let writers: Vec<_> = (0..2_u64)
                .map(|writer| {
                    let (db, keyspaces) = (db.clone(), keyspaces.clone());
                    let (most, stalls) = (Arc::clone(&most), Arc::clone(&stalls));
                    let write = move || {
                        let mut rng = Rng::new(seed ^ (writer << 32));
                        for number in 0..250_u32 {
                            let keyspace = rng.pick(&keyspaces);
                            let key = [number.to_le_bytes(), (writer as u32).to_le_bytes()];
                            keyspace.put(key.concat(), vec![7; 4000]).unwrap();
                            most.fetch_max(memtable_bytes(&db), Ordering::Relaxed);
                            let health = db.health();
                            let mut causes = health.stalls.iter().map(|stall| stall.info.cause);
                            let is_short = causes.any(|cause| cause == StallCause::MemoryBudget);
                            stalls.fetch_add(u64::from(is_short), Ordering::Relaxed);
                        }
                    };
                    baton::spawn("writer", Box::new(write))
                })
                .collect();
            writers.into_iter().for_each(baton::Thread::join);
            let most = most.load(Ordering::Relaxed);
            assert!(most <= BUDGET_BYTES + BEYOND_BYTES, "{most} bytes of {BUDGET_BYTES}");
            let count: usize = keyspaces.iter().map(|keyspace| keyspace.iter().count()).sum();
            assert_eq!(count, 500);
        });
    });
    assert_ne!(stalls.load(Ordering::Relaxed), 0, "no writer was ever held back");
}

/// Nobody waits for flushes that fail for good.
#[test]
fn writers_are_told_where_flushes_that_fail_hold_the_memory() {
    for_each_seed("writers_are_told_where_flushes_that_fail_hold_the_memory", 5, |seed| {
        in_a_run(seed, |world| {
            let (db, keyspaces) = open(world, 1);
            let rule = Rule::new(Fault::Error(28)).on(&[Operation::Create]).path("*.table");
            world.faults.add(rule);
            let mut writes = (0..400_usize)
                .map(|number| keyspaces[number % 8].put(number.to_le_bytes(), vec![7; 4000]));
            let error = writes.find_map(Result::err).expect("memory is bounded");
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            world.faults.clear();
            // Once there is room again, so they are for all.
            while keyspaces.iter().any(|keyspace| keyspace.put("key", "value").is_err()) {
                baton::sleep(Duration::from_secs(1));
            }
            while db.wait_until_settled().is_err() {
                baton::sleep(Duration::from_secs(1));
            }
        });
    });
}
