//! Time-based policies: entries age with the clock, across flushes and reopening.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker::env::{Clock, Env, Fault, FaultFileSystem, FileExt as _, ManualClock, Operation, Rule};
use esker::{CompactionPolicy, Db, FifoOptions, Keyspace, KeyspaceOptions, Options};
use esker::{ErrorKind, TimeWindowOptions};
use esker_base::KeyspaceId;
use esker_tree::Manifest;

use crate::watchdog::Watchdog;

const HOUR: Duration = Duration::from_secs(3600);

/// A machine whose clock moves when it is told to.
pub(crate) fn machine() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
    (Env { clock: clock.clone(), ..Env::memory(1) }, clock)
}

fn open(env: &Env, compaction: CompactionPolicy) -> (Db, Keyspace) {
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("db").env(env.clone()).options(options).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions { compaction, ..Default::default() }).unwrap();
    (db, keyspace)
}

fn put(keyspace: &Keyspace, key: &str) {
    keyspace.put(key, "value").unwrap();
    keyspace.flush().unwrap();
}

fn keys(keyspace: &Keyspace) -> Vec<String> {
    let key = |entry: esker::Result<(esker::Key, esker::Value)>| entry.unwrap().0.to_vec();
    keyspace.iter().map(|entry| String::from_utf8(key(entry)).unwrap()).collect()
}

pub(crate) fn run_jobs(db: &Db) {
    while db.run_background_job() {}
}

#[test]
fn fifo_drops_what_is_too_old_when_time_passes_and_after_a_reopen() {
    let (env, clock) = machine();
    let fifo = |age_max| CompactionPolicy::Fifo(FifoOptions { age_max, ..Default::default() });
    let (db, keyspace) = open(&env, fifo(Some(3 * HOUR)));
    for key in ["a", "b", "c"] {
        put(&keyspace, key);
        clock.advance(HOUR);
    }
    run_jobs(&db);
    assert_eq!(keys(&keyspace), ["b", "c"]);
    drop(keyspace);
    db.close().unwrap();
    // Nobody was there to see it pass.
    clock.advance(HOUR);
    let (db, keyspace) = open(&env, fifo(Some(3 * HOUR)));
    run_jobs(&db);
    assert_eq!(keys(&keyspace), ["c"]);
    // The newest run goes as the others do.
    clock.advance(9 * HOUR);
    run_jobs(&db);
    assert_eq!(keys(&keyspace), [""; 0]);
    put(&keyspace, "d");
    run_jobs(&db);
    assert_eq!(keys(&keyspace), ["d"]);
    // Without an age, nothing goes.
    drop(keyspace);
    db.close().unwrap();
    let (db, keyspace) = open(&env, fifo(None));
    clock.advance(99 * HOUR);
    put(&keyspace, "e");
    run_jobs(&db);
    assert_eq!(keys(&keyspace), ["d", "e"]);
}

/// The log does not say when: what is in it came after the last table, and before it is flushed.
#[test]
fn what_recovery_reads_may_be_as_old_as_the_last_table() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, CompactionPolicy::None);
    put(&keyspace, "a");
    let flushed = clock.wall();
    clock.advance(HOUR);
    keyspace.put("b", "value").unwrap();
    drop((db, keyspace));
    clock.advance(HOUR);
    let (db, keyspace) = open(&env, CompactionPolicy::None);
    clock.advance(HOUR);
    keyspace.flush().unwrap();
    drop((db, keyspace));
    let catalog = Manifest::recover(&*env.fs, Path::new("db")).unwrap().unwrap().catalog;
    let tables = catalog.keyspaces.values().flat_map(|state| state.tables.values());
    let times: Vec<_> = tables.filter_map(|table| table.properties.extras.times).collect();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    assert_eq!(times.len(), 2);
    assert_eq!((times[1].oldest, times[1].newest), (millis(flushed), millis(clock.wall())));
}

/// The log alternates between keyspaces, whose newest tables are of different ages.
#[test]
fn what_recovery_reads_in_turns_is_as_old_as_the_last_table_of_its_keyspace() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, CompactionPolicy::None);
    let default = db.default_keyspace();
    for key in ["a", "b", "c", "d"] {
        default.put(key, "value").unwrap();
    }
    default.flush().unwrap();
    let first = clock.wall();
    clock.advance(HOUR);
    put(&keyspace, "a");
    let second = clock.wall();
    clock.advance(HOUR);
    for key in ["b", "c", "d"] {
        default.delete(key).unwrap();
        keyspace.put(key, "value").unwrap();
    }
    drop((db, keyspace));
    let (db, keyspace) = open(&env, CompactionPolicy::None);
    db.default_keyspace().flush().unwrap();
    keyspace.flush().unwrap();
    drop((db, keyspace));
    let catalog = Manifest::recover(&*env.fs, Path::new("db")).unwrap().unwrap().catalog;
    let newest = |id| {
        let table = catalog.keyspaces[&id].tables.values().next_back().unwrap();
        let times = table.properties.extras.times.unwrap();
        (times.oldest, times.oldest_tombstone)
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    assert_eq!(newest(KeyspaceId(0)), (millis(first), Some(millis(first))));
    assert_eq!(newest(KeyspaceId(1)), (millis(second), None));
}

/// The next look at a keyspace, the next attempt at a job, the times of a flush that is made up: each
/// was a sum of times that panicked where the clock had come to its end.
#[test]
fn clock_at_its_end_stops_no_job() {
    let (env, clock) = machine();
    let faults = FaultFileSystem::new(Arc::clone(&env.fs), clock.clone());
    let env = Env { fs: Arc::new(faults.clone()), ..env };
    let age_max = Some(HOUR);
    let fifo = CompactionPolicy::Fifo(FifoOptions { age_max, ..Default::default() });
    let (db, keyspace) = open(&env, fifo);
    put(&keyspace, "a");
    clock.advance(HOUR);
    put(&keyspace, "b");
    clock.advance(Duration::MAX);
    run_jobs(&db);
    assert_eq!(keys(&keyspace), [""; 0]);
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Write]).path("*.table"));
    keyspace.put("c", "value").unwrap();
    assert_eq!(keyspace.flush().unwrap_err().kind(), ErrorKind::Io);
    faults.clear();
    assert_eq!(keyspace.what_if(&[]).unwrap().outcomes.len(), 1);
    keyspace.flush().unwrap();
    assert_eq!(keys(&keyspace), ["c"]);
}

#[test]
fn time_windows_stay_apart_and_go_when_they_are_too_old() {
    let (env, clock) = machine();
    // The last hour that began is a window that began.
    clock.set_wall(400_000 * HOUR);
    let window = |age_max| {
        let options = TimeWindowOptions { window: HOUR, runs_per_window: 3, age_max };
        CompactionPolicy::TimeWindow(options)
    };
    let (db, keyspace) = open(&env, window(Some(5 * HOUR)));
    let runs = |keyspace: &Keyspace| -> usize {
        keyspace.levels().levels.iter().map(|level| level.runs.len()).sum()
    };
    for hour in 0..4 {
        put(&keyspace, &format!("{hour} a"));
        put(&keyspace, &format!("{hour} b"));
        run_jobs(&db);
        // The window that is being written waits for a third run; the others are one run each.
        assert_eq!(runs(&keyspace), hour + 2);
        clock.advance(HOUR);
    }
    run_jobs(&db);
    assert_eq!(runs(&keyspace), 4);
    drop(keyspace);
    db.close().unwrap();
    clock.advance(2 * HOUR);
    let (db, keyspace) = open(&env, window(Some(5 * HOUR)));
    run_jobs(&db);
    assert_eq!(keys(&keyspace), ["2 a", "2 b", "3 a", "3 b"]);
    // Another policy takes over what is there.
    drop(keyspace);
    db.close().unwrap();
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    clock.advance(99 * HOUR);
    keyspace.compact::<&[u8]>(..).unwrap();
    run_jobs(&db);
    assert_eq!((keys(&keyspace).len(), runs(&keyspace)), (4, 1));
}

#[test]
fn times_that_make_no_sense_are_refused_by_name() {
    let (env, _clock) = machine();
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    let half = Some(Duration::from_millis(500));
    let window = |window, runs_per_window| {
        let options = TimeWindowOptions { window, runs_per_window, age_max: None };
        CompactionPolicy::TimeWindow(options)
    };
    for (compaction, what) in [
        (
            CompactionPolicy::Fifo(FifoOptions { age_max: half, ..Default::default() }),
            "compaction: age_max is 500ms, and must be at least 1s",
        ),
        (window(Duration::ZERO, 2), "compaction: window is 0ns, and must be at least 1s"),
        (window(HOUR, 1), "compaction: runs_per_window is 1, and must be at least 2"),
    ] {
        let options = KeyspaceOptions { compaction, ..Default::default() };
        let error = db.keyspace("k", options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().ends_with(what), "{error}");
    }
    assert_eq!(keyspace.options().compaction, CompactionPolicy::Leveled);
}

/// Tables that came ready did not say when, and so never were too old. What was flushed after them
/// stayed with them; and under time windows they joined the oldest run, whenever they came.
#[test]
fn what_is_loaded_grows_old_as_what_is_written_does() {
    let age_max = Some(3 * HOUR);
    for compaction in [
        CompactionPolicy::Fifo(FifoOptions { age_max, ..Default::default() }),
        CompactionPolicy::TimeWindow(TimeWindowOptions { age_max, ..Default::default() }),
    ] {
        let (env, clock) = machine();
        let (db, keyspace) = open(&env, compaction);
        let load = |key: &str| {
            let mut loader = db.bulk_loader(&keyspace).unwrap();
            loader.put(key, "value").unwrap();
            loader.finish().unwrap();
            clock.advance(HOUR);
        };
        load("a");
        put(&keyspace, "b");
        clock.advance(HOUR);
        load("c");
        run_jobs(&db);
        assert_eq!(keys(&keyspace), ["b", "c"], "{compaction:?}");
        load("d");
        run_jobs(&db);
        assert_eq!(keys(&keyspace), ["c", "d"], "{compaction:?}");
        let written = |level: &esker::LevelInfo| level.runs[0].tables[0].written;
        let levels = keyspace.levels().levels;
        assert_eq!(levels.iter().map(written).collect::<Vec<_>>(), [Some(clock.wall() - HOUR)]);
    }
}

/// A delete that was in the log while something else was loaded was dated with the load.
#[test]
fn a_delete_in_the_log_is_no_younger_for_what_was_loaded_after_it() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, CompactionPolicy::Leveled);
    put(&keyspace, "a");
    keyspace.delete("a").unwrap();
    let deleted = clock.wall();
    clock.advance(HOUR);
    let mut loader = db.bulk_loader(&keyspace).unwrap();
    loader.put("b", "value").unwrap();
    loader.finish().unwrap();
    drop((db, keyspace));
    let (_db, keyspace) = open(&env, CompactionPolicy::Leveled);
    keyspace.flush().unwrap();
    let levels = keyspace.levels().levels;
    let tables = levels.iter().flat_map(|level| &level.runs).flat_map(|run| &run.tables);
    let oldest = tables.filter_map(|table| table.oldest_delete).min().unwrap();
    assert!(oldest <= deleted, "{oldest:?}");
}

/// What was loaded counted as old as time itself, and was rewritten at once.
#[test]
fn what_is_loaded_is_rewritten_once_it_is_old() {
    let (env, clock) = machine();
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("db").env(env).options(options).open().unwrap();
    let periodic_compaction = Some(24 * HOUR);
    let options = KeyspaceOptions { periodic_compaction, ..KeyspaceOptions::default() };
    let keyspace = db.keyspace("k", options).unwrap();
    let mut loader = db.bulk_loader(&keyspace).unwrap();
    loader.put("key", "value").unwrap();
    loader.finish().unwrap();
    for (hours, compactions) in [(0, 0), (23, 0), (2, 1)] {
        clock.advance(hours * HOUR);
        run_jobs(&db);
        assert_eq!(db.stats().counters.compactions, compactions);
    }
}

/// A clock that jumps ahead by two days at one look at it.
#[derive(Debug)]
struct JumpyClock {
    clock: ManualClock,
    looks_left: AtomicU64,
}

impl Clock for JumpyClock {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn wall(&self) -> Duration {
        if self.looks_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.clock.advance(48 * HOUR);
        }
        self.clock.wall()
    }

    fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration);
    }
}

/// With no threads, what time made due while somebody waited for the end of all work was done by nobody,
/// and the wait had no end.
#[test]
fn what_becomes_due_while_somebody_waits_without_threads_is_done() {
    let _watchdog = Watchdog::start("a wait without threads".to_owned());
    let (start, mut jumps) = (Duration::from_secs(1_700_000_000), 0);
    for looks_left in 1..=20 {
        let clock = ManualClock::new(start);
        let clock = Arc::new(JumpyClock { clock, looks_left: AtomicU64::new(u64::MAX) });
        let env = Env { clock: clock.clone(), ..Env::memory(1) };
        let options = Options { background_threads: 0, ..Options::default() };
        let db = Db::builder("db").env(env).options(options).open().unwrap();
        let periodic_compaction = Some(24 * HOUR);
        let options = KeyspaceOptions { periodic_compaction, ..KeyspaceOptions::default() };
        put(&db.keyspace("k", options).unwrap(), "key");
        clock.looks_left.store(looks_left, Ordering::Relaxed);
        db.wait_until_settled().unwrap();
        jumps += u32::from(start < clock.clock.wall());
    }
    assert!(jumps > 2, "{jumps}");
}

/// What a repair made new did not say when it was written, and so never was too old.
#[test]
fn what_was_repaired_grows_old_as_before() {
    for has_manifest in [true, false] {
        let (env, clock) = machine();
        let age_max = Some(5 * HOUR);
        let fifo = CompactionPolicy::Fifo(FifoOptions { age_max, ..Default::default() });
        let (db, keyspace) = open(&env, fifo);
        put(&keyspace, "a");
        clock.advance(HOUR);
        put(&keyspace, "b");
        keyspace.put("c", "in the log").unwrap();
        clock.advance(HOUR);
        drop((db, keyspace));
        let dir = std::path::Path::new("db");
        let mut names: Vec<_> =
            env.fs.list(dir).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        let damage = |name: &str, offset: u64| {
            let file = env.fs.open_for_write(&dir.join(name)).unwrap();
            file.write_all_at(offset, b"damage").unwrap();
        };
        let table = names.iter().find(|name| name.ends_with(".table")).unwrap();
        // Only headers: all entries come into new tables.
        damage(table, 20);
        names.iter().filter(|name| name.ends_with(".log")).for_each(|name| damage(name, 20));
        for name in names.iter().filter(|name| !has_manifest && name.contains(".manifest")) {
            env.fs.remove(&dir.join(name)).unwrap();
        }
        let doctor = esker::doctor::Doctor::new(dir).env(env.clone());
        let report = doctor.repair(&Default::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{report}");
        let options = Options { background_threads: 0, ..Options::default() };
        let db = Db::builder("db").env(env.clone()).options(options).open().unwrap();
        let keyspace =
            db.keyspace("k", KeyspaceOptions { compaction: fifo, ..Default::default() }).unwrap();
        clock.advance(HOUR);
        put(&keyspace, "d");
        run_jobs(&db);
        assert_eq!(keys(&keyspace), ["a", "b", "c", "d"], "{report}");
        clock.advance(2 * HOUR);
        run_jobs(&db);
        match has_manifest {
            true => assert_eq!(keys(&keyspace), ["b", "c", "d"], "{report}"),
            // What the log repeats was merged with the tables: all of it is as young.
            false => assert_eq!(keys(&keyspace), ["a", "b", "c", "d"], "{report}"),
        }
        clock.advance(3 * HOUR);
        run_jobs(&db);
        assert_eq!(keys(&keyspace), [""; 0], "{report}");
    }
}
