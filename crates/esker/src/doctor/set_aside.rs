//! Moves damaged files out of the way, without losing them.
//!
//! They are first copied, durably, and removed under their old name only once the database no
//! longer needs them: a crash in between leaves the old file in place. A file that the device
//! cannot read completely is hard-linked instead: a copy would contain zeros for good.

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

/// Hard-links the file itself, which cannot be copied completely, into the directory for damaged
/// files in `dir`. The unreadable bytes are lost only if the device can never read them again.
///
/// # Errors
/// Of the system, for example if it has no hard links.
pub(super) fn link_aside(fs: &dyn FileSystem, dir: &Path, path: &Path) -> Result<()> {
    let target_dir = dir.join(DAMAGED_DIR);
    fs.create_dir_all(&target_dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs.link(path, &free_name(fs, &target_dir, &name)?)?;
    fs.sync_dir(&target_dir)?;
    Ok(())
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
