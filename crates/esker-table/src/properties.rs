//! What is known of a table without reading it: bounds, counts, sizes.
//!
//! The same bytes stand in the file's properties block and in the manifest, so that opening a
//! database reads no table, and a lost manifest can be rebuilt from tables alone.

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

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};
use esker_base::limits::KEY_LEN_MAX;
use esker_base::{FileId, KeyspaceId, OwnerId, SeqNo, TableId};

use crate::Compression;
use crate::table_extras::TableExtras;

/// What is known of a table without reading it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableProperties {
    /// The table.
    pub id: TableId,
    /// The keyspace that its entries belong to.
    pub keyspace: KeyspaceId,
    /// The level that it was built for.
    pub level: u8,
    /// Length of the file in bytes. Not in the properties block.
    pub file_bytes: u64,
    /// XXH3-64 of every byte of the file before its footer, which repeats it. Not in the
    /// properties block.
    pub checksum: u64,
    /// User key of the first entry.
    pub smallest_key: Vec<u8>,
    /// User key of the last entry.
    pub largest_key: Vec<u8>,
    /// Smallest sequence number of an entry.
    pub seqno_min: SeqNo,
    /// Largest sequence number of an entry.
    pub seqno_max: SeqNo,
    /// Entries, at least one.
    pub entry_count: u64,
    /// Entries that only hide others.
    pub tombstone_count: u64,
    /// Sum of the lengths of all user keys, in bytes.
    pub key_bytes: u64,
    /// Sum of the lengths of all values, in bytes.
    pub value_bytes: u64,
    /// Data blocks.
    pub data_block_count: u32,
    /// Partitions of index and filter.
    pub partition_count: u32,
    /// What data blocks take in the file, trailers included, in bytes.
    pub data_bytes: u64,
    /// The compression that was asked for; a block may still be stored as it is.
    pub compression: Compression,
    /// Filter bits for each user key; 0 if there is no filter.
    pub filter_bits_per_key: u32,
    /// What only some tables have.
    pub extras: TableExtras,
}

impl TableProperties {
    /// Appends everything, for a manifest.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.file_bytes);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        self.encode_block(out);
    }

    /// Reads what [`TableProperties::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not that.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let file_bytes = decoder.varint()?;
        let checksum = decoder.u64()?;
        Self::decode_block(decoder, file_bytes, checksum)
    }

    /// Appends what stands in the properties block of the file.
    pub(crate) fn encode_block(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.id.0.owner.0));
        put_varint(out, self.id.0.counter);
        put_varint(out, u64::from(self.keyspace.0));
        out.extend_from_slice(&[self.level, self.compression.as_byte()]);
        put_varint(out, u64::from(self.filter_bits_per_key));
        put_bytes(out, &self.smallest_key);
        put_bytes(out, &self.largest_key);
        for number in [
            self.seqno_min.get(),
            self.seqno_max.get(),
            self.entry_count,
            self.tombstone_count,
            self.key_bytes,
            self.value_bytes,
            self.data_bytes,
            u64::from(self.data_block_count),
            u64::from(self.partition_count),
        ] {
            put_varint(out, number);
        }
        self.extras.encode(out);
    }

    pub(crate) fn decode_block(
        decoder: &mut Decoder<'_>,
        file_bytes: u64,
        checksum: u64,
    ) -> Result<Self, DecodeError> {
        let owner = OwnerId(decoder.varint_u32()?);
        let id = TableId(FileId { owner, counter: decoder.varint()? });
        let keyspace = KeyspaceId(decoder.varint_u32()?);
        let level = decoder.u8()?;
        let unknown = decoder.error("table properties name an unknown compression");
        let compression = Compression::from_byte(decoder.u8()?).ok_or(unknown)?;
        let filter_bits_per_key = decoder.varint_u32()?;
        let smallest_key = decode_key(decoder)?;
        let largest_key = decode_key(decoder)?;
        let properties = Self {
            id,
            keyspace,
            level,
            file_bytes,
            checksum,
            smallest_key,
            largest_key,
            seqno_min: decode_seqno(decoder)?,
            seqno_max: decode_seqno(decoder)?,
            entry_count: decoder.varint()?,
            tombstone_count: decoder.varint()?,
            key_bytes: decoder.varint()?,
            value_bytes: decoder.varint()?,
            data_bytes: decoder.varint()?,
            data_block_count: decoder.varint_u32()?,
            partition_count: decoder.varint_u32()?,
            compression,
            filter_bits_per_key,
            extras: TableExtras::decode(decoder)?,
        };
        properties.check().map_err(|what| decoder.error(what))?;
        Ok(properties)
    }

    /// What every table that was ever finished fulfils.
    fn check(&self) -> Result<(), &'static str> {
        let blocks = u64::from(self.data_block_count);
        if self.largest_key < self.smallest_key {
            Err("table properties have their keys in the wrong order")
        } else if self.seqno_max < self.seqno_min {
            Err("table properties have their sequence numbers in the wrong order")
        } else if blocks == 0 || self.entry_count < blocks {
            Err("table properties count more blocks than entries")
        } else if self.entry_count < self.tombstone_count {
            Err("table properties count more tombstones than entries")
        } else if self.partition_count == 0 || self.data_block_count < self.partition_count {
            Err("table properties count more partitions than blocks")
        } else {
            Ok(())
        }
    }
}

fn decode_key(decoder: &mut Decoder<'_>) -> Result<Vec<u8>, DecodeError> {
    let too_long = decoder.error("table properties hold a key that is too long");
    let key = decoder.bytes()?;
    if key.len() <= KEY_LEN_MAX { Ok(key.to_vec()) } else { Err(too_long) }
}

fn decode_seqno(decoder: &mut Decoder<'_>) -> Result<SeqNo, DecodeError> {
    let too_large = decoder.error("table properties hold a sequence number past the largest");
    SeqNo::new(decoder.varint()?).ok_or(too_large)
}
