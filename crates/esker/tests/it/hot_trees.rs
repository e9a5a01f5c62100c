//! A tree read from the cache stays there when flushes and compactions replace its tables.

use esker::env::Env;
use esker::{CompactionPolicy, Db, KeyspaceOptions, Options};

const KEYS: u32 = 4_000;

/// A database without background threads and automatic compactions.
fn open() -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    let keyspace =
        KeyspaceOptions { compaction: CompactionPolicy::None, ..KeyspaceOptions::default() };
    Db::builder("/db")
        .env(Env::memory(3))
        .options(options)
        .default_keyspace(keyspace)
        .open()
        .unwrap()
}

fn put_all(db: &Db, round: u32) {
    for key in 0..KEYS {
        db.put(format!("{key:08}"), format!("{round} {}", "v".repeat(200))).unwrap();
    }
    db.flush().unwrap();
}

/// Reads every key, which must be of `round`; how many blocks were loaded for that.
fn loads_of_reads(db: &Db, round: u32) -> u64 {
    let before = db.stats().cache.loads;
    let expected = format!("{round} {}", "v".repeat(200));
    for key in 0..KEYS {
        assert_eq!(db.get(format!("{key:08}")).unwrap().as_deref(), Some(expected.as_bytes()));
    }
    db.stats().cache.loads - before
}

#[test]
fn hot_tree_stays_in_the_cache_and_a_cold_one_does_not_get_there() {
    let db = open();
    put_all(&db, 0);
    let cold = loads_of_reads(&db, 0);
    assert!(200 < cold, "nobody had read anything when the first table was written: {cold}");
    assert_eq!(loads_of_reads(&db, 0), 0);

    put_all(&db, 1);
    let flushed = loads_of_reads(&db, 1);
    assert!(flushed < 10, "the flush kept its blocks, index and filter were read: {flushed}");

    db.compact_all().unwrap();
    let compacted = loads_of_reads(&db, 1);
    assert!(compacted < 10, "so did the compaction: {compacted}");

    db.close().unwrap();
}

#[test]
fn tree_that_nobody_reads_takes_no_room_in_the_cache() {
    let db = open();
    for round in 0..3 {
        put_all(&db, round);
    }
    db.compact_all().unwrap();
    let resident = db.stats().cache.resident_bytes;
    assert!(resident < 64 << 10, "indexes and filters alone: {resident}");
    db.close().unwrap();
}
