//! The file system of the operating system.
//!
//! Thin: every method is one or two system calls. It adds only the directory sync that makes names
//! durable, retries of calls that a signal interrupts, and a lock that also works within one
//! process.
//!
//! Written for Linux; other systems of the Unix family lack `fallocate` and `posix_fadvise`.

mod file;
mod lock;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};
use file::OsFile;

#[expect(clippy::disallowed_types, reason = "the one place that talks to the system")]
type OpenOptions = fs::OpenOptions;

/// The files of this machine.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsFileSystem;

impl OsFileSystem {
    /// The files of this machine.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

fn open(
    operation: &'static str,
    path: &Path,
    options: &OpenOptions,
) -> Result<Arc<dyn File>, IoError> {
    let file = options.open(path).map_err(|source| IoError::new(operation, path, source))?;
    Ok(Arc::new(OsFile::new(file, path)))
}

/// The directory that holds `path`; the working directory for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a name leads to no file: also if links form a cycle, or a path component is a file.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

impl FileSystem for OsFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        open("create", path, OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        // To open a pipe for reading is to wait for whoever writes to it.
        let failed = |source| IoError::new("open", path, source);
        let kind = fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
        }
        open("open", path, OpenOptions::new().read(true))
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        open("open for writing", path, OpenOptions::new().read(true).write(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        fs::rename(from, to).map_err(|source| IoError::new("rename", from, source))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let failed = |source| IoError::new("link", from, source);
        // The system would give the second name to the link itself.
        if fs::symlink_metadata(from).map_err(failed)?.is_symlink() {
            let what = "it is a symbolic link";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, what)));
        }
        fs::hard_link(from, to).map_err(failed)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        fs::remove_file(path).map_err(|source| IoError::new("remove", path, source))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let failed = |source| IoError::new("list", dir, source);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let (is_dir, len, error) = match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => (false, metadata.len(), None),
                Ok(_) => (true, 0, None),
                // Removed since the directory was read, or a dangling link.
                Err(error) if leads_nowhere(&error) => continue,
                // The directory itself says what it is.
                Err(error) => {
                    let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    (is_dir, 0, Some(IoError::new("look at", path, error)))
                }
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry { name, is_dir, len, error });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        match path.try_exists() {
            // A file stands where a directory of the path should.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            result => result.map_err(|source| IoError::new("look for", path, source)),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(dir).map_err(|source| IoError::new("create directory", dir, source))?;
        missing.iter().rev().try_for_each(|created| self.sync_dir(parent(created)))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let failed = |source| IoError::new("sync directory", dir, source);
        let handle = OpenOptions::new().read(true).open(dir).map_err(failed)?;
        // Not `File::sync_all`: the standard library repeats it when a signal interrupts.
        rustix::fs::fsync(&handle).map_err(|error| failed(error.into()))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        Ok(Box::new(lock::take(path, mode)?))
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        std::path::absolute(path).map_err(|source| IoError::new("find", path, source))
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        let room = rustix::fs::statvfs(dir)
            .map_err(|error| IoError::new("measure the space of", dir, error.into()))?;
        Ok(Space {
            available: room.f_bavail.saturating_mul(room.f_frsize),
            total: room.f_blocks.saturating_mul(room.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests;
