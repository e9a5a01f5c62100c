//! A file system on which a sync of a directory that has failed is not tried again.
//!
//! What a failed sync should have stored, a later one may pass over and report success (Rebello et al., "Can
//! Applications Recover from fsync Failures?", 2020). New tables, log segments and manifests are pending in
//! one directory at once, so the sync of one may report the loss of another's name. After that nothing may
//! rely on a name any more, until a reopen finds out which there are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use esker_env::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};

use crate::error::Error;
use crate::sync::{Mutex, PoisonError};

/// `inner`, on which each sync of a directory fails once one of that directory has failed by the device.
#[derive(Debug)]
pub(crate) struct DirectorySyncs {
    inner: Arc<dyn FileSystem>,
    /// What failed first, of each directory.
    failed: Mutex<Vec<(PathBuf, IoError)>>,
    /// Where the database looks for why it must not be written to.
    poison: Arc<OnceLock<Error>>,
}

impl DirectorySyncs {
    pub(crate) fn new(inner: Arc<dyn FileSystem>, poison: Arc<OnceLock<Error>>) -> Self {
        Self { inner, failed: Mutex::default(), poison }
    }
}

impl FileSystem for DirectorySyncs {
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        if esker_base::planted::is("failed-directory-sync-retried") {
            return self.inner.sync_dir(dir);
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = failed.iter().find(|(of, _)| of == dir) {
            return Err(error.clone());
        }
        drop(failed);
        let result = self.inner.sync_dir(dir);
        if let Err(error) = &result
            && error.is_of_the_device()
        {
            failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.push((dir.to_path_buf(), error.clone()));
            self.poison.get_or_init(|| error.clone().into());
        }
        result
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.open(path)
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.open_for_write(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.inner.create_dir_all(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.inner.lock(path, mode)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        self.inner.absolute(path)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.inner.space(dir)
    }
}
