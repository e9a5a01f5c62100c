//! Holes in the log: where a verification, a recovery and a repair see one, and what stands around it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::doctor::{RepairOptions, RepairReport};
use esker::env::{Env, ManualClock};
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options, RecoveryMode};
use esker_base::{FileHeader, SeqNo};
use esker_tree::Manifest;

use super::modes::{COUNT, cut_between_frames, logged, open, prefix, put};
use super::sample::{DIR, Files};

fn repair(env: &Env, past_holes: bool) -> RepairReport {
    let options = RepairOptions { past_holes, ..RepairOptions::default() };
    let report = Files(env).doctor().repair(&options, &mut |_| {}).unwrap();
    assert!(Files(env).verify().is_sound(), "{report}\n{}", Files(env).verify());
    report
}

/// Flips a bit of the value of the write that stands where `bytes` do.
fn damage(env: &Env, name: &str, bytes: &[u8]) {
    let log = Files(env).read(name);
    let at = log.windows(bytes.len()).position(|window| window == bytes).expect("it is there");
    Files(env).flip(name, at);
}

#[test]
fn only_segments_that_something_is_lost_of_are_set_aside() {
    let env = logged();
    let logs = Files(&env).ending_with(".log");
    Files(&env).flip(&logs[1], 30_000);
    let report = repair(&env, true);
    assert_eq!(report.set_aside, logs[1..2], "{report}");
    let rebuilt: Vec<_> = report.rebuilt.iter().map(|it| (it.from.as_str(), it.entries)).collect();
    assert_eq!(rebuilt, [("the log", COUNT - 1)], "{report}");
}

/// The first segment of a copy that has gone on by itself, with longer segments, has numbers and keys of the next
/// one, too: they were inserted twice, which was a panic.
#[test]
fn what_two_segments_have_is_taken_once() {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1000)));
    let env = Env { clock: clock.clone(), ..Env::memory(1) };
    let options =
        Options { background_threads: 1, log_segment_bytes: 64 << 10, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    put(&db, 0..150);
    // A rest, after which there is a mark.
    let marked = db.stats().counters.log_syncs + 1;
    while db.stats().counters.log_syncs < marked {
        clock.advance(Duration::from_secs(2));
        db.resume_compactions();
        std::thread::yield_now();
    }
    put(&db, 150..COUNT);
    drop(db);
    let copy = Env::memory(1);
    let options =
        Options { background_threads: 0, log_segment_bytes: 1 << 20, ..Options::default() };
    let db = Db::builder(DIR).env(copy.clone()).options(options).open().unwrap();
    put(&db, 0..COUNT);
    drop(db);
    let log = Files(&env).ending_with(".log").remove(0);
    assert_eq!(Files(&copy).ending_with(".log"), std::slice::from_ref(&log));
    Files(&env).replace(&log, &Files(&copy).read(&log));
    assert_eq!(open(&env, RecoveryMode::TornTail).unwrap_err().kind(), ErrorKind::Corruption);
    let db = Db::builder(DIR).env(env.clone()).read_only(true);
    let db = db.recovery(RecoveryMode::Salvage).open().unwrap();
    assert_eq!(prefix(&db), COUNT);
    let told: Vec<String> = db.events().iter().map(|(_, event)| event.to_string()).collect();
    assert!(told.iter().any(|event| event.contains("numbers were read before")), "{told:?}");
    drop(db);
    let report = repair(&env, true);
    assert!(report.to_string().contains("numbers that others before had"), "{report}");
    assert_eq!(prefix(&open(&env, RecoveryMode::Strict).unwrap()), COUNT);
}

/// What behind a hole is lost is told by its keys, from the first to the last: what its values are does
/// not matter, nor in which order it was written. Its sequence numbers are not given again.
#[test]
fn what_is_lost_behind_a_hole_reaches_from_its_first_key_to_its_last() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let writes =
        [("f", "1"), ("f", "2"), ("f", "3"), ("m", "0"), ("c", "z"), ("x", "z"), ("e", "0")];
    for (key, value) in writes {
        db.put_with(key, value.repeat(100), Durability::Power).unwrap();
    }
    drop(db);
    let log = Files(&env).ending_with(".log").remove(0);
    damage(&env, &log, &[b'2'; 100]);
    let report = repair(&env, false);
    let lost: Vec<_> = report.lost.iter().filter_map(|loss| loss.keys.as_ref()).collect();
    let lost: Vec<String> = lost.into_iter().map(ToString::to_string).collect();
    assert_eq!(lost, ["keys from \"c\" up to \"x\" of default"], "{report}");
    let catalog = Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog;
    assert_eq!(catalog.last_seqno, SeqNo::new(writes.len() as u64).unwrap(), "{report}");
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(db.get("f").unwrap().unwrap(), "1".repeat(100));
    assert_eq!(db.iter().count(), 1);
}

/// Operations on it may still be in the log.
#[test]
fn a_keyspace_that_was_dropped_does_not_come_back_out_of_the_log() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let gone = db.keyspace("gone", KeyspaceOptions::default()).unwrap();
    for value in ["1", "2", "3"] {
        gone.put("k", "v").unwrap();
        db.put_with("k", value.repeat(100), Durability::Power).unwrap();
    }
    db.drop_keyspace(&gone).unwrap();
    drop((gone, db));
    let log = Files(&env).ending_with(".log").remove(0);
    damage(&env, &log, &[b'2'; 100]);
    for past_holes in [false, true] {
        let copy = logged();
        let files = Files(&copy);
        files.everything().iter().for_each(|(name, _)| files.remove(name));
        Files(&env).everything().iter().for_each(|(name, bytes)| files.replace(name, bytes));
        let report = repair(&copy, past_holes);
        assert!(!report.to_string().contains("keyspace-1"), "{report}");
        assert_eq!(report.rebuilt[0].entries, 1 + u64::from(past_holes), "{report}");
        assert_eq!(open(&copy, RecoveryMode::Strict).unwrap().keyspaces(), ["default"]);
    }
}

/// Without a manifest nothing says which segments were released. One that is kept to be used again holds
/// what is in tables since, or was deleted there: a put whose delete went with its own segment would
/// come back.
#[test]
fn a_segment_that_was_released_brings_nothing_back_without_a_manifest() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let logs = || Files(&env).ending_with(".log");
    let fill = |count: usize| {
        while logs().len() < count {
            db.put_with("filler", vec![b'x'; 600], Durability::Power).unwrap();
        }
    };
    db.put_with("deleted", "v", Durability::Power).unwrap();
    fill(2);
    let first = logs().remove(0);
    let bytes = Files(&env).read(&first);
    db.delete_with("deleted", Durability::Power).unwrap();
    fill(3);
    db.put_with("kept", "in a table", Durability::Power).unwrap();
    db.flush().unwrap();
    db.compact_all().unwrap();
    db.put_with("last", "in the log", Durability::Power).unwrap();
    drop(db);
    let files = Files(&env);
    // It waits to be used again, as it was.
    assert!(logs().len() == 2 && files.read(&first) == bytes, "{:?}", logs());
    files.manifests().iter().for_each(|name| files.remove(name));
    let report = repair(&env, false);
    let db = open(&env, RecoveryMode::Strict).unwrap();
    let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(keys, [b"filler".to_vec(), b"kept".to_vec(), b"last".to_vec()], "{report}");
}

/// The first segment of all has no frame before it that would be missed: the tables end where it starts.
#[test]
fn all_frames_of_the_first_segment_are_missed_too() {
    let env = logged();
    let files = Files(&env);
    let logs = files.ending_with(".log");
    let count = cut_between_frames(&env, &logs[0], 0);
    let report = files.verify();
    let place = format!("from offset 48 of {} on", logs[0]);
    let line = format!(
        "{} at 0: groups before this segment are missing, though they were durable, {place}",
        logs[1]
    );
    assert_eq!(report.findings[0].to_string(), line, "{report}");
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let error = open(&env, mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
        assert!(error.to_string().contains("though they were durable"), "{mode:?}: {error}");
    }
    let report = repair(&env, true);
    let told = format!("groups between 0 and {} are missing, {place}", count + 1);
    assert!(report.lost.iter().any(|loss| loss.what == told), "{report}");
    assert_eq!(report.set_aside, logs[..1], "{report}");
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(db.iter().count() as u64, COUNT - count as u64);
}

/// It may have been released, or be a hole: what stands before it is not kept, which is told, and the
/// segments are.
#[test]
fn what_stands_before_a_gap_without_a_manifest_is_told() {
    let (env, logs) = unsynced(true);
    let files = Files(&env);
    cut_between_frames(&env, &logs[1], 20);
    files.manifests().iter().for_each(|name| files.remove(name));
    let report = repair(&env, true);
    let what = "operations before a gap in the log: nothing tells whether tables have them";
    let told = report.lost.iter().filter(|loss| loss.what == what);
    let told: Vec<_> = told.map(|loss| loss.file.as_str()).collect();
    assert_eq!(told, logs[..2], "{report}");
    let keys = report.lost.iter().filter_map(|loss| loss.keys.as_ref()).next().unwrap();
    assert!(keys.to_string().starts_with("keys from \"0000\" up to"), "{report}");
    assert!(logs[..2].iter().all(|log| report.set_aside.contains(log)), "{report}");
    assert_eq!(open(&env, RecoveryMode::Strict).unwrap().get("0000").unwrap(), None);
}

/// What tables show that they have is not lost, though nothing says that its segment was released.
#[test]
fn what_tables_have_is_not_told_as_lost_before_a_gap() {
    let (env, logs) = unsynced(true);
    let files = Files(&env);
    let bytes = files.read(&logs[0]);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    db.flush().unwrap();
    db.put_with("last", "in the log", Durability::Power).unwrap();
    drop(db);
    files.replace(&logs[0], &bytes);
    files.manifests().iter().for_each(|name| files.remove(name));
    let report = repair(&env, false);
    assert!(report.lost.is_empty(), "{report}");
    let db = open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(db.iter().count() as u64, COUNT + 3, "{report}");
}

/// A log of several segments that nobody synced, but for two last writes if `is_synced_at_end`.
fn unsynced(is_synced_at_end: bool) -> (Env, Vec<String>) {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let write = |n: u64, durability: Durability| {
        let value = [format!("{n:04}").into_bytes(), vec![b'x'; 600]].concat();
        db.put_with(format!("{n:04}"), value, durability).unwrap();
    };
    (0..COUNT).for_each(|n| write(n, Durability::Process));
    if is_synced_at_end {
        (COUNT..COUNT + 2).for_each(|n| write(n, Durability::Power));
    }
    drop(db);
    let logs = Files(&env).ending_with(".log");
    assert!(2 < logs.len());
    (env, logs)
}

/// The same, with frames gone from the end of the first segment.
fn unsynced_and_cut(is_synced_at_end: bool) -> (Env, Vec<String>) {
    let (env, logs) = unsynced(is_synced_at_end);
    cut_between_frames(&env, &logs[0], 20);
    (env, logs)
}

/// What was never synced may go in a crash, a segment's end before the next one's start: that is no
/// damage, though the header of the next one is durable.
#[test]
fn frames_that_never_were_durable_are_not_missed() {
    let (env, _) = unsynced_and_cut(false);
    assert!(Files(&env).verify().is_sound(), "{}", Files(&env).verify());
    let error = open(&env, RecoveryMode::Strict).unwrap_err();
    assert!(error.to_string().ends_with("frames before this segment are missing"), "{error}");
    assert_eq!(prefix(&open(&env, RecoveryMode::TornTail).unwrap()), 20);

    // Nor does a repair that has another reason take them for lost.
    let (env, logs) = unsynced_and_cut(false);
    Files(&env).flip(&logs[0], 20);
    let report = repair(&env, false);
    assert!(!report.was_sound());
    let gap = report.lost.iter().find(|loss| loss.what.contains("are missing"));
    assert_eq!(gap, None, "{report}");
}

/// A sync covers all segments before it: one that says it was synced misses them, also where those in
/// between do not say so. A repair told only what stood behind them.
#[test]
fn a_later_segment_tells_that_frames_were_durable() {
    for past_holes in [false, true] {
        let (env, logs) = unsynced_and_cut(true);
        let last = logs.last().unwrap();
        let end = Files(&env).read(&logs[0]).len();
        let place = format!("from offset {end} of {} on", logs[0]);
        let line = format!(
            "{last} at 0: groups before this segment are missing, though they were durable, {place}"
        );
        let report = Files(&env).verify();
        assert_eq!(report.findings[0].to_string(), line, "{report}");
        let error = open(&env, RecoveryMode::TornTail).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        let report = repair(&env, past_holes);
        let gaps: Vec<_> = report.lost.iter().filter(|it| it.what.ends_with(&place)).collect();
        assert_eq!(gaps.len(), 1, "{report}");
        assert!(report.set_aside.contains(&logs[0]), "{report}");
        assert!(gaps[0].what.starts_with("groups between 20 and "), "{report}");
        assert_eq!(gaps[0].file, *last, "{report}");
    }
}

/// Frames behind damage that only a later segment tells from a torn end. The segment was taken to end there,
/// and the next open removed it, with all that was intact behind the damage.
#[test]
fn what_a_later_segment_says_was_durable_is_read_behind_damage() {
    for places in [&[30_000][..], &[20_000, 40_000]] {
        let lost = places.len() as u64;
        for (past_holes, has_manifest) in [(true, true), (true, false), (false, true)] {
            let (env, logs) = unsynced(true);
            let files = Files(&env);
            places.iter().for_each(|at| files.flip(&logs[0], *at));
            if !has_manifest {
                files.manifests().iter().for_each(|name| files.remove(name));
            }
            let report = files.verify();
            let found: Vec<_> = report.findings.iter().filter(|it| it.file == logs[0]).collect();
            assert_eq!(found.len() as u64, lost, "{report}");
            let last = logs.last().unwrap();
            let what = format!("frame is not valid, though it was durable when {last} was written");
            assert!(found.iter().all(|it| it.what == what), "{report}");
            let others = usize::from(!has_manifest);
            assert_eq!(report.findings.len(), found.len() + others, "{report}");
            let mode = RecoveryMode::TornTail;
            assert_eq!(open(&env, mode).unwrap_err().kind(), ErrorKind::Corruption);
            if has_manifest {
                let reads = Db::builder(DIR).env(env.clone()).read_only(true);
                let db = reads.recovery(RecoveryMode::Salvage).open().unwrap();
                assert_eq!(db.iter().count() as u64, COUNT + 2 - lost, "an open that salvages");
            }
            let before = files.read(&logs[0]);
            let report = repair(&env, past_holes);
            assert!(report.set_aside.contains(&logs[0]), "{report}");
            let db = open(&env, RecoveryMode::Strict).unwrap();
            let count = db.iter().count() as u64;
            drop(db);
            match past_holes {
                true => assert_eq!(count, COUNT + 2 - lost, "{report}"),
                false => assert!((20..100).contains(&count), "{count}: {report}"),
            }
            let kept = files.read(&format!("damaged/{}", logs[0]));
            assert!(kept == before, "all of it is there");
        }
    }
}

/// Of a log that was never synced a whole segment may count as torn, whatever is behind the place.
#[test]
fn what_no_segment_says_was_durable_is_no_damage() {
    let (env, logs) = unsynced(false);
    Files(&env).flip(&logs[0], 30_000);
    assert!(Files(&env).verify().is_sound(), "{}", Files(&env).verify());
    let count = prefix(&open(&env, RecoveryMode::TornTail).unwrap());
    assert!((20..100).contains(&count), "{count}");
}

/// Nothing is lost of a segment that has only a header, and nobody has to stop there.
#[test]
fn a_damaged_header_of_an_empty_segment_costs_nothing() {
    for is_cut in [false, true] {
        let env = Env::memory(1);
        let options = || Options { background_threads: 0, ..Options::default() };
        let builder = || Db::builder(DIR).env(env.clone()).options(options());
        let db = builder().open().unwrap();
        db.put("k", "v").unwrap();
        drop(db);
        let files = Files(&env);
        let log = files.ending_with(".log").remove(0);
        if is_cut {
            // The frame was never synced.
            let bytes = files.read(&log);
            files.replace(&log, &bytes[..FileHeader::LEN]);
        }
        let frames = usize::from(!is_cut);
        files.flip(&log, 20);
        let found = files.verify();
        assert_eq!(found.findings.len(), 1, "{found}");
        let report = repair(&env, false);
        assert!(report.lost.is_empty(), "{report}");
        assert_eq!(report.set_aside, [log], "{report}");
        assert_eq!(report.rebuilt.len(), frames, "nothing is taken from it: {report}");
        assert_eq!(builder().open().unwrap().iter().count(), frames);
    }
}
