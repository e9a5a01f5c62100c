//! Writes a blob file, strictly from front to back.
//!
//! Does not know which values are large, nor which tables will refer to them.

use std::sync::Arc;

use esker_base::checksum::file_seed;
use esker_base::coding::put_bytes;
use esker_base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use esker_base::{BlobFileId, DatabaseId, FileHeader, FileKind, KeyspaceId};
use esker_env::{File, FileError};

use crate::blob_format::{BLOB_FORMAT_FIRST, BLOB_FORMAT_ZSTD, BlobFooter, RECORD_PREFIX_LEN};
use crate::sealed::Sealer;
use crate::sequential_writer::SequentialWriter;
use crate::{BlobFileFacts, BlobReference, BlockHandle, Compression, TableOptions};

/// The identity of a blob file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobFileIdentity {
    /// The database, bound into the file header and every checksum.
    pub database: DatabaseId,
    /// The blob file, bound likewise.
    pub id: BlobFileId,
    /// The keyspace that its values belong to.
    pub keyspace: KeyspaceId,
}

/// Writes one blob file.
pub struct BlobFileWriter {
    identity: BlobFileIdentity,
    writer: SequentialWriter,
    sealer: Sealer,
    seed: u64,
    record_count: u32,
    key_bytes: u64,
    value_bytes: u64,
}

impl BlobFileWriter {
    /// Starts a blob file in `file`, which is empty. Nothing is written before there is a megabyte
    /// to write.
    ///
    /// # Panics
    /// If the compression is not built in.
    #[must_use]
    pub fn new(file: Arc<dyn File>, identity: BlobFileIdentity, compression: Compression) -> Self {
        let seed = file_seed(identity.database, identity.id.0);
        let format = match compression {
            Compression::None | Compression::Lz4 => BLOB_FORMAT_FIRST,
            Compression::Zstd => BLOB_FORMAT_ZSTD,
        };
        let (id, database) = (identity.id.0, identity.database);
        let header = FileHeader { kind: FileKind::Blob, format, id, database };
        let mut writer = SequentialWriter::new(file);
        writer.buffer().extend_from_slice(&header.encode());
        let options = TableOptions { compression, ..TableOptions::default() };
        let sealer = Sealer::new(&options, None, seed);
        Self { identity, writer, sealer, seed, record_count: 0, key_bytes: 0, value_bytes: 0 }
    }

    /// Adds the value of one version of `user_key`.
    ///
    /// # Errors
    /// Of the file. The writer can no longer be used: every later call fails likewise.
    ///
    /// # Panics
    /// If key or value are too long, or the file has 2^32 records.
    ///
    /// # Cost
    /// One copy of the value, or its compression. One write to the system for each megabyte.
    pub fn add(&mut self, user_key: &[u8], value: &[u8]) -> Result<BlobReference, FileError> {
        assert!(
            user_key.len() <= KEY_LEN_MAX && value.len() as u64 <= VALUE_LEN_MAX,
            "key and value are within their limits"
        );
        let offset = self.writer.offset() + RECORD_PREFIX_LEN as u64;
        let buffer = self.writer.buffer();
        let start = buffer.len() + RECORD_PREFIX_LEN;
        buffer.extend_from_slice(&[0; RECORD_PREFIX_LEN]);
        put_bytes(buffer, user_key);
        buffer.extend_from_slice(value);
        self.sealer.seal(buffer, start, offset, true);
        let len = (buffer.len() - start) as u64;
        buffer[start - RECORD_PREFIX_LEN..start].copy_from_slice(&len.to_le_bytes());
        self.writer.advance()?;
        let number = self.record_count;
        self.record_count = number.checked_add(1).expect("a blob file has fewer than 2^32 records");
        self.key_bytes += user_key.len() as u64;
        self.value_bytes += value.len() as u64;
        Ok(BlobReference {
            file: self.identity.id,
            block: BlockHandle { offset, len },
            number,
            value_len: value.len() as u64,
        })
    }

    /// How long the file is so far, without its footer.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.writer.offset()
    }

    /// Memory held until it is written, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_bytes() + self.sealer.memory_bytes()
    }

    /// Writes the rest, and syncs the file. Its name is durable after a sync of the directory.
    /// `written_millis` is the present time since the Unix epoch.
    ///
    /// # Errors
    /// Of the file, which should then be removed.
    pub fn finish(mut self, written_millis: u64) -> Result<BlobFileFacts, FileError> {
        self.writer.write()?;
        let checksum = self.writer.written_checksum();
        let footer = BlobFooter {
            record_count: u64::from(self.record_count),
            key_bytes: self.key_bytes,
            value_bytes: self.value_bytes,
            content_checksum: checksum,
            written_millis,
            keyspace: self.identity.keyspace,
        };
        let footer = footer.encode(self.seed, self.writer.offset());
        self.writer.buffer().extend_from_slice(&footer);
        self.writer.write()?;
        if !esker_base::planted::is("skip-blob-sync") {
            self.writer.sync()?;
        }
        let (id, file_bytes) = (self.identity.id, self.writer.offset());
        Ok(BlobFileFacts { id, file_bytes, checksum, written_millis })
    }
}

impl std::fmt::Debug for BlobFileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobFileWriter({}, {} records)", self.identity.id, self.record_count)
    }
}
