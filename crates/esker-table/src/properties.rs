//! Table properties: what is known of a table without reading it, such as bounds, counts and sizes.
//!
//! The same bytes are in the file's properties block and in the manifest, so that opening a
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

use std::ops::Bound;

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};
use esker_base::limits::KEY_LEN_MAX;
use esker_base::{FileId, KeyRange, KeyspaceId, OwnerId, SeqNo, TableId};

use crate::Compression;
use crate::blob_uses::{BlobUse, BlobUses};
use crate::range_block::END_LEN_MAX;
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
    /// The first user key: of an entry, or the start of a range tombstone.
    pub smallest_key: Vec<u8>,
    /// The last user key of an entry, or the end of the last range tombstone if that is larger, and
    /// then not a key of the table: see [`TableProperties::ends_before`].
    pub largest_key: Vec<u8>,
    /// Smallest sequence number of an entry or a range tombstone.
    pub seqno_min: SeqNo,
    /// Largest sequence number of an entry or a range tombstone.
    pub seqno_max: SeqNo,
    /// Entries; at least one unless there are range tombstones, which are not counted.
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
    /// Size of data blocks in the file, including trailers, in bytes.
    pub data_bytes: u64,
    /// The requested compression; single blocks may still be stored uncompressed.
    pub compression: Compression,
    /// Filter bits for each user key; 0 if there is no filter.
    pub filter_bits_per_key: u32,
    /// What only some tables have.
    pub extras: TableExtras,
}

impl TableProperties {
    /// Whether every key that the table holds, or deletes by range, is less than `key`.
    #[inline]
    #[must_use]
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.extras.ranges {
            Some(ranges) if ranges.ends_table => self.largest_key.as_slice() <= key,
            _ => self.largest_key.as_slice() < key,
        }
    }

    /// Whether every key of `range` is greater than all that the table holds or deletes.
    #[must_use]
    pub fn is_before(&self, range: &KeyRange) -> bool {
        match &range.start {
            Bound::Included(start) => self.ends_before(start),
            Bound::Excluded(start) => self.largest_key <= *start,
            Bound::Unbounded => false,
        }
    }

    /// Whether it may hold or delete a key of `range`, according to its bounds.
    #[must_use]
    pub fn overlaps(&self, range: &KeyRange) -> bool {
        !self.is_before(range) && !range.ends_before(&self.smallest_key)
    }

    /// Whether it has entries or range tombstones that only hide older entries.
    #[must_use]
    pub const fn has_tombstones(&self) -> bool {
        self.tombstone_count > 0 || self.extras.ranges.is_some()
    }

    /// Whether it holds entries that a compaction drops once no snapshot needs them.
    #[must_use]
    pub const fn has_spent(&self) -> bool {
        self.has_tombstones() || 0 < self.extras.replaced_count
    }

    /// What it has in each blob file that its entries refer to, ascending.
    pub fn blob_uses(&self) -> impl Iterator<Item = &BlobUse> {
        self.extras.blobs.iter().flat_map(BlobUses::as_slice)
    }

    /// Bytes of the file, and of the blob file records that it refers to.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let blobs = self.extras.blobs.as_ref().map_or(0, |uses| uses.bytes());
        self.file_bytes.saturating_add(blobs)
    }

    /// Appends everything, for a manifest.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.file_bytes);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        self.encode_block(out);
    }

    /// Decodes the output of [`TableProperties::encode`].
    ///
    /// # Errors
    /// If the bytes are not that.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let file_bytes = decoder.varint()?;
        let checksum = decoder.u64()?;
        Self::decode_block(decoder, file_bytes, checksum)
    }

    /// Appends the content of the properties block of the file.
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
        let smallest_key = decode_key(decoder, END_LEN_MAX)?;
        let largest_key = decode_key(decoder, END_LEN_MAX)?;
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

    /// Checks what holds for every table that was ever finished.
    fn check(&self) -> Result<(), &'static str> {
        let blocks = u64::from(self.data_block_count);
        let ranges = self.extras.ranges.as_ref();
        let has_no_entries = ranges.is_some_and(|ranges| !ranges.has_entries);
        let end = ranges.filter(|ranges| ranges.ends_table).map(|ranges| &ranges.end);
        if ranges.is_some_and(|ranges| ranges.start < self.smallest_key)
            || ranges.is_some_and(|ranges| self.largest_key < ranges.end)
            || end.map_or(KEY_LEN_MAX < self.largest_key.len(), |end| *end != self.largest_key)
        {
            return Err("table properties have bounds that do not fit their range tombstones");
        }
        if has_no_entries {
            let counts = [self.entry_count, blocks, u64::from(self.partition_count)];
            let is_empty = counts == [0; 3] && self.tombstone_count == 0;
            return if is_empty && self.seqno_min <= self.seqno_max {
                Ok(())
            } else {
                Err("table properties count entries of a table that has none")
            };
        }
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

fn decode_key(decoder: &mut Decoder<'_>, len_max: usize) -> Result<Vec<u8>, DecodeError> {
    let too_long = decoder.error("table properties hold a key that is too long");
    let key = decoder.bytes()?;
    if key.len() <= len_max { Ok(key.to_vec()) } else { Err(too_long) }
}

fn decode_seqno(decoder: &mut Decoder<'_>) -> Result<SeqNo, DecodeError> {
    let too_large = decoder.error("table properties hold a sequence number past the largest");
    SeqNo::new(decoder.varint()?).ok_or(too_large)
}
