//! The bulk loader: sorted and unsorted input, what it replaces, and what it leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, MemoryFileSystem, Operation, Rule, When,
};
use esker::{
    BulkLoadReport, Db, ErrorKind, IngestOptions, KeyspaceOptions, Options, Outcome, TableWriter,
    TableWriterOptions,
};

use crate::random::Rng;
use crate::referenced::assert_tidy;

/// A database in memory whose loaders buffer a megabyte at most, with small tables.
fn open(env: &Env) -> Db {
    open_with(env, 0)
}

fn open_with(env: &Env, background_threads: usize) -> Db {
    let options =
        Options { background_threads, memory_budget_bytes: 4 << 20, ..Options::default() };
    let small = KeyspaceOptions { memtable_bytes: 64 << 10, ..KeyspaceOptions::default() };
    Db::builder("db").env(env.clone()).options(options).default_keyspace(small).open().unwrap()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn assert_holds(db: &Db, model: &Model) {
    let mut expected = model.iter();
    for entry in db.iter() {
        let (key, value) = entry.unwrap();
        assert_eq!(Some((&key.to_vec(), &value.to_vec())), expected.next());
    }
    assert_eq!(expected.next(), None);
}

fn load(db: &Db, entries: &[(Vec<u8>, Vec<u8>)]) -> BulkLoadReport {
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    for (key, value) in entries {
        loader.put(key, value).unwrap();
    }
    loader.finish().unwrap()
}

fn entries(rng: &mut Rng, count: u64, keys: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let one = |round: u64| {
        let key = format!("key {:08}", rng.below(keys)).into_bytes();
        (key, [&round.to_le_bytes()[..], &rng.bytes(200)].concat())
    };
    (0..count).map(one).collect()
}

#[test]
fn sorted_input_streams_into_a_settled_last_level() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut given = entries(&mut Rng::new(1), 20_000, 1 << 40);
    given.sort();
    let log_bytes = db.stats().counters.log_bytes;
    let report = load(&db, &given);
    let model: Model = given.into_iter().collect();
    assert_eq!((report.entries, report.spilled_runs), (model.len() as u64, 0));
    assert!(report.tables > 1, "{report:?}");
    assert_eq!(db.stats().counters.log_bytes, log_bytes);
    assert_eq!(db.stats().counters.write_operations, 0);
    let levels = db.levels();
    let filled: Vec<_> = levels.levels.iter().filter(|level| !level.runs.is_empty()).collect();
    assert_eq!((filled.len(), filled[0].level, filled[0].runs.len()), (1, 6, 1));
    db.wait_until_settled().unwrap();
    let counters = db.stats().counters;
    assert_eq!((counters.compactions, counters.trivial_moves), (0, 0), "nothing is left to do");
    assert_holds(&db, &model);
    db.close().unwrap();
    assert_holds(&open(&env), &model);
}

#[test]
fn unsorted_input_is_spilled_and_merged_and_the_last_write_of_a_key_wins() {
    for background_threads in [0, 2] {
        let env = Env::memory(0);
        let db = open_with(&env, background_threads);
        let mut given = entries(&mut Rng::new(2), 3_000, 1 << 40);
        given.sort();
        // First ascending for a while, then not, over keys that repeat.
        given.extend(entries(&mut Rng::new(3), 20_000, 8_000));
        let report = load(&db, &given);
        let count = given.len() as u64;
        let model: Model = given.into_iter().collect();
        assert_eq!((report.entries, report.entries + report.replaced), (model.len() as u64, count));
        assert!(report.spilled_runs > 2, "{report:?}");
        assert_holds(&db, &model);
        db.wait_until_settled().unwrap();
        assert_tidy(&db, &*env.fs, "loaded");
        let held = |(owner, bytes)| (owner == "compaction").then_some(bytes);
        assert_eq!(db.stats().memory.into_iter().find_map(held), Some(0));
    }
}

/// All runs were kept until the end and merged at once: each took a file that was open and a megabyte.
#[test]
fn a_load_of_many_buffers_never_has_many_runs() {
    for background_threads in [0, 2] {
        let env = Env::memory(0);
        let db = open_with(&env, background_threads);
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        let (mut model, mut most, mut rng) = (Model::new(), 0, Rng::new(5));
        for number in 0..5_000_u32 {
            let key = format!("{:04}", rng.below(4_000)).into_bytes();
            let value = [&number.to_le_bytes()[..], &vec![b'x'; 16_000]].concat();
            loader.put(&key, &value).unwrap();
            model.insert(key, value);
            let files = env.fs.list(Path::new("db")).unwrap();
            most = most.max(files.iter().filter(|file| file.name.ends_with(".table")).count());
        }
        let report = loader.finish().unwrap();
        assert!(64 < report.spilled_runs, "{report:?}");
        assert!(most <= 3 * 8, "{most} runs at a time");
        assert_eq!(
            (report.entries, report.replaced),
            (model.len() as u64, 5_000 - model.len() as u64)
        );
        assert_holds(&db, &model);
        db.wait_until_settled().unwrap();
        assert_tidy(&db, &*env.fs, "loaded");
    }
}

#[test]
fn load_into_a_filled_keyspace_replaces_what_is_there_for_readers_to_come() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut model = Model::new();
    let mut rng = Rng::new(4);
    for (key, value) in entries(&mut rng, 2_000, 3_000) {
        db.put(&key, &value).unwrap();
        model.insert(key, value);
    }
    db.delete("key 00000001").unwrap();
    model.remove(&b"key 00000001"[..]);
    let before = db.snapshot();
    let count_before = before.keyspace(db.default_keyspace()).scan::<&[u8]>(..).count();
    let given = entries(&mut rng, 2_000, 3_000);
    load(&db, &given);
    model.extend(given);
    assert_holds(&db, &model);
    assert_eq!(before.keyspace(db.default_keyspace()).scan::<&[u8]>(..).count(), count_before);
    drop(before);
    db.put("key 00000002", "after").unwrap();
    model.insert(b"key 00000002".to_vec(), b"after".to_vec());
    db.compact::<&[u8]>(..).unwrap();
    assert_holds(&db, &model);
}

#[test]
fn load_that_is_given_up_leaves_nothing() {
    let env = Env::memory(0);
    let db = open(&env);
    db.put("k", "v").unwrap();
    for aborts in [true, false] {
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        for (key, value) in entries(&mut Rng::new(5), 12_000, 1 << 40) {
            loader.put(key, value).unwrap();
        }
        assert!(loader.put(vec![0; 70_000], "").is_err());
        if aborts {
            loader.abort();
        } else {
            drop(loader);
        }
        assert_tidy(&db, &*env.fs, "given up");
        assert_eq!(db.iter().count(), 1);
    }
    let report = db.bulk_loader(db.default_keyspace()).unwrap().finish().unwrap();
    assert_eq!((report.entries, report.tables), (0, 0));
}

#[test]
fn ascending_keys_that_repeat_stream_and_keep_the_last() {
    let env = Env::memory(0);
    let db = open(&env);
    let one = |number: u32| (format!("{:06}", number / 3).into_bytes(), vec![number as u8; 100]);
    let given: Vec<_> = (0..9_000).map(one).collect();
    let report = load(&db, &given);
    assert_eq!((report.entries, report.replaced, report.spilled_runs), (3_000, 6_000, 0));
    assert_holds(&db, &given.into_iter().collect());
}

#[test]
fn writes_beside_a_load_are_neither_lost_nor_in_its_way() {
    let env = Env::memory(0);
    let db = open(&env);
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    loader.put("a", "loaded").unwrap();
    for number in 0..100 {
        db.put(format!("b{number}"), "written").unwrap();
    }
    db.put("a", "written").unwrap();
    loader.put("b5", "loaded").unwrap();
    let report = loader.finish().unwrap();
    assert!(report.seqno > 101, "{report:?}");
    assert_eq!(db.get("a").unwrap().unwrap(), "loaded");
    assert_eq!(db.get("b5").unwrap().unwrap(), "loaded");
    assert_eq!(db.get("b6").unwrap().unwrap(), "written");
    db.put("a", "again").unwrap();
    db.put("c", "in the log").unwrap();
    drop(db);
    let db = open(&env);
    assert_eq!(db.get("a").unwrap().unwrap(), "again");
    assert_eq!(db.get("c").unwrap().unwrap(), "in the log");
    assert_eq!(db.iter().count(), 102);
}

/// The first entry filled the buffer, which keeps the last key of sorted input: the tables of the last
/// level were begun and had nothing, and to make a run of them panicked.
#[test]
fn first_value_larger_than_the_buffer_is_followed_by_a_smaller_key() {
    let env = Env::memory(1);
    let db = open(&env);
    let large = vec![b'x'; 300 << 10];
    let entries = [("b", large.as_slice()), ("a", b"1"), ("b", b"2"), ("c", &large)];
    let entries = entries.map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()));
    let report = load(&db, &entries);
    assert_eq!((report.entries, report.replaced, report.tables), (3, 1, 1));
    assert_holds(&db, &entries.into_iter().collect());
}

/// A database with threads, whose loads write behind in pieces of about 1,500 bytes.
fn open_with_threads(env: &Env) -> Db {
    let options =
        Options { memory_budget_bytes: 4 << 20, part_bytes: Some(1_500), ..Options::default() };
    Db::builder("db").env(env.clone()).options(options).open().unwrap()
}

/// With pieces of no bytes, the thread waited for room that never came; with the largest, a sum of
/// lengths ran over.
#[test]
fn load_writes_behind_in_pieces_of_any_size() {
    let env = Env::memory(0);
    for size in [u64::MAX, 1, 0] {
        let options = Options { part_bytes: Some(size), ..Options::default() };
        let builder = Db::builder(format!("db-{size}")).env(env.clone()).options(options);
        let db = builder.open().unwrap();
        let given = few_entries(true);
        load(&db, &given);
        assert_holds(&db, &given.into_iter().collect());
    }
}

fn with_faults(fs: &MemoryFileSystem) -> (Env, FaultFileSystem) {
    let env = Env::memory(0);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), env.clock.clone());
    (Env { fs: Arc::new(faults.clone()), ..env }, faults)
}

/// 300 entries.
fn few_entries(are_sorted: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut given = entries(&mut Rng::new(6), 300, 1 << 40);
    if are_sorted {
        given.sort();
    }
    given
}

#[test]
fn load_that_cannot_write_or_sync_says_so_and_leaves_nothing() {
    for (fault, operation, are_sorted) in [
        (Fault::Error(5), Operation::Write, true),
        (Fault::Error(28), Operation::Write, false),
        (Fault::Error(5), Operation::Sync, true),
        (Fault::Panic, Operation::Write, true),
    ] {
        let mut nth = 1;
        loop {
            let (env, faults) = with_faults(&MemoryFileSystem::new(0));
            let db = open_with_threads(&env);
            let rule = Rule::new(fault.clone()).on(&[operation]).path("*.table");
            faults.add(rule.when(When::Nth(nth)));
            let given = few_entries(are_sorted);
            let load = || {
                let mut loader = db.bulk_loader(db.default_keyspace())?;
                given.iter().try_for_each(|(key, value)| loader.put(key, value))?;
                loader.finish()
            };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
            let has_failed = !faults.injected().is_empty();
            faults.clear();
            // What is written after the last piece, the caller writes.
            let Ok(outcome) = outcome else {
                nth += 1;
                continue;
            };
            if !has_failed {
                assert_holds(&db, &given.into_iter().collect());
                break;
            }
            let kind = if fault == Fault::Error(28) { ErrorKind::NoSpace } else { ErrorKind::Io };
            assert_eq!(outcome.unwrap_err().kind(), kind, "{operation:?} {nth}");
            assert_eq!(db.iter().count(), 0);
            assert_tidy(&db, &*env.fs, "failed");
            load_again(&db, &given);
            nth += 1;
        }
        assert!(nth > 2 || operation == Operation::Sync, "{operation:?} {nth}");
    }
}

/// What failed once succeeds when it is tried again.
fn load_again(db: &Db, given: &[(Vec<u8>, Vec<u8>)]) {
    let model: Model = given.iter().cloned().collect();
    assert_eq!(load(db, given).entries, model.len() as u64);
    assert_holds(db, &model);
}

#[test]
fn power_lost_at_any_moment_of_a_load_leaves_all_of_it_or_nothing() {
    for are_sorted in [true, false] {
        let fs = MemoryFileSystem::new(0);
        let (env, faults) = with_faults(&fs);
        let db = open_with_threads(&env);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let is_done = Arc::new(AtomicBool::new(false));
        let (taken, done) = (Arc::clone(&moments), Arc::clone(&is_done));
        faults.observe(move |event| {
            if event.operation.is_change() {
                let mut taken = taken.lock().unwrap();
                let must_be_there = done.load(Ordering::Acquire);
                for policy in [CrashPolicy::AllLost, CrashPolicy::Coin] {
                    let seed = taken.len() as u64;
                    taken.push((fs.crash(policy, seed), must_be_there));
                }
            }
        });
        let given = few_entries(are_sorted);
        load(&db, &given);
        is_done.store(true, Ordering::Release);
        db.put("z", "after").unwrap();
        db.close().unwrap();
        let model: Model = given.into_iter().collect();
        let moments = std::mem::take(&mut *moments.lock().unwrap());
        assert!(moments.len() > 50, "{}", moments.len());
        for (crashed, must_be_there) in moments {
            let env = Env { fs: Arc::new(crashed), ..Env::memory(0) };
            let db = open(&env);
            let found = db.iter().filter(|entry| entry.as_ref().unwrap().0 != "z").count();
            assert!(found == model.len() || found == 0 && !must_be_there, "{found}");
        }
    }
}

/// Such an error left open whether the load was there, though nothing of it had been written down, and
/// its tables stayed until the next open.
#[test]
fn a_load_or_an_ingest_before_which_the_log_cannot_be_synced_is_surely_not_done() {
    let outside = |env: &Env, key: &str| {
        let mut writer =
            TableWriter::create_in(env, "outside", TableWriterOptions::default()).unwrap();
        writer.put(key, "v").unwrap();
        writer.finish().unwrap().path
    };
    // The second is in memory already: its memtable is flushed first.
    for (ingests, key) in [(false, "a"), (false, "k"), (true, "a"), (true, "k")] {
        let (env, faults) = with_faults(&MemoryFileSystem::new(0));
        let db = open(&env);
        let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
        db.put("k", "before").unwrap();
        other.put("k", "before").unwrap();
        let path = outside(&env, key);
        faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path("*.log"));
        let result = if ingests {
            let options = IngestOptions::default();
            db.ingest(db.default_keyspace(), &[path], options).map(drop)
        } else {
            let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
            loader.put(key, "v").unwrap();
            loader.finish().map(drop)
        };
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Io, Outcome::NotDone), "{error}");
        assert!(!error.to_string().contains("survives"), "{error}");
        let names = env.fs.list(db.path()).unwrap().into_iter().map(|entry| entry.name);
        let tables: Vec<String> = names.filter(|name| name.ends_with(".table")).collect();
        assert_eq!(tables, [""; 0], "{ingests} {key}");
        assert!(db.health().poisoned.is_some());
    }
}

/// A loader whose run could not be made durable took entries again after it had said so, as long as
/// they did not fill its buffer.
#[test]
fn a_loader_that_has_failed_takes_nothing_more() {
    let (env, faults) = with_faults(&MemoryFileSystem::new(0));
    let db = open(&env);
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path("*.table"));
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    let mut given = entries(&mut Rng::new(8), 10_000, 1 << 40).into_iter();
    let mut put = || given.next().map(|(key, value)| loader.put(key, value)).unwrap();
    let error = (0..10_000).find_map(|_| put().err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Io);
    for _ in 0..3 {
        assert_eq!(put().unwrap_err().to_string(), error.to_string());
    }
}

/// Its database was gone before its files were: they stayed behind, and their thread could still write
/// where another owner had come.
#[test]
fn a_loader_that_is_the_last_handle_leaves_nothing_but_what_it_has_loaded() {
    for (are_sorted, finishes) in [(true, false), (true, true), (false, false), (false, true)] {
        let env = Env::memory(0);
        let db = open_with_threads(&env);
        let mut given = entries(&mut Rng::new(5), 12_000, 1 << 40);
        if are_sorted {
            given.sort();
        }
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        given.iter().for_each(|(key, value)| loader.put(key, value).unwrap());
        let is_table = |name: &String| name.ends_with(".table");
        let names = || env.fs.list(Path::new("db")).unwrap().into_iter().map(|entry| entry.name);
        assert!(names().any(|name| is_table(&name)), "something is written before the end");
        drop(db);
        let mut count = 0;
        if finishes {
            count = loader.finish().unwrap().tables;
        } else {
            drop(loader);
        }
        assert_eq!(names().filter(is_table).count(), count, "{are_sorted} {finishes}");
        let model = if finishes { given.into_iter().collect() } else { Model::new() };
        assert_holds(&open(&env), &model);
    }
}
