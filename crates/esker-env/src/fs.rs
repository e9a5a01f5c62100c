//! The file system as Esker uses it.
//!
//! The contract is that of POSIX, made explicit where POSIX is vague: a write is durable only
//! after a sync of its file, a name only after a sync of its directory, and a failed sync may have
//! lost any of the bytes that it covered.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::{FileWindow, IoError};

/// Opens, names and removes files.
pub trait FileSystem: Send + Sync + fmt::Debug + 'static {
    /// Creates `path` for reading and writing; fails if it exists.
    ///
    /// # Errors
    /// Of the system, including `AlreadyExists`.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// Of the system, `NotFound` among them.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Of the system, `NotFound` among them.
    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Renames the file `from` to `to`, replacing an existing file. Atomic; durable after a
    /// [`FileSystem::sync_dir`] of the directory.
    ///
    /// # Errors
    /// Of the system.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Gives the file `from` a second name, `to`, which must be free; both name the same bytes.
    /// Durable after a [`FileSystem::sync_dir`] of the directory.
    ///
    /// # Errors
    /// Of the system, including `AlreadyExists`, and if the names are on different file systems; if
    /// `from` is a symbolic link. A system without hard links refuses every call, and the caller
    /// then copies.
    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file's name. Handles that are open go on working.
    ///
    /// # Errors
    /// Of the system, `NotFound` among them.
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// Everything in a directory, in no particular order.
    ///
    /// # Errors
    /// Of the system, if the directory cannot be read. A problem with a single entry is reported in
    /// that entry.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError>;

    /// Whether `path` exists.
    ///
    /// # Errors
    /// Of the system; a `path` that does not exist is not an error.
    fn exists(&self, path: &Path) -> Result<bool, IoError>;

    /// Creates a directory and its parents, except those that exist. The names of created
    /// directories are durable when it returns.
    ///
    /// # Errors
    /// Of the system.
    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError>;

    /// Makes all changes of names in `dir` durable: created, renamed and removed files.
    ///
    /// # Errors
    /// Of the system.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Locks the lock file `path`, creating it if necessary, until the result is dropped or the
    /// process ends. Never waits. The file is never removed.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process, or another holder in this process, has it in a mode
    /// that conflicts with `mode`.
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError>;

    /// `path` in a form that does not depend on the working directory. Unchanged for file systems
    /// without a working directory.
    ///
    /// # Errors
    /// Of the system, if the working directory no longer exists; for an empty path.
    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        Ok(path.to_path_buf())
    }

    /// How much space the file system of `dir` has.
    ///
    /// # Errors
    /// Of the system.
    fn space(&self, dir: &Path) -> Result<Space, IoError>;
}

/// An open file. Reads and writes name their offset; there is no position.
pub trait File: Send + Sync + fmt::Debug {
    /// The path that the file was opened under, for messages.
    fn path(&self) -> &Path;

    /// Reads up to `buffer.len()` bytes at `offset`; may read fewer, but 0 only at the end.
    ///
    /// # Errors
    /// Of the system.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;

    /// As [`File::read_at`], but reads only what is available without waiting for the device;
    /// `None` if that is not even one byte. If the system cannot tell, this reads everything, and
    /// may wait.
    ///
    /// # Errors
    /// As [`File::read_at`].
    fn read_at_hand(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>, IoError> {
        self.read_at(offset, buffer).map(Some)
    }

    /// Announces that `len` bytes at `offset` will be read soon: the system may start to fetch
    /// them, without waiting. A hint: it may do nothing, and cannot fail.
    fn will_need(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Writes up to `bytes.len()` bytes at `offset`; may write fewer. Extends the file.
    ///
    /// # Errors
    /// Of the system; an unknown part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError>;

    /// Makes the contents durable, and the length if contents depend on it.
    ///
    /// # Errors
    /// Of the system. After an error, what was not durable before may be lost, even if a later sync
    /// succeeds; it must not be retried.
    fn sync_data(&self) -> Result<(), IoError>;

    /// As [`File::sync_data`], and all metadata.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_all(&self) -> Result<(), IoError>;

    /// Reserves space for `offset..offset + len`, which reads as zeros, and extends the file over
    /// it. Writing and overwriting there then needs no more space, provided that the first
    /// allocation is made while the file is empty: Btrfs has to be told at that time. Where the
    /// system cannot reserve space, zeros are written behind the end of the file, so nobody else may
    /// write there meanwhile.
    ///
    /// # Errors
    /// Of the system, including a lack of space.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError>;

    /// Truncates or extends the file to `len` bytes.
    ///
    /// # Errors
    /// Of the system.
    fn truncate(&self, len: u64) -> Result<(), IoError>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Of the system.
    fn len(&self) -> Result<u64, IoError>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> Result<bool, IoError> {
        Ok(self.len()? == 0)
    }

    /// Announces how the file will be used. A hint: it may do nothing, and cannot fail.
    fn advise(&self, advice: Advice);

    /// Announces that the bytes of `range` will not be read again soon: the system may drop those
    /// that are durable from the page cache. A hint, like [`File::advise`].
    fn forget(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Announces that the bytes of `range` are final: the system may start their writeback, without
    /// waiting, so that a later sync has less to wait for. A hint, like [`File::advise`].
    fn begin_sync(&self, range: Range<u64>) {
        let _ = range;
    }

    /// The first offset at or after `offset` that may hold data rather than space that was never
    /// written: everything in between reads as zeros. The length of the file, if nothing follows.
    ///
    /// # Cost
    /// One system call, which looks at no contents. If there is no such call, the answer is
    /// `offset`.
    fn data_from(&self, offset: u64) -> u64 {
        offset
    }

    /// The end of the written piece that contains `offset`: what follows was never written nor
    /// read, so that reading it would cost memory for the first time. `u64::MAX` if that is not
    /// known.
    fn data_end(&self, offset: u64) -> u64 {
        let _ = offset;
        u64::MAX
    }

    /// A window of `len` bytes at `offset`, a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES), to
    /// write through; `None` if none is available, which is not a failure: [`File::write_at`] does
    /// as well. What is written through a window counts as written by [`File::write_at`], and a
    /// sync of the file covers it. The file must not be truncated while the window is open.
    fn window(&self, offset: u64, len: usize) -> Option<FileWindow> {
        let _ = (offset, len);
        None
    }
}

/// Complete reads and writes, built on the partial ones of [`File`].
pub trait FileExt: File {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// Of the system; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        let mut done = 0;
        while done < buffer.len() {
            let count = self.read_at(offset + done as u64, &mut buffer[done..])?;
            if count == 0 {
                let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early");
                return Err(IoError::new("read", self.path(), end));
            }
            done += count;
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Of the system; an unknown part may have been written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let mut done = 0;
        while done < bytes.len() {
            let count = self.write_at(offset + done as u64, &bytes[done..])?;
            if count == 0 {
                let stuck = io::Error::new(io::ErrorKind::WriteZero, "nothing could be written");
                return Err(IoError::new("write", self.path(), stuck));
            }
            done += count;
        }
        Ok(())
    }
}

impl<F: File + ?Sized> FileExt for F {}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The name; bytes that are not UTF-8 are replaced, and no file of ours has any.
    pub name: String,
    /// Whether it is a directory, or anything else that is no regular file, as a pipe is: to open such
    /// a thing may be to wait for good.
    pub is_dir: bool,
    /// Length in bytes; 0 for what is no regular file, or if it is not known.
    pub len: u64,
    /// Why the length is not known, if it is not: the device cannot read the file's metadata.
    pub error: Option<IoError>,
}

/// How a file will be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Short reads here and there: no readahead.
    Random,
    /// Not needed again soon: the system may drop it from the page cache.
    DontNeed,
}

/// How much space a file system has, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free to this process.
    pub available: u64,
    /// In all.
    pub total: u64,
}

/// A held lock on a lock file; released when dropped.
pub trait FileLock: Send + Sync + fmt::Debug {}

/// How a lock file may be shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Nobody else.
    Exclusive,
    /// Others that share it.
    Shared,
}

/// Why a lock file could not be taken.
#[derive(Clone, Debug)]
pub enum LockError {
    /// It is held. The process id is what an exclusive holder wrote into the file, if that is
    /// readable; holders of a shared lock do not write theirs.
    Held(Option<u32>),
    /// The system refused.
    Io(IoError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Some(process)) => write!(f, "held by process {process}"),
            Self::Held(None) => f.write_str("held by another process"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

/// `path` without what does not change its meaning, where the root is the working directory: there are
/// no symbolic links.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}
