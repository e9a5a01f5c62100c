//! Open, write, read, reopen: the shortest path through every floor.

use esker::env::Env;
use esker::{Db, ErrorKind, KeyspaceOptions, Options};

fn env() -> Env {
    Env::memory(7)
}

fn open(env: &Env) -> Db {
    Db::builder("db").env(env.clone()).open().unwrap()
}

#[test]
fn what_was_put_is_there_after_reopening() {
    let env = env();
    let db = open(&env);
    db.put("a", "1").unwrap();
    db.put("b", "").unwrap();
    db.put("", "empty key").unwrap();
    db.delete("a").unwrap();
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(db.get("b").unwrap().unwrap(), "");
    db.close().unwrap();
    let db = open(&env);
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(db.get("b").unwrap().unwrap(), "");
    assert_eq!(db.get("").unwrap().unwrap(), "empty key");
}

#[test]
fn flushed_and_compacted_entries_are_read_from_tables() {
    let env = env();
    let db = open(&env);
    for round in 0..3 {
        for i in 0..2000 {
            db.put(format!("key{i:05}"), format!("value {i} of round {round}")).unwrap();
        }
        db.flush().unwrap();
    }
    assert_eq!(db.levels().levels[0].runs.len(), 3);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(db.levels().levels[0].runs.len(), 0, "{}", db.levels());
    assert_eq!(db.get("key01234").unwrap().unwrap(), "value 1234 of round 2");
    assert_eq!(db.iter().count(), 2000);
    assert_eq!(db.scan("key00010".."key00020").rev().count(), 10);
    db.close().unwrap();
    let db = open(&env);
    assert_eq!(db.get("key01999").unwrap().unwrap(), "value 1999 of round 2");
    assert_eq!(db.prefix("key0000").count(), 10);
}

#[test]
fn batch_spans_keyspaces_and_snapshot_stands_still() {
    let db = Db::in_memory().unwrap();
    let a = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    let b = db.keyspace("b", KeyspaceOptions::default()).unwrap();
    let mut batch = db.batch();
    batch.put(&a, "k", "1");
    batch.put(&b, "k", "2");
    batch.commit().unwrap();
    let before = db.snapshot();
    a.put("k", "3").unwrap();
    b.delete("k").unwrap();
    db.flush().unwrap();
    assert_eq!(before.keyspace(&a).get("k").unwrap().unwrap(), "1");
    assert_eq!(before.keyspace(&b).get("k").unwrap().unwrap(), "2");
    assert_eq!(a.get("k").unwrap().unwrap(), "3");
    assert_eq!(b.get("k").unwrap(), None);
    assert_eq!(db.keyspaces(), ["default", "a", "b"]);
}

#[test]
fn second_opener_is_refused_at_once() {
    let env = env();
    let db = open(&env);
    for reads in [false, true] {
        let error = Db::builder("db").env(env.clone()).read_only(reads).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
    }
    db.close().unwrap();
    open(&env);
}

#[test]
fn readers_open_beside_each_other_and_keep_writers_out() {
    let env = env();
    let db = open(&env);
    db.put("key", "value").unwrap();
    db.close().unwrap();
    let builder = || Db::builder("db").env(env.clone());
    let readers = [(); 2].map(|()| builder().read_only(true).open().unwrap());
    for reader in readers {
        assert_eq!(builder().open().unwrap_err().kind(), ErrorKind::Locked);
        assert_eq!(reader.get("key").unwrap().unwrap(), "value");
        reader.close().unwrap();
    }
    builder().open().unwrap().put("key", "other").unwrap();
}

#[test]
fn small_memtables_flush_and_compact_in_the_background() {
    let env = env();
    let options = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    let builder = || {
        Db::builder("db")
            .env(env.clone())
            .options(Options { log_segment_bytes: 128 << 10, ..Options::default() })
            .default_keyspace(options.clone())
    };
    let db = builder().open().unwrap();
    for i in 0..30_000_u32 {
        db.put((i.wrapping_mul(2_654_435_761) % 10_000).to_string(), i.to_string()).unwrap();
    }
    db.wait_until_settled().unwrap();
    let count = db.iter().map(Result::unwrap).count();
    drop(db);
    let db = builder().open().unwrap();
    assert_eq!(db.iter().map(Result::unwrap).count(), count);
    assert!(db.stats().counters.flushes < 100_000);
}

#[test]
fn stats_count_what_was_written_and_synced() {
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("db").env(env()).options(options).open().unwrap();
    for i in 0..10 {
        db.put(format!("key {i}"), "value").unwrap();
    }
    let before = db.stats().counters;
    assert_eq!((before.write_operations, before.write_batches), (10, 10));
    assert_eq!(before.write_bytes, 10 * ("key 0".len() + "value".len()) as u64);
    assert!(before.write_bytes < before.log_bytes, "frames have more than keys and values");
    db.sync().unwrap();
    assert_eq!(db.stats().counters.log_syncs, before.log_syncs + 1);
    db.flush().unwrap();
    let stats = db.stats();
    let written = stats.counters.log_bytes + stats.counters.flush_bytes;
    let expected = written as f64 / stats.counters.write_bytes as f64;
    assert!((stats.write_amplification() - expected).abs() < 1e-9);
}
