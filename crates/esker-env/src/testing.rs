//! A directory of its own for each test that needs the real file system, and what a test says that finds
//! something missing there.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Removed with its contents when dropped.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    /// A fresh directory; `name` is that of the test, so that no two tests share one.
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("esker-env-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Says that `test` cannot be run here, and counts as passed all the same. Not by a macro: what those
/// print of a test that passes is shown to nobody, and `.ci/run` looks for this.
pub(crate) fn skipped(test: &str, why: &str) {
    drop(writeln!(std::io::stdout(), "{test}: SKIPPED, not passed: {why}"));
}
