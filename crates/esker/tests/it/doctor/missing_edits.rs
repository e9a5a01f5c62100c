//! A manifest without its last edits, as an older copy that was put back is: what they named is found.

use std::path::Path;

use esker::doctor::RepairOptions;
use esker::env::Env;
use esker::{Db, Durability, ErrorKind, Event, KeyspaceOptions, Options, RecoveryMode};
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

/// A kill had come before the segment had its header, and without a manifest it was a log of which all had
/// been lost, with all that came behind it.
#[test]
fn a_segment_that_no_manifest_names_needs_no_header() {
    for (name, bytes) in
        [("1-00000000.log", 0), ("1-00000000.log", 1 << 16), ("1-00009999.log", 1 << 16)]
    {
        let env = Env::memory(1);
        let db = open(&env, RecoveryMode::TornTail).unwrap();
        db.put_with("k", "v", Durability::Power).unwrap();
        drop(db);
        let files = Files(&env);
        files.replace(name, &vec![0; bytes]);
        assert!(files.verify().is_sound());
        files.manifests().iter().for_each(|name| files.remove(name));
        let findings = files.verify().to_string();
        assert!(!findings.contains(name), "{findings}");
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{name}, {bytes}: {report}");
        let db = open(&env, RecoveryMode::Strict).unwrap();
        assert_eq!(db.get("k").unwrap().unwrap(), "v");
    }
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

/// A database whose manifest is the one of before a flush: the log had one segment, and has another two
/// segments on, as those before went with the flush. The first waits to be used again, unless it `is_used`.
/// Returns the name of the last.
pub(super) fn behind_released_segments(is_used: bool) -> (Env, String) {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let files = Files(&env);
    let fill = |count: usize| {
        while files.ending_with(".log").len() < count {
            db.put_with("filler", vec![b'x'; 600], Durability::Power).unwrap();
        }
    };
    db.put_with("deleted", "v", Durability::Power).unwrap();
    let (name, manifest) = (files.newest_manifest(), files.read(&files.newest_manifest()));
    fill(2);
    db.delete_with("deleted", Durability::Power).unwrap();
    fill(3);
    let [first, _, last] = files.ending_with(".log").try_into().unwrap();
    db.put_with("kept", "in a table", Durability::Power).unwrap();
    db.flush().unwrap();
    db.put_with("last", "in the log", Durability::Power).unwrap();
    drop(db);
    assert_eq!(files.ending_with(".log"), [first.clone(), last.clone()]);
    files.manifests().iter().for_each(|name| files.remove(name));
    files.replace(&name, &manifest);
    if is_used {
        files.remove(&first);
    }
    (env, last)
}

/// The segment does not follow the log as the manifest has it, and the table and the segment were removed: the
/// key that had been deleted came back. All was called sound. Where the first segment was gone as well, a
/// recovery to a point in time did the same, and a repair, which told of the missing segment only.
#[test]
fn a_segment_behind_others_that_were_released_is_no_orphan() {
    for is_used in [false, true] {
        let (env, last) = behind_released_segments(is_used);
        let files = Files(&env);
        let before = files.everything();
        let what = "the log goes on in this segment, and the manifest does not name it: its last \
                    edits are missing";
        let report = files.verify();
        let found = format!("{last} at 0: {what}");
        assert!(report.findings.iter().any(|it| it.to_string() == found), "{is_used}: {report}");
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime] {
            let error = open(&env, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
            let is_by_the_last = !is_used || mode == RecoveryMode::PointInTime;
            assert!(!is_by_the_last || error.to_string().ends_with(what), "{mode:?}: {error}");
        }
        assert_eq!(files.everything(), before, "nothing was changed");
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{is_used}: {report}");
        assert!(files.verify().is_sound(), "{report}\n{}", files.verify());
        let db = open(&env, RecoveryMode::Strict).unwrap();
        assert_eq!(db.get("deleted").unwrap(), None, "{is_used}: {report}");
        assert_eq!(db.get("kept").unwrap().unwrap(), "in a table", "{is_used}: {report}");
        assert_eq!(db.get("last").unwrap().unwrap(), "in the log", "{is_used}: {report}");
    }
}

/// An older manifest that names tables that are gone: a repair called them lost, did not look at the one that
/// had replaced them, and the next open removed it.
#[test]
fn tables_that_replaced_those_of_an_older_manifest_are_kept() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    for value in ["1", "2"] {
        db.put("k", value).unwrap();
        db.flush().unwrap();
    }
    let files = Files(&env);
    let (name, manifest) = (files.newest_manifest(), files.read(&files.newest_manifest()));
    let replaced = files.ending_with(".table");
    db.compact_all().unwrap();
    drop(db);
    assert!(
        files.ending_with(".table").len() == 1
            && !replaced.contains(&files.ending_with(".table")[0])
    );
    files.manifests().iter().for_each(|name| files.remove(name));
    files.replace(&name, &manifest);
    let missing = "the manifest names this file, and it is missing";
    let report = files.verify();
    assert!(report.findings.iter().all(|it| it.what == missing), "{report}");
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "2", "{report}");
}

/// The same where the tables were put back too, and a blob file of theirs was not.
#[test]
fn tables_that_replaced_those_of_a_missing_blob_file_are_kept() {
    let env = Env::memory(1);
    let open = || {
        let options = Options { background_threads: 0, ..Options::default() };
        let blobs = KeyspaceOptions {
            blob_threshold_bytes: Some(32),
            blob_waste_percent_max: 1,
            ..KeyspaceOptions::default()
        };
        let builder = Db::builder(DIR).env(env.clone()).options(options);
        builder.default_keyspace(blobs).open().unwrap()
    };
    let db = open();
    for (keys, byte) in [(&["j", "k"][..], b'1'), (&["k"], b'2')] {
        keys.iter().for_each(|key| db.put(key, [byte; 100]).unwrap());
        db.flush().unwrap();
    }
    let files = Files(&env);
    let (name, manifest) = (files.newest_manifest(), files.read(&files.newest_manifest()));
    let tables = files.ending_with(".table").into_iter().map(|it| (files.read(&it), it));
    let tables: Vec<_> = tables.collect();
    let blob = files.ending_with(".blob").remove(0);
    for _ in 0..2 {
        db.compact_all().unwrap();
        while db.run_background_job() {}
    }
    drop(db);
    assert!(!files.ending_with(".blob").contains(&blob), "its garbage was collected");
    files.manifests().iter().for_each(|name| files.remove(name));
    files.replace(&name, &manifest);
    tables.iter().for_each(|(bytes, name)| files.replace(name, bytes));
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let db = open();
    for (key, byte) in [("j", b'1'), ("k", b'2')] {
        assert_eq!(db.get(key).unwrap().unwrap(), [byte; 100], "{key}: {report}");
    }
}
