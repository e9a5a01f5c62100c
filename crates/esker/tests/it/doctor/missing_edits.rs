//! A manifest without its last edits, as an older copy that was put back is: what they named is found.

use std::path::Path;

use esker::doctor::RepairOptions;
use esker::env::Env;
use esker::{Db, Durability, ErrorKind, Event, KeyspaceOptions, RecoveryMode};
use esker_base::{FileHeader, FileId, FileKind, ManifestId, OwnerId};
use esker_log::{ExpectedHeader, LogReader};
use esker_tree::{EditRecord, MANIFEST_FORMAT, VersionEdit};

use super::modes::open;
use super::sample::{DIR, Files};

/// Cuts the newest manifest off before the first edit with a record like that.
fn cut_before(env: &Env, is_lost: impl Fn(&EditRecord) -> bool) {
    let files = Files(env);
    let name = files.newest_manifest();
    let header = FileHeader::decode(&files.read(&name)[..FileHeader::LEN]).unwrap();
    let (kind, id) = (FileKind::Manifest, header.id);
    let expected = ExpectedHeader { kind, id, database: None, newest_format: MANIFEST_FORMAT };
    let mut reader = LogReader::open(&*env.fs, &Path::new(DIR).join(&name), &expected).unwrap();
    let offset = loop {
        let frame = reader.next_frame().unwrap().expect("an edit with the record");
        let edit = VersionEdit::decode(frame.payload).unwrap();
        if edit.records.iter().any(&is_lost) {
            break usize::try_from(frame.offset).unwrap();
        }
    };
    files.replace(&name, &files.read(&name)[..offset]);
}

fn put(db: &Db, numbers: std::ops::Range<u64>) {
    for n in numbers {
        db.put_with(format!("{n:04}"), vec![b'x'; 600], Durability::Power).unwrap();
    }
}

/// It was taken for an orphan and removed, with all that had been written.
#[test]
fn a_segment_that_the_log_goes_on_in_is_no_orphan() {
    // The first segment of all; one of several; one of a database that has tables.
    for (count, is_flushed) in [(50, false), (300, false), (50, true)] {
        let env = Env::memory(1);
        if is_flushed {
            let db = open(&env, RecoveryMode::TornTail).unwrap();
            put(&db, 0..10);
            db.close().unwrap();
        }
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        put(&db, 10..count);
        drop(db);
        let files = Files(&env);
        let log = files.ending_with(".log").pop().unwrap();
        let id = FileId::parse_file_name(&log).unwrap().0;
        cut_before(&env, |record| matches!(record, EditRecord::LogAdded(log) if log.0 == id));
        let before = files.everything();
        let what = "the log goes on in this segment, and the manifest does not name it: its last \
                    edits are missing";
        let found = format!("{log} at 0: {what}");
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime] {
            let error = open(&env, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
            assert!(error.to_string().ends_with(what), "{mode:?}: {error}");
        }
        let salvaged = Db::builder(DIR).env(env.clone()).recovery(RecoveryMode::Salvage);
        let salvaged = salvaged.read_only(true).open().unwrap();
        let is_told =
            |event: &Event| matches!(event, Event::LogDropped { file, .. } if *file == log);
        assert!(salvaged.events().iter().any(|(_, event)| is_told(event)));
        drop(salvaged);
        assert_eq!(files.everything(), before, "nothing was changed");
        let report = files.verify();
        assert_eq!(report.findings[0].to_string(), found, "{report}");
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{report}");
        let db = open(&env, RecoveryMode::Strict).unwrap();
        let first = if is_flushed { 0 } else { 10 };
        assert_eq!(db.iter().count() as u64, count - first, "{report}");
    }
}

/// Numbers that are in no log came first, and no segment that the manifest names has a group.
#[test]
fn the_first_segment_of_all_is_no_orphan_behind_writes_without_a_log() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let without_log = KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
    let unlogged = db.keyspace("unlogged", without_log).unwrap();
    unlogged.put("a", "1").unwrap();
    unlogged.flush().unwrap();
    db.put_with("k", "v", Durability::Power).unwrap();
    drop((unlogged, db));
    cut_before(&env, |record| matches!(record, EditRecord::LogAdded(_)));
    let error = open(&env, RecoveryMode::TornTail).unwrap_err();
    assert!(error.to_string().contains("the log goes on in this segment"), "{error}");
    let files = Files(&env);
    assert!(!files.verify().is_sound());
    files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
}

/// A repair left what was written to it out of the new tables, said that nothing was lost, and the next
/// open removed the log.
#[test]
fn a_keyspace_whose_creation_is_missing_comes_back_out_of_the_log() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    db.put_with("a", "1", Durability::Power).unwrap();
    let new = db.keyspace("new", KeyspaceOptions::default()).unwrap();
    new.put_with("k", "v", Durability::Power).unwrap();
    drop((new, db));
    let files = Files(&env);
    cut_before(
        &env,
        |record| matches!(record, EditRecord::KeyspaceCreated { name, .. } if name == "new"),
    );
    let error = open(&env, RecoveryMode::TornTail).unwrap_err();
    assert!(error.to_string().contains("a keyspace that never was"), "{error}");
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(report.lost.is_empty(), "{report}");
    let untold = "nothing tells the name and the options of keyspace-1";
    assert!(report.notes.iter().any(|note| note.starts_with(untold)), "{report}");
    let db = open(&env, RecoveryMode::Strict).unwrap();
    let new = db.existing_keyspace("keyspace-1").unwrap().expect("under a name for it");
    assert_eq!(new.get("k").unwrap().unwrap(), "v");
    assert_eq!(db.get("a").unwrap().unwrap(), "1");
}

/// The manifest with another number is the manifest, and all that stands in nothing else is in it.
#[test]
fn a_manifest_with_another_name_is_read() {
    for is_exchanged in [false, true] {
        let env = Env::memory(1);
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        db.put("a", "1").unwrap();
        db.close().unwrap();
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        db.keyspace("named", KeyspaceOptions::default()).unwrap();
        db.close().unwrap();
        let files = Files(&env);
        let name = files.newest_manifest();
        if is_exchanged {
            files.swap(&name, &files.ending_with(".manifest.old")[0]);
        } else {
            let id = FileId { owner: OwnerId::FIRST, counter: 9999 };
            files.replace(&ManifestId(id).file_name(), &files.read(&name));
            files.remove(&name);
        }
        assert_eq!(open(&env, RecoveryMode::TornTail).unwrap_err().kind(), ErrorKind::Corruption);
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{report}");
        let db = open(&env, RecoveryMode::Strict).unwrap();
        assert_eq!(db.keyspaces(), ["default", "named"], "{is_exchanged}: {report}");
        assert_eq!(db.get("a").unwrap().unwrap(), "1");
    }
}
