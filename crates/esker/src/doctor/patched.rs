//! A file with another header than it has: for damaged ones, whose rest is checked by itself.
//!
//! Nothing is read ahead and nothing is kept, however long the file is. Everything else, the other files
//! of the directory included, is as the file system has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{
    Advice, DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space,
};

type Header = [u8; FileHeader::LEN];

/// The file system in which a file has another header for those who read it.
#[derive(Debug)]
pub(super) struct PatchedFileSystem {
    inner: Arc<dyn FileSystem>,
    path: PathBuf,
    header: Header,
}

impl PatchedFileSystem {
    /// `inner`, in which the file `path` starts with `header`.
    pub(super) fn new(inner: &Arc<dyn FileSystem>, path: &Path, header: Header) -> Self {
        Self { inner: Arc::clone(inner), path: path.to_path_buf(), header }
    }
}

impl FileSystem for PatchedFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let inner = self.inner.open(path)?;
        if path != self.path {
            return Ok(inner);
        }
        Ok(Arc::new(PatchedFile { inner, header: self.header }))
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

/// Opened for reading.
#[derive(Debug)]
struct PatchedFile {
    inner: Arc<dyn File>,
    header: Header,
}

impl File for PatchedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let count = self.inner.read_at(offset, buffer)?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let patch = self.header.get(at..).unwrap_or_default();
        buffer[..count].iter_mut().zip(patch).for_each(|(byte, patched)| *byte = *patched);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        self.inner.write_at(offset, bytes)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.inner.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.inner.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.inner.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.inner.truncate(len)
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn advise(&self, advice: Advice) {
        self.inner.advise(advice);
    }
}
