//! A lock file that keeps a second opener out, whether in another process or in this one.
//!
//! Across processes it is `flock`, which the kernel gives back when the holder ends, so that a
//! file left behind blocks nobody. Inside a process it is a registry of the files held, by device
//! and inode, so that a symbolic link does not get around it. The registry is asked before the
//! file is opened: where `flock` is emulated by record locks (NFS), closing a second handle would
//! give the lock of the first back.
//!
//! The holder writes its process id into the file, for the message of those who come later. The
//! file is never removed: a third opener could then hold a lock on a new file of the same name.

use std::collections::BTreeSet;
use std::fs::{self, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::OpenOptions;
use super::file::SystemFile;
use crate::{FileLock, IoError, LockError};

type Identity = (u64, u64);

/// The lock files that this process holds. Held across the system calls of [`take`], so that two
/// threads cannot pass it together.
static HELD: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<Identity>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(super) struct OsFileLock {
    file: SystemFile,
    identity: Identity,
}

impl FileLock for OsFileLock {}

impl Drop for OsFileLock {
    fn drop(&mut self) {
        let mut held = held();
        // Not left to the closing of the file: a process that another thread is just starting has
        // a copy of the handle until it runs its program. What cannot be given back is given back
        // with the last copy.
        drop(self.file.unlock());
        held.remove(&self.identity);
    }
}

pub(super) fn take(path: &Path) -> Result<OsFileLock, LockError> {
    let failed = |source| LockError::Io(IoError::new("lock", path, source));
    let mut held = held();
    match fs::metadata(path) {
        Ok(metadata) if held.contains(&identity(&metadata)) => {
            return Err(LockError::Held(Some(std::process::id())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&file))),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let identity = identity(&file.metadata().map_err(failed)?);
    write_process_id(&file).map_err(failed)?;
    held.insert(identity);
    Ok(OsFileLock { file, identity })
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
