//! The last handle of a database, dropped in user code that the engine calls.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use esker::env::{Env, Fault, FaultFileSystem, FileSystem as _, MemoryFileSystem, Operation, Rule};
use esker::{
    CompactionPolicy, Db, Durability, ErrorKind, Event, KeyspaceOptions, Merge, MergeFailure,
    MergeOperator, Options,
};

use crate::recovered::{DIR, env_of, env_over};
use crate::watchdog::Watchdog;

const EIO: i32 = 5;

/// What a test has of code that drops its database.
struct Dropping {
    give: Sender<Db>,
    is_dropped: Receiver<()>,
}

impl Dropping {
    /// The other end waits for a database, and drops it: once, when it is first called.
    fn new() -> (Self, impl Fn() + Send + Sync + 'static) {
        let (give, given) = channel::<Db>();
        let (say, is_dropped) = channel();
        let ends = Mutex::new(Some((given, say)));
        let drop_once = move || {
            let ends = ends.lock().unwrap().take();
            if let Some((given, say)) = ends {
                drop(given.recv().unwrap());
                say.send(()).unwrap();
            }
        };
        (Self { give, is_dropped }, drop_once)
    }

    /// Returns once `db`, the last handle, was dropped there.
    fn wait_for_drop_of(&self, db: Db) {
        self.give.send(db).unwrap();
        self.is_dropped.recv().unwrap();
    }
}

/// The threads end, and unlock the directory, a moment after the drop.
fn open_again(open: impl Fn() -> esker::Result<Db>) -> Db {
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::Locked => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// It was told within the lock of who leads, on the thread that flushes. The end of the database took
/// that lock, too, and never returned.
#[test]
fn a_listener_that_is_told_of_poison_may_drop_it() {
    let _watchdog = Watchdog::start("a listener that is told of poison".to_owned());
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let (dropping, drop_once) = Dropping::new();
    let listener = move |event: &Event| {
        if matches!(event, Event::Poisoned { .. }) {
            drop_once();
        }
    };
    let small = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
    let builder = builder.default_keyspace(small).on_event(Arc::new(listener));
    let db = builder.options(Options { background_threads: 2, ..Options::default() });
    let db = db.open().unwrap();
    // Makes the log segment.
    db.put("first", "in the log").unwrap();
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Write]).path("*.log"));
    // Fills the memtable. Its flush hands the log to the system before all else, and fails.
    db.put_with("second", [b'x'; 100 << 10], Durability::Buffered).unwrap();
    dropping.wait_for_drop_of(db);
    let db = open_again(|| Db::builder(DIR).env(env_of(&fs)).open());
    assert_eq!(db.get("first").unwrap().unwrap(), "in the log");
}

/// It was told while the right to remove files was held. The end of the database gives that up, and
/// never returned, whatever the thread: here it is that of a cursor, which keeps nothing open.
#[test]
fn a_listener_that_is_told_of_a_file_that_stays_may_drop_it() {
    let _watchdog = Watchdog::start("a listener that is told of a file that stays".to_owned());
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let (dropping, drop_once) = Dropping::new();
    let listener = move |event: &Event| {
        if matches!(event, Event::RemoveFailed { .. }) {
            drop_once();
        }
    };
    let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
    let builder = builder.options(Options { background_threads: 0, ..Options::default() });
    let db = builder.on_event(Arc::new(listener)).open().unwrap();
    db.put("key", "old").unwrap();
    db.flush().unwrap();
    let cursor = db.default_keyspace().cursor().unwrap();
    db.put("key", "new").unwrap();
    db.compact::<&[u8]>(..).unwrap();
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Remove]).path("*.table"));
    dropping.give.send(db).unwrap();
    drop(cursor);
    dropping.is_dropped.recv().unwrap();
    let tables = fs.list(Path::new(DIR)).unwrap();
    let tables = tables.iter().filter(|entry| entry.name.ends_with(".table"));
    assert_eq!(tables.count(), 2, "one of them could not be removed");
    let db = Db::builder(DIR).env(env_of(&fs)).open().unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "new");
}

/// Joins operands, and calls a function before.
struct Calling<F>(F);

impl<F: Fn() + Send + Sync + 'static> MergeOperator for Calling<F> {
    fn name(&self) -> &str {
        "calling"
    }

    fn is_associative(&self) -> bool {
        true
    }

    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        (self.0)();
        out.extend_from_slice(existing.unwrap_or_default());
        operands.iter().for_each(|operand| out.extend_from_slice(operand));
        Ok(())
    }
}

/// Nothing, until `is_armed`. Then the first thread that calls waits for another one, and goes on; the
/// other one calls `second`.
fn on_second_thread(
    is_armed: &Arc<AtomicBool>,
    second: impl Fn() + Send + Sync + 'static,
) -> impl Fn() + Send + Sync + 'static {
    let is_armed = Arc::clone(is_armed);
    let first: Mutex<Option<ThreadId>> = Mutex::default();
    let (come, has_come) = channel();
    let has_come = Mutex::new(Some(has_come));
    move || {
        if !is_armed.load(Ordering::Acquire) {
            return;
        }
        let own = thread::current().id();
        if *first.lock().unwrap().get_or_insert(own) != own {
            // Nobody may be waiting any more.
            _ = come.send(());
            return second();
        }
        let has_come = has_come.lock().unwrap().take();
        if let Some(has_come) = has_come {
            has_come.recv().unwrap();
        }
    }
}

/// The thread that has to do a compaction waited for the part of another one. That one had dropped the
/// last handle within its part, and waited for the first thread to end.
#[test]
fn a_merge_operator_may_drop_it_within_a_part_of_a_compaction() {
    let _watchdog = Watchdog::start("a merge operator within a part".to_owned());
    let fs = MemoryFileSystem::new(1);
    let (dropping, drop_once) = Dropping::new();
    let is_armed = Arc::default();
    let operator = Merge::new(Calling(on_second_thread(&is_armed, drop_once)));
    let keyspace = KeyspaceOptions {
        merge_operator: Some(operator),
        compaction: CompactionPolicy::None,
        block_size_bytes: 512,
        ..KeyspaceOptions::default()
    };
    // One flushes, and two compact.
    let options = Options { background_threads: 3, part_bytes: Some(2000), ..Options::default() };
    let open = || {
        let builder = Db::builder(DIR).env(env_of(&fs)).options(options.clone());
        builder.default_keyspace(keyspace.clone()).open()
    };
    let db = open().unwrap();
    for _ in 0..3 {
        for number in 0..1000 {
            db.merge(format!("{number:04}"), [b'x'; 30]).unwrap();
        }
        db.flush().unwrap();
    }
    db.put_with("buffered", "", Durability::Buffered).unwrap();
    is_armed.store(true, Ordering::Release);
    drop(db.start_compaction(..="9999").unwrap());
    dropping.wait_for_drop_of(db);
    is_armed.store(false, Ordering::Release);
    let db = open_again(open);
    assert_eq!(db.iter().map(Result::unwrap).count(), 1001);
    assert_eq!(db.get("0500").unwrap().unwrap().len(), 90);
}
