//! Commits, flushes, compactions and the close under the model checker shuttle, which runs all
//! threads as coroutines and switches between them at the locks and atomics of the engine.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle \
//!     cargo test --release -p esker --test it shuttle
//! ```
//!
//! `ESKER_BUDGET` multiplies the schedules. shuttle knows no time: no limit of a wait comes first. The
//! simulator in `baton` has time, faults and crashes; this checks the same code with schedules of
//! another make.

use std::sync::Arc;

use esker::env::{Env, IoError, JoinHandle, Threads};
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::random::budget;

/// Schedules of each test and kind of scheduler.
const SCHEDULE_COUNT: usize = 100;

/// Bytes of stack of a thread: the engine's functions are not made for small ones.
const STACK_BYTES: usize = 1 << 20;

/// Threads of shuttle.
#[derive(Debug)]
struct ShuttleThreads;

impl Threads for ShuttleThreads {
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError> {
        let builder = thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(task).expect("shuttle has a thread to give");
        Ok(JoinHandle::new(Box::new(move || thread.join().unwrap())))
    }
}

fn check(test: fn()) {
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        Runner::new(scheduler, config).run(test);
    };
    let count = SCHEDULE_COUNT * budget() as usize;
    run(Box::new(RandomScheduler::new_from_seed(1, count)));
    run(Box::new(PctScheduler::new_from_seed(1, 3, count)));
}

/// A database of two background threads and the smallest memtables.
fn open() -> Db {
    let env = Env { threads: Arc::new(ShuttleThreads), ..Env::memory(1) };
    let options = Options { background_threads: 2, log_segment_bytes: 0, ..Options::default() };
    let small = KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() };
    Db::builder("db").env(env).options(options).default_keyspace(small).open().unwrap()
}

fn write(db: &Db, writer: u32) {
    for number in 0..3 {
        let (key, value) = (format!("{writer} {number}"), number.to_string());
        db.put_with(&key, &value, Durability::Power).unwrap();
        assert_eq!(db.get(&key).unwrap().unwrap(), *value);
    }
}

#[test]
fn shuttle_commits_beside_flushes_and_compactions() {
    check(|| {
        let db = open();
        let writers: Vec<_> = [0, 1]
            .map(|writer| {
                let db = db.clone();
                thread::spawn(move || write(&db, writer))
            })
            .into();
        db.flush().unwrap();
        db.compact::<&[u8]>(..).unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        db.wait_until_settled().unwrap();
        let keys: Vec<_> = db.iter().keys().map(Result::unwrap).collect();
        let expected = ["0 0", "0 1", "0 2", "1 0", "1 1", "1 2"];
        assert!(keys.iter().map(|key| &**key).eq(expected.iter().map(|key| key.as_bytes())));
        db.close().unwrap();
    });
}

#[test]
fn shuttle_close_beside_everything() {
    check(|| {
        let db = open();
        let writer = {
            let db = db.clone();
            thread::spawn(move || {
                for number in 0..3 {
                    let written = db.put_with("key", number.to_string(), Durability::Power);
                    let flushed = written.and_then(|()| db.flush());
                    let read =
                        flushed.and_then(|()| db.iter().try_for_each(|entry| entry.map(drop)));
                    if let Err(error) = read {
                        return assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    }
                }
            })
        };
        db.clone().close().unwrap();
        writer.join().unwrap();
        drop(db);
    });
}
