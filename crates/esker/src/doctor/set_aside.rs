//! Moves damaged files out of the way, without losing them.
//!
//! They get a second name first, durably, and lose their old one only once the database no longer
//! needs them: a crash in between leaves the old file in place. Where a file can have no second
//! name it is copied, which takes as much space again; of a file that the device cannot read
//! completely, a copy would contain zeros for good.

use std::path::{Path, PathBuf};

use esker_env::{FileExt as _, FileSystem, IoError};

use crate::error::{Error, Result};

/// Where damaged files go.
pub(super) const DAMAGED_DIR: &str = "damaged";

const PIECE_BYTES: usize = 1 << 20;

/// Gives `path` a second name in the directory for damaged files in `dir`, or copies it there if it
/// can have none. What is there already stays. Returns the path of the result, which is durable.
///
/// # Errors
/// Of the system.
pub(super) fn keep_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<PathBuf> {
    // What was written last may be only in the system's memory.
    let linked = fs.open(path)?.sync_all().map_err(Error::from);
    linked.and_then(|()| link_aside(fs, dir, path)).or_else(|_| copy_aside(fs, dir, path))
}

/// Copies `path` into the directory for damaged files in `dir`, and returns the path of the copy.
/// Parts that were never written take no space there, as they take none here.
///
/// # Errors
/// Of the system.
pub(super) fn copy_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<PathBuf> {
    let target = Target::of(fs, dir, path)?;
    let copied = copy(fs, path, &target.unfinished);
    let named = copied.and_then(|()| fs.rename(&target.unfinished, &target.path));
    target.made_durable(fs, named)
}

fn copy(fs: &dyn FileSystem, from: &Path, to: &Path) -> std::result::Result<(), IoError> {
    let (source, target) = (fs.open(from)?, fs.create(to)?);
    let mut piece = vec![0; PIECE_BYTES];
    let (mut offset, mut end) = (source.data_from(0), 0);
    loop {
        let count = source.read_at(offset, &mut piece)?;
        if count == 0 {
            break;
        }
        target.write_all_at(offset, &piece[..count])?;
        end = offset + count as u64;
        offset = source.data_from(end);
    }
    let len = source.len()?;
    if end < len {
        target.truncate(len)?;
    }
    target.sync_all()
}

/// Hard-links the file itself into the directory for damaged files in `dir`, and returns the path of
/// the link. Bytes that are unreadable are lost only if the device can never read them again.
///
/// # Errors
/// Of the system, for example if it has no hard links.
pub(super) fn link_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<PathBuf> {
    let target = Target::of(fs, dir, path)?;
    let linked = fs.link(path, &target.path);
    target.made_durable(fs, linked)
}

/// Where a file goes.
struct Target {
    dir: PathBuf,
    path: PathBuf,
    /// What a copy is called until it is complete.
    unfinished: PathBuf,
}

impl Target {
    /// That of the file `path` of a database in `dir`. What an interrupted copy has left is removed.
    fn of(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<Self> {
        let dir = dir.join(DAMAGED_DIR);
        fs.create_dir_all(&dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unfinished = dir.join(format!("{name}.tmp"));
        if fs.exists(&unfinished)? {
            fs.remove(&unfinished)?;
        }
        Ok(Self { path: free_name(fs, &dir, &name)?, unfinished, dir })
    }

    /// Its path, once the name that was `made` is durable. What there is of it goes with a failure: it
    /// takes space on a disk that may be full, and another try would leave a second one.
    fn made_durable(
        self,
        fs: &dyn FileSystem,
        made: std::result::Result<(), IoError>,
    ) -> Result<PathBuf> {
        match made.and_then(|()| fs.sync_dir(&self.dir)) {
            Ok(()) => Ok(self.path),
            Err(error) => {
                drop(fs.remove(&self.unfinished));
                drop(fs.remove(&self.path));
                Err(error.into())
            }
        }
    }
}

/// A free path in `dir`. Ids are never reused, but a file may be damaged twice.
fn free_name(fs: &dyn FileSystem, dir: &Path, name: &str) -> Result<PathBuf> {
    let mut free = dir.join(name);
    let mut number = 1;
    while fs.exists(&free)? {
        free = dir.join(format!("{name}.{number}"));
        number += 1;
    }
    Ok(free)
}
