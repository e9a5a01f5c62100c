//! Orphans: finding and removing files that nothing refers to.
//!
//! They come from unfinished jobs, and from edits whose obsolete files could not be removed before
//! the process ended. In the database directory, every file with one of our names is ours. A
//! separate log directory may be in use by somebody else too, by mistake: there only logs count, a
//! log of another database stops the open before anything is changed, and what may be a damaged log
//! stays.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use esker_base::{
    BlobFileId, DatabaseId, FileHeader, FileId, FileKind, LogId, OwnerId, TableId, planted,
};
use esker_env::{DirEntry, File, FileError, FileExt as _, FileSystem};
use esker_table::Adoption;
use esker_tree::{BlobAccount, Catalog, KeyspaceState, WarmList};

use crate::error::{Error, Result};
use crate::events::Event;
use crate::logs::LOG_FORMAT_NEWEST;

/// Bytes that show whose a log segment is: its header, and the start of its first frame.
const START_LEN: usize = 2 * FileHeader::LEN;

/// What a repair appends to the name of an unfinished table.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";

/// The blob files that the tables of a keyspace refer to.
pub(crate) fn blobs_of(state: &KeyspaceState) -> BlobAccount {
    BlobAccount::of(state.tables.values().map(|place| &*place.properties))
}

/// The tables of `catalog`, and the blob files that they refer to. Collected once: asking each
/// keyspace about each file would take seconds with thousands of both.
pub(crate) fn files_of(catalog: &Catalog) -> (BTreeSet<TableId>, BTreeSet<BlobFileId>) {
    let states = || catalog.keyspaces.values();
    let tables = states().flat_map(|state| state.tables.keys().copied()).collect();
    let counted = if planted::is("blob-file-taken-for-an-orphan") { 1 } else { usize::MAX };
    let places = states().take(counted).flat_map(|state| state.tables.values());
    let uses = places.flat_map(|place| place.properties.blob_uses());
    (tables, uses.map(|one| one.facts.id).collect())
}

/// Whether the file `path`, which has our name for `id`, says that it belongs to a database other
/// than `database`: somebody has put it there. The header of an ingested table names its origin;
/// the record after its footer says whose it is.
fn is_foreign(fs: &dyn FileSystem, path: &Path, id: FileId, database: DatabaseId) -> bool {
    let Ok(file) = fs.open(path) else { return false };
    let adoption = || Adoption::of_file(&*file, database, TableId(id));
    header_of(&*file).is_some_and(|header| {
        header.database != database
            && (header.kind != FileKind::Table || adoption().is_ok_and(|it| it.is_none()))
    })
}

/// Whether the log segment `path` says that it belongs to `database`.
fn is_own_log(fs: &dyn FileSystem, path: &Path, database: DatabaseId) -> bool {
    let header = fs.open(path).ok().and_then(|file| header_of(&*file));
    header.is_some_and(|header| header.kind == FileKind::Log && header.database == database)
}

/// Whether the file in `dir` has an id that the manifest of `catalog` cannot have given out: ids are given
/// out only after the manifest has durably reserved them. A file that says that it is of another database
/// may have any.
pub(crate) fn is_beyond(
    fs: &dyn FileSystem,
    dir: &Path,
    (id, kind): (FileId, FileKind),
    catalog: &Catalog,
) -> bool {
    let (path, database) = (|| dir.join(id.file_name(kind)), catalog.database);
    let is_ours = || match kind {
        FileKind::Table | FileKind::Blob => {
            planted::is("foreign-table-is-ours") || !is_foreign(fs, &path(), id, database)
        }
        // In a separate log directory, files that may be somebody else's are left alone.
        FileKind::Log => {
            !planted::is("later-log-taken-for-an-orphan") && is_own_log(fs, &path(), database)
        }
        FileKind::Manifest | FileKind::Warm => false,
    };
    id.owner == OwnerId::FIRST && catalog.next_file_counter <= id.counter && is_ours()
}

fn header_of(file: &dyn File) -> Option<FileHeader> {
    let mut bytes = [0; FileHeader::LEN];
    file.read_exact_at(0, &mut bytes).ok()?;
    FileHeader::decode(&bytes).ok()
}

/// Where the files of a database are.
pub(crate) struct Places<'a> {
    pub(crate) fs: &'a dyn FileSystem,
    pub(crate) dir: &'a Path,
    pub(crate) log_dir: &'a Path,
}

/// The owner of a log segment that the manifest does not name, in a separate log directory.
enum Owner {
    /// This database, which has not finished creating it or has not removed it.
    Own,
    Other,
    /// Its header is damaged.
    Unknown,
}

impl Places<'_> {
    /// Checks that no other database has its log in a separate log directory.
    ///
    /// # Errors
    /// `InvalidInput` if there is a log of another database; errors of the file system.
    pub(crate) fn check_log_dir(&self, database: DatabaseId) -> Result<()> {
        if self.log_dir == self.dir {
            return Ok(());
        }
        for (path, id) in self.logs_apart()? {
            if matches!(self.owner(&path, id, database)?, Owner::Other) {
                return Err(Error::invalid_input(format!(
                    "{} is a log of another database: a log directory belongs to one",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Removes what `catalog` does not refer to, and all warm lists, which are no longer true from
    /// now on; `logs` are the recovered segments. Returns what could not be removed, and what was of
    /// another database. The former does no harm: no new file gets its name, and the next open tries
    /// again.
    ///
    /// # Errors
    /// Errors of the file system, if a directory cannot be listed.
    pub(crate) fn remove_orphans(
        &self,
        catalog: &Catalog,
        logs: &BTreeSet<LogId>,
    ) -> Result<Vec<Event>> {
        let mut told = Vec::new();
        let (tables, blobs) = files_of(catalog);
        let entries = self.fs.list(self.dir)?;
        self.remove_warm_lists(&entries);
        // A directory is not a file of the database, whatever its name.
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let named = FileId::parse_file_name(&entry.name);
            let is_orphan = match named {
                Some((_, FileKind::Warm)) => false,
                Some((id, FileKind::Table)) => !tables.contains(&TableId(id)),
                Some((id, FileKind::Log)) => !logs.contains(&LogId(id)),
                Some((id, FileKind::Blob)) => !blobs.contains(&BlobFileId(id)),
                // The manifest code removes its own files; foreign files are left alone.
                Some((_, FileKind::Manifest)) => false,
                None => is_unfinished_table(&entry.name),
            };
            if is_orphan {
                let path = self.dir.join(&entry.name);
                let is_foreign =
                    named.is_some_and(|(id, _)| is_foreign(self.fs, &path, id, catalog.database));
                let failed = self.remove(&path);
                if is_foreign && failed.is_none() {
                    told.push(Event::ForeignRemoved { file: entry.name });
                }
                told.extend(failed);
            }
        }
        if self.log_dir == self.dir {
            return Ok(told);
        }
        for (path, id) in self.logs_apart()? {
            if !logs.contains(&id) && matches!(self.owner(&path, id, catalog.database)?, Owner::Own)
            {
                told.extend(self.remove(&path));
            }
        }
        Ok(told)
    }

    /// Removes a file; returns an event if that fails.
    fn remove(&self, path: &Path) -> Option<Event> {
        let error = self.fs.remove(path).err().filter(|error| !error.is_not_found())?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(Event::RemoveFailed { file, error: error.into() })
    }

    /// Removes warm lists and unfinished ones. A list that cannot be removed has the id of a
    /// manifest that will no longer be the newest, so it is never used.
    fn remove_warm_lists(&self, entries: &[DirEntry]) {
        let is_list = |name: &str| {
            let kind = FileId::parse_file_name(name).map(|(_, kind)| kind);
            (kind == Some(FileKind::Warm) && !planted::is("warm-list-kept-at-open"))
                || WarmList::parse_unfinished(name).is_some()
        };
        for entry in entries.iter().filter(|entry| is_list(&entry.name)) {
            drop(self.fs.remove(&self.dir.join(&entry.name)));
        }
    }

    /// The log segments in the directory of the log.
    fn logs_apart(&self) -> Result<Vec<(PathBuf, LogId)>> {
        let entries = self.fs.list(self.log_dir)?.into_iter().filter(|entry| !entry.is_dir);
        let logs = entries.filter_map(|entry| match FileId::parse_file_name(&entry.name) {
            Some((id, FileKind::Log)) => Some((self.log_dir.join(&entry.name), LogId(id))),
            _ => None,
        });
        Ok(logs.collect())
    }

    fn owner(&self, path: &Path, id: LogId, database: DatabaseId) -> Result<Owner> {
        let mut bytes = [0; START_LEN];
        let file = self.fs.open(path)?;
        let file_len = file.len()?;
        let len = file_len.min(START_LEN as u64) as usize;
        file.read_exact_at(0, &mut bytes[..len]).map_err(FileError::from)?;
        // A power loss may leave a header that has changed the file length but whose bytes were not
        // written: the file then has that length, and its bytes can be anything, even the start of
        // a removed file.
        let is_bare = file_len == FileHeader::LEN as u64;
        Ok(match FileHeader::decode(&bytes) {
            Ok(header) if header.database == database => Owner::Own,
            Ok(header) if is_bare && (header.kind, header.id) != (FileKind::Log, id.0) => {
                Owner::Own
            }
            Ok(_) => Owner::Other,
            Err(_) if is_bare || is_begun(&bytes, id, database) => Owner::Own,
            Err(_) => Owner::Unknown,
        })
    }
}

/// Whether the file of that name was left by an interrupted repair.
fn is_unfinished_table(name: &str) -> bool {
    let table = name.strip_suffix(UNFINISHED_SUFFIX).and_then(FileId::parse_file_name);
    table.is_some_and(|(_, kind)| kind == FileKind::Table)
}

/// Whether `bytes` are what an interrupted write of the header of segment `id` may have left: over
/// zeros, or over the header of a segment of this database that was being reused.
fn is_begun(bytes: &[u8; START_LEN], id: LogId, database: DatabaseId) -> bool {
    let is_zero = |byte: &u8| *byte == 0;
    let written = bytes.len() - bytes.iter().rev().take_while(|byte| is_zero(byte)).count();
    let is_start_of = |format: u16| {
        let header = FileHeader { kind: FileKind::Log, format, id: id.0, database }.encode();
        header.get(..written).is_some_and(|start| bytes.starts_with(start))
    };
    (1..=LOG_FORMAT_NEWEST).any(is_start_of)
        || FileHeader::database_named_by(bytes) == Some(database)
}
