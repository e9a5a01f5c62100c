//! Deletes as work of their own: bytes leave the disk in time, queues stay fast, idle time is used.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{Env, FileExt, ManualClock};
use esker::{CompactionPolicy, Db, Keyspace, KeyspaceOptions, Options};

use crate::policies::KEEPING;
use crate::random::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// Stands in every value that is deleted, and in nothing else.
const SECRET: &[u8] = b"what nobody may find again";

fn machine() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SECOND * 1_700_000_000));
    (Env { clock: clock.clone(), ..Env::memory(1) }, clock)
}

fn open(env: &Env, options: KeyspaceOptions) -> (Db, Keyspace) {
    let db_options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("db").env(env.clone()).options(db_options).open().unwrap();
    let keyspace = db.keyspace("k", options).unwrap();
    (db, keyspace)
}

/// Lets `time` pass in small steps, and does what becomes due.
fn pass(db: &Db, clock: &ManualClock, time: Duration) {
    for _ in 0..32 {
        clock.advance(time / 32);
        while db.run_background_job() {}
    }
}

/// The files of the directory that hold the secret.
fn files_with_the_secret(env: &Env) -> Vec<String> {
    let entries = env.fs.list(Path::new("db")).unwrap();
    let holds = |name: &String| {
        let file = env.fs.open(&Path::new("db").join(name)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    };
    entries
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name != "LOCK")
        .filter(holds)
        .collect()
}

fn secret(number: u64) -> Vec<u8> {
    [SECRET, number.to_string().as_bytes(), &[b'x'; 60]].concat()
}

/// A tree with secrets in several levels and in the log, all of them deleted or overwritten after a
/// delete; other keys stay.
fn fill_and_delete(db: &Db, keyspace: &Keyspace, deletes_ranges: bool, rng: &mut Rng) {
    for round in 0..4 {
        for number in 0..300 {
            let key = format!("key {:04}", rng.below(500));
            match number % 3 {
                0 => keyspace.put(&key, [b'y'; 80]).unwrap(),
                _ => keyspace.put(&key, secret(number)).unwrap(),
            }
        }
        keyspace.flush().unwrap();
        match round {
            0 | 1 => keyspace.compact::<&[u8]>(..).unwrap(),
            _ => while db.run_background_job() {},
        }
    }
    for number in 0..500 {
        let key = format!("key {number:04}");
        match deletes_ranges {
            true if number % 50 == 0 => {
                keyspace.delete_range(key.as_str()..&format!("key {:04}", number + 50)).unwrap();
            }
            true => {}
            false => keyspace.delete(&key).unwrap(),
        }
        if number % 5 == 0 {
            keyspace.put(&key, b"harmless").unwrap();
        }
    }
}

fn options(compaction: CompactionPolicy) -> KeyspaceOptions {
    KeyspaceOptions {
        compaction,
        compression: esker::Compression::None,
        memtable_bytes: 16_000,
        block_size_bytes: 512,
        delete_deadline: Some(100 * SECOND),
        ..KeyspaceOptions::default()
    }
}

#[test]
fn after_the_deadline_no_file_has_a_byte_of_what_was_deleted_under_any_policy() {
    let keeps_order = |c: &CompactionPolicy| {
        !matches!(c, CompactionPolicy::Fifo(_) | CompactionPolicy::TimeWindow(_))
    };
    let policies = KEEPING.into_iter().filter(keeps_order);
    for (compaction, ranges) in policies.flat_map(|policy| [(policy, false), (policy, true)]) {
        let (env, clock) = machine();
        let (db, keyspace) = open(&env, options(compaction));
        let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
        other.put("cold", "it holds the log of the others").unwrap();
        fill_and_delete(&db, &keyspace, ranges, &mut Rng::new(7));
        assert!(!files_with_the_secret(&env).is_empty());
        pass(&db, &clock, 100 * SECOND);
        assert_eq!(files_with_the_secret(&env), [""; 0], "{compaction:?} {ranges}");
        assert_eq!(keyspace.iter().count(), 100);
        assert!(db.health().late_deletes.is_empty(), "{}", db.health());
        assert_eq!(db.stats().keyspaces[1].oldest_delete_age, None);
    }
}

/// Secrets in a segment of the log that a cold keyspace keeps from being removed.
fn secrets_in_a_log_that_stays(late: bool) -> (Env, Arc<ManualClock>, Db, Keyspace) {
    let (env, clock) = machine();
    let with = options(CompactionPolicy::Leveled);
    let without = KeyspaceOptions { delete_deadline: None, ..with.clone() };
    let (db, keyspace) = open(&env, if late { without } else { with.clone() });
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    other.put("cold", "it holds the log of the others").unwrap();
    keyspace.put("key", secret(1)).unwrap();
    keyspace.flush().unwrap();
    keyspace.delete("key").unwrap();
    keyspace.flush().unwrap();
    (env, clock, db, keyspace)
}

#[test]
fn a_deadline_that_is_given_after_the_delete_was_flushed_is_kept_in_the_log() {
    let (env, clock, db, _keyspace) = secrets_in_a_log_that_stays(true);
    db.keyspace("k", options(CompactionPolicy::Leveled)).unwrap();
    pass(&db, &clock, 100 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

/// What was about to be the next segment was made of an old one when the deadline was given, and kept the
/// bytes of that behind its own.
#[test]
fn a_late_deadline_is_kept_in_a_log_segment_that_was_made_ready() {
    let (env, clock) = machine();
    let small =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    let db = Db::builder("db").env(env.clone()).options(small).open().unwrap();
    let with = KeyspaceOptions { memtable_bytes: 1 << 20, ..options(CompactionPolicy::Leveled) };
    let without = KeyspaceOptions { delete_deadline: None, ..with.clone() };
    let keyspace = db.keyspace("k", without).unwrap();
    let fill = |count: u32| {
        (0..count).for_each(|number| keyspace.put(format!("{number}"), [b'y'; 1000]).unwrap());
    };
    fill(30);
    keyspace.put("key", secret(1)).unwrap();
    // The segment of the secret is full, and then not needed any more.
    fill(40);
    db.flush().unwrap();
    // The next one is more than half full, so that the one after it is made, of the first.
    fill(40);
    while db.run_background_job() {}
    keyspace.delete("key").unwrap();
    db.keyspace("k", with).unwrap();
    pass(&db, &clock, 100 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

/// The next look was as far away as the options before had it.
#[test]
fn a_short_deadline_is_kept_though_the_options_before_were_looked_after_seldom() {
    let (env, clock) = machine();
    let before = KeyspaceOptions {
        delete_deadline: None,
        idle_compaction: None,
        periodic_compaction: Some(86_400 * SECOND),
        ..options(CompactionPolicy::Leveled)
    };
    let (db, keyspace) = open(&env, before.clone());
    while db.run_background_job() {}
    let short = KeyspaceOptions { delete_deadline: Some(4 * SECOND), ..before };
    db.keyspace("k", short).unwrap();
    keyspace.put("key", secret(1)).unwrap();
    keyspace.flush().unwrap();
    keyspace.delete("key").unwrap();
    assert!(!files_with_the_secret(&env).is_empty());
    pass(&db, &clock, 5 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

#[test]
fn the_deadline_of_a_keyspace_that_is_dropped_is_kept_in_the_log() {
    let (env, clock, db, keyspace) = secrets_in_a_log_that_stays(false);
    db.drop_keyspace(&keyspace).unwrap();
    pass(&db, &clock, 100 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

/// A get held the table while a compaction struck it. Nothing ended after the get that would have removed
/// the file, and it stayed with what was deleted.
#[test]
fn the_deadline_is_kept_beside_a_get_that_takes_long() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
    keyspace.put("key", secret(1)).unwrap();
    keyspace.put("other", "value").unwrap();
    keyspace.flush().unwrap();
    let found = keyspace.get_with("key", |_| {
        keyspace.delete("key").unwrap();
        pass(&db, &clock, 100 * SECOND);
        files_with_the_secret(&env).len()
    });
    assert_eq!(found.unwrap(), Some(1));
    pass(&db, &clock, 100 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

#[test]
fn the_deadline_is_kept_for_ranges_that_an_ingested_table_deletes() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
    keyspace.put("key", secret(1)).unwrap();
    keyspace.flush().unwrap();
    let path = std::path::Path::new("from outside");
    let mut writer = esker::TableWriter::create_in(&env, path, Default::default()).unwrap();
    writer.delete_range("key"..="key").unwrap();
    let path = writer.finish().unwrap().path;
    db.ingest(&keyspace, &[path], esker::IngestOptions::default()).unwrap();
    assert!(!files_with_the_secret(&env).is_empty());
    clock.advance(SECOND);
    assert_eq!(db.stats().keyspaces[1].oldest_delete_age, Some(SECOND));
    pass(&db, &clock, 119 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
}

#[test]
fn the_deadline_counts_across_a_reopen_and_a_crash() {
    for closes in [true, false] {
        let (env, clock) = machine();
        let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
        fill_and_delete(&db, &keyspace, closes, &mut Rng::new(8));
        drop(keyspace);
        if closes {
            db.close().unwrap();
        } else {
            drop(db);
        }
        clock.advance(60 * SECOND);
        let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
        pass(&db, &clock, 40 * SECOND);
        assert_eq!(files_with_the_secret(&env), [""; 0], "{closes}");
        assert_eq!(keyspace.iter().count(), 100);
    }
}

/// Large secrets between large values that stay; the secrets are deleted.
fn fill_blobs_and_delete(db: &Db, keyspace: &Keyspace) {
    for round in 0..3 {
        for number in (round..300).step_by(3) {
            keyspace.put(format!("key {number:04}"), secret(number)).unwrap();
            keyspace.put(format!("key {number:04} stays"), [b'y'; 100]).unwrap();
        }
        keyspace.flush().unwrap();
    }
    keyspace.compact::<&[u8]>(..).unwrap();
    while db.run_background_job() {}
    let deleted = |number: &u64| !number.is_multiple_of(7);
    (0..300).filter(deleted).for_each(|n| keyspace.delete(format!("key {n:04}")).unwrap());
    for number in (0..300).step_by(7) {
        let key = format!("key {number:04}");
        keyspace.delete_range(key.clone().as_bytes()..format!("{key} ").as_bytes()).unwrap();
    }
}

#[test]
fn the_deadline_is_kept_in_blob_files_though_their_garbage_is_within_its_bound() {
    for compaction in KEEPING {
        if matches!(compaction, CompactionPolicy::Fifo(_) | CompactionPolicy::TimeWindow(_)) {
            continue;
        }
        let (env, clock) = machine();
        let options = KeyspaceOptions {
            blob_threshold_bytes: Some(80),
            blob_waste_percent_max: 95,
            ..options(compaction)
        };
        let (db, keyspace) = open(&env, options.clone());
        fill_blobs_and_delete(&db, &keyspace);
        assert!(!files_with_the_secret(&env).is_empty());
        pass(&db, &clock, 40 * SECOND);
        drop(keyspace);
        db.close().unwrap();
        let (db, keyspace) = open(&env, options);
        pass(&db, &clock, 60 * SECOND);
        assert_eq!(files_with_the_secret(&env), [""; 0], "{compaction:?}");
        let blobs = db.stats().keyspaces[1].blob_bytes;
        assert!(blobs > 300 * 100, "what stays lies in blob files: {blobs}");
        assert!(keyspace.iter().all(|entry| *entry.unwrap().1 == [b'y'; 100]));
        assert_eq!(keyspace.iter().count(), 300);
        // What has moved rests until there is garbage beside it.
        let moved = db.stats().counters.blob_move_bytes;
        pass(&db, &clock, 400 * SECOND);
        assert_eq!(db.stats().counters.blob_move_bytes, moved, "{compaction:?}");
    }
}

#[test]
fn settling_does_what_time_has_made_due() {
    let env = Env::memory(1);
    let options = options(CompactionPolicy::Leveled);
    for round in 0..50 {
        let db = Db::builder("db").env(env.clone()).open().unwrap();
        let keyspace = db.keyspace("k", options.clone()).unwrap();
        // Deletes of unknown age may be in the log that was found, so it is left at once.
        db.wait_until_settled().unwrap();
        assert_eq!(db.stats().counters.flushes, u64::from(round != 0), "{round}");
        keyspace.put("key", secret(round)).unwrap();
        db.close().unwrap();
    }
}

#[test]
fn a_snapshot_keeps_what_it_reads_and_health_says_so() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
    keyspace.put("key", secret(1)).unwrap();
    keyspace.flush().unwrap();
    let snapshot = db.snapshot();
    keyspace.delete("key").unwrap();
    pass(&db, &clock, 120 * SECOND);
    assert_eq!(snapshot.keyspace(&keyspace).get("key").unwrap().unwrap(), secret(1));
    let health = db.health();
    assert!(health.late_deletes[0].has_snapshots && health.reclaimable_bytes > 0);
    assert!(!health.is_good(), "deletes that are late are not good");
    let expected = "deletes of k are 120s old, and their deadline is 100s, and snapshots are held";
    assert_eq!(health.to_string(), expected);
    drop(snapshot);
    pass(&db, &clock, 20 * SECOND);
    assert_eq!(files_with_the_secret(&env), [""; 0]);
    assert_eq!((db.health().is_good(), db.health().to_string().as_str()), (true, "good"));
}

/// The table held the secret for a snapshot only, and nothing of what had deleted it but a range tombstone
/// or a newer value. It stayed for good when the snapshot was gone, and health said "good".
#[test]
fn the_deadline_is_kept_for_what_a_snapshot_kept_beside_its_delete() {
    for again in [false, true] {
        let (env, clock) = machine();
        let (db, keyspace) = open(&env, options(CompactionPolicy::Leveled));
        keyspace.put("key", secret(1)).unwrap();
        let snapshot = db.snapshot();
        if again {
            keyspace.delete("key").unwrap();
            keyspace.put("key", "harmless").unwrap();
        } else {
            keyspace.delete_range("a".."z").unwrap();
        }
        keyspace.flush().unwrap();
        clock.advance(SECOND);
        assert_eq!(db.stats().keyspaces[1].oldest_delete_age, Some(SECOND), "{again}");
        drop(snapshot);
        pass(&db, &clock, 120 * SECOND);
        assert_eq!(files_with_the_secret(&env), [""; 0], "{again}");
        assert_eq!(db.stats().keyspaces[1].oldest_delete_age, None, "{again}");
    }
}

#[test]
fn without_a_deadline_the_bytes_stay() {
    let (env, clock) = machine();
    let mut options = options(CompactionPolicy::Leveled);
    options.delete_deadline = None;
    let (db, keyspace) = open(&env, options);
    keyspace.put("key", secret(1)).unwrap();
    keyspace.delete("key").unwrap();
    pass(&db, &clock, 1000 * SECOND);
    assert_eq!(files_with_the_secret(&env).len(), 1);
}

/// Keys are pushed at one end and deleted at the other, with `backlog` of them between.
fn run_queue(count: u64, backlog: u64) -> u64 {
    let (env, _clock) = machine();
    let options = KeyspaceOptions { memtable_bytes: 8 << 20, ..KeyspaceOptions::default() };
    let (db, queue) = open(&env, options);
    let key = |number: u64| format!("job {number:012}");
    let mut most = 0;
    for number in 0..count {
        queue.put(key(number), [b'v'; 60]).unwrap();
        if backlog <= number {
            queue.delete(key(number - backlog)).unwrap();
        }
        if number % 512 == 511 {
            while db.run_background_job() {}
        }
        if number % 4999 == 0 && backlog < number {
            let explained = queue.explain_scan::<&[u8]>(.., Some(1)).unwrap();
            most = most.max(explained.versions_stepped_over + explained.tombstones_stepped_over);
            let first = queue.iter().next().unwrap().unwrap().0;
            assert_eq!(first.to_vec(), key(number + 1 - backlog).into_bytes());
        }
    }
    most
}

#[test]
fn a_seek_to_the_front_of_a_queue_steps_over_no_more_however_long_the_queue_has_run() {
    let budget = std::env::var("ESKER_BUDGET").ok().and_then(|text| text.parse().ok());
    let count = 240_000 * budget.unwrap_or(1_u64);
    for backlog in [10, 20_000] {
        let most = run_queue(count, backlog);
        // Each tombstone that may be there, and what it hides: in three runs that rest in level 0, in
        // one that is just flushed, and in a memtable.
        assert!(most < 5 * 2 * 16_384, "{most} steps with a backlog of {backlog}");
    }
}

#[test]
fn level_zero_goes_down_while_nobody_writes() {
    let (env, clock) = machine();
    let (db, keyspace) = open(&env, KeyspaceOptions::default());
    for round in 0..3 {
        for number in 0..50 {
            keyspace.put(format!("key {number}"), format!("{round}")).unwrap();
        }
        keyspace.flush().unwrap();
    }
    let runs = |keyspace: &Keyspace| keyspace.levels().levels[0].runs.len();
    pass(&db, &clock, 50 * SECOND);
    assert_eq!(runs(&keyspace), 3);
    keyspace.put("one more", "write").unwrap();
    pass(&db, &clock, 50 * SECOND);
    assert_eq!(runs(&keyspace), 3);
    pass(&db, &clock, 20 * SECOND);
    assert_eq!(runs(&keyspace), 0);
    assert_eq!(keyspace.get("key 7").unwrap().unwrap(), "2");
}

#[test]
fn tables_are_rewritten_when_they_are_old() {
    let (env, clock) = machine();
    let options =
        KeyspaceOptions { periodic_compaction: Some(1000 * SECOND), ..KeyspaceOptions::default() };
    let (db, keyspace) = open(&env, options);
    keyspace.put("key", "value").unwrap();
    keyspace.flush().unwrap();
    let file = |keyspace: &Keyspace| {
        let levels = keyspace.levels().levels;
        levels.last().unwrap().runs[0].tables[0].clone()
    };
    let first = file(&keyspace);
    pass(&db, &clock, 900 * SECOND);
    assert_eq!(file(&keyspace).file, first.file);
    pass(&db, &clock, 200 * SECOND);
    let second = file(&keyspace);
    assert!(second.file != first.file && first.written < second.written);
    assert_eq!(second.entries_written, first.entries_written);
    pass(&db, &clock, 800 * SECOND);
    assert_eq!(file(&keyspace).file, second.file);
}

#[test]
fn paused_compactions_wait_and_the_plan_shows_them() {
    let (env, _clock) = machine();
    let (db, keyspace) = open(&env, KeyspaceOptions::default());
    db.pause_compactions();
    for round in 0..5 {
        keyspace.put("key", format!("{round}")).unwrap();
        keyspace.flush().unwrap();
    }
    let before = keyspace.levels();
    db.wait_until_settled().unwrap();
    assert!(db.are_compactions_paused() && keyspace.levels() == before);
    let planned = db.plan();
    let job = &planned[0];
    assert_eq!(
        (planned.len(), job.reason, job.table_count, job.target_level),
        (1, "level-0", 5, 6)
    );
    assert!(!job.is_running && job.score == 1.25 && job.input_bytes > 0);
    assert!(job.to_string().starts_with("k next, score 1.25: level-0: merge L0#"), "{job}");
    db.resume_compactions();
    db.wait_until_settled().unwrap();
    assert_eq!((db.plan(), keyspace.levels().levels[0].runs.len()), (vec![], 0));
    assert_eq!(keyspace.get("key").unwrap().unwrap(), "4");
}
