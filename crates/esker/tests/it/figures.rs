//! What a database tells of itself: every reader, job and write counts, and counts once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::env::MemoryFileSystem;
use esker::{Db, Event};

use crate::ages::machine;
use crate::recovered::{DIR, env_of, open, options};

#[test]
fn who_reads_at_a_moment_is_counted_until_the_last_who_needs_it_is_gone() {
    let (env, clock) = machine();
    let db = Db::builder(DIR).env(env).options(options()).open().unwrap();
    db.put("a", "1").unwrap();
    let count = || db.health().snapshots.len();
    let (first, second) = (db.snapshot(), db.snapshot());
    let copy = first.clone();
    clock.advance(Duration::from_secs(5));
    db.put("a", "2").unwrap();
    let third = db.snapshot();
    let old = (1, Duration::from_secs(5));
    // A copy is no other snapshot; one of the same moment is.
    assert_eq!(db.stats().snapshots, [old, old, (2, Duration::ZERO)]);
    assert_eq!(db.health().snapshots, db.stats().snapshots);
    drop((first, second));
    assert_eq!(db.stats().snapshots, [old, (2, Duration::ZERO)]);
    // Views and scans of a snapshot need what it does.
    let view = copy.keyspace(db.default_keyspace());
    drop(copy);
    assert_eq!(count(), 2);
    let scan = view.iter();
    drop((view, third));
    assert_eq!(db.stats().snapshots, [old]);
    assert!(scan.values().map(Result::unwrap).eq(["1"]));
    assert_eq!(count(), 0);
    let mut scan = db.iter();
    let cursor = db.cursor().unwrap();
    scan.next().unwrap().unwrap();
    assert!(scan.next().is_none());
    assert_eq!(count(), 1, "a scan of the present; a cursor holds what it reads, and no number");
    drop((scan, cursor));
    assert_eq!(count(), 0);
}

/// The name of what has happened.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Opened { .. } => "opened",
        Event::Flushed { .. } => "flushed",
        Event::Compacted { .. } => "compacted",
        Event::Ingested { .. } => "ingested",
        _ => "something else",
    }
}

#[test]
fn each_flush_compaction_and_load_is_told_once_and_in_its_turn() {
    let (env, _clock) = machine();
    let told = Arc::<Mutex<Vec<Event>>>::default();
    let listener = Arc::clone(&told);
    let listener = Arc::new(move |event: &Event| listener.lock().unwrap().push(event.clone()));
    let builder = Db::builder(DIR).env(env).options(options());
    let db = builder.on_event(listener).open().unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    // There is nothing to flush.
    db.flush().unwrap();
    db.put("a", "2").unwrap();
    db.flush().unwrap();
    db.compact::<&str>(..).unwrap();
    // There is nothing to compact.
    db.compact::<&str>(..).unwrap();
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    loader.put("b", "1").unwrap();
    loader.finish().unwrap();
    let kinds: Vec<_> = told.lock().unwrap().iter().map(kind).collect();
    assert_eq!(kinds, ["opened", "flushed", "flushed", "compacted", "ingested"]);
    let kept: Vec<_> = db.events().iter().map(|(_, event)| kind(event)).collect();
    assert_eq!(kept, kinds);
    let counters = db.stats().counters;
    assert_eq!((counters.flushes, counters.compactions, counters.trivial_moves), (2, 1, 0));
}

/// Each write takes one, whatever a flush, a compaction, a close or the lack of one has left.
#[test]
fn sequence_numbers_go_on_where_they_were_after_every_open() {
    let fs = MemoryFileSystem::new(1);
    let mut last = 0;
    for round in 0..8 {
        let db = open(&env_of(&fs), &options()).unwrap();
        assert_eq!((db.stats().visible_seqno, db.snapshot().seqno()), (last, last));
        db.put("a", round.to_string()).unwrap();
        let mut batch = db.batch();
        batch.put(db.default_keyspace(), "b", "value");
        batch.delete(db.default_keyspace(), "c");
        batch.commit().unwrap();
        match round % 4 {
            1 => db.flush().unwrap(),
            2 => db.compact::<&str>(..).unwrap(),
            _ => {}
        }
        last += 3;
        assert_eq!(db.stats().visible_seqno, last);
        if round % 2 == 0 {
            db.close().unwrap();
        }
    }
}
