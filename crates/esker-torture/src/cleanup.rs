//! A directory for the databases of a drive, and mounts in it that end with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Removed with its contents when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("esker-torture-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A file system that is mounted until this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Runs `mount` with these arguments, followed by the mount point.
    pub(crate) fn new(arguments: &[&str], point: &Path) -> Result<Self> {
        std::fs::create_dir_all(point).map_err(|error| error.to_string())?;
        let point_text = point.to_string_lossy().into_owned();
        call("mount", &[arguments, &[&point_text]].concat())?;
        Ok(Self(point.to_path_buf()))
    }

    pub(crate) fn point(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let point = self.0.to_string_lossy().into_owned();
        if call("umount", &[&point]).is_err() {
            // Somebody still uses it: it ends when they do.
            drop(call("umount", &["-l", &point]));
        }
    }
}

/// Runs a program to completion.
pub(crate) fn call(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}

/// Whether the program exists.
pub(crate) fn has_program(name: &str) -> bool {
    Command::new(name).arg("-V").output().is_ok()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
