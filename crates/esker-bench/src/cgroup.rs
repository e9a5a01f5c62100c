//! A control group of the system that limits the memory of the processes in it, page cache included.
//!
//! It knows both versions of the system's interface. Where there is neither, or no right to use it,
//! making a group fails with what the system said.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::Result;

/// A group without processes; removed when dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    dir: PathBuf,
}

impl MemoryGroup {
    /// Makes a group whose processes may use `bytes` together.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        let name = format!("esker-bench-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit) = if first.is_dir() {
            (first, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let dir = parent.join(name);
        let explain = |error: std::io::Error| format!("no memory group {}: {error}", dir.display());
        fs::create_dir_all(&dir).map_err(explain)?;
        let group = Self { dir: dir.clone() };
        fs::write(dir.join(limit), bytes.to_string()).map_err(explain)?;
        Ok(group)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group that a process is still in stays, and is used again under its name.
        drop(fs::remove_dir(&self.dir));
    }
}

/// Puts this process into the group at `dir`. What it has used before is not counted.
pub(crate) fn join(dir: &Path) -> Result<()> {
    Ok(fs::write(dir.join("cgroup.procs"), std::process::id().to_string())?)
}
