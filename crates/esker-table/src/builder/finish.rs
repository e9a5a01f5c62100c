//! The end of a table: what stands behind its last partition, and what its properties say of it all.

use esker_base::coding::Decoder;
use esker_base::{Corruption, SeqNo};
use esker_env::FileError;

use crate::footer::Footer;
use crate::range_block;
use crate::top_index::{TopIndex, slot_count};
use crate::{TableExtras, TableProperties, TableRanges};

use super::TableBuilder;

/// Refuses properties that no reader takes: entries that came from damaged tables may add up to such, and a
/// manifest that names their table would keep the database from opening.
fn check_readable(properties: &TableProperties, encoded: &[u8]) -> Result<(), FileError> {
    match TableProperties::decode_block(&mut Decoder::new(encoded), 0, 0) {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("what its entries add up to cannot be: {}", error.what);
            Err(Corruption::new(properties.id.file_name(), 0, what).into())
        }
    }
}

impl TableBuilder {
    /// Writes what is left, and syncs the file. Its name is durable after a sync of the directory.
    ///
    /// # Errors
    /// Of the file; it is to be removed then.
    ///
    /// # Panics
    /// If there is neither an entry nor a range tombstone, or an entry refers to a blob file of
    /// which nothing is known.
    pub fn finish(mut self) -> Result<TableProperties, FileError> {
        self.writer.check()?;
        let has_entries = !self.block.is_empty();
        assert!(has_entries || !self.ranges.is_empty(), "a table is not empty");
        if has_entries {
            self.close_block(None)?;
            self.close_partition()?;
        }
        if let Some(dictionary) = self.dictionary.take().filter(|_| has_entries) {
            self.extras.dictionary = Some(self.write_block(dictionary.bytes())?);
        }
        let ranges = self.write_ranges(has_entries)?;

        let mut top_index = Vec::new();
        let separators = &self.top_separators;
        TopIndex::encode(&mut top_index, &self.partitions, &separators.bytes, &separators.ends);
        let top_index = self.write_block(&top_index)?;
        let mut properties = self.properties(ranges);
        let mut encoded = Vec::new();
        properties.encode_block(&mut encoded);
        check_readable(&properties, &encoded)?;
        let properties_handle = self.write_block(&encoded)?;

        self.writer.write()?;
        let content_checksum = self.writer.written_checksum();
        let footer = Footer { top_index, properties: properties_handle, content_checksum };
        let footer = footer.encode(self.file_seed, self.writer.offset());
        self.writer.buffer().extend_from_slice(&footer);
        self.writer.write()?;
        self.writer.sync()?;
        properties.checksum = content_checksum;
        properties.file_bytes = self.writer.offset();
        let slot_count = slot_count(self.data_block_count, self.partitions.len());
        if let (Some(kept), Some(slot_count)) = (self.kept, slot_count) {
            kept.hand_over(properties.id.0, slot_count);
        }
        Ok(properties)
    }

    /// Writes the block of range tombstones, if there are any, and widens the bounds by them.
    fn write_ranges(&mut self, has_entries: bool) -> Result<Option<TableRanges>, FileError> {
        let ranges = std::mem::take(&mut self.ranges);
        let (Some(first), Some(last)) = (ranges.as_slice().first(), ranges.as_slice().last())
        else {
            return Ok(None);
        };
        let mut payload = Vec::new();
        range_block::encode(&ranges, &mut payload);
        let handle = self.write_block(&payload)?;
        let largest_key = has_entries.then_some(self.last_key.as_slice());
        let known = TableRanges::of(&ranges, handle, largest_key);
        if !has_entries || first.start < self.smallest_key {
            self.smallest_key.clone_from(&first.start);
        }
        if !has_entries || self.last_key < last.end {
            self.last_key.clone_from(&last.end);
        }
        for seqno in ranges.as_slice().iter().flat_map(|fragment| &fragment.seqnos) {
            self.facts.seqno_min = self.facts.seqno_min.min(seqno.get());
            self.facts.seqno_max = self.facts.seqno_max.max(seqno.get());
        }
        Ok(known)
    }

    fn properties(&mut self, ranges: Option<TableRanges>) -> TableProperties {
        let (entries, tombstones) = (self.facts.entry_count, self.facts.tombstone_count);
        let expiry = self.expiries.of_table(entries, tombstones, ranges.is_some());
        let seqno = |word| SeqNo::new(word).expect("a trailer holds a sequence number");
        TableProperties {
            id: self.identity.id,
            keyspace: self.identity.keyspace,
            level: self.identity.level,
            file_bytes: 0,
            checksum: 0,
            smallest_key: std::mem::take(&mut self.smallest_key),
            largest_key: std::mem::take(&mut self.last_key),
            seqno_min: seqno(self.facts.seqno_min),
            seqno_max: seqno(self.facts.seqno_max),
            entry_count: self.facts.entry_count,
            tombstone_count: self.facts.tombstone_count,
            key_bytes: self.facts.key_bytes,
            value_bytes: self.facts.value_bytes,
            data_block_count: self.data_block_count,
            partition_count: self.partitions.len() as u32,
            data_bytes: self.data_bytes,
            compression: self.options.compression,
            filter_bits_per_key: self.options.filter_bits_per_key,
            extras: TableExtras {
                expiry,
                blobs: self
                    .blob_counts
                    .uses(&self.blob_facts)
                    .expect("every blob file that is referred to is known"),
                ranges,
                origin: self.origin.take(),
                prefix_rule: self.options.prefix_rule,
                keyspace: self.options.keyspace.clone(),
                ..std::mem::take(&mut self.extras)
            },
        }
    }
}
