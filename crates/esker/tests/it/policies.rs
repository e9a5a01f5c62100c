//! Every compaction policy in the engine, and one after the other on one tree.

use std::collections::BTreeMap;
use std::time::Duration;

use esker::env::Env;
use esker::{
    CompactionPolicy, Compression, Db, FifoOptions, Keyspace, KeyspaceOptions, LazyOptions,
    LeveledByBytesOptions, Options, SimpleOptions, TieredOptions, TimeWindowOptions,
    UniversalOptions,
};

use crate::random::Rng;

/// Policies that lose nothing, with parameters that make much happen in a tree of a megabyte.
pub(crate) const KEEPING: [CompactionPolicy; 9] = [
    CompactionPolicy::Leveled,
    CompactionPolicy::None,
    CompactionPolicy::Simple(SimpleOptions {
        size_ratio_percent: 200,
        level0_file_num_compaction_trigger: 2,
        max_levels: 3,
    }),
    CompactionPolicy::Tiered(TieredOptions {
        num_tiers: 4,
        max_size_amplification_percent: 200,
        size_ratio: 1,
        min_merge_width: 2,
        max_merge_width: Some(3),
    }),
    CompactionPolicy::LeveledByBytes(LeveledByBytesOptions {
        level0_file_num_compaction_trigger: 2,
        level_size_multiplier: 2,
        max_levels: 4,
        base_level_size_mb: 1,
    }),
    CompactionPolicy::Universal(UniversalOptions {
        level0_file_num_compaction_trigger: 4,
        size_ratio: 1,
        min_merge_width: 2,
        max_merge_width: None,
        max_size_amplification_percent: 200,
    }),
    CompactionPolicy::Lazy(LazyOptions { runs_per_level: 3, size_multiplier: 2 }),
    CompactionPolicy::Fifo(FifoOptions { bytes_max: u64::MAX, age_max: None }),
    CompactionPolicy::TimeWindow(TimeWindowOptions {
        window: Duration::from_secs(3600),
        runs_per_window: 3,
        age_max: None,
    }),
];

/// Whether tables stay as old as they are, so that nothing is merged on demand.
pub(crate) fn keeps_ages_apart(policy: &CompactionPolicy) -> bool {
    matches!(policy, CompactionPolicy::Fifo(_) | CompactionPolicy::TimeWindow(_))
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(env: &Env, compaction: CompactionPolicy, background_threads: usize) -> (Db, Keyspace) {
    let options = Options { background_threads, ..Options::default() };
    let db = Db::builder("db").env(env.clone()).options(options).open().unwrap();
    let options = KeyspaceOptions {
        compaction,
        // Tables as large as what is put into them.
        shallow_compression: Compression::None,
        memtable_bytes: 8_000,
        block_size_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let keyspace = db.keyspace("k", options).unwrap();
    assert_eq!(keyspace.options().compaction, compaction);
    (db, keyspace)
}

fn write(keyspace: &Keyspace, model: &mut Model, rng: &mut Rng, count: u64) {
    for _ in 0..count {
        let key = format!("key {:04}", rng.below(600)).into_bytes();
        if rng.one_in(4) {
            keyspace.delete(&key).unwrap();
            model.remove(&key);
        } else {
            let len = 40 + rng.index(60);
            let value = rng.bytes(len);
            keyspace.put(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
}

fn check(keyspace: &Keyspace, model: &Model, what: &dyn std::fmt::Debug) {
    let read = keyspace.iter().map(|entry| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    });
    assert!(read.collect::<Model>() == *model, "{what:?}");
    for key in (0..600).step_by(7).map(|number| format!("key {number:04}").into_bytes()) {
        let value = keyspace.get(&key).unwrap().map(|value| value.to_vec());
        assert_eq!(value.as_ref(), model.get(&key), "{what:?}");
    }
}

#[test]
fn every_policy_takes_over_from_every_other_and_loses_nothing() {
    for (index, first) in KEEPING.into_iter().enumerate() {
        for second in KEEPING {
            let env = Env::memory(index as u64);
            let (mut model, mut rng) = (Model::new(), Rng::new(index as u64));
            for compaction in [first, second, CompactionPolicy::Leveled] {
                let (db, keyspace) = open(&env, compaction, 0);
                check(&keyspace, &model, &(first, compaction, "opened"));
                write(&keyspace, &mut model, &mut rng, 1_500);
                let snapshot = db.snapshot();
                let before = model.clone();
                write(&keyspace, &mut model, &mut rng, 700);
                db.wait_until_settled().unwrap();
                check(&keyspace, &model, &(first, compaction, "settled"));
                let view = snapshot.keyspace(&keyspace);
                for (key, value) in before.iter().step_by(5) {
                    let read = view.get(key).unwrap().map(|value| value.to_vec());
                    assert_eq!(read.as_ref(), Some(value), "{first:?} {compaction:?}");
                }
                drop((view, snapshot));
                if rng.one_in(3) {
                    keyspace.compact::<&[u8]>(..).unwrap();
                    db.wait_until_settled().unwrap();
                    check(&keyspace, &model, &(first, compaction, "compacted"));
                }
                drop(keyspace);
                db.close().unwrap();
            }
        }
    }
}

#[test]
fn policies_keep_up_beside_writers_and_on_demand_compactions() {
    for (seed, compaction) in KEEPING.into_iter().enumerate() {
        let env = Env { clock: Env::os().clock, ..Env::memory(seed as u64) };
        let (mut model, mut rng) = (Model::new(), Rng::new(seed as u64));
        let (db, keyspace) = open(&env, compaction, 3);
        for _ in 0..12 {
            write(&keyspace, &mut model, &mut rng, 600);
            if rng.one_in(3) {
                keyspace.compact("key 0100".."key 0300").unwrap();
            }
            check(&keyspace, &model, &compaction);
        }
        db.wait_until_settled().unwrap();
        check(&keyspace, &model, &compaction);
        drop(keyspace);
        db.close().unwrap();
    }
}

#[test]
fn trees_have_the_shape_of_their_policy() {
    let runs = |compaction: CompactionPolicy| -> Vec<usize> {
        let env = Env::memory(1);
        let (db, keyspace) = open(&env, compaction, 0);
        write(&keyspace, &mut Model::new(), &mut Rng::new(1), 8_000);
        db.wait_until_settled().unwrap();
        let levels = keyspace.levels();
        levels.levels.iter().map(|level| level.runs.len()).collect()
    };
    for compaction in &KEEPING[..7] {
        let runs = runs(*compaction);
        let total: usize = runs.iter().sum();
        let holds = match compaction {
            CompactionPolicy::None => runs.len() == 1 && total > 20,
            CompactionPolicy::Tiered(_) => (1..4).contains(&total),
            CompactionPolicy::Universal(_) => total <= 4,
            CompactionPolicy::Lazy(_) => runs.iter().all(|&count| count < 3) && runs[6] == 1,
            _ => runs[1..].iter().all(|&count| count <= 1),
        };
        assert!(holds, "{compaction:?}: {runs:?}");
    }
}

#[test]
fn fifo_drops_the_oldest_tables_and_their_files() {
    let env = Env::memory(1);
    let compaction = CompactionPolicy::Fifo(FifoOptions { bytes_max: 100_000, age_max: None });
    let (db, keyspace) = open(&env, compaction, 0);
    let key = |number: u64| format!("key {number:06}");
    for number in 0..4_000 {
        keyspace.put(key(number), [7; 100]).unwrap();
    }
    keyspace.flush().unwrap();
    db.wait_until_settled().unwrap();
    let bytes = |keyspace: &Keyspace| -> u64 {
        let levels = keyspace.levels().levels;
        let tables = levels.iter().flat_map(|level| &level.runs).flat_map(|run| &run.tables);
        tables.map(|table| table.bytes).sum()
    };
    assert!((60_000..=100_000).contains(&bytes(&keyspace)), "{}", bytes(&keyspace));
    let first = keyspace.iter().next().unwrap().unwrap().0.to_vec();
    assert!(first > key(2_500).into_bytes() && keyspace.get(key(3_999)).unwrap().is_some());
    // On demand there is nothing to do: tables stay as old as they are.
    let before = bytes(&keyspace);
    keyspace.compact::<&[u8]>(..).unwrap();
    assert_eq!(bytes(&keyspace), before);
    drop(keyspace);
    db.close().unwrap();
    let (db, keyspace) = open(&env, compaction, 0);
    assert_eq!(keyspace.iter().next().unwrap().unwrap().0.to_vec(), first);
    let names = env.fs.list(std::path::Path::new("db")).unwrap();
    let tables = names.iter().filter(|entry| entry.name.ends_with(".table")).count();
    let runs = keyspace.levels().levels.iter().map(|level| level.runs.len()).sum::<usize>();
    assert_eq!(tables, runs, "{names:?}");
    drop(db);
}

#[test]
fn bad_parameters_are_refused_and_change_nothing() {
    let env = Env::memory(1);
    let (db, keyspace) = open(&env, KEEPING[2], 0);
    let compaction = CompactionPolicy::Tiered(TieredOptions { num_tiers: 1, ..Default::default() });
    let options = KeyspaceOptions { compaction, ..keyspace.options() };
    let error = db.keyspace("k", options).unwrap_err();
    assert_eq!(error.kind(), esker::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("num_tiers is 1, and must be at least 2"), "{error}");
    assert_eq!(keyspace.options().compaction, KEEPING[2]);
}
