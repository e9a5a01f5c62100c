//! A compaction in parts of which one fails, while another one is under way on another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use esker::env::{Event, Fault, Operation, Rule, When};
use esker::{CompactionEnd, CompactionPolicy, Compression, Db, Keyspace, KeyspaceOptions, Options};
use esker_base::baton::{self, Policy, Settings};

use super::world::{self, World};
use crate::random::for_each_seed;
use crate::recovered::DIR;
use crate::referenced::assert_tidy;

/// Three runs of a thousand entries each, in a database whose compactions take parts at once on the
/// thread that asks and on one more.
fn open(world: &World) -> (Db, Keyspace) {
    let options = Options { background_threads: 2, part_bytes: Some(2000), ..Options::default() };
    let db = Db::builder(DIR).env(world.env.clone()).options(options).open().unwrap();
    let options = KeyspaceOptions {
        compaction: CompactionPolicy::None,
        block_size_bytes: 512,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let keyspace = db.keyspace("k", options).unwrap();
    for run in 0..3_u32 {
        let mut batch = db.batch();
        for key in 0..1000 {
            batch.put(&keyspace, format!("key {:05}", key * 3 + run), vec![run as u8; 2000]);
        }
        batch.commit().unwrap();
        keyspace.flush().unwrap();
    }
    (db, keyspace)
}

/// Lets the second part fail that makes a table. The first one stands there until all others wait,
/// and so it does at every block that it reads from then on; returns how many these are.
fn fail_second_part(world: &World) -> Arc<AtomicU64> {
    let rule = Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table");
    world.faults.add(rule.when(When::Nth(2)));
    let (has_failed, reads) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&reads);
    world.faults.observe(move |event: &Event| {
        baton::step("file");
        let is_table = event.path.extension().is_some_and(|e| e == "table");
        match event.operation {
            Operation::Create if event.fault.is_some() => has_failed.store(true, Ordering::Relaxed),
            Operation::Create if is_table => baton::sleep(Duration::from_secs(60)),
            Operation::Read if has_failed.load(Ordering::Relaxed) => {
                counted.fetch_add(1, Ordering::Relaxed);
                baton::sleep(Duration::from_secs(60));
            }
            _ => {}
        }
    });
    reads
}

fn in_a_run(seed: u64, test: impl FnOnce(&World) + Send + 'static) {
    world::run_test(Settings::new(seed, Policy::Uniform { one_in: 4 }), test);
}

#[test]
fn a_part_that_fails_ends_the_others_at_their_next_block() {
    for_each_seed("a_part_that_fails_ends_the_others_at_their_next_block", 10, |seed| {
        in_a_run(seed, |world| {
            let (db, keyspace) = open(world);
            let reads = fail_second_part(world);
            keyspace.compact::<&[u8]>(..).unwrap_err();
            world.faults.observe(|_| ());
            let reads = reads.load(Ordering::Relaxed);
            assert!(reads <= 6, "{reads} blocks of three inputs were read in vain");
            assert_eq!(db.stats().counters.split_compactions, 1);
            db.wait_until_settled().unwrap();
            assert_tidy(&db, &world.fs, "after the failure");
        });
    });
}

/// The list of merges that have parts to give away kept one that had failed: its failure was handed to
/// who had asked for the merge, and from then on it looked like one that goes on. Every thread that
/// looked for work took a part of it, found none, and looked again, for ever; what was asked for
/// later never had its turn. Found by the simulator: a run of too many steps.
#[test]
fn a_merge_that_failed_has_no_parts_to_give_away() {
    for_each_seed("a_merge_that_failed_has_no_parts_to_give_away", 10, |seed| {
        in_a_run(seed, |world| {
            let (db, keyspace) = open(world);
            fail_second_part(world);
            keyspace.start_compaction::<&[u8]>(..).unwrap().wait().unwrap_err();
            world.faults.observe(|_| ());
            world.faults.clear();
            let report = keyspace.start_compaction::<&[u8]>(..).unwrap().wait().unwrap();
            assert_eq!((report.end, report.steps), (CompactionEnd::Finished, 1));
            db.wait_until_settled().unwrap();
        });
    });
}
