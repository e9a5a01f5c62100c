//! What the doctor makes of a directory: whose files they are, and what it leaves alone.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{
    Env, Fault, FaultFileSystem, FileExt as _, ManualClock, MemoryFileSystem, Operation,
    OsFileSystem, Rule,
};
use esker::{Db, ErrorKind, Options};
use esker_base::{DatabaseId, FileHeader, FileId, FileKind};

use super::sample::{DIR, Files};
use crate::temp_dir::{TempDir, skipped};

fn database(env: &Env, log_dir: Option<&str>) -> Options {
    let log_dir = log_dir.map(Into::into);
    let options = Options { background_threads: 0, log_dir, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options.clone()).open().unwrap();
    db.put("flushed", "value").unwrap();
    db.flush().unwrap();
    db.put("in the log", "value").unwrap();
    db.close().unwrap();
    options
}

/// A header of another database with this number.
pub(super) fn foreign(kind: FileKind, counter: u64, database: [u8; 16]) -> (String, Vec<u8>) {
    let id = FileId { owner: esker_base::OwnerId::FIRST, counter };
    let header = FileHeader { kind, format: 1, id, database: DatabaseId(database) };
    (id.file_name(kind), header.encode().to_vec())
}

fn names(env: &Env) -> Vec<String> {
    let entries = env.fs.list(Path::new(DIR)).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// A lock file makes a directory look like that of a database.
#[test]
fn a_lock_file_is_made_only_where_a_database_is_changed() {
    let env = Env::memory(1);
    database(&env, None);
    Files(&env).remove("LOCK");
    let before = names(&env);
    let doctor = || Files(&env).doctor();
    assert!(doctor().verify(&mut |_| {}).unwrap().is_sound());
    let plan = RepairOptions { dry_run: true, ..RepairOptions::default() };
    assert!(doctor().repair(&plan, &mut |_| {}).unwrap().was_sound());
    assert_eq!(names(&env), before);
    assert!(doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap().was_sound());
    assert_eq!(names(&env).len(), before.len() + 1);

    env.fs.create_dir_all(Path::new("elsewhere")).unwrap();
    env.fs.create(Path::new("elsewhere/notes.txt")).unwrap().write_all_at(0, b"mine").unwrap();
    let doctor = Doctor::new("elsewhere").env(env.clone());
    let error = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "there is no database in elsewhere");
    assert!(!env.fs.exists(Path::new("elsewhere/LOCK")).unwrap());
}

/// A sound copy where nobody can write needs no repair, and nobody to be kept out. What else keeps a lock
/// from being taken is told, and so is all of it where somebody else may have the lock.
#[test]
fn only_a_copy_that_nobody_can_write_is_repaired_without_a_lock() {
    const EIO: i32 = 5;
    const EACCES: i32 = 13;
    const EROFS: i32 = 30;
    let memory = MemoryFileSystem::new(1);
    database(&Env { fs: Arc::new(memory.clone()), ..Env::memory(1) }, None);
    for (code, has_file, is_refused) in [
        (EROFS, false, false),
        (EACCES, false, false),
        (EIO, false, true),
        (EROFS, true, true),
        (EACCES, true, true),
    ] {
        let copy = memory.snapshot();
        let faults = FaultFileSystem::new(Arc::new(copy), Arc::new(ManualClock::default()));
        let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
        if !has_file {
            Files(&env).remove("LOCK");
        }
        faults.add(Rule::new(Fault::Error(code)).on(&[Operation::Lock]));
        let report = Files(&env).doctor().repair(&RepairOptions::default(), &mut |_| {});
        match report {
            Ok(report) => assert!(report.was_sound() && !is_refused, "{code} {has_file}"),
            Err(error) => {
                assert!(is_refused, "{code} {has_file}: {error}");
                assert!(error.to_string().contains("LOCK"), "{code} {has_file}: {error}");
            }
        }
    }
}

/// Which database it is, most files tell: not the two that somebody has put there.
#[test]
fn a_few_files_of_another_database_do_not_make_it_that_one() {
    for other in [[0; 16], [0xff; 16]] {
        let env = Env::memory(1);
        let options = database(&env, None);
        let files = Files(&env);
        files.manifests().iter().for_each(|name| files.remove(name));
        let db_files = files.everything().len();
        let (name, bytes) = foreign(FileKind::Table, 900, other);
        files.replace(&name, &bytes);
        assert!(1 < db_files, "ours are more");
        let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.set_aside.contains(&name), "{report}");
        let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
        for key in ["flushed", "in the log"] {
            assert_eq!(db.get(key).unwrap().unwrap(), "value", "{key}: {report}");
        }
    }
}

/// Nor do many, where there is a manifest: theirs would have to be there, too.
#[test]
fn many_tables_of_another_database_do_not_make_it_that_one() {
    let env = Env::memory(1);
    let options = database(&env, None);
    let files = Files(&env);
    let manifest = files.newest_manifest();
    let middle = files.read(&manifest).iter().rposition(|byte| *byte != 0).unwrap() / 2;
    files.flip(&manifest, middle);
    for counter in 900..920 {
        let (name, bytes) = foreign(FileKind::Table, counter, [0xff; 16]);
        files.replace(&name, &bytes);
    }
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    for key in ["flushed", "in the log"] {
        assert_eq!(db.get(key).unwrap().unwrap(), "value", "{key}: {report}");
    }
}

/// Files of another database are no sign that a newer manifest is missing, wherever the log lies; ours are.
#[test]
fn what_a_file_says_of_its_database_is_read_where_it_lies() {
    for kind in [FileKind::Table, FileKind::Blob, FileKind::Log] {
        for log_dir in [None, Some("log")] {
            let env = Env::memory(1);
            database(&env, log_dir);
            let doctor = || {
                let doctor = Files(&env).doctor();
                log_dir.map_or(doctor.clone(), |log_dir| doctor.log_dir(log_dir))
            };
            let dir = if kind == FileKind::Log { log_dir.unwrap_or(DIR) } else { DIR };
            let put = |(name, bytes): (String, Vec<u8>)| {
                let path = Path::new(dir).join(&name);
                env.fs.create(&path).unwrap().write_all_at(0, &bytes).unwrap();
                name
            };
            let when = format!("{kind:?}, log in {log_dir:?}");
            let other = put(foreign(kind, 90_000, [9; 16]));
            let report = doctor().verify(&mut |_| {}).unwrap();
            assert!(report.is_sound(), "{when}: {report}");
            assert_eq!(report.unreferenced[0].file, other, "{when}");
            let manifest = Files(&env).newest_manifest();
            let header =
                FileHeader::decode(&Files(&env).read(&manifest)[..FileHeader::LEN]).unwrap();
            let ours = put(foreign(kind, 90_001, header.database.0));
            let report = doctor().verify(&mut |_| {}).unwrap();
            let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            let expected = format!(
                "{manifest} at 0: a newer one is missing: {ours} is newer than all that the manifest \
                 knows"
            );
            assert_eq!(found, [expected], "{when}");
        }
    }
}

/// Without a whole manifest the next attempt took the tables that the first had made for some of the database,
/// and made as many more. A disk that is full could not be repaired for want of space for copies.
#[test]
fn a_repair_that_fails_leaves_nothing_behind() {
    const EPERM: i32 = 1;
    const ENOSPC: i32 = 28;
    let memory = Arc::new(MemoryFileSystem::new(1));
    let faults = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
    database(&env, None);
    let files = Files(&env);
    let (table, manifest) = (files.ending_with(".table").remove(0), files.newest_manifest());
    files.flip(&table, 60);
    files.flip(&manifest, 60);
    let before = files.everything();
    let aside = || env.fs.list(&Path::new(DIR).join("damaged")).unwrap();
    let repair = || files.doctor().repair(&RepairOptions::default(), &mut |_| {});
    let full = |name: &str| {
        Rule::new(Fault::Error(ENOSPC)).on(&[Operation::Write]).path(format!("{name}.tmp"))
    };
    // The manifest comes last: there is a copy of the table by then.
    faults.add(Rule::new(Fault::Error(EPERM)).on(&[Operation::Link]));
    faults.add(full(&manifest));
    let error = repair().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!((files.everything(), aside().len()), (before, 0));

    // Second names take no space.
    faults.clear();
    [&table, &manifest].iter().for_each(|name| faults.add(full(name)));
    let report = repair().unwrap();
    assert_eq!(aside().len(), report.set_aside.len(), "{report}");
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    assert_eq!(db.get("in the log").unwrap().unwrap(), "value");
}

/// Zeros that never were written were written to copies: a file that is long and has nothing in it filled
/// the disk.
#[test]
fn what_was_never_written_takes_no_space_in_a_copy() {
    const LEN: u64 = 256 << 20;
    const EPERM: i32 = 1;
    let dir = TempDir::new("sparse");
    let faults = FaultFileSystem::new(Arc::new(OsFileSystem), Arc::new(ManualClock::default()));
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
    let (database, copy) = (dir.path().join("db"), dir.path().join("copy"));
    let db = Db::builder(&database).env(env.clone()).open().unwrap();
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let entries = env.fs.list(&database).unwrap().into_iter().map(|entry| entry.name);
    let table = entries.into_iter().find(|name| name.ends_with(".table")).unwrap();
    let path = database.join(&table);
    env.fs.remove(&path).unwrap();
    let file = env.fs.create(&path).unwrap();
    file.write_all_at(LEN / 2 + 5, b"something").unwrap();
    file.truncate(LEN).unwrap();
    if LEN / 4 < space_of(&path) {
        skipped("what_was_never_written_takes_no_space_in_a_copy", "files here have no holes");
        return;
    }
    faults.add(Rule::new(Fault::Error(EPERM)).on(&[Operation::Link]));
    let doctor = || Doctor::new(&database).env(env.clone());
    doctor().salvage(&copy, false, &mut |_| {}).unwrap();
    doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    for repaired in [database.clone(), copy] {
        let path = repaired.join("damaged").join(&table);
        assert!(space_of(&path) < LEN / 4, "{} bytes", space_of(&path));
        let file = env.fs.open(&path).unwrap();
        assert_eq!(file.len().unwrap(), LEN);
        let mut bytes = [1; 20];
        file.read_exact_at(LEN / 2, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0\0something\0\0\0\0\0\0");
        file.read_exact_at(LEN - 20, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 20]);
    }
}

fn space_of(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap()) * 512
}
