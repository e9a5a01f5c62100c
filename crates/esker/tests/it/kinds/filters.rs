//! Compaction filters: what they are told and asked, and what becomes of their answers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::env::{Clock, Env, FileSystem as _, ManualClock};
use esker::{
    CompactionFilter, CompactionFilterFactory, Db, Durability, ErrorKind, Filter, FilterContext,
    FilterDecision, FilterFailure, KeyspaceOptions, Options,
};

use super::{check, entry_count, open};

type Decide = dyn Fn(&[u8], &[u8]) -> Result<FilterDecision, FilterFailure> + Send + Sync + 'static;

/// Decides by a function, and notes what it was made for.
#[derive(Clone)]
struct ByFunction {
    decide: Arc<Decide>,
    made_for: Arc<Mutex<Vec<String>>>,
}

impl ByFunction {
    fn new(
        decide: impl Fn(&[u8], &[u8]) -> Result<FilterDecision, FilterFailure> + Send + Sync + 'static,
    ) -> Self {
        Self { decide: Arc::new(decide), made_for: Arc::default() }
    }

    fn options(&self) -> KeyspaceOptions {
        let compaction_filter = Some(Filter::new(self.clone()));
        KeyspaceOptions { compaction_filter, ..KeyspaceOptions::default() }
    }
}

impl CompactionFilterFactory for ByFunction {
    fn name(&self) -> &str {
        "by function"
    }

    fn create(&self, context: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        self.made_for.lock().unwrap().push(format!("{context:?}"));
        Box::new(self.clone())
    }
}

impl CompactionFilter for ByFunction {
    fn filter(&mut self, key: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        (self.decide)(key, value)
    }
}

/// Removes values that start with `-`, and cuts a `+` off others.
fn by_sign() -> ByFunction {
    ByFunction::new(|_, value| {
        Ok(match value {
            [b'-', ..] => FilterDecision::Remove,
            [b'+', rest @ ..] => FilterDecision::Change(rest.to_vec()),
            _ => FilterDecision::Keep,
        })
    })
}

#[test]
fn values_are_kept_removed_and_changed() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let filter = by_sign();
    let db = open(&fs, Some(filter.options())).unwrap();
    for (key, value) in [("a", "stays"), ("b", "-goes"), ("c", "+cut"), ("d", "")] {
        db.put(key, value).unwrap();
    }
    db.flush().unwrap();
    check(&db, "b", Some("-goes"));
    db.compact::<&[u8]>(..).unwrap();
    check(&db, "a", Some("stays"));
    check(&db, "b", None);
    check(&db, "c", Some("cut"));
    check(&db, "d", Some(""));
    assert_eq!(entry_count(&db), 3);
    let made_for = filter.made_for.lock().unwrap().concat();
    assert!(made_for.contains("keyspace: \"default\""), "{made_for}");
    assert!(made_for.contains("is_full: true, is_manual: true"), "{made_for}");
    // Also what was in the last level before the filter came.
    let plain = db.keyspace("plain", KeyspaceOptions::default()).unwrap();
    plain.put("k", "-goes").unwrap();
    plain.compact::<&[u8]>(..).unwrap();
    assert!(plain.contains("k").unwrap());
    let plain = db.keyspace("plain", filter.options()).unwrap();
    plain.compact::<&[u8]>(..).unwrap();
    assert!(!plain.contains("k").unwrap());
}

#[test]
fn what_a_snapshot_sees_is_not_shown_to_the_filter() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(by_sign().options())).unwrap();
    db.put("old", "-1").unwrap();
    db.put("both", "-1").unwrap();
    let snapshot = db.snapshot();
    db.put("both", "-2").unwrap();
    db.put("new", "-2").unwrap();
    db.compact::<&[u8]>(..).unwrap();
    check(&db, "old", Some("-1"));
    check(&db, "both", None);
    check(&db, "new", None);
    assert_eq!(snapshot.get("both").unwrap().unwrap(), "-1");
    assert_eq!(snapshot.get("old").unwrap().unwrap(), "-1");
    // At the latest view itself.
    let latest = db.snapshot();
    db.put("new", "-3").unwrap();
    let at_the_end = db.snapshot();
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(at_the_end.get("new").unwrap().unwrap(), "-3");
    assert_eq!(latest.get("new").unwrap(), None);
    drop((snapshot, latest, at_the_end));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(entry_count(&db), 0);
}

/// A filter that stops at each value until it is told to go on.
fn stopping() -> (ByFunction, Receiver<()>, SyncSender<()>) {
    let (asked, is_asked) = sync_channel(0);
    let (go_on, goes_on) = sync_channel::<()>(0);
    let goes_on = Mutex::new(goes_on);
    let filter = ByFunction::new(move |_, _| {
        asked.send(()).unwrap();
        goes_on.lock().unwrap().recv().unwrap();
        Ok(FilterDecision::Remove)
    });
    (filter, is_asked, go_on)
}

/// A snapshot taken after the filter was asked, and before its answer is installed, was promised
/// the value: it used to vanish under it.
#[test]
fn a_snapshot_taken_while_the_filter_works_keeps_what_it_sees() {
    for keeps in [true, false] {
        let fs = esker::env::MemoryFileSystem::new(1);
        let (filter, is_asked, go_on) = stopping();
        let db = open(&fs, Some(filter.options())).unwrap();
        db.put("k", "v").unwrap();
        let compacting = {
            let db = db.clone();
            std::thread::Builder::new().spawn(move || db.compact::<&[u8]>(..)).unwrap()
        };
        is_asked.recv().unwrap();
        let snapshot = db.snapshot();
        let kept = keeps.then_some(snapshot);
        go_on.send(()).unwrap();
        if let Some(snapshot) = kept {
            compacting.join().unwrap().unwrap();
            assert_eq!(snapshot.get("k").unwrap().unwrap(), "v");
            check(&db, "k", Some("v"));
        } else {
            compacting.join().unwrap().unwrap();
            check(&db, "k", None);
        }
    }
}

#[test]
fn a_filter_that_fails_or_panics_ends_the_job_and_nothing_else() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let fails = Arc::new(AtomicBool::new(true));
    let filter = ByFunction::new({
        let fails = Arc::clone(&fails);
        move |key, _| match key {
            b"bad" if fails.load(Ordering::Relaxed) => Err(FilterFailure::new("it is bad")),
            b"panic" if fails.load(Ordering::Relaxed) => panic!("as asked"),
            _ => Ok(FilterDecision::Remove),
        }
    });
    let db = open(&fs, Some(filter.options())).unwrap();
    db.put("a", "1").unwrap();
    for (key, message) in [
        ("bad", "the compaction filter \"by function\" failed for the key \"bad\": it is bad"),
        (
            "panic",
            "the compaction filter \"by function\" failed for the key \"panic\": it panicked: as asked",
        ),
    ] {
        db.put(key, "2").unwrap();
        let error = db.compact::<&[u8]>(..).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::UserCode, message));
        check(&db, "a", Some("1"));
        check(&db, key, Some("2"));
        db.delete(key).unwrap();
    }
    fails.store(false, Ordering::Relaxed);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(entry_count(&db), 0);
    let reopened: Db = {
        db.close().unwrap();
        open(&fs, None).unwrap()
    };
    assert_eq!(reopened.default_keyspace().options().compaction_filter, None);
}

/// The message named the key as the tree holds it.
#[test]
fn a_filter_that_fails_is_told_with_the_key_that_was_written_in_another_order() {
    let db = open(&esker::env::MemoryFileSystem::new(1), None).unwrap();
    let filter = ByFunction::new(|_, _| Err(FilterFailure::new("it is bad")));
    let order = esker::Order::reverse_bytewise();
    let keyspace = db.keyspace("k", KeyspaceOptions { order, ..filter.options() }).unwrap();
    keyspace.put("apple", "1").unwrap();
    let error = keyspace.compact::<&[u8]>(..).unwrap_err();
    let what = "the compaction filter \"by function\" failed for the key \"apple\": it is bad";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::UserCode, what));
}

/// Whoever dropped the keyspace and whoever compacted it both took over its tables, so that each was
/// removed twice, and the second time was a failure. Who compacted was told that the database closes.
#[test]
fn tables_of_a_keyspace_dropped_while_it_is_compacted_are_removed_once() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let (filter, is_asked, go_on) = stopping();
    let db = open(&fs, None).unwrap();
    let keyspace = db.keyspace("k", filter.options()).unwrap();
    keyspace.put("k", "v").unwrap();
    let compacting = {
        let keyspace = keyspace.clone();
        std::thread::Builder::new().spawn(move || keyspace.compact::<&[u8]>(..)).unwrap()
    };
    is_asked.recv().unwrap();
    db.drop_keyspace(&keyspace).unwrap();
    go_on.send(()).unwrap();
    let error = compacting.join().unwrap().unwrap_err();
    let told = (error.kind(), error.to_string());
    assert_eq!(told, (ErrorKind::Closed, "the keyspace k was dropped".to_owned()));
    let removed = db.events().into_iter().map(|(_, event)| event.to_string());
    assert_eq!(removed.filter(|event| event.contains("remove")).collect::<Vec<_>>(), [""; 0]);
    let names = fs.list(Path::new("db")).unwrap().into_iter().map(|entry| entry.name);
    assert_eq!(names.filter(|name| name.ends_with(".table")).count(), 0);
}

/// Has the only thread of a database compact, and returns of each compaction what `begin` said at its
/// first key, and what `count` says some blocks later. There is a keyspace `other` with small memtables.
fn counted_beside_compactions(
    env: Env,
    mut begin: impl FnMut(&Db) -> u64 + Send + 'static,
    count: impl Fn(&Db) -> u64 + Send + 'static,
) -> Vec<(u64, u64)> {
    const KEY_COUNT: usize = 300;
    let options = Options { background_threads: 1, ..Options::default() };
    let db = Db::builder("db").env(env).options(options).open().unwrap();
    let small = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    db.keyspace("other", small).unwrap();
    let counts: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let of_filter = Arc::new(Mutex::new(Some(db.clone())));
    let filter = ByFunction::new({
        let (counts, of_filter) = (Arc::clone(&counts), Arc::clone(&of_filter));
        let mut first = None;
        let asked = Mutex::new(move |key: &[u8]| {
            let of_filter = of_filter.lock().unwrap();
            let db = of_filter.as_ref().unwrap();
            if key == [0, 0] {
                first = Some(begin(db));
            } else if key == [1, (KEY_COUNT - 257) as u8] {
                counts.lock().unwrap().extend(first.take().map(|first| (first, count(db))));
            }
        });
        move |key, _| {
            (asked.lock().unwrap())(key);
            Ok(FilterDecision::Keep)
        }
    });
    db.keyspace("default", filter.options()).unwrap();
    db.pause_compactions();
    for _ in 0..6 {
        for number in 0..KEY_COUNT {
            db.put([(number >> 8) as u8, number as u8], [7; 1000]).unwrap();
        }
        db.flush().unwrap();
    }
    db.resume_compactions();
    db.wait_until_settled().unwrap();
    of_filter.lock().unwrap().take();
    let counts = counts.lock().unwrap().clone();
    assert!(!counts.is_empty(), "something was compacted");
    counts
}

/// The only thread compacted for as long as it took, and what was written buffered meanwhile stayed in
/// the memory of the process, which promises a tenth of a second.
#[test]
fn a_buffered_write_is_handed_over_in_time_while_the_only_thread_compacts() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let env = Env { clock: Arc::<ManualClock>::clone(&clock), ..Env::memory(1) };
    let log_bytes = |db: &Db| db.stats().counters.log_bytes;
    let write = move |db: &Db| {
        db.put_with("z", "buffered", Durability::Buffered).unwrap();
        let before = log_bytes(db);
        clock.advance(Duration::from_secs(1));
        before
    };
    let lengths = counted_beside_compactions(env, write, log_bytes);
    assert!(lengths.iter().all(|(first, later)| first < later), "{lengths:?}");
}

/// A clock on which a hundredth of a second passes between two looks.
#[derive(Debug)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        self.0.advance(Duration::from_millis(10));
        self.0.now()
    }

    fn wall(&self) -> Duration {
        self.0.wall()
    }

    fn sleep(&self, duration: Duration) {
        self.0.sleep(duration);
    }
}

/// The only thread compacted for as long as it took, and nobody synced what the log had, or marked its end.
#[test]
fn a_log_that_rests_is_synced_and_marked_while_the_only_thread_compacts() {
    let clock = Ticking(ManualClock::new(Duration::from_secs(1000)));
    let env = Env { clock: Arc::new(clock), ..Env::memory(1) };
    let syncs = |db: &Db| db.stats().counters.log_syncs;
    let write = move |db: &Db| {
        db.put("z", "in the log").unwrap();
        syncs(db)
    };
    let counts = counted_beside_compactions(env, write, syncs);
    assert!(counts.iter().all(|(before, later)| before < later), "{counts:?}");
}

/// The only thread compacted for as long as it took, and a memtable that was full waited for that, and
/// with it in time whoever wrote.
#[test]
fn a_full_memtable_is_flushed_while_the_only_thread_compacts() {
    let flushes = |db: &Db| db.stats().counters.flushes;
    let fill = move |db: &Db| {
        let before = flushes(db);
        let other = db.existing_keyspace("other").unwrap().expect("it was created");
        (0..80_u8).for_each(|number| other.put([number], [7; 1000]).unwrap());
        before
    };
    let counts = counted_beside_compactions(Env::memory(1), fill, flushes);
    assert!(counts.iter().all(|(before, later)| before < later), "{counts:?}");
}

/// A filter had the last handle, and dropped it on the thread of the compaction: the end of the
/// database waited for that thread, panicked, and left out the writes that were in memory.
#[test]
fn a_database_may_end_on_the_thread_of_a_compaction() {
    let env = Env::memory(1);
    let of_filter: Arc<Mutex<Option<Db>>> = Arc::default();
    let (asked, is_asked) = sync_channel(0);
    let (go_on, may_go_on) = sync_channel::<()>(0);
    let may_go_on = Mutex::new(may_go_on);
    let filter = ByFunction::new({
        let of_filter = Arc::clone(&of_filter);
        move |_, _| {
            if let Some(db) = of_filter.lock().unwrap().take() {
                asked.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
                drop(db);
            }
            Ok(FilterDecision::Keep)
        }
    });
    let open = || Db::builder("db").env(env.clone()).default_keyspace(filter.options()).open();
    let db = open().unwrap();
    db.pause_compactions();
    for _ in 0..6 {
        db.put("a", "1").unwrap();
        db.put("b", "2").unwrap();
        db.flush().unwrap();
    }
    db.put_with("z", "buffered", Durability::Buffered).unwrap();
    *of_filter.lock().unwrap() = Some(db.clone());
    db.resume_compactions();
    is_asked.recv().unwrap();
    drop(db);
    go_on.send(()).unwrap();
    let db = loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::Locked => std::hint::spin_loop(),
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(db.get("z").unwrap().unwrap(), "buffered");
}
