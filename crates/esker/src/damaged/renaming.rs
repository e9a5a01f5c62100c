//! Files under other names than they have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_env::{File, FileSystem, IoError};

use super::reading::Reading;

/// Other files in the place of some.
#[derive(Debug)]
pub(crate) struct Renaming {
    /// By the paths that are asked for.
    paths: BTreeMap<PathBuf, PathBuf>,
}

impl Renaming {
    /// Whoever opens a key of `paths` gets the file at its value.
    pub(crate) const fn new(paths: BTreeMap<PathBuf, PathBuf>) -> Self {
        Self { paths }
    }
}

impl Reading for Renaming {
    fn open(&self, inner: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>, IoError> {
        inner.open(self.paths.get(path).map_or(path, PathBuf::as_path))
    }
}
