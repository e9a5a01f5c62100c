//! Values in blob files: every way to read them, what keeps a file alive, and the garbage bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{Env, ManualClock};
use esker::{
    CompactionFilter, CompactionFilterFactory, Db, ErrorKind, Filter, FilterContext,
    FilterDecision, FilterFailure, IngestOptions, Keyspace, KeyspaceOptions, Merge, MergeFailure,
    MergeOperator, Options, TableWriter, TableWriterOptions,
};

use crate::random::Rng;
use crate::referenced::{assert_exact, assert_tidy};

const THRESHOLD: u32 = 100;

fn keyspace_options() -> KeyspaceOptions {
    KeyspaceOptions {
        blob_threshold_bytes: Some(THRESHOLD),
        blob_waste_percent_max: 20,
        memtable_bytes: 20_000,
        ..KeyspaceOptions::default()
    }
}

fn open_with(env: &Env, options: KeyspaceOptions) -> Db {
    let database = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder("db").env(env.clone()).options(database);
    builder.default_keyspace(options).open().unwrap()
}

fn value(number: u64, len: usize) -> Vec<u8> {
    Rng::new(number).bytes(len)
}

fn blob_files(env: &Env) -> Vec<String> {
    files_ending_with(".blob", env)
}

fn files_ending_with(end: &str, env: &Env) -> Vec<String> {
    let entries = env.fs.list(Path::new("db")).unwrap().into_iter();
    let mut names: Vec<String> =
        entries.map(|entry| entry.name).filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

fn remove(env: &Env, names: &[String]) {
    names.iter().for_each(|name| env.fs.remove(&Path::new("db").join(name)).unwrap());
}

/// Bytes of blob files, and of garbage in them.
fn blob_bytes(db: &Db) -> (u64, u64) {
    let stats = &db.stats().keyspaces[0];
    (stats.blob_bytes, stats.blob_garbage_bytes)
}

/// Twenty keys, every other one with a value in a blob file.
fn fill(keyspace: &Keyspace, round: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let one = |index: u64| {
        let len = if index.is_multiple_of(2) { THRESHOLD as usize + index as usize } else { 99 };
        let (key, value) = (format!("key{index:02}").into_bytes(), value(round * 100 + index, len));
        keyspace.put(&key, &value).unwrap();
        (key, value)
    };
    (0..20).map(one).collect()
}

#[test]
fn values_from_the_threshold_on_are_read_in_every_way() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    let keyspace = db.default_keyspace();
    let entries = fill(keyspace, 1);
    db.flush().unwrap();
    assert_eq!(blob_files(&env).len(), 1);
    let levels = keyspace.levels();
    assert_eq!(levels.blob_files[0].reference_count, 10, "{levels}");
    assert!(levels.to_string().contains("10 references, 0 bytes of garbage"), "{levels}");
    let snapshot = db.snapshot();
    let newer = fill(keyspace, 2);
    db.flush().unwrap();
    db.delete("key04").unwrap();
    for (key, value) in &entries {
        assert_eq!(snapshot.get(key).unwrap().unwrap(), value);
    }
    for (key, value) in newer.iter().filter(|(key, _)| key != b"key04") {
        assert_eq!(db.get(key).unwrap().unwrap(), value);
        assert_eq!(keyspace.get_with(key, <[u8]>::to_vec).unwrap().as_ref(), Some(value));
        let explained = keyspace.explain_get(key).unwrap();
        assert_eq!(explained.value_len, Some(value.len()));
        let is_blob = value.len() >= THRESHOLD as usize;
        assert_eq!(explained.to_string().contains("blob block at"), is_blob, "{explained}");
    }
    let mut expected = newer;
    expected.remove(4);
    let shown = |(key, value): (esker::Key, esker::Value)| (key.to_vec(), value.to_vec());
    let forward: Vec<_> = keyspace.iter().map(|entry| shown(entry.unwrap())).collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> = keyspace.iter().rev().map(|entry| shown(entry.unwrap())).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    let mut cursor = keyspace.cursor().unwrap();
    cursor.seek_for_prev("key06").unwrap();
    assert_eq!(cursor.value(), expected[5].1);
    let (_, pinned) = cursor.entry();
    cursor.next().unwrap();
    cursor.prev().unwrap();
    assert_eq!((cursor.value(), pinned), (&*expected[5].1, (&*expected[5].1).into()));
    db.compact_all().unwrap();
    let forward: Vec<_> = keyspace.iter().map(|entry| shown(entry.unwrap())).collect();
    assert_eq!(forward, expected);
    let then: Vec<_> = snapshot.scan::<&str>(..).map(|entry| shown(entry.unwrap())).collect();
    assert_eq!(then, entries);
}

#[test]
fn who_asks_for_keys_alone_reads_no_blob_file() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    let entries = fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    // No blob file has been opened yet: whoever wants one now, fails.
    remove(&env, &blob_files(&env));
    let keys: Vec<Vec<u8>> = entries.into_iter().map(|(key, _)| key).collect();
    let forward: Vec<Vec<u8>> =
        db.default_keyspace().iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(forward, keys);
    let backward: Vec<Vec<u8>> =
        db.default_keyspace().iter().keys().rev().map(|key| key.unwrap().to_vec()).collect();
    assert!(backward.iter().eq(keys.iter().rev()));
    assert!(
        db.contains("key02").unwrap()
            && db.snapshot().keyspace(db.default_keyspace()).contains("key02").unwrap()
    );
    let mut cursor = db.default_keyspace().cursor().unwrap().keys_only();
    cursor.seek("key02").unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&b"key02"[..], &b""[..]));
    cursor.refresh().unwrap();
    assert_eq!(cursor.key(), b"key02");
    for error in [
        db.get("key02").unwrap_err(),
        db.default_keyspace().iter().next().unwrap().unwrap_err(),
        db.default_keyspace().iter().nth_back(1).unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains(".blob"), "{error}");
    }
    assert_eq!(db.get("key01").unwrap().unwrap(), value(101, 99));
}

/// The cursor of an end that had been asked for an entry went on reading values.
#[test]
fn a_scan_that_has_begun_reads_no_more_blobs_once_it_is_asked_for_keys() {
    let db = open_with(&Env::memory(1), keyspace_options());
    let entries = fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    let mut scan = db.iter();
    let (first, last) = (scan.next(), scan.next_back());
    assert_eq!(first.unwrap().unwrap().0, entries[0].0.as_slice());
    assert_eq!(last.unwrap().unwrap().0, entries[entries.len() - 1].0.as_slice());
    let before = db.stats().cache.loads;
    let mut keys = scan.keys();
    for between in 1..entries.len() - 1 {
        let (key, at) = match between % 2 {
            1 => (keys.next(), between.div_ceil(2)),
            _ => (keys.next_back(), entries.len() - 1 - between / 2),
        };
        assert_eq!(key.unwrap().unwrap(), entries[at].0.as_slice());
    }
    assert!(keys.next().is_none());
    assert_eq!(db.stats().cache.loads, before);
}

#[test]
fn a_blob_file_and_its_table_go_when_the_last_reader_lets_go_of_them() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    let entries = fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    let (old, old_tables) = (blob_files(&env), files_ending_with(".table", &env));
    let mut cursor = db.default_keyspace().cursor().unwrap();
    cursor.seek_to_first().unwrap();
    fill(db.default_keyspace(), 2);
    db.compact_all().unwrap();
    let held = blob_files(&env);
    assert!(held.contains(&old[0]), "a cursor holds it: {held:?}");
    let tables = files_ending_with(".table", &env);
    assert!(tables.contains(&old_tables[0]), "and its table: {tables:?}");
    for (key, value) in &entries {
        assert_eq!((cursor.key(), cursor.value()), (&**key, &**value));
        cursor.next().unwrap();
    }
    drop(cursor);
    assert!(!blob_files(&env).contains(&old[0]), "nobody holds it");
    assert!(!files_ending_with(".table", &env).contains(&old_tables[0]), "nor its table");
    assert_eq!(db.stats().counters.blob_files_removed, 1);
    assert_tidy(&db, &*env.fs, "settled");
    db.close().unwrap();
    assert_exact(&*env.fs, Path::new("db"), "closed");
}

#[test]
fn garbage_stays_within_its_bound_under_overwrites() {
    for (threads, percent) in [(0, 10), (0, 40), (2, 20)] {
        let clock = Env::os().clock;
        let env = Env { clock, ..Env::memory(1) };
        let options = KeyspaceOptions { blob_waste_percent_max: percent, ..keyspace_options() };
        let database = Options { background_threads: threads, ..Options::default() };
        let builder = Db::builder("db").env(env.clone()).options(database);
        let db = builder.default_keyspace(options).open().unwrap();
        let mut rng = Rng::new(percent.into());
        let mut model = std::collections::BTreeMap::new();
        let mut most_garbage = 0;
        for round in 0..20_000_u64 {
            // Some keys are written often, most of them seldom.
            let key = if rng.one_in(2) { rng.below(20) } else { rng.below(600) };
            let value = value(round, 100 + rng.index(300));
            db.put(key.to_le_bytes(), &value).unwrap();
            model.insert(key.to_le_bytes().to_vec(), value);
            if threads == 0 && rng.one_in(20) {
                db.run_background_job();
            }
            if round % 100 == 99 {
                most_garbage = most_garbage.max(blob_bytes(&db).1);
            }
            if round % 1_000 == 999 {
                db.wait_until_settled().unwrap();
                let (all, garbage) = blob_bytes(&db);
                assert!(garbage * 100 <= all * u64::from(percent), "{garbage} of {all}");
            }
        }
        let moved = db.stats().counters.blob_move_bytes;
        assert!(most_garbage > 0 && moved > 0, "{most_garbage} {moved}");
        let found: Vec<_> = db.default_keyspace().iter().map(|entry| entry.unwrap()).collect();
        assert_eq!(found.len(), model.len());
        assert!(found.iter().all(|(key, value)| model[&**key] == **value));
        assert_tidy(&db, &*env.fs, "settled");
    }
}

/// Each flush that has a large value makes a blob file: where flushes were small there was one for each
/// of them for good, and in the end too many open files.
#[test]
fn blob_files_of_small_flushes_are_joined_as_their_tables_are() {
    for is_ascending in [true, false] {
        let env = Env::memory(1);
        let db = open_with(&env, keyspace_options());
        let of_round = |round: u64| {
            let key = if is_ascending { round } else { round * 7_919 % 1_009 };
            (format!("key{key:04}"), value(round, 500))
        };
        for round in 0..200 {
            let (key, value) = of_round(round);
            db.put(&key, &value).unwrap();
            db.flush().unwrap();
            db.run_background_job();
        }
        db.wait_until_settled().unwrap();
        let count = blob_files(&env).len();
        assert!(count <= 24, "{count} blob files of 200 flushes; is_ascending: {is_ascending}");
        let moved = db.stats().counters.blob_move_bytes;
        assert!(moved < 20 * 200 * 500, "{moved} bytes were moved of 100,000");
        for (key, value) in (0..200).map(of_round) {
            assert_eq!(db.get(&key).unwrap().as_deref(), Some(&*value), "{key}");
        }
        assert_tidy(&db, &*env.fs, "settled");
    }
}

#[test]
fn values_come_back_into_tables_once_blob_files_are_turned_off() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    let entries = fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    db.close().unwrap();
    let off = KeyspaceOptions { blob_threshold_bytes: None, ..keyspace_options() };
    let db = open_with(&env, off);
    assert_eq!(blob_files(&env).len(), 1);
    let check = || {
        for (key, value) in &entries {
            assert_eq!(db.get(key).unwrap().unwrap(), value);
        }
    };
    check();
    db.put("key051", "so that there is something to merge").unwrap();
    db.compact_all().unwrap();
    db.wait_until_settled().unwrap();
    assert_eq!(blob_files(&env), [""; 0]);
    check();
}

#[test]
fn a_dropped_keyspace_takes_its_blob_files_along() {
    let env = Env::memory(1);
    let db = open_with(&env, KeyspaceOptions::default());
    let other = db.keyspace("other", keyspace_options()).unwrap();
    fill(&other, 1);
    other.flush().unwrap();
    let scan = other.iter();
    let mut cursor = other.cursor().unwrap();
    cursor.seek_to_first().unwrap();
    db.drop_keyspace(&other).unwrap();
    assert_eq!(blob_files(&env).len(), 1, "a cursor holds it");
    cursor.next().unwrap();
    drop((scan, cursor));
    assert_eq!(blob_files(&env), [""; 0]);
    assert_tidy(&db, &*env.fs, "dropped");
}

/// Removes values that start with "remove", and changes those that start with "change".
struct ByStart;

impl CompactionFilterFactory for ByStart {
    fn name(&self) -> &str {
        "by start"
    }

    fn create(&self, _: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(Self)
    }
}

impl CompactionFilter for ByStart {
    fn filter(
        &mut self,
        _: &[u8],
        value: &[u8],
    ) -> std::result::Result<FilterDecision, FilterFailure> {
        Ok(match value {
            [b'r', b'e', b'm', ..] => FilterDecision::Remove,
            [b'c', b'h', ..] => FilterDecision::Change(b"x".repeat(value.len())),
            _ => FilterDecision::Keep,
        })
    }
}

#[test]
fn filters_are_asked_about_values_in_blob_files() {
    let env = Env::memory(1);
    let compaction_filter = Some(Filter::new(ByStart));
    let db = open_with(&env, KeyspaceOptions { compaction_filter, ..keyspace_options() });
    for start in ["remove", "change", "keep"] {
        db.put(start, start.repeat(30)).unwrap();
    }
    db.flush().unwrap();
    db.put("l", "so that there is something to merge").unwrap();
    db.compact_all().unwrap();
    assert_eq!(db.get("remove").unwrap(), None);
    assert_eq!(db.get("change").unwrap().unwrap(), b"x".repeat(180));
    assert_eq!(db.get("keep").unwrap().unwrap(), "keep".repeat(30));
    assert_tidy(&db, &*env.fs, "filtered");
}

#[test]
fn operands_are_merged_into_values_in_blob_files() {
    let env = Env::memory(1);
    let merge_operator = Some(Merge::new(Concatenates));
    let db = open_with(&env, KeyspaceOptions { merge_operator, ..keyspace_options() });
    let base = "base".repeat(40);
    db.put("k", &base).unwrap();
    db.flush().unwrap();
    let snapshot = db.snapshot();
    db.merge("k", "1").unwrap();
    let check = |expected: String| {
        assert_eq!(db.get("k").unwrap().unwrap(), expected);
        assert_eq!(db.default_keyspace().iter().next().unwrap().unwrap().1, expected);
        assert_eq!(db.default_keyspace().iter().next_back().unwrap().unwrap().1, expected);
        assert_eq!(snapshot.get("k").unwrap().unwrap(), base);
    };
    check(format!("{base}1"));
    db.flush().unwrap();
    db.merge("k", "2").unwrap();
    check(format!("{base}12"));
    db.compact_all().unwrap();
    check(format!("{base}12"));
    drop(snapshot);
    db.put("l", "so that there is something to merge").unwrap();
    db.merge("k", "3").unwrap();
    db.compact_all().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), format!("{base}123"));
    assert_eq!(blob_files(&env).len(), 1, "the merged value is a large one, too");
    assert_tidy(&db, &*env.fs, "merged");
}

struct Concatenates;

impl MergeOperator for Concatenates {
    fn name(&self) -> &str {
        "concatenates"
    }

    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), MergeFailure> {
        out.extend_from_slice(existing.unwrap_or_default());
        operands.iter().for_each(|operand| out.extend_from_slice(operand));
        Ok(())
    }
}

#[test]
fn a_reference_that_something_newer_hides_is_never_followed() {
    let env = Env::memory(1);
    let merge_operator = Some(Merge::new(Concatenates));
    // So much that what is left is not moved.
    let blob_waste_percent_max = 95;
    let options = KeyspaceOptions { merge_operator, blob_waste_percent_max, ..keyspace_options() };
    let db = open_with(&env, options);
    fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    // No blob file has been opened yet: whoever wants one now, fails.
    remove(&env, &blob_files(&env));
    let check = |when: &str| {
        for key in ["key00", "key02", "key04", "key06"] {
            assert_eq!(db.get(key).unwrap(), None, "{when}");
        }
        assert_eq!(db.get("key08").unwrap().unwrap(), "new", "{when}");
        assert_eq!(db.get("key10").unwrap().unwrap(), "new1", "{when}");
        let scan = || db.scan(.."key11");
        let keys = ["key01", "key03", "key05", "key07", "key08", "key09", "key10"];
        let forward: Vec<_> = scan().map(|entry| entry.expect(when).0.to_vec()).collect();
        assert_eq!(forward, keys.map(|key| key.as_bytes().to_vec()), "{when}");
        let mut backward: Vec<_> = scan().rev().map(|entry| entry.unwrap().0.to_vec()).collect();
        backward.reverse();
        assert_eq!(backward, forward, "{when}");
    };
    db.delete("key00").unwrap();
    for start in ["key02", "key04", "key06"] {
        db.default_keyspace().delete_range(start..format!("{start} ").as_str()).unwrap();
    }
    db.put("key08", "new").unwrap();
    db.put("key10", "new").unwrap();
    db.merge("key10", "1").unwrap();
    check("in memory");
    db.flush().unwrap();
    check("in tables");
    db.default_keyspace().compact(.."key11").unwrap();
    check("compacted");
}

#[test]
fn tables_that_range_deletes_drop_unread_take_their_blob_files_along() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    let snapshot = db.snapshot();
    let old = blob_files(&env);
    db.default_keyspace().delete_range::<&str>(..).unwrap();
    db.wait_until_settled().unwrap();
    assert_eq!(snapshot.get("key02").unwrap().unwrap(), value(102, 102));
    assert_eq!(blob_files(&env), old, "the snapshot reads it");
    drop(snapshot);
    db.flush().unwrap();
    let counters = db.stats().counters;
    while db.run_background_job() {}
    assert_eq!(blob_files(&env), [""; 0]);
    let after = db.stats().counters;
    assert_eq!(after.compaction_read_bytes, counters.compaction_read_bytes, "nothing was read");
    assert_eq!(after.blob_files_removed, 1);
    assert_tidy(&db, &*env.fs, "dropped");
}

#[test]
fn values_that_expire_stay_in_tables() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
    let env = Env { clock: clock.clone(), ..Env::memory(1) };
    let db = open_with(&env, keyspace_options());
    let large = value(1, 1000);
    db.put("stays", &large).unwrap();
    db.put_with_ttl("goes", &large, Duration::from_secs(10)).unwrap();
    db.flush().unwrap();
    assert_eq!(db.default_keyspace().levels().blob_files[0].reference_count, 1);
    assert_eq!(db.get("goes").unwrap().unwrap(), large);
    clock.advance(Duration::from_secs(10));
    assert_eq!(db.get("goes").unwrap(), None);
    db.compact_all().unwrap();
    let keys: Vec<_> =
        db.default_keyspace().iter().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!(keys, [b"stays"]);
    assert_eq!(db.get("stays").unwrap().unwrap(), large);
}

#[test]
fn ingested_values_go_to_blob_files_as_they_are_compacted() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options());
    let entries = fill(db.default_keyspace(), 1);
    db.flush().unwrap();
    let path = Path::new("elsewhere.table");
    let mut writer = TableWriter::create_in(&env, path, TableWriterOptions::default()).unwrap();
    for (key, value) in entries.iter().step_by(3) {
        writer.put(key, [value.as_slice(), b" again"].concat()).unwrap();
    }
    writer.finish().unwrap();
    db.ingest(db.default_keyspace(), &[path], IngestOptions::default()).unwrap();
    let check = || {
        for (index, (key, value)) in entries.iter().enumerate() {
            let again: &[u8] = if index.is_multiple_of(3) { b" again" } else { b"" };
            assert_eq!(db.get(key).unwrap().unwrap(), [value.as_slice(), again].concat());
        }
    };
    check();
    db.compact_all().unwrap();
    check();
    let levels = db.default_keyspace().levels();
    let references: u64 = levels.blob_files.iter().map(|file| file.reference_count).sum();
    let is_large = |(index, (_, value)): (usize, &(Vec<u8>, Vec<u8>))| {
        let again = if index.is_multiple_of(3) { 6 } else { 0 };
        THRESHOLD as usize <= value.len() + again
    };
    let large = entries.iter().enumerate().filter(|entry| is_large(*entry)).count();
    assert_eq!(references, large as u64, "{levels}");
    assert_tidy(&db, &*env.fs, "compacted");
}
