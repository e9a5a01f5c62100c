//! A wrapper around any file system that knows what is not durable yet, and asserts the order of
//! writes, syncs and renames.
//!
//! A crash test shows that one order of changes survives the crashes that it tries. This one shows the
//! order itself: rules are asked before each change, with everything that a power loss could take at
//! that moment, and what they refuse is collected, with the number of the change.
//!
//! What is pending belongs to the file, not to the path that a handle was opened under: a handle goes on
//! after a rename, and links share bytes. Files that were there before the trace began count as durable;
//! two names that one of them already had count as two files. Two paths to one file through symbolic
//! links are not recognized. A write that failed may have left anything, so it counts as made. Every
//! other change that failed counts as not made, a sync above all.
//!
//! Not followed: the names of directories, which are durable once [`FileSystem::create_dir_all`] returns,
//! and lock files, which hold nothing.

mod file;
mod order;
mod pending;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::Operation;
use crate::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};
use file::TraceFile;
pub use order::Order;
pub use pending::{Change, Pending};

/// Passes everything on to another file system, and follows it. Clones share what they know.
///
/// # Examples
/// A file that gets its name before its contents are durable:
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use esker_env::{FileExt, FileSystem, MemoryFileSystem, TraceFileSystem};
///
/// let fs = TraceFileSystem::new(Arc::new(MemoryFileSystem::new(1)));
/// fs.require_whole_before_rename("*");
///
/// let file = fs.create(Path::new("a.tmp"))?;
/// file.write_all_at(0, b"hello")?;
/// fs.rename(Path::new("a.tmp"), Path::new("a"))?;
/// file.sync_data()?;
///
/// let violations = fs.violations();
/// assert_eq!(violations.len(), 1);
/// assert_eq!(violations[0].change.number, 3);
/// assert!(!fs.pending().is_durable(Path::new("a")), "its name is not");
/// # Ok::<(), esker_env::IoError>(())
/// ```
#[derive(Clone)]
pub struct TraceFileSystem {
    inner: Arc<dyn FileSystem>,
    shared: Arc<Shared>,
}

/// A change that a rule refused. It was made all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule's name.
    pub rule: String,
    /// What was about to be done.
    pub change: Change,
    /// Why not, in the rule's words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: before change {}: {}", self.rule, self.change, self.what)
    }
}

type Require = Box<dyn FnMut(&Change, &Pending) -> Result<(), String> + Send>;

#[derive(Default)]
struct Shared {
    /// Everything known. Held while names are changed below, so that what is known of them has the
    /// order in which it happened, and while rules are asked; not while bytes are written or anything
    /// is synced.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many changes were asked for.
    asked: u64,
    changes: Vec<Change>,
    pending: Pending,
    rules: Vec<(String, Require)>,
    violations: Vec<Violation>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl State {
    /// Numbers a change that is about to be made, and asks the rules about it.
    fn ask(
        &mut self,
        operation: Operation,
        (path, to): (PathBuf, Option<PathBuf>),
        bytes: Option<Range<u64>>,
    ) -> Change {
        self.asked += 1;
        let change = Change { number: self.asked, operation, path, to, bytes };
        for (rule, require) in &mut self.rules {
            if let Err(what) = require(&change, &self.pending) {
                let (rule, change) = (rule.clone(), change.clone());
                self.violations.push(Violation { rule, change, what });
            }
        }
        change
    }
}

impl TraceFileSystem {
    /// `inner`, of which everything that is there counts as durable.
    #[must_use]
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// Asks `rule` before each change, with what is pending at that moment. It may keep a state of its
    /// own, and use the file systems below, but not this one.
    pub fn require(
        &self,
        name: impl Into<String>,
        rule: impl FnMut(&Change, &Pending) -> Result<(), String> + Send + 'static,
    ) {
        self.shared.state().rules.push((name.into(), Box::new(rule)));
    }

    /// What rules have refused.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.state().violations.clone()
    }

    /// Every change that was made, in order. Numbers are given before a change, so one that failed
    /// leaves a gap.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.shared.state().changes.clone()
    }

    /// What a power loss could take at this moment.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.shared.state().pending.clone()
    }

    /// As changes have it: see [`Change::path`].
    fn absolute_or_as_it_is(&self, path: &Path) -> PathBuf {
        self.inner.absolute(path).unwrap_or_else(|_error| path.to_path_buf())
    }

    /// Changes names, below and in what is known, as one step.
    fn change_names<T>(
        &self,
        operation: Operation,
        (path, to): (&Path, Option<&Path>),
        make: impl FnOnce() -> Result<T, IoError>,
        note: impl FnOnce(&mut Pending, &Change),
    ) -> Result<T, IoError> {
        let to = to.map(|to| self.absolute_or_as_it_is(to));
        let mut state = self.shared.state();
        let change = state.ask(operation, (self.absolute_or_as_it_is(path), to), None);
        let made = make()?;
        note(&mut state.pending, &change);
        state.changes.push(change);
        Ok(made)
    }

    /// Changes what no crash takes.
    fn change_beside<T, E>(
        &self,
        operation: Operation,
        path: &Path,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.absolute_or_as_it_is(path);
        let change = self.shared.state().ask(operation, (path, None), None);
        let made = make()?;
        self.shared.state().changes.push(change);
        Ok(made)
    }

    /// Opens a file that exists, and finds out which one it is before its name can change.
    fn open_with(
        &self,
        path: &Path,
        open: impl FnOnce() -> Result<Arc<dyn File>, IoError>,
    ) -> Result<Arc<dyn File>, IoError> {
        let mut state = self.shared.state();
        let inner = open()?;
        let path = self.absolute_or_as_it_is(path);
        let id = state.pending.file_at(&path);
        Ok(self.wrap(inner, id, path))
    }

    fn wrap(&self, inner: Arc<dyn File>, id: u64, opened: PathBuf) -> Arc<dyn File> {
        Arc::new(TraceFile { inner, shared: Arc::clone(&self.shared), id, opened })
    }
}

impl fmt::Debug for TraceFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceFileSystem({:?})", self.inner)
    }
}

impl FileSystem for TraceFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let mut id = 0;
        let make = || self.inner.create(path);
        let inner =
            self.change_names(Operation::Create, (path, None), make, |pending, change| {
                id = pending.note_create(change);
            })?;
        Ok(self.wrap(inner, id, self.absolute_or_as_it_is(path)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.open_with(path, || self.inner.open(path))
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.open_with(path, || self.inner.open_for_write(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let make = || self.inner.rename(from, to);
        self.change_names(Operation::Rename, (from, Some(to)), make, Pending::note_rename)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let make = || self.inner.link(from, to);
        self.change_names(Operation::Link, (from, Some(to)), make, Pending::note_link)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let make = || self.inner.remove(path);
        self.change_names(Operation::Remove, (path, None), make, Pending::note_remove)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.change_beside(Operation::CreateDir, dir, || self.inner.create_dir_all(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let path = self.absolute_or_as_it_is(dir);
        let change = self.shared.state().ask(Operation::SyncDir, (path, None), None);
        self.inner.sync_dir(dir)?;
        let mut state = self.shared.state();
        // Names that were changed while it ran have larger numbers.
        state.pending.note_sync_dir(&change);
        state.changes.push(change);
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.change_beside(Operation::Lock, path, || self.inner.lock(path, mode))
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        self.inner.absolute(path)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.inner.space(dir)
    }
}

#[cfg(test)]
mod tests;
