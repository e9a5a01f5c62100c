//! What memtables take together, however many there are.

use esker::env::Env;
use esker::{KeyspaceOptions, Options};

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
            let charged = |(owner, bytes): (&str, u64)| (owner == "memtables").then_some(bytes);
            let charged = db.stats().memory.into_iter().find_map(charged).unwrap();
            assert!(active() <= charged, "{number}: {} of {charged}", active());
            assert!(active() <= budget / 2 + (128 << 10), "{number}: {} in use", active());
            while db.run_background_job() {}
        }
    }
}
