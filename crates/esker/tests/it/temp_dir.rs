//! A directory of its own for each test that needs the real file system.

use std::path::{Path, PathBuf};

/// Removed with its contents when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// A fresh directory; `name` is that of the test, so that no two tests share one.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("esker-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
