//! External tables: checked, copied or linked, and adopted by a database.
//!
//! An external table is a table file like any other, written under an identity of its own, with all
//! entries at sequence number zero and an [`Origin::External`] in its properties. To adopt it, a
//! database gives it another name and writes an [`Adoption`] after its footer. Nothing before that
//! changes, so the file still verifies with the seeds that it was written with; and a linked file
//! can still be read as an external table under its old name, since an adoption, complete or not,
//! is ignored there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::checksum::{Checksummer, file_seed};
use esker_base::coding::Decoder;
use esker_base::{Corruption, DatabaseId, FileHeader, FileId, FileKind, SeqNo};
use esker_env::{File, FileError, FileExt, FileSystem, IoError};

use crate::footer::Footer;
use crate::format::check_format;
use crate::sealed::unseal;
use crate::{Adoption, Origin, TableProperties};

/// Bytes that are read, checked and copied at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// An external table whose header and end are intact.
#[derive(Debug)]
pub struct ExternalTable {
    path: PathBuf,
    file: Arc<dyn File>,
    header: FileHeader,
    footer: Footer,
    properties: TableProperties,
    is_adopted: bool,
}

/// Why a file is not accepted as an external table.
#[derive(Clone, Debug)]
pub enum ExternalError {
    /// It cannot be read, is damaged, or a newer release wrote it.
    File(FileError),
    /// It is intact, but something else.
    NotExternal(&'static str),
}

impl fmt::Display for ExternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::NotExternal(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ExternalError {}

impl<E: Into<FileError>> From<E> for ExternalError {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

impl ExternalTable {
    /// Opens the file `path`, and reads its header, footer and properties.
    ///
    /// # Errors
    /// See [`ExternalError`].
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<Self, ExternalError> {
        let file = fs.open(path)?;
        let file_bytes = file.len()?;
        let corrupt = |offset: u64, what: &'static str| -> FileError {
            Corruption::new(path.display().to_string(), offset, what).into()
        };
        let mut bytes = [0; FileHeader::LEN];
        if file_bytes < (FileHeader::LEN + Footer::LEN) as u64 {
            return Err(corrupt(file_bytes, "file ends before its footer").into());
        }
        file.read_exact_at(0, &mut bytes)?;
        let header = FileHeader::decode(&bytes).map_err(|error| corrupt(0, error.what()))?;
        if header.kind != FileKind::Table {
            return Err(ExternalError::NotExternal("it is no table"));
        }
        check_format(&header, path.display().to_string())?;
        let seed = file_seed(header.database, header.id);
        let tail_len = (Adoption::LEN + Footer::LEN).min(file_bytes as usize - FileHeader::LEN);
        let mut tail = vec![0; tail_len];
        let tail_at = file_bytes - tail_len as u64;
        file.read_exact_at(tail_at, &mut tail)?;
        // The last footer counts; what an earlier attempt left after it does not.
        let footer = (0..=tail_len - Footer::LEN).rev().find_map(|at| {
            let offset = tail_at + at as u64;
            let footer = Footer::decode(&tail[at..at + Footer::LEN], seed, offset).ok()?;
            Some((footer, offset))
        });
        let (footer, footer_at) =
            footer.ok_or_else(|| corrupt(tail_at, "file does not end in a footer"))?;
        let handle = footer.properties;
        if handle.offset < FileHeader::LEN as u64 || handle.end() != footer_at {
            return Err(corrupt(footer_at, "properties do not end at the footer").into());
        }
        let mut stored = vec![0; handle.len as usize];
        file.read_exact_at(handle.offset, &mut stored)?;
        let (payload, _) = unseal(stored, seed, handle.offset, None)
            .map_err(|what| corrupt(handle.offset, what))?;
        let mut decoder = Decoder::new(&payload);
        let content_bytes = footer_at + Footer::LEN as u64;
        let checksum = footer.content_checksum;
        let properties = TableProperties::decode_block(&mut decoder, content_bytes, checksum)
            .and_then(|properties| decoder.finish().map(|()| properties))
            .map_err(|error| corrupt(handle.offset, error.what))?;
        if properties.id.0 != header.id {
            return Err(corrupt(handle.offset, "properties name another table").into());
        }
        if !matches!(properties.extras.origin, Some(Origin::External { .. }))
            || properties.seqno_max != SeqNo::ZERO
        {
            return Err(ExternalError::NotExternal("it was not written by a table writer"));
        }
        if properties.extras.blobs.is_some() {
            return Err(ExternalError::NotExternal("it refers to blob files"));
        }
        let is_adopted = content_bytes < file_bytes;
        Ok(Self { path: path.to_path_buf(), file, header, footer, properties, is_adopted })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an adoption, complete or not, follows the footer: then this may be the table of a
    /// database, under its old name, and another adoption would take it away from there.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// The same as of now, rather than as of when the file was opened.
    ///
    /// # Errors
    /// Of the file.
    pub fn is_adopted_by_now(&self) -> Result<bool, FileError> {
        Ok(self.is_adopted || self.properties.file_bytes < self.file.len()?)
    }

    /// The properties of the table.
    #[must_use]
    pub const fn properties(&self) -> &TableProperties {
        &self.properties
    }

    /// The database and the id in its header, with which its contents verify.
    #[must_use]
    pub const fn birth(&self) -> (DatabaseId, FileId) {
        (self.header.database, self.header.id)
    }

    /// Whether the file at `path` is this one, by its header and length: meanwhile another may have got that
    /// name.
    ///
    /// # Errors
    /// Of the file at `path`.
    pub fn is_at(&self, fs: &dyn FileSystem, path: &Path) -> Result<bool, IoError> {
        let file = fs.open(path)?;
        let mut bytes = [0; FileHeader::LEN];
        if file.len()? != self.file.len()? {
            return Ok(false);
        }
        file.read_exact_at(0, &mut bytes)?;
        Ok(FileHeader::decode(&bytes).is_ok_and(|header| header == self.header))
    }

    /// Reads the file once, checks its checksum, and writes it to `copy`, if there is one.
    ///
    /// # Errors
    /// Of either file; `Corruption` if the checksum does not match. The copy is then useless.
    pub fn check(&self, copy: Option<&dyn File>) -> Result<(), FileError> {
        let mut checksum = Checksummer::new();
        let end = self.properties.file_bytes;
        let footer_at = end - Footer::LEN as u64;
        let mut piece = Vec::new();
        let mut offset = 0;
        while offset < end {
            // The last piece is the footer, which the checksum does not cover.
            let len = if offset < footer_at { footer_at - offset } else { end - offset };
            piece.resize(PIECE_BYTES.min(len) as usize, 0);
            self.file.read_exact_at(offset, &mut piece)?;
            if offset < footer_at {
                checksum.update(&piece);
            }
            if let Some(copy) = copy {
                copy.write_all_at(offset, &piece)?;
            }
            offset += piece.len() as u64;
        }
        if checksum.finish() != self.footer.content_checksum {
            let what = "file does not have the checksum that its footer says";
            return Err(Corruption::new(self.path.display().to_string(), 0, what).into());
        }
        Ok(())
    }
}

/// Writes `adoption` after the first `content_bytes` of `file`, and makes the whole file durable.
/// Returns its length. May be repeated: the last one counts.
///
/// # Errors
/// Of the file.
pub fn adopt(file: &dyn File, content_bytes: u64, adoption: &Adoption) -> Result<u64, FileError> {
    let end = content_bytes + Adoption::LEN as u64;
    file.write_all_at(content_bytes, &adoption.encode(content_bytes))?;
    // An earlier attempt may have left more there.
    file.truncate(end)?;
    file.sync_all()?;
    Ok(end)
}

#[cfg(test)]
mod tests;
