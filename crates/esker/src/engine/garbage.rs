//! Tables and blob files that no version refers to any more, until their last reader releases them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use esker_base::{BlobFileId, FileId, FileKind, planted};
use esker_table::{BlobFile, Table, TableProperties};
use esker_tree::Version;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Tables removed from the manifest, and blob files that its tables no longer refer to, whose files
/// may still be read.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    files: Mutex<Vec<(FileId, Held)>>,
    /// Length of `files`, so that readers can look without the lock. Counter only.
    count: AtomicUsize,
    /// Tables of failed edits: the manifest may name them until it is rewritten.
    doubtful: Mutex<Vec<Arc<TableProperties>>>,
}

/// What readers hold. A blob file is held by the tables that refer to it.
#[derive(Debug)]
enum Held {
    Table(Weak<Table>),
    Blob(Weak<BlobFile>),
}

impl Held {
    fn by_anyone(&self) -> bool {
        match self {
            Self::Table(table) => {
                table.strong_count() != 0 && !planted::is("table-removed-under-reader")
            }
            Self::Blob(file) => {
                file.strong_count() != 0 && !planted::is("blob-file-removed-under-reader")
            }
        }
    }

    const fn kind(&self) -> FileKind {
        match self {
            Self::Table(_) => FileKind::Table,
            Self::Blob(_) => FileKind::Blob,
        }
    }
}

impl Garbage {
    /// Takes over `tables`, which the manifest no longer names.
    pub(crate) fn add<'a>(&self, tables: impl Iterator<Item = &'a Arc<Table>>) {
        self.extend(
            tables.map(|table| (table.properties().id.0, Held::Table(Arc::downgrade(table)))),
        );
    }

    /// Takes over `blobs`, which no table of the manifest refers to any more. Called once for each
    /// file.
    pub(crate) fn add_blobs<'a>(&self, blobs: impl Iterator<Item = &'a Arc<BlobFile>>) {
        self.extend(blobs.map(|file| (file.facts().id.0, Held::Blob(Arc::downgrade(file)))));
    }

    fn extend(&self, files: impl Iterator<Item = (FileId, Held)>) {
        let mut list = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(files);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Takes over `tables` of a failed edit.
    pub(crate) fn doubt(&self, tables: impl IntoIterator<Item = Arc<TableProperties>>) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).extend(tables);
    }

    /// Removes and returns what was given to [`Garbage::doubt`].
    pub(crate) fn take_doubtful(&self) -> Vec<Arc<TableProperties>> {
        std::mem::take(&mut *self.doubtful.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Removes and returns the files that nobody holds.
    pub(crate) fn take_unreferenced(&self) -> Vec<(FileId, FileKind)> {
        let mut list = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = Vec::new();
        list.retain(|(id, held)| {
            let is_held = held.by_anyone();
            if !is_held {
                free.push((*id, held.kind()));
            }
            is_held
        });
        self.count.store(list.len(), Ordering::Relaxed);
        free
    }
}

/// The blob files that the tables of `version` refer to.
pub(crate) fn blob_files(version: &Version) -> BTreeMap<BlobFileId, &Arc<BlobFile>> {
    let files = version.tables().flat_map(|table| table.blob_files());
    files.map(|file| (file.facts().id, file)).collect()
}
