//! An in-memory file system that can lose power.
//!
//! It distinguishes what reads see from what is durable, as strictly as POSIX allows: bytes are
//! durable after a sync of their file, names after a sync of their directory, and nothing else ever
//! is. [`MemoryFileSystem::crash`] builds a file system as it could be found after a power loss; a
//! [`CrashPolicy`] and a seed decide which of the legal states it is.
//!
//! Simplifications: directories are durable as soon as they are created, as
//! [`FileSystem::create_dir_all`] promises, and keep their names; there are no symbolic links.

mod content;
mod crash;
mod file;
mod world;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::fs::normal;
use crate::{DirEntry, File, FileLock, FileSystem, IoError, LockError, LockMode, Space};
pub use crash::CrashPolicy;
use file::MemoryFile;
use world::{Directory, FileData, Inode, NameAction, World};

/// Files in memory. Clones are handles to the same files; a copy of the files themselves is a
/// [`MemoryFileSystem::snapshot`].
///
/// # Examples
/// What a power loss takes of a file whose bytes were synced, and whose name was not:
///
/// ```
/// use std::path::Path;
///
/// use esker_env::{CrashPolicy, FileExt, FileSystem, MemoryFileSystem};
///
/// let fs = MemoryFileSystem::new(1);
/// let file = fs.create(Path::new("a"))?;
/// file.write_all_at(0, b"hello")?;
/// file.sync_data()?;
/// assert!(!fs.crash(CrashPolicy::AllLost, 0).exists(Path::new("a"))?);
///
/// fs.sync_dir(Path::new(""))?;
/// let found = fs.crash(CrashPolicy::AllLost, 0).open(Path::new("a"))?;
/// assert_eq!(found.len()?, 5);
/// # Ok::<(), esker_env::IoError>(())
/// ```
///
/// # Cost
/// With five files of two pages each and ten pending changes, a snapshot takes 1 microsecond and a
/// crash 3 (release build).
#[derive(Clone)]
pub struct MemoryFileSystem {
    shared: Arc<Shared>,
}

struct Shared {
    /// Files and names. Operations on one file's bytes hold it for reading, changes of names and
    /// copies of the whole for writing: a copy never sees half of an operation, nor a later
    /// operation without an earlier one. Taken before the lock of a file's bytes.
    world: RwLock<World>,
    /// Numbers changes and files. Counter only.
    order: AtomicU64,
    /// Shuffles [`FileSystem::list`].
    seed: u64,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }
}

impl MemoryFileSystem {
    /// An empty file system; `seed` decides the order in which names are listed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_world(World::new(), 0, seed)
    }

    fn from_world(world: World, order: u64, seed: u64) -> Self {
        let (world, order) = (RwLock::new(world), AtomicU64::new(order));
        Self { shared: Arc::new(Shared { world, order, seed }) }
    }

    /// Limits the length of all files together; writes beyond it fail for lack of space.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.shared.write().capacity_bytes = capacity_bytes;
    }

    fn file(&self, path: &Path, inode: Arc<Inode>, is_writable: bool) -> Arc<dyn File> {
        let (shared, path) = (Arc::clone(&self.shared), path.to_path_buf());
        Arc::new(MemoryFile { shared, inode, path, is_writable })
    }

    fn open_existing(
        &self,
        operation: &'static str,
        path: &Path,
        is_writable: bool,
    ) -> Result<Arc<dyn File>, IoError> {
        let failed = |kind: io::ErrorKind| IoError::new(operation, path, kind.into());
        let world = self.shared.read();
        let full = normal(path);
        if world.directories.contains_key(&full) {
            return Err(failed(io::ErrorKind::IsADirectory));
        }
        let (dir, name) = split(&full);
        let directory = world.directories.get(dir).ok_or(failed(io::ErrorKind::NotFound))?;
        let inode = directory.live.get(&name).ok_or(failed(io::ErrorKind::NotFound))?;
        Ok(self.file(path, Arc::clone(inode), is_writable))
    }

    /// A new file of no bytes under `full`, in a world that is locked for writing.
    fn create_in(&self, world: &mut World, full: &Path) -> Result<Arc<Inode>, io::ErrorKind> {
        if world.directories.contains_key(full) {
            return Err(io::ErrorKind::AlreadyExists);
        }
        let (dir, name) = split(full);
        let directory = world.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        if directory.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists);
        }
        let inode = Inode::new(self.shared.next_order(), FileData::default());
        let action = NameAction::Set { name, inode: Arc::clone(&inode) };
        directory.change(self.shared.next_order(), action);
        Ok(inode)
    }

    fn rename_in(&self, world: &mut World, from: &Path, to: &Path) -> Result<(), io::ErrorKind> {
        // Directories are not renamed; see the top of this file.
        if world.directories.contains_key(from) {
            return Err(io::ErrorKind::IsADirectory);
        }
        let is_directory = world.directories.contains_key(to);
        let ((from_dir, from), (to_dir, to)) = (split(from), split(to));
        let source = world.directories.get(from_dir).ok_or(io::ErrorKind::NotFound)?;
        let inode = Arc::clone(source.live.get(&from).ok_or(io::ErrorKind::NotFound)?);
        if is_directory {
            return Err(io::ErrorKind::IsADirectory);
        }
        if !world.directories.contains_key(to_dir) {
            return Err(io::ErrorKind::NotFound);
        }
        // Two names of one file: POSIX leaves both.
        let replaced = world.directories[to_dir].live.get(&to);
        if replaced.is_some_and(|replaced| Arc::ptr_eq(replaced, &inode)) {
            return Ok(());
        }
        let order = self.shared.next_order();
        if from_dir == to_dir {
            if from != to {
                let action = NameAction::Rename { from, to, inode };
                directory_mut(world, from_dir)?.change(order, action);
            }
            return Ok(());
        }
        directory_mut(world, to_dir)?.change(order, NameAction::Set { name: to, inode });
        directory_mut(world, from_dir)?.change(order, NameAction::Remove { name: from });
        Ok(())
    }

    fn link_in(&self, world: &mut World, from: &Path, to: &Path) -> Result<(), io::ErrorKind> {
        let (from_dir, from_name) = split(from);
        let source = world.directories.get(from_dir).ok_or(io::ErrorKind::NotFound)?;
        let inode = source.live.get(&from_name).cloned();
        let is_directory = world.directories.contains_key(from);
        if inode.is_none() && !is_directory {
            return Err(io::ErrorKind::NotFound);
        }
        let (to_dir, name) = split(to);
        let is_taken = world.directories.contains_key(to);
        let target = directory_mut(world, to_dir)?;
        if is_taken || target.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists);
        }
        let inode = inode.ok_or(io::ErrorKind::PermissionDenied)?;
        target.change(self.shared.next_order(), NameAction::Set { name, inode });
        Ok(())
    }
}

fn directory_mut<'a>(world: &'a mut World, dir: &Path) -> Result<&'a mut Directory, io::ErrorKind> {
    world.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)
}

/// Directory and name of a path that [`normal`] has made.
fn split(full: &Path) -> (&Path, String) {
    let name = full.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    (full.parent().unwrap_or(Path::new("")), name.into_owned())
}

impl fmt::Debug for MemoryFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryFileSystem")
    }
}

impl FileSystem for MemoryFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let inode = self
            .create_in(&mut self.shared.write(), &normal(path))
            .map_err(|kind| IoError::new("create", path, kind.into()))?;
        Ok(self.file(path, inode, true))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.open_existing("open", path, false)
    }

    fn open_for_write(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.open_existing("open for writing", path, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.rename_in(&mut self.shared.write(), &normal(from), &normal(to))
            .map_err(|kind| IoError::new("rename", from, kind.into()))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.link_in(&mut self.shared.write(), &normal(from), &normal(to))
            .map_err(|kind| IoError::new("link", from, kind.into()))
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let failed = |kind: io::ErrorKind| IoError::new("remove", path, kind.into());
        let full = normal(path);
        let mut world = self.shared.write();
        if world.directories.contains_key(&full) {
            return Err(failed(io::ErrorKind::IsADirectory));
        }
        let (dir, name) = split(&full);
        let directory = directory_mut(&mut world, dir).map_err(failed)?;
        if !directory.live.contains_key(&name) {
            return Err(failed(io::ErrorKind::NotFound));
        }
        directory.change(self.shared.next_order(), NameAction::Remove { name });
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let full = normal(dir);
        let world = self.shared.read();
        let Some(directory) = world.directories.get(&full) else {
            return Err(IoError::new("list", dir, io::ErrorKind::NotFound.into()));
        };
        let files = directory.live.iter().map(|(name, inode)| DirEntry {
            name: name.clone(),
            is_dir: false,
            len: inode.data().live.len(),
            error: None,
        });
        let below = world.directories.keys().filter(|path| path.parent() == Some(&full));
        let directories =
            below.map(|path| DirEntry { name: split(path).1, is_dir: true, len: 0, error: None });
        let mut entries: Vec<DirEntry> = files.chain(directories).collect();
        // An order that nobody can come to rely on, and that a seed repeats.
        entries.sort_by_cached_key(|entry| {
            esker_base::checksum::checksum64(self.shared.seed, entry.name.as_bytes())
        });
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        let full = normal(path);
        let world = self.shared.read();
        let (dir, name) = split(&full);
        let is_file = world.directories.get(dir).is_some_and(|dir| dir.live.contains_key(&name));
        Ok(is_file || world.directories.contains_key(&full))
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        let full = normal(dir);
        let mut world = self.shared.write();
        for above in full.ancestors() {
            let (parent, name) = split(above);
            if world.directories.get(parent).is_some_and(|dir| dir.live.contains_key(&name)) {
                let kind = if above == full {
                    io::ErrorKind::AlreadyExists
                } else {
                    io::ErrorKind::NotADirectory
                };
                return Err(IoError::new("create directory", dir, kind.into()));
            }
        }
        for above in full.ancestors() {
            world.directories.entry(above.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        directory_mut(&mut self.shared.write(), &normal(dir))
            .map_err(|kind| IoError::new("sync directory", dir, kind.into()))?
            .sync();
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn FileLock>, LockError> {
        let full = normal(path);
        let mut world = self.shared.write();
        let sharers = world.locks.get(&full).copied();
        if sharers.is_some_and(|sharers| sharers == 0 || mode == LockMode::Exclusive) {
            return Err(LockError::Held(Some(std::process::id())));
        }
        match self.create_in(&mut world, &full) {
            Ok(_) | Err(io::ErrorKind::AlreadyExists) => {}
            Err(kind) => return Err(LockError::Io(IoError::new("lock", path, kind.into()))),
        }
        let sharers = match mode {
            LockMode::Exclusive => 0,
            LockMode::Shared => sharers.unwrap_or(0) + 1,
        };
        world.locks.insert(full.clone(), sharers);
        Ok(Box::new(MemoryFileLock { shared: Arc::clone(&self.shared), path: full }))
    }

    fn space(&self, _dir: &Path) -> Result<Space, IoError> {
        let world = self.shared.read();
        // Without a limit there is as much as a file system of 64-bit signed offsets can hold.
        let total = world.capacity_bytes.unwrap_or(i64::MAX.unsigned_abs());
        Ok(Space { available: total.saturating_sub(world.used_bytes()), total })
    }
}

struct MemoryFileLock {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl FileLock for MemoryFileLock {}

impl fmt::Debug for MemoryFileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFileLock({})", self.path.display())
    }
}

impl Drop for MemoryFileLock {
    fn drop(&mut self) {
        let locks = &mut self.shared.write().locks;
        match locks.get_mut(&self.path) {
            Some(sharers @ 2..) => *sharers -= 1,
            _ => drop(locks.remove(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests;
