//! Tables whose checksums are all right, and which no table builder has written.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::RepairOptions;
use esker::env::Env;
use esker::{Compression, Db, KeyspaceOptions, Options};
use esker_base::checksum::{checksum32, file_seed};
use esker_base::{
    EntryKind, FileHeader, FileId, FileKind, InternalKey, KeyspaceId, SeqNo, TableId,
};
use esker_table::{TableBuilder, TableIdentity, TableOptions};
use esker_tree::Manifest;

use super::sample::{DIR, Files};

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    let keyspace = KeyspaceOptions {
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    Db::builder(DIR).env(env.clone()).options(options).default_keyspace(keyspace).open().unwrap()
}

fn contents(env: &Env) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = open(env).iter().map(|entry| entry.unwrap()).collect::<Vec<_>>();
    entries.into_iter().map(|(key, value)| (text(&key), text(&value))).collect()
}

/// A table of one block, with the keys `b` to `e`, in which `suffixes` stand in their place.
fn reordered(suffixes: &[u8; 4]) -> Env {
    let env = Env::memory(1);
    let db = open(&env);
    for _ in 0..2 {
        for (key, value) in [("b", "1"), ("c", "2"), ("d", "3"), ("e", "4")] {
            db.put(key, value).unwrap();
        }
        db.flush().unwrap();
    }
    // They are written anew, and all have the number zero.
    db.compact_all().unwrap();
    db.close().unwrap();
    let files = Files(&env);
    let name = files.ending_with(".table").remove(0);
    let mut bytes = files.read(&name);
    let start = FileHeader::LEN;
    let database = FileHeader::decode(&bytes).unwrap().database;
    let seed = file_seed(database, FileId::parse_file_name(&name).unwrap().0);
    let checksum = |bytes: &[u8], end: usize| {
        checksum32(seed.wrapping_add(start as u64), &bytes[start..end]).to_le_bytes()
    };
    let ends = |end: &usize| bytes[*end..*end + 4] == checksum(&bytes, *end);
    let end = (start + 1..bytes.len() - 4).find(ends).expect("the block ends somewhere");
    let keys = bytes[start..end].windows(4).position(|four| four == b"bcde").unwrap() + start;
    bytes[keys..keys + 4].copy_from_slice(suffixes);
    // A column of numbers would stand before the ends of keys and values, which have a stride each.
    let numbers = bytes[start + 6] >> 4 & 7;
    assert_eq!(numbers, 0, "all numbers are equal");
    let sealed = checksum(&bytes, end);
    bytes[end..end + 4].copy_from_slice(&sealed);
    files.replace(&name, &bytes);
    env
}

/// Entries that do not ascend were dropped by a repair that said that nothing was lost. A table builder does
/// not take them, nor one entry twice.
#[test]
fn entries_that_do_not_ascend_are_told_and_left_out() {
    for (suffixes, kept, lost) in [
        (b"bdce", &[("b", "1"), ("d", "2"), ("e", "4")][..], &["keys from \"c\" up to \"c\""][..]),
        (b"bcce", &[("b", "1"), ("c", "2"), ("e", "4")], &["keys from \"c\" up to \"c\""]),
        (b"bbbb", &[("b", "1")], &["keys from \"b\" up to \"b\""]),
        (b"edcb", &[("e", "1")], &["keys from \"b\" up to \"d\""]),
    ] {
        let env = reordered(suffixes);
        let files = Files(&env);
        let name = files.ending_with(".table").remove(0);
        let what = "entries are not in ascending order";
        let report = files.verify();
        assert!(report.findings.iter().any(|it| it.file == name && it.what == what), "{report}");
        for dry_run in [true, false] {
            let options = RepairOptions { dry_run, ..RepairOptions::default() };
            let report = files.doctor().repair(&options, &mut |_| {}).unwrap();
            let told: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
            let lost = lost.iter().map(|keys| format!("{keys} of default ({name}: {what})"));
            assert_eq!(told, lost.collect::<Vec<_>>(), "{report}");
            let count = report.rebuilt.iter().map(|it| it.entries).collect::<Vec<_>>();
            assert_eq!(count, [kept.len() as u64], "{report}");
        }
        assert!(files.verify().is_sound(), "{}", files.verify());
        let kept: Vec<_> =
            kept.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(contents(&env), kept);
    }
}

/// The level that a table was built for is a byte of its properties, and says more levels than there are.
#[test]
fn a_table_of_a_level_that_there_is_not_goes_to_the_last() {
    for level in [0, 5, 6, 7, 8, 100, 255] {
        let env = Env::memory(1);
        let db = open(&env);
        db.put("of a table that is known", "value").unwrap();
        db.flush().unwrap();
        db.close().unwrap();
        let files = Files(&env);
        let database =
            Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog.database;
        files.manifests().iter().for_each(|name| files.remove(name));
        let id = FileId::parse_file_name(&files.ending_with(".table")[0]).unwrap().0;
        let id = TableId(FileId { counter: id.counter + 1, ..id });
        let identity = TableIdentity { database, id, keyspace: KeyspaceId::DEFAULT, level };
        let file = env.fs.create(&Path::new(DIR).join(id.0.file_name(FileKind::Table))).unwrap();
        let mut table = TableBuilder::new(Arc::clone(&file), identity, TableOptions::default());
        let key = InternalKey::new(b"of the other", SeqNo::ZERO, EntryKind::Put);
        table.add(key, b"value").unwrap();
        table.finish().unwrap();
        let doctor = files.doctor().log_dir(DIR);
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty() && report.kept.len() == 2, "{level}: {report}");
        assert_eq!(contents(&env).len(), 2, "{level}: {report}");
        let catalog = Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog;
        let place = catalog.keyspaces[&KeyspaceId::DEFAULT].tables[&id].level;
        let last = esker_tree::LEVEL_COUNT_MAX - 1;
        assert_eq!(place, usize::from(level).min(last), "{level}: {report}");
    }
}
