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
    /// The budget to which resident indexes and readahead are charged.
    pub budget: Arc<Budget>,
    /// The clock for traced reads; not used otherwise.
    pub clock: Arc<dyn Clock>,
    /// The blob files that tables of this database hold.
    pub blobs: BlobFiles,
    /// To be asked before files are removed by name.
    pub owned: Ownership,
}
