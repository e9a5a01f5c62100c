//! Ingestion: what is accepted, where it goes, who sees it, and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use esker::env::{
    Env, Fault, FaultFileSystem, FileExt as _, MemoryFileSystem, Operation, Rule, When,
};
use esker::{
    Db, Durability, Error, ErrorKind, Expiry, IngestOptions, KeyspaceOptions, Options, Order,
    TableWriter, TableWriterOptions,
};

use crate::outside::OUTSIDE;
use crate::referenced::{assert_exact, assert_tidy};
use crate::state::merge_operator;
use crate::temp_dir::TempDir;
use esker::doctor::{Doctor, RepairOptions};
use esker_tree::Manifest;

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder("db").env(env.clone()).options(options).open().unwrap()
}

/// A table of these keys, all with the value `value`; a key with a minus is deleted.
fn table(env: &Env, name: &str, keys: &[&str], value: &str) -> PathBuf {
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let path = Path::new(OUTSIDE).join(name);
    let mut writer = TableWriter::create_in(env, &path, TableWriterOptions::default()).unwrap();
    for key in keys {
        match key.strip_prefix('-') {
            Some(key) => writer.delete(key).unwrap(),
            None => writer.put(key, value).unwrap(),
        }
    }
    writer.finish().unwrap().path
}

fn contents(db: &Db) -> String {
    let entries = db.iter().map(Result::unwrap);
    let entries = entries.map(|(k, v)| format!("{}={}", k.escape_ascii(), v.escape_ascii()));
    entries.collect::<Vec<_>>().join(" ")
}

const COPY: IngestOptions = IngestOptions { move_files: false, verify_entries: false };
const MOVE: IngestOptions = IngestOptions { move_files: true, verify_entries: true };

#[test]
fn entries_are_newer_than_all_before_and_older_than_all_after() {
    let env = Env::memory(0);
    let db = open(&env);
    for key in ["a", "b", "c", "d"] {
        db.put(key, "written").unwrap();
    }
    let before = db.snapshot();
    let path = table(&env, "t", &["b", "-c", "x"], "ingested");
    let report = db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
    assert_eq!(report.seqno, 5);
    assert!(env.fs.exists(&path).unwrap());
    db.put("x", "later").unwrap();
    db.delete("b").unwrap();
    let now = "a=written d=written x=later";
    assert_eq!(contents(&db), now);
    let view = before.keyspace(db.default_keyspace());
    assert_eq!(view.get("b").unwrap().unwrap(), "written");
    assert!(view.get("x").unwrap().is_none());
    assert_eq!(view.scan::<&[u8]>(..).count(), 4);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(contents(&db), now);
    assert_eq!(view.scan::<&[u8]>(..).count(), 4);
    drop((before, view));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(contents(&db), now);
    db.close().unwrap();
    let db = open(&env);
    assert_eq!(contents(&db), now);
}

/// A range tombstone in memory may cover what is ingested: it goes to a table before, below.
#[test]
fn a_range_that_was_deleted_before_does_not_stand_above_what_is_ingested() {
    let env = Env::memory(0);
    let db = open(&env);
    db.put("a", "written").unwrap();
    db.flush().unwrap();
    db.delete_range("a".."c").unwrap();
    let path = table(&env, "t", &["a", "b"], "ingested");
    db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
    let expected = "a=ingested b=ingested z=later";
    db.put("z", "later").unwrap();
    assert_eq!(contents(&db), expected);
    db.flush().unwrap();
    assert_eq!(contents(&db), expected);
    db.close().unwrap();
    let report = Doctor::new("db").env(env.clone()).verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report}");
    let db = open(&env);
    assert_eq!(contents(&db), expected);
    db.compact_all().unwrap();
    assert_eq!(contents(&db), expected);
}

/// Deletes with a deadline count from when the table joined.
#[test]
fn what_is_ingested_knows_whether_it_has_tombstones() {
    for (keys, has_tombstones) in [(&["a", "b"][..], false), (&["a", "-b"], true)] {
        let env = Env::memory(0);
        let db = open(&env);
        let path = table(&env, "t", keys, "ingested");
        db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
        db.close().unwrap();
        let catalog = Manifest::recover(&*env.fs, Path::new("db")).unwrap().unwrap().catalog;
        let mut tables = catalog.keyspaces.values().flat_map(|state| state.tables.values());
        let times = tables.next().unwrap().properties.extras.times.unwrap();
        assert_eq!(times.oldest_tombstone, has_tombstones.then_some(times.newest), "{keys:?}");
    }
}

#[test]
fn tables_go_as_deep_as_they_fit_and_disjoint_memtables_stay() {
    let env = Env::memory(0);
    let db = open(&env);
    let level = |keys: &[&str], name: &str| {
        let path = table(&env, name, keys, name);
        let report = db.ingest(db.default_keyspace(), &[path], COPY).unwrap();
        report.tables[0].level
    };
    db.put("z", "in memory").unwrap();
    assert_eq!(level(&["a", "c"], "1"), 6);
    assert_eq!(level(&["d", "f"], "2"), 6);
    assert_eq!(level(&["b"], "3"), 5);
    assert_eq!(level(&["a", "f"], "4"), 4);
    assert_eq!(db.stats().counters.flushes, 0);
    assert_eq!(level(&["y", "zz"], "5"), 0);
    assert_eq!(db.stats().counters.flushes, 1);
    assert_eq!(contents(&db), "a=4 b=3 c=1 d=2 f=4 y=5 z=in memory zz=5");
    assert!(db.events().iter().any(|(_, event)| {
        event.to_string().starts_with("ingested into default: ")
            && event.to_string().contains("1 tables as 2,")
    }));
    assert_eq!(db.stats().counters.ingested_tables, 5);
}

#[test]
fn all_files_or_none() {
    let env = Env::memory(0);
    let db = open(&env);
    db.put("m", "written").unwrap();
    let good = table(&env, "good", &["a", "b"], "1");
    let bad = table(&env, "bad", &["x", "y"], "2");
    let file = env.fs.open_for_write(&bad).unwrap();
    let mut byte = [0];
    file.read_exact_at(60, &mut byte).unwrap();
    file.write_all_at(60, &[byte[0] ^ 1]).unwrap();
    for options in [COPY, MOVE] {
        let error = db.ingest(db.default_keyspace(), &[&good, &bad], options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert_eq!(
            error.to_string(),
            "outside/bad is damaged at offset 0: file does not have the checksum that its footer says"
        );
        assert_eq!(contents(&db), "m=written");
        assert!(env.fs.exists(&good).unwrap() && env.fs.exists(&bad).unwrap());
        assert_tidy(&db, &*env.fs, "after a failure");
    }
    file.write_all_at(60, &byte).unwrap();
    let report = db.ingest(db.default_keyspace(), &[&bad, &good], MOVE).unwrap();
    assert_eq!(
        report.tables.iter().map(|t| t.path.clone()).collect::<Vec<_>>(),
        [good.clone(), bad.clone()]
    );
    assert_eq!(contents(&db), "a=1 b=1 m=written x=2 y=2");
    assert!(!env.fs.exists(&good).unwrap() && !env.fs.exists(&bad).unwrap());
    db.close().unwrap();
    assert_exact(&*env.fs, Path::new("db"), "closed");
}

#[test]
fn what_is_no_table_from_outside_is_refused() {
    let env = Env::memory(0);
    let db = open(&env);
    let refused = |paths: &[&Path]| {
        let error = db.ingest(db.default_keyspace(), paths, COPY).unwrap_err();
        format!("{}: {error}", error.kind().name())
    };
    let (a, b) = (table(&env, "a", &["a", "m"], "1"), table(&env, "b", &["m", "z"], "2"));
    assert_eq!(
        refused(&[&b, &a]),
        "invalid input: outside/a and outside/b overlap: the one ends with key \"m\", the other \
         starts with \"m\""
    );
    assert!(refused(&[&a, &a]).starts_with("invalid input: outside/a and outside/a overlap"));
    assert!(refused(&[Path::new("outside/none")]).starts_with("i/o error: "));
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    let own = env.fs.list(Path::new("db")).unwrap();
    let own = own.into_iter().find(|entry| entry.name.ends_with(".table")).unwrap();
    let own = Path::new("db").join(own.name);
    assert_eq!(
        refused(&[&own]),
        format!(
            "invalid input: {} cannot be ingested: it was not written by a table writer",
            own.display()
        )
    );
    let named = TableWriterOptions { keyspace: Some("users".into()), ..Default::default() };
    let mut writer = TableWriter::create_in(&env, "outside/users", named).unwrap();
    writer.put("k", "v").unwrap();
    let path = writer.finish().unwrap().path;
    assert_eq!(
        refused(&[&path]),
        "invalid input: outside/users cannot be ingested: it is for the keyspace \"users\", not \
         \"default\""
    );
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    db.ingest(&users, &[path], COPY).unwrap();
    assert_eq!(users.get("k").unwrap().unwrap(), "v");
    assert_eq!(db.ingest::<&Path>(&users, &[], COPY).unwrap().tables, []);
    db.drop_keyspace(&users).unwrap();
    assert_eq!(db.ingest(&users, &[&a], COPY).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn writer_takes_each_key_once_in_ascending_order() {
    let env = Env::memory(0);
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let path = Path::new("outside/t");
    let mut writer = TableWriter::create_in(&env, path, TableWriterOptions::default()).unwrap();
    assert!(TableWriter::create_in(&env, path, TableWriterOptions::default()).is_err());
    writer.put("", "the empty key comes first").unwrap();
    writer.put("m", "1").unwrap();
    for key in ["m", "l"] {
        let error = writer.put(key, "2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            format!(
                "key \"{key}\" does not follow \"m\": a table takes each key once, in ascending order"
            )
        );
    }
    assert!(writer.put(vec![0; 70_000], "").is_err());
    writer.delete("n").unwrap();
    let info = writer.finish().unwrap();
    assert_eq!((info.entries, &*info.smallest, &*info.largest), (3, &b""[..], &b"n"[..]));
    assert_eq!(info.bytes, env.fs.open(path).unwrap().len().unwrap());
    let other = Path::new("outside/u");
    let writer = TableWriter::create_in(&env, other, TableWriterOptions::default()).unwrap();
    assert_eq!(
        writer.finish().unwrap_err().to_string(),
        "a table has at least one entry, or range to delete"
    );
    assert!(!env.fs.exists(other).unwrap());
    let mut writer = TableWriter::create_in(&env, other, TableWriterOptions::default()).unwrap();
    writer.put("k", "v").unwrap();
    drop(writer);
    assert!(!env.fs.exists(other).unwrap());
}

/// A database whose keys "a" to "f" are written, one of them twice, with operands to join.
fn database_with_operator(env: &Env) -> Db {
    let keyspace = KeyspaceOptions { merge_operator: merge_operator(), ..Default::default() };
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder("db").env(env.clone()).options(options);
    let db = builder.default_keyspace(keyspace).open().unwrap();
    for key in ["a", "b", "c", "d", "e", "f"] {
        db.put(key, "old").unwrap();
    }
    db
}

#[test]
fn everything_that_can_be_written_can_be_ingested() {
    let env = Env::memory(0);
    let db = database_with_operator(&env);
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let path = Path::new("outside/t");
    let mut writer = TableWriter::create_in(&env, path, TableWriterOptions::default()).unwrap();
    // Before the entries, behind them, overlapping, and of nothing.
    writer.delete_range("c".."d").unwrap();
    writer.merge("a", "more").unwrap();
    writer.single_delete("b").unwrap();
    writer.put_with_expiry("c", "for a while", far_away()).unwrap();
    writer.delete_range("d".."d").unwrap();
    writer.delete_range("c\0"..="e").unwrap();
    writer.put_with_expiry("e", "for ever", Expiry::Never).unwrap();
    writer.put_with_expiry("f", "was never", Expiry::At(UNIX_EPOCH)).unwrap();
    let info = writer.finish().unwrap();
    assert_eq!((info.entries, info.deleted_ranges), (5, 1));
    assert_eq!((&*info.smallest, &*info.largest), (&b"a"[..], &b"f"[..]));

    let before = db.snapshot();
    let report = db.ingest(db.default_keyspace(), &[path], COPY).unwrap();
    // Six writes; the ranges have the number before that of the entries.
    assert_eq!((report.seqno, report.tables[0].entries), (8, 5));
    let old = "a=old b=old c=old d=old e=old f=old";
    let view = before.keyspace(db.default_keyspace());
    let seen_before = || {
        let entries = view.scan::<&[u8]>(..).map(Result::unwrap);
        entries
            .map(|(k, v)| format!("{}={} ", k.escape_ascii(), v.escape_ascii()))
            .collect::<String>()
    };
    let now = "a=old+more c=for a while e=for ever";
    assert_eq!((contents(&db).as_str(), seen_before().trim_end()), (now, old));
    assert_eq!(db.expires_at("c").unwrap(), Some(far_away()));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!((contents(&db).as_str(), seen_before().trim_end()), (now, old));
    drop((before, view));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(contents(&db), now);
    db.put("d", "new").unwrap();
    db.close().unwrap();
    assert_eq!(contents(&database_read(&env)), "a=old+more c=for a while d=new e=for ever");
}

/// The database, as it is.
fn database_read(env: &Env) -> Db {
    let keyspace = KeyspaceOptions { merge_operator: merge_operator(), ..Default::default() };
    Db::builder("db").env(env.clone()).default_keyspace(keyspace).open().unwrap()
}

fn far_away() -> Expiry {
    Expiry::At(UNIX_EPOCH + Duration::from_millis(1 << 50))
}

#[test]
fn table_that_only_deletes_ranges_outlives_its_manifest() {
    let env = Env::memory(0);
    let db = database_with_operator(&env);
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let mut paths = Vec::new();
    // The one ends where the other starts.
    for (name, range) in [("t", "b".."c"), ("u", "c".."d")] {
        let path = Path::new(OUTSIDE).join(name);
        let mut writer = TableWriter::create_in(&env, &path, Default::default()).unwrap();
        writer.delete_range(range).unwrap();
        paths.push(writer.finish().unwrap().path);
    }
    db.ingest(db.default_keyspace(), &paths, MOVE).unwrap();
    db.put("c", "new").unwrap();
    let expected = "a=old c=new d=old e=old f=old";
    assert_eq!(contents(&db), expected);
    db.close().unwrap();
    let dir = Path::new("db");
    let doctor = Doctor::new(dir).env(env.clone());
    assert!(doctor.verify(&mut |_| {}).unwrap().is_sound());
    let manifests = env.fs.list(dir).unwrap().into_iter().map(|entry| entry.name);
    for name in manifests.filter(|name| name.ends_with(".manifest")) {
        env.fs.remove(&dir.join(name)).unwrap();
    }
    doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(doctor.verify(&mut |_| {}).unwrap().is_sound());
    assert_eq!(contents(&database_read(&env)), expected);
}

#[test]
fn deletes_of_ranges_follow_the_order_of_the_keyspace() {
    let env = Env::memory(0);
    let db = open(&env);
    let order = Order::reverse_bytewise();
    let options = KeyspaceOptions { order: order.clone(), ..KeyspaceOptions::default() };
    let reverse = db.keyspace("reverse", options).unwrap();
    for key in ["a", "b", "c", "d"] {
        reverse.put(key, "old").unwrap();
    }
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let options = || TableWriterOptions { order: order.clone(), ..Default::default() };
    let mut writer = TableWriter::create_in(&env, "outside/t", options()).unwrap();
    let inverted = writer.delete_range("b".."c").unwrap_err().to_string();
    assert_eq!(inverted, "the range to delete ends before it starts");
    writer.delete_range("c".."a").unwrap();
    let first = writer.finish().unwrap().path;
    let mut writer = TableWriter::create_in(&env, "outside/u", options()).unwrap();
    writer.put("b", "overlaps").unwrap();
    let second = writer.finish().unwrap().path;
    let error = db.ingest(&reverse, &[&first, &second], COPY).unwrap_err().to_string();
    assert!(error.starts_with("outside/t and outside/u overlap: "), "{error}");
    db.ingest(&reverse, &[&first], COPY).unwrap();
    let keys: Vec<_> = reverse.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!(keys, [&b"d"[..], b"a"]);
}

#[test]
fn what_a_table_cannot_delete_or_merge_is_refused() {
    let env = Env::memory(0);
    let db = open(&env);
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let path = Path::new("outside/t");
    let mut writer = TableWriter::create_in(&env, path, TableWriterOptions::default()).unwrap();
    let longest = vec![0xff; 65_535];
    let refused = |error: Error| (error.kind(), error.to_string());
    for (error, text) in [
        (writer.delete_range("a"..), "a range that a table deletes has an end"),
        (
            writer.delete_range(&longest[..]..=&longest[..]),
            "a range that a table deletes has an end",
        ),
        (writer.delete_range("b".."a"), "the range to delete ends before it starts"),
    ] {
        let expected = (ErrorKind::InvalidInput, text.to_owned());
        assert_eq!(refused(error.unwrap_err()), expected);
    }
    let error = writer.delete_range(vec![0; 65_536]..vec![1]).unwrap_err();
    assert_eq!(error.to_string(), "the key has 65536 bytes, and at most 65535 are allowed");
    writer.merge("k", "operand").unwrap();
    let path = writer.finish().unwrap().path;
    let error = db.ingest(db.default_keyspace(), &[path], MOVE).unwrap_err();
    let text = "outside/t cannot be ingested: it has merge operands, and the keyspace \"default\" has \
                no merge operator";
    assert_eq!(refused(error), (ErrorKind::InvalidInput, text.to_owned()));
    assert!(env.fs.exists(Path::new("outside/t")).unwrap());
}

#[test]
fn keys_in_another_order_go_to_a_keyspace_of_that_order_only() {
    let env = Env::memory(0);
    let db = open(&env);
    env.fs.create_dir_all(Path::new(OUTSIDE)).unwrap();
    let order = Order::reverse_bytewise();
    let options = TableWriterOptions { order: order.clone(), ..Default::default() };
    let mut writer = TableWriter::create_in(&env, "outside/t", options).unwrap();
    writer.put("b", "1").unwrap();
    writer.put("a", "2").unwrap();
    let error = writer.put("ab", "3").unwrap_err().to_string();
    assert!(error.starts_with("key \"ab\" does not follow \"a\""), "{error}");
    let info = writer.finish().unwrap();
    assert_eq!((&*info.smallest, &*info.largest), (&b"b"[..], &b"a"[..]));
    let error = db.ingest(db.default_keyspace(), &[&info.path], COPY).unwrap_err();
    assert_eq!(
        error.to_string(),
        "outside/t cannot be ingested: its keys are in the order \"reverse-bytewise\", those of the \
         keyspace in \"bytewise\""
    );
    let reverse = KeyspaceOptions { order, ..KeyspaceOptions::default() };
    let reverse = db.keyspace("reverse", reverse).unwrap();
    db.ingest(&reverse, &[&info.path], COPY).unwrap();
    let mut loader = db.bulk_loader(&reverse).unwrap();
    loader.put("c", "0").unwrap();
    loader.put("aa", "1.5").unwrap();
    loader.finish().unwrap();
    let keys: Vec<_> = reverse.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!(keys, [&b"c"[..], b"b", b"aa", b"a"]);
}

#[test]
fn same_file_can_be_ingested_twice_and_by_two_databases() {
    let env = Env::memory(0);
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
    db.put("a", "2").unwrap();
    db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
    assert_eq!(contents(&db), "a=1 b=1");
    let other = Db::builder("other").env(env.clone()).open().unwrap();
    other.ingest(other.default_keyspace(), &[&path], MOVE).unwrap();
    assert_eq!(contents(&other), "a=1 b=1");
}

/// The original of a move could not be removed, as after a crash that came too soon: it is one file
/// with the table. Moved once more it got the record of another table, and the first could not be
/// read any more.
#[test]
fn file_that_a_move_left_behind_may_be_moved_again() {
    let memory = Arc::new(MemoryFileSystem::new(0));
    let faults = FaultFileSystem::new(memory, Env::memory(0).clock);
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(0) };
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Remove]).path("t"));
    let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    assert_eq!(report.not_removed, std::slice::from_ref(&path));
    faults.clear();
    db.put("a", "2").unwrap();
    db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    assert!(!env.fs.exists(&path).unwrap());
    db.close().unwrap();
    let db = open(&env);
    assert_eq!(contents(&db), "a=1 b=1");
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(contents(&db), "a=1 b=1");
}

/// A producer gave the name to its next file meanwhile: that one was linked in place of what had been checked, and
/// cut; or it was removed, though nobody had taken it in.
#[test]
fn a_file_that_gets_the_name_of_one_that_is_moved_is_left_alone() {
    for links in [true, false] {
        let memory = Env::memory(0);
        let faults = FaultFileSystem::new(Arc::clone(&memory.fs), Arc::clone(&memory.clock));
        let env = Env { fs: Arc::new(faults.clone()), ..memory.clone() };
        let db = open(&env);
        let path = table(&env, "t", &["a", "b"], "1");
        let next = table(&env, "next", &["a", "b", "c", "d", "e"], "2");
        if !links {
            faults.add(Rule::new(Fault::Error(18)).on(&[Operation::Link]));
        }
        let (fs, name, has_come) = (memory.fs, path.clone(), AtomicBool::new(false));
        faults.observe(move |call| {
            if call.operation == Operation::Link && !has_come.swap(true, Ordering::Relaxed) {
                fs.rename(&next, &name).unwrap();
            }
        });
        let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
        assert_eq!(report.not_removed, [""; 0].map(PathBuf::from));
        faults.observe(|_| {});
        assert_eq!(contents(&db), "a=1 b=1", "{links}");
        db.ingest(db.default_keyspace(), &[&path], COPY).unwrap();
        assert_eq!(contents(&db), "a=2 b=2 c=2 d=2 e=2", "{links}");
        // What it is cannot be told.
        faults.add(Rule::new(Fault::Error(24)).on(&[Operation::Open]).path("t").when(When::Nth(2)));
        let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
        assert_eq!(report.not_removed, std::slice::from_ref(&path), "{:?}", faults.injected());
        faults.clear();
        assert!(env.fs.exists(&path).unwrap());
    }
}

/// The same table was delivered again, and had not come as a whole yet.
#[test]
fn a_part_of_the_file_that_is_moved_is_not_taken_for_it() {
    let memory = Env::memory(0);
    let faults = FaultFileSystem::new(Arc::clone(&memory.fs), Arc::clone(&memory.clock));
    let env = Env { fs: Arc::new(faults.clone()), ..memory.clone() };
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    let part = Path::new(OUTSIDE).join("part");
    let mut bytes = vec![0; 100];
    env.fs.open(&path).unwrap().read_exact_at(0, &mut bytes).unwrap();
    env.fs.create(&part).unwrap().write_all_at(0, &bytes).unwrap();
    let (fs, name, has_come) = (memory.fs, path.clone(), AtomicBool::new(false));
    faults.observe(move |call| {
        if call.operation == Operation::Link && !has_come.swap(true, Ordering::Relaxed) {
            fs.rename(&part, &name).unwrap();
        }
    });
    db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    assert_eq!(contents(&db), "a=1 b=1");
    assert!(env.fs.exists(&path).unwrap());
}

/// Nothing of the database is in that directory, and yet it took no more writes.
#[test]
fn a_directory_of_the_users_own_that_cannot_be_synced_does_no_harm_to_the_database() {
    let memory = Env::memory(0);
    let faults = FaultFileSystem::new(Arc::clone(&memory.fs), Arc::clone(&memory.clock));
    let env = Env { fs: Arc::new(faults.clone()), ..memory };
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::SyncDir]).path(OUTSIDE));
    let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    assert_eq!(report.not_removed, [path]);
    db.put_with("a", "2", Durability::Power).unwrap();
    db.flush().unwrap();
    assert_eq!(contents(&db), "a=2 b=1");
    db.close().unwrap();
}

/// The second ingest wrote its record over that of the first, whose table could not be read any more. Found
/// by reading RocksDB's tests, where threads give the same files.
#[test]
fn a_file_that_two_ingests_move_at_once_becomes_two_tables() {
    for ends_first in [false, true] {
        let memory = Env::memory(0);
        let faults = FaultFileSystem::new(Arc::clone(&memory.fs), Arc::clone(&memory.clock));
        let faults = Arc::new(faults);
        let env = Env { fs: Arc::clone(&faults) as _, ..memory };
        let db = open(&env);
        let path = table(&env, "t", &["a", "b"], "1");
        let (other, file) = (db.clone(), path.clone());
        let (links, has_begun) = (AtomicU64::new(0), AtomicBool::new(false));
        faults.observe(move |call| {
            // The other one comes right before the file gets its second name, or behind that.
            let is_time = match call.operation {
                Operation::Link => links.fetch_add(1, Ordering::Relaxed) == 0 && ends_first,
                Operation::Read => links.load(Ordering::Relaxed) == 1 && !ends_first,
                _ => false,
            };
            if is_time && !has_begun.swap(true, Ordering::Relaxed) {
                let report = other.ingest(other.default_keyspace(), &[&file], MOVE).unwrap();
                assert_eq!(report.not_removed, [""; 0].map(PathBuf::from));
            }
        });
        let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
        assert_eq!(report.not_removed, [""; 0].map(PathBuf::from));
        assert!(!env.fs.exists(&path).unwrap());
        faults.observe(|_| {});
        assert_eq!(contents(&db), "a=1 b=1");
        db.close().unwrap();
        let report = Doctor::new("db").env(env.clone()).verify(&mut |_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(contents(&open(&env)), "a=1 b=1");
    }
}

/// It was refused, as the record that makes it a table of the database could not be written behind it.
#[test]
fn a_file_that_nobody_may_write_to_is_copied() {
    let memory = Env::memory(0);
    let faults = FaultFileSystem::new(Arc::clone(&memory.fs), Arc::clone(&memory.clock));
    let faults = Arc::new(faults);
    let env = Env { fs: Arc::clone(&faults) as _, ..memory };
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    let refused = Rule::new(Fault::Error(13)).on(&[Operation::OpenForWrite]).path(".table");
    faults.add(refused.when(When::Nth(0)));
    let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    assert!(report.not_removed.is_empty() && !env.fs.exists(&path).unwrap());
    db.close().unwrap();
    assert_eq!(contents(&open(&env)), "a=1 b=1");
}

/// The link became the table, and the database fell with the file that it leads to. Found by the same.
#[test]
fn what_a_symbolic_link_leads_to_is_copied() {
    let dir = TempDir::new("ingest-link");
    let env = Env::os();
    let real = dir.path().join("real.table");
    for target in [real.as_path(), Path::new("real.table")] {
        let mut writer = TableWriter::create(&real, TableWriterOptions::default()).unwrap();
        writer.put("a", "1").unwrap();
        writer.finish().unwrap();
        let link = dir.path().join("link.table");
        std::os::unix::fs::symlink(target, &link).unwrap();
        let builder = Db::builder(dir.path().join("db")).env(env.clone());
        let db = builder.clone().open().unwrap();
        let report = db.ingest(db.default_keyspace(), &[&link], MOVE).unwrap();
        assert!(report.not_removed.is_empty() && !env.fs.exists(&link).unwrap());
        db.close().unwrap();
        env.fs.remove(&real).unwrap();
        assert_eq!(contents(&builder.open().unwrap()), "a=1");
    }
}

/// The file was gone from the directory of its database, which could not be opened again.
#[test]
fn a_table_of_a_database_may_be_copied_and_not_moved() {
    let env = Env::memory(0);
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "1");
    let report = db.ingest(db.default_keyspace(), &[&path], MOVE).unwrap();
    let own = db.path().join(&report.tables[0].file);
    db.put("a", "2").unwrap();
    let error = db.ingest(db.default_keyspace(), &[&own], MOVE).unwrap_err();
    let what = format!("{} cannot be moved: it is a table of a database", own.display());
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, what));
    assert_eq!(contents(&db), "a=2 b=1");
    db.ingest(db.default_keyspace(), &[&own], COPY).unwrap();
    db.close().unwrap();
    assert_eq!(contents(&open(&env)), "a=1 b=1");
}

#[test]
fn doctor_verifies_and_rebuilds_a_manifest_with_ingested_tables() {
    let env = Env::memory(0);
    let db = open(&env);
    for (round, keys) in [["a", "b"], ["b", "c"], ["a", "c"]].iter().enumerate() {
        db.put("c", format!("written {round}")).unwrap();
        let path = table(&env, &format!("t{round}"), keys, &format!("ingested {round}"));
        db.ingest(db.default_keyspace(), &[path], if round == 1 { MOVE } else { COPY }).unwrap();
    }
    db.put("b", "last").unwrap();
    db.flush().unwrap();
    let expected = contents(&db);
    assert_eq!(expected, "a=ingested 2 b=last c=ingested 2");
    db.close().unwrap();
    let dir = Path::new("db");
    let doctor = Doctor::new(dir).env(env.clone());
    let verify = || doctor.verify(&mut |_| {}).unwrap();
    assert!(verify().is_sound(), "{:?}", verify().findings);
    let manifests = env.fs.list(dir).unwrap().into_iter().map(|entry| entry.name);
    for name in manifests.filter(|name| name.ends_with(".manifest")) {
        env.fs.remove(&dir.join(name)).unwrap();
    }
    assert!(!verify().is_sound());
    doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(verify().is_sound(), "{:?}", verify().findings);
    let db = open(&env);
    assert_eq!(contents(&db), expected);
    db.put("a", "goes on").unwrap();
    assert_eq!(contents(&db), "a=goes on b=last c=ingested 2");
}

/// The header names the database that the table was written in, and was mended as if it named this
/// one: then nothing of the table could be read.
#[test]
fn a_damaged_header_of_an_ingested_table_costs_nothing() {
    for (offset, has_manifest) in [(0, true), (5, true), (20, false), (44, true), (44, false)] {
        let env = Env::memory(0);
        let db = open(&env);
        let path = table(&env, "t", &["a", "b"], "ingested");
        db.ingest(db.default_keyspace(), &[path], COPY).unwrap();
        db.put("c", "written").unwrap();
        db.flush().unwrap();
        let expected = contents(&db);
        db.close().unwrap();
        let names = env.fs.list(Path::new("db")).unwrap().into_iter().map(|entry| entry.name);
        let mut names: Vec<_> = names.collect();
        names.sort();
        let ingested = names.iter().find(|name| name.ends_with(".table")).unwrap();
        let file = env.fs.open_for_write(&Path::new("db").join(ingested)).unwrap();
        let mut byte = [0];
        file.read_exact_at(offset, &mut byte).unwrap();
        file.write_all_at(offset, &[byte[0] ^ 1]).unwrap();
        for name in names.iter().filter(|name| !has_manifest && name.contains(".manifest")) {
            env.fs.remove(&Path::new("db").join(name)).unwrap();
        }
        let doctor = Doctor::new("db").log_dir("db").env(env.clone());
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.set_aside.contains(ingested), "{report}");
        assert!(report.lost.is_empty(), "{offset} {has_manifest}: {report}");
        assert_eq!(contents(&open(&env)), expected, "{report}");
    }
}

/// A table that was taken over says in its header that it is of another database. It counted as one
/// that somebody had put there, so an older manifest was believed, and the table removed.
#[test]
fn an_ingested_table_that_the_manifest_does_not_know_says_that_a_newer_one_is_missing() {
    let env = Env::memory(0);
    let dir = Path::new("db");
    open(&env).close().unwrap();
    let manifests = || {
        let names = env.fs.list(dir).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.contains(".manifest")).collect::<Vec<_>>()
    };
    let newest = manifests().into_iter().find(|name| name.ends_with(".manifest")).unwrap();
    let file = env.fs.open(&dir.join(&newest)).unwrap();
    let mut old = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(0, &mut old).unwrap();
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "ingested");
    db.ingest(db.default_keyspace(), &[path], COPY).unwrap();
    db.close().unwrap();
    manifests().iter().for_each(|name| env.fs.remove(&dir.join(name)).unwrap());
    env.fs.create(&dir.join(&newest)).unwrap().write_all_at(0, &old).unwrap();

    let error = Db::builder("db").env(env.clone()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().ends_with("a newer one is missing"), "{error}");
    let doctor = Doctor::new("db").env(env.clone());
    assert!(!doctor.verify(&mut |_| {}).unwrap().is_sound());
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(contents(&open(&env)), "a=ingested b=ingested", "{report}");
}

/// All that is left of a database is a table that it took over. Its header names another one, and so
/// nothing told which database it was.
#[test]
fn a_table_that_was_taken_over_tells_whose_it_is() {
    let env = Env::memory(0);
    let db = open(&env);
    let path = table(&env, "t", &["a", "b"], "ingested");
    db.ingest(db.default_keyspace(), &[path], MOVE).unwrap();
    db.close().unwrap();
    let dir = Path::new("db");
    for entry in env.fs.list(dir).unwrap() {
        if !entry.name.ends_with(".table") && entry.name != "LOCK" {
            env.fs.remove(&dir.join(entry.name)).unwrap();
        }
    }
    let doctor = Doctor::new(dir).log_dir(dir).env(env.clone());
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(contents(&open(&env)), "a=ingested b=ingested", "{report}");
}

#[test]
fn read_only_database_takes_nothing() {
    let env = Env::memory(0);
    open(&env).close().unwrap();
    let path = table(&env, "t", &["a"], "1");
    let db = Db::builder("db").env(env.clone()).read_only(true).open().unwrap();
    let error = db.ingest(db.default_keyspace(), &[path], COPY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(db.bulk_loader(db.default_keyspace()).unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// A table that was begun under a relative path was removed, where it was not finished, by that path: once
/// the process had gone elsewhere, a file of that name there. Found by reading, beside that of databases.
#[test]
fn a_table_stays_where_it_was_begun() {
    let dir = TempDir::new("table-writer");
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(dir.path().strip_prefix("/").unwrap()).join("a.table");
    let os = Env::os();
    let faults = FaultFileSystem::new(Arc::clone(&os.fs), Arc::clone(&os.clock));
    faults.observe(|call| assert!(call.path.is_absolute(), "{:?}", call.operation));
    let env = Env { fs: Arc::new(faults), ..os };
    let begin = || TableWriter::create_in(&env, &relative, TableWriterOptions::default()).unwrap();
    begin().put("k", "v").unwrap();
    assert!(!relative.exists(), "dropped before it was finished");
    let mut writer = begin();
    writer.put("k", "v").unwrap();
    assert_eq!(writer.finish().unwrap().path, here.join(&relative));
}
