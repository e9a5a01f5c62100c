//! Values in blob files: what a verification says of references that lead to none, and what a repair
//! keeps where it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::doctor::{Doctor, RepairOptions, RepairReport, VerifyReport};
use esker::env::{
    Env, Fault, FaultFileSystem, ManualClock, MemoryFileSystem, Operation, Rule, When,
};
use esker::{Compression, Db, KeyspaceOptions, Options};
use esker_tree::Manifest;

use super::sample::{DIR, Files};
use crate::temp_dir::TempDir;

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    let keyspace = KeyspaceOptions {
        blob_threshold_bytes: Some(32),
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let builder = Db::builder(DIR).env(env.clone()).options(options);
    builder.default_keyspace(keyspace).open().unwrap()
}

fn value(key: &str) -> Vec<u8> {
    format!("{key}:{}", "v".repeat(100)).into_bytes()
}

/// Two tables, each with values in a blob file of its own: of `a`, `b` and `c`, and of `d` and `e`.
/// And one that stands in a table.
fn database(env: &Env) {
    let db = open(env);
    for keys in [&["a", "b", "c"][..], &["d", "e"]] {
        keys.iter().for_each(|key| db.put(key, value(key)).unwrap());
        db.put("short", "inline").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
}

fn lines(report: &VerifyReport) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn blob_files_and_their_values_are_counted() {
    let env = Env::memory(1);
    database(&env);
    let files = Files(&env);
    let names = files.ending_with(".blob");
    let bytes: usize = names.iter().map(|name| files.read(name).len()).sum();
    let check = || {
        let report = files.verify();
        let line = format!("2 blob files of {bytes} bytes with 5 values");
        assert!(report.to_string().lines().any(|told| told == line), "{report}");
        let totals = report.totals;
        assert_eq!((totals.blob_files, totals.blob_values), (2, 5));
        assert_eq!(totals.blob_bytes, bytes as u64);
        assert_eq!((totals.tables, totals.entries), (2, 7));
    };
    check();
    // Each by itself, where no manifest names them.
    files.manifests().iter().for_each(|name| files.remove(name));
    check();
}

#[test]
fn references_that_lead_to_no_value_are_told_by_their_keys() {
    let env = Env::memory(1);
    database(&env);
    let files = Files(&env);
    let (blob, table) =
        (files.ending_with(".blob").remove(0), files.ending_with(".table").remove(0));
    let bytes = files.read(&blob);
    let value_at = |key: &str| {
        let wanted = value(key);
        bytes.windows(wanted.len()).position(|bytes| bytes == wanted).expect("stored as it is")
    };
    for (damaged, told) in [
        (&["b"][..], "1 values in blob files cannot be read: "),
        (&["a", "b"], "2 values in blob files cannot be read: "),
        (&["b", "c"], "2 values in blob files cannot be read: "),
        (&["a", "b", "c"], "3 values in blob files cannot be read: "),
    ] {
        damaged.iter().for_each(|key| files.flip(&blob, value_at(key)));
        let (first, last) = (damaged[0], damaged[damaged.len() - 1]);
        let report = files.verify();
        let of_table: Vec<_> = report.findings.iter().filter(|it| it.file == table).collect();
        assert_eq!(of_table.len(), 1, "{report}");
        assert!(of_table[0].what.starts_with(told), "{report}");
        let cause = format!("{blob} is damaged at offset ");
        assert!(of_table[0].what.contains(&cause), "{report}");
        let affected = format!("keys from \"{first}\" up to \"{last}\" of default");
        assert_eq!(of_table[0].affected.as_ref().unwrap().to_string(), affected);
        assert_eq!(report.findings.len() - 1, damaged.len(), "one for each value: {report}");
        assert!(report.findings.iter().all(|it| [&table, &blob].contains(&&it.file)), "{report}");
        files.replace(&blob, &bytes);
    }
    files.remove(&blob);
    let expected = [
        format!("{blob} at 0: tables refer to this file, and it is missing"),
        format!(
            "{table} at 0: 3 values in blob files cannot be read: {blob} is damaged at offset 0: the \
             file is missing; affects keys from \"a\" up to \"c\" of default"
        ),
    ];
    assert_eq!(lines(&files.verify()), expected);
}

/// Every single read of a blob file is refused in turn, and given when it is asked for once more: nothing is
/// told, and nothing of it is given up.
#[test]
fn a_read_of_a_blob_file_that_is_refused_once_costs_nothing() {
    let memory = MemoryFileSystem::new(1);
    let below = Env { fs: Arc::new(memory.clone()), ..Env::memory(1) };
    database(&below);
    for is_repair in [false, true] {
        // What a look at it tells in which the read of that number fails, and how many there were.
        let look = |failing: u64| {
            let snapshot = Env { fs: Arc::new(memory.snapshot()), ..Env::memory(1) };
            if is_repair {
                // The references of a damaged table are looked at one by one: all, if its end is damaged.
                let table = Files(&snapshot).ending_with(".table").remove(0);
                Files(&snapshot).flip(&table, Files(&snapshot).read(&table).len() - 3);
            }
            let clock = Arc::new(ManualClock::default());
            let faults = FaultFileSystem::new(Arc::clone(&snapshot.fs), clock);
            let rule = Rule::new(Fault::Error(5)).on(&[Operation::Read]).path("*.blob");
            faults.add(rule.when(When::Nth(failing)));
            let reads = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&reads);
            faults.observe(move |event| {
                let is_blob = event.path.extension().is_some_and(|it| it == "blob");
                if event.operation == Operation::Read && is_blob {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
            let doctor = Files(&env).doctor();
            let told = match is_repair {
                true => doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap().to_string(),
                false => doctor.verify(&mut |_| {}).unwrap().to_string(),
            };
            (told, reads.load(Ordering::Relaxed))
        };
        let (sound, reads) = look(u64::MAX);
        assert!(10 < reads && !sound.contains("unreadable"), "{reads} reads: {sound}");
        for read in 1..=reads {
            assert_eq!(look(read).0, sound, "read {read} of {reads}");
        }
    }
}

/// A blob file that the device does not give is not called damaged, nor are the references that lead to it.
#[test]
fn values_of_a_blob_file_that_cannot_be_read_are_told_and_given_up_by_their_keys() {
    for operation in [Operation::Read, Operation::Open] {
        let memory = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(memory), Env::memory(1).clock);
        let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
        database(&env);
        let files = Files(&env);
        let (blobs, tables) = (files.ending_with(".blob"), files.ending_with(".table"));
        let (blob, table) = (&blobs[0], &tables[0]);
        faults.add(Rule::new(Fault::Error(5)).on(&[operation]).path(blob));
        let report = files.verify();
        assert!(report.findings.iter().all(|it| it.is_unreadable), "{report}");
        let verb = if operation == Operation::Read { "read" } else { "open" };
        let what =
            format!("unreadable: cannot {verb} {DIR}/{blob}: Input/output error (os error 5)");
        assert_eq!(lines(&report)[0], format!("{blob} at 0: {what}"));
        let of_table = lines(&report).into_iter().find(|line| line.starts_with(table)).unwrap();
        assert!(
            of_table.starts_with(&format!("{table} at 0: 3 values in blob files cannot be read: "))
        );
        let end = format!(": {what}; affects keys from \"a\" up to \"c\" of default");
        assert!(of_table.ends_with(&end), "{of_table}");
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
        let key = |key| format!("keys from \"{key}\" up to \"{key}\" of default ({blob}: {what})");
        assert_eq!(lost, ["a", "b", "c"].map(key), "{report}");
        assert_eq!(report.set_aside, [table.clone(), blob.clone()], "{report}");
        let db = open(&env);
        for found in ["a", "b", "c"] {
            assert_eq!(db.get(found).unwrap(), None, "{report}");
        }
        for kept in ["d", "e"] {
            assert_eq!(db.get(kept).unwrap().unwrap(), value(kept), "{report}");
        }
        assert_eq!(db.get("short").unwrap().unwrap(), "inline");
    }
}

/// What a repair makes of a damaged table goes on referring to the values that are whole, where they
/// are; those of a damaged blob file come back into the table.
#[test]
fn a_repair_moves_only_values_of_damaged_blob_files() {
    for is_blob_damaged in [false, true] {
        let env = Env::memory(1);
        database(&env);
        let files = Files(&env);
        let (blobs, tables) = (files.ending_with(".blob"), files.ending_with(".table"));
        match is_blob_damaged {
            // Its footer: every value is whole.
            true => files.flip(&blobs[0], files.read(&blobs[0]).len() - 3),
            false => files.flip(&tables[0], files.read(&tables[0]).len() - 3),
        }
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{report}");
        let entries: Vec<_> = report.rebuilt.iter().map(|it| (&it.from, it.entries)).collect();
        assert_eq!(entries, [(&tables[0], 4)], "{report}");
        assert_eq!(report.kept, tables[1..], "{report}");
        let catalog = Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog;
        let states = catalog.keyspaces.values().flat_map(|state| state.tables.values());
        let named: Vec<String> = states
            .flat_map(|table| table.properties.blob_uses().map(|one| one.facts.id.file_name()))
            .collect();
        match is_blob_damaged {
            true => assert_eq!(named, blobs[1..], "{report}"),
            false => {
                let mut named = named;
                named.sort();
                assert_eq!(named, blobs, "{report}");
            }
        }
        assert!(files.verify().is_sound(), "{}", files.verify());
        let db = open(&env);
        for key in ["a", "b", "c", "d", "e"] {
            assert_eq!(db.get(key).unwrap().unwrap(), value(key), "{key}: {report}");
        }
    }
}

fn repair(env: &Env) -> RepairReport {
    let files = Files(env);
    let before = files.everything();
    let repair = |dry_run| {
        let options = RepairOptions { dry_run, ..RepairOptions::default() };
        files.doctor().log_dir(DIR).repair(&options, &mut |_| {}).unwrap()
    };
    let planned = repair(true);
    assert!(before == files.everything(), "{planned}");
    let done = repair(false);
    assert_eq!(RepairReport { is_dry_run: false, ..planned }, done);
    assert!(files.verify().is_sound(), "{done}\n{}", files.verify());
    done
}

/// The last copies of the values of a table that is lost were removed by the next open.
#[test]
fn blob_files_that_only_a_lost_table_referred_to_are_set_aside() {
    for (has_manifest, has_links) in [(true, true), (true, false), (false, true)] {
        let memory = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(memory), Env::memory(1).clock);
        let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
        database(&env);
        let files = Files(&env);
        let (blobs, tables) = (files.ending_with(".blob"), files.ending_with(".table"));
        let bytes = files.read(&blobs[0]);
        files.replace(&tables[0], &files.read(&tables[0])[..60]);
        if !has_manifest {
            files.manifests().iter().for_each(|name| files.remove(name));
        }
        if !has_links {
            faults.add(Rule::new(Fault::Error(1)).on(&[Operation::Link]));
        }
        let report = repair(&env);
        assert_eq!(report.set_aside[..2], [&*tables[0], &*blobs[0]], "{report}");
        let note = format!(
            "no table refers to the 3 values of {} any more: it is set aside as it is",
            blobs[0]
        );
        assert!(report.notes.contains(&note), "{report}");
        // The log, which is empty, and the tables tell more than the blob file.
        assert!(report.lost.iter().all(|loss| loss.file == tables[0]), "{report}");
        open(&env).close().unwrap();
        assert_eq!(files.ending_with(".blob"), blobs[1..], "{report}");
        assert!(files.read(&format!("damaged/{}", blobs[0])) == bytes, "{report}");
    }
}

/// Values of lost entries were garbage in a blob file that other entries still refer to, and the next
/// collection removed them.
#[test]
fn blob_files_that_lost_entries_shared_with_others_get_a_second_name() {
    let env = Env::memory(1);
    let keyspace = KeyspaceOptions {
        block_size_bytes: 256,
        blob_threshold_bytes: Some(32),
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(options);
    let db = builder.default_keyspace(keyspace).open().unwrap();
    (0..100).for_each(|n| db.put(format!("{n:03}"), value("large")).unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    let files = Files(&env);
    let (blob, table) =
        (files.ending_with(".blob").remove(0), files.ending_with(".table").remove(0));
    let bytes = files.read(&blob);
    files.flip(&table, 60);
    let report = repair(&env);
    assert_eq!(report.set_aside, [table], "{report}");
    let note = format!("{blob} has values of lost entries: it is in damaged, too");
    assert_eq!(report.notes, [note], "{report}");
    let db = open(&env);
    let count = db.iter().count();
    assert!((1..100).contains(&count), "{report}");
    (0..100).for_each(|n| db.delete(format!("{n:03}")).unwrap());
    db.compact_all().unwrap();
    db.close().unwrap();
    assert_eq!(files.ending_with(".blob"), [""; 0]);
    assert!(files.read(&format!("damaged/{blob}")) == bytes, "{report}");
}

/// Where there is nothing but blob files, nothing was reported lost.
#[test]
fn what_only_blob_files_have_left_is_lost() {
    let env = Env::memory(1);
    database(&env);
    let files = Files(&env);
    let blobs = files.ending_with(".blob");
    let others = files.everything().into_iter().map(|(name, _)| name);
    others.filter(|name| !blobs.contains(name)).for_each(|name| files.remove(&name));
    let report = repair(&env);
    assert_eq!(report.set_aside, blobs, "{report}");
    let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
    let lines = [("a", "c", 3), ("d", "e", 2)].into_iter().zip(&blobs);
    let lines = lines.map(|((first, last, count), blob)| {
        format!(
            "keys from \"{first}\" up to \"{last}\" of default ({blob}: no table is left that refers to \
             its {count} values)"
        )
    });
    assert_eq!(lost, lines.collect::<Vec<_>>());
    assert_eq!(open(&env).iter().count(), 0);
    for blob in blobs {
        assert!(env.fs.exists(&Path::new(DIR).join("damaged").join(blob)).unwrap());
    }
}

/// What a crash has left of a job that did not end is no copy of anything.
#[test]
fn blob_files_that_nothing_referred_to_are_not_kept() {
    let env = Env::memory(1);
    database(&env);
    let files = Files(&env);
    let (blobs, tables) = (files.ending_with(".blob"), files.ending_with(".table"));
    let db = open(&env);
    for key in ["a", "b", "c"] {
        db.delete(key).unwrap();
    }
    db.flush().unwrap();
    db.compact_all().unwrap();
    db.close().unwrap();
    assert_eq!(files.ending_with(".blob"), blobs[1..]);
    // As it was before the compaction.
    let other = Env::memory(1);
    database(&other);
    files.replace(&blobs[0], &Files(&other).read(&blobs[0]));
    let table = files.ending_with(".table").remove(0);
    assert!(!tables.contains(&table));
    files.replace(&table, &files.read(&table)[..60]);
    let report = repair(&env);
    assert_eq!(report.set_aside, [table, blobs[1].clone()], "{report}");
}

/// One in the place of a table was taken for a table that is missing; here every look at it was refused.
#[test]
fn a_directory_in_the_place_of_a_blob_file_is_a_file_that_is_missing() {
    let dir = TempDir::new("doctor-blob-directory");
    let env = Env::os();
    let options = Options { background_threads: 0, ..Options::default() };
    let keyspace = KeyspaceOptions { blob_threshold_bytes: Some(32), ..KeyspaceOptions::default() };
    let builder = || Db::builder(dir.path()).env(env.clone()).options(options.clone());
    let db = builder().default_keyspace(keyspace).open().unwrap();
    db.put("large", "x".repeat(100)).unwrap();
    db.put("small", "y").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let entries = env.fs.list(dir.path()).unwrap();
    let blob = entries.into_iter().find(|entry| entry.name.ends_with(".blob")).unwrap().name;
    std::fs::remove_file(dir.path().join(&blob)).unwrap();
    std::fs::create_dir(dir.path().join(&blob)).unwrap();
    let doctor = Doctor::new(dir.path());
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert_eq!(report.findings.len(), 2, "{report}");
    let line = format!("{blob} at 0: tables refer to this file, and it is missing");
    assert_eq!(lines(&report)[0], line);
    assert!(lines(&report)[1].contains(": the file is missing; affects keys"), "{report}");
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.lost.len(), 1, "{report}");
    let line =
        format!("keys from \"large\" up to \"large\" of default ({blob}: the file is missing)");
    assert_eq!(report.lost[0].to_string(), line);
    let db = builder().open().unwrap();
    assert_eq!(db.get("small").unwrap().unwrap(), "y");
    assert_eq!(db.get("large").unwrap(), None);
}
