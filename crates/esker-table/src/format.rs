//! Versions of the table format, and the check of a file's header.

use esker_base::{Corruption, DatabaseId, FileHeader, FileKind, TableId};
use esker_env::{FileError, UnsupportedFormat};

use crate::Compression;

/// Tables whose blocks are stored raw or as LZ4.
pub(crate) const FORMAT_FIRST: u16 = 1;

/// As [`FORMAT_FIRST`], and blocks may be Zstandard: a release built without it refuses the whole
/// table by its version, before it meets a block that it cannot unpack.
pub(crate) const FORMAT_ZSTD: u16 = 2;

/// The newest version that this build reads.
pub const FORMAT_NEWEST: u16 = if cfg!(feature = "zstd") { FORMAT_ZSTD } else { FORMAT_FIRST };

/// The version that a table of this compression is written in.
pub(crate) const fn format_of(compression: Compression) -> u16 {
    match compression {
        Compression::None | Compression::Lz4 => FORMAT_FIRST,
        Compression::Zstd => FORMAT_ZSTD,
    }
}

/// Checks that `bytes`, the first of a file, are the header of table `id` of `database`.
pub(crate) fn check_header(
    bytes: &[u8],
    database: DatabaseId,
    id: TableId,
) -> Result<(), FileError> {
    let damaged = |what: String| FileError::Corruption(Corruption::new(id.file_name(), 0, what));
    let header = FileHeader::decode(bytes).map_err(|error| damaged(error.what().to_owned()))?;
    if header.kind != FileKind::Table {
        return Err(damaged(format!("file is a {} and not a table", header.kind)));
    }
    if header.database != database {
        let what = format!("file belongs to database {}, not {database}", header.database);
        return Err(damaged(what));
    }
    if header.id != id.0 {
        return Err(damaged(format!("file was created as {}", TableId(header.id).file_name())));
    }
    if header.format < FORMAT_FIRST {
        return Err(damaged(format!("file has format version {}", header.format)));
    }
    if header.format > FORMAT_NEWEST {
        return Err(FileError::UnsupportedFormat(UnsupportedFormat {
            file: id.file_name(),
            kind: FileKind::Table,
            found: header.format,
            newest: FORMAT_NEWEST,
        }));
    }
    Ok(())
}
