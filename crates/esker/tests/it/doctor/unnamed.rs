//! Files that the manifest does not name, where one of those that it names is missing or it lacks its last
//! edits: what is intact of a database that replaced others is taken, and leftovers of a kill are not.

use esker::doctor::{RepairOptions, RepairReport};
use esker::env::Env;
use esker::operators::AddU64;
use esker::{Db, Durability, KeyspaceOptions, Merge, Options, RecoveryMode};
use esker_base::FileHeader;

use super::missing_edits::behind_released_segments;
use super::modes;
use super::sample::{DIR, Files};

fn open(env: &Env, keyspace: &KeyspaceOptions) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(options);
    builder.default_keyspace(keyspace.clone()).open().unwrap()
}

fn repair(files: Files<'_>) -> RepairReport {
    let doctor = files.doctor().log_dir(DIR);
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(files.verify().is_sound(), "{report}\n{}", files.verify());
    report
}

fn is_whole(report: &RepairReport) -> bool {
    !report.notes.iter().any(|note| note.contains("no manifest is whole"))
}

/// Puts back the manifest `old`, which is the only one then.
fn put_back(files: Files<'_>, (name, bytes): &(String, Vec<u8>)) {
    files.manifests().iter().for_each(|name| files.remove(name));
    files.replace(name, bytes);
}

fn manifest(files: Files<'_>) -> (String, Vec<u8>) {
    let name = files.newest_manifest();
    let bytes = files.read(&name);
    (name, bytes)
}

fn tables(files: Files<'_>) -> Vec<(String, Vec<u8>)> {
    files.ending_with(".table").into_iter().map(|it| (it.clone(), files.read(&it))).collect()
}

/// Nobody had read it, and it was kept: every open was refused.
#[test]
fn a_table_that_an_old_manifest_does_not_name_is_not_kept_with_a_damaged_header() {
    for offset in [0, 20] {
        let (env, _) = behind_released_segments(false);
        let files = Files(&env);
        let table = files.ending_with(".table").remove(0);
        files.flip(&table, offset);
        let report = repair(files);
        assert!(report.findings.iter().any(|it| it.file == table), "{report}");
        assert!(report.set_aside.contains(&table) && report.lost.is_empty(), "{report}");
        let db = modes::open(&env, RecoveryMode::Strict).unwrap();
        assert_eq!(db.get("deleted").unwrap(), None, "{report}");
        assert_eq!(db.get("kept").unwrap().unwrap(), "in a table", "{report}");
        assert_eq!(db.get("last").unwrap().unwrap(), "in the log", "{report}");
    }
}

/// It was kept where nothing else has keys of its range, and nothing was told of the damage. Where its order
/// had to be compared with that of others, every repair failed on it, and every salvage.
#[test]
fn a_table_that_an_old_manifest_does_not_name_is_not_kept_with_a_damaged_block() {
    for (has_others, is_salvage) in [(false, false), (true, false), (true, true)] {
        let env = Env::memory(1);
        let db = open(&env, &KeyspaceOptions::default());
        // Keeps all versions, and their numbers.
        let snapshot = db.snapshot();
        for value in ["1", "2"] {
            db.put("k", value).unwrap();
            db.flush().unwrap();
        }
        let files = Files(&env);
        let (old, replaced) = (manifest(files), tables(files));
        db.compact_all().unwrap();
        drop(snapshot);
        drop(db);
        put_back(files, &old);
        let merged = files.ending_with(".table").remove(0);
        if has_others {
            files.replace(&replaced[0].0, &replaced[0].1);
        }
        files.flip(&merged, FileHeader::LEN + 3);
        let options = RepairOptions::default();
        let report = match is_salvage {
            true => files.doctor().salvage("copy", false, &mut |_| {}).unwrap().repair,
            false => files.doctor().repair(&options, &mut |_| {}).unwrap(),
        };
        assert!(report.findings.iter().any(|it| it.file == merged), "{report}");
        let is_of_it = |file: &String| *file == merged;
        assert!(report.lost.iter().any(|it| is_of_it(&it.file) && it.keys.is_some()), "{report}");
        assert!(report.set_aside.iter().any(is_of_it), "{report}");
        if !is_salvage {
            assert!(files.verify().is_sound(), "{report}\n{}", files.verify());
            let found = open(&env, &KeyspaceOptions::default()).get("k").unwrap();
            assert_eq!(found.as_deref(), has_others.then_some(&b"1"[..]), "{report}");
        }
    }
}

/// The same of a blob file: its values are in order.
#[test]
fn a_damaged_blob_file_that_an_old_manifest_does_not_name_is_not_kept_as_it_is() {
    let blobs = KeyspaceOptions {
        blob_threshold_bytes: Some(32),
        blob_waste_percent_max: 1,
        ..KeyspaceOptions::default()
    };
    let env = Env::memory(1);
    let db = open(&env, &blobs);
    for (keys, byte) in [(&["j", "k"][..], b'1'), (&["k"], b'2')] {
        keys.iter().for_each(|key| db.put(key, [byte; 100]).unwrap());
        db.flush().unwrap();
    }
    let files = Files(&env);
    let (old, replaced) = (manifest(files), files.ending_with(".blob"));
    for _ in 0..2 {
        db.compact_all().unwrap();
        while db.run_background_job() {}
    }
    drop(db);
    put_back(files, &old);
    let unnamed: Vec<_> =
        files.ending_with(".blob").into_iter().filter(|it| !replaced.contains(it)).collect();
    assert!(!unnamed.is_empty(), "garbage was collected");
    unnamed.iter().for_each(|blob| files.flip(blob, 0));
    let report = repair(files);
    for blob in &unnamed {
        assert!(report.set_aside.contains(blob), "{blob}: {report}");
    }
    let db = open(&env, &blobs);
    for (key, byte) in [("j", b'1'), ("k", b'2')] {
        assert_eq!(db.get(key).unwrap().unwrap(), [byte; 100], "{key}: {report}");
    }
}

/// A table of other keys was lost, and the output of a compaction that a kill had cut short was taken with
/// the tables that it was made of: what it had added was added again.
#[test]
fn a_lost_table_of_other_keys_does_not_bring_back_what_a_killed_compaction_left() {
    for is_other_keyspace in [false, true] {
        let env = Env::memory(1);
        let merge_operator = Some(Merge::new(AddU64));
        let counters = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let db = open(&env, &counters);
        for count in [4, 5] {
            db.put("k", AddU64::encode(count)).unwrap();
            db.flush().unwrap();
        }
        db.compact_all().unwrap();
        db.merge("k", AddU64::encode(1)).unwrap();
        db.flush().unwrap();
        let files = Files(&env);
        let others = files.ending_with(".table");
        if is_other_keyspace {
            let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
            other.put("k", "v").unwrap();
            other.flush().unwrap();
        } else {
            db.put("z", AddU64::encode(9)).unwrap();
            db.flush().unwrap();
        }
        let before = files.everything();
        let lost = files.ending_with(".table").pop().unwrap();
        assert!(!others.contains(&lost));
        db.compact("a".."l").unwrap();
        drop(db);
        let [left, output] = files.ending_with(".table").try_into().unwrap();
        assert_eq!(left, lost, "the compaction was of the other two");
        let bytes = files.read(&output);
        files.everything().iter().for_each(|(name, _)| files.remove(name));
        before.iter().for_each(|(name, bytes)| files.replace(name, bytes));
        files.replace(&output, &bytes);
        assert_eq!(open_and_count(&env, &counters), 6, "as the kill has left it");
        files.everything().iter().for_each(|(name, _)| files.remove(name));
        before.iter().for_each(|(name, bytes)| files.replace(name, bytes));
        files.replace(&output, &bytes);
        files.remove(&lost);
        let report = repair(files);
        assert_eq!(open_and_count(&env, &counters), 6, "{report}");
        assert!(is_whole(&report), "{report}");
    }
}

fn open_and_count(env: &Env, counters: &KeyspaceOptions) -> u64 {
    AddU64::decode(&open(env, counters).get("k").unwrap().unwrap()).unwrap()
}

/// A segment was lost, and a table was left that had been replaced: what was intact of the log before the
/// missing segment was given up, and with `past_holes` too.
#[test]
fn a_lost_segment_costs_no_more_where_a_table_was_left_that_had_been_replaced() {
    for past_holes in [false, true] {
        let env = Env::memory(1);
        let db = modes::open(&env, RecoveryMode::TornTail).unwrap();
        let files = Files(&env);
        db.put("t", "1").unwrap();
        db.flush().unwrap();
        let left = tables(files).remove(0);
        db.put("t", "2").unwrap();
        db.flush().unwrap();
        db.compact_all().unwrap();
        for n in 0..modes::COUNT {
            db.put_with(format!("{n:04}"), vec![b'x'; 600], Durability::Power).unwrap();
        }
        drop(db);
        assert!(!files.ending_with(".table").contains(&left.0));
        files.replace(&left.0, &left.1);
        files.remove(&files.ending_with(".log")[1]);
        let options = RepairOptions { past_holes, ..RepairOptions::default() };
        let report = files.doctor().repair(&options, &mut |_| {}).unwrap();
        let db = modes::open(&env, RecoveryMode::Strict).unwrap();
        assert_eq!(db.get("t").unwrap().unwrap(), "2", "{report}");
        assert!(db.get("0000").unwrap().is_some(), "{report}");
        let last = format!("{:04}", modes::COUNT - 1);
        assert_eq!(db.get(last).unwrap().is_some(), past_holes, "{report}");
        assert!(is_whole(&report), "{report}");
    }
}

/// The log went with the flushes that made tables of it, and the manifest is of before: what the tables
/// hold shows that they are not left over, and is nowhere else.
#[test]
fn tables_that_replaced_the_log_of_an_older_manifest_are_kept() {
    // A compaction to the last level takes the numbers off.
    for is_compacted in [false, true] {
        let env = Env::memory(1);
        let db = open(&env, &KeyspaceOptions::default());
        db.put("k", "1").unwrap();
        let files = Files(&env);
        let old = manifest(files);
        for value in ["2", "3"] {
            db.put("k", value).unwrap();
            db.flush().unwrap();
        }
        if is_compacted {
            db.compact_all().unwrap();
        }
        db.close().unwrap();
        put_back(files, &old);
        files.ending_with(".log").iter().for_each(|name| files.remove(name));
        let report = repair(files);
        assert!(!is_whole(&report), "{report}");
        let db = open(&env, &KeyspaceOptions::default());
        assert_eq!(db.get("k").unwrap().unwrap(), "3", "{is_compacted}: {report}");
    }
}
