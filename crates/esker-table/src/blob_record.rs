//! One record of a blob file, checked: a value with its key.

use esker_base::coding::DecodeError;

use crate::blob_format::split_payload;

/// The payload of a record, and where the value starts in it.
#[derive(Debug)]
pub(crate) struct BlobRecord {
    payload: Vec<u8>,
    /// Where its block lies in the file.
    pub(crate) offset: u64,
    key_start: u32,
    value_start: u32,
}

impl BlobRecord {
    /// The record whose block lies at `offset`, and has this payload.
    pub(crate) fn new(payload: Vec<u8>, offset: u64) -> Result<Self, DecodeError> {
        let (key, _) = split_payload(&payload)?;
        // A key and its length take less than 2^32 bytes.
        let (key_start, value_start) = (key.start as u32, key.end as u32);
        Ok(Self { payload, offset, key_start, value_start })
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.payload[self.key_start as usize..self.value_start as usize]
    }

    pub(crate) fn value(&self) -> std::ops::Range<usize> {
        self.value_start as usize..self.payload.len()
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.payload.capacity()
    }
}
