//! Takes damaged files out of the way, without losing them.
//!
//! Copied first, durably, and removed under their old name only once the database does without
//! them: a crash in between leaves the old file where it was. A file that the device does not give whole
//! gets a second name in place of a copy, which would have zeros for good.

use std::path::{Path, PathBuf};

use esker_env::{FileExt as _, FileSystem};

use crate::error::Result;

/// Where damaged files go.
pub(super) const DAMAGED_DIR: &str = "damaged";

const PIECE_BYTES: usize = 1 << 20;

/// Copies `path` into the directory for damaged files in `dir`. A copy that is there is left.
///
/// # Errors
/// Of the system.
pub(super) fn copy_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<()> {
    let target_dir = dir.join(DAMAGED_DIR);
    fs.create_dir_all(&target_dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unfinished = target_dir.join(format!("{name}.tmp"));
    if fs.exists(&unfinished)? {
        fs.remove(&unfinished)?;
    }
    let (source, target) = (fs.open(path)?, fs.create(&unfinished)?);
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = source.read_at(offset, &mut piece)?;
        if count == 0 {
            break;
        }
        target.write_all_at(offset, &piece[..count])?;
        offset += count as u64;
    }
    target.sync_all()?;
    fs.rename(&unfinished, &free_name(fs, &target_dir, &name)?)?;
    fs.sync_dir(&target_dir)?;
    Ok(())
}

/// Gives the file itself, which cannot be copied whole, a second name in the directory for damaged files in
/// `dir`. The bytes that the device does not give are lost only if it never gives them again.
///
/// # Errors
/// Of the system, where it knows no second names say.
pub(super) fn link_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<()> {
    let target_dir = dir.join(DAMAGED_DIR);
    fs.create_dir_all(&target_dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs.link(path, &free_name(fs, &target_dir, &name)?)?;
    fs.sync_dir(&target_dir)?;
    Ok(())
}

/// A path in `dir` that nothing has. Ids are never given twice, but a file may be damaged twice.
fn free_name(fs: &dyn FileSystem, dir: &Path, name: &str) -> Result<PathBuf> {
    let mut free = dir.join(name);
    let mut number = 1;
    while fs.exists(&free)? {
        free = dir.join(format!("{name}.{number}"));
        number += 1;
    }
    Ok(free)
}
