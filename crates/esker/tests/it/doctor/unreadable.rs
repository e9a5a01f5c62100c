//! What a device does not give of a database that is verified and repaired where it lies: told as such,
//! given up alone, and kept for the day on which it can be read.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::{RepairOptions, RepairReport, VerifyReport};
use esker::env::{
    Env, Fault, FaultFileSystem, FileExt as _, FileSystem as _, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker::{Db, Durability, Error, ErrorKind, Options, RecoveryMode};

use super::modes;
use super::repair::{assert_is_some_past, assert_kept, assert_works};
use super::sample::{DIR, Files, Left, Sample};
use crate::random::{Rng, for_each_seed};

const EIO: i32 = 5;
const EBADMSG: i32 = 74;
const PAGE: u64 = 4096;

/// The file system over a copy of `memory`, and what goes wrong there.
fn failing(memory: &MemoryFileSystem) -> (Env, FaultFileSystem) {
    let copy = Arc::new(memory.snapshot());
    let faults = FaultFileSystem::new(copy, Arc::new(ManualClock::default()));
    (Env { fs: Arc::new(faults.clone()), ..Env::memory(1) }, faults)
}

/// The page of that number of `name` is a bad one.
fn bad_page(name: &str, page: u64) -> Rule {
    let rule = Rule::new(Fault::Error(EIO)).on(&[Operation::Read]).path(name);
    rule.bytes(page * PAGE..(page + 1) * PAGE)
}

fn repair(files: Files<'_>, dry_run: bool) -> esker::Result<RepairReport> {
    let options = RepairOptions { dry_run, ..RepairOptions::default() };
    files.doctor().repair(&options, &mut |_| {})
}

fn is_told(report: &VerifyReport, name: &str) -> bool {
    let what = format!("unreadable: cannot read {DIR}/{name}: Input/output error (os error 5)");
    report.findings.iter().any(|it| it.file == name && it.is_unreadable && it.what == what)
}

/// A table of several pages and the log of what came later; the pages of the table.
fn wide_table(memory: &MemoryFileSystem) -> (String, u64) {
    let env = Env { fs: Arc::new(memory.clone()), ..Env::memory(1) };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    let mut rng = Rng::new(1);
    for key in 0..60_u8 {
        let value: Vec<u8> = (0..1_000).map(|_| rng.below(256) as u8).collect();
        db.put([key], &value).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let name = Files(&env).ending_with(".table").remove(0);
    let pages = (Files(&env).read(&name).len() as u64).div_ceil(PAGE);
    (name, pages)
}

fn keys(env: &Env) -> Vec<u8> {
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    db.iter().map(|entry| entry.unwrap().0[0]).collect()
}

/// Verification and repair ended with the first read that the device refused. Each page of each file in
/// turn: it is listed, all the rest is kept, and the file itself is set aside.
#[test]
fn a_bad_page_of_any_file_costs_what_is_in_it() {
    for_each_seed("a_bad_page_of_any_file_costs_what_is_in_it", 3, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let memory = MemoryFileSystem::new(seed);
            let sample = Sample::over(Arc::new(memory.clone()), seed, left);
            for (name, bytes) in sample.files().everything() {
                for page in 0..(bytes.len() as u64).div_ceil(PAGE).min(4) {
                    let (env, faults) = failing(&memory);
                    let sample = sample.with(Arc::clone(&env.fs));
                    faults.add(bad_page(&name, page));
                    let when = format!("page {page} of {name}");
                    check_bad_page(&sample, &faults, (&name, &bytes), &when);
                }
            }
        }
    });
}

fn check_bad_page(
    sample: &Sample,
    faults: &FaultFileSystem,
    (name, bytes): (&str, &[u8]),
    when: &str,
) {
    let files = sample.files();
    let report = files.verify();
    if report.is_sound() {
        // Room behind the log.
        assert!(name.ends_with(".log"), "{when}");
        return;
    }
    assert!(is_told(&report, name), "{when}: {report}");
    let others = report.findings.iter().filter(|it| !it.is_unreadable);
    let others: Vec<_> = others.filter(|it| !it.what.contains("unreadable: ")).collect();
    assert!(others.is_empty(), "{when}: {report}");
    let planned = repair(files, true).unwrap();
    let report = repair(files, false).unwrap();
    assert_eq!(planned.lost, report.lost, "{when}");
    let is_log = name.ends_with(".log");
    match is_log {
        true => assert_is_some_past(sample, when),
        false => {
            let mut given_up = report.clone();
            given_up.lost.retain(|loss| !loss.what.contains("unless it had been replaced"));
            assert_kept(&sample.open(), &sample.model, &given_up, when);
        }
    }
    for loss in report.lost.iter().filter(|loss| loss.file == name) {
        let is_told = loss.what.starts_with("unreadable: ")
            || loss.what.ends_with("operations behind a hole in the log")
            || loss.what.ends_with("are missing");
        assert!(is_told, "{when}: {report}");
    }
    assert_works(sample, &report, when);
    if !report.set_aside.iter().any(|it| it == name) {
        // Nothing was lost of it: the log is in tables now, and the manifest after it is whole.
        let is_replaced = is_log || name.ends_with(".old");
        assert!(is_replaced && report.lost.is_empty(), "{when}: {report}");
        return;
    }
    // The page can be read again: nothing of the file is lost.
    faults.clear();
    assert!(report.notes.iter().any(|note| note.contains("the file itself is set aside")));
    assert_eq!(files.read(&format!("damaged/{name}")), bytes, "{when}");
}

/// Of a table of many pages one costs the keys of its blocks, as text, as a finding and as a loss.
#[test]
fn a_bad_page_of_a_table_costs_its_keys_alone() {
    let memory = MemoryFileSystem::new(1);
    let (name, pages) = wide_table(&memory);
    for page in 0..pages {
        let (env, faults) = failing(&memory);
        let files = Files(&env);
        faults.add(bad_page(&name, page));
        let report = files.verify();
        assert!(report.findings.iter().all(|it| it.is_unreadable && it.file == name), "{report}");
        let from = page * PAGE;
        // A block that starts in the page, or the one that it starts in.
        let is_there = |at: u64| from <= at && at < from + PAGE;
        assert!(report.findings.iter().all(|it| is_there(it.offset)), "page {page}: {report}");
        let told =
            format!("{name} at {from}: unreadable: cannot read db/{name}: Input/output error");
        assert!(report.to_string().contains(&told), "page {page}: {report}");
        let count = report.findings.len();
        let line = format!("damaged: {count} findings, {count} of what the device does not give\n");
        assert!(report.to_string().ends_with(&line), "{report}");
        let report = repair(files, false).unwrap();
        assert_eq!(report.set_aside, [name.as_str()], "{report}");
        let kept = keys(&env);
        let lost: Vec<u8> = (0..60).filter(|key| !kept.contains(key)).collect();
        // In the last one is the index, too.
        assert!(lost.len() < 12 || page + 1 == pages, "page {page}: {lost:?}");
        for key in lost {
            let given_up = report.lost.iter().filter_map(|loss| loss.keys.as_ref());
            let mut given_up = given_up.map(|keys| (keys.start.clone(), keys.end.clone()));
            let is_given_up =
                given_up.any(|range| std::ops::RangeBounds::contains(&range, &vec![key]));
            assert!(is_given_up, "page {page}: {key}: {report}");
        }
    }
}

/// A read that is refused once is made once more before anything is given up.
#[test]
fn what_is_given_when_it_is_asked_for_again_is_not_lost() {
    let memory = MemoryFileSystem::new(1);
    let (_, _) = wide_table(&memory);
    for operation in [Operation::Open, Operation::Len, Operation::Read] {
        for nth in 1.. {
            let (env, faults) = failing(&memory);
            let rule = Rule::new(Fault::Error(EIO)).on(&[operation]).path("1-*");
            faults.add(rule.when(When::Nth(nth)));
            let report = Files(&env).verify();
            assert!(report.is_sound(), "{operation:?} {nth}: {report}");
            if faults.injected().is_empty() {
                assert!(nth > 1, "{operation:?} {nth}");
                break;
            }
        }
    }
}

/// That too many files are open, that memory is short or that access is denied says nothing of a file. In
/// each file, and whatever is read of it: nothing is changed.
#[test]
fn no_other_error_is_taken_for_a_lost_file() {
    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const ENODEV: i32 = 19;
    const EMFILE: i32 = 24;
    let memory = MemoryFileSystem::new(1);
    let sample = Sample::over(Arc::new(memory.clone()), 1, Left::Abandoned);
    let before = sample.files().everything();
    let names = before.iter().map(|(name, _)| name).filter(|name| !name.ends_with(".old"));
    for (at, name) in names.enumerate() {
        let codes = [EINTR, EAGAIN, ENOMEM, EACCES, ENODEV, EMFILE];
        for operation in [Operation::Open, Operation::Len, Operation::Read] {
            let code = codes[at % codes.len()];
            let (env, faults) = failing(&memory);
            let files = Files(&env);
            faults.add(Rule::new(Fault::Error(code)).on(&[operation]).path(name));
            let verified = files.doctor().verify(&mut |_| {}).map(|report| report.to_string());
            let repaired = repair(files, false).map(|report| report.to_string());
            faults.clear();
            if faults.injected().is_empty() {
                assert!(name.ends_with(".log"), "{operation:?} {name}: a spare one");
                continue;
            }
            for result in [verified, repaired] {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io, "{code} {operation:?} {name}");
                assert!(error.to_string().contains(name.as_str()), "{error}");
            }
            assert_eq!(files.everything(), before, "{code} {operation:?} {name}");
        }
    }
}

/// What can be read once the verification has ended was out of reach for a moment: nothing is given up.
#[test]
fn what_is_given_before_anything_is_changed_ends_the_repair() {
    let memory = MemoryFileSystem::new(1);
    let (name, _) = wide_table(&memory);
    for operation in [Operation::Open, Operation::Read] {
        let (env, faults) = failing(&memory);
        let files = Files(&env);
        let before = files.everything();
        faults.add(Rule::new(Fault::Error(EBADMSG)).on(&[operation]).path(&name));
        let doctor = files.doctor();
        let error: Error = doctor
            .repair(&RepairOptions::default(), &mut |step| {
                if step.bytes_done == step.bytes_total {
                    faults.clear();
                }
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let what = format!(
            "db/{name} could not be read, and now it can be; nothing was changed, and another try may \
             find more intact"
        );
        assert_eq!(error.to_string(), what);
        assert_eq!(files.everything(), before);
        assert!(repair(files, false).unwrap().was_sound());
        assert_eq!(keys(&env).len(), 60);
    }
}

/// What could be read while it was verified, and is refused then, is not taken for lost.
#[test]
fn what_is_refused_after_the_verification_ends_the_repair() {
    let memory = MemoryFileSystem::new(1);
    let (name, _) = wide_table(&memory);
    let (env, faults) = failing(&memory);
    let files = Files(&env);
    // Something to be repaired: the table is read again for it.
    files.flip(&name, files.read(&name).len() / 2);
    let before = files.everything();
    let result = files.doctor().repair(&RepairOptions::default(), &mut |step| {
        if step.bytes_done == step.bytes_total {
            faults.add(bad_page(&name, 2));
        }
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().starts_with("what the device gave while it was verified"), "{error}");
    faults.clear();
    let after = files.everything();
    assert!(before.iter().all(|one| after.contains(one) || one.0.contains("manifest")));
    let report = repair(files, false).unwrap();
    assert!(report.lost.len() == 1 && 50 < keys(&env).len(), "{report}");
}

/// Where files have no second names, a copy is set aside, as far as it goes; where not even that can be made
/// nothing is changed.
#[test]
fn without_second_names_a_copy_is_set_aside() {
    let memory = MemoryFileSystem::new(1);
    let (name, _) = wide_table(&memory);
    let (env, faults) = failing(&memory);
    let files = Files(&env);
    let bytes = files.read(&name);
    faults.add(Rule::new(Fault::Error(1)).on(&[Operation::Link]));
    faults.add(bad_page(&name, 2));
    let report = repair(files, false).unwrap();
    let what =
        format!("{name} is set aside as a copy, with zeros for what the device does not give: ");
    assert!(report.notes.iter().any(|note| note.starts_with(&what)), "{report}");
    faults.clear();
    let mut expected = bytes;
    expected[2 * PAGE as usize..3 * PAGE as usize].fill(0);
    assert_eq!(files.read(&format!("damaged/{name}")), expected);

    let (env, faults) = failing(&memory);
    let files = Files(&env);
    let before = files.everything();
    faults.add(Rule::new(Fault::Error(1)).on(&[Operation::Link]));
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Open]).path(&name));
    let error = repair(files, false).unwrap_err();
    assert!(error.to_string().starts_with("cannot link db/"), "{error}");
    faults.clear();
    let after = files.everything();
    assert!(before.iter().all(|one| after.contains(one) || one.0.contains("manifest")));
    assert_eq!(keys(&env).len(), 60);
}

/// A file that cannot be opened at all is a file without a byte that can be read. What is left in its place
/// when it cannot be removed either stops nothing.
#[test]
fn a_file_that_cannot_be_opened_is_given_up_whole() {
    let memory = MemoryFileSystem::new(1);
    let sample = Sample::over(Arc::new(memory.clone()), 3, Left::Abandoned);
    for (name, _) in sample.files().everything() {
        for refused in
            [&[Operation::Open][..], &[Operation::Open, Operation::Stat, Operation::Remove]]
        {
            let (env, faults) = failing(&memory);
            let sample = sample.with(Arc::clone(&env.fs));
            faults.add(Rule::new(Fault::Error(EIO)).on(refused).path(&name));
            let when = format!("{refused:?} {name}");
            let report = sample.verify();
            if report.is_sound() {
                assert!(name.ends_with(".old") || name.ends_with(".log"), "{when}");
                continue;
            }
            let what =
                format!("unreadable: cannot open db/{name}: Input/output error (os error 5)");
            assert!(report.findings.iter().any(|it| it.what == what), "{when}: {report}");
            let report = repair(sample.files(), false).unwrap_or_else(|e| panic!("{when}: {e}"));
            match name.ends_with(".log") {
                true => assert_is_some_past(&sample, &when),
                false => {
                    let mut given_up = report.clone();
                    given_up.lost.retain(|it| !it.what.contains("unless it had been replaced"));
                    assert_kept(&sample.open(), &sample.model, &given_up, &when);
                }
            }
            if report.set_aside.contains(&name) {
                faults.clear();
                let expected = memory.snapshot();
                let expected = Env { fs: Arc::new(expected), ..Env::memory(1) };
                let kept = sample.files().read(&format!("damaged/{name}"));
                assert_eq!(kept, Files(&expected).read(&name), "{when}");
            }
        }
    }
}

/// Frames behind a bad page that nobody said were durable looked as if a crash had cut the log before them.
#[test]
fn a_bad_page_of_the_log_is_a_hole_also_where_nothing_says_that_it_was_durable() {
    let memory = MemoryFileSystem::new(1);
    let env = Env { fs: Arc::new(memory.clone()), ..Env::memory(1) };
    let db = modes::open(&env, RecoveryMode::TornTail).unwrap();
    let key = |n: u64| format!("{n:04}");
    for n in 0..60 {
        let value = [key(n).into_bytes(), vec![b'x'; 600]].concat();
        db.put_with(key(n), value, Durability::Process).unwrap();
    }
    drop(db);
    let name = Files(&env).ending_with(".log").remove(0);
    let mut was_kept = 0;
    for (page, past_holes) in (0..9).flat_map(|page| [(page, false), (page, true)]) {
        let (env, faults) = failing(&memory);
        let files = Files(&env);
        faults.add(bad_page(&name, page));
        let report = files.verify();
        assert!(is_told(&report, &name), "page {page}: {report}");
        let options = RepairOptions { past_holes, ..RepairOptions::default() };
        let report = files.doctor().repair(&options, &mut |_| {}).unwrap();
        let what = "unreadable: cannot read";
        assert!(report.lost.iter().any(|loss| loss.what.starts_with(what)), "{report}");
        let db = modes::open(&env, RecoveryMode::Strict).unwrap();
        let found: Vec<u64> = (0..60).filter(|n| db.get(key(*n)).unwrap().is_some()).collect();
        match past_holes {
            false => {
                assert!(found.iter().copied().eq(0..found.len() as u64), "{found:?}");
                let next = found.len() as u64;
                let is_lost = |keys: &esker::doctor::AffectedKeys| {
                    std::ops::RangeBounds::contains(
                        &(keys.start.clone(), keys.end.clone()),
                        &key(59).into_bytes(),
                    )
                };
                let is_told = report.lost.iter().filter_map(|it| it.keys.as_ref()).any(is_lost);
                assert!(is_told || page == 8, "page {page}: {next} kept: {report}");
            }
            true => assert!(50 < found.len() && found.len() < 60, "page {page}: {found:?}"),
        }
        was_kept += found.len();
    }
    assert!(was_kept > 300, "{was_kept}");
}

/// What the last edits of a manifest said cannot be told from an end: tables that they added would be taken
/// for what a crash left, and go with the next open.
#[test]
fn a_manifest_of_which_a_page_is_missing_is_not_taken_for_the_truth() {
    for is_salvage in [false, true] {
        let memory = MemoryFileSystem::new(1);
        let env = Env { fs: Arc::new(memory.clone()), ..Env::memory(1) };
        let options = Options { background_threads: 0, ..Options::default() };
        let open = |env: &Env, dir: &str| {
            Db::builder(dir).env(env.clone()).options(options.clone()).open().unwrap()
        };
        let db = open(&env, DIR);
        let name = Files(&env).newest_manifest();
        // Edits over more than a page: the last of them is that of a table that nothing else tells.
        let mut loaded = 0_u16;
        while Files(&env).read(&name).iter().rposition(|byte| *byte != 0).unwrap() < 4_400 {
            let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
            loader.put(format!("{loaded:04}"), "loaded").unwrap();
            loader.finish().unwrap();
            loaded += 1;
            assert_eq!(Files(&env).newest_manifest(), name);
        }
        drop(db);
        let (env, faults) = failing(&memory);
        faults.add(bad_page(&name, 1));
        let dir = if is_salvage { "new" } else { DIR };
        // The copy lies on another device, and all of it can be read.
        let shared = faults.clone();
        faults.observe(move |event| {
            if event.operation == Operation::SyncDir && event.path == Path::new("new") {
                shared.clear();
            }
        });
        let report = match is_salvage {
            true => {
                let report = Files(&env).doctor().salvage(dir, false, &mut |_| {}).unwrap();
                report.repair
            }
            false => {
                assert!(is_told(&Files(&env).verify(), &name));
                repair(Files(&env), false).unwrap()
            }
        };
        assert!(report.lost.is_empty(), "{report}");
        assert!(report.notes.iter().any(|it| it.starts_with("no manifest is whole")), "{report}");
        let db = open(&env, dir);
        assert_eq!(db.iter().count(), usize::from(loaded), "{report}");
    }
}

/// A log on a device of its own that is gone as a whole is not given up: where nothing can be made durable
/// nothing says that what is refused now is refused for good.
#[test]
fn a_log_on_a_device_that_is_gone_is_not_given_up() {
    let memory = MemoryFileSystem::new(1);
    let env = Env { fs: Arc::new(memory.clone()), ..Env::memory(1) };
    let options =
        Options { background_threads: 0, log_dir: Some("log".into()), ..Options::default() };
    let open =
        |env: &Env| Db::builder(DIR).env(env.clone()).options(options.clone()).open().unwrap();
    open(&env).put_with("k", "v", Durability::Power).unwrap();
    let (env, faults) = failing(&memory);
    let doctor = || Files(&env).doctor().log_dir("log");
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Read]).path("*.log"));
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::SyncDir]).path("log"));
    let error = doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("sync directory log"), "{error}");
    faults.clear();
    assert_eq!(open(&env).get("k").unwrap().unwrap(), "v");

    // One that takes what is written keeps the segment, where names cannot lead to it from elsewhere.
    let (env, faults) = failing(&memory);
    let log = env.fs.list(Path::new("log")).unwrap();
    let log = log.into_iter().find(|it| it.name.ends_with(".log")).unwrap().name;
    let whole = memory.open(&Path::new("log").join(&log)).unwrap();
    let mut bytes = vec![0; whole.len().unwrap() as usize];
    whole.read_exact_at(0, &mut bytes).unwrap();
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Read]).path("*.log"));
    const EXDEV: i32 = 18;
    faults.add(Rule::new(Fault::Error(EXDEV)).on(&[Operation::Link]).when(When::Nth(1)));
    let doctor = Files(&env).doctor().log_dir("log");
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(report.notes.iter().any(|note| note.ends_with(": log/damaged")), "{report}");
    faults.clear();
    let kept = env.fs.open(&Path::new("log/damaged").join(&log)).unwrap();
    let mut found = vec![0; kept.len().unwrap() as usize];
    kept.read_exact_at(0, &mut found).unwrap();
    assert_eq!(found, bytes);
    assert_eq!(open(&env).get("k").unwrap(), None);
}
