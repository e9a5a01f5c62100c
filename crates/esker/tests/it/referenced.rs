//! Which files a database refers to, and which are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use esker::Db;
use esker::env::{FileExt as _, FileSystem};
use esker_base::{FileId, FileKind};
use esker_tree::Manifest;

/// Where the log of the database in `dir` lies, if it lies apart.
pub(crate) fn log_dir_of(dir: impl AsRef<Path>) -> PathBuf {
    format!("{} log", dir.as_ref().display()).into()
}

/// Spare log segments that a running database may keep for reuse.
const SPARE_SEGMENTS_MAX: usize = 1;

/// The names in `dir` that the manifest refers to, and those that are there, each with the lock
/// file and without obsolete manifests.
fn referenced_and_found(fs: &dyn FileSystem, dir: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let recovered = Manifest::recover(fs, dir).unwrap().expect("there is a manifest");
    let catalog = &recovered.catalog;
    let mut referenced = BTreeSet::from(["LOCK".to_owned(), recovered.id.file_name()]);
    referenced.extend(catalog.logs.iter().map(|log| log.file_name()));
    let states = catalog.keyspaces.values();
    let tables = states.flat_map(|state| state.tables.values());
    for properties in tables.map(|place| &place.properties) {
        referenced.insert(properties.id.file_name());
        referenced.extend(properties.blob_uses().map(|one| one.facts.id.file_name()));
    }
    let logs = fs.list(&log_dir_of(dir)).unwrap_or_default();
    let mut found: BTreeSet<String> =
        fs.list(dir).unwrap().into_iter().chain(logs).map(|entry| entry.name).collect();
    // Nothing needs it, and it may not have been written, or not have been removed.
    found.remove(&recovered.id.0.file_name(FileKind::Warm));
    // The predecessor is kept; only a recovery may not have renamed it yet.
    let kind = |name: &String| FileId::parse_file_name(name).map(|(_, kind)| kind);
    let is_old = |name: &&String| {
        Manifest::parse_predecessor(name).is_some()
            || kind(name) == Some(FileKind::Manifest) && !referenced.contains(*name)
    };
    let older = found.iter().rfind(is_old).cloned();
    if let Some(predecessor) = older {
        found.remove(&predecessor);
    }
    (referenced, found)
}

/// Checks the files of a database that is closed: exactly the referenced ones.
pub(crate) fn assert_exact(fs: &dyn FileSystem, dir: &Path, when: &str) {
    let (referenced, found) = referenced_and_found(fs, dir);
    let starts: Vec<_> =
        found.difference(&referenced).map(|name| start_of(fs, dir, name)).collect();
    assert_eq!(found, referenced, "{when}: files found, and files referred to; {starts:?}");
}

/// What the file of that name in either directory of a database starts with, to be printed.
fn start_of(fs: &dyn FileSystem, dir: &Path, name: &str) -> (String, u64, String) {
    let paths = [dir.join(name), log_dir_of(dir).join(name)];
    let file = paths.iter().find_map(|path| fs.open(path).ok()).expect("it was found");
    let len = file.len().unwrap();
    let mut bytes = vec![0; len.min(64) as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    (name.to_owned(), len, bytes.escape_ascii().to_string())
}

/// Checks the files of a database that is open and settled, with nobody reading: the referenced
/// ones, and a few log segments to be reused.
pub(crate) fn assert_tidy(db: &Db, fs: &dyn FileSystem, when: &str) {
    let orphans = orphans(db, fs, when);
    assert!(orphans.is_empty(), "{when}: nothing refers to {orphans:?}");
}

/// The files of a database as in [`assert_tidy`] that nothing refers to, beside a few log segments
/// to be reused. What is referred to must be there.
pub(crate) fn orphans(db: &Db, fs: &dyn FileSystem, when: &str) -> Vec<String> {
    orphans_beside(db, fs, when, |_| false)
}

/// As [`orphans`]; files that `is_left` says a fault has left are no spare segments.
pub(crate) fn orphans_beside(
    db: &Db,
    fs: &dyn FileSystem,
    when: &str,
    is_left: impl Fn(&str) -> bool,
) -> Vec<String> {
    let (referenced, found) = referenced_and_found(fs, db.path());
    let missing: Vec<_> = referenced.difference(&found).collect();
    assert!(missing.is_empty(), "{when}: referred to, and missing: {missing:?}");
    let (mut spare, mut orphans): (Vec<_>, Vec<_>) =
        found.difference(&referenced).cloned().partition(|name| name.ends_with(".log"));
    spare.sort_by_key(|name| is_left(name));
    orphans.extend(spare.split_off(spare.len().min(SPARE_SEGMENTS_MAX)));
    orphans
}

/// The files of a database that is open, has settled and rests, that nothing refers to.
pub(crate) fn unreferenced(db: &Db, fs: &dyn FileSystem) -> Vec<String> {
    let (referenced, found) = referenced_and_found(fs, db.path());
    found.difference(&referenced).cloned().collect()
}
