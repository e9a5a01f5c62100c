//! A sync that returned covers every write acknowledged before it began, whoever else is writing
//! out the log meanwhile; and what happens to the log without a request.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, ManualClock, MemoryFileSystem, Operation, Rule,
    SystemClock, SystemThreads, Threads as _, When,
};
use esker::{Db, Durability, ErrorKind, Event, IngestOptions, KeyspaceOptions, Options, Outcome};

use crate::recovered::{DIR, env_of, env_over, open, options};

/// One thread had taken it upon itself to write the buffered frames and had not done so yet; a
/// sync on another one found nothing left to write, and returned.
#[test]
fn sync_waits_for_frames_that_another_thread_is_writing() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put("first", "makes the log").unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let (synced, is_synced) = mpsc::channel();
    let gate = Mutex::new((reached, is_released));
    faults.observe(move |event| {
        if event.operation == Operation::Write {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        scope.spawn(|| db.sync().unwrap());
        is_reached.recv().unwrap();
        let second = scope.spawn(|| {
            db.sync().unwrap();
            let crashed = fs.crash(CrashPolicy::AllLost, 0);
            synced.send(()).unwrap();
            let db = open(&env_of(&crashed), &options()).unwrap();
            db.get("key").unwrap()
        });
        // Long enough for a sync that does not wait; one that does is let go on afterwards.
        is_synced.recv_timeout(Duration::from_millis(50)).ok();
        release.send(()).unwrap();
        assert_eq!(second.join().unwrap().unwrap(), "value");
    });
}

/// Of writes to the log and its syncs, which `faults` sees from here on.
fn log_operations(faults: &FaultFileSystem) -> mpsc::Receiver<Operation> {
    let (seen, is_seen) = mpsc::channel();
    let seen = Mutex::new(seen);
    faults.observe(move |event| {
        let is_log = event.path.extension().is_some_and(|extension| extension == "log");
        if is_log && matches!(event.operation, Operation::Write | Operation::Sync) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).send(event.operation).ok();
        }
    });
    is_seen
}

/// The thread that serves the log flushed, and waited for the device. What was written buffered
/// meanwhile stayed in the memory of the process, though another thread had nothing to do.
#[test]
fn a_buffered_write_is_handed_over_while_a_flush_waits_for_the_device() {
    let fs = MemoryFileSystem::new(1);
    let clock = Arc::new(SystemClock::new());
    let faults = FaultFileSystem::new(Arc::new(fs), clock.clone());
    let env = Env { clock, ..env_over(Arc::new(faults.clone())) };
    let small = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    let builder = Db::builder(DIR).env(env).options(Options::default()).default_keyspace(small);
    let db = builder.open().unwrap();
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let (written, is_written) = mpsc::channel();
    let (gate, written) = (Mutex::new((reached, is_released)), Mutex::new(written));
    faults.observe(move |event| {
        let is = |extension| event.path.extension().is_some_and(|it| it == extension);
        if is("table") && event.operation == Operation::Sync {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.send(()).ok();
            // Of the compactions that follow, none is held up.
            gate.1.recv().ok();
        } else if is("log") && event.operation == Operation::Write {
            written.lock().unwrap_or_else(PoisonError::into_inner).send(()).ok();
        }
    });
    for number in 0..100_u8 {
        db.put([number], [7; 1000]).unwrap();
    }
    is_reached.recv().unwrap();
    while is_written.try_recv().is_ok() {}
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let handed_over = is_written.recv_timeout(Duration::from_secs(5));
    drop(release);
    handed_over.expect("the write is handed over before the flush has ended");
}

/// Only frames that were handed to the system at once were followed by a mark. So a log that was
/// written buffered was not synced, however long nothing followed, and damage to it not noticed.
#[test]
fn a_log_of_buffered_writes_is_synced_and_marked_once_it_rests() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let faults = FaultFileSystem::new(Arc::new(MemoryFileSystem::new(1)), clock.clone());
    let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
    let db = Db::builder(DIR).env(env).options(Options::default()).open().unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let operations = log_operations(&faults);
    let mut seen = Vec::new();
    for _ in 0..100 {
        clock.advance(Duration::from_secs(2));
        // Lets the thread look at the clock.
        db.resume_compactions();
        seen.extend(operations.recv_timeout(Duration::from_millis(50)));
    }
    // What waited, what makes it durable, the mark, and what makes that durable.
    let (write, sync) = (Operation::Write, Operation::Sync);
    assert_eq!(seen, [write, sync, write, sync]);
}

/// Without threads, whoever runs jobs is to do what they would.
#[test]
fn a_buffered_write_is_handed_over_by_who_runs_background_jobs() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let env = Env { clock: clock.clone(), ..env_of(&MemoryFileSystem::new(1)) };
    let db = open(&env, &options()).unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let log_bytes = || db.stats().counters.log_bytes;
    let before = log_bytes();
    while db.run_background_job() {}
    assert_eq!(log_bytes(), before);
    clock.advance(Options::BUFFERED_INTERVAL);
    while db.run_background_job() {}
    assert!(before < log_bytes());
}

/// A panic of a sync, as of a file system of the caller's own, left all who wait for one waiting.
#[test]
fn a_sync_that_panics_keeps_nobody_waiting() {
    let faults = FaultFileSystem::new(Arc::new(MemoryFileSystem::new(1)), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put("first", "makes the log").unwrap();
    let rule = Rule::new(Fault::Panic).on(&[Operation::Sync]).path("*.log");
    faults.add(rule.when(When::Nth(1)));
    let put = AssertUnwindSafe(|| db.put_with("key", "value", Durability::Power));
    assert!(std::panic::catch_unwind(put).is_err());
    let (answer, is_answered) = mpsc::channel();
    let of_thread = db.clone();
    let write = move || drop(answer.send(of_thread.put_with("k", "v", Durability::Power)));
    drop(SystemThreads.spawn("writes", Box::new(write)).unwrap());
    let answered = is_answered.recv_timeout(Duration::from_secs(10)).expect("nobody waits");
    let text = answered.unwrap_err().to_string();
    assert!(text.contains("a sync of the log panicked"), "{text}");
}

/// A file system that, as Linux does, never stores what a failed sync did not, though it reads as written.
fn forgetful(fs: &MemoryFileSystem) -> FaultFileSystem {
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let below = fs.clone();
    faults.observe(move |event| {
        let is_sync = matches!(event.operation, Operation::Sync | Operation::SyncDir);
        if is_sync && event.fault.is_some() {
            below.forget_unsynced(&event.path);
        }
    });
    faults
}

/// The sync of a directory that a flush had failed with was tried again by the next segment of the log, and
/// went through: its name was no longer among what there was to store.
#[test]
fn a_failed_sync_of_a_directory_is_not_tried_again() {
    const PUTS_MAX: usize = 2000;
    for calls_before in 0..3 {
        let fs = MemoryFileSystem::new(1);
        let faults = forgetful(&fs);
        let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
        db.put_with("durable", "value", Durability::Power).unwrap();
        let rule = Rule::new(Fault::Error(5)).on(&[Operation::SyncDir]);
        faults.add(rule.when(When::Nth(calls_before + 1)));
        // Flushes, and segments of the log that fill, sync their directory.
        let mut promised = Vec::new();
        let error = (0..PUTS_MAX).find_map(|number| {
            let key = format!("key {number:04}");
            let flushed = if number % 7 == 6 { db.flush() } else { Ok(()) };
            let put = flushed.and_then(|()| db.put_with(&key, [7; 3000], Durability::Power));
            promised.extend(put.is_ok().then_some(key));
            put.err()
        });
        let error = error.expect("a sync of the directory failed");
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned), "{error:?}");
        let refused = db.put("later", "value").unwrap_err();
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Poisoned, Outcome::NotDone));
        assert!(refused.to_string().contains("sync directory"), "{refused}");
        assert_eq!(db.get("durable").unwrap().unwrap(), "value");
        assert!(db.events().iter().any(|(_, event)| matches!(event, Event::Poisoned { .. })));
        let crashed = fs.crash(CrashPolicy::AllLost, 0);
        let again = open(&env_of(&crashed), &options()).unwrap();
        for key in promised.iter().map(String::as_str).chain(["durable"]) {
            assert!(again.get(key).unwrap().is_some(), "{calls_before}: {key}");
        }
        // It goes on after a reopen.
        drop(db);
        let db = open(&env_over(Arc::new(faults)), &options()).unwrap();
        db.put_with("later", "value", Durability::Power).unwrap();
    }
}

/// The log was sound, and what had been acknowledged and was still in memory was written to it no more, not
/// even by the close.
#[test]
fn what_is_buffered_is_written_though_a_directory_could_not_be_synced() {
    for ends in ["close", "drop", "time"] {
        let fs = MemoryFileSystem::new(1);
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), clock.clone());
        let db = Arc::new(Mutex::new(None::<Db>));
        let (writer, has_put) = (Arc::clone(&db), AtomicBool::new(false));
        faults.observe(move |event| {
            // Behind the flush's own look at what is buffered, and ahead of what fails.
            let writes = event.operation == Operation::Create
                && event.path.extension().is_some_and(|extension| extension == "table");
            if writes && !has_put.swap(true, Ordering::Relaxed) {
                let db = writer.lock().unwrap().clone().unwrap();
                db.put_with("key", "value", Durability::Buffered).unwrap();
            }
        });
        let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
        let threads = usize::from(ends == "time");
        let options = Options { background_threads: threads, ..Options::default() };
        let opened = Db::builder(DIR).env(env).options(options).open().unwrap();
        *db.lock().unwrap() = Some(opened.clone());
        opened.put("first", "value").unwrap();
        faults.add(Rule::new(Fault::Error(5)).on(&[Operation::SyncDir]));
        assert_eq!(opened.flush().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(opened.put("later", "value").unwrap_err().kind(), ErrorKind::Poisoned);
        drop(db.lock().unwrap().take());
        let kept = match ends {
            "close" => {
                assert_eq!(opened.close().unwrap_err().kind(), ErrorKind::Poisoned);
                fs.snapshot()
            }
            "drop" => {
                drop(opened);
                fs.snapshot()
            }
            _ => {
                let operations = log_operations(&faults);
                let written = (0..100).find_map(|_| {
                    clock.advance(Duration::from_secs(1));
                    // Lets the thread look at the clock.
                    opened.resume_compactions();
                    operations.recv_timeout(Duration::from_millis(50)).ok()
                });
                assert_eq!(written, Some(Operation::Write));
                assert!(operations.recv_timeout(Duration::from_millis(50)).is_err());
                fs.snapshot()
            }
        };
        let db = open(&env_of(&kept), &Options::default()).unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), "value", "{ends}");
    }
}

/// The panic of a write went to whoever had asked for a sync, and nobody else knew of it: what was written later
/// was taken, and never handed to the system.
#[test]
fn a_write_of_the_log_that_panics_stops_writing() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put_with("durable", "value", Durability::Power).unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let rule = Rule::new(Fault::Panic).on(&[Operation::Write]).path("*.log");
    faults.add(rule.when(When::Nth(1)));
    std::panic::catch_unwind(AssertUnwindSafe(|| db.sync())).unwrap_err();
    let refused = db.put_with("later", "value", Durability::Buffered).unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Poisoned, Outcome::NotDone));
    drop(db);
    let db = open(&env_of(&fs), &options()).unwrap();
    assert_eq!(db.get("durable").unwrap().unwrap(), "value");
}

/// Nothing was lost, and yet an event said that a job had failed.
#[test]
fn a_drop_behind_a_failed_sync_writes_nothing_if_nothing_waits() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let failed: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&failed);
    let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone()))).options(options());
    let listener = Arc::new(move |event: &Event| {
        if matches!(event, Event::JobFailed { .. }) {
            noted.lock().unwrap().push(event.to_string());
        }
    });
    let db = builder.on_event(listener).open().unwrap();
    db.put_with("first", "value", Durability::Power).unwrap();
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path("*.log"));
    db.put_with("key", "value", Durability::Power).unwrap_err();
    drop(db);
    assert_eq!(*failed.lock().unwrap(), [""; 0]);
}

/// After a failed sync the next open found everything, and relied on its own syncs to have made that
/// durable. These had nothing to store any more: with the power went frames, or edits, from before those
/// that were acknowledged since, and the next open refused the rest as damage. Found by the simulator.
#[test]
fn what_a_failed_sync_has_not_stored_an_open_stores() {
    for kind in ["*.log", "*.manifest"] {
        for gives_up in [false, true] {
            let fs = MemoryFileSystem::new(1);
            let faults = forgetful(&fs);
            let open = || open(&env_over(Arc::new(faults.clone())), &options());
            let db = open().unwrap();
            db.put_with("durable", "value", Durability::Power).unwrap();
            db.put("key", "value").unwrap();
            faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path(kind));
            // Of either file a sync is part of one of these.
            let made = db.keyspace("new", KeyspaceOptions::default());
            let written = db.put_with("refused", "value", Durability::Power);
            assert!(made.is_err() || written.is_err(), "{kind}");
            drop((db, made));
            if gives_up {
                // The system says so as often as it likes.
                drop(open());
            }
            faults.clear();
            let db = open().unwrap();
            let keyspace = db.keyspace("later", KeyspaceOptions::default()).unwrap();
            keyspace.put_with("key", "value", Durability::Power).unwrap();
            let crashed = fs.crash(CrashPolicy::AllLost, 0);
            let db = crate::recovered::open(&env_of(&crashed), &options()).unwrap();
            assert_eq!(db.get("durable").unwrap().unwrap(), "value", "{kind} {gives_up}");
            assert_eq!(db.get("key").unwrap().unwrap(), "value", "{kind} {gives_up}");
            let later = db.existing_keyspace("later").unwrap().expect("it was made durable");
            assert_eq!(later.get("key").unwrap().unwrap(), "value", "{kind} {gives_up}");
        }
    }
}

/// An edit of the manifest whose write or sync panicked was taken for one that had never been begun: the
/// next one came behind it, with the same ids, and no open could make sense of both. Found by the simulator.
#[test]
fn an_edit_that_panicked_is_not_in_the_manifest_beside_the_next_one() {
    for (operation, nth) in PANICS {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
        let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
        let make = |name: &str| db.keyspace(name, KeyspaceOptions::default());
        faults.add(panic_of_manifest(operation, nth));
        let error = make("first").unwrap_err();
        let what = "the write of the manifest panicked: fault: cannot";
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(faults.injected().len(), 1);
        make("second").unwrap().put("key", "value").unwrap();
        drop(db);
        let db = open(&env_of(&fs), &options()).unwrap();
        let second = db.existing_keyspace("second").unwrap().expect("it was made");
        assert_eq!(second.get("key").unwrap().unwrap(), "value", "{operation:?}");
        assert!(db.existing_keyspace("first").unwrap().is_none(), "{operation:?}");
    }
}

/// The write of an edit, its sync, and the write of what vouches for it.
const PANICS: [(Operation, u64); 3] =
    [(Operation::Write, 1), (Operation::Sync, 1), (Operation::Write, 2)];

fn panic_of_manifest(operation: Operation, nth: u64) -> Rule {
    Rule::new(Fault::Panic).on(&[operation]).path("*.manifest*").when(When::Nth(nth))
}

/// A panic in the last write of the manifest left the database open to edits in a manifest that the next
/// open does not read: a flush on another thread was acknowledged into it. Found by reading.
#[test]
fn a_last_manifest_whose_write_panics_is_an_error_of_the_close() {
    let operations = [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename];
    for operation in operations.into_iter().chain([Operation::SyncDir]) {
        let mut injected = 0;
        for nth in 1.. {
            let fs = MemoryFileSystem::new(1);
            let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
            let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
            db.put("key", "value").unwrap();
            let path = if operation == Operation::SyncDir { "*" } else { "*.manifest*" };
            let rule = Rule::new(Fault::Panic).on(&[operation]).path(path);
            faults.add(rule.when(When::Nth(nth)));
            let result = db.clone().close();
            let what = format!("{operation:?} {nth}");
            if faults.injected().is_empty() {
                result.unwrap();
                break;
            }
            let error = result.unwrap_err();
            assert!(error.to_string().contains("the write of the manifest panicked"), "{error}");
            assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Closed, "{what}");
            drop(db);
            let db = open(&env_of(&fs), &options()).unwrap();
            assert_eq!(db.get("key").unwrap().unwrap(), "value", "{what}");
            injected += 1;
        }
        assert!(0 < injected, "{operation:?}");
    }
}

/// The panic went past all that is done about an edit that may or may not be in the file. A flush left its
/// table in the manifest and not in the tree, where it hid what was newer after the next open; a bulk load
/// removed files that the manifest named; and a dropped keyspace was written to.
#[test]
fn what_an_edit_that_panicked_was_of_is_whole_after_the_next_open() {
    for (operation, nth) in PANICS {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
        let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
        let dropped = db.keyspace("dropped", KeyspaceOptions::default()).unwrap();
        db.put("key", "old").unwrap();
        faults.add(panic_of_manifest(operation, nth));
        db.flush().unwrap_err();
        db.delete("key").unwrap();
        db.flush().unwrap();
        db.compact::<&[u8]>(..).unwrap();
        faults.clear();
        faults.add(panic_of_manifest(operation, nth));
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        loader.put("loaded", "value").unwrap();
        loader.finish().unwrap_err();
        faults.clear();
        faults.add(panic_of_manifest(operation, nth));
        db.drop_keyspace(&dropped).unwrap_err();
        faults.clear();
        let is_written = dropped.put_with("key", "value", Durability::Power).is_ok();
        drop((dropped, db));
        let db = open(&env_of(&fs.crash(CrashPolicy::AllLost, 0)), &options()).unwrap();
        assert!(db.get("key").unwrap().is_none(), "{operation:?} {nth}");
        let loaded = db.get("loaded").unwrap();
        assert!(loaded.is_none_or(|value| value == "value"), "{operation:?} {nth}");
        let left = db.existing_keyspace("dropped").unwrap();
        let left = left.and_then(|keyspace| keyspace.get("key").unwrap());
        assert_eq!(left.is_some(), is_written, "{operation:?} {nth}");
    }
}

/// A write to a keyspace without a log went by what was written before it, and left that in the memory of
/// the process.
#[test]
fn a_write_that_is_not_logged_makes_what_was_logged_before_as_safe_as_it_asks_for() {
    use Durability::{Buffered, Power, Process};
    for (before, after) in [(Buffered, Process), (Buffered, Power), (Process, Power)] {
        let fs = MemoryFileSystem::new(1);
        let db = open(&env_of(&fs), &options()).unwrap();
        let without_log = KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
        let unlogged = db.keyspace("unlogged", without_log).unwrap();
        db.put_with("key", "value", before).unwrap();
        unlogged.put_with("key", "value", after).unwrap();
        let left = match after {
            Power => fs.crash(CrashPolicy::AllLost, 0),
            _ => fs.snapshot(),
        };
        let found = open(&env_of(&left), &options()).unwrap().get("key").unwrap();
        assert_eq!(found.unwrap(), "value", "{before:?} before {after:?}");
    }
}

/// Without threads a buffered write waited until somebody ran a job, however long that took.
#[test]
fn a_buffered_write_is_handed_over_by_the_next_one_where_there_are_no_threads() {
    let fs = MemoryFileSystem::new(1);
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1)));
    let env = Env { fs: Arc::new(fs.clone()), clock: clock.clone(), ..Env::memory(1) };
    let db = open(&env, &options()).unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    clock.advance(Options::BUFFERED_INTERVAL / 2);
    db.put_with("soon", "after", Durability::Buffered).unwrap();
    let left = |fs: &MemoryFileSystem| open(&env_of(&fs.snapshot()), &options()).unwrap();
    assert_eq!(left(&fs).get("key").unwrap(), None);
    clock.advance(Options::BUFFERED_INTERVAL / 2);
    db.put_with("late", "after", Durability::Buffered).unwrap();
    assert_eq!(left(&fs).iter().count(), 3);
}

/// A load of nothing, and an ingest of no files, returned at once.
#[test]
fn an_empty_load_makes_what_was_written_before_durable() {
    for loads in [true, false] {
        let fs = MemoryFileSystem::new(1);
        let db = open(&env_of(&fs), &options()).unwrap();
        db.put("key", "value").unwrap();
        if loads {
            db.bulk_loader(db.default_keyspace()).unwrap().finish().unwrap();
        } else {
            let files: [&str; 0] = [];
            db.ingest(db.default_keyspace(), &files, IngestOptions::default()).unwrap();
        }
        let left = open(&env_of(&fs.crash(CrashPolicy::AllLost, 0)), &options()).unwrap();
        assert_eq!(left.get("key").unwrap().unwrap(), "value", "loads: {loads}");
    }
}
