//! What users of other engines expect: scenarios from the test suites of those engines.

use std::sync::Arc;
use std::time::Duration;

use esker::env::{CrashPolicy, Env, ManualClock, MemoryFileSystem};
use esker::{
    Batch, BulkLoader, Compression, Db, Durability, ErrorKind, IngestOptions, Keyspace,
    KeyspaceOptions, Merge, Options, Order, operators,
};

use crate::policies::{KEEPING, keeps_ages_apart};
use crate::random::Rng;
use crate::recovered::{env_of, open, options};

/// It did nothing at all, and who writes without a sync and then an empty batch with one, as other engines
/// take it, lost all of it with the power.
#[test]
fn an_empty_batch_makes_what_was_written_before_as_safe_as_it_asks() {
    use Durability::{Buffered, Power, Process};
    for (before, after) in [(Buffered, Process), (Buffered, Power), (Process, Power)] {
        for deletes_nothing in [false, true] {
            let fs = MemoryFileSystem::new(1);
            let db = open(&env_of(&fs), &options()).unwrap();
            let keyspace = db.default_keyspace();
            keyspace.put_with("k", "v", before).unwrap();
            match deletes_nothing {
                false => db.batch().commit_with(after),
                true => keyspace.delete_range_with("b".."b", after),
            }
            .unwrap();
            let is_power_lost = after == Power;
            let left =
                if is_power_lost { fs.crash(CrashPolicy::AllLost, 1) } else { fs.snapshot() };
            let db = open(&env_of(&left), &options()).unwrap();
            assert_eq!(db.get("k").unwrap().unwrap(), "v", "{before:?} {after:?}");
        }
    }
}

/// A snapshot had kept an old value in the last level, and nothing took it away when the snapshot
/// was gone: only tables with tombstones were looked at again.
#[test]
fn compaction_on_demand_drops_what_a_snapshot_kept_in_the_last_level() {
    for policy in KEEPING.into_iter().filter(|policy| !keeps_ages_apart(policy)) {
        let db = Db::in_memory().unwrap();
        let options = KeyspaceOptions { compaction: policy, ..KeyspaceOptions::default() };
        let keyspace = db.keyspace("k", options).unwrap();
        let entries = || db.stats().keyspaces[1].table_entries;
        for key in ["a", "b", "z"] {
            keyspace.put(key, "old").unwrap();
        }
        let snapshot = db.snapshot();
        keyspace.put("b", "new").unwrap();
        for _ in 0..2 {
            keyspace.compact::<&str>(..).unwrap();
            assert_eq!(snapshot.keyspace(&keyspace).get("b").unwrap().unwrap(), "old");
            assert_eq!(entries(), 4, "{policy:?}");
        }
        drop(snapshot);
        keyspace.compact("c"..).unwrap();
        keyspace.compact("b"..).unwrap();
        assert_eq!(entries(), 3, "{policy:?}");
        let rewritten = db.stats().counters.compactions;
        keyspace.compact::<&str>(..).unwrap();
        assert_eq!(db.stats().counters.compactions, rewritten, "there is nothing left to drop");
        assert_eq!(keyspace.get("b").unwrap().unwrap(), "new");
    }
}

/// As many versions of one key as fill several blocks, all of them wanted.
#[test]
fn each_of_hundreds_of_snapshots_keeps_its_own_version() {
    const COUNT: usize = 300;
    for (blob_threshold_bytes, is_reversed) in [(None, false), (Some(40), true)] {
        let db = Db::in_memory().unwrap();
        let order = if is_reversed { Order::reverse_bytewise() } else { Order::bytewise() };
        let options = KeyspaceOptions { order, blob_threshold_bytes, ..KeyspaceOptions::default() };
        let keyspace = db.keyspace("k", options).unwrap();
        let value = |round: usize| format!("{round:050}");
        let snapshots: Vec<_> = (0..COUNT)
            .map(|round| {
                for key in ["a", "b", "c"] {
                    keyspace.put(key, value(round)).unwrap();
                }
                if round % 3 == 0 {
                    keyspace.delete("b").unwrap();
                }
                if round % 70 == 0 {
                    keyspace.flush().unwrap();
                }
                db.snapshot()
            })
            .collect();
        for _ in 0..2 {
            for (round, snapshot) in snapshots.iter().enumerate() {
                let view = snapshot.keyspace(&keyspace);
                let there = |key: &&str| *key != "b" || round % 3 > 0;
                let mut expected: Vec<_> = ["a", "b", "c"].into_iter().filter(there).collect();
                if is_reversed {
                    expected.reverse();
                }
                let found: Vec<_> = view.iter().rev().map(Result::unwrap).collect();
                assert!(found.iter().rev().map(|(key, _)| key).eq(&expected), "round {round}");
                assert!(found.iter().all(|(_, found)| *found == *value(round)), "round {round}");
                let got = view.multi_get(&["a", "b", "c"]).unwrap();
                assert_eq!(got.iter().flatten().count(), expected.len(), "round {round}");
            }
            keyspace.compact::<&str>(..).unwrap();
        }
    }
}

/// What a batch gives to a key before it is committed is what the key has afterwards.
#[test]
fn batch_shows_what_its_writes_come_to() {
    for seed in 0..40 {
        let (db, clock) = with_clock(seed);
        let merge_operator = Some(Merge::new(operators::Append::new("+")));
        let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let reverse = KeyspaceOptions { order: Order::reverse_bytewise(), ..options.clone() };
        let keyspaces = [db.keyspace("a", options).unwrap(), db.keyspace("b", reverse).unwrap()];
        let mut rng = Rng::new(seed);
        for round in 0..20 {
            let mut batch = db.batch();
            for write in 0..rng.below(8) {
                let keyspace = &keyspaces[rng.below(2) as usize];
                let (key, other) = (rng.below(4).to_string(), rng.below(4).to_string());
                let value = format!("{round}.{write}");
                let ttl = Duration::from_secs(1 + rng.below(3));
                match rng.below(7) {
                    0 | 1 => batch.put(keyspace, &key, value),
                    2 | 3 => batch.merge(keyspace, &key, value),
                    4 => batch.delete(keyspace, &key),
                    5 => batch.put_with_ttl(keyspace, &key, value, ttl),
                    _ if key == other => batch.delete_range(keyspace, key..=other),
                    _ if (key < other) == (keyspace.name() == "a") => {
                        batch.delete_range(keyspace, key..other);
                    }
                    _ => batch.delete_range(keyspace, other..key),
                }
                clock.advance(Duration::from_millis(700));
            }
            let keys = || (0..4).map(|key| key.to_string());
            let pairs =
                || keyspaces.iter().flat_map(|keyspace| keys().map(move |key| (keyspace, key)));
            let shown: Vec<_> =
                pairs().map(|(keyspace, key)| batch.get(keyspace, key).unwrap()).collect();
            batch.commit().unwrap();
            let found: Vec<_> = pairs().map(|(keyspace, key)| keyspace.get(key).unwrap()).collect();
            assert_eq!(shown, found, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn reads_through_a_batch_fail_as_others_do() {
    let db = Db::in_memory().unwrap();
    let keyspace = db.default_keyspace().clone();
    let mut batch = db.batch();
    let text = |batch: &Batch, keyspace: &Keyspace, key: &[u8]| {
        batch.get(keyspace, key).unwrap_err().to_string()
    };
    let long = vec![0; 65_536];
    let too_long = "the key has 65536 bytes, and at most 65535 are allowed";
    assert_eq!(text(&batch, &keyspace, &long), too_long);
    let other = Db::in_memory().unwrap();
    let of_other = "the keyspace \"default\" belongs to another database";
    assert_eq!(text(&batch, other.default_keyspace(), b"k"), of_other);
    let dropped = db.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    batch.put(&dropped, "k", "v");
    batch.put(&keyspace, "k", "v");
    assert_eq!(batch.get(&dropped, "k").unwrap().unwrap(), "v");
    db.drop_keyspace(&dropped).unwrap();
    assert_eq!(text(&batch, &dropped, b"k"), "the keyspace dropped was dropped");
    assert_eq!(batch.get(&keyspace, "k").unwrap().unwrap(), "v");
    batch.merge(&keyspace, "k", "v");
    assert_eq!(text(&batch, &keyspace, b"k"), "the keyspace \"default\" has no merge operator");
    batch.clear();
    assert!(batch.get(&keyspace, "k").unwrap().is_none());
    batch.put(&keyspace, "k", "v");
    db.close().unwrap();
    assert_eq!(text(&batch, &keyspace, b"k"), "the database is closed");
}

#[test]
fn sizes_of_ranges_follow_what_is_stored() {
    for blob_threshold_bytes in [None, Some(1000)] {
        let db = Db::in_memory().unwrap();
        let options = KeyspaceOptions {
            blob_threshold_bytes,
            compression: Compression::None,
            shallow_compression: Compression::None,
            ..KeyspaceOptions::default()
        };
        let keyspace = db.keyspace("k", options).unwrap();
        let mut rng = Rng::new(1);
        for key in 0..80 {
            keyspace.put(format!("{key:03}"), rng.bytes(10_000)).unwrap();
            if key == 40 {
                keyspace.flush().unwrap();
            }
        }
        assert_eq!(keyspace.approximate_bytes("050"..).unwrap(), 0, "memtables do not count");
        keyspace.flush().unwrap();
        for _ in 0..2 {
            let bytes = |range: std::ops::Range<&str>| keyspace.approximate_bytes(range).unwrap();
            for (range, expected) in [
                ("000".."080", 800_000),
                ("000".."020", 200_000),
                ("030".."050", 200_000),
                ("079".."080", 10_000),
                ("080".."099", 0),
                ("050".."050", 0),
                ("050".."040", 0),
            ] {
                let found = bytes(range.clone());
                // Blocks at both ends count whole; one of references stands for many values.
                let edges = if blob_threshold_bytes.is_some() { 800_000 } else { 25_000 };
                let most = if expected == 0 { 0 } else { (expected + edges).min(810_000) };
                assert!((expected..=most).contains(&found), "{found} in {range:?}");
            }
            keyspace.compact::<&str>(..).unwrap();
        }
        db.drop_keyspace(&keyspace).unwrap();
        let error = keyspace.approximate_bytes("0"..).unwrap_err();
        assert_eq!(error.to_string(), "the keyspace k was dropped");
    }
}

#[test]
fn snapshot_reads_in_every_way() {
    let db = Db::in_memory().unwrap();
    for key in ["a", "b", "c"] {
        db.put(key, "old").unwrap();
    }
    let snapshot = db.snapshot();
    db.delete("b").unwrap();
    db.put("c", "new").unwrap();
    assert!(snapshot.contains("b").unwrap() && !snapshot.contains("d").unwrap());
    let found = snapshot.multi_get(&["c", "d"]).unwrap();
    assert!(found[0].as_ref().unwrap() == "old" && found[1].is_none());
    assert_eq!(snapshot.iter().count(), 3);
    let view = snapshot.keyspace(db.default_keyspace());
    assert_eq!(view.iter().next_back().unwrap().unwrap().1, "old");
    let mut cursor = snapshot.cursor().unwrap();
    cursor.seek("b").unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&b"b"[..], &b"old"[..]));
    let mut cursor = view.cursor_in("a".."c").unwrap();
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key(), b"b");
    cursor.next().unwrap();
    assert!(!cursor.is_valid());
    let mut now = db.cursor_in("a".."c").unwrap();
    now.seek_to_last().unwrap();
    assert_eq!(now.key(), b"a");
}

/// A segment never is so small, but a memtable of whatever keyspace was flushed whenever another one
/// was full.
#[test]
fn small_log_segments_flush_no_memtable_before_its_time() {
    let options = Options { log_segment_bytes: 1, background_threads: 0, ..Options::default() };
    let db = Db::builder("expectations").env(Env::memory(1)).options(options).open().unwrap();
    let options = KeyspaceOptions { memtable_bytes: 4000, ..KeyspaceOptions::default() };
    let (slow, fast) = (db.default_keyspace(), db.keyspace("fast", options).unwrap());
    slow.put("k", "v").unwrap();
    for key in 0..150 {
        fast.put([key], [key; 1000]).unwrap();
    }
    let stats = db.stats().keyspaces;
    assert_eq!((stats[0].table_count, stats[0].memtable_count), (0, 1));
    assert!(0 < stats[1].table_count);
}

/// What is of a keyspace that was dropped stays with it: nothing leads to the one that has its name.
#[test]
fn keyspace_made_again_has_nothing_of_the_one_before() {
    let env = Env::memory(3);
    let open = || Db::builder("expectations").env(env.clone()).open().unwrap();
    let make = |db: &Db| db.keyspace("users", KeyspaceOptions::default()).unwrap();
    let db = open();
    let old = make(&db);
    old.put("a", "old").unwrap();
    old.flush().unwrap();
    old.put("b", "old").unwrap();
    let (snapshot, mut batch) = (db.snapshot(), db.batch());
    batch.put(&old, "c", "old");
    let mut cursor = old.cursor().unwrap();
    cursor.seek_to_first().unwrap();
    db.drop_keyspace(&old).unwrap();
    let new = make(&db);
    assert_eq!((new.iter().count(), snapshot.keyspace(&new).iter().count()), (0, 0));
    new.put("a", "new").unwrap();
    assert!(snapshot.keyspace(&new).get("a").unwrap().is_none());
    cursor.next().unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&b"b"[..], &b"old"[..]));
    for refused in [batch.commit(), old.put("a", "old"), cursor.refresh()] {
        assert_eq!(refused.unwrap_err().to_string(), "the keyspace users was dropped");
    }
    assert_eq!(cursor.value(), b"old", "it stays where it was");
    db.rename_keyspace(&new, "others").unwrap();
    assert_eq!(make(&db).iter().count(), 0);
    drop((old, new, snapshot, cursor, db));
    let db = open();
    assert_eq!(db.keyspaces(), ["default", "others", "users"]);
    let others = db.existing_keyspace("others").unwrap().unwrap();
    let entries: Vec<_> = others.iter().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].0 == "a" && entries[0].1 == "new");
    assert_eq!(make(&db).iter().count(), 0);
}

/// What is written goes to the keyspace that was meant, whatever it is called by then.
#[test]
fn keyspaces_that_exchange_their_names_keep_what_is_theirs() {
    let env = Env::memory(5);
    let open = || Db::builder("expectations").env(env.clone()).open().unwrap();
    let db = open();
    let make = |name: &str| db.keyspace(name, KeyspaceOptions::default()).unwrap();
    let (first, second) = (make("a"), make("b"));
    first.put("was called", "a").unwrap();
    second.put("was called", "b").unwrap();
    let mut batch = db.batch();
    batch.put(&first, "in a batch", "a");
    for (keyspace, name) in [(&first, "aside"), (&second, "a"), (&first, "b")] {
        db.rename_keyspace(keyspace, name).unwrap();
        assert_eq!(keyspace.name(), name);
    }
    batch.commit().unwrap();
    for bad in ["", "a", "b", "default", &"x".repeat(256)] {
        let error = db.rename_keyspace(&first, bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    // Names are for people, and no file has them.
    let odd = "\0/..\u{1f600}\n";
    make(odd).put("was called", "odd").unwrap();
    drop((first, second, db));
    let db = open();
    assert_eq!(db.keyspaces(), ["default", "b", "a", odd]);
    let get = |name: &str, key: &str| db.existing_keyspace(name).unwrap().unwrap().get(key);
    for (name, was_called) in [("a", "b"), ("b", "a"), (odd, "odd")] {
        assert_eq!(get(name, "was called").unwrap().unwrap(), was_called);
    }
    assert_eq!(get("b", "in a batch").unwrap().unwrap(), "a");
    assert!(get("a", "in a batch").unwrap().is_none());
}

/// Also of those that have nothing to do: no keys to delete, no tables to take in, no writes.
#[test]
fn every_call_says_that_it_comes_too_late_or_may_not_write() {
    let env = Env::memory(4);
    let builder = || Db::builder("expectations").env(env.clone());
    let db = builder().open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    keyspace.put("a", "1").unwrap();
    let dropped = db.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    db.drop_keyspace(&dropped).unwrap();
    assert_eq!(refusals(&db, &dropped), ["closed"]);
    db.clone().close().unwrap();
    assert_eq!(refusals(&db, &keyspace), ["closed"]);
    let db = builder().read_only(true).open().unwrap();
    let keyspace = db.existing_keyspace("k").unwrap().unwrap();
    assert_eq!(write_refusals(&db, &keyspace), ["read-only"]);
    assert_eq!(keyspace.get("a").unwrap().unwrap(), "1");
}

/// The kinds of errors of all reads and writes, each once.
fn refusals(db: &Db, keyspace: &Keyspace) -> Vec<&'static str> {
    let snapshot = db.snapshot();
    let view = snapshot.keyspace(keyspace);
    let mut kinds = vec![
        kind(keyspace.get("a")),
        kind(keyspace.get_into("a", &mut Vec::new())),
        kind(keyspace.multi_get::<&str>(&[])),
        kind(keyspace.contains("a")),
        kind(keyspace.expires_at("a")),
        kind(keyspace.cursor()),
        kind(keyspace.cursor_in("b".."a")),
        kind(keyspace.iter().next().unwrap()),
        kind(keyspace.prefix("b").next_back().unwrap()),
        kind(keyspace.approximate_bytes("b".."a")),
        kind(keyspace.explain_get("a")),
        kind(keyspace.explain_scan("b".."a", None)),
        kind(view.get("a")),
        kind(view.cursor()),
        kind(view.iter().next().unwrap()),
        kind(db.batch().get(keyspace, "a")),
    ];
    kinds.extend(write_refusals(db, keyspace));
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The kinds of errors of all writes, each once.
fn write_refusals(db: &Db, keyspace: &Keyspace) -> Vec<&'static str> {
    let mut batch = db.batch();
    batch.delete(keyspace, "a");
    let mut kinds = vec![
        kind(keyspace.put("a", "2")),
        kind(keyspace.put_with_ttl("a", "2", Duration::MAX)),
        kind(keyspace.delete("a")),
        kind(keyspace.single_delete("a")),
        kind(keyspace.delete_range("a".."b")),
        kind(keyspace.delete_range("a".."a")),
        kind(batch.commit()),
        kind(keyspace.flush()),
        kind(keyspace.compact("b".."a")),
        kind(keyspace.start_compaction("b".."a")),
        kind(db.ingest::<&str>(keyspace, &[], IngestOptions::default())),
        kind(db.bulk_loader(keyspace).and_then(BulkLoader::finish)),
        kind(db.rename_keyspace(keyspace, "other")),
        kind(db.drop_keyspace(keyspace)),
    ];
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The kind of the error.
fn kind<T>(result: esker::Result<T>) -> &'static str {
    result.map_or_else(|error| error.kind().name(), |_| "none")
}

/// A database in memory whose clock the test turns.
fn with_clock(seed: u64) -> (Db, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(2_000_000_000)));
    let env = Env { clock: clock.clone(), ..Env::memory(seed) };
    (Db::builder("expectations").env(env).open().unwrap(), clock)
}
