//! The first 48 bytes of every file: what it is, and which database it belongs to.
//!
//! So a file that was swapped, renamed or copied from another database is detected at open, before
//! any of its contents are trusted.

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

use crate::checksum::checksum32;
use crate::coding::Decoder;
use crate::file_kind::FileKind;
use crate::{DatabaseId, FileId, OwnerId};

/// First bytes of every file. The line ends and the end-of-file byte reveal a transfer as text.
pub const MAGIC: [u8; 8] = *b"esker\r\n\x1a";

/// First 48 bytes of every file.
///
/// | offset | size | field      | meaning                                                 |
/// |-------:|-----:|------------|---------------------------------------------------------|
/// |      0 |    8 | `magic`    | [`MAGIC`]                                               |
/// |      8 |    1 | `kind`     | [`FileKind`]                                            |
/// |      9 |    1 | zero       |                                                         |
/// |     10 |    2 | `format`   | format version of this kind; the reader refuses others  |
/// |     12 |    4 | `owner`    | owner of the file id                                    |
/// |     16 |    8 | `counter`  | counter of the file id                                  |
/// |     24 |   16 | `database` | [`DatabaseId`]                                          |
/// |     40 |    4 | zero       |                                                         |
/// |     44 |    4 | `checksum` | [`checksum32`] of bytes 0..44 under seed 0              |
///
/// Little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHeader {
    /// What the file is.
    pub kind: FileKind,
    /// Format version of this kind of file.
    pub format: u16,
    /// The id that the file was created under.
    pub id: FileId,
    /// The database that the file belongs to.
    pub database: DatabaseId,
}

/// Why bytes are not a [`FileHeader`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileHeaderError {
    /// Fewer than [`FileHeader::LEN`] bytes.
    TooShort,
    /// The file does not start with [`MAGIC`]: it is not one of ours.
    NotOurs,
    /// The checksum does not match.
    Damaged,
    /// The checksum matches, but the kind is none that this release knows.
    UnknownKind(u8),
}

impl FileHeaderError {
    /// What is wrong, as a lower-case phrase.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::TooShort => "file is shorter than its header",
            Self::NotOurs => "file does not start with the esker magic",
            Self::Damaged => "file header checksum does not match",
            Self::UnknownKind(_) => "file header names an unknown kind of file",
        }
    }
}

impl FileHeader {
    /// Length of the encoding, in bytes.
    pub const LEN: usize = 48;

    const CHECKED_LEN: usize = Self::LEN - 4;

    /// The encoding of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = Vec::with_capacity(Self::LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.kind as u8, 0]);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&self.id.owner.0.to_le_bytes());
        out.extend_from_slice(&self.id.counter.to_le_bytes());
        out.extend_from_slice(&self.database.0);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&checksum32(0, &out).to_le_bytes());
        let mut header = [0; Self::LEN];
        header.copy_from_slice(&out);
        header
    }

    /// The database that `bytes` would name if they were a complete header: the owner of an
    /// unfinished file, for uses where nothing depends on it. `None` if there are too few bytes.
    #[must_use]
    pub fn database_named_by(bytes: &[u8]) -> Option<DatabaseId> {
        let mut decoder = Decoder::new(bytes);
        decoder.take(24).ok()?;
        Some(DatabaseId(decoder.take(16).ok()?.try_into().ok()?))
    }

    /// Reads a header from the first bytes of a file.
    ///
    /// # Errors
    /// If they are not a header; see [`FileHeaderError`]. A known kind with an unknown format
    /// version is not an error here: the floor that owns the kind refuses it, naming the version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileHeaderError> {
        let too_short = |_| FileHeaderError::TooShort;
        let mut decoder = Decoder::new(bytes);
        let checked = Decoder::new(bytes).take(Self::CHECKED_LEN).map_err(too_short)?;
        if decoder.take(MAGIC.len()).map_err(too_short)? != MAGIC {
            return Err(FileHeaderError::NotOurs);
        }
        let kind = decoder.u8().map_err(too_short)?;
        let zero = decoder.u8().map_err(too_short)?;
        let format = decoder.u16().map_err(too_short)?;
        let owner = OwnerId(decoder.u32().map_err(too_short)?);
        let counter = decoder.u64().map_err(too_short)?;
        let database = decoder.take(16).map_err(too_short)?;
        let reserved = decoder.u32().map_err(too_short)?;
        let checksum = decoder.u32().map_err(too_short)?;
        if checksum != checksum32(0, checked) || zero != 0 || reserved != 0 {
            return Err(FileHeaderError::Damaged);
        }
        let kind = FileKind::from_byte(kind).ok_or(FileHeaderError::UnknownKind(kind))?;
        let mut id = [0; 16];
        id.copy_from_slice(database);
        Ok(Self { kind, format, id: FileId { owner, counter }, database: DatabaseId(id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            kind: FileKind::Log,
            format: 1,
            id: FileId { owner: OwnerId(1), counter: 7 },
            database: DatabaseId(*b"0123456789abcdef"),
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = header().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            &hex[..88],
            "65736b65720d0a1a02000100010000000700000000000000303132333435363738396162636465660000\
             0000"
        );
        assert_eq!(FileHeader::decode(&header().encode()), Ok(header()));
        let database = FileHeader::database_named_by(&header().encode());
        assert_eq!(database, Some(header().database));
        assert_eq!(FileHeader::database_named_by(&[0; 39]), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = header().encode();
        for bit in 0..FileHeader::LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..FileHeader::LEN {
            assert!(FileHeader::decode(&good[..len]).is_err(), "{len}");
        }
    }
}
