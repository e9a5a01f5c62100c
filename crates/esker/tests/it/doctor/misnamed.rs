//! Files that are intact and have each other's names, or none that is theirs: a repair loses nothing.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::RepairOptions;
use esker::env::{Env, Fault, FaultFileSystem, MemoryFileSystem, Operation, Rule};
use esker::{Db, Options, TableWriter, TableWriterOptions};

use super::repair::check;
use super::sample::{DIR, Files, Left, Sample};
use crate::random::{Rng, for_each_seed};
use crate::shrink::run_shrinking;

/// Gives each of `names` the bytes of the next one.
fn turn(files: Files<'_>, names: &[String]) {
    let bytes: Vec<_> = names.iter().map(|name| files.read(name)).collect();
    for (at, name) in names.iter().enumerate() {
        files.replace(name, &bytes[(at + 1) % names.len()]);
    }
}

fn of_kinds(files: Files<'_>, suffixes: &[&str]) -> Vec<String> {
    suffixes.iter().flat_map(|suffix| files.ending_with(suffix)).collect()
}

/// Of two intact tables under each other's names, a repair kept neither.
#[test]
fn files_that_have_each_others_names_cost_nothing() {
    for_each_seed("files_that_have_each_others_names_cost_nothing", 6, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let memory = MemoryFileSystem::new(seed);
            let sample = Sample::over(Arc::new(memory.clone()), seed, left);
            let all = of_kinds(sample.files(), &[".table", ".blob", ".log"]);
            let mut rng = Rng::new(seed);
            for count in [2, 2, 3, all.len()] {
                let mut names = all.clone();
                let names: Vec<String> =
                    (0..count).map(|_| names.swap_remove(rng.index(names.len()))).collect();
                run_shrinking(&names, String::clone, |names| {
                    let sample = sample.with(Arc::new(memory.snapshot()));
                    check_turned(&sample, names, &format!("{left:?}: {names:?}"));
                });
            }
        }
    });
}

fn check_turned(sample: &Sample, names: &[String], when: &str) {
    let count = names.len();
    if count < 2 {
        // All files have their own names.
        return;
    }
    let original = sample.files().everything();
    turn(sample.files(), names);
    let report = check(sample, &original, when);
    assert!(report.lost.is_empty(), "{when}: {report}");
    // A segment of the log that waits to be used again is needed by nobody.
    assert!((count - 1..=count).contains(&report.notes.len()), "{when}: {report}");
    for note in &report.notes {
        let name = note.split_once(' ').expect("a name and what it says").0;
        assert!(report.set_aside.iter().any(|aside| aside == name), "{when}: {report}");
    }
}

/// A header of which only a part came at first was none.
#[test]
fn what_a_file_says_is_read_to_the_end_of_its_header() {
    let memory = MemoryFileSystem::new(2);
    let sample = Sample::over(Arc::new(memory.clone()), 2, Left::Closed);
    let faults = FaultFileSystem::new(Arc::new(memory), Env::memory(1).clock);
    faults.add(Rule::new(Fault::Short).on(&[Operation::Read]));
    let tables = sample.files().ending_with(".table");
    check_turned(&sample.with(Arc::new(faults)), &tables[..2], "short reads");
}

#[test]
fn a_file_with_another_name_is_known_by_what_it_says() {
    let sample = Sample::new(2, Left::Abandoned);
    let files = sample.files();
    let original = files.everything();
    for name in of_kinds(files, &[".table", ".blob", ".log"]) {
        let suffix = Path::new(&name).extension().unwrap().to_str().unwrap();
        // A name that nobody has had yet, one of another kind, and one that is below all others.
        for other in
            [format!("1-00009999.{suffix}"), "1-00000008.blob".into(), "1-00000000.log".into()]
        {
            if files.ending_with("").contains(&other) {
                continue;
            }
            files.replace(&other, &files.read(&name));
            files.remove(&name);
            let report = check(&sample, &original, &format!("{name} as {other}"));
            assert!(report.lost.is_empty(), "{name} as {other}: {report}");
            let note = format!("{other} says that it is {name}, and counts as that");
            assert_eq!(report.notes, [note], "{report}");
            assert!(report.set_aside.contains(&other), "{report}");
        }
    }
}

/// Also where it is the manifest that has changed places, so that nothing but the files tell.
#[test]
fn tables_under_each_others_names_are_known_without_a_manifest() {
    for_each_seed("tables_under_each_others_names_are_known_without_a_manifest", 4, |seed| {
        let sample = Sample::new(seed, Left::Abandoned);
        let files = sample.files();
        let original = files.everything();
        let tables = files.ending_with(".table");
        let blobs = files.ending_with(".blob");
        let logs = files.ending_with(".log");
        for exchanged in [
            logs[..logs.len().min(2)].to_vec(),
            vec![tables[0].clone(), tables[1].clone()],
            vec![files.newest_manifest(), tables[1].clone()],
            [&tables[..1], &blobs[..blobs.len().min(1)]].concat(),
        ] {
            if files.ending_with(".log").is_empty() {
                // Nothing would show that the log is here.
                continue;
            }
            turn(files, &exchanged);
            let manifests = files.manifests().into_iter().filter(|name| !exchanged.contains(name));
            manifests.for_each(|name| files.remove(&name));
            let report = check(&sample, &original, &format!("{exchanged:?}"));
            assert!(report.lost.is_empty(), "{exchanged:?}: {report}");
        }
    });
}

/// A copy of a segment says that it is the other one: it is no damage to the log.
#[test]
fn a_copy_of_a_segment_is_no_part_of_the_log_without_a_manifest() {
    let sample = Sample::new(2, Left::Abandoned);
    let files = sample.files();
    let original = files.everything();
    let log = files.ending_with(".log").pop().unwrap();
    let copy = "1-00000000.log";
    files.replace(copy, &files.read(&log));
    files.manifests().iter().for_each(|name| files.remove(name));
    let report = check(&sample, &original, "a copy of a segment");
    assert!(report.lost.is_empty(), "{report}");
    assert!(report.set_aside.contains(&copy.to_owned()), "{report}");
}

/// What was taken over from elsewhere says so at its end; its header is that of another database.
#[test]
fn tables_that_were_taken_over_tell_what_they_are() {
    let env = Env::memory(1);
    let options = || Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options()).open().unwrap();
    for name in ["a", "b"] {
        let path = format!("{name}.table");
        let outside = TableWriterOptions::default();
        let mut writer = TableWriter::create_in(&env, &path, outside).unwrap();
        for n in 0..20 {
            writer.put(format!("{name}{n:02}"), name).unwrap();
        }
        let table = writer.finish().unwrap();
        db.ingest(db.default_keyspace(), &[&table.path], Default::default()).unwrap();
    }
    db.close().unwrap();
    let files = Files(&env);
    let tables = files.ending_with(".table");
    assert_eq!(tables.len(), 2, "{tables:?}");
    files.swap(&tables[0], &tables[1]);
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(report.lost.is_empty() && report.notes.len() == 2, "{report}");
    let db = Db::builder(DIR).env(env.clone()).options(options()).open().unwrap();
    assert_eq!(db.iter().count(), 40, "{report}");
    drop(db);
    assert!(files.verify().is_sound());
}
