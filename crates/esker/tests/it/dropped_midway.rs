//! Keyspaces dropped while one of their jobs is running: the job has no effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker::env::{Env, FaultFileSystem, MemoryFileSystem, Operation};
use esker::{Db, ErrorKind, Event, KeyspaceOptions};

use crate::recovered::{env_over, open, options};
use crate::referenced::assert_tidy;

/// How many flushes and compactions are told, and how many are counted.
fn told_and_counted(db: &Db) -> (usize, u64) {
    let is_job = |event: &Event| matches!(event, Event::Flushed { .. } | Event::Compacted { .. });
    let told = db.events().iter().filter(|(_, event)| is_job(event)).count();
    let counters = db.stats().counters;
    (told, counters.flushes + counters.compactions + counters.trivial_moves)
}

/// It was dropped once the tables were written, and before they were part of the tree. They never came
/// to be; the flush was told and counted, and the compaction told, as if they had.
#[test]
fn job_that_comes_to_nothing_is_neither_told_nor_counted() {
    for compacts in [false, true] {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
        let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
        keyspace.put("key", "old").unwrap();
        if compacts {
            keyspace.flush().unwrap();
            keyspace.put("key", "new").unwrap();
            keyspace.flush().unwrap();
        }
        let before = told_and_counted(&db);
        let (of_job, to_drop) = (db.clone(), keyspace.clone());
        let is_dropped = AtomicBool::new(false);
        faults.observe(move |event| {
            let is_table = event.path.extension().is_some_and(|extension| extension == "table");
            let is_time = event.operation == Operation::Sync && is_table;
            if is_time && !is_dropped.swap(true, Ordering::Relaxed) {
                of_job.drop_keyspace(&to_drop).unwrap();
            }
        });
        if compacts {
            let error = keyspace.compact::<&[u8]>(..).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        } else {
            keyspace.flush().unwrap();
        }
        faults.observe(|_| {});
        assert!(db.existing_keyspace("k").unwrap().is_none());
        assert_eq!(told_and_counted(&db), before, "compacts: {compacts}");
        assert_tidy(&db, &fs, "after all");
    }
}
