//! What a repair has made and set aside goes with its failure.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::RepairOptions;
use esker::env::{
    Env, Fault, FaultFileSystem, ManualClock, MemoryFileSystem, Operation, Rule, When,
};
use esker::{Db, ErrorKind, Options};

use super::sample::{DIR, Files};

const EIO: i32 = 5;
const EPERM: i32 = 1;
const ENOSPC: i32 = 28;

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
}

/// A database with a table and a log; both the table and the manifest are damaged. The name of the table.
fn damaged() -> (Env, FaultFileSystem, String) {
    let memory = Arc::new(MemoryFileSystem::new(1));
    let faults = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
    let db = open(&env);
    db.put("flushed", "value").unwrap();
    db.flush().unwrap();
    db.put("in the log", "value").unwrap();
    db.close().unwrap();
    let files = Files(&env);
    let table = files.ending_with(".table").remove(0);
    files.flip(&table, 60);
    files.flip(&files.newest_manifest(), 60);
    (env, faults, table)
}

fn aside(env: &Env) -> Vec<String> {
    let dir = Path::new(DIR).join("damaged");
    env.fs.list(&dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// Where files have second names, all that needs space is the tables and the manifest. If it was for that
/// that there was none, the tables stayed, and without a whole manifest the next attempt took them for some
/// of the database.
#[test]
fn a_manifest_that_cannot_be_written_leaves_nothing_of_the_repair() {
    for operation in [Operation::Create, Operation::Allocate, Operation::Write, Operation::Rename] {
        let (env, faults, _) = damaged();
        let files = Files(&env);
        let before = files.everything();
        let repair = || files.doctor().repair(&RepairOptions::default(), &mut |_| {});
        let full = Rule::new(Fault::Error(ENOSPC)).on(&[operation]).path("*.manifest.tmp");
        faults.add(full);
        let error = repair().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{operation:?}: {error}");
        assert_eq!((files.everything(), aside(&env).len()), (before, 0), "{operation:?}");

        faults.clear();
        let report = repair().unwrap();
        assert_eq!(aside(&env).len(), report.set_aside.len(), "{operation:?}: {report}");
        assert_eq!(open(&env).get("in the log").unwrap().unwrap(), "value");
    }
}

/// Once it has its name, it may be what counts: then what it names stays.
#[test]
fn a_manifest_that_has_its_name_keeps_what_it_names() {
    let (env, faults, _) = damaged();
    let files = Files(&env);
    // Once before: of the names of the tables.
    let syncs = Rule::new(Fault::Error(EIO)).on(&[Operation::SyncDir]).path(DIR);
    faults.add(syncs.when(When::From(2)));
    let error = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    faults.clear();
    assert!(!aside(&env).is_empty());
    assert!(files.verify().is_sound(), "{}", files.verify());
    assert_eq!(open(&env).get("in the log").unwrap().unwrap(), "value");
}

/// A second name that could not be made durable was forgotten, and the file copied besides.
#[test]
fn what_cannot_be_set_aside_durably_is_not_left_there() {
    let sync = || Rule::new(Fault::Error(EIO)).on(&[Operation::SyncDir]).path("damaged");
    let (env, faults, table) = damaged();
    let files = Files(&env);
    let before = files.everything();
    let repair = || files.doctor().repair(&RepairOptions::default(), &mut |_| {});
    faults.add(sync());
    assert_eq!(repair().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!((files.everything(), aside(&env).len()), (before.clone(), 0));
    faults.clear();
    // A copy that cannot be given its name.
    faults.add(Rule::new(Fault::Error(EPERM)).on(&[Operation::Link]));
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Rename]).path(format!("{table}.tmp")));
    assert_eq!(repair().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!((files.everything(), aside(&env).len()), (before, 0));
    faults.clear();
    faults.add(sync().when(When::Nth(1)));
    let report = repair().unwrap();
    assert_eq!(aside(&env).len(), report.set_aside.len(), "{report}\n{:?}", aside(&env));
    assert!(aside(&env).contains(&table), "{report}\n{:?}", aside(&env));
    assert_eq!(open(&env).get("in the log").unwrap().unwrap(), "value");
}
