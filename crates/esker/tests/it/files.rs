//! Files of a database in memory, as bytes that a test may examine and damage.

use std::collections::BTreeMap;
use std::path::Path;

use esker::env::{FileExt, FileSystem, MemoryFileSystem};
use esker_base::{FileId, FileKind};

/// Every file of a directory, by name, without the lock file.
pub(crate) fn read_all(fs: &dyn FileSystem, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs.list(dir).unwrap().into_iter();
    let files = entries.filter(|entry| !entry.is_dir && entry.name != "LOCK");
    files
        .map(|entry| {
            let mut bytes = vec![0; entry.len as usize];
            fs.open(&dir.join(&entry.name)).unwrap().read_exact_at(0, &mut bytes).unwrap();
            (entry.name, bytes)
        })
        .collect()
}

/// Replaces the contents of a file, or makes it.
pub(crate) fn write(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) {
    let file = match fs.exists(path).unwrap() {
        true => fs.open_for_write(path).unwrap(),
        false => fs.create(path).unwrap(),
    };
    file.truncate(0).unwrap();
    file.write_all_at(0, bytes).unwrap();
    file.sync_all().unwrap();
}

/// A copy of `fs` in which one file of `dir` has these bytes.
pub(crate) fn with(
    fs: &MemoryFileSystem,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> MemoryFileSystem {
    let copy = fs.snapshot();
    write(&copy, &dir.join(name), bytes);
    copy
}

pub(crate) fn kind(name: &str) -> Option<FileKind> {
    FileId::parse_file_name(name).map(|(_, kind)| kind)
}
