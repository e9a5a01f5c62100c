//! The first bytes of a segment: whether it is the one that was asked for.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use std::path::Path;

use esker_base::file_header::FileHeaderError;
use esker_base::{Corruption, DatabaseId, FileHeader, FileId, FileKind};
use esker_env::{FileError, UnsupportedFormat};

use super::window::Window;

/// What the header of a segment must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectedHeader {
    /// What the file is.
    pub kind: FileKind,
    /// The id in the file's name.
    pub id: FileId,
    /// The database that it belongs to; `None` to take any, as the first file that is read must.
    pub database: Option<DatabaseId>,
    /// The newest format version that the caller reads.
    pub newest_format: u16,
}

impl ExpectedHeader {
    /// That a file has exactly this header.
    #[must_use]
    pub const fn of(header: &FileHeader) -> Self {
        let FileHeader { kind, format, id, database } = *header;
        Self { kind, id, database: Some(database), newest_format: format }
    }

    /// The header that a file without one would have had.
    pub(super) fn to_header(self) -> FileHeader {
        FileHeader {
            kind: self.kind,
            format: self.newest_format,
            id: self.id,
            database: self.database.unwrap_or(DatabaseId([0; 16])),
        }
    }
}

/// What stands at the start of a file.
pub(super) enum Found {
    Header(FileHeader),
    /// No header was ever written here, or what was is lost.
    Nothing,
}

pub(super) fn read_header(
    window: &mut Window,
    expected: &ExpectedHeader,
) -> Result<Found, FileError> {
    let name = file_name(window.file().path());
    let damaged = |what: String| FileError::from(Corruption::new(name.clone(), 0, what));
    let bytes = window.at_least(0, FileHeader::LEN)?;
    let header = match FileHeader::decode(bytes) {
        Ok(header) => header,
        Err(FileHeaderError::TooShort) => return Ok(Found::Nothing),
        Err(error @ FileHeaderError::NotOurs) => {
            let is_blank = bytes.iter().take(FileHeader::LEN).all(|byte| *byte == 0);
            // With the database known, the look-ahead decides whether a header was ever durable.
            if is_blank || expected.database.is_some() {
                return Ok(Found::Nothing);
            }
            return Err(damaged(error.what().into()));
        }
        Err(error) => return Err(damaged(error.what().into())),
    };
    if header.kind != expected.kind {
        return Err(damaged(format!("file is a {}, not a {}", header.kind, expected.kind)));
    }
    if let Some(database) = expected.database
        && header.database != database
    {
        return Err(damaged(format!("file belongs to database {}", header.database)));
    }
    if header.id != expected.id {
        return Err(damaged(format!("file was written under the id {}", header.id)));
    }
    if expected.newest_format < header.format {
        let (kind, found, newest) = (header.kind, header.format, expected.newest_format);
        return Err(UnsupportedFormat { file: name, kind, found, newest }.into());
    }
    Ok(Found::Header(header))
}

/// The name under which a file is reported.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
