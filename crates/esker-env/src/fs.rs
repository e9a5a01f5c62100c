//! The file system as Esker uses it.
//!
//! The contract is that of POSIX, made explicit where POSIX is vague: a write is durable only
//! after a sync of its file, a name only after a sync of its directory, and a failed sync may have
//! lost any of the bytes that it covered.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{FileWindow, IoError};

/// Opens, names and removes files.
pub trait FileSystem: Send + Sync + fmt::Debug + 'static {
    /// Creates `path` for reading and writing; fails if it exists.
    ///
    /// # Errors
    /// Of the system, `AlreadyExists` among them.
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

    /// Gives the file `from` the name `to`, replacing what had it. Atomic; durable after a
    /// [`FileSystem::sync_dir`] of the directory.
    ///
    /// # Errors
    /// Of the system.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Gives the file `from` a second name, `to`, which must be free; both name the same bytes.
    /// Durable after a [`FileSystem::sync_dir`] of the directory.
    ///
    /// # Errors
    /// Of the system: `AlreadyExists`, and that the names lie on two file systems, among them; that `from`
    /// is a symbolic link. A system that has no second names refuses every call; the caller copies then.
    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file's name. Handles that are open go on working.
    ///
    /// # Errors
    /// Of the system, `NotFound` among them.
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// Everything in a directory, in no particular order.
    ///
    /// # Errors
    /// Of the system, if the directory cannot be read. What cannot be said of one entry is told of
    /// that one.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError>;

    /// Whether `path` exists.
    ///
    /// # Errors
    /// Of the system; that `path` does not exist is not one.
    fn exists(&self, path: &Path) -> Result<bool, IoError>;

    /// Creates a directory and those above it; one that exists is left alone. The names of those
    /// that it creates are durable when it returns.
    ///
    /// # Errors
    /// Of the system.
    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError>;

    /// Makes the names in `dir` durable: created, renamed and removed.
    ///
    /// # Errors
    /// Of the system.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Takes the lock file `path`, creating it if need be; held until the result is dropped or the
    /// process ends. Never waits. The file is never removed.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process, or another holder in this process, has it in a way
    /// that `mode` does not go with.
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError>;

    /// `path`, so that it leads to the same place wherever the process goes. As it is where nothing
    /// has a working directory.
    ///
    /// # Errors
    /// Of the system, where there is no working directory any more; for an empty path.
    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        Ok(path.to_path_buf())
    }

    /// How much room the file system that holds `dir` has.
    ///
    /// # Errors
    /// Of the system.
    fn space(&self, dir: &Path) -> Result<Space, IoError>;
}

/// An open file. Reads and writes name their offset; there is no position.
pub trait File: Send + Sync + fmt::Debug {
    /// The path that the file was opened under, for messages.
    fn path(&self) -> &Path;

    /// Reads up to `buffer.len()` bytes at `offset`; fewer at any time, 0 only at the end.
    ///
    /// # Errors
    /// Of the system.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;

    /// As [`File::read_at`] of what can be had without waiting for the device; `None` if that is
    /// not even one byte. Where a system cannot tell, everything is at hand, and this may wait.
    ///
    /// # Errors
    /// As [`File::read_at`].
    fn read_at_hand(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>, IoError> {
        self.read_at(offset, buffer).map(Some)
    }

    /// Says that `len` bytes at `offset` will be read soon: the system may start to fetch them, and
    /// does not wait for them. A hint: it may do nothing, and it cannot fail.
    fn will_need(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Writes up to `bytes.len()` bytes at `offset`; fewer at any time. Extends the file.
    ///
    /// # Errors
    /// Of the system; an unknown part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError>;

    /// Makes the contents durable, and the length where contents depend on it.
    ///
    /// # Errors
    /// Of the system. After one, what was not durable before may be lost, even if a later sync
    /// succeeds; it must not be retried.
    fn sync_data(&self) -> Result<(), IoError>;

    /// As [`File::sync_data`], and all metadata.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_all(&self) -> Result<(), IoError>;

    /// Reserves room for `offset..offset + len`, reading as zeros, and extends the file over it. What
    /// is written there, and written over, needs no more room, where an empty file is given its first:
    /// Btrfs has to be told then. A file system that cannot reserve may do nothing.
    ///
    /// # Errors
    /// Of the system, no space among them.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError>;

    /// Cuts or extends the file to `len` bytes.
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

    /// Says how the file will be used. A hint: it may do nothing, and it cannot fail.
    fn advise(&self, advice: Advice);

    /// Says that the bytes of `range` are not read again soon: the system may drop its copy of
    /// those that are durable. A hint, as [`File::advise`] is.
    fn forget(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Says that the bytes of `range` are as they will stay: the system may begin to bring them to the
    /// device, so that a later sync waits for less, and this does not wait for them. A hint, as
    /// [`File::advise`] is.
    fn begin_sync(&self, range: Range<u64>) {
        let _ = range;
    }

    /// The first offset from `offset` on that may hold something else than room which was never
    /// written: all before it reads as zeros. The length of the file, if nothing follows.
    ///
    /// # Cost
    /// One call of the system, which looks at no contents. Where there is no such call the answer is
    /// `offset`.
    fn data_from(&self, offset: u64) -> u64 {
        offset
    }

    /// Where the written piece ends that `offset` lies in: what follows was never written and not read
    /// either, so that a read of it would be the first to cost memory. The largest number there is,
    /// where that is not known.
    fn data_end(&self, offset: u64) -> u64 {
        let _ = offset;
        u64::MAX
    }

    /// A window of `len` bytes at `offset`, a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES), to
    /// write through; `None` if there is none to be had, which is no failure: writes do as well.
    /// What is written through it counts as written by [`File::write_at`], and a sync of the file
    /// covers it. The file must not be cut shorter while the window is open.
    fn window(&self, offset: u64, len: usize) -> Option<FileWindow> {
        let _ = (offset, len);
        None
    }
}

/// Whole reads and writes, over the partial ones of [`File`].
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
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes, 0 for a directory, and where it is not known.
    pub len: u64,
    /// Why the length is not known, if it is not: the device does not give what it has of the file.
    pub error: Option<IoError>,
}

/// How a file will be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Short reads here and there: no readahead.
    Random,
    /// Not soon again: the system may drop its copy.
    DontNeed,
}

/// How much room a file system has, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free to this process.
    pub available: u64,
    /// In all.
    pub total: u64,
}

/// A lock file held; given back when dropped.
pub trait FileLock: Send + Sync + fmt::Debug {}

/// Who may hold a lock file together.
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
    /// Somebody has it: the process id that the one holder wrote into the file, where it is
    /// readable. Those who share a lock do not write theirs.
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
