//! Repair where one edit of the manifest is lost, and those behind it are not: what they say together
//! never was.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::{RepairOptions, RepairReport};
use esker::env::Env;
use esker::{
    Db, KeyspaceOptions, Merge, Options, Order, TableWriter, TableWriterOptions, operators,
};
use esker_base::{FileHeader, FileId, FileKind, ManifestId, OwnerId};
use esker_log::{ExpectedHeader, LogReader};
use esker_tree::{EditRecord, MANIFEST_FORMAT, Manifest, RunId, VersionEdit};

use super::sample::{DIR, Files};

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
}

/// Damages the first edit with a record like that in a manifest.
fn lose(env: &Env, name: &str, is_lost: impl Fn(&EditRecord) -> bool) {
    let files = Files(env);
    let header = FileHeader::decode(&files.read(name)[..FileHeader::LEN]).unwrap();
    let (kind, id) = (FileKind::Manifest, header.id);
    let expected = ExpectedHeader { kind, id, database: None, newest_format: MANIFEST_FORMAT };
    let path = Path::new(DIR).join(name);
    let mut reader = LogReader::open(&*env.fs, &path, &expected).unwrap();
    let offset = loop {
        let frame = reader.next_frame().unwrap().expect("an edit with the record");
        let edit = VersionEdit::decode(frame.payload).unwrap();
        if edit.records.iter().any(&is_lost) {
            break frame.offset;
        }
    };
    files.flip(name, usize::try_from(offset).unwrap() + 6);
}

/// Damages the first edit with a record like that, and repairs the database.
fn repair_without(env: &Env, is_lost: impl Fn(&EditRecord) -> bool) -> RepairReport {
    let files = Files(env);
    lose(env, &files.newest_manifest(), is_lost);
    assert!(!files.verify().is_sound());
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(files.verify().is_sound(), "{report}\n{}", files.verify());
    report
}

fn value(db: &Db, keyspace: &str, key: &str) -> Option<String> {
    let value = db.existing_keyspace(keyspace).unwrap().unwrap().get(key).unwrap();
    value.map(|value| value.escape_ascii().to_string())
}

#[test]
fn a_name_that_was_given_again_is_that_of_the_keyspace_that_got_it_last() {
    for is_renamed in [true, false] {
        let env = Env::memory(1);
        let db = open(&env);
        let first = db.keyspace("users", KeyspaceOptions::default()).unwrap();
        first.put("k", "of the first").unwrap();
        db.flush().unwrap();
        match is_renamed {
            true => db.rename_keyspace(&first, "former users").unwrap(),
            false => db.drop_keyspace(&first).unwrap(),
        }
        let small = KeyspaceOptions { memtable_bytes: 123_456, ..KeyspaceOptions::default() };
        let second = db.keyspace("users", small).unwrap();
        second.put("k", "of the second").unwrap();
        db.flush().unwrap();
        drop((db, first, second));
        let report = repair_without(&env, |record| {
            matches!(
                record,
                EditRecord::KeyspaceRenamed { .. } | EditRecord::KeyspaceDropped { .. }
            )
        });
        let note = "nothing tells the name of keyspace-1";
        assert!(report.notes.iter().any(|line| line == note), "{report}");
        let db = open(&env);
        assert_eq!(db.keyspaces(), ["default", "keyspace-1", "users"]);
        assert_eq!(value(&db, "users", "k").unwrap(), "of the second");
        let users = db.existing_keyspace("users").unwrap().unwrap();
        assert_eq!(users.options().memtable_bytes, 123_456);
        let kept = is_renamed.then(|| "of the first".to_owned());
        assert_eq!(value(&db, "keyspace-1", "k"), kept, "{report}");
    }
}

#[test]
fn what_nothing_tells_of_a_keyspace_is_said() {
    let env = Env::memory(1);
    let db = open(&env);
    let keyspace = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    keyspace.put("k", "v").unwrap();
    db.flush().unwrap();
    db.rename_keyspace(&keyspace, "former users").unwrap();
    drop((db, keyspace));
    let report = repair_without(
        &env,
        |record| matches!(record, EditRecord::KeyspaceCreated { name, .. } if name == "users"),
    );
    let note = "nothing tells more of the options than order and merge operator of former users";
    assert!(report.notes.iter().any(|line| line == note), "{report}");
    assert!(!report.to_string().contains("of default"), "{report}");
    assert_eq!(value(&open(&env), "former users", "k").unwrap(), "v");

    Files(&env).manifests().iter().for_each(|name| Files(&env).remove(name));
    // Nothing tells either that the log, which may be gone, lies there.
    let doctor = Files(&env).doctor().log_dir(DIR);
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    for note in [
        "the options of default: its keys are taken as those of a bytewise order",
        "more of the options than order and merge operator of users",
    ] {
        let note = format!("nothing tells {note}");
        assert!(report.notes.contains(&note), "{report}");
    }
}

/// What a keyspace whose writes are in the log alone is called, and in which order its keys stand, no file
/// tells without a manifest.
#[test]
fn a_keyspace_that_only_the_log_has_is_said_to_be_called_by_its_number() {
    let env = Env::memory(1);
    let db = open(&env);
    let keyspace = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    keyspace.put("k", "v").unwrap();
    drop((db, keyspace));
    let report = repair_without_manifest(&env);
    let note = "nothing tells the name and the options of keyspace-1: its keys are taken as those of a \
                bytewise order";
    assert!(report.notes.iter().any(|line| line == note), "{report}");
    assert_eq!(value(&open(&env), "keyspace-1", "k").unwrap(), "v");
}

/// Removes the manifests, and repairs the database.
fn repair_without_manifest(env: &Env) -> RepairReport {
    Files(env).manifests().iter().for_each(|name| Files(env).remove(name));
    let doctor = Files(env).doctor().log_dir(DIR);
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(Files(env).verify().is_sound(), "{report}");
    report
}

#[test]
fn tables_tell_what_keyspaces_are_called_and_how_their_entries_are_read() {
    let env = Env::memory(1);
    let db = open(&env);
    let append = Some(Merge::new(operators::Append::new("+")));
    let options = |order, merge_operator: &Option<Merge>| KeyspaceOptions {
        order,
        merge_operator: merge_operator.clone(),
        ..KeyspaceOptions::default()
    };
    db.keyspace("default", options(Order::bytewise(), &append)).unwrap();
    let back = db.keyspace("back", options(Order::reverse_bytewise(), &None)).unwrap();
    let old = db.keyspace("old", options(Order::bytewise(), &append)).unwrap();
    let only_in_the_log = db.keyspace("young", KeyspaceOptions::default()).unwrap();
    for (keyspace, key) in [(db.default_keyspace(), "k"), (&back, "k"), (&back, "l"), (&old, "k")] {
        keyspace.put(key, "1").unwrap();
    }
    db.flush().unwrap();
    db.rename_keyspace(&old, "new").unwrap();
    old.merge("k", "2").unwrap();
    db.merge("k", "2").unwrap();
    back.compact::<&[u8]>(..).unwrap();
    db.flush().unwrap();
    only_in_the_log.put("k", "1").unwrap();
    let loaded = db.keyspace("loaded", options(Order::reverse_bytewise(), &None)).unwrap();
    for (name, keys) in [(None, ["d", "c"]), (Some("loaded"), ["b", "a"])] {
        let (order, keyspace) = (Order::reverse_bytewise(), name.map(str::to_owned));
        let table = TableWriterOptions { order, keyspace, ..Default::default() };
        let mut writer = TableWriter::create_in(&env, "outside", table).unwrap();
        keys.iter().for_each(|key| writer.put(key, "1").unwrap());
        let table = writer.finish().unwrap();
        db.ingest(&loaded, &[&table.path], Default::default()).unwrap();
        env.fs.remove(&table.path).unwrap();
    }
    drop((back, old, only_in_the_log, loaded));
    db.close().unwrap();

    repair_without_manifest(&env);
    // What has been repaired says so again.
    let report = repair_without_manifest(&env);
    let db = open(&env);
    assert_eq!(db.keyspaces(), ["default", "back", "new", "keyspace-3", "loaded"], "{report}");
    assert_eq!(value(&db, "default", "k").unwrap(), "1+2");
    assert_eq!(value(&db, "new", "k").unwrap(), "1+2");
    assert_eq!(value(&db, "keyspace-3", "k").unwrap(), "1");
    for (name, keys) in [("back", &["l", "k"][..]), ("loaded", &["d", "c", "b", "a"])] {
        let keyspace = db.keyspace(name, options(Order::reverse_bytewise(), &None)).unwrap();
        let found: Vec<_> = keyspace.iter().keys().map(|key| key.unwrap()).collect();
        assert_eq!(found, keys);
    }
}

#[test]
fn a_table_that_moved_on_does_not_stand_where_another_came() {
    let env = Env::memory(1);
    let db = open(&env);
    for round in ["older", "newer"] {
        ["a", "b", "c"].iter().for_each(|key| db.put(key, round).unwrap());
        db.delete_range("b".."bb").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    let dir = Path::new(DIR);
    let recovered = Manifest::recover(&*env.fs, dir).unwrap().unwrap();
    let (&keyspace, state) = recovered.catalog.keyspaces.iter().next().unwrap();
    let [older, newer] = state.tables.keys().copied().collect::<Vec<_>>()[..] else {
        panic!("two tables: {:?}", state.tables)
    };
    let mut counter = recovered.catalog.next_file_counter;
    let mut mint = || {
        counter += 1;
        counter
    };
    let (middle, deep) = (RunId(mint()), RunId(mint()));
    let mut manifest = Manifest::open(Arc::clone(&env.fs), dir, recovered).unwrap();
    for (table, level, run) in [(older, 1, middle), (older, 2, deep), (newer, 1, middle)] {
        let record = EditRecord::TableMoved { keyspace, table, level, run };
        let id = FileId { owner: OwnerId::FIRST, counter: mint() };
        manifest.append(&VersionEdit { records: vec![record] }, || ManifestId(id)).unwrap();
    }
    drop(manifest);
    let report =
        repair_without(&env, |record| matches!(record, EditRecord::TableMoved { level: 2, .. }));
    assert!(report.lost.is_empty(), "{report}");
    let db = open(&env);
    assert_eq!(
        ["a", "b", "c"].map(|key| value(&db, "default", key).is_some()),
        [true, false, true]
    );
    assert_eq!(value(&db, "default", "a").unwrap(), "newer");
}

/// Names that are made up are those of nobody else.
#[test]
fn a_keyspace_without_a_name_does_not_get_that_of_another() {
    let env = Env::memory(1);
    let db = open(&env);
    for name in ["keyspace-2", "users"] {
        let keyspace = db.keyspace(name, KeyspaceOptions::default()).unwrap();
        keyspace.put("k", name).unwrap();
    }
    // An edit behind that which is lost, and no table of the second.
    db.existing_keyspace("keyspace-2").unwrap().unwrap().flush().unwrap();
    drop(db);
    let report = repair_without(
        &env,
        |record| matches!(record, EditRecord::KeyspaceCreated { name, .. } if name == "users"),
    );
    let db = open(&env);
    assert_eq!(db.keyspaces(), ["default", "keyspace-2", "keyspace-2-"], "{report}");
    for (name, told) in [("keyspace-2", "keyspace-2"), ("keyspace-2-", "users")] {
        assert_eq!(value(&db, name, "k").unwrap(), told, "{report}");
    }
}

/// What a manifest starts with is all that there was: tables of the one before that it does not have are
/// not missed, though nothing else tells that they had been replaced.
#[test]
fn what_a_manifest_does_not_start_with_had_gone_before() {
    let env = Env::memory(1);
    let db = open(&env);
    for round in ["1", "2"] {
        db.put("k", round).unwrap();
        db.flush().unwrap();
    }
    db.compact_all().unwrap();
    db.close().unwrap();
    let files = Files(&env);
    let old = files.ending_with(".manifest.old").remove(0);
    let edits = files.read(&old);
    let db = open(&env);
    drop(db.keyspace("another", KeyspaceOptions::default()).unwrap());
    db.put("later", "3").unwrap();
    db.flush().unwrap();
    drop(db);
    // As if it had not been removed.
    files.replace(&old, &edits);
    lose(&env, &old, |record| matches!(record, EditRecord::TableRemoved { .. }));
    let report = repair_without(
        &env,
        |record| matches!(record, EditRecord::KeyspaceCreated { name, .. } if name == "another"),
    );
    assert!(report.lost.is_empty(), "{report}");
    let mut tables = files.ending_with(".table");
    tables.sort();
    let mut kept = report.kept.clone();
    kept.sort();
    assert_eq!(kept, tables, "each once: {report}");
    let db = open(&env);
    for (key, told) in [("k", "2"), ("later", "3")] {
        assert_eq!(value(&db, "default", key).unwrap(), told, "{report}");
    }
}

/// Without any manifest, a table that a compaction had replaced counts again. Of an operand there and the
/// value that the compaction had made of it, of one number, the operand was kept, over nothing.
#[test]
fn what_an_operand_was_merged_into_counts_in_its_place() {
    let env = Env::memory(1);
    let open = || {
        let appends = KeyspaceOptions {
            merge_operator: Some(Merge::new(operators::Append::new("+"))),
            ..KeyspaceOptions::default()
        };
        let options = Options { background_threads: 0, ..Options::default() };
        let builder = Db::builder(DIR).env(env.clone()).options(options);
        builder.default_keyspace(appends).open().unwrap()
    };
    let db = open();
    // Numbers stay as they are while it is there.
    let snapshot = db.snapshot();
    db.put("k", "a").unwrap();
    db.flush().unwrap();
    db.merge("k", "b").unwrap();
    db.flush().unwrap();
    let files = Files(&env);
    let name = files.ending_with(".table").pop().unwrap();
    let replaced = files.read(&name);
    db.compact_all().unwrap();
    drop(snapshot);
    db.close().unwrap();
    assert_eq!(files.ending_with(".table").len(), 1);
    files.replace(&name, &replaced);
    files.manifests().iter().for_each(|name| files.remove(name));
    let doctor = files.doctor().log_dir(DIR);
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(open().get("k").unwrap().unwrap(), "a+b", "{report}");
}
