//! Failed background jobs, once the cause is gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use esker::env::{
    Env, Fault, FaultFileSystem, FileExt as _, FileSystem as _, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker::{Db, ErrorKind, KeyspaceOptions, Options, TableWriter};

use crate::recovered::{DIR, env_over, open, options};
use crate::referenced::{assert_tidy, orphans};

/// A compaction had failed, and before it was tried again somebody asked for one of the same tables.
/// From then on nothing was left to try, and so nothing to succeed: the database said for ever that
/// a job was failing, and never settled. Found by the simulator: it did not settle.
#[test]
fn a_failure_is_forgotten_when_somebody_else_has_done_the_work() {
    let fs = MemoryFileSystem::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let faults = FaultFileSystem::new(Arc::new(fs), clock.clone());
    let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env).options(options).open().unwrap();
    for number in 0..8_u8 {
        db.put([1], [number]).unwrap();
        db.put([number], "value").unwrap();
        db.flush().unwrap();
    }
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table"));
    while db.run_background_job() {}
    assert_eq!(db.health().failing_jobs.len(), 1, "{}", db.health());
    faults.clear();
    db.compact::<&[u8]>(..).unwrap();
    clock.advance(Duration::from_secs(120));
    db.wait_until_settled().unwrap();
    assert!(db.health().failing_jobs.is_empty(), "{}", db.health());
}

/// A compaction failed for good, since a table could not be read. Flushes waited for its next try,
/// up to a minute, and writers that needed one were told of the table.
#[test]
fn a_compaction_that_fails_keeps_no_flush_waiting() {
    let fs = MemoryFileSystem::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let faults = FaultFileSystem::new(Arc::new(fs), clock.clone());
    let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
    let cache_bytes = Some(0);
    let options = Options { background_threads: 0, cache_bytes, ..Options::default() };
    let small = KeyspaceOptions {
        memtable_bytes: 20_000,
        immutable_memtables_max: 1,
        ..KeyspaceOptions::default()
    };
    let builder = Db::builder(DIR).env(env).options(options).default_keyspace(small);
    let db = builder.open().unwrap();
    for number in 0..8_u8 {
        db.put([1], [number]).unwrap();
        db.put([number], "value").unwrap();
        db.flush().unwrap();
    }
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Read]).path("*.table"));
    for attempt in 1..=4 {
        while db.run_background_job() {}
        let failing = db.health().failing_jobs;
        assert_eq!(failing.len(), 1, "{}", db.health());
        assert_eq!(failing[0].attempts, attempt);
        clock.advance(Duration::from_secs(60));
    }
    while db.run_background_job() {}
    for number in 0..100 {
        db.put(format!("key {number}"), [7; 1000]).unwrap();
    }
    assert_eq!(db.stats().keyspaces[0].memtable_count, 2);
    while db.run_background_job() {}
    assert_eq!(db.stats().keyspaces[0].memtable_count, 1);
    assert_eq!(db.health().failing_jobs.len(), 1, "{}", db.health());
}

/// A flush that had failed for a while was tried again after up to a minute, and until then writers
/// were told that the disk is full.
#[test]
fn flushes_go_on_soon_after_a_disk_that_was_full_for_long_has_room() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let faults = FaultFileSystem::new(Arc::new(MemoryFileSystem::new(1)), clock.clone());
    let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
    let options = Options { background_threads: 0, ..Options::default() };
    let small = KeyspaceOptions { memtable_bytes: 20_000, ..KeyspaceOptions::default() };
    let builder = Db::builder(DIR).env(env).options(options).default_keyspace(small);
    let db = builder.open().unwrap();
    faults.add(Rule::new(Fault::Error(28)).on(&[Operation::Create]).path("*.table"));
    for number in 0..60_u8 {
        db.put([number], [7; 1000]).unwrap();
    }
    for attempt in 1..=20 {
        while db.run_background_job() {}
        assert_eq!(db.health().failing_jobs[0].attempts, attempt);
        clock.advance(Duration::from_secs(5));
    }
    faults.clear();
    while db.run_background_job() {}
    assert_eq!(db.stats().keyspaces[0].memtable_count, 1);
    assert!(db.health().failing_jobs.is_empty(), "{}", db.health());
}

/// Without background threads a write that needs a flush does it itself. But once a job had failed, writes
/// were refused with its error, whatever had become of the disk.
#[test]
fn a_write_without_threads_flushes_though_a_job_has_failed_before() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs), Env::memory(1).clock);
    let options = Options { background_threads: 0, ..Options::default() };
    let small = KeyspaceOptions { memtable_bytes: 20_000, ..KeyspaceOptions::default() };
    let env = env_over(Arc::new(faults.clone()));
    let db = Db::builder(DIR).env(env).options(options).default_keyspace(small).open().unwrap();
    faults.add(Rule::new(Fault::Error(28)).on(&[Operation::Create]).path("*.table"));
    let mut puts = (0..1000_u32).map(|number| db.put(number.to_le_bytes(), [7; 1000]));
    let full = puts.find_map(Result::err).expect("memtables are full some time");
    assert_eq!(full.kind(), ErrorKind::NoSpace, "{full}");
    while db.run_background_job() {}
    assert_eq!(db.health().failing_jobs.len(), 1);
    assert_eq!(puts.next().unwrap().unwrap_err().kind(), ErrorKind::NoSpace);
    faults.clear();
    puts.next().unwrap().unwrap();
    assert!(db.health().failing_jobs.is_empty(), "{}", db.health());
}

/// The manifest could not be written. Each try of a flush or a compaction left its tables, and each put
/// that needed a log segment left one: on a disk that is full, or full but for the log, that made it
/// worse, and nothing removed them before the next open.
#[test]
fn files_whose_edit_failed_go_once_the_manifest_is_surely_without_them() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let blobs = KeyspaceOptions { blob_threshold_bytes: Some(32), ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("k", blobs).unwrap();
    let count = |suffix: &str| {
        let entries = fs.list(Path::new(DIR)).unwrap();
        entries.iter().filter(|entry| entry.name.ends_with(suffix)).count()
    };
    let fail = || {
        let all = [Operation::Write, Operation::Create];
        faults.add(Rule::new(Fault::Error(28)).on(&all).path("*.manifest*"));
    };
    for round in 0..3 {
        keyspace.put([round], [round; 100]).unwrap();
        keyspace.put("key", [round; 50]).unwrap();
        keyspace.flush().unwrap();
    }
    fail();
    for _ in 0..3 {
        let error = keyspace.compact::<&[u8]>(..).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
    // Nobody knows what the manifest says.
    assert_eq!(count(".table"), 6);
    faults.clear();
    keyspace.compact::<&[u8]>(..).unwrap();
    assert_tidy(&db, &fs, "a compaction went through");

    keyspace.put("more", [7; 100]).unwrap();
    let before = (count(".table"), count(".blob"));
    fail();
    for _ in 0..3 {
        let error = keyspace.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
    assert_eq!((count(".table"), count(".blob")), (before.0 + 3, before.1 + 3));
    faults.clear();
    db.put("key", "of another keyspace").unwrap();
    db.flush().unwrap();
    assert_eq!(orphans(&db, &fs, "a flush went through"), Vec::<String>::new());
    assert_eq!(keyspace.get("more").unwrap().unwrap(), [7; 100]);
}

/// As above, for the segment that a put needs.
#[test]
fn a_log_segment_that_the_manifest_cannot_name_is_kept_for_the_next_put() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put("first", "value").unwrap();
    let all = [Operation::Write, Operation::Create];
    faults.add(Rule::new(Fault::Error(28)).on(&all).path("*.manifest*"));
    let large = vec![1; 100_000];
    for _ in 0..9 {
        let error = db.put("key", &large).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
    let logs = || {
        let entries = fs.list(Path::new(DIR)).unwrap();
        entries.iter().filter(|entry| entry.name.ends_with(".log")).count()
    };
    assert_eq!(logs(), 2);
    faults.clear();
    db.put("key", &large).unwrap();
    assert_eq!(logs(), 2);
    drop(db);
    let db = open(&env_over(Arc::new(fs)), &options()).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), large);
    assert_eq!(db.iter().count(), 2);
}

/// A flush had written its tables, and the manifest could not be written to give it an id for their run.
/// The tables stayed until the next open: on a full disk each try left more.
#[test]
fn tables_of_a_flush_that_gets_no_id_for_its_run_go_at_once() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let [reserved, created] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let counts = [Arc::clone(&reserved), Arc::clone(&created)];
    faults.observe(move |event| {
        let [reserved, created] = &counts;
        let name = event.path.to_string_lossy();
        let is_reserved = event.operation == Operation::Write && name.contains(".manifest");
        let is_created = event.operation == Operation::Create && name.ends_with(".table");
        reserved.fetch_add(is_reserved.into(), Ordering::Relaxed);
        created.fetch_add(is_created.into(), Ordering::Relaxed);
    });
    // An ingest that fails takes an id, and makes no edit that would reserve others.
    let path = Path::new("damaged.table");
    let env = env_over(Arc::new(fs.clone()));
    let mut writer = TableWriter::create_in(&env, path, Default::default()).unwrap();
    writer.put("key", "value").unwrap();
    writer.finish().unwrap();
    fs.open_for_write(path).unwrap().write_all_at(60, b"damaged").unwrap();
    let take_id = || {
        let error = db.ingest(db.default_keyspace(), &[path], Default::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
    };
    let (mut ids, mut has_failed_late) = (0, false);
    // Ids are reserved in strides: with one of these counts the table gets the last.
    for count in 252..256 {
        let before = reserved.load(Ordering::Relaxed);
        while reserved.load(Ordering::Relaxed) == before {
            assert!(ids < 2_000, "no id is reserved");
            take_id();
            ids += 1;
        }
        (0..count).for_each(|_| take_id());
        db.put("key", [7; 100]).unwrap();
        let before = created.load(Ordering::Relaxed);
        let all = [Operation::Write, Operation::Create];
        faults.add(Rule::new(Fault::Error(28)).on(&all).path("*.manifest*"));
        let result = db.flush();
        faults.clear();
        has_failed_late |= result.is_err() && created.load(Ordering::Relaxed) != before;
        db.flush().unwrap();
        db.wait_until_settled().unwrap();
        assert_tidy(&db, &fs, &format!("{count} ids"));
    }
    assert!(has_failed_late);
}

/// Options that were given to an open for reading only asked for a compaction. It was begun, failed as
/// often as it was tried, and was told as a job that fails. Found beside another engine's tests of
/// read-only databases.
#[test]
fn a_database_that_is_only_read_begins_no_job() {
    let env = Env::memory(1);
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = || Db::builder(DIR).env(env.clone()).options(options.clone());
    let db = builder().open().unwrap();
    for number in 0..6_u8 {
        db.put([1], [number]).unwrap();
        db.put([number], "value").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    // Full at once when the log is read, or level 0 is: both want a job.
    let db = builder().open().unwrap();
    db.put("key", "value").unwrap();
    drop(db);
    let small = KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() };
    let db = builder().read_only(true).default_keyspace(small).open().unwrap();
    db.wait_until_settled().unwrap();
    while db.run_background_job() {}
    assert!(db.health().failing_jobs.is_empty(), "{}", db.health());
    assert_eq!(db.iter().count(), 7);
}

/// The call had switched the memtable, and panicked: nobody was asked for its flush. Where no second one
/// may wait, writers waited for it for ever.
#[test]
fn what_a_flush_that_panicked_has_switched_is_flushed_in_the_background() {
    let faults = FaultFileSystem::new(Env::memory(1).fs, Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put("key", "value").unwrap();
    let rule = Rule::new(Fault::Panic).on(&[Operation::Create]).path("*.table");
    faults.add(rule.when(When::Nth(1)));
    catch_unwind(AssertUnwindSafe(|| db.flush())).unwrap_err();
    assert!(db.run_background_job());
    assert_eq!(db.levels().table_count(), 1);
}

/// As above, where a load has switched it: what was written to its keys while it ended.
#[test]
fn what_a_load_that_panicked_has_switched_is_flushed_in_the_background() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
    loader.put("key", "loaded").unwrap();
    // The first is that of the load.
    let rule = Rule::new(Fault::Panic).on(&[Operation::Create]).path("*.table");
    faults.add(rule.when(When::Nth(2)));
    let (writer, is_named, is_written) =
        (db.clone(), AtomicBool::new(false), AtomicBool::new(false));
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|extension| extension == "table");
        if event.operation == Operation::SyncDir {
            is_named.store(true, Ordering::Relaxed);
        } else if is_table
            && is_named.load(Ordering::Relaxed)
            && !is_written.swap(true, Ordering::Relaxed)
        {
            writer.put("key", "written").unwrap();
        }
    });
    catch_unwind(AssertUnwindSafe(|| loader.finish())).unwrap_err();
    faults.observe(|_| {});
    assert!(db.run_background_job());
    assert_eq!(db.levels().table_count(), 1);
    assert_eq!(db.get("key").unwrap().unwrap(), "written");
    assert_tidy(&db, &fs, "after all");
}
