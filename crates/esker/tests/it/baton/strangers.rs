//! Calls that must be refused while a database is open: a second owner, somebody who only reads, the
//! doctor, a database that would have its log here, and handles that are another database's.

use std::sync::Arc;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{Env, MemoryFileSystem};
use esker::{Db, Error, ErrorKind, KeyspaceOptions, Options, Result};

use super::coverage;
use super::generation::dir_of;
use super::world::World;

/// Who comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stranger {
    Owner,
    Reader,
    Doctor,
    /// A database whose log would lie where this one has its files, or its log.
    Neighbour,
    /// Handles of another database.
    Handles,
}

impl Stranger {
    pub(super) const ALL: [Self; 5] =
        [Self::Owner, Self::Reader, Self::Doctor, Self::Neighbour, Self::Handles];
}

/// Somebody comes to the database `db`, the one of that number, and must be refused.
///
/// # Panics
/// If that is not so, or the reason is none that explains it.
pub(super) fn intrude(world: &World, home: usize, db: &Db, who: Stranger, has_faults: bool) {
    let check = |what: &str, kinds: &[ErrorKind], result: Result<()>| {
        let Err(error) = result else { panic!("{who:?}, {what}: it was not refused") };
        let is_fault = has_faults && is_of_a_fault(&error);
        assert!(is_fault || kinds.contains(&error.kind()), "{who:?}, {what}: {error:?}");
        coverage::add("strangers that were refused", 1);
    };
    let dir = dir_of(home);
    let log_dir = db.options().log_dir.clone();
    let builder = || {
        let options = Options { log_dir: log_dir.clone(), ..Options::default() };
        Db::builder(&dir).env(world.env.clone()).options(options)
    };
    let doctor = || {
        let doctor = Doctor::new(&dir).env(world.env.clone());
        doctor.log_dir(log_dir.clone().unwrap_or_else(|| dir.clone().into()))
    };
    match who {
        Stranger::Owner => check("an open", &[ErrorKind::Locked], builder().open().map(drop)),
        Stranger::Reader => {
            let result = builder().read_only(true).open();
            check("an open to read", &[ErrorKind::Locked], result.map(drop));
        }
        Stranger::Doctor => {
            let locked = &[ErrorKind::Locked];
            check("a verification", locked, doctor().verify(&mut |_| {}).map(drop));
            let result = doctor().repair(&RepairOptions::default(), &mut |_| {});
            check("a repair", locked, result.map(drop));
        }
        Stranger::Neighbour => {
            for log_dir in [Some(dir.clone().into()), log_dir.clone()].into_iter().flatten() {
                let options = Options { log_dir: Some(log_dir), ..Options::default() };
                let builder = Db::builder("of a stranger").env(world.env.clone());
                let refused = &[ErrorKind::Locked, ErrorKind::InvalidInput];
                check("a log directory", refused, builder.options(options).open().map(drop));
            }
        }
        Stranger::Handles => {
            let elsewhere = elsewhere(world);
            let refused = &[ErrorKind::InvalidInput];
            for name in elsewhere.keyspaces() {
                let keyspace = elsewhere.existing_keyspace(&name).unwrap().expect("it is there");
                let mut batch = db.batch();
                batch.put(&keyspace, "of a stranger", "value");
                check("a batch", refused, batch.commit());
                check("a drop", refused, db.drop_keyspace(&keyspace));
                check("a rename", refused, db.rename_keyspace(&keyspace, "of a stranger"));
                check("a bulk load", refused, db.bulk_loader(&keyspace).map(drop));
            }
        }
    }
}

fn is_of_a_fault(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned)
}

/// A database in files of its own, with as many keyspaces.
fn elsewhere(world: &World) -> Db {
    let env = Env { fs: Arc::new(MemoryFileSystem::new(1)), ..world.env.clone() };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder("elsewhere").env(env).options(options).open().unwrap();
    for name in ["a", "b", "order"] {
        db.keyspace(name, KeyspaceOptions::default()).unwrap();
    }
    db
}
