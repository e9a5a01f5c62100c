//! Commits, flushes, compactions, loads, drops, failures of the log and the close under the model
//! checker shuttle, which runs all threads as coroutines and switches between them at the locks and
//! atomics of the engine.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle \
//!     cargo test --release -p esker --test threads shuttle
//! ```
//!
//! `ESKER_BUDGET` multiplies the schedules, `ESKER_FIRST_SEED` seeds them. shuttle knows no time: no limit of a wait comes first. The
//! simulator in `baton` has time, faults and crashes; this checks the same code with schedules of
//! another make.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::env::{
    Env, Fault, FaultFileSystem, FileSystem, IoError, JoinHandle, MemoryFileSystem, Operation,
    Rule, Threads, When,
};
use esker::{Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Options, Result};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::random::{budget, first_seed};
use crate::referenced::assert_exact;

/// Schedules of each test and kind of scheduler.
const SCHEDULE_COUNT: usize = 100;

/// Bytes of stack of a thread: the engine's functions are not made for small ones.
const STACK_BYTES: usize = 1 << 20;

/// Threads of shuttle.
#[derive(Debug)]
struct ShuttleThreads;

impl Threads for ShuttleThreads {
    fn spawn(
        &self,
        name: &str,
        task: Box<dyn FnOnce() + Send>,
    ) -> std::result::Result<JoinHandle, IoError> {
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
    run(Box::new(RandomScheduler::new_from_seed(first_seed(), count)));
    run(Box::new(PctScheduler::new_from_seed(first_seed(), 3, count)));
    eprintln!("counted: {} schedules under shuttle", 2 * count);
}

/// A database of two background threads and the smallest memtables.
fn open() -> Db {
    open_on(Env::memory(1).fs)
}

fn open_on(fs: Arc<dyn FileSystem>) -> Db {
    let env = Env { threads: Arc::new(ShuttleThreads), fs, ..Env::memory(1) };
    let options = Options { background_threads: 2, log_segment_bytes: 0, ..Options::default() };
    Db::builder("db").env(env).options(options).default_keyspace(small()).open().unwrap()
}

fn small() -> KeyspaceOptions {
    KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() }
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

/// Writes, compacts and reads until the keyspace is gone.
fn use_until_dropped(keyspace: &Keyspace) -> Result<()> {
    for number in 0..3 {
        keyspace.put_with("key", number.to_string(), Durability::Power)?;
        keyspace.compact::<&[u8]>(..)?;
        assert_eq!(keyspace.get("key")?.unwrap(), *number.to_string());
    }
    Ok(())
}

#[test]
fn shuttle_a_drop_and_a_load_beside_deleted_ranges_flushes_and_compactions() {
    check(|| {
        let fs = MemoryFileSystem::new(1);
        let db = open_on(Arc::new(fs.clone()));
        let doomed = db.keyspace("doomed", small()).unwrap();
        let user = {
            let doomed = doomed.clone();
            thread::spawn(move || {
                if let Err(error) = use_until_dropped(&doomed) {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                }
            })
        };
        let deleter = {
            let db = db.clone();
            thread::spawn(move || {
                for key in ["a 0", "a 1"] {
                    db.put_with(key, "", Durability::Power).unwrap();
                    db.delete_range("a".."b").unwrap();
                    assert_eq!(db.get(key).unwrap(), None, "{key} was deleted with its range");
                }
                db.put("a 2", "").unwrap();
            })
        };
        let loader = {
            let db = db.clone();
            thread::spawn(move || {
                let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
                loader.put("l 0", "").unwrap();
                loader.put("l 1", "").unwrap();
                loader.finish().unwrap();
                assert_eq!(db.prefix("l").count(), 2);
            })
        };
        db.flush().unwrap();
        db.drop_keyspace(&doomed).unwrap();
        db.compact::<&[u8]>(..).unwrap();
        [user, deleter, loader].into_iter().for_each(|thread| thread.join().unwrap());
        db.wait_until_settled().unwrap();
        let keys: Vec<_> = db.iter().keys().map(Result::unwrap).collect();
        let expected = ["a 2", "l 0", "l 1"];
        assert!(keys.iter().map(|key| &**key).eq(expected.iter().map(|key| key.as_bytes())));
        drop((keys, doomed));
        db.close().unwrap();
        assert_exact(&fs, "db".as_ref(), "closed");
    });
}

/// What a write to the log may meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Error,
    Panic,
}

/// Three writers beside one write or sync of the log that fails: the one of that number, counted by
/// `schedules` so that each has its turn.
fn fail_beside_writers(failure: Failure, schedules: &AtomicU64) {
    let number = 1 + schedules.fetch_add(1, Ordering::Relaxed) % 6;
    let fs = FaultFileSystem::new(Arc::new(MemoryFileSystem::new(1)), Env::memory(1).clock);
    let db = open_on(Arc::new(fs.clone()));
    let is_of_log = [Operation::Write, Operation::Sync];
    match failure {
        Failure::Error => {
            let rule = Rule::new(Fault::Error(5)).on(&is_of_log).path("*.log");
            fs.add(rule.when(When::Nth(number)));
        }
        Failure::Panic => {
            let seen = AtomicU64::new(0);
            fs.observe(move |event| {
                if is_of_log.contains(&event.operation)
                    && event.path.extension().is_some_and(|extension| extension == "log")
                    && seen.fetch_add(1, Ordering::Relaxed) + 1 == number
                {
                    // Without the hook, which prints.
                    resume_unwind(Box::new("as the test asks"));
                }
            });
        }
    }
    let writers = [Durability::Buffered, Durability::Process, Durability::Power];
    let writers = writers.map(|durability| {
        let db = db.clone();
        thread::spawn(move || {
            for key in [0_u8, 1] {
                let key = [durability as u8, key];
                let put = AssertUnwindSafe(|| db.put_with(key, "", durability));
                match catch_unwind(put) {
                    Ok(Ok(())) => assert!(db.get(key).unwrap().is_some(), "it was acknowledged"),
                    Ok(Err(_)) => {}
                    Err(_) => assert!(failure == Failure::Panic, "nobody panics for an error"),
                }
            }
        })
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    // A thread in the background may meet the failure at any moment.
    let is_poisoned = || db.health().poisoned.is_some();
    let was_poisoned = is_poisoned();
    let put = catch_unwind(AssertUnwindSafe(|| db.put("behind", "")));
    let is_done = matches!(put, Ok(Ok(())));
    assert!(!(was_poisoned && is_done), "a write behind a failed one");
    assert!(is_done || is_poisoned(), "a write failed, and the next may not");
    let was_poisoned = is_poisoned();
    let close = catch_unwind(AssertUnwindSafe(|| db.close()));
    assert!(!was_poisoned || !matches!(close, Ok(Ok(()))), "a close behind a failed write");
}

#[test]
fn shuttle_a_log_that_fails_leaves_nobody_waiting() {
    static SCHEDULES: AtomicU64 = AtomicU64::new(0);
    check(|| fail_beside_writers(Failure::Error, &SCHEDULES));
}

#[test]
fn shuttle_a_log_that_panics_leaves_nobody_waiting() {
    static SCHEDULES: AtomicU64 = AtomicU64::new(0);
    check(|| fail_beside_writers(Failure::Panic, &SCHEDULES));
}
