//! The manifest as the database uses it: durable edits, and ids that are never reused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use esker_base::{Corruption, DatabaseId, FileId, FileKind, LogId, ManifestId, OwnerId, TableId};
use esker_env::FileError;
use esker_tree::{Catalog, EditRecord, Manifest, RunId, VersionEdit};

use crate::error::{Error, ErrorKind, Result, panic_message};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The manifest behind its lock, and the counter that file ids come from.
///
/// Ids are reserved durably, many at a time, before they are handed out, so that the id of a file
/// that a crash removed is never given out again.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Lock order: see [`Engine`](crate::engine::Engine). Held across the write and sync of the
    /// manifest; readers of data never take it.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Writable(Box<Writer>),
    ReadOnly(Catalog),
    /// The catalog as of the close of the database.
    Closed(Catalog),
}

#[derive(Debug)]
struct Writer {
    manifest: Manifest,
    /// Next counter to hand out.
    next: u64,
    /// Counters below this are reserved durably.
    reserved: u64,
    /// The last append failed: the file may or may not have the edit, so the manifest must continue
    /// in a new file without it.
    needs_restart: bool,
}

/// How many ids one edit reserves. A flush or compaction rarely needs more than a few dozen.
const RESERVATION: u64 = 256;

/// Largest next counter with which a database is opened, so that the counter cannot overflow while
/// it is open.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// No file of a database has a counter above this: there will never be that many files.
const COUNTER_ON_DISK_MAX: u64 = COUNTER_MAX / 2;

/// The first counter that no file of a database has: beyond `known`, which is what its manifests
/// say may have been given out, and beyond all of `files`. (Warm lists have the ids of manifests.)
///
/// # Errors
/// `Corruption` if there is none, or if the counter of one of `files` is too large to be of the
/// database: counting on from there would soon run out.
pub(crate) fn first_free_counter(
    known: u64,
    files: impl Iterator<Item = (FileId, FileKind)>,
) -> std::result::Result<u64, Corruption> {
    let counts = |(_, kind): &(FileId, FileKind)| *kind != FileKind::Warm;
    let next = match files.filter(counts).max_by_key(|(id, _)| id.counter) {
        Some((id, kind)) if COUNTER_ON_DISK_MAX < id.counter => {
            let what = "no database gives a file this number: somebody has put it there";
            return Err(Corruption::new(id.file_name(kind), 0, what));
        }
        Some((id, _)) => known.max(id.counter + 1),
        None => known,
    };
    if COUNTER_MAX < next {
        let what = format!("files have numbers up to {next}: none is left");
        return Err(Corruption::new("manifest", 0, what));
    }
    Ok(next)
}

impl Ledger {
    /// A ledger for `manifest`. No file has the counter `next` or a larger one.
    pub(crate) fn new(manifest: Manifest, next: u64) -> Self {
        let writer = Writer { manifest, next, reserved: next, needs_restart: false };
        Self { state: Mutex::new(State::Writable(Box::new(writer))) }
    }

    /// A ledger for a database that was opened for reading.
    pub(crate) fn read_only(catalog: Catalog) -> Self {
        Self { state: Mutex::new(State::ReadOnly(catalog)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that no file of this database has had.
    ///
    /// # Errors
    /// If ids must be reserved and the manifest cannot be written.
    pub(crate) fn allocate(&self) -> Result<FileId> {
        let mut state = self.lock();
        let writer = state.writer()?;
        if writer.next == writer.reserved {
            writer.append(&writer.reserve(VersionEdit::default()))?;
        }
        Ok(writer.mint())
    }

    pub(crate) fn allocate_table(&self) -> Result<TableId> {
        self.allocate().map(TableId)
    }

    pub(crate) fn allocate_log(&self) -> Result<LogId> {
        self.allocate().map(LogId)
    }

    pub(crate) fn allocate_run(&self) -> Result<RunId> {
        self.allocate().map(|id| RunId(id.counter))
    }

    /// A counter above those of all ids given out so far.
    pub(crate) fn next_counter(&self) -> Result<u64> {
        Ok(self.lock().writer()?.next)
    }

    /// Makes `edit` durable, then runs `install` before any other edit can follow.
    ///
    /// # Errors
    /// If the manifest cannot be written. The edit is then not installed, but the manifest file may
    /// contain it until a later call has started a new one, so files that the edit names must not
    /// be removed.
    pub(crate) fn commit<T>(
        &self,
        edit: VersionEdit,
        install: impl FnOnce(&Catalog) -> T,
    ) -> Result<T> {
        let installed = self.commit_if(|_| true, edit, install)?;
        Ok(installed.expect("the condition holds always"))
    }

    /// As [`Ledger::commit`], but only if `condition` holds, checked when no other edit can
    /// intervene; `None` otherwise. What `edit` says of segments that are no longer in the manifest is
    /// left out.
    pub(crate) fn commit_if<T>(
        &self,
        condition: impl FnOnce(&Catalog) -> bool,
        mut edit: VersionEdit,
        install: impl FnOnce(&Catalog) -> T,
    ) -> Result<Option<T>> {
        let mut state = self.lock();
        let writer = state.writer()?;
        let catalog = writer.manifest.catalog();
        if !condition(catalog) {
            return Ok(None);
        }
        // A segment may have been released since it was looked at.
        edit.records.retain(|record| match record {
            EditRecord::LogDurable { log, .. } => catalog.logs.contains(log),
            _ => true,
        });
        let wants_ids = writer.reserved - writer.next < RESERVATION / 2;
        let edit = if wants_ids { writer.reserve(edit) } else { edit };
        // All that it said may have been of released segments.
        if !edit.records.is_empty() {
            writer.append(&edit)?;
        }
        Ok(Some(install(writer.manifest.catalog())))
    }

    /// Makes sure that no failed edit comes back at a later open.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub(crate) fn settle(&self) -> Result<()> {
        self.lock().writer()?.settle()
    }

    /// Calls `look` with the catalog as of the last edit.
    pub(crate) fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        match &*self.lock() {
            State::Writable(writer) => look(writer.manifest.catalog()),
            State::ReadOnly(catalog) | State::Closed(catalog) => look(catalog),
        }
    }

    /// The edit by which the manifest records that log segments are durable up to `ends`, where it
    /// differs.
    pub(crate) fn changed_ends(&self, ends: &[(LogId, u64)]) -> VersionEdit {
        self.with_catalog(|catalog| changed_ends(ends, catalog))
    }

    /// Ends the manifest of a database that is being closed, so that any damage or truncation is
    /// noticed; it records that log segments are durable up to `ends`. No more edits are accepted.
    /// Returns the id of the manifest.
    pub(crate) fn end(&self, ends: &[(LogId, u64)]) -> Result<ManifestId> {
        let mut state = self.lock();
        let writer = state.writer()?;
        writer.settle()?;
        // Under the lock: a flush on a user's thread may just have removed one of them.
        let edit = changed_ends(ends, writer.manifest.catalog());
        let mut next = writer.next;
        let result = as_result(|| {
            writer.manifest.close(&edit, || {
                next += 1;
                ManifestId(file_id(next - 1))
            })
        });
        writer.next = next;
        // The manifest that ends here may have been begun: an edit in the one before would be lost.
        writer.needs_restart = result.is_err();
        result?;
        let id = writer.manifest.id();
        state.close();
        Ok(id)
    }

    /// Accepts no more edits: from now on the directory belongs to somebody else.
    pub(crate) fn close(&self) {
        self.lock().close();
    }

    pub(crate) fn database(&self) -> DatabaseId {
        self.with_catalog(|catalog| catalog.database)
    }
}

impl State {
    fn writer(&mut self) -> Result<&mut Writer> {
        match self {
            Self::Writable(writer) => Ok(writer),
            Self::ReadOnly(_) => Err(Error::read_only()),
            Self::Closed(_) => Err(Error::closed()),
        }
    }

    fn close(&mut self) {
        if let Self::Writable(writer) = self {
            *self = Self::Closed(writer.manifest.catalog().clone());
        }
    }
}

/// As [`Ledger::changed_ends`]. Ignores segments that `catalog` does not name.
fn changed_ends(ends: &[(LogId, u64)], catalog: &Catalog) -> VersionEdit {
    let is_new = |(log, end): &&(LogId, u64)| {
        catalog.logs.contains(log) && catalog.durable_logs.get(log) != Some(end)
    };
    let changed = ends.iter().filter(is_new);
    changed.map(|&(log, offset)| EditRecord::LogDurable { log, offset }).collect()
}

impl Writer {
    /// Adds a reservation of ids to `edit`; it takes effect once the edit is durable.
    fn reserve(&self, mut edit: VersionEdit) -> VersionEdit {
        edit.records.push(EditRecord::NextFileCounter(self.next + RESERVATION));
        edit
    }

    /// Starts a new manifest if the last append failed.
    fn settle(&mut self) -> Result<()> {
        if self.needs_restart {
            let id = ManifestId(self.mint());
            as_result(|| self.manifest.restart(id))?;
            self.needs_restart = false;
        }
        Ok(())
    }

    fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        self.settle()?;
        let Self { manifest, next, needs_restart, .. } = self;
        let result = as_result(|| {
            manifest.append(edit, || {
                *next += 1;
                ManifestId(file_id(*next - 1))
            })
        });
        self.reserved = self.manifest.catalog().next_file_counter.max(self.next);
        *needs_restart = result.is_err() && !esker_base::planted::is("panicked-edit-forgotten");
        result
    }

    fn mint(&mut self) -> FileId {
        let id = file_id(self.next);
        self.next += 1;
        self.reserved = self.reserved.max(self.next);
        id
    }
}

/// The result of `write`. A panic in it, of a file system that is the user's own, is an error, so that
/// every caller treats the edit as one that may be in the file.
fn as_result(write: impl FnOnce() -> std::result::Result<(), FileError>) -> Result<()> {
    if esker_base::planted::is("panic-of-an-edit-goes-through") {
        return Ok(write()?);
    }
    catch_unwind(AssertUnwindSafe(write)).map_or_else(
        |panic| {
            let message = panic_message(&*panic);
            Err(Error::new(ErrorKind::Io, format!("the write of the manifest panicked: {message}")))
        },
        |result| Ok(result?),
    )
}

const fn file_id(counter: u64) -> FileId {
    FileId { owner: OwnerId::FIRST, counter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_counter_is_behind_all_that_were_given_and_never_overflows() {
        let file = |counter| (file_id(counter), FileKind::Table);
        let first = |known, files: &[u64]| {
            first_free_counter(known, files.iter().copied().map(file)).map_err(|e| e.to_string())
        };
        assert_eq!(first(7, &[]).unwrap(), 7);
        assert_eq!(first(7, &[3]).unwrap(), 7);
        assert_eq!(first(7, &[3, 9, 8]).unwrap(), 10);
        assert!(first(7, &[u64::MAX]).unwrap_err().contains("1-18446744073709551615.table"));
        assert!(first(7, &[u64::MAX - 1]).unwrap_err().contains("somebody has put it there"));
        assert_eq!(first(7, &[COUNTER_ON_DISK_MAX]).unwrap(), COUNTER_ON_DISK_MAX + 1);
        assert!(first(u64::MAX, &[3]).unwrap_err().contains("none is left"));
        assert_eq!(first(COUNTER_MAX, &[3]).unwrap(), COUNTER_MAX);
    }
}
