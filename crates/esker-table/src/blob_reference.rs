//! Blob references, which tables store instead of values that are in blob files.

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

use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_base::limits::VALUE_LEN_MAX;
use esker_base::{BlobFileId, FileId, OwnerId};

use crate::BlockHandle;
use crate::blob_format::RECORD_PREFIX_LEN;

/// Where a value is stored: the value of an entry of kind
/// [`BlobReference`](esker_base::EntryKind::BlobReference).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobReference {
    /// The blob file.
    pub file: BlobFileId,
    /// The block of its record in the file, after the record's length.
    pub block: BlockHandle,
    /// Number of the record in its file, from 0.
    pub number: u32,
    /// Length of the value, in bytes.
    pub value_len: u64,
}

impl BlobReference {
    /// Appends the reference as it is stored in a table.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.file.0.owner.0));
        put_varint(out, self.file.0.counter);
        self.block.encode(out);
        put_varint(out, u64::from(self.number));
        put_varint(out, self.value_len);
    }

    /// Reads a reference that takes up all of `bytes`.
    ///
    /// # Errors
    /// If they are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let owner = OwnerId(decoder.varint_u32()?);
        let file = BlobFileId(FileId { owner, counter: decoder.varint()? });
        let block = BlockHandle::decode(&mut decoder)?;
        let number = decoder.varint_u32()?;
        let too_long = decoder.error("blob reference says an impossible length");
        let value_len = decoder.varint()?;
        decoder.finish()?;
        if value_len > VALUE_LEN_MAX {
            return Err(too_long);
        }
        Ok(Self { file, block, number, value_len })
    }

    /// What the record takes in its file, in bytes.
    #[must_use]
    pub const fn record_bytes(&self) -> u64 {
        self.block.len.saturating_add(RECORD_PREFIX_LEN as u64)
    }
}
