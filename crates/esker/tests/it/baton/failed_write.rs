//! A flush that begins while a write to the log fails.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::env::{Fault, FileSystem as _, MemoryFileSystem, Operation, Rule};
use esker::{Db, Durability, KeyspaceOptions};
use esker_base::baton::{self, Policy, Settings};

use super::world::{self, World};
use crate::random::for_each_seed;
use crate::recovered::{DIR, env_of, open, options};

/// Frames that waited in memory were lost with a write that failed, and the next write had nothing
/// to do and said that all was well. A flush that waited for the writer meanwhile took that for the
/// frames being in the log, and made a table of what one keyspace had of a batch; the rest of the
/// batch was gone with the process. Found by the simulator: half a batch after a recovery.
#[test]
fn what_a_failed_write_has_lost_is_not_flushed() {
    for_each_seed("what_a_failed_write_has_lost_is_not_flushed", 10, |seed| {
        let settings = Settings::new(seed, Policy::Uniform { one_in: 4 });
        let left = Arc::new(Mutex::new(None));
        let fs = Arc::clone(&left);
        world::run(settings, move || *fs.lock().unwrap() = Some(fail(seed)));
        let fs = left.lock().unwrap().take().expect("the run has ended");
        let db = open(&env_of(&fs), &options()).unwrap();
        let found = ["a", "b"].map(|name| {
            let keyspace = db.existing_keyspace(name).unwrap().expect("it was created");
            keyspace.get("key").unwrap().is_some()
        });
        assert_eq!(found[0], found[1], "both halves of a batch are there, or none is");
    });
}

/// Returns the files as the process leaves them.
fn fail(seed: u64) -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let world = World::new(fs, Vec::new(), world::START, seed);
    let db = Db::builder(DIR).env(world.env.clone()).options(options()).open().unwrap();
    let [a, b] = ["a", "b"].map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    // All that is written is durable, so that no sync meets the failure.
    db.put_with("first", "value", Durability::Power).unwrap();
    let mut batch = db.batch();
    batch.put(&a, "key", "value");
    batch.put(&b, "key", "value");
    batch.commit_with(Durability::Buffered).unwrap();
    world.faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Write]).path("*.log"));
    // The writer stands in front of the write that fails until the flush waits for it.
    world.faults.observe(|event| {
        if event.fault.is_some() {
            baton::sleep(Duration::from_secs(60));
        }
    });
    let writer = {
        let db = db.clone();
        let write = move || db.put_with("other", "value", Durability::Process).unwrap_err();
        baton::spawn("writer", Box::new(move || drop(write())))
    };
    baton::sleep(Duration::from_secs(1));
    b.flush().unwrap_err();
    writer.join();
    let left = world.fs.snapshot();
    drop((a, b, db));
    left
}
