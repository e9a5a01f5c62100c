//! A file system wrapper that replaces how files opened for reading are read.
//!
//! Everything else goes to the wrapped file system. Does not know what the replacement does.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use esker_env::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};

/// How files are read.
pub(crate) trait Reading: fmt::Debug + Send + Sync + 'static {
    /// Opens a file of `inner` for reading.
    ///
    /// # Errors
    /// Of the system.
    fn open(&self, inner: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>, IoError>;
}

/// `inner`, with files opened for reading read through `reading`.
#[derive(Debug)]
pub(crate) struct ReadingFileSystem<R> {
    inner: Arc<dyn FileSystem>,
    reading: R,
}

impl<R: Reading> ReadingFileSystem<R> {
    pub(crate) fn new(inner: &Arc<dyn FileSystem>, reading: R) -> Self {
        Self { inner: Arc::clone(inner), reading }
    }
}

impl<R: Reading> FileSystem for ReadingFileSystem<R> {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.reading.open(&*self.inner, path)
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

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.inner.lock(path, mode)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.inner.space(dir)
    }
}
