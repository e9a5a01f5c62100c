//! Seeks that search several runs pay for a merge of these, and not before.

use std::ops::Range;

use esker::env::Env;
use esker::{Db, KeyspaceOptions, Options};

/// What a search of one run more is worth, in bytes of tables that are merged: by the documentation of
/// `idle_compaction`.
const BYTES_PER_SEARCH: u64 = 64;

const KEYS: u32 = 800;

/// Searches that take as long as one block that is read, by the same documentation.
const SEARCHES_PER_READ: u64 = 10;

/// A database whose background work is done when it is waited for, with three runs in level 0.
fn open(keyspace: KeyspaceOptions) -> Db {
    open_with_cache(keyspace, None)
}

fn open_with_cache(keyspace: KeyspaceOptions, cache_bytes: Option<u64>) -> Db {
    let options = Options { background_threads: 0, cache_bytes, ..Options::default() };
    let env = Env::memory(5);
    let db =
        Db::builder("/db").env(env).options(options).default_keyspace(keyspace).open().unwrap();
    for round in 0..3 {
        put_all(&db, round);
    }
    assert_eq!(db.cursor().unwrap().source_count(), 3);
    db
}

fn put_all(db: &Db, round: u32) {
    for key in 0..KEYS {
        let value = format!("{round} {:x}", u64::from(key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        db.put(format!("{key:05}"), value).unwrap();
    }
    db.flush().unwrap();
    db.wait_until_settled().unwrap();
}

/// Puts all blocks into the cache by one seek over `runs` runs, and returns how many seeks are worth that.
fn warm(db: &Db, runs: u64) -> u64 {
    let mut cursor = db.cursor().unwrap();
    cursor.seek_to_first().unwrap();
    while cursor.is_valid() {
        cursor.next().unwrap();
    }
    // Those that wait for the first blocks; what a scan goes on to is read however many runs it has.
    let extra = runs - 1;
    (extra + runs * SEARCHES_PER_READ * extra / runs).div_ceil(extra)
}

/// Seeks so many times, each by a cursor of its own.
fn seek(db: &Db, seeks: Range<u64>) {
    for number in seeks {
        let key = format!("{:05}", number % u64::from(KEYS));
        let mut cursor = db.cursor().unwrap();
        cursor.seek(&key).unwrap();
        assert_eq!(cursor.key(), key.as_bytes());
        assert_eq!(cursor.value()[0], b'2', "the newest");
    }
    db.wait_until_settled().unwrap();
}

#[test]
fn seeks_over_several_runs_pay_for_their_merge_and_no_sooner() {
    let db = open(KeyspaceOptions::default());
    let bytes = db.stats().counters.flush_bytes;
    // Each seek searches two runs more than one, and the merge spares both.
    let due = bytes.div_ceil(2 * BYTES_PER_SEARCH);
    assert!(300 < due, "tables of {bytes} bytes");
    let warm = warm(&db, 3);
    seek(&db, 0..due - 1 - warm);
    assert_eq!((db.stats().counters.compactions, db.plan().len()), (0, 0));
    // A look comes at the latest 256 searches behind what it costs.
    seek(&db, 0..129);
    assert_eq!((db.stats().counters.compactions, db.cursor().unwrap().source_count()), (1, 1));
    let read = db.stats().counters.compaction_read_bytes;
    assert!(read <= (due + 128) * 2 * BYTES_PER_SEARCH, "{read} bytes");
    seek(&db, 0..4 * due);
    assert_eq!(db.stats().counters.compactions, 1, "one run is no more than one search");
    db.close().unwrap();
}

#[test]
fn a_block_that_is_read_pays_for_ten_searches() {
    let db = open_with_cache(KeyspaceOptions::default(), Some(0));
    let bytes = db.stats().counters.flush_bytes;
    // Each seek searches two runs more than one and reads three blocks, two of which would be spared.
    let due = bytes.div_ceil(2 * BYTES_PER_SEARCH * (1 + SEARCHES_PER_READ));
    seek(&db, 0..due - 1);
    assert_eq!(db.stats().counters.compactions, 0);
    // A look comes at the latest 256 searches behind what it costs.
    seek(&db, 0..13);
    assert_eq!((db.stats().counters.compactions, db.cursor().unwrap().source_count()), (1, 1));
    db.close().unwrap();
}

#[test]
fn one_cursor_that_lives_long_pays_as_many_short_ones_do() {
    let db = open(KeyspaceOptions::default());
    let mut cursor = db.cursor().unwrap();
    for number in 0..20_000_u64 {
        cursor.seek(format!("{:05}", number % u64::from(KEYS))).unwrap();
    }
    db.wait_until_settled().unwrap();
    assert_eq!(db.cursor().unwrap().source_count(), 1);
    assert_eq!(cursor.source_count(), 3, "it has what it had");
    drop(cursor);
    db.close().unwrap();
}

#[test]
fn what_was_paid_is_gone_when_the_tables_change() {
    let db = open(KeyspaceOptions::default());
    db.compact_all().unwrap();
    let merged = db.stats().counters.compaction_write_bytes;
    put_all(&db, 2);
    // One run in level 0 and one below, of which one is spared.
    let bytes =
        merged + db.stats().counters.flush_bytes - db.stats().counters.compaction_read_bytes;
    let due = bytes.div_ceil(BYTES_PER_SEARCH);
    let warm = warm(&db, 2);
    seek(&db, 0..due - 1 - warm);
    put_all(&db, 2);
    seek(&db, 0..due / 2);
    assert_eq!(
        db.stats().counters.compactions,
        1,
        "neither the seeks before the flush nor those after it pay"
    );
    seek(&db, 0..4 * due);
    assert!(1 < db.stats().counters.compactions);
    assert_eq!(db.cursor().unwrap().source_count(), 1);
    db.close().unwrap();
}

#[test]
fn seeks_pay_for_nothing_where_nobody_wants_it() {
    let db = open(KeyspaceOptions { idle_compaction: None, ..KeyspaceOptions::default() });
    seek(&db, 0..20_000);
    assert_eq!((db.stats().counters.compactions, db.cursor().unwrap().source_count()), (0, 3));
    db.close().unwrap();
}
