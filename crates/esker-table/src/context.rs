//! What all tables of a database share.

use std::path::PathBuf;
use std::sync::Arc;

use esker_base::DatabaseId;
use esker_cache::{BlockCache, Budget};
use esker_env::{Clock, FileSystem};

use crate::{BlobFiles, CachedBlock, Ownership};

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
    /// What resident indexes and readahead are charged to.
    pub budget: Arc<Budget>,
    /// What traced reads are timed by; not read otherwise.
    pub clock: Arc<dyn Clock>,
    /// The blob files that tables of this database hold.
    pub blobs: BlobFiles,
    /// Asked by whoever removes files by name.
    pub owned: Ownership,
}
