//! Salvage: what is intact of a database, as a new database beside it.
//!
//! Every file is copied piece by piece, with zeros for parts that the device cannot read; a file
//! that cannot even be opened is left out. Then the copy is repaired. The original is only read.
//! The repair is told which zeros stand for unreadable parts, and reports which keys that costs.

use std::path::Path;
use std::{fmt, io};

use esker_base::{FileId, FileKind};
use esker_env::{Env, FileExt as _, IoError};
use esker_tree::Manifest;

use super::place::{Access, Place};
use super::repair::{check_log_is_here, repair};
use super::repair_report::RepairReport;
use super::{ProgressListener, RepairOptions};
use crate::error::{Error, Result};
use crate::recovery::LOCK_FILE;

/// The unit of reading, and of giving up on what cannot be read. A page: the least that the system
/// reads.
const PIECE_BYTES: usize = 4096;

/// A part of a file that the device could not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadablePart {
    /// Name of the file.
    pub file: String,
    /// Where the part starts.
    pub offset: u64,
    /// Its length; if the file cannot be opened, its length according to the directory.
    pub bytes: u64,
    /// The system's error.
    pub what: String,
}

/// What [`Doctor::salvage`](super::Doctor::salvage) did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SalvageReport {
    /// Files that were copied.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What could not be read.
    pub unreadable: Vec<UnreadablePart>,
    /// The repair of the copy, and what is lost.
    pub repair: RepairReport,
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "copied: {} files of {} bytes", self.files, self.bytes)?;
        for UnreadablePart { file, offset, bytes, what } in &self.unreadable {
            writeln!(f, "unreadable: {bytes} bytes of {file} at {offset}: {what}")?;
        }
        self.repair.fmt(f)
    }
}

/// Copies what can be read of the database in `place` to `target`, and repairs the copy.
pub(super) fn salvage(
    place: &Place,
    target: &Path,
    past_holes: bool,
    progress: &mut ProgressListener<'_>,
) -> Result<SalvageReport> {
    let env = &place.device;
    if target.as_os_str().is_empty() {
        return Err(Error::invalid_input("the path of the directory to salvage to is empty"));
    }
    let taken = || Error::invalid_input(format!("{} is not an empty directory", target.display()));
    if env.fs.exists(target)? && !env.fs.list(target).map_err(|_error| taken())?.is_empty() {
        return Err(taken());
    }
    // Of the copy it could not be told.
    let manifest = Manifest::recover(&*env.fs, &place.dir).ok().flatten();
    check_log_is_here(place, manifest.as_ref().map(|manifest| &manifest.catalog.logs))?;
    env.fs.create_dir_all(target)?;
    let mut report = SalvageReport::default();
    if let Some(error) = &place.unlocked {
        note(&mut report, LOCK_FILE, 0, 0, error.to_string());
    }
    for (dir, name, bytes) in place.paths() {
        copy(env, &dir.join(&name), (&target.join(&name), &name, bytes), &mut report)?;
    }
    env.fs.sync_dir(target)?;
    let copy = Place::lock(env, target, Some(target), Access::Change)?;
    for UnreadablePart { file, offset, bytes, what } in &report.unreadable {
        let path = target.join(file);
        if file != LOCK_FILE && env.fs.exists(&path)? {
            copy.unreadable.add_of_copy(&path, (*offset, offset.saturating_add(*bytes)), what);
        }
    }
    let options = RepairOptions { dry_run: false, past_holes };
    report.repair = repair(&copy, &options, progress)?;
    Ok(report)
}

/// Whether it says nothing of the file: this process is short of something, or may not read it.
fn is_of_the_process(error: &IoError) -> bool {
    error.is_of_the_moment() || error.kind() == io::ErrorKind::PermissionDenied
}

fn copy(
    env: &Env,
    from: &Path,
    (to, name, listed_bytes): (&Path, &str, u64),
    report: &mut SalvageReport,
) -> Result<()> {
    let opened = env.fs.open(from).and_then(|source| Ok((source.len()?, source)));
    let (len, source) = match opened {
        Ok(opened) => opened,
        // The file may be sound.
        Err(error) if is_of_the_process(&error) => return Err(error.into()),
        Err(error) => {
            note(report, name, 0, listed_bytes, error.to_string());
            // Without the newest manifest an older one would be taken for it: one that is damaged is
            // what it is.
            let kind = FileId::parse_file_name(name).map(|(_, kind)| kind);
            if kind == Some(FileKind::Manifest) {
                env.fs.create(to)?.sync_all()?;
            }
            return Ok(());
        }
    };
    let target = env.fs.create(to)?;
    let mut piece = vec![0; PIECE_BYTES];
    // Whole pieces; what was never written takes no space in the copy either.
    let data_from = |offset: u64| {
        let data = source.data_from(offset);
        offset.max(data - data % PIECE_BYTES as u64)
    };
    let (mut offset, mut end) = (data_from(0), 0);
    while offset < len {
        let count = (len - offset).min(PIECE_BYTES as u64) as usize;
        let bytes = &mut piece[..count];
        match source.read_exact_at(offset, bytes) {
            Ok(()) => {}
            Err(error) if is_of_the_process(&error) => return Err(error.into()),
            Err(error) => {
                bytes.fill(0);
                note(report, name, offset, count as u64, error.to_string());
            }
        }
        target.write_all_at(offset, bytes)?;
        end = offset + count as u64;
        offset = data_from(end);
    }
    if end < len {
        target.truncate(len)?;
    }
    target.sync_all()?;
    report.files += 1;
    report.bytes += len;
    Ok(())
}

/// Adds a part, or makes the one before it longer.
fn note(report: &mut SalvageReport, file: &str, offset: u64, bytes: u64, what: String) {
    match report.unreadable.last_mut() {
        Some(last) if last.file == file && last.offset + last.bytes == offset => {
            last.bytes += bytes
        }
        _ => report.unreadable.push(UnreadablePart { file: file.to_owned(), offset, bytes, what }),
    }
}
