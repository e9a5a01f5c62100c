//! Batches of sizes and over keyspaces that nothing is made for, and which are whole all the same.

use esker::env::{CrashPolicy, MemoryFileSystem};
use esker::{Db, KeyspaceOptions, Options};

use crate::recovered::{DIR, env_of, open, options};

/// A batch, and then a value, that are larger than a memtable, a log segment and the memory budget: of
/// those who write them, of those who read them in the log, or of both.
#[test]
fn what_is_larger_than_memtable_log_segment_and_budget_goes_in_whole() {
    for (is_written_small, is_read_small) in [(true, true), (true, false), (false, true)] {
        let fs = MemoryFileSystem::new(1);
        let open = |is_small: bool| {
            let (options, keyspace) = if is_small { small() } else { Default::default() };
            let options = Options { background_threads: 0, ..options };
            let builder = Db::builder(DIR).env(env_of(&fs)).options(options);
            builder.default_keyspace(keyspace).open().unwrap()
        };
        let db = open(is_written_small);
        for round in 0..3 {
            let mut batch = db.batch();
            for number in 0..5000 {
                batch.put(db.default_keyspace(), format!("{number:04}"), [round; 1000]);
            }
            batch.commit().unwrap();
            db.put("large", vec![round; 8 << 20]).unwrap();
            assert_holds(&db, round);
        }
        drop(db);
        let db = open(is_read_small);
        assert_holds(&db, 2);
        db.wait_until_settled().unwrap();
        assert_holds(&db, 2);
        db.close().unwrap();
        assert_holds(&open(is_read_small), 2);
    }
}

/// Options with which hardly anything fits.
fn small() -> (Options, KeyspaceOptions) {
    let database =
        Options { memory_budget_bytes: 1 << 20, log_segment_bytes: 0, ..Options::default() };
    let keyspace = KeyspaceOptions {
        memtable_bytes: 1000,
        immutable_memtables_max: 1,
        ..KeyspaceOptions::default()
    };
    (database, keyspace)
}

fn assert_holds(db: &Db, round: u8) {
    let values: Vec<_> = db.iter().values().map(Result::unwrap).collect();
    let (large, others) = values.split_last().expect("there are some");
    assert_eq!(others.len(), 5000, "round {round}");
    assert!(others.iter().all(|value| **value == [round; 1000]), "round {round}");
    assert!(**large == *vec![round; 8 << 20], "round {round}");
}

/// Else a crash would leave a part of it.
#[test]
fn a_batch_is_in_the_log_if_one_of_its_keyspaces_is() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    let without_log = KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
    let unlogged = db.keyspace("unlogged", without_log.clone()).unwrap();
    let other = db.keyspace("other", without_log).unwrap();
    let logged = db.keyspace("logged", KeyspaceOptions::default()).unwrap();
    unlogged.put("alone", "value").unwrap();
    for (name, second) in [("with a log", &logged), ("without", &other)] {
        let mut batch = db.batch();
        batch.put(&unlogged, name, "value");
        batch.put(second, name, "value");
        batch.commit().unwrap();
    }
    db.sync().unwrap();
    let fs = fs.crash(CrashPolicy::AllLost, 1);
    let db = open(&env_of(&fs), &options()).unwrap();
    let keys = |name: &str| -> Vec<String> {
        let keyspace = db.existing_keyspace(name).unwrap().unwrap();
        let keys = keyspace.iter().keys().map(|key| key.unwrap().to_vec());
        keys.map(|key| String::from_utf8(key).unwrap()).collect()
    };
    assert_eq!(keys("logged"), ["with a log"]);
    assert_eq!(keys("unlogged"), ["with a log"]);
    assert_eq!(keys("other"), [""; 0]);
}
