//! `esker dump`: a file of a database in readable form.
//!
//! Reads only that file, as far as possible: what is printed before an error is what precedes the
//! damage. Needs no manifest and takes no lock, so it can also show files of a database that does
//! not open.

mod blob;
mod log;
mod manifest;
mod table;
mod warm;

use std::io::Write;
use std::path::{Path, PathBuf};

use esker_base::file_header::{FileHeaderError, MAGIC};
use esker_base::{EXPIRY_LEN, EntryKind, FileHeader, FileId, FileKind};
use esker_env::{Env, FileExt as _};

use crate::failure::{Failure, Result};
use crate::text::shortened;

/// Width to which keys and values are cut.
const SHOWN_WIDTH: usize = 60;

/// A file with its header.
struct Opened {
    env: Env,
    dir: PathBuf,
    path: PathBuf,
    header: FileHeader,
}

/// Runs the command.
pub(crate) fn run(path: &Path, limit: Option<u64>, out: &mut dyn Write) -> Result<()> {
    let opened = open(path)?;
    let FileHeader { kind, format, id, database } = opened.header;
    writeln!(out, "{kind} {id} of database {database}, format version {format}")?;
    let limit = limit.unwrap_or(u64::MAX);
    match kind {
        FileKind::Table => table::dump(&opened, limit, out),
        FileKind::Log => log::dump(&opened, limit, out),
        FileKind::Manifest => manifest::dump(&opened, limit, out),
        FileKind::Blob => blob::dump(&opened, limit, out),
        FileKind::Warm => warm::dump(&opened, limit, out),
    }
}

fn open(path: &Path) -> Result<Opened> {
    let env = Env::os();
    let other = |error: esker_env::IoError| Failure::Other(error.to_string());
    let file = env.fs.open(path).map_err(other)?;
    let mut bytes = vec![0; FileHeader::LEN];
    let len = usize::try_from(file.len().map_err(other)?).unwrap_or(usize::MAX);
    bytes.truncate(len);
    file.read_exact_at(0, &mut bytes).map_err(other)?;
    let header = FileHeader::decode(&bytes).map_err(|error| {
        let message = format!("{}: {}", path.display(), error.what());
        if is_ours(path, &bytes, error) {
            Failure::Damaged(message)
        } else {
            Failure::Other(message)
        }
    })?;
    let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
    Ok(Opened { env, dir, path: path.to_path_buf(), header })
}

/// Whether a file whose first bytes are not a header is a damaged file of a database: by its name,
/// or by as much of the magic as it has.
fn is_ours(path: &Path, bytes: &[u8], error: FileHeaderError) -> bool {
    let says_so = match error {
        FileHeaderError::NotOurs => false,
        FileHeaderError::TooShort => {
            let magic = &bytes[..bytes.len().min(MAGIC.len())];
            !magic.is_empty() && MAGIC.starts_with(magic)
        }
        FileHeaderError::Damaged | FileHeaderError::UnknownKind(_) => true,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    says_so || FileId::parse_file_name(&name).is_some()
}

/// What follows the key in an operation or an entry of that kind.
fn content(kind: EntryKind, value: &[u8]) -> String {
    match (kind, value.split_first_chunk::<EXPIRY_LEN>()) {
        (EntryKind::Tombstone | EntryKind::SingleDelete, _) => String::new(),
        (EntryKind::RangeTombstone, _) if value.is_empty() => " and all keys behind it".to_owned(),
        (EntryKind::RangeTombstone, _) => {
            format!(" up to before {}", shortened(value, SHOWN_WIDTH))
        }
        (EntryKind::ExpiringPut, Some((expiry, value))) => {
            let expiry = u64::from_le_bytes(*expiry);
            format!(" until {expiry} ms = {}", shortened(value, SHOWN_WIDTH))
        }
        _ => format!(" = {}", shortened(value, SHOWN_WIDTH)),
    }
}

#[cfg(test)]
mod tests;
