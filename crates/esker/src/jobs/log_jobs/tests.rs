//! The mark of an idle log, seen from the next open; the log that a flush looks after; and a flush
//! beside a close.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{FileId, LogId, OwnerId};
use esker_env::{Env, FileExt, FileSystem, MemoryFileSystem};
use esker_tree::{EditRecord, VersionEdit};

use crate::doctor::Doctor;
use crate::{Db, Durability, ErrorKind, Options};

fn env(fs: &MemoryFileSystem) -> Env {
    Env { fs: Arc::new(fs.clone()), ..Env::memory(1) }
}

fn open(fs: &MemoryFileSystem) -> crate::Result<Db> {
    let env = env(fs);
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder("db").env(env).options(options).open()
}

/// The only log segment.
fn log_of(fs: &MemoryFileSystem) -> PathBuf {
    let entries = fs.list(Path::new("db")).unwrap();
    let log = entries.iter().find(|entry| entry.name.ends_with(".log")).unwrap();
    Path::new("db").join(&log.name)
}

fn read(fs: &MemoryFileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// Flips a bit in the value of the last put, in the only log segment.
fn damage_last_put(fs: &MemoryFileSystem) {
    let path = log_of(fs);
    let bytes = read(fs, &path);
    let at = bytes.windows(6).rposition(|window| window == b"second").unwrap();
    let file = fs.open_for_write(&path).unwrap();
    file.write_all_at(at as u64, b"Second").unwrap();
}

/// A database that was written to and whose process was then killed.
fn killed(marks: bool) -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    let db = open(&fs).unwrap();
    db.put("k1", "first").unwrap();
    db.put("k2", "second").unwrap();
    if marks {
        let engine = db.default_keyspace().handle().engine();
        engine.mark_log(engine.logs.written_position()).unwrap();
    }
    fs.snapshot()
}

#[test]
fn damage_to_the_last_write_is_noticed_once_the_log_is_marked() {
    let fs = killed(true);
    damage_last_put(&fs);
    assert_eq!(open(&fs).unwrap_err().kind(), ErrorKind::Corruption);
}

/// The manifest says where the log ends: the mark itself may be missing.
#[test]
fn every_cut_of_a_log_that_was_marked_is_noticed() {
    let fs = killed(true);
    let path = log_of(&fs);
    let bytes = read(&fs, &path);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for len in 0..end {
        for is_zeroed in [false, true] {
            let copy = fs.snapshot();
            let file = copy.open_for_write(&path).unwrap();
            file.truncate(len as u64).unwrap();
            if is_zeroed {
                file.truncate(bytes.len() as u64).unwrap();
            }
            let error = open(&copy).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{len}, {is_zeroed}: {error}");
            let report = Doctor::new("db").env(env(&copy)).verify(&mut |_| {}).unwrap();
            assert!(!report.is_sound(), "{len}, {is_zeroed}");
        }
    }
    // Its last bytes may be zeros.
    let whole = (end..end + 8).find_map(|len| {
        let copy = fs.snapshot();
        copy.open_for_write(&path).unwrap().truncate(len as u64).unwrap();
        open(&copy).ok()
    });
    assert_eq!(whole.unwrap().get("k2").unwrap().unwrap(), "second");
}

/// Releases before could leave an empty segment, and recorded that. What the manifest says outright counts.
#[test]
fn a_segment_of_which_the_manifest_says_that_nothing_was_durable_may_be_empty() {
    for says in [false, true] {
        let fs = MemoryFileSystem::new(1);
        let db = open(&fs).unwrap();
        db.put("k1", "first").unwrap();
        let engine = db.default_keyspace().handle().engine();
        let logs = engine.ledger.with_catalog(|catalog| catalog.logs.clone());
        let empty = logs.iter().map(|&log| EditRecord::LogDurable { log, offset: 0 });
        if says {
            engine.ledger.commit(VersionEdit { records: empty.collect() }, |_| ()).unwrap();
        }
        let copy = fs.snapshot();
        copy.open_for_write(&log_of(&copy)).unwrap().truncate(0).unwrap();
        let sound = Doctor::new("db").env(env(&copy)).verify(&mut |_| {}).unwrap().is_sound();
        assert_eq!((open(&copy).is_ok(), sound), (says, says));
    }
}

/// The only segment that a mark was about had been released meanwhile: an edit that says nothing was a panic.
#[test]
fn an_edit_of_which_nothing_is_left_changes_nothing() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&fs).unwrap();
    // Reserves ids, which would otherwise be in the edit.
    db.put("k0", "value").unwrap();
    db.flush().unwrap();
    let engine = db.default_keyspace().handle().engine();
    let log = LogId(FileId { owner: OwnerId::FIRST, counter: 1 << 20 });
    let records = vec![EditRecord::LogDurable { log, offset: 100 }];
    let manifests = || fs.list(Path::new("db")).unwrap().into_iter().map(|entry| entry.len);
    let before: u64 = manifests().sum();
    assert!(engine.ledger.commit(VersionEdit { records }, |_| true).unwrap());
    assert_eq!(manifests().sum::<u64>(), before);
    db.put("k1", "first").unwrap();
    db.close().unwrap();
}

#[test]
fn without_the_mark_the_last_write_looks_torn_and_is_cut() {
    let fs = killed(false);
    damage_last_put(&fs);
    let db = open(&fs).unwrap();
    assert_eq!(db.get("k1").unwrap().unwrap(), "first");
    assert_eq!(db.get("k2").unwrap(), None);
}

#[test]
fn a_mark_changes_no_answer_and_writes_go_on_behind_it() {
    let fs = killed(true);
    let db = open(&fs).unwrap();
    assert_eq!(db.get("k2").unwrap().unwrap(), "second");
    let engine = db.default_keyspace().handle().engine();
    db.put("k3", "third").unwrap();
    engine.mark_log(engine.logs.written_position()).unwrap();
    db.put("k4", "fourth").unwrap();
    let db = open(&fs.snapshot()).unwrap();
    assert_eq!(db.iter().map(Result::unwrap).count(), 4);
    assert_eq!(db.snapshot().seqno(), 4);
}

#[test]
fn a_flush_readies_the_next_log_segment_on_its_way() {
    let options =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    let db = Db::builder("db").env(Env::memory(1)).options(options).open().unwrap();
    // Over half a segment.
    for number in 0..300 {
        db.put(format!("key {number}"), [7; 100]).unwrap();
    }
    let engine = db.default_keyspace().handle().engine();
    assert!(!engine.logs.has_prepared());
    db.flush().unwrap();
    assert!(engine.logs.has_prepared());
    assert!(db.wait_until_settled().is_ok());
}

/// Each put behind the middle of a segment asked for the next one, until that was there: a call of the
/// system for every third put of a load, all in vain.
#[test]
fn a_segment_is_asked_for_once() {
    let options =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    let db = Db::builder("db").env(Env::memory(1)).options(options).open().unwrap();
    let engine = db.default_keyspace().handle().engine();
    let asks = |_: &usize| {
        db.put_with("key", [7; 1000], Durability::Buffered).unwrap();
        let job = engine.scheduler.state().take_log();
        job.map(|_| engine.scheduler.note_end()).is_some()
    };
    // Nobody readies one, and the leader makes the second and the third itself.
    let asked: Vec<usize> = (0..180).filter(asks).collect();
    assert!(matches!(asked[..], [20..40, 84..104, 148..168]), "{asked:?}");
    let asked = (180..).find(asks);
    assert!(asked.is_some_and(|put| put < 240));
    // Though what fills the segment is still in memory.
    engine.prepare_log_job();
    assert!(engine.logs.has_prepared());
}

/// A flush on another thread struck a log segment from the manifest just before the close said where
/// that ends. The edit did not fit, and the close panicked with the lock of the directory held.
#[test]
fn a_flush_that_ends_beside_a_close_may_strike_a_log_segment() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&fs).unwrap();
    db.put("k1", "first").unwrap();
    db.close().unwrap();
    let db = open(&fs).unwrap();
    db.put("k2", "second").unwrap();
    let engine = Arc::clone(db.default_keyspace().handle().engine());
    let ends = {
        let mut leader = engine.pipeline.lead();
        let (last, needed) = (leader.last_logged, engine.oldest_log_needed());
        engine.logs.close(&mut leader.appender, last, needed, &engine.ledger).unwrap()
    };
    assert_eq!(ends.len(), 2);
    engine.flush_whole(db.default_keyspace().core()).unwrap();
    engine.ledger.end(&ends).unwrap();
    drop((db, engine));
    let db = open(&fs).unwrap();
    assert_eq!(db.get("k1").unwrap().unwrap(), "first");
    assert_eq!(db.get("k2").unwrap().unwrap(), "second");
}

/// As many segments as were kept for reuse, with all their room, stayed for as long as the database was
/// open, however long nobody wrote.
#[test]
fn segments_are_kept_for_reuse_only_while_somebody_writes() {
    let fs = MemoryFileSystem::new(1);
    let env = Env { fs: Arc::new(fs.clone()), ..Env::memory(1) };
    let options =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    let db = Db::builder("db").env(env).options(options).open().unwrap();
    let engine = db.default_keyspace().handle().engine();
    let fill = || (0..5_u8).for_each(|key| db.put([key], [key; 50_000]).unwrap());
    let count = || {
        let entries = fs.list(Path::new("db")).unwrap();
        entries.iter().filter(|entry| entry.name.ends_with(".log")).count()
    };
    let needed = || engine.logs.size().1 + usize::from(engine.logs.has_prepared());
    let mark = || engine.mark_log(engine.logs.written_position()).unwrap();
    fill();
    db.flush().unwrap();
    assert_eq!(count(), needed() + 1, "one while there are writes");
    mark();
    assert_eq!(count(), needed());
    // Memtables that are flushed once the log rests leave none, either.
    fill();
    mark();
    db.flush().unwrap();
    assert_eq!(count(), needed());
    fill();
    assert_eq!(db.iter().map(Result::unwrap).count(), 5);
}
