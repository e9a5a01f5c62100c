//! A fault-injecting wrapper around any file system.
//!
//! Rules say what goes wrong and when; every operation is counted, every fault is recorded, and an
//! observer sees each operation before it happens, so that a test can crash a
//! [`MemoryFileSystem`](crate::MemoryFileSystem) just before it.
//!
//! A sync that fails here has not happened, and a later one can make up for it. That is not so on
//! Linux: an observer that calls
//! [`MemoryFileSystem::forget_unsynced`](crate::MemoryFileSystem::forget_unsynced) when it sees a
//! fault on a sync imitates Linux.

mod file;
mod rule;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Clock, DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};
use file::FaultFile;
pub(crate) use rule::matches;
pub use rule::{Fault, Operation, Rule, When};

/// Passes everything on to another file system, except where a [`Rule`] fires. Clones share their
/// rules and counts.
///
/// # Examples
/// A disk that is full when the second write comes:
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use esker_env::{Fault, FaultFileSystem, FileExt, FileSystem, ManualClock, MemoryFileSystem};
/// use esker_env::{Operation, Rule, When};
///
/// const ENOSPC: i32 = 28;
/// let memory = Arc::new(MemoryFileSystem::new(1));
/// let fs = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
/// fs.add(Rule::new(Fault::Error(ENOSPC)).on(&[Operation::Write]).when(When::Nth(2)));
///
/// let file = fs.create(Path::new("a"))?;
/// file.write_all_at(0, b"hello")?;
/// assert!(file.write_all_at(5, b" world").unwrap_err().is_no_space());
/// assert_eq!(fs.injected().len(), 1);
/// # Ok::<(), esker_env::IoError>(())
/// ```
#[derive(Clone)]
pub struct FaultFileSystem {
    inner: Arc<dyn FileSystem>,
    shared: Arc<Shared>,
}

/// One operation, as the observer and the record of faults see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Number of the operation, from 1.
    pub call: u64,
    /// What is asked.
    pub operation: Operation,
    /// On which file or directory.
    pub path: PathBuf,
    /// The other name of a rename.
    pub to: Option<PathBuf>,
    /// What goes wrong with it; delays are not named.
    pub fault: Option<Fault>,
}

type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

struct Shared {
    clock: Arc<dyn Clock>,
    /// Rules, counts and records. Not held while the observer runs, the clock sleeps or the
    /// operation is passed on.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: u64,
    rules: Vec<Rule>,
    injected: Vec<Event>,
    observer: Option<Observer>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl fmt::Debug for FaultFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultFileSystem({:?})", self.inner)
    }
}

fn error(verb: &'static str, path: &Path, code: i32) -> IoError {
    IoError::new(verb, path, io::Error::from_raw_os_error(code))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Counts an operation, on `bytes` of a file if it concerns any, and applies the rules to it.
    /// `Ok` if it is to be passed on, with the fault that it should get.
    fn pass(
        &self,
        operation: Operation,
        verb: &'static str,
        paths: &[&Path],
        bytes: Option<Range<u64>>,
    ) -> Result<Option<Fault>, IoError> {
        let mut state = self.state();
        state.calls += 1;
        let (mut fault, mut delays) = (None, Vec::new());
        // Every rule counts every operation, whether or not another has fired.
        for rule in &mut state.rules {
            match rule.fire(operation, paths, bytes.as_ref()) {
                Some(Fault::Delay(duration)) => delays.push(duration),
                fired => fault = fault.or(fired),
            }
        }
        let to = paths.get(1).map(|to| to.to_path_buf());
        let (call, path) = (state.calls, paths[0].to_path_buf());
        let event = Event { call, operation, path, to, fault: fault.clone() };
        if fault.is_some() {
            state.injected.push(event.clone());
        }
        let observer = state.observer.clone();
        drop(state);
        if let Some(observer) = observer {
            observer(&event);
        }
        delays.into_iter().for_each(|duration| self.clock.sleep(duration));
        match fault {
            Some(Fault::Error(code)) => Err(error(verb, paths[0], code)),
            Some(Fault::Panic) => panic!("fault: cannot {verb} {}", paths[0].display()),
            fault => Ok(fault),
        }
    }
}

impl FaultFileSystem {
    /// `inner`, with nothing wrong yet; `clock` is what delays sleep on.
    #[must_use]
    pub fn new(inner: Arc<dyn FileSystem>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, shared: Arc::new(Shared { clock, state: Mutex::default() }) }
    }

    /// Adds `rule`. If several rules fire on one operation, the first counts; delays add up.
    pub fn add(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.shared.state().rules.clear();
    }

    /// Shows every operation to `observer` before it happens. It may use the file systems below,
    /// and not this one.
    pub fn observe(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        self.shared.state().observer = Some(Arc::new(observer));
    }

    /// How many operations there have been.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls()
    }

    /// All injected faults, except delays.
    #[must_use]
    pub fn injected(&self) -> Vec<Event> {
        self.shared.state().injected.clone()
    }

    fn pass(
        &self,
        operation: Operation,
        verb: &'static str,
        paths: &[&Path],
    ) -> Result<(), IoError> {
        self.shared.pass(operation, verb, paths, None).map(|_| ())
    }

    fn wrap(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultFile { inner, shared: Arc::clone(&self.shared) })
    }
}

impl FileSystem for FaultFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.pass(Operation::Create, "create", &[path])?;
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.pass(Operation::Open, "open", &[path])?;
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.pass(Operation::OpenForWrite, "open for writing", &[path])?;
        Ok(self.wrap(self.inner.open_for_write(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.pass(Operation::Rename, "rename", &[from, to])?;
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.pass(Operation::Link, "link", &[from, to])?;
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.pass(Operation::Remove, "remove", &[path])?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.pass(Operation::List, "list", &[dir])?;
        let mut entries = self.inner.list(dir)?;
        for entry in &mut entries {
            if let Err(error) = self.pass(Operation::Stat, "look at", &[&dir.join(&entry.name)]) {
                (entry.len, entry.error) = (0, Some(error));
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.pass(Operation::Exists, "look for", &[path])?;
        self.inner.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.pass(Operation::CreateDir, "create directory", &[dir])?;
        self.inner.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.pass(Operation::SyncDir, "sync directory", &[dir])?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        self.pass(Operation::Lock, "lock", &[path]).map_err(LockError::Io)?;
        self.inner.lock(path, mode)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, IoError> {
        self.inner.absolute(path)
    }

    fn space(&self, dir: &Path) -> Result<Space, IoError> {
        self.pass(Operation::Space, "measure the space of", &[dir])?;
        self.inner.space(dir)
    }
}

#[cfg(test)]
mod tests;
