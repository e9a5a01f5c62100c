//! What an open does about damage in the log, mode by mode.

use std::ops::Range;
use std::path::Path;

use esker::env::{Env, FileExt as _};
use esker::{Db, Durability, ErrorKind, Event, KeyspaceOptions, Options, RecoveryMode, Result};
use esker_base::{FileHeader, FileId};
use esker_log::{ExpectedHeader, LogReader, LogWriter};

use super::sample::{DIR, Files};

/// Writes of the log; `n` wrote key and value `n`.
pub(super) const COUNT: u64 = 400;

/// A database that was not closed, whose writes are all in its log, of several segments.
pub(super) fn logged() -> Env {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    put(&db, 0..COUNT);
    drop(db);
    env
}

/// Some of those writes.
pub(super) fn put(db: &Db, numbers: Range<u64>) {
    for n in numbers {
        let value = [format!("{n:04}").into_bytes(), vec![b'x'; 600]].concat();
        db.put_with(format!("{n:04}"), value, Durability::Power).unwrap();
    }
}

pub(super) fn open(env: &Env, mode: RecoveryMode) -> Result<Db> {
    let options =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    Db::builder(DIR).env(env.clone()).options(options).recovery(mode).open()
}

/// How many writes are there; all before the last one must be.
pub(super) fn prefix(db: &Db) -> u64 {
    let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap()).collect();
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(&**key, format!("{n:04}").as_bytes());
    }
    keys.len() as u64
}

/// Cuts a segment off behind its first `count` frames; how many it had.
pub(super) fn cut_between_frames(env: &Env, name: &str, count: usize) -> usize {
    let (id, kind) = FileId::parse_file_name(name).unwrap();
    let expected = ExpectedHeader { kind, id, database: None, newest_format: u16::MAX };
    let path = Path::new(DIR).join(name);
    let mut reader = LogReader::open(&*env.fs, &path, &expected).unwrap();
    let mut offsets = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        offsets.push(usize::try_from(frame.offset).unwrap());
    }
    let bytes = Files(env).read(name);
    Files(env).replace(name, &bytes[..offsets[count]]);
    offsets.len()
}

pub(super) fn dropped(db: &Db) -> Vec<String> {
    let events = db.events().into_iter().map(|(_, event)| event);
    let names = events.filter_map(|event| match event {
        Event::LogDropped { file, why, .. } => Some(format!("{file}: {why}")),
        _ => None,
    });
    names.collect()
}

#[test]
fn damage_in_the_middle_of_the_log_stops_all_modes_but_point_in_time() {
    let env = logged();
    let files = Files(&env);
    let logs = files.ending_with(".log");
    assert!(logs.len() > 2, "{logs:?}");
    let middle = logs[1].clone();
    files.flip(&middle, 30_000);
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let error = open(&env, mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
        assert!(error.to_string().contains(&middle), "{error}");
    }

    // Reading only, nothing is changed.
    let before = files.everything();
    let builder = Db::builder(DIR).env(env.clone()).read_only(true);
    let db = builder.recovery(RecoveryMode::PointInTime).open().unwrap();
    let count = prefix(&db);
    drop(db);
    assert_eq!(before, files.everything());

    let db = open(&env, RecoveryMode::PointInTime).unwrap();
    assert_eq!(prefix(&db), count);
    assert!(100 < count && count < 200, "{count}");
    let events = dropped(&db);
    assert_eq!(events.len(), logs.len() - 1, "{events:?}");
    assert!(events[0].starts_with(&middle) && events[0].contains("durable"), "{events:?}");
    assert!(events[1].contains("are missing"), "{events:?}");
    drop(db);

    // It stays so, and goes on.
    assert!(files.verify().is_sound(), "{}", files.verify());
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!((prefix(&db), dropped(&db)), (count, vec![]));
    db.put(format!("{count:04}"), "").unwrap();
    db.close().unwrap();
    assert_eq!(prefix(&open(&env, RecoveryMode::Strict).unwrap()), count + 1);
}

#[test]
fn point_in_time_stops_at_a_segment_that_is_missing_or_has_no_header() {
    for damage in ["missing", "header"] {
        for (index, expected) in [(0, 0..1), (2, 150..300)] {
            let env = logged();
            let files = Files(&env);
            let name = files.ending_with(".log")[index].clone();
            match damage {
                "missing" => files.remove(&name),
                _ => files.flip(&name, 20),
            }
            for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
                assert_eq!(open(&env, mode).unwrap_err().kind(), ErrorKind::Corruption);
            }
            let db = open(&env, RecoveryMode::PointInTime).unwrap();
            let count = prefix(&db);
            assert!(expected.contains(&count), "{damage} {index}: {count}");
            assert!(dropped(&db)[0].starts_with(&name));
            // Flushed away, the segments can go.
            db.put(format!("{count:04}"), "").unwrap();
            db.flush().unwrap();
            db.close().unwrap();
            assert!(files.verify().is_sound(), "{}", files.verify());
            assert_eq!(prefix(&open(&env, RecoveryMode::Strict).unwrap()), count + 1);
        }
    }
}

/// Frames that are gone without a trace in their own segment are missed by what the next one says was durable.
#[test]
fn durable_frames_that_are_gone_before_a_segment_stop_all_modes_but_point_in_time() {
    let env = logged();
    let logs = Files(&env).ending_with(".log");
    cut_between_frames(&env, &logs[0], 20);
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let error = open(&env, mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
        assert!(error.to_string().contains("durable"), "{mode:?}: {error}");
    }
    assert_eq!(prefix(&open(&env, RecoveryMode::PointInTime).unwrap()), 20);
}

/// Of a segment whose first frame does not follow, what stands before damage in it was kept, though
/// nobody had taken it: later opens took it for the place where frames are missing.
#[test]
fn point_in_time_keeps_nothing_of_a_segment_that_does_not_follow() {
    let env = logged();
    let files = Files(&env);
    let logs = files.ending_with(".log");
    cut_between_frames(&env, &logs[0], 20);
    files.flip(&logs[1], 30_000);
    let db = open(&env, RecoveryMode::PointInTime).unwrap();
    assert_eq!(prefix(&db), 20);
    db.put_with("0020", "", Durability::Power).unwrap();
    drop(db);
    assert!(files.verify().is_sound(), "{}", files.verify());
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    assert_eq!((prefix(&db), dropped(&db)), (21, vec![]));
}

/// A frame that is chained to the one before it, though it does not follow: no writer makes one. What stood
/// before it was taken and then cut away with the segment, and the database did not open a second time.
#[test]
fn a_group_that_does_not_follow_the_one_before_it_in_its_segment_is_damage() {
    let env = logged();
    let files = Files(&env);
    let name = files.ending_with(".log").remove(0);
    files.ending_with(".log")[1..].iter().for_each(|name| files.remove(name));
    let (id, kind) = FileId::parse_file_name(&name).unwrap();
    let path = Path::new(DIR).join(&name);
    let expected = ExpectedHeader { kind, id, database: None, newest_format: u16::MAX };
    let header = FileHeader::decode(&files.read(&name)).unwrap();
    let mut reader = LogReader::open(&*env.fs, &path, &expected).unwrap();
    let mut payloads = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        payloads.push(frame.payload.to_vec());
    }
    env.fs.remove(&path).unwrap();
    let mut writer = LogWriter::create(&*env.fs, &path, header, 0).unwrap();
    payloads[..20].iter().chain(&payloads[22..30]).for_each(|payload| {
        writer.append(&[payload]);
    });
    writer.write().unwrap();
    drop(writer);
    let what = "the commit group does not follow the one before it";
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let error = open(&env, mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
        assert!(error.to_string().ends_with(what), "{mode:?}: {error}");
    }
    assert!(files.verify().to_string().contains(what), "{}", files.verify());
    let db = open(&env, RecoveryMode::PointInTime).unwrap();
    assert_eq!(prefix(&db), 20);
    db.put("0020", "").unwrap();
    db.close().unwrap();
    assert_eq!(prefix(&open(&env, RecoveryMode::Strict).unwrap()), 21);
}

/// What the manifest says of a closed database's log would be held against what a recovery to a
/// point in time has left of it.
#[test]
fn point_in_time_of_a_closed_database_is_for_good_too() {
    for cut in [700, 48, 0] {
        let env = Env::memory(1);
        let files = Files(&env);
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        (0..5).for_each(|n| db.put(format!("{n:04}"), vec![b'x'; 600]).unwrap());
        db.close().unwrap();
        let name = files.ending_with(".log").remove(0);
        let bytes = files.read(&name);
        files.replace(&name, &bytes[..cut]);
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
            let error = open(&env, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}, cut to {cut}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert!(!files.verify().is_sound());
        let db = open(&env, RecoveryMode::PointInTime).unwrap();
        let count = prefix(&db);
        assert_eq!(count, u64::from(cut == 700));
        drop(db);
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        assert_eq!(prefix(&db), count);
        db.close().unwrap();
        assert!(files.verify().is_sound(), "{}", files.verify());
        assert_eq!(prefix(&open(&env, RecoveryMode::Strict).unwrap()), count);
    }
}

#[test]
fn a_torn_end_is_an_error_only_if_asked_for() {
    for kind in [".log", ".manifest"] {
        let env = logged();
        let files = Files(&env);
        let name = files.ending_with(kind).pop().unwrap();
        let bytes = files.read(&name);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let file = env.fs.open_for_write(&Path::new(DIR).join(&name)).unwrap();
        file.write_all_at(end as u64, b"what a crash left").unwrap();
        let error = open(&env, RecoveryMode::Strict).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("the end is torn"), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        assert!(files.verify().is_sound(), "a crash is no damage");
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        assert_eq!((prefix(&db), dropped(&db)), (COUNT, vec![]));
    }
}

#[test]
fn a_missing_newest_manifest_is_noticed_at_open() {
    let env = logged();
    let files = Files(&env);
    for round in ["first", "second"] {
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        db.put(round, "").unwrap();
        db.flush().unwrap();
        db.close().unwrap();
    }
    files.remove(&files.newest_manifest());
    let error = open(&env, RecoveryMode::TornTail).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains("followed this one is missing"), "{error}");
    let report = files.verify();
    assert!(
        report.findings.iter().any(|f| f.what.contains("followed this one is missing")),
        "{report}"
    );
}

/// Each write once, whatever else is in the log.
#[test]
fn an_open_says_how_much_it_has_read_of_the_log() {
    let env = logged();
    let replayed = |db: &Db| {
        db.events().into_iter().find_map(|(_, event)| match event {
            Event::Opened { replayed, .. } => Some(replayed),
            _ => None,
        })
    };
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    assert_eq!(replayed(&db), Some(COUNT));
    db.flush().unwrap();
    db.put("one", "more").unwrap();
    drop(db);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    assert_eq!(replayed(&db), Some(1));
}

/// Memtables that are full after a recovery wait for no write to be flushed.
#[test]
fn what_fills_memtables_at_recovery_is_flushed_in_the_background() {
    let env = Env::memory(1);
    let builder = || {
        let options = Options { background_threads: 0, ..Options::default() };
        Db::builder(DIR).env(env.clone()).options(options)
    };
    let db = builder().open().unwrap();
    (0..40).for_each(|n| db.put([n], [b'x'; 600]).unwrap());
    drop(db);
    // From the next open on, what is in the log fills several memtables.
    let small = KeyspaceOptions { memtable_bytes: 4_000, ..KeyspaceOptions::default() };
    drop(builder().default_keyspace(small).open().unwrap());
    let db = builder().open().unwrap();
    while db.run_background_job() {}
    assert!(!Files(&env).ending_with(".table").is_empty());
    assert_eq!(db.iter().count(), 40);
}
