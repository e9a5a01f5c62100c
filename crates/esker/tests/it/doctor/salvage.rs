//! What is intact of a damaged database: read where it lies, and as a copy.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{Env, Fault, FaultFileSystem, FileSystem as _, Operation, Rule, When};
use esker::{Db, Durability, ErrorKind, Event, Options, RecoveryMode, Result};
use esker_base::{FileId, FileKind};

use super::modes::{COUNT, cut_between_frames, dropped, logged};
use super::places::foreign;
use super::sample::{DIR, Files};
use crate::files;
use crate::random::Rng;
use crate::recovered::{env_of, env_over};
use crate::sample;

fn salvaged(env: &Env) -> Result<Db> {
    let builder = Db::builder(DIR).env(env.clone()).options(crate::recovered::options());
    builder.read_only(true).recovery(RecoveryMode::Salvage).open()
}

#[test]
fn an_open_that_salvages_only_reads() {
    let (fs, _) = sample::in_memory();
    let error = Db::builder(DIR).env(env_of(&fs)).recovery(RecoveryMode::Salvage).open();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Every byte of every table and log is damaged in turn, every file cut and removed: what can be
/// answered is right, or what the log had not yet changed; everything else is an error.
#[test]
fn intact_keys_are_answered_whatever_is_damaged() {
    let (fs, state) = sample::in_memory();
    let dir = Path::new(DIR);
    let (mut answered, mut refused) = (0, 0);
    for (name, bytes) in files::read_all(&fs, dir) {
        let is_log = name.ends_with(".log");
        if !is_log && !name.ends_with(".table") {
            continue;
        }
        let flips = (0..bytes.len()).map(|at| {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            (format!("byte {at} of {name}"), Some(damaged))
        });
        let cuts = [0, 48, bytes.len() / 2, bytes.len() - 1];
        let cuts = cuts.map(|len| (format!("{name} cut to {len}"), Some(bytes[..len].to_vec())));
        let all = flips.chain(cuts).chain([(format!("no {name}"), None)]);
        for (what, damaged) in all {
            let copy = match damaged {
                Some(damaged) => files::with(&fs, dir, &name, &damaged),
                None => {
                    let copy = fs.snapshot();
                    copy.remove(&dir.join(&name)).unwrap();
                    copy
                }
            };
            let db = salvaged(&env_of(&copy)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let lost = db.events().iter().any(|(_, e)| matches!(e, Event::LogDropped { .. }));
            assert!(is_log || !lost, "{what}");
            for keyspace in state.names() {
                let expected = state.contents(&keyspace);
                let keyspace = db.existing_keyspace(&keyspace).unwrap().expect("it is there");
                for (key, value) in expected.iter() {
                    match keyspace.get(key) {
                        Ok(found) if found.as_deref() == Some(&**value) => answered += 1,
                        Ok(_) => assert!(lost, "{what}: {} is wrong", key.escape_ascii()),
                        Err(error) => {
                            let is_typed =
                                matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Io);
                            assert!(is_typed && !is_log, "{what}: {error}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(refused < answered / 4 && 0 < refused, "{answered} answered, {refused} refused");
}

#[test]
fn damage_in_the_log_costs_only_what_was_damaged() {
    let env = super::modes::logged();
    let files = Files(&env);
    let name = files.ending_with(".log")[1].clone();
    let before = files.everything();
    files.flip(&name, 30_000);
    let db = salvaged(&env).unwrap();
    let keys = db.iter().count() as u64;
    assert_eq!(keys, super::modes::COUNT - 1);
    let events = db.events().into_iter().map(|(_, event)| event);
    let lost: Vec<_> = events.filter(|event| matches!(event, Event::LogDropped { .. })).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    drop(db);
    files.flip(&name, 30_000);
    assert_eq!(before, files.everything());
}

/// The header says only whose the segment is, and its frames say that too.
/// Nothing that can be read is damaged.
#[test]
fn groups_that_are_gone_between_segments_are_told() {
    let env = logged();
    let name = Files(&env).ending_with(".log").remove(0);
    cut_between_frames(&env, &name, 20);
    let db = salvaged(&env).unwrap();
    assert!((db.iter().count() as u64) < COUNT);
    assert_eq!(dropped(&db), [format!("{name}: groups that followed here are missing")]);
}

#[test]
fn a_damaged_header_of_a_log_segment_costs_nothing() {
    let env = super::modes::logged();
    let name = Files(&env).ending_with(".log")[1].clone();
    Files(&env).flip(&name, 20);
    assert_eq!(salvaged(&env).unwrap().iter().count() as u64, super::modes::COUNT);
}

/// One bad page ended the segment, whatever stood behind it.
#[test]
fn a_page_of_the_log_that_the_device_does_not_give_costs_what_is_in_it() {
    let logged = super::modes::logged();
    let name = Files(&logged).ending_with(".log")[1].clone();
    let faults = FaultFileSystem::new(Arc::clone(&logged.fs), Env::memory(1).clock);
    let env = Env { fs: Arc::new(faults.clone()), ..logged.clone() };
    let bad_page = Rule::new(Fault::Error(5)).on(&[Operation::Read]).path(&name);
    faults.add(bad_page.bytes(20_480..24_576));
    let db = salvaged(&env).unwrap();
    let lost = super::modes::COUNT - db.iter().count() as u64;
    assert!((1..=8).contains(&lost), "{lost} of 600 bytes each in 4,096");
    let why = db.events().into_iter().filter_map(|(_, event)| match event {
        Event::LogDropped { file, why, .. } => Some((file, why)),
        _ => None,
    });
    let why: Vec<_> = why.collect();
    assert!(why.len() == 1 && why[0].0 == name && why[0].1.contains("os error 5"), "{why:?}");
}

/// Zeros in its place look like the end, and nothing behind it says otherwise.
#[test]
fn an_end_of_the_log_that_the_device_does_not_give_is_told() {
    let logged = Env::memory(1);
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(logged.clone()).options(options).open().unwrap();
    // Far more than is read at once.
    (0..40_u8).for_each(|n| db.put_with([n], vec![b'x'; 100_000], Durability::Power).unwrap());
    drop(db);
    let name = Files(&logged).ending_with(".log").pop().unwrap();
    let len = Files(&logged).read(&name).len() as u64;
    let faults = FaultFileSystem::new(Arc::clone(&logged.fs), Env::memory(1).clock);
    let env = Env { fs: Arc::new(faults.clone()), ..logged.clone() };
    let bad_pages = Rule::new(Fault::Error(5)).on(&[Operation::Read]).path(&name);
    assert!(3 << 20 < len, "all are in one segment");
    faults.add(bad_pages.bytes(3 << 20..len));
    let db = salvaged(&env).unwrap();
    assert!((20..40).contains(&db.iter().count()));
    let told = dropped(&db);
    assert!(
        told.len() == 1 && told[0].contains(&name) && told[0].contains("os error 5"),
        "{told:?}"
    );
}

/// A log segment that the device does not give made the open fail, which was to answer from all the rest.
#[test]
fn what_the_device_does_not_give_of_the_log_is_left_out() {
    let logged = super::modes::logged();
    let name = Files(&logged).ending_with(".log")[1].clone();
    for operation in [Operation::Exists, Operation::Open, Operation::Len, Operation::Read] {
        let faults = FaultFileSystem::new(Arc::clone(&logged.fs), Env::memory(1).clock);
        let env = Env { fs: Arc::new(faults.clone()), ..logged.clone() };
        faults.add(Rule::new(Fault::Error(5)).on(&[operation]).path(&name));
        let db = salvaged(&env).unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        let keys = db.iter().count() as u64;
        let events = db.events().into_iter().map(|(_, event)| event);
        let lost: Vec<_> =
            events.filter(|event| matches!(event, Event::LogDropped { .. })).collect();
        let is_lost = operation != Operation::Exists;
        assert_eq!(lost.len(), usize::from(is_lost), "{operation:?}: {lost:?}");
        assert!(0 < keys && (keys < super::modes::COUNT) == is_lost, "{operation:?}: {keys}");
        drop(db);
        // That too many files are open says nothing of this one.
        faults.clear();
        faults.add(Rule::new(Fault::Error(24)).on(&[Operation::Open]).path(&name));
        assert_eq!(salvaged(&env).unwrap_err().kind(), ErrorKind::Io);
    }
}

/// A lock file that the device does not give stopped what only reads: a copy of all that is intact, the
/// verification, and the open that salvages. What would write says why it does not.
#[test]
fn a_lock_file_that_cannot_be_read_stops_nothing_that_only_reads() {
    let (memory, state) = sample::in_memory();
    for operation in [Operation::Lock, Operation::Exists] {
        let faults = FaultFileSystem::new(Arc::new(memory.snapshot()), Env::memory(1).clock);
        let env = env_over(Arc::new(faults.clone()));
        // That of the copy lies elsewhere.
        let refuse = |code| {
            faults.clear();
            let rule = Rule::new(Fault::Error(code)).on(&[operation]).path("LOCK");
            faults.add(rule.when(When::Nth(1)));
        };
        let doctor = Doctor::new(DIR).env(env.clone());
        let told = "db/LOCK: Input/output error (os error 5)";
        refuse(5);
        let report = doctor.verify(&mut |_| {}).unwrap();
        let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert!(
            findings.len() == 1 && findings[0].starts_with("LOCK at 0: unreadable: "),
            "{report}"
        );
        assert!(report.findings[0].is_unreadable);
        assert!(findings[0].ends_with(told), "{report}");
        refuse(5);
        let report = doctor.salvage("new", false, &mut |_| {}).unwrap();
        let lines = report.to_string();
        let line = lines.lines().find(|line| line.starts_with("unreadable")).expect("it is told");
        assert!(line.starts_with("unreadable: 0 bytes of LOCK at 0: cannot "), "{report}");
        assert!(line.ends_with(told) && report.repair.was_sound(), "{report}");
        let db = Db::builder("new").env(env.clone()).options(crate::recovered::options());
        crate::reading::assert_state(&db.open().unwrap(), &state, "the copy");
        let writes = || doctor.repair(&RepairOptions::default(), &mut |_| {}).err();
        let plans = RepairOptions { dry_run: true, ..RepairOptions::default() };
        let plans = || doctor.repair(&plans, &mut |_| {}).err();
        let builder = || Db::builder(DIR).env(env.clone()).options(crate::recovered::options());
        let (opens, reads) = (|| builder().open().err(), || builder().read_only(true).open().err());
        let all: [&dyn Fn() -> Option<esker::Error>; 4] = [&writes, &plans, &opens, &reads];
        let uses = if operation == Operation::Lock { 4 } else { 2 };
        for refused in &all[..uses] {
            refuse(5);
            let error = refused().expect("it keeps nobody out");
            assert!(error.to_string().ends_with(told), "{error}");
        }
        refuse(5);
        crate::reading::assert_state(&salvaged(&env).unwrap(), &state, "where it lies");
        // Whatever else keeps it from being locked says nothing of the device.
        for code in [13, 24] {
            refuse(code);
            let error = doctor.salvage("other", false, &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains("db/LOCK"), "{error}");
            refuse(code);
            assert!(doctor.verify(&mut |_| {}).is_err());
            refuse(code);
            assert!(operation == Operation::Exists || salvaged(&env).is_err());
        }
    }
}

/// A device that gives one page no more: the rest goes to the new database.
#[test]
fn what_the_device_does_not_give_is_left_out_of_the_copy() {
    let (memory, state) = sample::in_memory();
    let mut names = files::read_all(&memory, Path::new(DIR)).into_keys();
    let table = names.rfind(|name| name.ends_with(".table")).expect("a table");
    let faults = FaultFileSystem::new(Arc::new(memory.clone()), Env::memory(1).clock);
    const EIO: i32 = 5;
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Read]).path(&table).when(When::Nth(1)));
    let env = env_over(Arc::new(faults.clone()));
    let report = Doctor::new(DIR).env(env.clone()).salvage("new", false, &mut |_| {}).unwrap();
    assert_eq!(report.unreadable.len(), 1, "{report}");
    assert!(!report.repair.lost.is_empty(), "{report}");
    faults.clear();
    let db = Db::builder("new").env(env.clone()).options(crate::recovered::options());
    let db = db.recovery(RecoveryMode::Strict).open().unwrap();
    assert_eq!(db.keyspaces(), state.names());
    db.close().unwrap();
    let taken = Doctor::new(DIR).env(env).salvage("new", false, &mut |_| {}).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::InvalidInput, "{taken}");
}

/// Pages of one file that follow each other and are not given are one part of the report, and others are
/// apart; so is the page at the front of a file from one before it that could not be opened, and of which
/// nothing is known to be lost.
#[test]
fn what_is_not_given_is_told_in_as_few_parts_as_there_are() {
    let env = Env::memory(1);
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    let mut rng = Rng::new(1);
    for key in 0..40_u8 {
        let value: Vec<u8> = (0..1_000).map(|_| rng.below(256) as u8).collect();
        db.put([key], &value).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let table = Files(&env).ending_with(".table").remove(0);
    let id = FileId::parse_file_name(&table).expect("the name of a file").0;
    let empty = FileId { counter: id.counter - 1, ..id }.file_name(FileKind::Table);
    env.fs.create(&Path::new(DIR).join(&empty)).unwrap().sync_all().unwrap();
    let told = |pages: &[u64], is_opened: bool| {
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Env::memory(1).clock);
        for page in pages {
            let rule = Rule::new(Fault::Error(5)).on(&[Operation::Read]).path(&table);
            faults.add(rule.when(When::Nth(page + 1)));
        }
        if !is_opened {
            let rule = Rule::new(Fault::Error(5)).on(&[Operation::Open]).path(&empty);
            faults.add(rule.when(When::Nth(1)));
        }
        let env = env_over(Arc::new(faults));
        let target = format!("{pages:?} {is_opened}");
        let report = Doctor::new(DIR).env(env).salvage(&target, false, &mut |_| {}).unwrap();
        let text = report.to_string();
        // What the system says follows the second colon.
        let lines = text.lines().filter(|line| line.starts_with("unreadable: "));
        let lines = lines.map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let part = |page: u64, count: u64| {
        format!("unreadable: {} bytes of {table} at {}", count << 12, page << 12)
    };
    let joined = |parts: &[String]| parts.join("\n");
    assert_eq!(told(&[], true), "");
    assert_eq!(told(&[1, 2, 4], true), joined(&[part(1, 2), part(4, 1)]));
    assert_eq!(told(&[0, 2, 3, 4], true), joined(&[part(0, 1), part(2, 3)]));
    let not_opened = format!("unreadable: 0 bytes of {empty} at 0");
    assert_eq!(told(&[0, 1], false), joined(&[not_opened, part(0, 2)]));
}

/// One file that could not be opened at all, of whatever kind, ended the salvage of all others.
#[test]
fn a_file_that_cannot_be_opened_costs_no_other() {
    let (memory, state) = sample::in_memory();
    let names: Vec<String> = files::read_all(&memory, Path::new(DIR)).into_keys().collect();
    for name in names.iter().filter(|name| name.as_str() != "LOCK") {
        let copy = memory.snapshot();
        let faults = FaultFileSystem::new(Arc::new(copy), Env::memory(1).clock);
        // The open that copies it: not that of the copy, nor the look at where the log is.
        let nth = if name.ends_with(".manifest") { 2 } else { 1 };
        let rule = Rule::new(Fault::Error(5)).on(&[Operation::Open]).path(name);
        faults.add(rule.when(When::Nth(nth)));
        let env = env_over(Arc::new(faults.clone()));
        let report = Doctor::new(DIR).env(env.clone()).salvage("new", false, &mut |_| {});
        let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
        let unreadable: Vec<_> = report.unreadable.iter().map(|part| part.file.as_str()).collect();
        assert_eq!(unreadable, [name.as_str()], "{report}");
        let db = Db::builder("new").env(env).options(crate::recovered::options());
        let db = db.recovery(RecoveryMode::Strict).open().unwrap();
        // Keys that are there have the value that they had, or an older one that the lost file hid.
        let kept: usize = state
            .names()
            .iter()
            .filter_map(|name| db.existing_keyspace(name).unwrap())
            .map(|keyspace| keyspace.iter().filter(|entry| entry.is_ok()).count())
            .sum();
        assert!(0 < kept, "{name}: {report}");
        assert_eq!(report.repair.was_sound(), name.ends_with(".old"), "{name}: {report}");
        // Only a manifest leaves an empty file: an older one would be taken for the newest.
        let is_newest_manifest = name.ends_with(".manifest");
        assert_eq!(report.repair.set_aside.contains(name), is_newest_manifest, "{name}: {report}");
        let others = names.iter().filter(|other| *other != name && *other != "LOCK").count();
        assert_eq!(report.files, others as u64, "{name}: {report}");
    }
}

#[test]
fn a_salvage_wants_the_path_of_a_directory() {
    let (memory, _) = sample::in_memory();
    let doctor = Doctor::new(DIR).env(env_over(Arc::new(memory)));
    let error = doctor.salvage("", false, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("the path of the directory to salvage to is empty"),
        "{error}"
    );
}

/// Too many open files, or too little memory, say nothing of a file: the copy did without it.
#[test]
fn an_error_that_is_not_of_the_file_ends_a_salvage() {
    let (memory, _) = sample::in_memory();
    let names = files::read_all(&memory, Path::new(DIR)).into_keys();
    for name in names.filter(|name| name.as_str() != "LOCK") {
        for (operation, code) in [
            (Operation::Open, 13),
            (Operation::Open, 23),
            (Operation::Open, 24),
            (Operation::Len, 12),
            (Operation::Read, 12),
        ] {
            let faults = FaultFileSystem::new(Arc::new(memory.snapshot()), Env::memory(1).clock);
            faults.add(Rule::new(Fault::Error(code)).on(&[operation]).path(&name));
            let doctor = Doctor::new(DIR).env(env_over(Arc::new(faults)));
            let error = doctor.salvage("new", false, &mut |_| {}).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{operation:?} {code} of {name}");
            assert!(error.to_string().contains(&name), "{error}");
        }
    }
}

/// A file of which the device did not even give the length ended the salvage of all others: the directory
/// could not be listed.
#[test]
fn a_file_without_a_length_costs_no_other() {
    let (memory, state) = sample::in_memory();
    for name in files::read_all(&memory, Path::new(DIR)).into_keys() {
        let faults = FaultFileSystem::new(Arc::new(memory.snapshot()), Env::memory(1).clock);
        for operation in [Operation::Stat, Operation::Open] {
            faults.add(Rule::new(Fault::Error(5)).on(&[operation]).path(&name));
        }
        // The copy, which is whole by then, lies on another device.
        let shared = faults.clone();
        faults.observe(move |event| {
            if event.operation == Operation::SyncDir && event.path == Path::new("new") {
                shared.clear();
            }
        });
        let env = env_over(Arc::new(faults));
        let report = Doctor::new(DIR).env(env.clone()).salvage("new", false, &mut |_| {});
        let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
        let unreadable: Vec<_> = report.unreadable.iter().map(|part| &part.file).collect();
        assert_eq!(unreadable, [&name], "{report}");
        let db = Db::builder("new").env(env).options(crate::recovered::options());
        let db = db.recovery(RecoveryMode::Strict).open().unwrap();
        let kept =
            state.names().into_iter().filter_map(|name| db.existing_keyspace(&name).unwrap());
        let kept: usize = kept.map(|keyspace| keyspace.iter().count()).sum();
        assert!(0 < kept, "{name}: {report}");
    }
}

/// A salvage that was not told where a log lies that lies apart made a database without it; where there was
/// no manifest either, nothing said so.
#[test]
fn a_log_that_lies_apart_is_not_left_out_unasked() {
    let env = Env::memory(1);
    let options = Options { log_dir: Some("log".into()), ..crate::recovered::options() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    db.put("a", "in a table").unwrap();
    db.flush().unwrap();
    db.put("b", "in the log").unwrap();
    drop(db);
    let doctor = || Doctor::new(DIR).env(env.clone());
    let refused = || {
        let error = doctor().salvage("new", false, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let what = "no segment of the log is in db: say where the log lies, even if it is there";
        assert_eq!(error.to_string(), what);
        assert!(!env.fs.exists(Path::new("new")).unwrap());
    };
    let taken = |target: &str| {
        doctor().log_dir("log").salvage(target, false, &mut |_| {}).unwrap();
        let db = Db::builder(target).env(env.clone()).options(crate::recovered::options());
        let db = db.open().unwrap();
        assert_eq!(db.get("a").unwrap().unwrap(), "in a table");
        assert_eq!(db.get("b").unwrap().unwrap(), "in the log");
    };
    refused();
    // One that somebody has put there is not the one that is looked for.
    let (stray, bytes) = foreign(FileKind::Log, 3, [9; 16]);
    Files(&env).replace(&stray, &bytes);
    refused();
    Files(&env).remove(&stray);
    taken("with a manifest");
    Files(&env).manifests().iter().for_each(|name| Files(&env).remove(name));
    refused();
    taken("without a manifest");
}

#[test]
fn a_sound_database_is_copied_whole() {
    let (fs, state) = sample::in_memory();
    let report = Doctor::new(DIR).env(env_of(&fs)).salvage("new", false, &mut |_| {}).unwrap();
    assert!(report.repair.was_sound() && report.unreadable.is_empty(), "{report}");
    let mut copied = files::read_all(&fs, Path::new(DIR));
    copied.remove("LOCK");
    let bytes: u64 = copied.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!((report.files, report.bytes), (copied.len() as u64, bytes), "{report}");
    let db = Db::builder("new").env(env_of(&fs)).options(crate::recovered::options()).open();
    crate::reading::assert_state(&db.unwrap(), &state, "the copy");
}
