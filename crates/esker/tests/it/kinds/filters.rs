//! Compaction filters: what they are told and asked, and what becomes of their answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use esker::{
    CompactionFilter, CompactionFilterFactory, Db, ErrorKind, Filter, FilterContext,
    FilterDecision, FilterFailure, KeyspaceOptions,
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
