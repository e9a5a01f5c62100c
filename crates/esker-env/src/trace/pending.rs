//! Changes, and those of them that are not durable yet.
//!
//! Pure: does not know how a change was made, only that it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::fault::{Operation, matches};
use crate::fs::normal;

/// A change of the file system: an [`Operation`] of which [`Operation::is_change`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its place among all changes that were asked for, from 1.
    pub number: u64,
    /// What is done.
    pub operation: Operation,
    /// The file or directory; absolute, if the file system has a working directory. What is done
    /// through a handle is done to a file by the name that it has by now: the one that it was opened
    /// under, if that is still one of its names or it has none.
    pub path: PathBuf,
    /// The other name of a rename or link.
    pub to: Option<PathBuf>,
    /// The bytes of a write or allocation; of a truncation, all from the new length on.
    pub bytes: Option<Range<u64>>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?} of {}", self.number, self.operation, self.path.display())?;
        if let Some(to) = &self.to {
            write!(f, " to {}", to.display())?;
        }
        match &self.bytes {
            Some(bytes) if bytes.end == u64::MAX => write!(f, ", from byte {}", bytes.start),
            Some(bytes) => write!(f, ", bytes {}..{}", bytes.start, bytes.end),
            None => Ok(()),
        }
    }
}

/// What is not durable yet: what a power loss could take.
#[derive(Clone, Default, Debug)]
pub struct Pending {
    /// Names that exist and were used since the trace began, by their [`normal`] path.
    names: BTreeMap<PathBuf, Name>,
    /// Changes of the bytes of each file that no sync has covered; none of a file that is not here.
    bytes: BTreeMap<u64, Vec<Change>>,
    /// Changes of the names of each directory that no sync of it has covered, by its [`normal`] path.
    directories: BTreeMap<PathBuf, Vec<Change>>,
    /// Numbers of changes of bytes that have not ended: a sync that begins now does not cover them.
    under_way: BTreeSet<u64>,
    file_count: u64,
}

#[derive(Clone, Debug)]
struct Name {
    /// As it was given.
    path: PathBuf,
    file: u64,
}

/// What rules ask. Paths are meant as in [`Change::path`].
impl Pending {
    /// The writes, truncations and allocations of the file `path` that no sync has covered. A sync
    /// covers those that had ended when it began.
    #[must_use]
    pub fn bytes_of(&self, path: &Path) -> &[Change] {
        let file = self.names.get(&normal(path)).map(|name| name.file);
        file.and_then(|file| self.bytes.get(&file)).map_or(&[], Vec::as_slice)
    }

    /// The creations, links, renames and removals of names in `dir` that no sync of it has covered.
    #[must_use]
    pub fn names_in(&self, dir: &Path) -> &[Change] {
        self.directories.get(&normal(dir)).map_or(&[], Vec::as_slice)
    }

    /// Whether a power loss cannot change which file has the name `path`, if one has.
    #[must_use]
    pub fn is_name_durable(&self, path: &Path) -> bool {
        let full = normal(path);
        let dir = full.parent().unwrap_or(Path::new(""));
        let changes = self.names_in(dir).iter();
        !changes.flat_map(|change| change.paths()).any(|path| normal(path) == full)
    }

    /// Whether a power loss can take nothing of the file `path`: neither bytes nor this name.
    #[must_use]
    pub fn is_durable(&self, path: &Path) -> bool {
        self.bytes_of(path).is_empty() && self.is_name_durable(path)
    }

    /// The files that have a name of the form of `pattern`, in which `*` stands for any characters,
    /// and that are not durable, in the order of their paths.
    #[must_use]
    pub fn files(&self, pattern: &str) -> Vec<&Path> {
        let paths = self.names.values().map(|name| name.path.as_path());
        paths.filter(|path| is_named(path, pattern) && !self.is_durable(path)).collect()
    }

    /// All names of the file `path`, itself included, as far as they were used since the trace began.
    #[must_use]
    pub fn names_of(&self, path: &Path) -> Vec<&Path> {
        let file = self.names.get(&normal(path)).map(|name| name.file);
        let names = self.names.values().filter(|name| Some(name.file) == file);
        names.map(|name| name.path.as_path()).collect()
    }

    /// How many changes are pending, of bytes and of names: a rename from one directory to another
    /// counts in both.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.values().chain(self.directories.values()).map(Vec::len).sum()
    }
}

/// Whether the last part of `path` has the form of `pattern`.
pub(super) fn is_named(path: &Path, pattern: &str) -> bool {
    path.file_name().is_some_and(|name| matches(pattern, &name.to_string_lossy()))
}

impl Change {
    /// The paths that it names.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.to).map(PathBuf::as_path)
    }

    fn full_paths(&self) -> (PathBuf, PathBuf) {
        (normal(&self.path), self.to.as_deref().map(normal).unwrap_or_default())
    }
}

/// What the trace tells.
impl Pending {
    /// Which file `path` names; one that was not seen before is durable.
    pub(super) fn file_at(&mut self, path: &Path) -> u64 {
        if let Some(name) = self.names.get(&normal(path)) {
            return name.file;
        }
        self.file_count += 1;
        self.set_name(path, self.file_count);
        self.file_count
    }

    /// The name that the file `id` has by now; see [`Change::path`].
    pub(super) fn path_of(&self, id: u64, opened: &Path) -> PathBuf {
        let is_its = |name: &&Name| name.file == id;
        if self.names.get(&normal(opened)).filter(is_its).is_some() {
            return opened.to_path_buf();
        }
        self.names.values().find(is_its).map_or_else(|| opened.into(), |name| name.path.clone())
    }

    fn set_name(&mut self, path: &Path, file: u64) {
        let replaced = self.names.insert(normal(path), Name { path: path.to_path_buf(), file });
        self.forget_unless_named(replaced);
    }

    fn take_name(&mut self, full: &Path) {
        let taken = self.names.remove(full);
        self.forget_unless_named(taken);
    }

    /// Nobody can ask for the bytes of a file that has no name.
    fn forget_unless_named(&mut self, former: Option<Name>) {
        let Some(Name { file, .. }) = former else { return };
        if self.names.values().all(|name| name.file != file) {
            self.bytes.remove(&file);
        }
    }

    /// Adds `change` to what is pending in the directory of `full`.
    fn add_to_dir_of(&mut self, full: &Path, change: &Change) {
        let dir = full.parent().unwrap_or(Path::new(""));
        self.directories.entry(dir.to_path_buf()).or_default().push(change.clone());
    }

    /// Returns which file it is.
    pub(super) fn note_create(&mut self, change: &Change) -> u64 {
        self.file_count += 1;
        self.set_name(&change.path, self.file_count);
        self.add_to_dir_of(&normal(&change.path), change);
        self.file_count
    }

    pub(super) fn note_rename(&mut self, change: &Change) {
        let (from, to) = change.full_paths();
        let file = self.file_at(&change.path);
        // Two names of one file, or one name: both stay.
        if self.names.get(&to).is_some_and(|name| name.file == file) {
            return;
        }
        self.set_name(change.to.as_deref().unwrap_or(&change.path), file);
        self.take_name(&from);
        self.add_to_dir_of(&to, change);
        if from.parent() != to.parent() {
            self.add_to_dir_of(&from, change);
        }
    }

    pub(super) fn note_link(&mut self, change: &Change) {
        let file = self.file_at(&change.path);
        self.set_name(change.to.as_deref().unwrap_or(&change.path), file);
        self.add_to_dir_of(&change.full_paths().1, change);
    }

    pub(super) fn note_remove(&mut self, change: &Change) {
        let full = normal(&change.path);
        self.take_name(&full);
        self.add_to_dir_of(&full, change);
    }

    /// A sync of a directory has ended, whose number it was given when it began.
    pub(super) fn note_sync_dir(&mut self, sync: &Change) {
        let dir = normal(&sync.path);
        if let Some(changes) = self.directories.get_mut(&dir) {
            changes.retain(|change| sync.number < change.number);
            if changes.is_empty() {
                self.directories.remove(&dir);
            }
        }
    }

    /// A change of the bytes of the file `id` begins.
    pub(super) fn begin(&mut self, id: u64, change: &Change) {
        self.bytes.entry(id).or_default().push(change.clone());
        self.under_way.insert(change.number);
    }

    /// It has ended.
    pub(super) fn end(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// Numbers of the changes that a sync of the file `id` covers if it begins now, ascending.
    pub(super) fn covered(&self, id: u64) -> Vec<u64> {
        let numbers = self.bytes.get(&id).into_iter().flatten().map(|change| change.number);
        numbers.filter(|number| !self.under_way.contains(number)).collect()
    }

    /// A sync of the file `id` has ended.
    pub(super) fn note_sync(&mut self, id: u64, covered: &[u64]) {
        if let Some(changes) = self.bytes.get_mut(&id) {
            changes.retain(|change| covered.binary_search(&change.number).is_err());
            if changes.is_empty() {
                self.bytes.remove(&id);
            }
        }
    }
}
