//! Everything that a file system in memory holds: directories, files, and for both what is
//! durable and what is not yet.
//!
//! A file is reached through its directory entry, through handles that are open, and through
//! changes of names that are not durable yet; it goes away with the last of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::content::Content;

/// A file, apart from its names.
pub(super) struct Inode {
    /// Orders files for replay; never reused.
    pub(super) id: u64,
    /// The bytes. Taken only under the lock of the [`World`], read or write.
    data: Mutex<FileData>,
}

/// The bytes of a file, as they are read and as the disk has them.
#[derive(Clone, Default)]
pub(super) struct FileData {
    /// What reads see.
    pub(super) live: Content,
    /// What a crash cannot take away.
    pub(super) durable: Content,
    /// What leads from durable to live, in order.
    pub(super) pending: Vec<DataChange>,
}

/// A change of a file's bytes that no sync has covered.
#[derive(Clone)]
pub(super) struct DataChange {
    /// Place in the order of all changes of the file system.
    pub(super) order: u64,
    pub(super) action: DataAction,
}

#[derive(Clone)]
pub(super) enum DataAction {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    SetLen(u64),
    /// Room reserved: the length is at least this.
    Extend(u64),
}

impl DataAction {
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, bytes } => content.write_at(*offset, bytes),
            Self::SetLen(len) => content.set_len(*len),
            Self::Extend(len) => content.extend(*len),
        }
    }
}

impl FileData {
    pub(super) fn change(&mut self, order: u64, action: DataAction) {
        action.apply(&mut self.live);
        self.pending.push(DataChange { order, action });
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.action.apply(&mut self.durable);
        }
    }
}

impl Inode {
    pub(super) fn new(id: u64, data: FileData) -> Arc<Self> {
        Arc::new(Self { id, data: Mutex::new(data) })
    }

    pub(super) fn data(&self) -> MutexGuard<'_, FileData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of one directory.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) live: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<NameChange>,
}

pub(super) type Names = BTreeMap<String, Arc<Inode>>;

/// A change of a directory's names that no sync of the directory has covered.
pub(super) struct NameChange {
    /// Place in the order of all changes of the file system.
    pub(super) order: u64,
    pub(super) action: NameAction,
}

pub(super) enum NameAction {
    Set { name: String, inode: Arc<Inode> },
    Remove { name: String },
    Rename { from: String, to: String, inode: Arc<Inode> },
}

impl NameAction {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Set { name, inode } => {
                names.insert(name.clone(), Arc::clone(inode));
            }
            Self::Remove { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), Arc::clone(inode));
            }
        }
    }
}

impl Directory {
    pub(super) fn change(&mut self, order: u64, action: NameAction) {
        action.apply(&mut self.live);
        self.pending.push(NameChange { order, action });
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.action.apply(&mut self.durable);
        }
    }
}

/// All directories by path, the root with the empty one.
pub(super) struct World {
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    /// Lock files held, by path: how many share each; 0 where one holder has it alone.
    pub(super) locks: BTreeMap<PathBuf, usize>,
    /// Bytes that fit, all files together; `None` for no end.
    pub(super) capacity_bytes: Option<u64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            directories: BTreeMap::from([(PathBuf::new(), Directory::default())]),
            locks: BTreeMap::new(),
            capacity_bytes: None,
        }
    }

    /// Length of all files that have a name; of one that has several, once.
    pub(super) fn used_bytes(&self) -> u64 {
        let names = self.directories.values().flat_map(|directory| directory.live.values());
        let files: BTreeMap<u64, &Arc<Inode>> = names.map(|inode| (inode.id, inode)).collect();
        files.values().map(|inode| inode.data().live.len()).sum()
    }
}
