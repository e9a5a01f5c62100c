//! What a repair makes of what is intact: where tables stand, how they are made, and what is kept of
//! them beside entries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use esker::doctor::{RepairOptions, RepairReport};
use esker::env::{Env, FileExt as _};
use esker::{Compression, Db, Durability, KeyspaceOptions, Options, PrefixRule};
use esker_base::TableId;
use esker_tree::{Catalog, Manifest, TablePlace};

use super::sample::{DIR, Files};

fn open_with(env: &Env, keyspace: KeyspaceOptions) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(options);
    builder.default_keyspace(keyspace).open().unwrap()
}

fn open(env: &Env) -> Db {
    open_with(env, KeyspaceOptions::default())
}

fn repair(env: &Env) -> RepairReport {
    // Where there is no manifest and no log, one has to say that the log was here.
    let doctor = Files(env).doctor().log_dir(DIR);
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(!report.was_sound());
    assert!(Files(env).verify().is_sound(), "{report}\n{}", Files(env).verify());
    report
}

fn catalog(env: &Env) -> Catalog {
    Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog
}

fn tables(env: &Env) -> BTreeMap<TableId, TablePlace> {
    let catalog = catalog(env);
    let states = catalog.keyspaces.values();
    states.flat_map(|state| state.tables.clone()).collect()
}

/// Damages the last byte of a file.
fn damage_end(env: &Env, name: &str) {
    let files = Files(env);
    files.flip(name, files.read(name).len() - 1);
}

/// Damages the value of a write in the log.
fn damage_log(env: &Env, value: &[u8]) {
    let files = Files(env);
    for name in files.ending_with(".log") {
        let bytes = files.read(&name);
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
            files.flip(&name, at);
            return;
        }
    }
    panic!("{} is in no segment", value.escape_ascii());
}

#[test]
fn a_table_made_anew_has_the_options_of_its_keyspace() {
    let env = Env::memory(1);
    let options = KeyspaceOptions {
        block_size_bytes: 256,
        compression: Compression::None,
        shallow_compression: Compression::None,
        filter_bits_per_key: 20,
        prefix_filter: Some(PrefixRule::First(3)),
        ..KeyspaceOptions::default()
    };
    let db = open_with(&env, options.clone());
    (0..200).for_each(|n| db.put(format!("{n:04}"), "value").unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    let before = tables(&env).into_values().next().unwrap().properties;
    damage_end(&env, &before.id.file_name());
    let report = repair(&env);
    let (id, place) = tables(&env).into_iter().next().unwrap();
    assert_ne!(id, before.id, "{report}");
    let after = place.properties;
    assert_eq!(after.extras.prefix_rule, Some(PrefixRule::First(3)));
    assert_eq!(after.data_block_count, before.data_block_count);
    assert_eq!(after.data_bytes, before.data_bytes);
    assert_eq!(after.extras.times, before.extras.times, "when its entries were written");
    let db = open_with(&env, options);
    assert_eq!(db.iter().count(), 200);
}

/// Tables stand where they stood, each is named once, and levels are as they were.
#[test]
fn tables_that_a_damaged_manifest_knows_stay_in_their_runs() {
    let env = Env::memory(1);
    let db = open(&env);
    for round in 0..3 {
        ["a", "m", "z"].iter().for_each(|key| db.put(key, [round]).unwrap());
        db.flush().unwrap();
        if round == 0 {
            db.compact_all().unwrap();
        }
    }
    db.close().unwrap();
    let before: Vec<_> = tables(&env).into_values().map(|it| (it.level, it.run)).collect();
    assert!(before.iter().any(|(level, _)| 0 < *level), "{before:?}");
    let manifest = Files(&env).newest_manifest();
    let end = Files(&env).read(&manifest).iter().rposition(|byte| *byte != 0).unwrap();
    // Its last edit, that it was closed.
    Files(&env).flip(&manifest, end);
    let report = repair(&env);
    assert!(report.notes.iter().any(|note| note.contains("no manifest is whole")), "{report}");
    let after: Vec<_> = tables(&env).into_values().map(|it| (it.level, it.run)).collect();
    assert_eq!(after, before, "{report}");
    let mut kept = report.kept.clone();
    kept.sort();
    assert_eq!(kept, Files(&env).ending_with(".table"), "{report}");
}

/// Without a manifest, tables of a deeper level that do not overlap make one run again, and such as
/// overlap do not.
#[test]
fn tables_that_no_manifest_knows_stand_together_where_they_can() {
    let env = Env::memory(1);
    let written = |ranges: &[(u8, u8)]| {
        let db = open(&env);
        for &(from, to) in ranges {
            // Twice, so that they are merged and not only moved.
            for _ in 0..2 {
                (from..=to).for_each(|byte| db.put([byte], [byte]).unwrap());
                db.flush().unwrap();
            }
            db.default_keyspace().compact([from]..[to + 1]).unwrap();
        }
        db.close().unwrap();
    };
    written(&[(10, 20), (30, 40), (50, 60)]);
    let before = tables(&env);
    assert!(before.values().all(|it| 0 < it.level && it.level == it.properties.level.into()));
    let runs = |tables: &BTreeMap<TableId, TablePlace>| {
        let mut runs: Vec<_> = tables.values().map(|it| (it.level, it.run)).collect();
        runs.sort();
        runs.dedup();
        runs.len()
    };
    assert_eq!((before.len(), runs(&before)), (3, 1), "{before:?}");
    Files(&env).manifests().iter().for_each(|name| Files(&env).remove(name));
    let report = repair(&env);
    let after = tables(&env);
    assert!(after.keys().eq(before.keys()), "{report}");
    assert_eq!(runs(&after), 1, "{report}");
    let levels = |tables: &BTreeMap<TableId, TablePlace>| -> Vec<usize> {
        tables.values().map(|it| it.level).collect()
    };
    assert_eq!(levels(&after), levels(&before), "{report}");

    // One that was flushed since is of level 0.
    let db = open(&env);
    db.put([35], "newer").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    Files(&env).manifests().iter().for_each(|name| Files(&env).remove(name));
    let report = repair(&env);
    assert_eq!(runs(&tables(&env)), 2, "{report}");
    assert_eq!(open(&env).get([35]).unwrap().unwrap(), "newer", "{report}");
}

/// What is intact of a damaged table is kept without a manifest too, and the rest is told by its keys.
#[test]
fn a_damaged_table_that_no_manifest_knows_costs_the_keys_of_what_is_damaged() {
    let env = Env::memory(1);
    let small = KeyspaceOptions { block_size_bytes: 256, ..KeyspaceOptions::default() };
    let db = open_with(&env, small);
    (0..500).for_each(|n| db.put(format!("{n:04}"), format!("value {n}")).unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    let files = Files(&env);
    files.manifests().iter().for_each(|name| files.remove(name));
    let table = files.ending_with(".table").remove(0);
    files.flip(&table, 1_000);
    let report = repair(&env);
    assert_eq!(report.set_aside, std::slice::from_ref(&table), "{report}");
    let lost = report.lost.iter().filter(|loss| loss.keys.is_some()).count();
    assert_eq!((lost, report.lost.len()), (1, 1), "{report}");
    let count = open(&env).iter().count();
    assert!(400 < count && count < 500, "{count}: {report}");
    assert_eq!(report.rebuilt[0].entries, count as u64, "{report}");
}

/// A range without an end reaches as far as there are keys: those of tables included, and the last one.
#[test]
fn a_delete_of_a_range_without_an_end_holds_when_the_log_goes_to_tables() {
    let env = Env::memory(1);
    let db = open(&env);
    ["a", "b", "z"].iter().for_each(|key| db.put(key, "older").unwrap());
    db.flush().unwrap();
    db.delete_range("b"..).unwrap();
    db.put("c", "newer").unwrap();
    for (key, value) in [("d", "damaged"), ("e", "lost")] {
        db.put_with(key, value, Durability::Power).unwrap();
    }
    drop(db);
    damage_log(&env, b"damaged");
    let report = repair(&env);
    let db = open(&env);
    let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(keys, [b"a", b"c"], "{report}");
}

/// Tables that are made of the log know how old their tombstones may be, if they have any.
#[test]
fn tables_made_of_the_log_know_whether_they_have_tombstones() {
    for (tombstones, ranges) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let env = Env::memory(1);
        let db = open(&env);
        db.put("k", "v").unwrap();
        (0..tombstones).for_each(|_| db.delete("gone").unwrap());
        (0..ranges).for_each(|_| db.delete_range("x".."y").unwrap());
        for (key, value) in [("z", "damaged"), ("z", "lost")] {
            db.put_with(key, value, Durability::Power).unwrap();
        }
        drop(db);
        damage_log(&env, b"damaged");
        let report = repair(&env);
        let table = tables(&env).into_values().next().expect("one table").properties;
        let times = table.extras.times.expect("when it was written");
        let has_tombstones = 0 < tombstones + ranges;
        assert_eq!(times.oldest_tombstone.is_some(), has_tombstones, "{report}");
    }
}

/// What is more than a table takes goes to several, which share no key: versions of one stay together.
#[test]
fn much_of_the_log_goes_to_tables_that_do_not_overlap() {
    const MEBIBYTE: usize = 1 << 20;
    let env = Env::memory(1);
    let large = KeyspaceOptions {
        memtable_bytes: 256 << 20,
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let db = open_with(&env, large.clone());
    let value = |number: u8| vec![number; MEBIBYTE];
    (0..60).for_each(|key| db.put([key], value(key)).unwrap());
    // A table ends in the midst of these.
    (0..8).for_each(|version| db.put([60], value(version)).unwrap());
    (61..64).for_each(|key| db.put([key], value(key)).unwrap());
    for (key, value) in [("z", "damaged"), ("z", "lost")] {
        db.put_with(key, value, Durability::Power).unwrap();
    }
    drop(db);
    damage_log(&env, b"damaged");
    let report = repair(&env);
    let made = tables(&env);
    assert_eq!(made.len(), 2, "{report}");
    let runs: BTreeSet<_> = made.values().map(|it| it.run).collect();
    assert_eq!(runs.len(), 1, "{report}");
    let db = open_with(&env, large);
    assert_eq!(db.iter().count(), 64);
    assert_eq!(db.get([60]).unwrap().unwrap(), value(7));
}

/// A repair that was cut short may have set the file aside already; nothing that is there is lost.
#[test]
fn what_was_set_aside_before_stays() {
    let env = Env::memory(1);
    let db = open(&env);
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let files = Files(&env);
    let table = files.ending_with(".table").remove(0);
    damage_end(&env, &table);
    env.fs.create_dir_all(Path::new("db/damaged")).unwrap();
    let aside = |number: &str| format!("damaged/{table}{number}");
    files.replace(&aside(""), b"the first time");
    files.replace(&aside(".1"), b"the second time");
    env.fs.create(&Path::new(DIR).join(aside(".tmp"))).unwrap().write_all_at(0, b"cut").unwrap();
    let bytes = files.read(&table);
    repair(&env);
    assert_eq!(files.read(&aside("")), b"the first time");
    assert_eq!(files.read(&aside(".1")), b"the second time");
    assert_eq!(files.read(&aside(".2")), bytes);
    assert_eq!(env.fs.list(Path::new("db/damaged")).unwrap().len(), 3);
}

/// Damage to the index of a partition, or to the end of a table, affects the keys that cannot be read
/// for it, and no others.
#[test]
fn damaged_indexes_and_ends_affect_the_keys_that_they_lead_to() {
    let env = Env::memory(1);
    let small = KeyspaceOptions {
        block_size_bytes: 256,
        compression: Compression::None,
        shallow_compression: Compression::None,
        filter_bits_per_key: 0,
        ..KeyspaceOptions::default()
    };
    let db = open_with(&env, small.clone());
    let key = |n: u32| format!("{n:05}").into_bytes();
    const COUNT: u32 = 3_000;
    (0..COUNT).for_each(|n| db.put(key(n), [b'v'; 200]).unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    let properties = tables(&env).into_values().next().unwrap().properties;
    assert_eq!((properties.partition_count, properties.data_block_count), (3, COUNT));
    let files = Files(&env);
    let name = properties.id.file_name();
    let bytes = files.read(&name);
    let mut affected = Vec::new();
    for part in [1, 2, 3, 4] {
        // The index of a partition ends where data follow, of the last one where the top index does.
        let at = match part {
            4 => bytes.len() - 1,
            _ => {
                let next = key(part * 1024);
                let next = next.as_slice();
                let wanted = if part == 3 { b"02999" } else { next };
                let found = bytes.windows(5).position(|window| window == wanted).unwrap();
                if part == 3 { found + 200 + 500 } else { found - 500 }
            }
        };
        files.flip(&name, at);
        let report = files.verify();
        let keys = report.findings.iter().find_map(|it| it.affected.as_ref());
        affected.push(keys.unwrap_or_else(|| panic!("{part}: {report}")).to_string());
        files.replace(&name, &bytes);
    }
    let expected = [
        "keys from \"00000\" up to \"01023\" of default",
        "keys from \"01023\" up to \"02047\" of default",
        "keys from \"02047\" up to \"02999\" of default",
        "keys from \"00000\" up to \"02999\" of default",
    ];
    assert_eq!(affected, expected);
}
