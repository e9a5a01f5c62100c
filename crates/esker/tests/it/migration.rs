//! Options that change over what is there: nothing is lost, and a compaction makes of it what the new
//! ones ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker::doctor::Doctor;
use esker::env::ManualClock;
use esker::{
    CompactionPolicy, Compression, Db, FifoOptions, Keyspace, KeyspaceOptions, Merge, Options,
    Scan, operators,
};

use crate::ages::{machine, run_jobs};
use crate::policies::{KEEPING, keeps_ages_apart};
use crate::random::Rng;
use crate::recovered::DIR;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Options that differ in more than the policy: with blob files there are no filters.
fn options(compaction: CompactionPolicy, has_blobs: bool) -> KeyspaceOptions {
    KeyspaceOptions {
        compaction,
        blob_threshold_bytes: has_blobs.then_some(64),
        filter_bits_per_key: if has_blobs { 0 } else { 10 },
        merge_operator: Some(Merge::new(operators::Append::new(","))),
        compression: Compression::None,
        shallow_compression: Compression::None,
        memtable_bytes: 8_000,
        block_size_bytes: 512,
        ..KeyspaceOptions::default()
    }
}

/// A keyspace that is written while its options change, and what it should hold.
struct Bed {
    db: Db,
    clock: Arc<ManualClock>,
    rng: Rng,
    model: Model,
}

impl Bed {
    /// Writes of every kind, and the jobs that they make due; time goes by.
    fn write(&mut self, keyspace: &Keyspace) {
        for number in 0..600 {
            let (key, other) = (self.some_key(), self.some_key());
            match self.rng.below(20) {
                0 | 1 => {
                    keyspace.delete(&key).unwrap();
                    self.model.remove(&key);
                }
                2..=4 => {
                    let operand = number.to_string();
                    keyspace.merge(&key, &operand).unwrap();
                    let merged = self.model.get(&key).map_or(operand.clone().into(), |value| {
                        [value, &b","[..], operand.as_bytes()].concat()
                    });
                    self.model.insert(key, merged);
                }
                5 if self.rng.one_in(5) => {
                    let range = key.clone().min(other.clone())..key.max(other);
                    keyspace.delete_range(range.clone()).unwrap();
                    self.model.retain(|key, _| !range.contains(key));
                }
                _ => {
                    let len = 1 + self.rng.index(150);
                    let value = self.rng.bytes(len);
                    keyspace.put(&key, &value).unwrap();
                    self.model.insert(key, value);
                }
            }
            self.clock.advance(Duration::from_secs(20));
            if number % 100 == 99 {
                run_jobs(&self.db);
            }
        }
    }

    fn some_key(&mut self) -> Vec<u8> {
        format!("{:04}", self.rng.below(500)).into_bytes()
    }
}

fn check(scan: Scan, model: &Model, what: &str) {
    let found: Model = scan
        .map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        })
        .collect();
    assert!(found == *model, "{what}: {} entries, not {}", found.len(), model.len());
}

/// In an open database, under a snapshot: policies, blob files and filters at once.
#[test]
fn what_was_written_under_other_options_stays_and_is_compacted_by_the_new_ones() {
    for (first, second) in KEEPING.into_iter().flat_map(|first| KEEPING.map(|it| (first, it))) {
        let what = |when: &str| format!("{when}, from {first:?} to {second:?}");
        let (env, clock) = machine();
        let database = Options { background_threads: 0, ..Options::default() };
        let open = || Db::builder(DIR).env(env.clone()).options(database.clone()).open().unwrap();
        let mut bed = Bed { db: open(), clock, rng: Rng::new(7), model: Model::new() };
        let keyspace = bed.db.keyspace("k", options(first, true)).unwrap();
        bed.write(&keyspace);
        let (snapshot, before) = (bed.db.snapshot(), bed.model.clone());
        bed.db.keyspace("k", options(second, false)).unwrap();
        bed.write(&keyspace);
        check(keyspace.iter(), &bed.model, &what("written"));
        check(snapshot.keyspace(&keyspace).iter(), &before, &what("a snapshot"));
        drop((snapshot, keyspace));
        bed.db.close().unwrap();
        let report = Doctor::new(DIR).env(env.clone()).verify(&mut |_| {}).unwrap();
        assert!(report.is_sound(), "{report}");
        bed.db = open();
        let keyspace = bed.db.existing_keyspace("k").unwrap().unwrap();
        assert_eq!(keyspace.options().compaction, second);
        check(keyspace.iter(), &bed.model, &what("reopened"));
        keyspace.compact::<&[u8]>(..).unwrap();
        run_jobs(&bed.db);
        check(keyspace.iter(), &bed.model, &what("compacted"));
        if !keeps_ages_apart(&second) {
            let stats = &bed.db.stats().keyspaces[1];
            let found = (stats.table_entries, stats.tombstones, stats.blob_file_count);
            assert_eq!(found, (bed.model.len() as u64, 0, 0), "{}", what("compacted"));
        }
    }
}

/// Whatever its levels are, those of the deepest are the oldest.
#[test]
fn a_leveled_tree_that_becomes_a_fifo_drops_what_is_oldest() {
    let (env, _clock) = machine();
    let database = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env).options(database).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    for number in 0..200_u8 {
        keyspace.put([number], [number; 5000]).unwrap();
    }
    keyspace.compact::<&[u8]>(..).unwrap();
    keyspace.put([255], "new").unwrap();
    keyspace.delete([7]).unwrap();
    keyspace.flush().unwrap();
    let compaction = CompactionPolicy::Fifo(FifoOptions { bytes_max: 500, age_max: None });
    db.keyspace("k", KeyspaceOptions { compaction, ..KeyspaceOptions::default() }).unwrap();
    run_jobs(&db);
    assert_eq!(keyspace.iter().count(), 1);
    assert_eq!(keyspace.get([255]).unwrap().unwrap(), "new");
    assert_eq!(db.stats().keyspaces[1].table_count, 1);
}
