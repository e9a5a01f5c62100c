//! A file with another header than it has: for damaged ones, whose rest is checked by itself.
//!
//! Nothing is read ahead and nothing is kept, however long the file is. Everything else, the other files
//! of the directory included, is as the file system has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{Advice, File, FileSystem, IoError};

use super::reading::Reading;

type Header = [u8; FileHeader::LEN];

/// Another header for those who read the file.
#[derive(Debug)]
pub(super) struct Patch {
    path: PathBuf,
    header: Header,
}

impl Patch {
    /// The file `path` starts with `header`.
    pub(super) fn new(path: &Path, header: Header) -> Self {
        Self { path: path.to_path_buf(), header }
    }
}

impl Reading for Patch {
    fn open(&self, inner: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let inner = inner.open(path)?;
        if path != self.path {
            return Ok(inner);
        }
        Ok(Arc::new(PatchedFile { inner, header: self.header }))
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
