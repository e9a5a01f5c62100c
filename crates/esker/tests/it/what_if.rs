//! The estimated costs of other policies, compared with their real costs.

use esker::env::Env;
use esker::{CompactionPolicy, Db, ErrorKind, Keyspace, KeyspaceOptions, Options};

use crate::random::Rng;

/// Keys that are written over and over.
const KEY_COUNT: u64 = 40_000;

/// Writes between two flushes.
const FLUSH_WRITES: u64 = 4_000;

fn options(compaction: CompactionPolicy) -> KeyspaceOptions {
    KeyspaceOptions { compaction, memtable_bytes: 1 << 20, ..KeyspaceOptions::default() }
}

fn open(env: &Env, compaction: CompactionPolicy) -> (Db, Keyspace) {
    let engine = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("db").env(env.clone()).options(engine).open().unwrap();
    let keyspace = db.keyspace("k", options(compaction)).unwrap();
    (db, keyspace)
}

/// So many flushes of random keys, each with all compactions that follow from it; as a replay has
/// it.
fn write(db: &Db, keyspace: &Keyspace, rng: &mut Rng, flush_count: u64) {
    for _ in 0..flush_count {
        for _ in 0..FLUSH_WRITES {
            let key = format!("key {:06}", rng.below(KEY_COUNT));
            keyspace.put(key, rng.bytes(100)).unwrap();
        }
        keyspace.flush().unwrap();
        while db.run_background_job() {}
    }
}

#[test]
fn what_is_foreseen_is_what_happens() {
    let universal = CompactionPolicy::Universal(Default::default());
    let lazy = CompactionPolicy::Lazy(Default::default());
    for compaction in [CompactionPolicy::Leveled, universal, lazy] {
        let (env, mut rng) = (Env::memory(1), Rng::new(7));
        let (db, keyspace) = open(&env, compaction);
        write(&db, &keyspace, &mut rng, 40);
        let answer = keyspace.what_if_after(&[], 40).unwrap();
        let before = db.stats().counters;
        write(&db, &keyspace, &mut rng, 40);
        let after = db.stats().counters;
        let flushed = after.flush_bytes - before.flush_bytes;
        let merged = after.compaction_write_bytes - before.compaction_write_bytes;
        let actual = (flushed + merged) as f64 / flushed as f64;
        let [live] = &answer.outcomes[..] else { panic!("{answer}") };
        let is_near = |a: f64, b: f64, share: f64| (a - b).abs() <= share * b;
        assert!(is_near(live.flush_bytes as f64, flushed as f64, 0.02), "{live:?}, {flushed}");
        let foreseen = live.write_amplification;
        assert!(is_near(foreseen, actual, 0.1), "{foreseen}, in fact {actual}: {answer}");
        let bytes = keyspace.levels().bytes();
        let share = is_near(live.table_bytes as f64, bytes as f64, 0.15);
        assert!(share, "{live:?}, in fact {bytes}");
    }
}

#[test]
fn the_past_is_known_after_a_reopen() {
    let (env, mut rng) = (Env::memory(1), Rng::new(7));
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    write(&db, &keyspace, &mut rng, 10);
    let before = keyspace.what_if(&[]).unwrap();
    assert!(before.recorded_flushes == 10 && before.recorded_merges > 0, "{before}");
    db.close().unwrap();
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    let after = keyspace.what_if(&[]).unwrap();
    assert_eq!(after.recorded_flushes, before.recorded_flushes);
    assert_eq!(after.recorded_merges, before.recorded_merges);
    write(&db, &keyspace, &mut rng, 2);
    assert_eq!(keyspace.what_if(&[]).unwrap().recorded_flushes, 2);
}

#[test]
fn other_options_are_compared_side_by_side() {
    let (env, mut rng) = (Env::memory(1), Rng::new(7));
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    write(&db, &keyspace, &mut rng, 10);
    let levels = keyspace.levels();
    let larger = KeyspaceOptions { memtable_bytes: 4 << 20, ..options(CompactionPolicy::Leveled) };
    let answer = keyspace.what_if_after(&[options(CompactionPolicy::None), larger], 40).unwrap();
    let [live, none, larger] = &answer.outcomes[..] else { panic!("{answer}") };
    assert_eq!((live.policy, none.policy, larger.policy), ("leveled", "none", "leveled"));
    assert_eq!((live.flushes, none.flushes, larger.flushes), (40, 40, 10));
    assert_eq!((none.write_amplification, none.takeover_bytes), (1.0, 0));
    assert!(1.0 < live.write_amplification && live.run_count_max < none.run_count_max);
    assert!(live.space_amplification < none.space_amplification, "{answer}");
    assert_eq!(keyspace.levels(), levels);
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let (db, keyspace) = open(&Env::memory(1), CompactionPolicy::Leveled);
    let refused = keyspace.what_if_after(&[], 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.to_string(), "flushes is 0, and must be from 1 to 100000");
    let bad = esker::LazyOptions { runs_per_level: 0, size_multiplier: 1 };
    let refused = db.what_if(&[options(CompactionPolicy::Lazy(bad))]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("runs_per_level is 0"), "{refused}");
    // As many bytes by memtables of one byte would have been replayed for days.
    let tiny = KeyspaceOptions { memtable_bytes: 1, ..options(CompactionPolicy::Leveled) };
    let refused = keyspace.what_if(&[tiny]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let expected =
        "memtable_bytes is 1, and 256 flushes of 1048576 bytes are more than 1000000 of those";
    assert_eq!(refused.to_string(), expected);
    // Of nothing follows nothing.
    assert_eq!(keyspace.what_if(&[]).unwrap().outcomes[0].flushes, 0);
}

/// It was answered all the same.
#[test]
fn a_database_that_is_closed_foresees_nothing() {
    let (db, keyspace) = open(&Env::memory(1), CompactionPolicy::Leveled);
    db.close().unwrap();
    assert_eq!(keyspace.what_if(&[]).unwrap_err().kind(), ErrorKind::Closed);
}
