//! Versions of the table format, and the check of a file's header.

use esker_base::{Corruption, DatabaseId, FileHeader, FileId, FileKind, TableId};
use esker_env::{FileError, UnsupportedFormat};

use crate::Compression;

/// Tables whose blocks are stored raw or as LZ4, of puts and tombstones. Only read.
const FORMAT_FIRST: u16 = 1;

/// As [`FORMAT_FIRST`], and blocks may be Zstandard: a release built without it refuses the whole
/// table by its version, before it meets a block that it cannot unpack. Only read.
const FORMAT_FIRST_ZSTD: u16 = 2;

/// As [`FORMAT_FIRST`], with entries of every kind and tagged sections in the properties.
const FORMAT_TAGGED: u16 = 3;

/// As [`FORMAT_TAGGED`], and blocks may be Zstandard.
const FORMAT_TAGGED_ZSTD: u16 = 4;

/// The newest version that this build reads.
pub const FORMAT_NEWEST: u16 =
    if cfg!(feature = "zstd") { FORMAT_TAGGED_ZSTD } else { FORMAT_TAGGED };

/// The version that a table of this compression is written in.
pub(crate) const fn format_of(compression: Compression) -> u16 {
    match compression {
        Compression::None | Compression::Lz4 => FORMAT_TAGGED,
        Compression::Zstd => FORMAT_TAGGED_ZSTD,
    }
}

/// Whether this build reads tables of version `format`.
const fn is_read(format: u16) -> bool {
    let has_zstd = matches!(format, FORMAT_FIRST_ZSTD | FORMAT_TAGGED_ZSTD);
    matches!(format, FORMAT_FIRST | FORMAT_TAGGED) || (has_zstd && cfg!(feature = "zstd"))
}

/// Checks that `bytes`, the first of the file of table `id`, are the header of a table that was
/// born under the database and the id of `birth`.
pub(crate) fn check_header(
    bytes: &[u8],
    id: TableId,
    birth: (DatabaseId, FileId),
) -> Result<(), FileError> {
    let damaged = |what: String| FileError::Corruption(Corruption::new(id.file_name(), 0, what));
    let header = FileHeader::decode(bytes).map_err(|error| damaged(error.what().to_owned()))?;
    if header.kind != FileKind::Table {
        return Err(damaged(format!("file is a {} and not a table", header.kind)));
    }
    let (database, born_as) = birth;
    if header.database != database {
        let what = format!("file belongs to database {}, not {database}", header.database);
        return Err(damaged(what));
    }
    if header.id != born_as {
        return Err(damaged(format!("file was created as {}", TableId(header.id).file_name())));
    }
    check_format(&header, id.file_name())
}

/// Checks that this build reads the format of a table; `file` names it in the error.
pub(crate) fn check_format(header: &FileHeader, file: String) -> Result<(), FileError> {
    if header.format < FORMAT_FIRST {
        let what = format!("file has format version {}", header.format);
        return Err(FileError::Corruption(Corruption::new(file, 0, what)));
    }
    if !is_read(header.format) {
        return Err(FileError::UnsupportedFormat(UnsupportedFormat {
            file,
            kind: FileKind::Table,
            found: header.format,
            newest: FORMAT_NEWEST,
        }));
    }
    Ok(())
}
