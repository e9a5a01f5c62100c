//! Repair: what is intact is kept, what is not is named, and the database works again.

use std::ops::RangeBounds as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use esker::doctor::{Doctor, RepairOptions, RepairReport};
use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, FileExt as _, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options, RecoveryMode};

use super::modes;
use super::sample::{DIR, Files, Left, Sample};
use crate::random::{Rng, for_each_seed};
use crate::reading::assert_state;
use crate::state::State;

fn repair(files: Files<'_>) -> RepairReport {
    files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap()
}

/// Whether `report` says that the key may miss what was written last.
fn is_given_up(report: &RepairReport, keyspace: &str, key: &[u8]) -> bool {
    let mut lost = report.lost.iter().filter_map(|loss| loss.keys.as_ref());
    lost.any(|keys| {
        keys.keyspace == keyspace && (keys.start.clone(), keys.end.clone()).contains(&key.to_vec())
    })
}

/// Checks that `db` holds what `model` holds, but for what `report` gives up.
pub(super) fn assert_kept(db: &Db, model: &State, report: &RepairReport, when: &str) {
    for name in model.names() {
        let keyspace = db.existing_keyspace(&name).unwrap();
        let keyspace = keyspace.unwrap_or_else(|| panic!("{when}: no {name}: {report}"));
        let contents = model.contents(&name);
        for (key, value) in contents.iter().filter(|(key, _)| !is_given_up(report, &name, key)) {
            let found = keyspace.get(key).unwrap();
            assert!(
                found.as_deref() == Some(&**value),
                "{when}: {name} {} is {:?}: {report}",
                key.escape_ascii(),
                found.map(|value| value.len())
            );
        }
        for entry in keyspace.iter() {
            let (key, _) = entry.unwrap();
            let is_there = contents.contains_key(&*key) || is_given_up(report, &name, &key);
            assert!(is_there, "{when}: {name} {} has come back: {report}", key.escape_ascii());
        }
    }
}

/// Checks that a repaired database is sound, works, and needs no other repair.
pub(super) fn assert_works(sample: &Sample, report: &RepairReport, when: &str) {
    let files = sample.files();
    assert!(!report.was_sound(), "{when}");
    assert!(files.verify().is_sound(), "{when}: {}\n{report}", files.verify());
    let before = files.everything();
    assert!(repair(files).was_sound(), "{when}");
    assert_eq!(before, files.everything(), "{when}: a second repair changes nothing");
    let db = sample.open();
    for name in db.keyspaces() {
        let keyspace = db.existing_keyspace(&name).unwrap().unwrap();
        keyspace.put("written after the repair", name.as_bytes()).unwrap();
    }
    db.flush().unwrap();
    db.compact_all().unwrap();
    db.close().unwrap();
    assert!(files.verify().is_sound(), "{when}: {}", files.verify());
    let db = sample.open();
    for name in db.keyspaces() {
        let keyspace = db.existing_keyspace(&name).unwrap().unwrap();
        assert_eq!(keyspace.get("written after the repair").unwrap().unwrap(), name.as_bytes());
    }
}

/// Repairs, checks, and puts everything back.
pub(super) fn check(sample: &Sample, original: &[(String, Vec<u8>)], when: &str) -> RepairReport {
    let files = sample.files();
    let before = files.everything();
    let options = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let planned = files.doctor().repair(&options, &mut |_| {}).unwrap();
    assert_eq!(before, files.everything(), "{when}: a dry run changes nothing");
    let report = repair(files);
    assert_eq!(RepairReport { is_dry_run: false, ..planned }, report, "{when}");
    let mut given_up = report.clone();
    // Every file is there: what is missing had been replaced, by an edit that is lost.
    given_up.lost.retain(|loss| !loss.what.contains("unless it had been replaced"));
    assert_kept(&sample.open(), &sample.model, &given_up, when);
    assert_works(sample, &report, when);
    for (name, _) in files.everything() {
        files.remove(&name);
    }
    original.iter().for_each(|(name, bytes)| files.replace(name, bytes));
    given_up
}

#[test]
fn repair_of_a_sound_database_changes_nothing() {
    for_each_seed("repair_of_a_sound_database_changes_nothing", 5, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let sample = Sample::new(seed, left);
            let before = sample.files().everything();
            let report = repair(sample.files());
            assert!(report.was_sound(), "{report}");
            assert_eq!(before, sample.files().everything());
            assert_state(&sample.open(), &sample.model, "after it");
        }
    });
}

#[test]
fn a_damaged_cut_or_missing_table_costs_the_keys_of_what_is_damaged() {
    let test = "a_damaged_cut_or_missing_table_costs_the_keys_of_what_is_damaged";
    for_each_seed(test, 4, |seed| {
        let sample = Sample::new(seed, Left::Abandoned);
        let (files, mut rng) = (sample.files(), Rng::new(seed));
        let original = files.everything();
        for name in files.ending_with(".table") {
            let len = files.read(&name).len();
            for _ in 0..4 {
                let offset = rng.index(len);
                files.flip(&name, offset);
                let when = format!("{name} flipped at {offset} of {len}");
                let report = check(&sample, &original, &when);
                assert!(report.set_aside.contains(&name), "{when}: {report}");
            }
            let bytes = files.read(&name);
            files.replace(&name, &bytes[..rng.index(len)]);
            check(&sample, &original, &format!("{name} cut"));
            files.remove(&name);
            check(&sample, &original, &format!("{name} missing"));
        }
    });
}

#[test]
fn a_damaged_end_of_a_table_costs_nothing() {
    for_each_seed("a_damaged_end_of_a_table_costs_nothing", 4, |seed| {
        let sample = Sample::new(seed, Left::Closed);
        let (files, mut rng) = (sample.files(), Rng::new(seed));
        let original = files.everything();
        for name in files.ending_with(".table") {
            let bytes = files.read(&name);
            files.flip(&name, bytes.len() - 1 - rng.index(48));
            let report = check(&sample, &original, &format!("{name} without footer"));
            assert!(report.lost.is_empty(), "{report}");
            // The footer, and some of the properties before it.
            let end = bytes.len() - 100;
            files.replace(&name, &[&bytes[..end], &[0; 100]].concat());
            let report = check(&sample, &original, &format!("{name} without its last bytes"));
            assert!(report.lost.is_empty() && report.set_aside.contains(&name), "{report}");
            files.replace(&name, &bytes[..end]);
            let report = check(&sample, &original, &format!("{name} cut short"));
            assert!(report.lost.is_empty(), "{report}");
        }
    });
}

#[test]
fn a_damaged_cut_or_missing_blob_file_costs_the_keys_of_the_values_that_are_damaged() {
    let test = "a_damaged_cut_or_missing_blob_file_costs_the_keys_of_the_values_that_are_damaged";
    let lost = std::cell::Cell::new(0);
    for_each_seed(test, 4, |seed| {
        let sample = Sample::new(seed, Left::Abandoned);
        let (files, mut rng) = (sample.files(), Rng::new(seed));
        let original = files.everything();
        for name in files.ending_with(".blob") {
            let len = files.read(&name).len();
            // Header and footer alone cost nothing.
            for offset in [rng.index(48), len - 1 - rng.index(44)] {
                files.flip(&name, offset);
                let report = check(&sample, &original, &format!("{name} flipped at {offset}"));
                assert!(report.set_aside.contains(&name) && report.lost.is_empty(), "{report}");
            }
            for _ in 0..3 {
                let offset = 48 + rng.index(len - 92);
                files.flip(&name, offset);
                let when = format!("{name} flipped at {offset} of {len}");
                let report = check(&sample, &original, &when);
                assert!(report.set_aside.contains(&name), "{when}: {report}");
                lost.set(lost.get() + report.lost.len());
            }
            let bytes = files.read(&name);
            files.replace(&name, &bytes[..rng.index(len)]);
            check(&sample, &original, &format!("{name} cut"));
            files.remove(&name);
            let report = check(&sample, &original, &format!("{name} missing"));
            lost.set(lost.get() + report.lost.len());
        }
    });
    assert!(lost.get() > 50, "{lost:?}");
}

#[test]
fn without_a_whole_manifest_nothing_is_lost() {
    for_each_seed("without_a_whole_manifest_nothing_is_lost", 12, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let sample = Sample::new(seed, left);
            let (files, mut rng) = (sample.files(), Rng::new(seed));
            let original = files.everything();
            let name = files.newest_manifest();
            let bytes = files.read(&name);
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            for _ in 0..6 {
                let offset = rng.index(end);
                files.flip(&name, offset);
                if files.verify().is_sound() {
                    // The last edit of a manifest that was not closed: as if it never was.
                    files.replace(&name, &bytes);
                    continue;
                }
                let when = format!("{left:?} {name} flipped at {offset} of {end}");
                let report = check(&sample, &original, &when);
                assert!(report.lost.is_empty(), "{when}: {report}");
                assert!(report.set_aside.contains(&name), "{when}: {report}");
            }
        }
    });
}

#[test]
fn without_any_manifest_only_options_are_lost() {
    for_each_seed("without_any_manifest_only_options_are_lost", 12, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let sample = Sample::new(seed, left);
            let files = sample.files();
            files.manifests().iter().for_each(|name| files.remove(name));
            // There may be no segment that shows it.
            let doctor = files.doctor().log_dir(DIR);
            let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
            assert!(report.lost.is_empty(), "{report}");
            assert_kept(&sample.open(), &sample.model, &report, &format!("{left:?}"));
            assert_works(&sample, &report, &format!("{left:?}"));
        }
    });
}

#[test]
fn a_damaged_log_is_kept_up_to_the_damage() {
    for_each_seed("a_damaged_log_is_kept_up_to_the_damage", 12, |seed| {
        let sample = Sample::new(seed, Left::Abandoned);
        let (files, mut rng) = (sample.files(), Rng::new(seed));
        let original = files.everything();
        for name in files.ending_with(".log") {
            let bytes = files.read(&name);
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            for _ in 0..4 {
                let offset = rng.index(end);
                files.flip(&name, offset);
                if files.verify().is_sound() {
                    files.replace(&name, &bytes);
                    continue;
                }
                let when = format!("{name} flipped at {offset} of {end}");
                let report = repair(files);
                assert!(!report.lost.is_empty() || offset < 48, "{when}");
                assert_is_some_past(&sample, &when);
                assert_works(&sample, &report, &when);
                let copy = format!("damaged/{name}");
                assert_eq!(files.read(&copy).len(), bytes.len(), "{when}: the original is kept");
                files.remove(&copy);
                files.everything().iter().for_each(|(name, _)| files.remove(name));
                original.iter().for_each(|(name, bytes)| files.replace(name, bytes));
            }
        }
    });
}

/// Checks that every key has a value that it had once.
pub(super) fn assert_is_some_past(sample: &Sample, when: &str) {
    let db = sample.open();
    for name in sample.model.names() {
        let keyspace = db.existing_keyspace(&name).unwrap().unwrap();
        for entry in keyspace.iter() {
            let (key, value) = entry.unwrap();
            let had =
                |state: &State| state.contents(&name).get(&*key).is_some_and(|v| **v == *value);
            assert!(sample.history.iter().any(had), "{when}: {name} {}", key.escape_ascii());
        }
    }
}

#[test]
fn a_damaged_header_costs_nothing() {
    let sample = Sample::new(3, Left::Abandoned);
    let files = sample.files();
    let original = files.everything();
    let manifest = files.newest_manifest();
    let mut names = [files.ending_with(".table"), files.ending_with(".log")].concat();
    names.push(manifest);
    for name in names {
        for offset in [0, 5, 20, 44] {
            files.flip(&name, offset);
            if files.verify().is_sound() {
                // A segment that is kept for reuse.
                assert!(name.ends_with(".log"));
                files.replace(&name, &original.iter().find(|(n, _)| *n == name).unwrap().1);
                continue;
            }
            let report = check(&sample, &original, &format!("{name} flipped at {offset}"));
            assert!(report.lost.is_empty(), "{name} {offset}: {report}");
        }
    }
}

#[test]
fn behind_a_hole_in_the_log_nothing_is_kept_unless_asked_for() {
    for past_holes in [false, true] {
        let env = modes::logged();
        let files = Files(&env);
        let middle = files.ending_with(".log")[1].clone();
        files.flip(&middle, 30_000);
        let options = RepairOptions { past_holes, ..RepairOptions::default() };
        let report = files.doctor().repair(&options, &mut |_| {}).unwrap();
        let db = modes::open(&env, RecoveryMode::Strict).unwrap();
        if past_holes {
            assert_eq!(db.iter().count() as u64, modes::COUNT - 1, "{report}");
            continue;
        }
        let count = modes::prefix(&db);
        assert!(100 < count && count < 200, "{count}: {report}");
        let next = format!("{:04}", count + 1);
        assert!(is_given_up(&report, "default", next.as_bytes()), "{report}");
        assert!(report.set_aside.contains(&middle), "{report}");
    }
}

/// Frames that are missing without a trace stopped a repair that was asked to go on.
#[test]
fn past_holes_also_where_a_segment_ends_too_early() {
    for past_holes in [false, true] {
        let env = modes::logged();
        let files = Files(&env);
        let middle = files.ending_with(".log")[1].clone();
        let missing = modes::cut_between_frames(&env, &middle, 5) as u64 - 5;
        let options = RepairOptions { past_holes, ..RepairOptions::default() };
        let report = files.doctor().repair(&options, &mut |_| {}).unwrap();
        assert!(report.lost.iter().any(|loss| loss.what.contains("are missing")), "{report}");
        assert!(report.set_aside.contains(&middle), "{report}");
        assert!(files.verify().is_sound(), "{report}");
        let db = modes::open(&env, RecoveryMode::Strict).unwrap();
        let count = db.iter().count() as u64;
        match past_holes {
            true => assert_eq!(count, modes::COUNT - missing, "{report}"),
            false => assert_eq!(count, modes::prefix(&db), "{report}"),
        }
    }
}

/// What stands behind a hole in the log, and in tables too, was reported lost; of a keyspace that
/// only the log knows, what is lost was not.
#[test]
fn only_what_is_nowhere_else_is_lost_behind_a_hole() {
    let env = Env::memory(1);
    let files = Files(&env);
    let db = modes::open(&env, RecoveryMode::TornTail).unwrap();
    let flushed = db.keyspace("flushed", KeyspaceOptions::default()).unwrap();
    for n in 0..100 {
        db.put_with(format!("{n:04}"), vec![b'x'; 600], Durability::Power).unwrap();
        flushed.put(format!("{n:04}"), "is there").unwrap();
    }
    flushed.flush().unwrap();
    drop((db, flushed));
    let log = files.ending_with(".log").remove(0);
    files.flip(&log, 30_000);
    let before = files.everything();
    let report = repair(files);
    assert!(is_given_up(&report, "default", b"0099"), "{report}");
    assert!(!is_given_up(&report, "flushed", b"0099"), "{report}");
    let db = modes::open(&env, RecoveryMode::Strict).unwrap();
    let flushed = db.existing_keyspace("flushed").unwrap().unwrap();
    assert_eq!(flushed.iter().count(), 100);
    drop((db, flushed));

    files.everything().iter().for_each(|(name, _)| files.remove(name));
    let kept = |name: &str| !name.contains(".manifest") && !name.ends_with(".table");
    let kept = before.iter().filter(|(name, _)| kept(name));
    kept.for_each(|(name, bytes)| files.replace(name, bytes));
    let report = repair(files);
    assert!(is_given_up(&report, "keyspace-1", b"0099"), "{report}");
}

/// A delete of a range that was lost gave up the key that it starts with, and no other.
#[test]
fn all_keys_of_a_range_whose_delete_is_lost_may_come_back() {
    for end in [Some("0070"), None] {
        let env = modes::logged();
        let files = Files(&env);
        let db = modes::open(&env, RecoveryMode::TornTail).unwrap();
        match end {
            Some(end) => db.delete_range("0010"..end).unwrap(),
            None => db.delete_range("0010"..).unwrap(),
        }
        db.sync().unwrap();
        drop(db);
        let logs = files.ending_with(".log");
        files.flip(&logs[logs.len() - 2], 30_000);
        let report = repair(files);
        for (key, is_in_range) in [("0010", true), ("0069", true), ("0071", end.is_none())] {
            let is_given_up = is_given_up(&report, "default", key.as_bytes());
            assert_eq!(is_given_up, is_in_range, "{key}: {report}");
        }
    }
}

#[test]
fn a_missing_newest_manifest_costs_nothing() {
    let env = modes::logged();
    let files = Files(&env);
    for name in ["first", "second"] {
        let db = modes::open(&env, RecoveryMode::TornTail).unwrap();
        let keyspace = db.keyspace(name, KeyspaceOptions::default()).unwrap();
        keyspace.put(name, "is there").unwrap();
        db.flush().unwrap();
        db.close().unwrap();
    }
    files.remove(&files.newest_manifest());
    let report = repair(files);
    assert!(files.verify().is_sound(), "{report}");
    let db = modes::open(&env, RecoveryMode::Strict).unwrap();
    assert_eq!(modes::prefix(&db), modes::COUNT);
    assert_eq!(db.keyspaces(), ["default", "first", "second"]);
    for name in ["first", "second"] {
        let keyspace = db.existing_keyspace(name).unwrap().unwrap();
        assert_eq!(keyspace.get(name).unwrap().unwrap(), "is there", "{name}");
    }
}

/// Before each change that a repair makes to the file system, everything that is not durable is
/// lost: what is left is as damaged as before and can be repaired, or is repaired.
#[test]
fn a_repair_that_is_cut_short_can_be_begun_again() {
    for damage in ["table", "manifest"] {
        let memory = MemoryFileSystem::new(7);
        let sample = Sample::over(Arc::new(memory.clone()), 7, Left::Abandoned);
        let files = sample.files();
        let name = match damage {
            "table" => files.ending_with(".table")[0].clone(),
            _ => files.newest_manifest(),
        };
        files.flip(&name, 200);
        let expected = {
            let copy = sample.with(Arc::new(memory.snapshot()));
            let report = repair(copy.files());
            assert!(!report.was_sound());
            report
        };

        let faults =
            FaultFileSystem::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()));
        let moments: Arc<Mutex<Vec<MemoryFileSystem>>> = Arc::default();
        let (list, below) = (Arc::clone(&moments), memory.clone());
        faults.observe(move |event| {
            if event.operation.is_change() {
                list.lock().unwrap().push(below.snapshot());
            }
        });
        repair(sample.with(Arc::new(faults)).files());
        let moments = std::mem::take(&mut *moments.lock().unwrap());
        assert!(moments.len() > 10, "{}", moments.len());
        for (index, moment) in moments.into_iter().enumerate() {
            for policy in [CrashPolicy::AllLost, CrashPolicy::AllKept, CrashPolicy::Coin] {
                let when = format!("{damage}, {policy:?} before change {index}");
                let left = sample.with(Arc::new(moment.crash(policy, index as u64)));
                let found = left.files().verify();
                let is_as_before = found.findings == expected.findings;
                assert!(
                    found.is_sound() || is_as_before || damage == "manifest",
                    "{when}: {found}"
                );
                let report = repair(left.files());
                let had_worked = report.was_sound();
                assert!(had_worked || report.lost == expected.lost, "{when}: {report}");
                assert!(left.files().verify().is_sound(), "{when}");
                assert_kept(&left.open(), &sample.model, &expected, &when);
                let aside = left.env.fs.list(Path::new("db/damaged")).unwrap();
                assert!(aside.iter().any(|entry| entry.name == name), "{when}: {aside:?}");
            }
        }
    }
}

#[test]
fn what_was_renamed_dropped_or_set_anew_is_known_without_the_manifest_that_says_so() {
    let sample = Sample { env: Env::memory(1), model: State::new(), history: Vec::new() };
    let files = sample.files();
    let db = sample.open();
    let [dropped, renamed, set] = ["dropped", "old name", "set"]
        .map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    for keyspace in [&dropped, &renamed, &set] {
        keyspace.put("k", keyspace.name().as_bytes()).unwrap();
        keyspace.flush().unwrap();
    }
    let small = KeyspaceOptions { memtable_bytes: 123_456, ..KeyspaceOptions::default() };
    db.keyspace("set", small).unwrap();
    db.rename_keyspace(&renamed, "new name").unwrap();
    db.drop_keyspace(&dropped).unwrap();
    db.close().unwrap();
    // Its last edit says that it was closed. The others are as they were.
    let name = files.newest_manifest();
    let end = files.read(&name).iter().rposition(|byte| *byte != 0).unwrap();
    files.flip(&name, end);
    assert!(!files.verify().is_sound());
    let report = repair(files);
    assert!(report.lost.is_empty(), "{report}");
    let db = sample.open();
    assert_eq!(db.keyspaces(), ["default", "new name", "set"]);
    let value = |name: &str| {
        db.existing_keyspace(name).unwrap().unwrap().get("k").unwrap().map(|value| value.to_vec())
    };
    assert_eq!(value("new name").unwrap(), b"old name");
    assert_eq!(value("set").unwrap(), b"set");
    let options = db.existing_keyspace("set").unwrap().unwrap().options();
    assert_eq!(options.memtable_bytes, 123_456);
    db.close().unwrap();
    assert_works(&sample, &report, "afterwards");
}

#[test]
fn a_log_that_lies_apart_is_verified_and_repaired_too() {
    let env = Env::memory(1);
    let options = Options {
        background_threads: 0,
        log_dir: Some("log".into()),
        durability: Durability::Power,
        ..Options::default()
    };
    let options_of_other = Options { log_dir: None, ..options.clone() };
    let builder = || Db::builder(DIR).env(env.clone()).options(options.clone());
    let db = builder().open().unwrap();
    for index in 0..100_u8 {
        db.put([index], vec![index; 500]).unwrap();
    }
    drop(db);
    let doctor = || Doctor::new(DIR).log_dir("log").env(env.clone());
    assert!(doctor().verify(&mut |_| {}).unwrap().is_sound());
    let error = Db::builder(DIR).env(env.clone()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    let hint = "it is missing: if the log lies apart, log_dir (--log-dir) must say where";
    assert!(error.to_string().ends_with(hint), "{error}");

    // Who forgets to say where it lies does not lose it.
    let before = Files(&env).everything();
    for dry_run in [true, false] {
        let options = RepairOptions { dry_run, ..RepairOptions::default() };
        let error = Doctor::new(DIR).env(env.clone()).repair(&options, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(
            error.to_string(),
            "no segment of the log is in db: say where the log lies, even if it is there"
        );
    }
    // Nor does one who says that it lies where another database has its own harm that one.
    let other = || Db::builder("other").env(env.clone()).options(options_of_other.clone());
    let db = other().open().unwrap();
    db.put("k", "v").unwrap();
    drop(db);
    let entries = || format!("{:?}", env.fs.list(Path::new("other")).unwrap());
    let there = entries();
    for dry_run in [true, false] {
        let options = RepairOptions { dry_run, ..RepairOptions::default() };
        let error = Doctor::new(DIR).log_dir("other").env(env.clone());
        let error = error.repair(&options, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("is a log of another database"), "{error}");
    }
    assert_eq!(there, entries());
    assert_eq!(other().open().unwrap().get("k").unwrap().unwrap(), "v");
    assert_eq!(before, Files(&env).everything());

    let logs = env.fs.list(Path::new("log")).unwrap();
    let names = || logs.iter().map(|entry| entry.name.clone());
    let path = Path::new("log").join(names().find(|name| name.ends_with(".log")).unwrap());
    let file = env.fs.open_for_write(&path).unwrap();
    file.write_all_at(20_000, b"damage").unwrap();
    assert!(!doctor().verify(&mut |_| {}).unwrap().is_sound());
    assert_eq!(builder().open().unwrap_err().kind(), ErrorKind::Corruption);
    let report = doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let behind = report.lost.iter().any(|loss| loss.what.ends_with("behind a hole in the log"));
    assert!(behind, "{report}");
    assert!(doctor().verify(&mut |_| {}).unwrap().is_sound());
    let db = builder().open().unwrap();
    let kept = (0..100_u8).take_while(|index| db.get([*index]).unwrap().is_some()).count();
    assert_eq!(kept, 38);
    assert_eq!(db.iter().count(), kept, "nothing from behind the damage");

    // The log is gone for good.
    db.put([200], "lost").unwrap();
    let logs = env.fs.list(Path::new("log")).unwrap();
    drop(db);
    logs.iter().for_each(|entry| env.fs.remove(&Path::new("log").join(&entry.name)).unwrap());
    let report = doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(!report.lost.is_empty(), "{report}");
    assert_eq!(builder().open().unwrap().iter().count(), kept, "{report}");
}

/// A repair that made more tables than it had reserved ids for, and was killed, left a manifest that
/// looked like an old one: the next repair took everything for unknown.
#[test]
fn a_repair_of_very_many_keyspaces_that_is_killed_can_be_begun_again() {
    const COUNT: usize = 4_200;
    let memory = MemoryFileSystem::new(7);
    let faults = FaultFileSystem::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()));
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(7) };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options.clone()).open().unwrap();
    let keyspace =
        |number: usize| db.keyspace(&number.to_string(), KeyspaceOptions::default()).unwrap();
    let keyspaces: Vec<_> = (0..COUNT).map(keyspace).collect();
    let mut batch = db.batch();
    keyspaces.iter().for_each(|keyspace| batch.put(keyspace, "key", "value"));
    batch.commit_with(Durability::Power).unwrap();
    for byte in 1..4 {
        db.put_with("key", [byte; 100], Durability::Power).unwrap();
    }
    drop((keyspaces, db));
    let files = Files(&env);
    let name = files.ending_with(".log")[0].clone();
    let damaged = files.read(&name).windows(90).position(|bytes| bytes == [2; 90]).unwrap();
    files.flip(&name, damaged);
    let last = Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table.tmp");
    faults.add(last.when(When::Nth(4_150)));
    // A process that is killed removes nothing.
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Remove]));
    let doctor = || Doctor::new(DIR).env(env.clone());
    doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
    assert!(4_096 < files.ending_with(".table").len());
    faults.clear();
    let report = doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(!report.notes.iter().any(|note| note.contains("no manifest is whole")), "{report}");
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    assert_eq!(db.keyspaces().len(), COUNT + 1);
    let has_key =
        |name: &String| db.existing_keyspace(name).unwrap().unwrap().get("key").unwrap().is_some();
    assert!(db.keyspaces().iter().filter(|name| *name != "default").all(has_key));
}

/// A copy of a database has no lock file, and a repair of one kept nobody from opening it.
#[test]
fn nobody_opens_a_copy_that_is_being_repaired() {
    let sample = Sample::new(3, Left::Closed);
    let files = sample.files();
    files.remove("LOCK");
    files.remove(&files.ending_with(".table")[0]);
    let kind = || sample.builder().open().err().map(|error| error.kind());
    let mut kinds = Vec::new();
    let options = RepairOptions::default();
    let report = files.doctor().repair(&options, &mut |_| kinds.push(kind())).unwrap();
    assert!(!report.was_sound());
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == Some(ErrorKind::Locked)));
    drop(sample.open());
}

/// A table that was begun stayed for ever, also where the disk was full.
#[test]
fn a_table_that_a_repair_has_begun_goes_with_its_failure_or_with_the_next_open() {
    let memory = MemoryFileSystem::new(3);
    let sample = Sample::over(Arc::new(memory.clone()), 3, Left::Closed);
    let files = sample.files();
    files.flip(&files.ending_with(".table")[0], 60);
    for (operation, is_crash) in [(Operation::Write, false), (Operation::Write, true)] {
        let faults =
            FaultFileSystem::new(Arc::new(memory.snapshot()), Arc::new(ManualClock::default()));
        let left = sample.with(Arc::new(faults.clone()));
        faults.add(Rule::new(Fault::Error(28)).on(&[operation]).path("*.table.tmp"));
        if is_crash {
            // Nor can it be removed.
            faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Remove]));
        }
        let error = left.files().doctor().repair(&RepairOptions::default(), &mut |_| {});
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(left.files().ending_with(".tmp").len(), usize::from(is_crash));
        faults.clear();
        repair(left.files());
        left.files().replace("1-00000900.table.tmp", b"begun");
        left.files().replace("notes.tmp", b"of the user");
        drop(left.open());
        assert_eq!(left.files().ending_with(".tmp"), ["notes.tmp"]);
    }
}

/// An open made a new database beside the log of one whose manifest was missing, and failed only then:
/// from that moment a repair took the log for that of another database. A repair that was not told where
/// the log lies went without it.
#[test]
fn a_log_that_lies_apart_is_not_lost_with_the_manifest() {
    for has_tables in [false, true] {
        let env = Env::memory(1);
        let options =
            Options { background_threads: 0, log_dir: Some("log".into()), ..Options::default() };
        let builder = || Db::builder(DIR).env(env.clone()).options(options.clone());
        let db = builder().open().unwrap();
        db.put("flushed", "value").unwrap();
        if has_tables {
            db.flush().unwrap();
        }
        db.put("in the log", "value").unwrap();
        drop(db);
        let files = Files(&env);
        files.manifests().iter().for_each(|name| files.remove(name));
        let before = files.everything();

        let error = builder().open().unwrap_err();
        let told = if has_tables {
            "db holds tables but no manifest; repair can rebuild it"
        } else {
            "log holds a log, and db no manifest: either that is the log of another database, or the \
             manifest is missing, and a repair that is told the directory of the log can rebuild it"
        };
        assert!(error.to_string().ends_with(told), "{error}");
        assert_eq!(builder().read_only(true).open().unwrap_err().to_string(), error.to_string());
        let told = if has_tables {
            "no segment of the log is in db: say where the log lies, even if it is there"
        } else {
            "there is no database in db"
        };
        let error = Doctor::new(DIR).env(env.clone());
        let error = error.repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, told));
        assert_eq!(files.everything(), before, "a refusal changes nothing");

        let doctor = Doctor::new(DIR).log_dir("log").env(env.clone());
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        let db = builder().open().unwrap();
        for key in ["flushed", "in the log"] {
            assert_eq!(db.get(key).unwrap().unwrap(), "value", "{report}");
        }
    }
}

/// Beside the tables, where there are none yet.
#[test]
fn a_log_without_a_manifest_is_told_from_foreign_files_and_repaired() {
    let env = Env::memory(1);
    let builder = || Db::builder(DIR).env(env.clone());
    let db = builder().open().unwrap();
    db.put("key", "value").unwrap();
    drop(db);
    let files = Files(&env);
    files.manifests().iter().for_each(|name| files.remove(name));
    let error = builder().open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.to_string(), "db holds a log but no manifest; repair can rebuild it");
    files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(builder().open().unwrap().get("key").unwrap().unwrap(), "value");
}
