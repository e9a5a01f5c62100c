//! A directory for the databases of a drive, and mounts in it that end with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

use crate::Result;

/// How often, and after which pause, a loop device is looked for that is to be gone: for 20 seconds.
const RELEASE_TRIES: usize = 1000;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

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

    /// Mounts the file system in the file `image`, by a loop device that nobody has used before: one at
    /// which somebody else is looking outlives its unmount, and would be taken over with all that it has in
    /// memory, though a power cut, or another image in its place, has made that untrue.
    pub(crate) fn by_loop_device(image: &Path, point: &Path) -> Result<Self> {
        let image = image.to_string_lossy();
        let clock = SystemClock::new();
        for _ in 0..RELEASE_TRIES {
            let devices = Command::new("losetup").args(["-j", &image]).output();
            if devices.map_err(|error| format!("losetup: {error}"))?.stdout.is_empty() {
                return Self::new(&["-o", "loop", &image], point);
            }
            clock.sleep(RELEASE_PAUSE);
        }
        Err(format!("a loop device of {image} is not released"))
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
