//! An open file in memory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Shared;
use super::world::{DataAction, Inode};
use crate::{Advice, File, IoError};

pub(super) struct MemoryFile {
    pub(super) shared: Arc<Shared>,
    pub(super) inode: Arc<Inode>,
    pub(super) path: PathBuf,
    pub(super) is_writable: bool,
}

impl MemoryFile {
    /// Makes a change that leaves the file at least `len` bytes long.
    fn change(&self, operation: &'static str, len: u64, action: DataAction) -> Result<(), IoError> {
        let refuse = |kind| IoError::new(operation, &self.path, io::Error::from(kind));
        if !self.is_writable {
            return Err(refuse(io::ErrorKind::PermissionDenied));
        }
        // Shared with other changes, so that only a copy of the world stops them all.
        let world = self.shared.read();
        if let Some(capacity) = world.capacity_bytes {
            let growth = len.saturating_sub(self.inode.data().live.len());
            if growth != 0 && capacity < world.used_bytes().saturating_add(growth) {
                return Err(refuse(io::ErrorKind::StorageFull));
            }
        }
        let mut data = self.inode.data();
        data.change(self.shared.next_order(), action);
        Ok(())
    }

    fn sync(&self) {
        let _world = self.shared.read();
        self.inode.data().sync();
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({})", self.path.display())
    }
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let _world = self.shared.read();
        // A copy of the page list, so that readers do not wait for each other's copying.
        let live = self.inode.data().live.clone();
        Ok(live.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        let end = offset + bytes.len() as u64;
        self.change("write", end, DataAction::Write { offset, bytes: Arc::from(bytes) })?;
        Ok(bytes.len())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync();
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync();
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        let end = offset + len;
        self.change("allocate", end, DataAction::Extend(end))
    }

    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.change("truncate", len, DataAction::SetLen(len))
    }

    fn len(&self) -> Result<u64, IoError> {
        let _world = self.shared.read();
        Ok(self.inode.data().live.len())
    }

    fn advise(&self, _advice: Advice) {}
}
