//! Keyspaces with Zstandard: tables with a dictionary and blob files, through a compaction, a reopen,
//! a verification and a repair without the manifest.

use std::path::Path;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{Env, FileExt as _};
use esker::{Compression, Db, KeyspaceOptions, Options};
use esker_base::{FileHeader, FileId, FileKind};
use esker_tree::Manifest;

const DIR: &str = "db";

/// Rows of one shape, every hundredth with a value that lies in a blob file.
const ROWS: u64 = 2_000;

fn options(zstd_dictionary_bytes: u32) -> KeyspaceOptions {
    KeyspaceOptions {
        compression: Compression::Zstd,
        shallow_compression: Compression::Zstd,
        zstd_dictionary_bytes,
        block_size_bytes: 512,
        blob_threshold_bytes: Some(1_000),
        ..KeyspaceOptions::default()
    }
}

fn open(env: &Env, dictionary_bytes: u32) -> Db {
    let database = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(database);
    builder.default_keyspace(options(dictionary_bytes)).open().unwrap()
}

fn row(number: u64) -> (String, String) {
    let country = ["Germany", "Portugal", "Argentina"][number as usize % 3];
    let population = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000;
    let row = format!("{{\"country\":\"{country}\",\"population\":{population}}}");
    let times = if number.is_multiple_of(100) { 50 } else { 1 };
    (format!("city/{number:06}"), row.repeat(times))
}

/// In two tables that overlap: a compaction merges them.
fn write_rows(db: &Db) {
    for first in [0, 1] {
        for number in (first..ROWS).step_by(2) {
            let (key, value) = row(number);
            db.put(key, value).unwrap();
        }
        db.flush().unwrap();
    }
}

fn assert_rows(db: &Db, when: &str) {
    let mut found = db.iter();
    for number in 0..ROWS {
        let (key, value) = row(number);
        let entry = found.next().unwrap().unwrap();
        assert_eq!((&*entry.0, &*entry.1), (key.as_bytes(), value.as_bytes()), "{when}");
        assert_eq!(db.get(&key).unwrap().unwrap(), value.as_bytes(), "{when}");
    }
    assert!(found.next().is_none(), "{when}");
}

/// The format version of each file of this kind.
fn formats(env: &Env, kind: FileKind) -> Vec<u16> {
    let entries = env.fs.list(Path::new(DIR)).unwrap().into_iter();
    let ours = entries.filter(|entry| {
        FileId::parse_file_name(&entry.name).is_some_and(|(_, found)| found == kind)
    });
    let format = |name: String| {
        let mut bytes = [0; FileHeader::LEN];
        let file = env.fs.open(&Path::new(DIR).join(name)).unwrap();
        file.read_exact_at(0, &mut bytes).unwrap();
        FileHeader::decode(&bytes).unwrap().format
    };
    ours.map(|entry| format(entry.name)).collect()
}

/// Data bytes of all tables, and how many of them have a dictionary.
fn tables(env: &Env) -> (u64, usize) {
    let catalog = Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog;
    let tables = || catalog.keyspaces.values().flat_map(|state| state.tables.values());
    let has_dictionary = tables().filter(|it| it.properties.extras.dictionary.is_some());
    (tables().map(|it| it.properties.data_bytes).sum(), has_dictionary.count())
}

#[test]
fn a_dictionary_makes_the_last_level_smaller_and_everything_reads_the_same() {
    let data_bytes = [0, 2_048].map(|dictionary_bytes| {
        let env = Env::memory(1);
        let db = open(&env, dictionary_bytes);
        write_rows(&db);
        assert_rows(&db, "flushed");
        db.compact_all().unwrap();
        assert_rows(&db, "compacted");
        db.close().unwrap();
        assert_eq!(formats(&env, FileKind::Table), [4]);
        assert!(formats(&env, FileKind::Blob).iter().all(|format| *format == 2));
        assert_rows(&open(&env, dictionary_bytes), "reopened");
        let (data_bytes, with_dictionary) = tables(&env);
        assert_eq!(with_dictionary, usize::from(dictionary_bytes != 0));
        data_bytes
    });
    assert!(data_bytes[1] < data_bytes[0] * 3 / 4, "{data_bytes:?}");
}

#[test]
fn a_database_in_zstandard_is_verified_and_repaired_without_its_manifest() {
    let env = Env::memory(1);
    let db = open(&env, 2_048);
    write_rows(&db);
    db.compact_all().unwrap();
    db.close().unwrap();
    assert!(!formats(&env, FileKind::Blob).is_empty());
    let doctor = Doctor::new(DIR).env(env.clone());
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report}");
    for entry in env.fs.list(Path::new(DIR)).unwrap() {
        if entry.name.contains(".manifest") {
            env.fs.remove(&Path::new(DIR).join(entry.name)).unwrap();
        }
    }
    let report = doctor.log_dir(DIR).repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(report.lost.is_empty(), "{report}");
    assert_rows(&open(&env, 2_048), "repaired");
}
