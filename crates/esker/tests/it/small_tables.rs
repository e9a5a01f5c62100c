//! Tables that overlap nothing: they become few files, compressed as their level requires.

use esker::env::Env;
use esker::{
    CompactionPolicy, Compression, Db, IngestOptions, Keyspace, KeyspaceOptions, Options,
    TableWriter, TableWriterOptions,
};

use crate::policies::KEEPING;

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder("db").env(env.clone()).options(options).open().unwrap()
}

fn run_jobs(db: &Db) {
    while db.run_background_job() {}
}

fn table_count(keyspace: &Keyspace) -> usize {
    keyspace.levels().levels.iter().flat_map(|level| &level.runs).map(|run| run.tables.len()).sum()
}

/// A table for each flush stayed for ever, each an open file: nothing merges what overlaps nothing.
#[test]
fn small_flushes_of_ascending_keys_become_few_tables() {
    let merges = |policy: &CompactionPolicy| {
        use CompactionPolicy::{Fifo, None, TimeWindow};
        !matches!(policy, None | Fifo(_) | TimeWindow(_))
    };
    for compaction in KEEPING.into_iter().filter(merges) {
        let db = open(&Env::memory(1));
        let options = KeyspaceOptions { compaction, log: false, ..KeyspaceOptions::default() };
        let keyspace = db.keyspace("k", options).unwrap();
        for number in 0..300_u32 {
            keyspace.put(format!("{number:08}"), "value").unwrap();
            keyspace.flush().unwrap();
            run_jobs(&db);
        }
        let count = table_count(&keyspace);
        assert!(count < 40, "{compaction:?}: {count} tables");
        assert_eq!(keyspace.iter().count(), 300);
    }
}

/// 1,500 of them took as many edits, and as many tables stayed.
#[test]
fn a_compaction_on_demand_joins_what_was_not_joined_before() {
    let db = open(&Env::memory(1));
    let compaction = CompactionPolicy::None;
    let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("k", options).unwrap();
    for number in 0..200_u32 {
        keyspace.put(format!("{number:08}"), "value").unwrap();
        keyspace.flush().unwrap();
    }
    run_jobs(&db);
    assert_eq!(table_count(&keyspace), 200);
    let report = keyspace.start_compaction::<&str>(..).unwrap().wait().unwrap();
    assert_eq!((table_count(&keyspace), report.steps), (1, 2), "{report}");
    assert_eq!(keyspace.iter().count(), 200);
    // It is done, and done once.
    let report = keyspace.start_compaction::<&str>(..).unwrap().wait().unwrap();
    assert_eq!(report.steps, 0, "{report}");
}

#[test]
fn small_tables_that_are_ingested_in_order_become_few() {
    let env = Env::memory(1);
    let db = open(&env);
    for number in 0..50_u32 {
        let options = TableWriterOptions::default();
        let mut writer = TableWriter::create_in(&env, format!("t{number}"), options).unwrap();
        writer.put(format!("{number:08}"), "value").unwrap();
        let path = writer.finish().unwrap().path;
        db.ingest(db.default_keyspace(), &[path], IngestOptions::default()).unwrap();
    }
    run_jobs(&db);
    assert!(table_count(db.default_keyspace()) < 12);
    assert_eq!(db.iter().count(), 50);
}

/// What overlapped nothing was moved there as it had been flushed, and stayed as it was.
#[test]
fn the_last_level_has_its_compression_whatever_the_order_of_keys() {
    let bytes = |order: fn(u32) -> u32| {
        let db = open(&Env::memory(1));
        let options = KeyspaceOptions {
            compression: Compression::Lz4,
            shallow_compression: Compression::None,
            ..KeyspaceOptions::default()
        };
        let keyspace = db.keyspace("k", options).unwrap();
        for number in 0..200_u32 {
            keyspace.put(format!("{:08}", order(number)), [0; 1000]).unwrap();
            if number % 50 == 49 {
                keyspace.flush().unwrap();
                run_jobs(&db);
            }
        }
        db.stats().keyspaces[1].table_bytes
    };
    let (ascending, mixed) = (bytes(|number| number), bytes(|number| number * 7919 % 200));
    assert!(ascending < 2 * mixed, "{ascending} bytes, and {mixed} with keys in another order");
}

#[test]
fn a_compaction_brings_changed_compression_into_force() {
    let db = open(&Env::memory(1));
    let uncompressed = KeyspaceOptions {
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let keyspace = db.keyspace("k", uncompressed).unwrap();
    for number in 0..400_u32 {
        keyspace.put(format!("{number:08}"), [0; 1000]).unwrap();
    }
    keyspace.compact::<&str>(..).unwrap();
    let bytes = || db.stats().keyspaces[1].table_bytes;
    let before = bytes();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    keyspace.compact::<&str>(..).unwrap();
    assert!(10 * bytes() < before, "{} bytes of {before}", bytes());
    // Once.
    let report = keyspace.start_compaction::<&str>(..).unwrap().wait().unwrap();
    assert_eq!(report.steps, 0, "{report}");
}

/// Tables that are to be moved around one that is there were rewritten into one that reached over it.
#[test]
fn what_stands_around_tables_of_the_last_level_is_compressed_without_touching_them() {
    let db = open(&Env::memory(1));
    let options = KeyspaceOptions {
        shallow_compression: Compression::None,
        compaction: CompactionPolicy::None,
        ..KeyspaceOptions::default()
    };
    let keyspace = db.keyspace("k", options).unwrap();
    let put = |key: &str| {
        keyspace.put(key, "value").unwrap();
        keyspace.flush().unwrap();
    };
    put("b");
    keyspace.compact::<&str>(..).unwrap();
    ["a", "c", "d"].into_iter().for_each(put);
    keyspace.compact::<&str>(..).unwrap();
    let keys: Vec<_> = keyspace.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(keys, [b"a", b"b", b"c", b"d"]);
    // What was just rewritten is joined by the next one.
    assert_eq!(table_count(&keyspace), 4);
    keyspace.compact::<&str>(..).unwrap();
    assert_eq!(table_count(&keyspace), 1);
}

/// The range tombstone of one table went into an output that began with the other one and reached over
/// what stood between them: the edit did not fit, and the database was poisoned at every open.
#[test]
fn tables_that_delete_ranges_are_compressed_without_reaching_over_what_stands_between() {
    for (key, start, end, left) in [("b", "p", "q", "abchz"), ("r", "c", "d", "ahprz")] {
        let env = Env::memory(1);
        let db = open(&env);
        let options = KeyspaceOptions {
            shallow_compression: Compression::None,
            compaction: CompactionPolicy::None,
            ..KeyspaceOptions::default()
        };
        let keyspace = db.keyspace("k", options).unwrap();
        ["a", "c", "p", "z"].iter().for_each(|key| keyspace.put(key, "old").unwrap());
        keyspace.compact::<&str>(..).unwrap();
        let mut writer = TableWriter::create_in(&env, "t", TableWriterOptions::default()).unwrap();
        writer.put("h", "between").unwrap();
        let path = writer.finish().unwrap().path;
        let report = db.ingest(&keyspace, &[path], IngestOptions::default()).unwrap();
        assert_eq!(report.tables[0].level, 5);
        keyspace.put(key, "new").unwrap();
        keyspace.flush().unwrap();
        keyspace.delete_range(start..end).unwrap();
        keyspace.flush().unwrap();
        keyspace.compact::<&str>(..).unwrap();
        let keys: Vec<u8> = keyspace.iter().keys().flat_map(|key| key.unwrap().to_vec()).collect();
        assert_eq!(keys, left.as_bytes());
        assert_eq!(table_count(&keyspace), 1);
    }
}
