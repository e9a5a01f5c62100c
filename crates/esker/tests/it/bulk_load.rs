//! The bulk loader: sorted and unsorted input, what it replaces, and what it leaves behind.

use std::collections::BTreeMap;

use esker::env::Env;
use esker::{BulkLoadReport, Db, KeyspaceOptions, Options};

use crate::directory::assert_tidy;
use crate::random::Rng;

/// A database in memory whose loaders buffer a megabyte at most, with small tables.
fn open(env: &Env) -> Db {
    let options =
        Options { background_threads: 0, memory_budget_bytes: 4 << 20, ..Options::default() };
    let small = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    Db::builder("db").env(env.clone()).options(options).default_keyspace(small).open().unwrap()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn assert_holds(db: &Db, model: &Model) {
    let mut expected = model.iter();
    for entry in db.iter() {
        let (key, value) = entry.unwrap();
        assert_eq!(Some((&key.to_vec(), &value.to_vec())), expected.next());
    }
    assert_eq!(expected.next(), None);
}

fn load(db: &Db, entries: &[(Vec<u8>, Vec<u8>)]) -> BulkLoadReport {
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    for (key, value) in entries {
        loader.put(key, value).unwrap();
    }
    loader.finish().unwrap()
}

fn entries(rng: &mut Rng, count: u64, keys: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let one = |round: u64| {
        let key = format!("key {:08}", rng.below(keys)).into_bytes();
        (key, [&round.to_le_bytes()[..], &rng.bytes(200)].concat())
    };
    (0..count).map(one).collect()
}

#[test]
fn sorted_input_streams_into_a_settled_last_level() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut given = entries(&mut Rng::new(1), 20_000, 1 << 40);
    given.sort();
    let log_bytes = db.stats().counters.log_bytes;
    let report = load(&db, &given);
    let model: Model = given.into_iter().collect();
    assert_eq!((report.entries, report.spilled_runs), (model.len() as u64, 0));
    assert!(report.tables > 1, "{report:?}");
    assert_eq!(db.stats().counters.log_bytes, log_bytes);
    assert_eq!(db.stats().counters.write_operations, 0);
    let levels = db.levels();
    let filled: Vec<_> = levels.levels.iter().filter(|level| !level.runs.is_empty()).collect();
    assert_eq!((filled.len(), filled[0].level, filled[0].runs.len()), (1, 6, 1));
    db.wait_until_settled().unwrap();
    let counters = db.stats().counters;
    assert_eq!((counters.compactions, counters.trivial_moves), (0, 0), "nothing is left to do");
    assert_holds(&db, &model);
    db.close().unwrap();
    assert_holds(&open(&env), &model);
}

#[test]
fn unsorted_input_is_spilled_and_merged_and_the_last_write_of_a_key_wins() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut given = entries(&mut Rng::new(2), 3_000, 1 << 40);
    given.sort();
    // First ascending for a while, then not, over keys that repeat.
    given.extend(entries(&mut Rng::new(3), 20_000, 8_000));
    let report = load(&db, &given);
    let count = given.len() as u64;
    let model: Model = given.into_iter().collect();
    assert_eq!((report.entries, report.entries + report.replaced), (model.len() as u64, count));
    assert!(report.spilled_runs > 2, "{report:?}");
    assert_holds(&db, &model);
    assert_tidy(&db, &*env.fs, "loaded");
    assert_eq!(
        db.stats().memory.iter().find(|(owner, _)| *owner == "compaction").map(|m| m.1),
        Some(0)
    );
}

#[test]
fn load_into_a_filled_keyspace_replaces_what_is_there_for_readers_to_come() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut model = Model::new();
    let mut rng = Rng::new(4);
    for (key, value) in entries(&mut rng, 2_000, 3_000) {
        db.put(&key, &value).unwrap();
        model.insert(key, value);
    }
    db.delete("key 00000001").unwrap();
    model.remove(&b"key 00000001"[..]);
    let before = db.snapshot();
    let count_before = before.keyspace(db.default_keyspace()).scan::<&[u8]>(..).count();
    let given = entries(&mut rng, 2_000, 3_000);
    load(&db, &given);
    model.extend(given);
    assert_holds(&db, &model);
    assert_eq!(before.keyspace(db.default_keyspace()).scan::<&[u8]>(..).count(), count_before);
    drop(before);
    db.put("key 00000002", "after").unwrap();
    model.insert(b"key 00000002".to_vec(), b"after".to_vec());
    db.compact::<&[u8]>(..).unwrap();
    assert_holds(&db, &model);
}

#[test]
fn load_that_is_given_up_leaves_nothing() {
    let env = Env::memory(0);
    let db = open(&env);
    db.put("k", "v").unwrap();
    for aborts in [true, false] {
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        for (key, value) in entries(&mut Rng::new(5), 12_000, 1 << 40) {
            loader.put(key, value).unwrap();
        }
        assert!(loader.put(vec![0; 70_000], "").is_err());
        if aborts {
            loader.abort();
        } else {
            drop(loader);
        }
        assert_tidy(&db, &*env.fs, "given up");
        assert_eq!(db.iter().count(), 1);
    }
    let report = db.bulk_loader(db.default_keyspace()).unwrap().finish().unwrap();
    assert_eq!((report.entries, report.tables), (0, 0));
}

#[test]
fn ascending_keys_that_repeat_stream_and_keep_the_last() {
    let env = Env::memory(0);
    let db = open(&env);
    let one = |number: u32| (format!("{:06}", number / 3).into_bytes(), vec![number as u8; 100]);
    let given: Vec<_> = (0..9_000).map(one).collect();
    let report = load(&db, &given);
    assert_eq!((report.entries, report.replaced, report.spilled_runs), (3_000, 6_000, 0));
    assert_holds(&db, &given.into_iter().collect());
}

#[test]
fn writes_beside_a_load_are_neither_lost_nor_in_its_way() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    loader.put("a", "loaded").unwrap();
    for number in 0..100 {
        db.put(format!("b{number}"), "written").unwrap();
    }
    db.put("a", "written").unwrap();
    loader.put("b5", "loaded").unwrap();
    let report = loader.finish().unwrap();
    assert!(report.seqno > 101, "{report:?}");
    assert_eq!(db.get("a").unwrap().unwrap(), "loaded");
    assert_eq!(db.get("b5").unwrap().unwrap(), "loaded");
    assert_eq!(db.get("b6").unwrap().unwrap(), "written");
    db.put("a", "again").unwrap();
    db.put("c", "in the log").unwrap();
    drop(db);
    let db = open(&env);
    assert_eq!(db.get("a").unwrap().unwrap(), "again");
    assert_eq!(db.get("c").unwrap().unwrap(), "in the log");
    assert_eq!(db.iter().count(), 102);
}

/// The first entry filled the buffer, which keeps the last key of sorted input: the tables of the last
/// level were begun and had nothing, and to make a run of them panicked.
#[test]
fn first_value_larger_than_the_buffer_is_followed_by_a_smaller_key() {
    let env = Env::memory(1);
    let db = open(&env);
    let large = vec![b'x'; 300 << 10];
    let entries = [("b", large.as_slice()), ("a", b"1"), ("b", b"2"), ("c", &large)];
    let entries = entries.map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()));
    let report = load(&db, &entries);
    assert_eq!((report.entries, report.replaced, report.tables), (3, 1, 1));
    assert_holds(&db, &entries.into_iter().collect());
}
