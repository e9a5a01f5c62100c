//! The files that a dry run would write: in memory, as an overlay over the real ones.
//!
//! Every change is made in memory, so nothing on disk changes. Of values, only what a repair depends on
//! is kept, so memory is needed for the keys. Does not know what the files mean.

use std::path::Path;
use std::sync::Arc;

use esker_base::{EXPIRY_LEN, EntryKind};
use esker_env::{
    DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, MemoryFileSystem, Space,
};

/// The part of a value that a repair depends on: references to blob files, and times of expiry.
pub(super) fn outlined(kind: EntryKind, value: &[u8]) -> &[u8] {
    match kind {
        EntryKind::BlobReference => value,
        EntryKind::ExpiringPut => &value[..value.len().min(EXPIRY_LEN)],
        _ => &[],
    }
}

/// `inner`, with new files in memory.
#[derive(Debug)]
pub(super) struct Scratch {
    inner: Arc<dyn FileSystem>,
    made: MemoryFileSystem,
}

impl Scratch {
    /// An overlay over the files of `inner`, with room for new ones in `dir`.
    pub(super) fn over(inner: &Arc<dyn FileSystem>, dir: &Path) -> Result<Self, IoError> {
        let made = MemoryFileSystem::new(0);
        made.create_dir_all(dir)?;
        Ok(Self { inner: Arc::clone(inner), made })
    }
}

impl FileSystem for Scratch {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.made.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        if self.made.exists(path)? { self.made.open(path) } else { self.inner.open(path) }
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.made.open_for_write(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.made.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.made.link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.made.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.made.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.made.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.made.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.made.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.made.lock(path, mode)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.inner.space(dir)
    }
}
