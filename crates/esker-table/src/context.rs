//! What all tables of a database share.

use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{BlobFileId, DatabaseId};
use esker_cache::{BlockCache, Budget};
use esker_env::{Clock, FileError, FileSystem};

use crate::blob_file::RawBlobFile;
use crate::table_file::TableFile;
use crate::{BlobFiles, CachedBlock, Ownership, TableProperties};

/// What all tables of a database share.
#[derive(Clone, Debug)]
pub struct TableContext {
    /// Where the files are.
    pub fs: Arc<dyn FileSystem>,
    /// The directory of the database.
    pub dir: PathBuf,
    /// The database that every file must belong to.
    pub database: DatabaseId,
    /// Where blocks are cached.
    pub cache: Arc<BlockCache<CachedBlock>>,
    /// The budget to which resident indexes and readahead are charged.
    pub budget: Arc<Budget>,
    /// The clock for traced reads; not used otherwise.
    pub clock: Arc<dyn Clock>,
    /// The blob files that tables of this database hold.
    pub blobs: BlobFiles,
    /// To be asked before files are removed by name.
    pub owned: Ownership,
}

impl TableContext {
    /// Checks that the file of the table that the manifest describes so is there, and says in its
    /// header that it is that table of this database, or the one that this database has taken over.
    ///
    /// # Errors
    /// Of the file system, including `NotFound`; `Corruption` if it is another file or its header is
    /// damaged; `UnsupportedFormat` if a newer release wrote it.
    ///
    /// # Cost
    /// Opens the file, and reads its header.
    pub fn check_table(&self, known: &TableProperties) -> Result<(), FileError> {
        TableFile::check_start(&*self.fs, &self.dir, self.database, known)
    }

    /// The same for blob file `id`.
    ///
    /// # Errors
    /// As of [`TableContext::check_table`].
    pub fn check_blob_file(&self, id: BlobFileId) -> Result<(), FileError> {
        RawBlobFile::open_checked(&*self.fs, &self.dir, self.database, id).map(|_| ())
    }
}
