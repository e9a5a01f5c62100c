//! A file system on which a sync of a directory that has failed is not tried again.
//!
//! What a failed sync should have stored, a later one may pass over and report success (Rebello et al., "Can
//! Applications Recover from fsync Failures?", 2020). New tables, log segments and manifests are pending in
//! one directory at once, so the sync of one may report the loss of another's name. After that nothing may
//! rely on a name any more, until a reopen finds out which there are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use esker_env::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};

use crate::error::Error;
use crate::sync::{Mutex, PoisonError};

/// `inner`, on which each sync of the directories of a database fails once one of them has failed by the
/// device. Other directories are none of its business.
#[derive(Debug)]
pub(crate) struct DirectorySyncs {
    inner: Arc<dyn FileSystem>,
    /// Those of the database and of its log, as the database names them.
    dirs: [PathBuf; 2],
    /// What failed first. One for both: they may be one directory under two names. Held during a sync, or
    /// one that begins before another fails might reach the device behind it.
    failed: Mutex<Option<IoError>>,
    /// Where the database looks for why it must not be written to.
    poison: Arc<OnceLock<Error>>,
}

impl DirectorySyncs {
    pub(crate) fn new(
        inner: Arc<dyn FileSystem>,
        dirs: [PathBuf; 2],
        poison: Arc<OnceLock<Error>>,
    ) -> Self {
        Self { inner, dirs, failed: Mutex::default(), poison }
    }
}

impl FileSystem for DirectorySyncs {
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        if !self.dirs.iter().any(|own| own == dir)
            || esker_base::planted::is("failed-directory-sync-retried")
        {
            return self.inner.sync_dir(dir);
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        if esker_base::planted::is("directory-syncs-side-by-side") {
            drop(failed);
            let result = self.inner.sync_dir(dir);
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = result.clone().err();
            return result;
        }
        let result = self.inner.sync_dir(dir);
        if let Err(error) = &result
            && error.is_of_the_device()
        {
            *failed = Some(error.clone());
            self.poison.get_or_init(|| error.clone().into());
        }
        result
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.open(path)
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.inner.open_for_write(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.inner.create_dir_all(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.inner.lock(path, mode)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        self.inner.absolute(path)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.inner.space(dir)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use esker_env::{Env, Fault, FaultFileSystem, Operation, Rule, When};

    use super::*;

    /// The one had seen that none had failed, and synced behind the other, which took its error along.
    #[test]
    fn a_sync_that_began_before_another_failed_does_not_go_through_behind_it() {
        let env = Env::memory(1);
        let dir = Path::new("db");
        env.fs.create_dir_all(dir).unwrap();
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
        let failing = Rule::new(Fault::Error(5)).on(&[Operation::SyncDir]);
        faults.add(failing.when(When::Nth(2)));
        let (begun, has_begun) = mpsc::channel();
        let (failed, has_failed) = mpsc::channel::<()>();
        let (passed_by, is_passed_by) = mpsc::channel();
        let first = Mutex::new(Some((begun, has_failed, passed_by)));
        faults.observe(move |_| {
            let first = first.lock().unwrap().take();
            if let Some((begun, has_failed, passed_by)) = first {
                begun.send(()).unwrap();
                // Long enough for one that does not wait; one that does is let go on afterwards.
                passed_by.send(has_failed.recv_timeout(Duration::from_millis(50)).is_ok()).unwrap();
            }
        });
        let dirs = [dir.to_path_buf(), PathBuf::from("log")];
        let poison = Arc::new(OnceLock::new());
        let syncs = DirectorySyncs::new(Arc::new(faults), dirs, Arc::clone(&poison));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| syncs.sync_dir(dir));
            has_begun.recv().unwrap();
            assert!(syncs.sync_dir(dir).unwrap_err().is_of_the_device());
            failed.send(()).ok();
            let is_passed_by = is_passed_by.recv().unwrap();
            assert!(first.join().unwrap().is_err() || !is_passed_by);
        });
        assert!(poison.get().is_some());
        assert!(syncs.sync_dir(Path::new("log")).is_err(), "it may be the same directory");
        assert!(syncs.sync_dir(Path::new("elsewhere")).unwrap_err().is_not_found());
    }
}
