//! The database directory before the database is open: its lock, the check whether it holds a
//! database or may get one, and creation of a new one. The same for a separate log directory.
//!
//! An open that [`check_is_database`] refuses has created nothing; one that is refused later leaves
//! the directories and lock files that it created, and nothing else. Does not know what a database
//! holds.

use std::io;
use std::path::Path;
use std::sync::Arc;

use esker_base::{
    DatabaseId, FileHeader, FileId, FileKind, KeyspaceId, ManifestId, OwnerId, planted,
};
use esker_env::{DirEntry, FileExt as _, FileLock, IoError, LockError, LockMode};
use esker_tree::{Catalog, EditRecord, Manifest, Recovered, VersionEdit};

use crate::engine::check_new_order;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::described::DEFAULT_KEYSPACE;
use crate::recovery::mode::RecoveryMode;
use crate::recovery::orphans::Places;
use crate::recovery::{LOCK_FILE, OpenRequest};

/// The error when a new database must not be created.
fn exists(dir: &Path) -> Error {
    Error::invalid_input(format!("there is a database in {}, and it is to be new", dir.display()))
}

fn no_database(dir: &Path) -> Error {
    Error::invalid_input(format!("there is no database in {}", dir.display()))
}

/// Locks the database directory. Returns no lock if nobody can write there and there is no lock
/// file, as in a copy on a read-only file system. A salvage goes on without a lock file that the
/// device cannot read: nobody else can open the database then either.
pub(super) fn lock_dir(request: &OpenRequest) -> Result<Option<Box<dyn FileLock>>> {
    let mode = if request.is_read_only { LockMode::Shared } else { LockMode::Exclusive };
    match request.env.fs.lock(&request.dir.join(LOCK_FILE), mode) {
        Err(LockError::Io(error))
            if request.is_read_only && error.kind() == io::ErrorKind::ReadOnlyFilesystem =>
        {
            Ok(None)
        }
        Err(LockError::Io(error))
            if request.recovery == RecoveryMode::Salvage && error.is_of_the_device() =>
        {
            Ok(None)
        }
        lock => lock.map(Some).map_err(|error| Error::locked(&request.dir, error)),
    }
}

/// Locks a separate log directory against other databases while this one is open: there may be no
/// segment yet that shows whose it is. A read-only open does not lock it.
fn lock_log_dir(
    request: &OpenRequest,
    log_dir: &Path,
    recovered: &Recovered,
) -> Result<Option<Box<dyn FileLock>>> {
    let fs = &*request.env.fs;
    let manifest = log_dir.join(recovered.id.file_name());
    // The database directory itself, whatever its path here, is locked already.
    let is_own = || -> Result<bool> {
        if log_dir == request.dir {
            return Ok(true);
        }
        // An I/O error is no answer: if we mistook the directory of another database for our own,
        // we would not lock it. But our own has a manifest there, which has a header.
        let mut bytes = [0; FileHeader::LEN];
        match fs.open(&manifest).and_then(|file| file.read_exact_at(0, &mut bytes)) {
            Ok(()) => {}
            Err(error) if is_answer(&error) => return Ok(false),
            Err(_) if planted::is("unread-manifest-is-its-own") => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let header = FileHeader::decode(&bytes);
        Ok(header.is_ok_and(|header| header.database == recovered.catalog.database))
    };
    if request.is_read_only || planted::is("log-directory-not-locked") || is_own()? {
        return Ok(None);
    }
    let lock = fs.lock(&log_dir.join(LOCK_FILE), LockMode::Exclusive);
    lock.map(Some).map_err(|error| Error::log_dir_locked(log_dir, error))
}

/// Whether an error means that there is no file with a header: no file, or one shorter than a
/// header.
fn is_answer(error: &IoError) -> bool {
    error.is_not_found() || error.kind() == io::ErrorKind::UnexpectedEof
}

/// Refuses a directory that holds something other than a database, and one without a database if
/// none may or can be created.
pub(super) fn check_is_database(request: &OpenRequest) -> Result<()> {
    let (fs, dir) = (&request.env.fs, &request.dir);
    let entries = match fs.exists(dir)? {
        true => fs.list(dir)?,
        false => Vec::new(),
    };
    let kind_of = |entry: &DirEntry| {
        let named = FileId::parse_file_name(&entry.name).filter(|_| !entry.is_dir);
        named.map(|(_, kind)| kind)
    };
    let is_manifest = |entry: &DirEntry| {
        kind_of(entry) == Some(FileKind::Manifest)
            || !entry.is_dir && Manifest::parse_predecessor(&entry.name).is_some()
    };
    if entries.iter().any(is_manifest) {
        return Ok(());
    }
    let own =
        [(FileKind::Table, "tables"), (FileKind::Log, "a log"), (FileKind::Blob, "blob files")];
    let has = |wanted| entries.iter().any(|entry| kind_of(entry) == Some(wanted));
    if let Some((_, held)) = own.into_iter().find(|(kind, _)| has(*kind)) {
        return Err(Error::new(
            ErrorKind::Corruption,
            format!("{} holds {held} but no manifest; repair can rebuild it", dir.display()),
        ));
    }
    check_no_log_apart(request)?;
    if !request.makes_directories() {
        return Err(no_database(dir));
    }
    // What a crash during creation may have left, and what the root of a file system has.
    let is_leftover = |entry: &DirEntry| {
        entry.name == LOCK_FILE
            || entry.name.ends_with(".manifest.tmp")
            || (entry.is_dir && entry.name == "lost+found")
    };
    let is_log_dir = |entry: &DirEntry| {
        let log_dir = request.options.log_dir.as_ref();
        entry.is_dir && log_dir.is_some_and(|log_dir| log_dir.starts_with(dir.join(&entry.name)))
    };
    match entries.iter().find(|entry| !is_leftover(entry) && !is_log_dir(entry)) {
        None => {
            let given = request.default_keyspace.as_ref();
            given.map_or(Ok(()), |options| check_new_order(&options.order))
        }
        Some(foreign) => Err(Error::invalid_input(format!(
            "{} is not a database: it holds {} and no manifest",
            dir.display(),
            foreign.name
        ))),
    }
}

/// What to say once [`check_is_database`] has `refused` the directory: another process that has it open may have
/// renamed its manifest while the names were read. Nobody does once the lock is ours.
///
/// # Errors
/// That the database is locked, or why it is refused.
pub(super) fn look_again(request: &OpenRequest, refused: Error) -> Result<()> {
    let has_lock = request.env.fs.exists(&request.dir.join(LOCK_FILE))?;
    if !has_lock || planted::is("refused-at-first-sight") {
        return Err(refused);
    }
    let _lock = lock_dir(request)?;
    check_is_database(request)
}

/// Refuses a log in a separate directory if there is no manifest. A new database would get an id of
/// its own, and from then on even a repair would take that log for another database's.
fn check_no_log_apart(request: &OpenRequest) -> Result<()> {
    let Some(log_dir) = &request.options.log_dir else { return Ok(()) };
    if !request.env.fs.exists(log_dir)? {
        return Ok(());
    }
    let entries = request.env.fs.list(log_dir)?;
    let has = |wanted| {
        let mut files = entries.iter().filter(|entry| !entry.is_dir);
        files
            .any(|file| FileId::parse_file_name(&file.name).is_some_and(|(_, kind)| kind == wanted))
    };
    // With a manifest in it, it is certainly another database, which is reported later.
    if !has(FileKind::Log) || has(FileKind::Manifest) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "{} holds a log, and {} no manifest: either that is the log of another database, or the manifest \
         is missing, and a repair that is told the directory of the log can rebuild it",
        log_dir.display(),
        request.dir.display()
    )))
}

/// Reads the manifest, or creates a new database; and locks a separate log directory.
pub(super) fn find_or_create(
    request: &OpenRequest,
    log_dir: &Path,
) -> Result<(Recovered, Option<Box<dyn FileLock>>)> {
    let recovered = Manifest::recover(&*request.env.fs, &request.dir)?;
    if recovered.is_some() && request.must_be_new {
        return Err(exists(&request.dir));
    }
    if request.makes_directories() {
        request.env.fs.create_dir_all(log_dir)?;
    }
    match recovered {
        Some(recovered) => {
            let lock = lock_log_dir(request, log_dir, &recovered)?;
            Ok((recovered, lock))
        }
        None => create_with_log(request, log_dir),
    }
}

/// Creates a new database whose log may be in `log_dir`, and locks that directory; creates none if
/// it cannot be locked.
fn create_with_log(
    request: &OpenRequest,
    log_dir: &Path,
) -> Result<(Recovered, Option<Box<dyn FileLock>>)> {
    let (fs, dir) = (&*request.env.fs, request.dir.as_path());
    let recovered = create(request)?;
    // The manifest shows whether the log directory is the database directory by another path.
    let lock = lock_log_dir(request, log_dir, &recovered).and_then(|lock| {
        Places { fs, dir, log_dir }.check_log_dir(recovered.catalog.database)?;
        Ok(lock)
    });
    let lock = lock.inspect_err(|_| drop(fs.remove(&dir.join(recovered.id.file_name()))))?;
    Ok((recovered, lock))
}

/// Makes the names of the directories durable: an earlier attempt may have created them and not finished. Comes
/// before the manifest, since nobody looks after them once there is one.
fn sync_parents(request: &OpenRequest) -> Result<()> {
    let dir = &request.dir;
    let log_dir = request.options.log_dir.as_deref();
    let mut above_log = log_dir.into_iter().flat_map(Path::ancestors).skip(1);
    let parent_of_log = above_log.next();
    // Those further up that lie in the database directory were made for this database too.
    let own = above_log.take_while(|above| above.starts_with(dir));
    for parent in dir.parent().into_iter().chain(parent_of_log).chain(own) {
        if parent.as_os_str().is_empty() {
            continue;
        }
        match request.env.fs.sync_dir(parent) {
            Err(error) if !parent.starts_with(dir) && is_never_synced(&error) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether the directory is none that this process may sync, or one of a file system without syncs: so it will
/// be at the next attempt.
fn is_never_synced(error: &IoError) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    let never = [InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported];
    never.contains(&error.kind())
}

/// Creates a new database: a manifest with one empty keyspace.
fn create(request: &OpenRequest) -> Result<Recovered> {
    let mut id = [0; 16];
    request.env.random.fill(&mut id);
    let mut catalog = Catalog::new(DatabaseId(id));
    let options = request.default_keyspace.clone().unwrap_or_default();
    check_new_order(&options.order)?;
    let created = EditRecord::KeyspaceCreated {
        keyspace: KeyspaceId::DEFAULT,
        name: DEFAULT_KEYSPACE.to_owned(),
        order: options.order.name().to_owned(),
        options: options.encode(),
    };
    // Counter 1 names the manifest itself.
    let records = vec![created, EditRecord::NextKeyspaceId(1), EditRecord::NextFileCounter(2)];
    catalog.apply(&VersionEdit { records }).expect("the first edit fits an empty catalog");
    let manifest = ManifestId(FileId { owner: OwnerId::FIRST, counter: 1 });
    sync_parents(request)?;
    drop(Manifest::create(Arc::clone(&request.env.fs), &request.dir, manifest, catalog)?);
    Manifest::recover(&*request.env.fs, &request.dir)?.ok_or_else(|| no_database(&request.dir))
}
