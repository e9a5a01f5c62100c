//! What range deletes save: tables that a scan skips, and tables dropped unread.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use esker::env::{Env, Event, FaultFileSystem, MemoryFileSystem, Operation};
use esker::{
    CompactionPolicy, Db, IngestOptions, Keyspace, KeyspaceOptions, Options, PlannedJob, limits,
};

use crate::outside;
use crate::recovered::{DIR, env_over};
use crate::state::Write;

const TABLE_COUNT: usize = 20;
const KEYS_OF_EACH: usize = 50;

fn key(table: usize, number: usize) -> String {
    format!("{table:02} {number:03}")
}

/// A database of tables with disjoint keys, whose reads of tables are listed.
struct Bed {
    faults: FaultFileSystem,
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl Bed {
    fn new() -> Self {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs), Env::memory(1).clock);
        let read = Arc::<Mutex<BTreeSet<String>>>::default();
        let (listed, is_table) =
            (read.clone(), |path: &Path| path.extension().is_some_and(|e| e == "table"));
        faults.observe(move |event: &Event| {
            if matches!(event.operation, Operation::Open | Operation::Read) && is_table(&event.path)
            {
                let name = event.path.file_name().unwrap().to_str().unwrap();
                listed.lock().unwrap().insert(name.to_owned());
            }
        });
        Self { faults, read }
    }

    fn env(&self) -> Env {
        env_over(Arc::new(self.faults.clone()))
    }

    fn open(&self, options: &KeyspaceOptions) -> (Db, Keyspace) {
        let env = self.env();
        let db_options = Options { background_threads: 0, ..Options::default() };
        let db = Db::builder(DIR).env(env).options(db_options).open().unwrap();
        let keyspace = db.keyspace("k", options.clone()).unwrap();
        (db, keyspace)
    }

    /// How many tables `work` reads.
    fn tables_read(&self, work: impl FnOnce()) -> usize {
        self.read.lock().unwrap().clear();
        work();
        self.read.lock().unwrap().len()
    }
}

fn options(compaction: CompactionPolicy) -> KeyspaceOptions {
    KeyspaceOptions { compaction, block_size_bytes: 512, ..KeyspaceOptions::default() }
}

/// One run of so many tables.
fn fill(bed: &Bed, db: &Db, keyspace: &Keyspace) {
    let keys = (0..TABLE_COUNT).flat_map(|table| (0..KEYS_OF_EACH).map(move |n| key(table, n)));
    let writes: Vec<Write> = keys.map(|key| Write::put("k", key.as_bytes(), b"value")).collect();
    let order = keyspace.options().order;
    let paths = outside::write_tables(&bed.env(), &order, &writes, TABLE_COUNT).unwrap();
    db.ingest(keyspace, &paths, IngestOptions::default()).unwrap();
}

/// A delete without an end ends in a table right behind its longest key; one that went on from there
/// made the table unreadable.
#[test]
fn deleted_ranges_may_meet_right_behind_the_longest_key() {
    let bed = Bed::new();
    let (db, keyspace) = bed.open(&options(CompactionPolicy::Leveled));
    let longest = vec![b'k'; limits::KEY_LEN_MAX];
    keyspace.put(&longest, "value").unwrap();
    let snapshot = db.snapshot();
    keyspace.delete_range("b".."z").unwrap();
    keyspace.delete_range("a"..).unwrap();
    keyspace.flush().unwrap();
    assert_eq!(keyspace.get(&longest).unwrap(), None);
    assert_eq!(snapshot.keyspace(&keyspace).get(&longest).unwrap().unwrap(), "value");
    keyspace.compact::<&[u8]>(..).unwrap();
    assert_eq!(snapshot.keyspace(&keyspace).get(&longest).unwrap().unwrap(), "value");
    drop((snapshot, keyspace));
    db.close().unwrap();
    let (db, keyspace) = bed.open(&options(CompactionPolicy::Leveled));
    assert_eq!(keyspace.iter().count(), 0);
    keyspace.compact::<&[u8]>(..).unwrap();
    drop(keyspace);
    db.close().unwrap();
}

#[test]
fn scans_in_both_directions_pass_by_tables_of_which_everything_is_deleted() {
    for is_flushed in [false, true] {
        let bed = Bed::new();
        let options = options(CompactionPolicy::None);
        let (db, keyspace) = bed.open(&options);
        fill(&bed, &db, &keyspace);
        keyspace.delete_range(key(1, 0)..key(TABLE_COUNT - 1, 0)).unwrap();
        if is_flushed {
            keyspace.flush().unwrap();
        }
        drop(keyspace);
        db.close().unwrap();
        for is_reversed in [false, true] {
            let (_db, keyspace) = bed.open(&options);
            let read = bed.tables_read(|| {
                let entries = keyspace.iter();
                let count = if is_reversed { entries.rev().count() } else { entries.count() };
                assert_eq!(count, 2 * KEYS_OF_EACH);
            });
            // The two that have something, the one in between that is met first, and the one with
            // the range tombstone.
            assert_eq!(read, 3 + usize::from(is_flushed), "{is_flushed} {is_reversed}");
        }
    }
}

#[test]
fn tables_of_which_everything_is_deleted_go_without_being_read_once_no_snapshot_sees_them() {
    let bed = Bed::new();
    let options = options(CompactionPolicy::Leveled);
    let (db, keyspace) = bed.open(&options);
    db.pause_compactions();
    fill(&bed, &db, &keyspace);
    let snapshot = db.snapshot();
    keyspace.delete_range(key(0, 0)..key(TABLE_COUNT, 0)).unwrap();
    keyspace.flush().unwrap();
    let is_drop = |plan: &PlannedJob| plan.reason == "range-deleted";
    assert!(!db.plan().iter().any(is_drop), "a snapshot sees them");
    assert_eq!(snapshot.keyspace(&keyspace).scan::<&[u8]>(..).count(), TABLE_COUNT * KEYS_OF_EACH);
    drop(snapshot);
    let planned = db.plan();
    assert!(is_drop(&planned[0]), "{planned:?}");
    assert_eq!((planned.len(), planned[0].table_count), (1, TABLE_COUNT + 1), "{planned:?}");
    let read = bed.tables_read(|| {
        db.resume_compactions();
        db.wait_until_settled().unwrap();
    });
    assert_eq!(
        (read, keyspace.levels().levels.iter().map(|l| l.runs.len()).sum::<usize>()),
        (0, 0)
    );
}

/// A block of keys is deleted and put again as a whole: every reader sees all of it or nothing.
#[test]
fn readers_beside_range_deletes_see_all_or_nothing() {
    let db = Db::builder(DIR).env(Env { clock: Env::os().clock, ..Env::memory(2) }).open().unwrap();
    let options = KeyspaceOptions { memtable_bytes: 20_000, ..options(CompactionPolicy::Leveled) };
    let keyspace = db.keyspace("k", options).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..400_u32 {
                let mut batch = db.batch();
                for number in 0..KEYS_OF_EACH {
                    batch.put(&keyspace, key(1, number), round.to_string());
                }
                batch.commit().unwrap();
                keyspace.delete_range("00".."99").unwrap();
            }
            is_done.store(true, Ordering::Release);
        });
        for is_reversed in [false, true] {
            let (db, keyspace, is_done) = (&db, &keyspace, &is_done);
            scope.spawn(move || {
                while !is_done.load(Ordering::Acquire) {
                    let snapshot = db.snapshot();
                    let reader = snapshot.keyspace(keyspace);
                    let entries = reader.scan::<&[u8]>(..).map(|entry| entry.unwrap().1.to_vec());
                    let mut values: Vec<_> = entries.collect();
                    let count = if is_reversed {
                        reader.scan::<&[u8]>(..).rev().count()
                    } else {
                        values.len()
                    };
                    assert!(
                        count == values.len() && (count == 0 || count == KEYS_OF_EACH),
                        "{count}"
                    );
                    assert_eq!(reader.get(key(1, 7)).unwrap().is_some(), count != 0);
                    values.dedup();
                    assert!(values.len() <= 1, "{values:?}");
                }
            });
        }
    });
    db.wait_until_settled().unwrap();
    assert_eq!(keyspace.iter().count(), 0);
}

/// A memtable of range tombstones alone has no entry to merge. It was told of as an input of scans.
#[test]
fn an_explained_scan_has_as_many_inputs_as_a_cursor() {
    let db = Db::builder(DIR).env(Env::memory(1)).open().unwrap();
    let inputs = || db.explain_scan::<&[u8]>(.., None).unwrap().inputs.len();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    db.delete_range("a".."b").unwrap();
    assert_eq!((inputs(), db.cursor().unwrap().source_count()), (1, 1));
    db.put("b", "2").unwrap();
    assert_eq!((inputs(), db.cursor().unwrap().source_count()), (2, 2));
}
