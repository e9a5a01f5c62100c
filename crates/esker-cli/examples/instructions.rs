//! The work that `cargo xtask instructions` counts under callgrind: one operation after another, on
//! one thread, with keys that repeat from run to run.
//!
//! Everything that is counted runs inside [`measured`], by whose name the counter is switched on
//! and off, and after which it writes its sum. Each row prints one line, its name and how many
//! operations it was, in the order of those sums. Databases lie in the directory that is the first
//! argument; the system's own instructions are not counted, so that a write counts as the call.
//! With the name of a row as the second argument, only that one is counted, for a profile of it.
//!
//! Stands with the program, whose build has no part of any test in it, and not with the engine, whose
//! examples are built with the locks of its tests.
//!
//! Knows the public face of the engine only, so that rows keep their meaning when its insides
//! change. Says nothing about time: a cache miss counts as one instruction here.

#![expect(clippy::print_stdout, reason = "a program whose result is printed")]
#![expect(clippy::big_endian_bytes, reason = "keys that count must sort as they count")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use esker::{CompactionPolicy, Compression, Cursor, Db, KeyspaceOptions, Options};

/// Keys of a database that is read: some 600 blocks, and a tree of several levels in memory.
const KEYS: u64 = 20_000;
/// Operations of a row of point reads, seeks or writes.
const OPERATIONS: u64 = 4_000;
/// Runs of level 0 where a row reads several.
const RUNS: u64 = 4;

type Key = [u8; 16];

fn main() {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a directory as the argument"));
    writes(&root);
    memtable(&root);
    one_run(&root);
    several_runs(&root);
    uncached(&root);
    replay(&root);
}

/// What is counted. Its name is what the counter knows.
#[inline(never)]
fn measured(operations: &mut dyn FnMut()) -> u64 {
    operations();
    // Something to do after the call: a function that ends in a jump is not seen to return.
    black_box(1)
}

/// Counts `work`, which is `count` operations.
fn row(name: &str, count: u64, mut work: impl FnMut()) {
    if std::env::args().nth(2).is_some_and(|only| only != name) {
        return work();
    }
    assert_eq!(measured(&mut work), 1);
    println!("{name} {count}");
}

/// Keys without order, which never repeat: both steps of the scrambling can be undone.
fn random_key(number: u64) -> Key {
    let mixed = (number ^ number << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    pair(mixed, number)
}

fn pair(high: u64, low: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&low.to_be_bytes());
    key
}

/// 100 bytes, half of which compress well.
fn value(number: u64) -> [u8; 100] {
    let mut value = [b'v'; 100];
    let mut state = number;
    for chunk in value[..48].as_chunks_mut::<8>().0 {
        state = state.wrapping_add(1).wrapping_mul(0x2545_f491_4f6c_dd1d);
        *chunk = (state ^ state >> 31).to_le_bytes();
    }
    value
}

/// Numbers below `KEYS` in an order that jumps.
fn jumping(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|index| index.wrapping_mul(7_919) % KEYS)
}

fn open(dir: &Path, keyspace: KeyspaceOptions, options: Options) -> Db {
    Db::builder(dir).options(options).default_keyspace(keyspace).open().unwrap()
}

/// A fresh database that compacts only when told.
fn fresh(root: &Path, name: &str, compression: Compression) -> Db {
    let dir = root.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    open(&dir, keyspace(compression), quiet())
}

fn keyspace(compression: Compression) -> KeyspaceOptions {
    let compaction = CompactionPolicy::None;
    // Flushed blocks stay as they are: what packing and unpacking cost has rows of its own.
    let shallow_compression = Compression::None;
    KeyspaceOptions { compaction, compression, shallow_compression, ..KeyspaceOptions::default() }
}

/// Without threads, whose turns would differ from run to run.
fn quiet() -> Options {
    Options { background_threads: 0, ..Options::default() }
}

fn fill(db: &Db, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        db.put(random_key(number), value(number)).unwrap();
    }
}

/// All keys in one run of the deepest level, compressed: two runs, since one is moved as it is.
fn fill_compacted(db: &Db) {
    fill(db, (0..KEYS).filter(|number| number % 2 == 0));
    db.flush().unwrap();
    fill(db, (0..KEYS).filter(|number| number % 2 == 1));
    db.compact_all().unwrap();
}

fn writes(root: &Path) {
    let db = fresh(root, "writes", Compression::Lz4);
    fill(&db, KEYS..KEYS + OPERATIONS);
    row("put_random", OPERATIONS, || fill(&db, 0..OPERATIONS));
    row("overwrite", OPERATIONS, || fill(&db, 0..OPERATIONS));
    row("delete_random", OPERATIONS, || {
        (0..OPERATIONS).for_each(|number| db.delete(random_key(number)).unwrap());
    });
    let keyspace = db.keyspace("batches", keyspace(Compression::Lz4)).unwrap();
    let mut batch = db.batch();
    row("put_batch_of_100", OPERATIONS, || {
        for number in 0..OPERATIONS {
            batch.put(&keyspace, random_key(number), value(number));
            if number % 100 == 99 {
                batch.commit_and_clear(esker::Durability::Process).unwrap();
            }
        }
    });
    let db = fresh(root, "ascending", Compression::Lz4);
    let put = |number: u64| db.put(pair(number << 16, 0), value(number)).unwrap();
    (0..OPERATIONS).for_each(put);
    row("put_ascending", OPERATIONS, || (OPERATIONS..2 * OPERATIONS).for_each(put));
}

fn memtable(root: &Path) {
    let db = fresh(root, "memtable", Compression::Lz4);
    fill(&db, 0..KEYS);
    gets(&db, "get_memtable", 0);
    walks(&db, "memtable");
    row("flush_entry", KEYS, || db.flush().unwrap());
}

fn gets(db: &Db, name: &str, offset: u64) {
    let get = |number: u64| {
        let found = db.get_with(random_key(number + offset), |value| value[0]).unwrap();
        assert_eq!(found.is_some(), number + offset < KEYS);
    };
    jumping(OPERATIONS).for_each(get);
    row(name, OPERATIONS, || jumping(OPERATIONS).for_each(get));
}

fn one_run(root: &Path) {
    let db = fresh(root, "one_run", Compression::Lz4);
    fill_compacted(&db);
    gets(&db, "get_table", 0);
    gets(&db, "get_absent", KEYS);
    row("get_copied", OPERATIONS, || {
        jumping(OPERATIONS).for_each(|number| {
            black_box(db.get(random_key(number)).unwrap().unwrap());
        });
    });
    multi_get(&db, "multi_get_of_32");
    walks(&db, "one_run");
}

fn multi_get(db: &Db, name: &str) {
    let keys: Vec<Key> = jumping(OPERATIONS).map(random_key).collect();
    row(name, OPERATIONS, || {
        for keys in keys.chunks(32) {
            black_box(db.multi_get(keys).unwrap());
        }
    });
}

/// Seeks and steps over what `db` holds.
fn walks(db: &Db, name: &str) {
    let mut cursor = db.cursor().unwrap();
    let seek = |cursor: &mut Cursor, number: u64| {
        cursor.seek(random_key(number)).unwrap();
        black_box(cursor.value());
    };
    jumping(OPERATIONS).for_each(|number| seek(&mut cursor, number));
    row(&format!("seek_{name}"), OPERATIONS, || {
        jumping(OPERATIONS).for_each(|number| seek(&mut cursor, number));
    });
    row(&format!("cursor_seek_next_10_{name}"), OPERATIONS / 4, || {
        for number in jumping(OPERATIONS / 4) {
            let mut cursor = db.cursor().unwrap();
            seek(&mut cursor, number);
            for _ in 0..10 {
                if cursor.is_valid() {
                    cursor.next().unwrap();
                }
            }
        }
    });
    cursor.seek_to_first().unwrap();
    row(&format!("next_{name}"), KEYS, || {
        while cursor.is_valid() {
            black_box(cursor.value());
            cursor.next().unwrap();
        }
    });
    cursor.seek_to_last().unwrap();
    row(&format!("prev_{name}"), KEYS, || {
        while cursor.is_valid() {
            black_box(cursor.value());
            cursor.prev().unwrap();
        }
    });
}

fn several_runs(root: &Path) {
    let db = fresh(root, "several_runs", Compression::Lz4);
    for run in 0..RUNS {
        fill(&db, (0..KEYS).filter(|number| number % RUNS == run));
        db.flush().unwrap();
    }
    gets(&db, "get_4_runs", 0);
    gets(&db, "get_absent_4_runs", KEYS);
    multi_get(&db, "multi_get_of_32_4_runs");
    walks(&db, "4_runs");
    row("compact_entry_of_4_runs", KEYS, || db.compact_all().unwrap());
}

/// Point reads of which nine in ten find their block in the file only: read, checked, unpacked,
/// decoded. Index and filter stay in the cache.
fn uncached(root: &Path) {
    for (name, compression) in
        [("block_decode_lz4", Compression::Lz4), ("block_decode_raw", Compression::None)]
    {
        let db = fresh(root, name, compression);
        fill_compacted(&db);
        db.close().unwrap();
        let options = Options { cache_bytes: Some(256 << 10), ..quiet() };
        let db = open(&root.join(name), keyspace(compression), options);
        gets(&db, name, 0);
    }
}

/// An open that finds all in the log.
fn replay(root: &Path) {
    let db = fresh(root, "replay", Compression::Lz4);
    fill(&db, 0..KEYS);
    let copy = root.join("replayed");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).unwrap();
    }
    // As a killed process leaves it.
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(root.join("replay")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let mut opened = None;
    row("replay_entry", KEYS, || {
        opened = Some(open(&copy, keyspace(Compression::Lz4), quiet()));
    });
    let found = opened.unwrap().get(random_key(KEYS - 1)).unwrap();
    assert_eq!(found.as_deref(), Some(&value(KEYS - 1)[..]));
}
