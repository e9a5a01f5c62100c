//! Background jobs that failed, once the cause of it is gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{
    Env, Fault, FaultFileSystem, FileSystem as _, ManualClock, MemoryFileSystem, Operation, Rule,
};
use esker::{Db, Options};

use crate::recovered::{DIR, env_over};

/// A compaction had failed, and before it was tried again somebody asked for one of the same tables.
/// From then on nothing was left to try, and so nothing to succeed: the database said for ever that
/// a job was failing, and never settled. Found by the simulator: it did not settle.
#[test]
fn a_failure_is_forgotten_when_somebody_else_has_done_the_work() {
    let fs = MemoryFileSystem::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let faults = FaultFileSystem::new(Arc::new(fs), clock.clone());
    let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env).options(options).open().unwrap();
    for number in 0..8_u8 {
        db.put([1], [number]).unwrap();
        db.put([number], "value").unwrap();
        db.flush().unwrap();
    }
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table"));
    while db.run_background_job() {}
    assert_eq!(db.health().failing_jobs.len(), 1, "{}", db.health());
    faults.clear();
    db.compact::<&[u8]>(..).unwrap();
    clock.advance(Duration::from_secs(120));
    db.wait_until_settled().unwrap();
    assert!(db.health().failing_jobs.is_empty(), "{}", db.health());
}
