//! What the files of manifests are called.

use std::path::Path;

use esker_base::{FileId, FileKind, ManifestId};
use esker_env::{DirEntry, FileSystem, IoError};

/// Suffix of the name of the previous manifest.
const PREDECESSOR_SUFFIX: &str = ".old";

/// The files of `dir`: a directory is not a manifest, whatever its name.
pub(crate) fn files_in(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
    let mut entries = fs.list(dir)?;
    entries.retain(|entry| !entry.is_dir);
    Ok(entries)
}

pub(crate) fn parse_name(name: &str) -> Option<ManifestId> {
    match FileId::parse_file_name(name) {
        Some((id, FileKind::Manifest)) => Some(ManifestId(id)),
        _ => None,
    }
}

pub(crate) fn predecessor_name(id: ManifestId) -> String {
    id.file_name() + PREDECESSOR_SUFFIX
}

pub(crate) fn parse_predecessor(name: &str) -> Option<ManifestId> {
    parse_name(name.strip_suffix(PREDECESSOR_SUFFIX)?)
}
