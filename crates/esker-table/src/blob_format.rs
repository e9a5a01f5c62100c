//! The blob file format, for values that are too large to be moved by every compaction.
//!
//! ```text
//! blob file := file header, record*, footer
//! record    := length of the block u64, block
//! block     := as in a table; its payload is: key length varint, user key, value
//! ```
//!
//! A record is the value of one version of one key. The key stored with the value proves that a
//! reference leads to the value that it was made for.

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

use std::ops::Range;

use esker_base::checksum::checksum32;
use esker_base::coding::{DecodeError, Decoder};
use esker_base::{BlobFileId, Corruption, DatabaseId, FileHeader, FileKind, KeyspaceId};
use esker_env::{FileError, UnsupportedFormat};

/// Blob files whose values are stored raw or as LZ4.
pub(crate) const BLOB_FORMAT_FIRST: u16 = 1;

/// As [`BLOB_FORMAT_FIRST`], and values may be Zstandard.
pub(crate) const BLOB_FORMAT_ZSTD: u16 = 2;

/// The newest version of blob files that this build reads.
pub const BLOB_FORMAT_NEWEST: u16 =
    if cfg!(feature = "zstd") { BLOB_FORMAT_ZSTD } else { BLOB_FORMAT_FIRST };

/// Bytes before the block of a record: its length.
pub(crate) const RECORD_PREFIX_LEN: usize = 8;

/// Last bytes of every blob file.
pub(crate) const BLOB_FOOTER_MAGIC: [u8; 4] = *b"esbl";

/// What a blob file takes besides its records, in bytes.
pub const BLOB_FILE_FRAME_LEN: u64 =
    (FileHeader::LEN as u64).saturating_add(BlobFooter::LEN as u64);

/// Last 52 bytes of every blob file.
///
/// | offset | size | field              | meaning                                               |
/// |-------:|-----:|--------------------|-------------------------------------------------------|
/// |      0 |    8 | `record_count`     | records in the file                                   |
/// |      8 |    8 | `key_bytes`        | sum of the lengths of all keys                        |
/// |     16 |    8 | `value_bytes`      | sum of the lengths of all values, before compression  |
/// |     24 |    8 | `content_checksum` | XXH3-64 of every byte of the file before the footer   |
/// |     32 |    8 | `written_millis`   | when the file was ended, since the Unix epoch         |
/// |     40 |    4 | `keyspace`         | the keyspace that the values belong to                |
/// |     44 |    4 | `checksum`         | of bytes 0..44, seeded with file seed + footer offset |
/// |     48 |    4 | magic              | `esbl`                                                |
///
/// Little-endian. Fixed size and last, so a reader needs only the file length to find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlobFooter {
    pub(crate) record_count: u64,
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
    pub(crate) content_checksum: u64,
    pub(crate) written_millis: u64,
    pub(crate) keyspace: KeyspaceId,
}

impl BlobFooter {
    pub(crate) const LEN: usize = 52;
    const CHECKED_LEN: usize = 44;

    pub(crate) fn encode(&self, file_seed: u64, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        let counts = [self.record_count, self.key_bytes, self.value_bytes];
        for word in counts.into_iter().chain([self.content_checksum, self.written_millis]) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.keyspace.0.to_le_bytes());
        let checksum = checksum32(file_seed.wrapping_add(offset), &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&BLOB_FOOTER_MAGIC);
        out
    }

    pub(crate) fn decode(bytes: &[u8], file_seed: u64, offset: u64) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let checked = Decoder::new(bytes).take(Self::CHECKED_LEN)?;
        let footer = Self {
            record_count: decoder.u64()?,
            key_bytes: decoder.u64()?,
            value_bytes: decoder.u64()?,
            content_checksum: decoder.u64()?,
            written_millis: decoder.u64()?,
            keyspace: KeyspaceId(decoder.u32()?),
        };
        if decoder.u32()? != checksum32(file_seed.wrapping_add(offset), checked) {
            return Err(decoder.error("footer checksum does not match"));
        }
        if decoder.take(BLOB_FOOTER_MAGIC.len())? != BLOB_FOOTER_MAGIC {
            return Err(decoder.error("footer does not end in its magic"));
        }
        decoder.finish()?;
        Ok(footer)
    }
}

const _: () = assert!(BlobFooter::LEN == BlobFooter::CHECKED_LEN + 4 + BLOB_FOOTER_MAGIC.len());

/// The ranges of key and value in the payload of a record.
pub(crate) fn split_payload(payload: &[u8]) -> Result<(Range<usize>, Range<usize>), DecodeError> {
    let mut decoder = Decoder::new(payload);
    let key_len = decoder.bytes()?.len();
    let key_end = decoder.position();
    Ok((key_end.saturating_sub(key_len)..key_end, key_end..payload.len()))
}

/// Checks that `bytes`, the first of a file, are the header of blob file `id` of `database`.
pub(crate) fn check_blob_header(
    bytes: &[u8],
    database: DatabaseId,
    id: BlobFileId,
) -> Result<(), FileError> {
    let damaged = |what: String| FileError::Corruption(Corruption::new(id.file_name(), 0, what));
    let header = FileHeader::decode(bytes).map_err(|error| damaged(error.what().to_owned()))?;
    if header.kind != FileKind::Blob {
        return Err(damaged(format!("file is a {} and not a blob file", header.kind)));
    }
    if header.database != database {
        let what = format!("file belongs to database {}, not {database}", header.database);
        return Err(damaged(what));
    }
    if header.id != id.0 {
        return Err(damaged(format!("file was created as {}", BlobFileId(header.id).file_name())));
    }
    if header.format < BLOB_FORMAT_FIRST {
        return Err(damaged(format!("file has format version {}", header.format)));
    }
    if header.format > BLOB_FORMAT_NEWEST {
        return Err(FileError::UnsupportedFormat(UnsupportedFormat {
            file: id.file_name(),
            kind: FileKind::Blob,
            found: header.format,
            newest: BLOB_FORMAT_NEWEST,
        }));
    }
    Ok(())
}
