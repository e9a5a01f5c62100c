//! The database directory that the doctor works on, and its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{
    Corruption, DatabaseId, FileHeader, FileId, FileKind, LogId, ManifestId, TableId,
};
use esker_cache::{BlockCache, Budget};
use esker_env::{
    Env, File, FileError, FileExt as _, FileLock, FileSystem, IoError, LockError, LockMode,
};
use esker_table::{Adoption, Table, TableContext};
use esker_tree::{Catalog, Manifest};

use super::causes::UNREADABLE;
use crate::damaged::log_walk::{DamagedLog, segments_in};
use crate::damaged::patched::with_header;
use crate::damaged::reading::ReadingFileSystem;
use crate::damaged::renaming::Renaming;
use crate::damaged::unreadable::{Padding, Unreadable};
use crate::error::{Error, Result};
use crate::recovery::LOCK_FILE;
use crate::recovery::orphans::is_beyond;

/// Memory budget for tables: little is read twice.
const BUDGET_BYTES: u64 = 64 << 20;

/// What the doctor is about to do, and so whom it excludes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Reads, concurrently with other readers.
    Read,
    /// Reports what it would change: nobody else may change anything.
    Plan,
    /// Changes files.
    Change,
}

impl Access {
    const fn lock_mode(self) -> LockMode {
        match self {
            Self::Read => LockMode::Shared,
            Self::Plan | Self::Change => LockMode::Exclusive,
        }
    }
}

/// What a file is called by.
pub(super) type Name = (FileId, FileKind);

/// A database that nobody else opens in the meantime.
pub(super) struct Place {
    /// In its files, parts that the device cannot read are zeros, and [misnamed](Place::by_own_names)
    /// ones have their own names.
    pub(super) env: Env,
    /// The same, with the names that the files have.
    pub(super) padded: Env,
    /// The environment as it is.
    pub(super) device: Env,
    /// What could not be read so far.
    pub(super) unreadable: Arc<Unreadable>,
    pub(super) dir: PathBuf,
    pub(super) log_dir: PathBuf,
    /// Whether the caller has said where the log is.
    pub(super) is_log_dir_given: bool,
    /// Our files in the directory, with their lengths.
    files: BTreeMap<Name, u64>,
    /// The previous manifest, under its name as such.
    predecessors: BTreeMap<ManifestId, String>,
    /// Log segments in the log directory, with their lengths.
    logs: BTreeMap<FileId, u64>,
    /// Why the lock could not be taken, if the device cannot read the lock file.
    pub(super) unlocked: Option<IoError>,
    lock: Option<Arc<dyn FileLock>>,
}

impl Place {
    /// Takes the lock of the database in `dir`, and lists its files.
    pub(super) fn lock(
        env: &Env,
        dir: &Path,
        log_dir: Option<&Path>,
        access: Access,
    ) -> Result<Self> {
        let none = || Error::invalid_input(format!("there is no database in {}", dir.display()));
        if !env.fs.exists(dir)? {
            return Err(none());
        }
        let (lock, unlocked) = match lock_dir(env, dir, access) {
            Ok(lock) => (lock, None),
            // Nobody else can open the database then, and a reader does no harm to others.
            Err(LockError::Io(error)) if access == Access::Read && error.is_of_the_device() => {
                (None, Some(error))
            }
            Err(error) => return Err(Error::locked(dir, error)),
        };
        let is_log_dir_given = log_dir.is_some();
        let log_dir = log_dir.unwrap_or(dir).to_path_buf();
        let files = list(env, dir)?;
        let logs = segments_in(&*env.fs, &log_dir)?;
        let old = env.fs.list(dir)?.into_iter().filter(|entry| !entry.is_dir);
        let predecessors: BTreeMap<ManifestId, String> = old
            .filter_map(|it| Manifest::parse_predecessor(&it.name).map(|id| (id, it.name)))
            .collect();
        if files.is_empty() && logs.is_empty() && predecessors.is_empty() {
            return Err(none());
        }
        let unreadable = Arc::new(Unreadable::default());
        let padded = ReadingFileSystem::new(&env.fs, Padding::of_the_device(&unreadable));
        let padded = Env { fs: Arc::new(padded), ..env.clone() };
        Ok(Self {
            env: padded.clone(),
            padded,
            device: env.clone(),
            unreadable,
            dir: dir.to_path_buf(),
            log_dir,
            is_log_dir_given,
            files,
            predecessors,
            logs,
            unlocked,
            lock: lock.map(Arc::from),
        })
    }

    /// Our files of one kind, log segments aside, with their lengths.
    pub(super) fn files_of(&self, kind: FileKind) -> impl Iterator<Item = (FileId, u64)> {
        let of_kind = self.files.iter().filter(move |((_, other), _)| *other == kind);
        of_kind.map(|((id, _), len)| (*id, *len))
    }

    /// The manifests before the newest, under their names as such.
    pub(super) const fn predecessors(&self) -> &BTreeMap<ManifestId, String> {
        &self.predecessors
    }

    /// All manifests, oldest first, with the names of their files.
    pub(super) fn manifests(&self) -> BTreeMap<ManifestId, String> {
        let newest = self.files_of(FileKind::Manifest);
        let mut all = self.predecessors.clone();
        all.extend(newest.map(|(id, _)| (ManifestId(id), id.file_name(FileKind::Manifest))));
        all
    }

    /// Every file of the database: its directory, its name, and its length; of an old manifest, 0.
    pub(super) fn paths(&self) -> Vec<(PathBuf, String, u64)> {
        let ours = self.files.iter().filter(|((_, kind), _)| *kind != FileKind::Log);
        let ours = ours.map(|((id, kind), len)| (self.dir.clone(), id.file_name(*kind), *len));
        let old = self.predecessors.values().map(|name| (self.dir.clone(), name.clone(), 0));
        let logs = self.logs.iter();
        let logs = logs.map(|(id, len)| (self.log_dir.clone(), id.file_name(FileKind::Log), *len));
        ours.chain(old).chain(logs).collect()
    }

    /// Our files, but for old manifests, with their paths.
    pub(super) fn named_files(&self) -> impl Iterator<Item = (Name, PathBuf)> {
        let in_dir = self.files.keys().filter(|(_, kind)| *kind != FileKind::Log);
        let logs = self.logs.keys().map(|id| (*id, FileKind::Log));
        in_dir.copied().chain(logs).map(|name| (name, self.path_of(name)))
    }

    /// Where a file of that name is.
    pub(super) fn path_of(&self, (id, kind): Name) -> PathBuf {
        let dir = if kind == FileKind::Log { &self.log_dir } else { &self.dir };
        dir.join(id.file_name(kind))
    }

    /// The same place, in which the files that `names` has are called by their own names, which are its
    /// keys, and no others are called by those that they have.
    pub(super) fn by_own_names(&self, names: &BTreeMap<Name, Name>) -> Self {
        let len_of = |name: &Name| match name.1 {
            FileKind::Log => self.logs.get(&name.0).copied(),
            _ => self.files.get(name).copied(),
        };
        let (mut files, mut logs) = (self.files.clone(), self.logs.clone());
        for name in names.values() {
            files.remove(name);
            if name.1 == FileKind::Log {
                logs.remove(&name.0);
            }
        }
        for (own, len) in names.iter().filter_map(|(own, name)| Some((own, len_of(name)?))) {
            match own.1 {
                FileKind::Log => drop(logs.insert(own.0, len)),
                _ => drop(files.insert(*own, len)),
            }
        }
        let paths = names.iter().map(|(own, name)| (self.path_of(*own), self.path_of(*name)));
        let renamed = ReadingFileSystem::new(&self.padded.fs, Renaming::new(paths.collect()));
        Self {
            env: Env { fs: Arc::new(renamed), ..self.env.clone() },
            padded: self.padded.clone(),
            device: self.device.clone(),
            unreadable: Arc::clone(&self.unreadable),
            dir: self.dir.clone(),
            log_dir: self.log_dir.clone(),
            is_log_dir_given: self.is_log_dir_given,
            files,
            predecessors: self.predecessors.clone(),
            logs,
            unlocked: None,
            lock: self.lock.clone(),
        }
    }

    /// Length of a file of the directory; `None` if it is missing.
    pub(super) fn file_len(&self, id: FileId, kind: FileKind) -> Option<u64> {
        self.files.get(&(id, kind)).copied()
    }

    /// What our files in the directory are called.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.files.keys().copied()
    }

    /// The files that the manifest of `catalog` cannot have named, as an open sees them, in both
    /// directories.
    pub(super) fn beyond(&self, catalog: &Catalog) -> BTreeSet<Name> {
        let is_elsewhere = |(_, kind): &Name| *kind != FileKind::Log || self.log_dir != self.dir;
        let in_dir = self.names().filter(is_elsewhere).map(|name| (&self.dir, name));
        let logs = self.logs.keys().map(|id| (&self.log_dir, (*id, FileKind::Log)));
        let all = in_dir.chain(logs);
        all.filter(|(dir, name)| is_beyond(&*self.env.fs, dir, *name, catalog))
            .map(|(_, name)| name)
            .collect()
    }

    /// Whether some part of a file in the directory could not be read.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.has(&self.dir.join(name))
    }

    /// The error for `bytes` of a file in the directory, if some of them could not be read.
    pub(super) fn why_unreadable(&self, name: &str, bytes: Range<u64>) -> Option<String> {
        let error = self.unreadable.error_at(&self.dir.join(name), bytes.start, bytes.end)?;
        Some(format!("{UNREADABLE}{error}"))
    }

    /// The log segments, with their lengths.
    pub(super) const fn logs(&self) -> &BTreeMap<FileId, u64> {
        &self.logs
    }

    /// The same, as part of the log of `database`.
    pub(super) fn damaged_log(&self, database: DatabaseId) -> DamagedLog<'_> {
        DamagedLog {
            fs: &self.env.fs,
            unreadable: &self.unreadable,
            dir: &self.log_dir,
            segments: &self.logs,
            database,
        }
    }

    /// The context for opening tables of `database`.
    pub(super) fn tables(&self, database: DatabaseId) -> Arc<TableContext> {
        let budget = Budget::new(BUDGET_BYTES);
        Arc::new(TableContext {
            fs: Arc::clone(&self.env.fs),
            dir: self.dir.clone(),
            database,
            cache: BlockCache::new(Arc::clone(&budget), Some(BUDGET_BYTES / 4)),
            budget,
            clock: Arc::clone(&self.env.clock),
            blobs: esker_table::BlobFiles::default(),
            owned: esker_table::Ownership::default(),
        })
    }

    /// Opens a table from its own file, with the header that it should have; or returns what is
    /// damaged.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn open_table(
        &self,
        tables: &Arc<TableContext>,
        id: TableId,
    ) -> Result<std::result::Result<Table, Corruption>> {
        let patched = self.with_header(id.0, FileKind::Table, tables.database)?;
        let context = patched.map_or_else(
            || Arc::clone(tables),
            |fs| Arc::new(TableContext { fs, ..TableContext::clone(tables) }),
        );
        match Table::open_file(context, id) {
            Ok(table) => Ok(Ok(table)),
            Err(FileError::Corruption(corruption)) => Ok(Err(corruption)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Locks the directory. Whoever has the database open has created the lock file. If it is missing,
/// as in a copy, a reader does not create it and excludes nobody; a writer creates it, or the
/// database could be opened in the meantime, and if it may not, it changes nothing else either.
fn lock_dir(
    env: &Env,
    dir: &Path,
    access: Access,
) -> std::result::Result<Option<Box<dyn FileLock>>, LockError> {
    let path = dir.join(LOCK_FILE);
    let makes_file = match access {
        // A directory without a database is left as it is.
        Access::Change => {
            let entries = env.fs.list(dir).map_err(LockError::Io)?;
            entries.iter().any(|entry| is_name_of_ours(&entry.name))
        }
        Access::Read | Access::Plan => false,
    };
    let is_there = env.fs.exists(&path).map_err(LockError::Io)?;
    if !makes_file && !is_there {
        return Ok(None);
    }
    match env.fs.lock(&path, access.lock_mode()) {
        Err(LockError::Io(error)) if !is_there && is_write_refused(&error) => Ok(None),
        lock => lock.map(Some),
    }
}

fn is_write_refused(error: &IoError) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn is_name_of_ours(name: &str) -> bool {
    FileId::parse_file_name(name).is_some() || Manifest::parse_predecessor(name).is_some()
}

fn list(env: &Env, dir: &Path) -> Result<BTreeMap<(FileId, FileKind), u64>> {
    let entries = env.fs.list(dir)?;
    let ours = entries.into_iter().filter(|entry| !entry.is_dir).filter_map(|entry| {
        FileId::parse_file_name(&entry.name).map(|(id, kind)| ((id, kind), entry.len))
    });
    Ok(ours.collect())
}

/// What the file says it is, by its header, or as a table that was taken over from elsewhere; and of
/// which database. `None` if that is damaged.
///
/// # Errors
/// Of the system.
pub(super) fn said_by(place: &Place, path: &Path) -> Result<Option<(Name, DatabaseId)>> {
    let file = place.env.fs.open(path)?;
    if let Some(adoption) = Adoption::told_by(&*file)? {
        return Ok(Some(((adoption.id.0, FileKind::Table), adoption.database)));
    }
    let mut bytes = [0; FileHeader::LEN];
    let bytes = &mut bytes[..file.len()?.min(FileHeader::LEN as u64) as usize];
    file.read_exact_at(0, bytes)?;
    let header = FileHeader::decode(bytes).ok();
    Ok(header.map(|header| ((header.id, header.kind), header.database)))
}

/// The database that most files belong to, according to intact headers or, for adopted tables, the
/// adoption records; only one that has a manifest, if there is one. `None` if no file tells.
///
/// # Errors
/// Of the system.
pub(super) fn database_of_files(place: &Place) -> Result<Option<DatabaseId>> {
    // Files that somebody put there may be many, but hardly have a manifest among them.
    let mut votes: BTreeMap<[u8; 16], (bool, u64)> = BTreeMap::new();
    let path = |dir: &Path, id: &FileId, kind| (dir.join(id.file_name(kind)), *id, kind);
    let ours = place.files.keys().map(|(id, kind)| path(&place.dir, id, *kind));
    let logs = place.logs.keys().map(|id| path(&place.log_dir, id, FileKind::Log));
    let logs = logs.filter(|_| place.log_dir != place.dir);
    let old = place.predecessors.iter();
    let old = old.map(|(id, name)| (place.dir.join(name), id.0, FileKind::Manifest));
    for (path, id, kind) in ours.chain(logs).chain(old) {
        if let Some((name, database)) = said_by(place, &path)?
            && name == (id, kind)
        {
            let (has_manifest, count) = votes.entry(database.0).or_default();
            *has_manifest |= kind == FileKind::Manifest;
            *count += 1;
        }
    }
    Ok(votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(id, _)| DatabaseId(id)))
}

impl Place {
    /// The log segments, in order: those of `database`, as far as headers tell, and those that say that
    /// they are something else.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn logs_of(&self, database: DatabaseId) -> Result<(Vec<LogId>, Vec<LogId>)> {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for id in self.logs.keys().copied() {
            let name = (id, FileKind::Log);
            let said = said_by(self, &self.path_of(name))?;
            let is_ours = said.is_none_or(|said| said == (name, database));
            if is_ours { &mut ours } else { &mut others }.push(LogId(id));
        }
        Ok((ours, others))
    }

    /// If the header of a file does not decode: a file system in which it has the header that it
    /// should have. What follows a header is checked separately.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn with_header(
        &self,
        id: FileId,
        kind: FileKind,
        database: DatabaseId,
    ) -> Result<Option<Arc<dyn FileSystem>>> {
        let dir = if kind == FileKind::Log { &self.log_dir } else { &self.dir };
        self.with_header_at(&dir.join(id.file_name(kind)), id, kind, database)
    }

    /// As [`Place::with_header`], for a file with any name.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn with_header_at(
        &self,
        path: &Path,
        id: FileId,
        kind: FileKind,
        database: DatabaseId,
    ) -> Result<Option<Arc<dyn FileSystem>>> {
        let due = |file: &dyn File| {
            let (format, adoption) = match kind {
                FileKind::Table => {
                    let adoption = Adoption::of_file(file, database, TableId(id))?;
                    (esker_table::FORMAT_NEWEST, adoption)
                }
                _ => (1, None),
            };
            let (database, id) =
                adoption.map_or((database, id), |it| (it.origin_database, it.origin_id));
            Ok(FileHeader { kind, format, id, database })
        };
        Ok(with_header(&self.env.fs, path, due)?)
    }
}
