//! What people do to directories themselves: files of theirs beside those of a database, copies, old
//! files that they put back, other names for the same place.

use std::path::{Path, PathBuf};

use esker::doctor::Doctor;
use esker::env::{FileSystem as _, MemoryFileSystem};
use esker::{Db, ErrorKind, KeyspaceOptions, Options, RecoveryMode, Result};

use crate::files;
use crate::recovered::{DIR, env_of, open, options};

/// The names of files in the directory that end so.
fn names(fs: &MemoryFileSystem, end: &str) -> Vec<String> {
    files::read_all(fs, Path::new(DIR)).into_keys().filter(|name| name.ends_with(end)).collect()
}

#[test]
fn files_that_are_nearly_called_as_those_of_a_database_are_left_alone() {
    let fs = MemoryFileSystem::new(1);
    let env = env_of(&fs);
    let db = open(&env, &options()).unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let table = names(&fs, ".table").remove(0);
    let mut foreign: Vec<String> = [
        ".DS_Store",
        "._1-00000001.table",
        ".table",
        "1-1.table",
        "1-00000001.sst",
        "CURRENT",
        "MANIFEST-000001",
        "backup.table",
        "notes.txt",
        "table",
        "x.blob",
        "x.log",
    ]
    .map(str::to_owned)
    .to_vec();
    foreign.extend([format!("{table}.bak"), format!("{table}~"), format!("copy of {table}")]);
    let path = |name: &str| Path::new(DIR).join(name);
    foreign.iter().for_each(|name| files::write(&fs, &path(name), b"of somebody else"));
    for is_read_only in [true, false] {
        let builder = Db::builder(DIR).env(env.clone()).options(options());
        let db = builder.read_only(is_read_only).open().unwrap();
        assert_eq!(db.get("a").unwrap().unwrap(), "1");
        if !is_read_only {
            db.put("b", "2").unwrap();
            db.compact::<&str>(..).unwrap();
        }
        db.close().unwrap();
    }
    let report = Doctor::new(DIR).env(env).verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report}");
    let all = files::read_all(&fs, Path::new(DIR));
    for name in &foreign {
        assert_eq!(all.get(name).map(Vec::as_slice), Some(&b"of somebody else"[..]), "{name}");
    }
}

/// Who found his log again after he had gone on without it would have had the past over the present.
#[test]
fn a_log_that_was_given_up_and_comes_back_is_not_read_again() {
    let fs = MemoryFileSystem::new(1);
    let env = env_of(&fs);
    let db = open(&env, &options()).unwrap();
    db.put("flushed", "1").unwrap();
    db.flush().unwrap();
    db.put("key", "old").unwrap();
    drop(db);
    let dir = Path::new(DIR);
    let logs: Vec<_> =
        files::read_all(&fs, dir).into_iter().filter(|(name, _)| name.ends_with(".log")).collect();
    assert!(!logs.is_empty());
    logs.iter().for_each(|(name, _)| fs.remove(&dir.join(name)).unwrap());
    assert_eq!(open(&env, &options()).unwrap_err().kind(), ErrorKind::Corruption);
    let builder = Db::builder(DIR).env(env.clone()).options(options());
    let db = builder.recovery(RecoveryMode::PointInTime).open().unwrap();
    assert_eq!(db.iter().count(), 1);
    for key in ["key", "more"] {
        db.put(key, "new").unwrap();
    }
    db.flush().unwrap();
    db.put("last", "new").unwrap();
    drop(db);
    logs.iter().for_each(|(name, bytes)| files::write(&fs, &dir.join(name), bytes));
    let db = open(&env, &options()).unwrap();
    let entries: Vec<_> = db.iter().map(Result::unwrap).collect();
    assert!(entries.iter().map(|(key, _)| key).eq(&["flushed", "key", "last", "more"]));
    assert!(entries.iter().map(|(_, value)| value).eq(&["1", "new", "new", "new"]));
}

/// Both say that they are the same one.
#[test]
fn a_copy_and_its_original_are_two_databases_at_the_same_time() {
    let fs = MemoryFileSystem::new(1);
    let env = env_of(&fs);
    let db = open(&env, &options()).unwrap();
    let blobs = KeyspaceOptions { blob_threshold_bytes: Some(32), ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("k", blobs).unwrap();
    for number in 0..100_u8 {
        keyspace.put([number], [number; 100]).unwrap();
    }
    keyspace.flush().unwrap();
    keyspace.put([100], [100; 100]).unwrap();
    drop(keyspace);
    db.close().unwrap();
    fs.create_dir_all(Path::new("copy")).unwrap();
    for (name, bytes) in files::read_all(&fs, Path::new(DIR)) {
        files::write(&fs, &Path::new("copy").join(name), &bytes);
    }
    let original = open(&env, &options()).unwrap();
    let copy = Db::builder("copy").env(env).options(options()).open().unwrap();
    let of = |db: &Db| db.existing_keyspace("k").unwrap().unwrap();
    let (emptied, kept) = (of(&original), of(&copy));
    emptied.delete_range::<&[u8]>(..).unwrap();
    emptied.compact::<&[u8]>(..).unwrap();
    kept.put([101], [101; 100]).unwrap();
    assert_eq!(emptied.iter().count(), 0);
    for (number, value) in (0..102_u8).zip(kept.iter().values()) {
        assert_eq!(value.unwrap(), [number; 100]);
    }
    assert_eq!(kept.iter().count(), 102);
    // What is of one is of no use to the other.
    let error = copy.snapshot().keyspace(&emptied).get([1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut batch = copy.batch();
    batch.put(&emptied, "key", "value");
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!((of(&original).iter().count(), of(&copy).iter().count()), (0, 102));
}

#[test]
fn the_log_may_lie_in_the_directory_itself_or_in_one_inside_of_it() {
    let fs = MemoryFileSystem::new(1);
    let env = env_of(&fs);
    let at = |dir: &str, log_dir: Option<&str>| {
        let options = Options { log_dir: log_dir.map(PathBuf::from), ..options() };
        Db::builder(dir).env(env.clone()).options(options).open().unwrap()
    };
    // Named or not, and however it is written, it is the same place.
    let same = [Some("db"), None, Some("db/."), Some("./db"), None];
    for (round, log_dir) in same.into_iter().enumerate() {
        let db = at(DIR, log_dir);
        assert_eq!(db.iter().count(), round, "{log_dir:?}");
        db.put(round.to_string(), "value").unwrap();
    }
    for round in 0..3 {
        let db = at("other", Some("other/log"));
        assert_eq!(db.iter().count(), round);
        db.put(round.to_string(), "value").unwrap();
        if round == 1 {
            db.flush().unwrap();
        }
    }
    let doctor = Doctor::new("other").log_dir("other/log").env(env.clone());
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report}");
}
