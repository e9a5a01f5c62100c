//! A file with a replaced header: for damaged headers, so that the rest can be checked.
//!
//! Nothing is read ahead or cached, however long the file is. Everything else, including the other
//! files of the directory, is as in the file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{Advice, File, FileError, FileExt as _, FileSystem, IoError};

use super::reading::{Reading, ReadingFileSystem};

type Header = [u8; FileHeader::LEN];

/// If the header of `path` does not decode: a file system in which it has the header that `due` says.
/// What follows a header is checked separately.
///
/// # Errors
/// Of the system, and those of `due`.
pub(crate) fn with_header(
    fs: &Arc<dyn FileSystem>,
    path: &Path,
    due: impl FnOnce(&dyn File) -> Result<FileHeader, FileError>,
) -> Result<Option<Arc<dyn FileSystem>>, FileError> {
    let file = fs.open(path)?;
    let mut header = [0; FileHeader::LEN];
    if file.len()? < header.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(0, &mut header)?;
    if FileHeader::decode(&header).is_ok() {
        return Ok(None);
    }
    let patch = Patch { path: path.to_path_buf(), header: due(&*file)?.encode() };
    Ok(Some(Arc::new(ReadingFileSystem::new(fs, patch))))
}

/// Another header for readers of the file.
#[derive(Debug)]
struct Patch {
    path: PathBuf,
    header: Header,
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

/// A file opened for reading.
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

    fn data_from(&self, offset: u64) -> u64 {
        let is_in_header = offset < self.header.len() as u64;
        if is_in_header { offset } else { self.inner.data_from(offset) }
    }
}
