//! Calls in progress when the database is closed, or made once it is poisoned, and waits that must end.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, PoisonError};

use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, FileSystem as _, IoError, JoinHandle,
    MemoryFileSystem, Operation, Rule, SystemThreads, Threads, When,
};
use esker::{
    CompactionState, Db, Durability, ErrorKind, Event, KeyspaceOptions, Options, Outcome, Scan,
};

use crate::files;
use crate::random::Rng;
use crate::recovered::{DIR, env_of, env_over, open, options};

/// Reads and writes as its thread ends.
struct AtTheEnd(Db);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let value = self.0.get("key").unwrap().unwrap();
        self.0.put("last", value).unwrap();
    }
}

/// What the engine keeps for a thread, such as buffers, may be gone before what the program keeps.
#[test]
fn thread_may_read_and_write_until_it_has_ended() {
    thread_local!(static KEPT: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &Options { cache_bytes: Some(0), ..options() }).unwrap();
    db.put("key", [b'x'; 1000]).unwrap();
    db.flush().unwrap();
    for is_kept_first in [true, false] {
        let of_thread = db.clone();
        let live = move || {
            let keep = || KEPT.set(Some(AtTheEnd(of_thread.clone())));
            if is_kept_first {
                keep();
            }
            of_thread.put("of the thread", of_thread.get("key").unwrap().unwrap()).unwrap();
            if !is_kept_first {
                keep();
            }
        };
        SystemThreads.spawn("ends", Box::new(live)).unwrap().join();
        assert!(db.contains("last").unwrap());
        db.delete("last").unwrap();
    }
}

/// A compaction on one thread had written its tables when another thread closed the database and
/// gave the lock back. It then appended its edit to the manifest, which had another owner by then.
#[test]
fn call_that_outlives_the_close_changes_nothing() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let gate = Mutex::new((reached, is_released));
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    for round in ["old", "new"] {
        db.put("key", round).unwrap();
        db.flush().unwrap();
    }
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|extension| extension == "table");
        if event.operation == Operation::Sync && is_table {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        let other = db.clone();
        let compaction = scope.spawn(move || other.compact::<&[u8]>(..));
        is_reached.recv().unwrap();
        db.close().unwrap();
        let next = open(&env_of(&fs), &options()).unwrap();
        next.put("key", "of the next owner").unwrap();
        next.flush().unwrap();
        release.send(()).unwrap();
        let error = compaction.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        next.put("key 2", "of the next owner").unwrap();
        next.close().unwrap();
    });
    let db = open(&env_of(&fs), &options()).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "of the next owner");
    assert_eq!(db.get("key 2").unwrap().unwrap(), "of the next owner");
}

/// Flushes failed again and again, though not for want of space, and a writer that found no room
/// waited for ever.
#[test]
fn writer_that_waits_for_a_failing_flush_is_told() {
    let fs = MemoryFileSystem::new(1);
    let clock = Env::os().clock;
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Arc::clone(&clock));
    let env = Env { fs: Arc::new(faults.clone()), clock, ..Env::memory(1) };
    let db = Db::builder(DIR)
        .env(env)
        .options(Options { background_threads: 2, ..Options::default() })
        .default_keyspace(KeyspaceOptions {
            memtable_bytes: 1,
            immutable_memtables_max: 1,
            ..KeyspaceOptions::default()
        })
        .open()
        .unwrap();
    const EIO: i32 = 5;
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Create]).path("*.table"));
    let refused = (0..10).map(|number| (number, db.put(number.to_string(), "value")));
    let (number, error) = refused
        .filter_map(|(number, result)| result.err().map(|error| (number, error)))
        .next()
        .expect("there is room for two memtables only");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Io, Outcome::NotDone), "{error}");
    assert!(!db.contains(number.to_string()).unwrap());
    faults.clear();
    db.flush().unwrap();
    db.put("after", "it works again").unwrap();
    assert_eq!(db.iter().count(), number + 1);
}

/// On a full tmpfs a frame went some bytes past the room that its segment had. The write failed, so
/// nothing was known of the log's end, and writing stopped until a reopen. Found by the torture of a
/// full disk.
#[test]
fn frame_without_room_is_refused_and_writing_goes_on_by_itself() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    const ENOSPC: i32 = 28;
    // The first of each makes the segment.
    for operation in [Operation::Allocate, Operation::Write] {
        let rule = Rule::new(Fault::Error(ENOSPC)).on(&[operation]).path("*.log");
        faults.add(rule.when(When::From(2)));
    }
    let large = vec![b'x'; 100 << 10];
    let error = db.put("large", &large).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::NoSpace, Outcome::NotDone), "{error}");
    faults.clear();
    db.put("large", &large).unwrap();
    assert!(db.health().is_good(), "{}", db.health());
    db.close().unwrap();
    let db = open(&env_of(&fs), &options()).unwrap();
    assert_eq!(db.get("large").unwrap().unwrap(), large);
}

/// A keyspace that has its log from some moment on held what it had taken before in memory alone; a
/// close looked at the option, and left that behind.
#[test]
fn close_keeps_what_was_written_before_a_keyspace_had_a_log() {
    let env = Env::memory(1);
    let db = open(&env, &options()).unwrap();
    let keyspace = |log| KeyspaceOptions { log, ..KeyspaceOptions::default() };
    let own = db.keyspace("own", keyspace(false)).unwrap();
    own.put("without", "a log").unwrap();
    db.keyspace("own", keyspace(true)).unwrap();
    own.put("with", "a log").unwrap();
    drop(own);
    db.close().unwrap();
    let db = open(&env, &options()).unwrap();
    let own = db.existing_keyspace("own").unwrap().expect("it was created");
    assert_eq!(own.get("with").unwrap().unwrap(), "a log");
    assert_eq!(own.get("without").unwrap().unwrap(), "a log");
}

/// The last holder of a table that a compaction had replaced removed its file by name, after the
/// database had been closed, and its directory been emptied and filled anew.
#[test]
fn cursor_that_outlives_its_database_leaves_the_next_one_alone() {
    let fs = MemoryFileSystem::new(1);
    let open = || open(&env_of(&fs), &options()).unwrap();
    let db = open();
    db.put("key", "old").unwrap();
    db.flush().unwrap();
    let cursor = db.default_keyspace().cursor().unwrap();
    db.put("key", "new").unwrap();
    db.compact::<&[u8]>(..).unwrap();
    db.close().unwrap();
    for entry in fs.list(Path::new(DIR)).unwrap() {
        fs.remove(&Path::new(DIR).join(entry.name)).unwrap();
    }
    let next = open();
    next.put("key", "of the next").unwrap();
    next.flush().unwrap();
    drop(cursor);
    next.close().unwrap();
    assert_eq!(open().get("key").unwrap().unwrap(), "of the next");
}

/// A scan took what it reads only when it was first asked: the answer was `Closed`.
#[test]
fn scan_outlives_its_keyspace_and_its_database() {
    let db = open(&env_of(&MemoryFileSystem::new(1)), &options()).unwrap();
    let keyspace = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for round in ["first", "second"] {
        for key in ["a", "b", "c"] {
            keyspace.put(key, round).unwrap();
        }
        keyspace.flush().unwrap();
    }
    let snapshot = db.snapshot();
    let views = [&snapshot.keyspace(&keyspace), &snapshot.keyspace(&keyspace)];
    let [of_dropped, of_closed] = views.map(|view| (keyspace.iter(), view.prefix("b")));
    let mut begun = keyspace.iter();
    assert_eq!(begun.next_back().unwrap().unwrap().0, "c");
    keyspace.compact::<&[u8]>(..).unwrap();
    db.drop_keyspace(&keyspace).unwrap();
    let check = |(mut all, prefix): (Scan, Scan)| {
        assert_eq!(all.next_back().unwrap().unwrap().0, "c");
        assert_eq!(all.keys().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(prefix.values().map(Result::unwrap).collect::<Vec<_>>(), ["second"]);
    };
    check(of_dropped);
    assert_eq!(keyspace.iter().next().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    db.close().unwrap();
    assert_eq!(keyspace.iter().next().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    drop((keyspace, snapshot));
    check(of_closed);
    assert_eq!(begun.keys().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
}

/// What panicked in the midst of a flush was the program's own listener, and writing stopped for it.
#[test]
fn listener_that_panics_changes_nothing() {
    let fs = MemoryFileSystem::new(1);
    let told = Arc::new(AtomicBool::new(false));
    let is_told = Arc::clone(&told);
    let open = |options: Options| {
        let is_told = Arc::clone(&is_told);
        let listener = Arc::new(move |_: &Event| {
            is_told.store(true, Ordering::Relaxed);
            // As a panic, without the message.
            std::panic::resume_unwind(Box::new("a listener"));
        });
        let env = Env { threads: Arc::new(SystemThreads), ..env_of(&fs) };
        let small = KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() };
        let builder = Db::builder(DIR).env(env).options(options).default_keyspace(small);
        builder.on_event(listener).open().unwrap()
    };
    for background_threads in [2, 0] {
        let db = open(Options { background_threads, ..options() });
        for number in 0..30 {
            db.put(number.to_string(), "value").unwrap();
        }
        db.flush().unwrap();
        db.compact::<&[u8]>(..).unwrap();
        db.wait_until_settled().unwrap();
        assert!(told.swap(false, Ordering::Relaxed), "{background_threads} threads");
        db.close().unwrap();
    }
}

/// Like the cursor above, for a compaction that was running when the database was closed: it removed its
/// unneeded outputs by name.
#[test]
fn compaction_that_outlives_its_database_leaves_the_next_one_alone() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let mut rng = Rng::new(1);
    for round in [0_u8, 1] {
        // More than one table holds.
        for number in 0..40_u8 {
            db.put([number], rng.bytes(100_000)).unwrap();
        }
        db.put("key", [round]).unwrap();
        db.flush().unwrap();
    }
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let gate = Mutex::new((reached, is_released));
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|extension| extension == "table");
        if event.operation == Operation::Sync && is_table {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.send(event.path.clone()).unwrap();
            gate.1.recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        let other = db.clone();
        let compaction = scope.spawn(move || other.compact::<&[u8]>(..));
        let table = is_reached.recv().unwrap();
        db.close().unwrap();
        for entry in fs.list(Path::new(DIR)).unwrap() {
            fs.remove(&Path::new(DIR).join(entry.name)).unwrap();
        }
        let next = open(&env_of(&fs), &options()).unwrap();
        let mut count = 0;
        // Of a length with which log segments come in between.
        while !fs.exists(&table).unwrap() {
            next.put(count.to_string(), [b'x'; 15_000]).unwrap();
            next.flush().unwrap();
            count += 1;
        }
        release.send(()).unwrap();
        assert_eq!(compaction.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        next.close().unwrap();
        let next = open(&env_of(&fs), &options()).unwrap();
        assert_eq!(next.iter().map(Result::unwrap).count(), count);
    });
}

/// Gives one thread, and notes whether somebody has waited for its end.
#[derive(Default, Debug)]
struct OneThread {
    is_given: AtomicBool,
    is_joined: Arc<AtomicBool>,
}

impl Threads for OneThread {
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError> {
        if self.is_given.swap(true, Ordering::Relaxed) {
            return Err(IoError::new("start thread", name, io::ErrorKind::WouldBlock.into()));
        }
        let thread = SystemThreads.spawn(name, task)?;
        let is_joined = Arc::clone(&self.is_joined);
        Ok(JoinHandle::new(Box::new(move || {
            thread.join();
            is_joined.store(true, Ordering::Relaxed);
        })))
    }
}

/// There was no second thread. The open failed and gave the lock back, while the first thread could
/// still be at a flush of what was recovered, beside the next owner.
#[test]
fn open_without_all_of_its_threads_waits_for_those_that_it_has() {
    let threads = Arc::new(OneThread::default());
    let env = Env { threads: Arc::<OneThread>::clone(&threads), ..Env::memory(1) };
    let error = Db::builder(DIR).env(env.clone()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(threads.is_joined.load(Ordering::Relaxed));
    let env = Env { threads: Arc::new(SystemThreads), ..env };
    Db::builder(DIR).env(env).open().unwrap().close().unwrap();
}

/// A keyspace was dropped while the one before it was flushed: the call said that all was closed,
/// and did not flush those behind it.
#[test]
fn flush_of_all_keyspaces_passes_over_one_that_is_dropped_meanwhile() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let names = ["dropped", "last"];
    let [dropped, last] = names.map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    for keyspace in [db.default_keyspace(), &dropped, &last] {
        keyspace.put("key", "value").unwrap();
    }
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let gate = Mutex::new(Some((reached, is_released)));
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|extension| extension == "table");
        if event.operation == Operation::Sync && is_table {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((reached, is_released)) = gate {
                reached.send(()).unwrap();
                is_released.recv().unwrap();
            }
        }
    });
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| db.flush());
        is_reached.recv().unwrap();
        db.drop_keyspace(&dropped).unwrap();
        release.send(()).unwrap();
        flush.join().unwrap().unwrap();
    });
    assert_eq!(last.levels().table_count(), 1);
}

/// One keyspace could not be flushed, and the close ended there: what the others had in no log was
/// lost, and what was in the log not made durable.
#[test]
fn close_writes_out_what_it_can_beside_a_keyspace_that_cannot_be_flushed() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let unlogged = || KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
    for name in ["first", "second"] {
        db.keyspace(name, unlogged()).unwrap().put("key", "value").unwrap();
    }
    db.put("logged", "value").unwrap();
    let rule = Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table");
    faults.add(rule.when(When::Nth(1)));
    let error = db.close().unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
    let db = open(&env_of(&fs.crash(CrashPolicy::AllLost, 0)), &options()).unwrap();
    let get = |name| db.existing_keyspace(name).unwrap().unwrap().get("key").unwrap();
    assert_eq!(get("first"), None);
    assert_eq!(get("second").unwrap(), "value");
    assert_eq!(db.get("logged").unwrap().unwrap(), "value");
}

/// Its step had panicked, or a close had come first: nobody would go on with it, and it said that it ran
/// or waited.
#[test]
fn started_compaction_has_ended_after_a_panic_and_after_a_close() {
    for panics in [true, false] {
        let faults = FaultFileSystem::new(Env::memory(1).fs, Env::memory(1).clock);
        let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
        for round in ["old", "new"] {
            db.put("key", round).unwrap();
            db.flush().unwrap();
        }
        let handle = db.start_compaction::<&[u8]>(..).unwrap();
        let kind = if panics {
            faults.add(Rule::new(Fault::Panic).on(&[Operation::Create]).path("*.table"));
            while db.run_background_job() {}
            ErrorKind::Poisoned
        } else {
            db.close().unwrap();
            ErrorKind::Closed
        };
        assert!(handle.has_ended(), "{kind:?}");
        assert_eq!(handle.progress().state, CompactionState::Ended);
        handle.cancel();
        assert_eq!(handle.wait().unwrap_err().kind(), kind);
    }
}

/// Options were still changed, by a write to a manifest that should only grow once somebody has looked at
/// what the log has.
#[test]
fn a_poisoned_database_keeps_its_keyspaces_and_their_options() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let options =
        |block_size_bytes| KeyspaceOptions { block_size_bytes, ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("k", options(1024)).unwrap();
    // The log is made by the first.
    db.put("key", "first").unwrap();
    const EIO: i32 = 5;
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Sync]).path("*.log"));
    db.put_with("key", "second", Durability::Power).unwrap_err();
    faults.clear();
    assert!(db.health().poisoned.is_some());
    let manifests = || {
        let mut all = files::read_all(&fs, Path::new(DIR));
        all.retain(|name, _| name.ends_with(".manifest"));
        all
    };
    let before = manifests();
    let refused = [
        db.keyspace("k", options(512)).map(drop),
        db.keyspace("other", options(512)).map(drop),
        db.rename_keyspace(&keyspace, "other"),
        db.drop_keyspace(&keyspace),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        let error = result.expect_err("it writes the manifest");
        let told = (error.kind(), error.outcome());
        assert_eq!(told, (ErrorKind::Poisoned, Outcome::NotDone), "call {number}: {error}");
    }
    assert!(manifests() == before && !before.is_empty());
    assert_eq!(keyspace.options().block_size_bytes, 1024);
    // Who asks for what it has may read.
    db.keyspace("k", options(1024)).unwrap();
}

/// Who had background jobs done without threads, and did not know of the close, did the same compaction again and
/// again.
#[test]
fn a_closed_database_has_no_background_jobs() {
    for warms in [false, true] {
        let options = || Options { warm_cache: warms, ..options() };
        let env = Env::memory(1);
        let fill = |db: &Db| {
            for number in 0..6_u8 {
                db.put("key", [number; 100]).unwrap();
                db.flush().unwrap();
            }
        };
        let mut db = open(&env, &options()).unwrap();
        fill(&db);
        if warms {
            assert!(db.get("key").unwrap().is_some());
            db.close().unwrap();
            db = open(&env, &options()).unwrap();
        }
        let other = db.clone();
        db.close().unwrap();
        assert!((0..100).any(|_| !other.run_background_job()), "{warms}");
        assert_eq!(other.wait_until_settled().unwrap_err().kind(), ErrorKind::Closed);
    }
}
