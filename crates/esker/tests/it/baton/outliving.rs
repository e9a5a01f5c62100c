//! Handles that outlive their database, and a close that meets a fault.
//!
//! Cursors and scans go on reading what they hold once their database is closed, and every other call says that it is.
//! From then on nobody who had it open changes a file, whatever is dropped and whenever; not once
//! somebody else has the directory, either. A close that fails at one file costs at most what was to go
//! there, and lets go of everything else as any close does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use esker::env::{Fault, FileSystem as _, Operation, Rule, When};
use esker::{Cursor, Db, ErrorKind, Keyspace, KeyspaceOptions, Scan, Snapshot};

use super::coverage;
use super::generation::dir_of;
use super::reader::{Entries, check_cursor};
use super::world::World;
use crate::files::read_all;
use crate::referenced::log_dir_of;
use crate::state::{Bytes, Turn};

/// The keyspace whose tables are replaced behind cursors.
const REPLACED: &str = "replaced";

/// What somebody holds of a database beyond its end.
pub(super) struct Outliving {
    cursors: Vec<Held>,
    snapshot: Snapshot,
    keyspaces: Vec<Keyspace>,
    db: Db,
}

/// A cursor and a scan, and what they show.
struct Held {
    name: String,
    turn: Turn,
    cursor: Cursor,
    scan: Scan,
    entries: Entries,
}

impl Outliving {
    /// Cursors over everything, some of whose tables are replaced behind them.
    pub(super) fn new(db: &Db) -> Self {
        let replaced = db.keyspace(REPLACED, KeyspaceOptions::default()).unwrap();
        let replace = |value: &str| {
            replaced.put("key", value).unwrap();
            replaced.compact::<&[u8]>(..).unwrap();
        };
        replace("first");
        let names = db.keyspaces().into_iter();
        let keyspaces: Vec<Keyspace> =
            names.map(|name| db.existing_keyspace(&name).unwrap().expect("it is there")).collect();
        let snapshot = db.snapshot();
        let hold = |(number, keyspace): (usize, &Keyspace)| {
            let view = snapshot.keyspace(keyspace);
            let mut cursor = view.cursor().unwrap();
            // The others have looked at nothing yet.
            if number % 2 == 0 {
                cursor.seek_to_first().unwrap();
            }
            let entries = view.scan::<&[u8]>(..).map(owned).collect();
            let (name, turn) = (keyspace.name().to_string(), Turn::of(&keyspace.options().order));
            Held { name, turn, cursor, scan: view.iter(), entries }
        };
        let cursors = keyspaces.iter().enumerate().map(hold).collect();
        replace("second");
        Self { cursors, snapshot, keyspaces, db: db.clone() }
    }

    /// The database is closed; `open` opens it for somebody else.
    pub(super) fn check(self, world: &World, home: usize, open: impl FnOnce() -> Db) {
        let Self { mut cursors, snapshot, keyspaces, db } = self;
        for keyspace in &keyspaces {
            let closed = [
                keyspace.put("key", "value"),
                keyspace.get("key").map(drop),
                keyspace.flush(),
                keyspace.cursor().map(drop),
                snapshot.keyspace(keyspace).get("key").map(drop),
                db.sync(),
                db.drop_keyspace(keyspace),
                db.wait_until_settled(),
            ];
            for (number, result) in closed.into_iter().enumerate() {
                assert!(
                    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed),
                    "call {number} of a database that is closed: {result:?}"
                );
            }
        }
        let before = everything(world, home);
        cursors.iter_mut().for_each(Held::read);
        let later = cursors.split_off(cursors.len() / 2);
        drop((cursors, snapshot));
        assert!(before == everything(world, home), "who had a database open has changed its files");
        let next = open();
        next.drop_keyspace(&next.existing_keyspace(REPLACED).unwrap().expect("it is there"))
            .unwrap();
        // What age makes due would be done meanwhile. Flushes cannot be paused: they add tables, and change none.
        loop {
            next.wait_until_settled().unwrap();
            next.pause_compactions();
            if next.stats().running_jobs.is_empty() {
                break;
            }
            next.resume_compactions();
        }
        let before = tables_and_blobs(world, home);
        drop((later, keyspaces, db));
        let mut after = tables_and_blobs(world, home);
        after.retain(|path, _| before.contains_key(path));
        assert!(before == after, "who had it open has changed another's files");
        next.close().unwrap();
        coverage::add("databases that were outlived", 1);
    }
}

impl Held {
    fn read(&mut self) {
        let ahead: BTreeSet<Bytes> = match self.cursor.is_valid() {
            true => self.entries.iter().map(|(key, _)| key.clone()).collect(),
            false => BTreeSet::new(),
        };
        let what = format!("{}, closed", self.name);
        check_cursor(&mut self.cursor, self.entries.clone(), &ahead, (&what, self.turn)).unwrap();
        let (mut found, mut behind) = (Entries::new(), Entries::new());
        while let Some(entry) = self.scan.next() {
            found.push(owned(entry));
            behind.extend(self.scan.next_back().map(owned));
        }
        found.extend(behind.into_iter().rev());
        assert_eq!(found, self.entries, "a scan of {what}");
    }
}

fn owned(entry: esker::Result<(esker::Key, esker::Value)>) -> (Bytes, Bytes) {
    let (key, value) = entry.unwrap();
    (Bytes::from(&*key), Bytes::from(&*value))
}

/// Every file of a database, in both directories.
fn everything(world: &World, home: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let in_dir = |dir: PathBuf| {
        let files = world.fs.list(&dir).is_ok().then(|| read_all(&world.fs, &dir));
        files.unwrap_or_default().into_iter().map(move |(name, bytes)| (dir.join(name), bytes))
    };
    in_dir(dir_of(home).into()).chain(in_dir(log_dir_of(dir_of(home)))).collect()
}

/// Those of them that are written once.
fn tables_and_blobs(world: &World, home: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = everything(world, home);
    files.retain(|path, _| {
        path.extension().is_some_and(|extension| extension == "table" || extension == "blob")
    });
    files
}

/// Keyspaces without a log that a close has to write out.
const APART: [&str; 3] = ["apart 0", "apart 1", "apart 2"];

/// Closes the database beside a fault that hits one table, once; `open` opens it again. What other
/// keyspaces without a log have taken is there then.
pub(super) fn close_beside_a_fault(world: &World, db: Db, nth: u64, open: impl FnOnce() -> Db) {
    let options = KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
    for name in APART {
        db.keyspace(name, options.clone()).unwrap().put("key", name).unwrap();
    }
    let rule = Rule::new(Fault::Error(5)).on(&[Operation::Create]).path("*.table");
    world.faults.add(rule.when(When::Nth(nth)));
    let result = db.close();
    world.faults.clear();
    if let Err(error) = &result {
        assert_eq!(error.kind(), ErrorKind::Io, "a close beside a fault: {error:?}");
    }
    coverage::add("closes that failed", u64::from(result.is_err()));
    let db = open();
    let is_there = |name: &&&str| {
        let found = db.existing_keyspace(name).unwrap().expect("it was created").get("key");
        found.unwrap().is_some()
    };
    let there = APART.iter().filter(is_there).count();
    assert!(
        APART.len() - usize::from(result.is_err()) <= there,
        "{there} of {APART:?}: {result:?}"
    );
    for name in APART {
        let keyspace = db.existing_keyspace(name).unwrap().expect("it was created");
        db.drop_keyspace(&keyspace).unwrap();
    }
    db.close().unwrap();
}
