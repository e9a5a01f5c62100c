//! A lock file that keeps a second opener out, whether in another process or in this one.
//!
//! Across processes it is `flock`, which the kernel gives back when the holder ends, so that a
//! file left behind blocks nobody. Inside a process it is a registry of the files held, by device
//! and inode, so that a symbolic link does not get around it. The registry is asked before the
//! file is opened: where `flock` is emulated by record locks (NFS), closing a second handle would
//! give the lock of the first back. For the same reason all of a process share one handle.
//!
//! One who holds it alone writes his process id into the file, for the message of those who come
//! later, if there is room; those who share it take the last one out, if they may write. The file is
//! never removed: a third opener could then hold a lock on a new file of the same name.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::OpenOptions;
use super::file::SystemFile;
use crate::{FileLock, IoError, LockError, LockMode};

type Identity = (u64, u64);

/// A lock file that this process holds.
#[derive(Debug)]
struct Held {
    file: SystemFile,
    /// How many share it; none if one has it alone.
    sharers: usize,
}

/// The lock files that this process holds. Held across the system calls of [`take`], so that two
/// threads cannot pass it together.
static HELD: Mutex<BTreeMap<Identity, Held>> = Mutex::new(BTreeMap::new());

fn held() -> MutexGuard<'static, BTreeMap<Identity, Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(super) struct OsFileLock {
    identity: Identity,
}

impl FileLock for OsFileLock {}

impl Drop for OsFileLock {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(Held { sharers: sharers @ 2.., .. }) = held.get_mut(&self.identity) {
            *sharers -= 1;
        } else if let Some(lock) = held.remove(&self.identity) {
            // Not left to the closing of the file: a process that another thread is just starting
            // has a copy of the handle until it runs its program. What cannot be given back is
            // given back with the last copy.
            drop(lock.file.unlock());
        }
    }
}

pub(super) fn take(path: &Path, mode: LockMode) -> Result<OsFileLock, LockError> {
    let failed = |source| LockError::Io(IoError::new("lock", path, source));
    let mut held = held();
    match fs::metadata(path) {
        Ok(metadata) => {
            let identity = identity(&metadata);
            match (held.get_mut(&identity), mode) {
                (Some(Held { sharers: sharers @ 1.., .. }), LockMode::Shared) => {
                    *sharers += 1;
                    return Ok(OsFileLock { identity });
                }
                (Some(_), _) => return Err(LockError::Held(Some(std::process::id()))),
                (None, _) => {}
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let file = open(path, mode).map_err(failed)?;
    let tried = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match tried {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&file))),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let identity = identity(&file.metadata().map_err(failed)?);
    let sharers = match mode {
        LockMode::Exclusive => {
            // It is for a message: where the disk is full, whoever frees it may have to open first.
            drop(write_process_id(&file));
            0
        }
        LockMode::Shared => {
            // What an earlier holder left behind; it stays where nothing may be written.
            drop(file.set_len(0));
            1
        }
    };
    held.insert(identity, Held { file, sharers });
    Ok(OsFileLock { identity })
}

/// Who shares the lock needs no right to write.
fn open(path: &Path, mode: LockMode) -> io::Result<SystemFile> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(path) {
        Err(error)
            if mode == LockMode::Shared
                && matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            // Where the file is missing, that it cannot be made says more.
            let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
            let opened = OpenOptions::new().read(true).open(path);
            opened.map_err(|other| if missing(&other) { error } else { other })
        }
        opened => opened,
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn write_process_id(file: &SystemFile) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)
}

/// The process id in the file; `None` if it is not readable or the holder is just writing it.
fn holder(file: &SystemFile) -> Option<u32> {
    let mut text = [0; 16];
    let count = file.read_at(&mut text, 0).ok()?;
    let line = std::str::from_utf8(text.get(..count)?).ok()?.strip_suffix('\n')?;
    line.parse().ok()
}
