//! Verifies a table file: checks everything in it for consistency with everything else.
//!
//! It checks every checksum, the order of keys within and across blocks, separators, tags, filters
//! against keys and prefixes, counts, bounds of keys and sequence numbers, that blocks fill the
//! file without gaps, and the checksum of the whole file. Damage does not end the check, but is
//! listed.

use esker_base::checksum::{Checksummer, hash_key};
use esker_base::{Corruption, EntryKind, Fragments, InternalKey, SeqNo, Trailer};
use esker_env::FileError;

use crate::blob_uses::BlobCounts;
use crate::builder::tag_of;
use crate::data_block::DataBlock;
use crate::data_block_builder::BlockFacts;
use crate::filter::FilterBlock;
use crate::prefix_rule::hash_prefix;
use crate::table_expiry::ExpiryCount;
use crate::table_file::TableFile;
use crate::walk::WalkedContent;
use crate::{BlobReference, Origin, Table, TableExpiry, TableProperties, TableWalk, WalkedBlock};

/// What a check of a whole table found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TableReport {
    /// Blocks that could be read.
    pub block_count: u64,
    /// Entries in them.
    pub entry_count: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// What is wrong, in file order; empty if nothing is.
    pub corruptions: Vec<Corruption>,
}

impl Table {
    /// Reads the whole file, checks everything in it, and that it matches [`Table::properties`].
    /// Bypasses the cache.
    ///
    /// # Errors
    /// Of the file system, including `NotFound`, and `UnsupportedFormat`. Damage is an item of the
    /// report, not an error.
    ///
    /// # Cost
    /// Reads the file twice: block by block, and for its checksum.
    pub fn verify(&self) -> Result<TableReport, FileError> {
        let mut report = TableReport::default();
        match self.verify_into(&mut report) {
            Ok(()) => {}
            Err(FileError::Corruption(corruption)) => report.corruptions.push(corruption),
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    fn verify_into(&self, report: &mut TableReport) -> Result<(), FileError> {
        let mut walk = self.walk()?;
        report.file_bytes = walk.file().file_bytes();
        self.check_file_bytes(report.file_bytes)?;
        let mut check = Check::new(self.properties());
        for item in &mut walk {
            match item {
                Ok(block) => {
                    report.block_count += 1;
                    check.block(&block);
                }
                Err(FileError::Corruption(corruption)) => {
                    check.is_complete = false;
                    check.found.push(corruption);
                }
                Err(error) => return Err(error),
            }
        }
        let file = walk.file();
        check.end(file);
        report.entry_count = check.facts.entry_count;
        report.corruptions = check.found;
        // A damaged block also makes this checksum wrong, and has been reported already.
        let read = |offset, len| file.read_bytes(offset, len);
        if report.corruptions.is_empty()
            && read_checksum(file.content_end(), read)? != file.footer().content_checksum
        {
            let what = "file does not have the checksum that its footer says";
            report.corruptions.push(Corruption::new(file.name(), 0, what));
        }
        Ok(())
    }
}

/// XXH3-64 of a file up to `end`, where its footer starts.
pub(crate) fn read_checksum(
    end: u64,
    read: impl Fn(u64, usize) -> Result<Vec<u8>, FileError>,
) -> Result<u64, FileError> {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut checksum = Checksummer::new();
    let mut offset = 0;
    while offset < end {
        let len = PIECE_BYTES.min(end - offset);
        checksum.update(&read(offset, len as usize)?);
        offset += len;
    }
    Ok(checksum.finish())
}

/// First and last user key of a data block.
type Edges = (Vec<u8>, Vec<u8>);

/// What a check has seen of a table so far.
struct Check<'a> {
    expected: &'a TableProperties,
    found: Vec<Corruption>,
    /// Whether every block so far could be read: otherwise counts are meaningless.
    is_complete: bool,
    /// Where the next block must start.
    position: u64,
    facts: BlockFacts,
    expiries: ExpiryCount,
    blobs: BlobCounts,
    data_bytes: u64,
    data_block_count: u32,
    replaced_count: u64,
    range_seqnos: Vec<u64>,
    smallest_key: Option<Vec<u8>>,
    last: Option<(Vec<u8>, Trailer)>,

    // Of the partition at hand.
    partition: Option<u32>,
    edges: Vec<Edges>,
    hashes: Vec<u64>,
    prefix_hashes: Vec<u64>,

    /// The last separator of each partition.
    partition_separators: Vec<Vec<u8>>,
}

impl<'a> Check<'a> {
    fn new(expected: &'a TableProperties) -> Self {
        Self {
            expected,
            found: Vec::new(),
            is_complete: true,
            position: TableWalk::START,
            facts: BlockFacts::NONE,
            expiries: ExpiryCount::NONE,
            blobs: BlobCounts::default(),
            data_bytes: 0,
            data_block_count: 0,
            replaced_count: 0,
            range_seqnos: Vec::new(),
            smallest_key: None,
            last: None,
            partition: None,
            edges: Vec::new(),
            hashes: Vec::new(),
            prefix_hashes: Vec::new(),
            partition_separators: Vec::new(),
        }
    }

    fn report(&mut self, offset: u64, what: impl Into<String>) {
        let file = self.expected.id.file_name();
        self.found.push(Corruption::new(file, offset, what.into()));
    }

    fn block(&mut self, block: &WalkedBlock) {
        let offset = block.handle.offset;
        if self.is_complete && offset != self.position {
            self.report(offset, "block does not start where the one before it ends");
        }
        self.position = block.handle.end();
        match &block.content {
            WalkedContent::Data(data) => self.data(block, data),
            WalkedContent::Index(_) => self.index(block),
            WalkedContent::Filter(filter) => self.filter(offset, filter),
            WalkedContent::Dictionary => {}
            WalkedContent::Ranges(fragments) => self.ranges(fragments),
            WalkedContent::TopIndex(_) => self.top_index(block),
            WalkedContent::Properties(properties) => {
                let mut properties = TableProperties::clone(properties);
                if matches!(self.expected.extras.origin, Some(Origin::Adopted { .. })) {
                    // Only the database that adopted it knows when its entries came.
                    properties.extras.times = self.expected.extras.times;
                }
                if properties != *self.expected {
                    self.report(offset, "file has other properties than the table is known by");
                }
            }
        }
    }

    fn data(&mut self, block: &WalkedBlock, data: &DataBlock) {
        let offset = block.handle.offset;
        let starts_partition = self.partition != block.partition;
        if starts_partition {
            self.partition = block.partition;
            self.edges.clear();
            self.hashes.clear();
            self.prefix_hashes.clear();
        }
        self.data_bytes += block.handle.len;
        self.data_block_count += 1;
        // Point reads use the numbers in the block, and expect all of them to be visible.
        let is_adopted = block.seqno.is_some();
        if is_adopted && (0..data.count()).any(|at| data.trailer(at).seqno() != SeqNo::ZERO) {
            self.report(offset, "entry of a table from outside has a sequence number of its own");
        }
        let mut first_key = None;
        let mut index = 0;
        block.for_each_entry(|key, value| {
            let is_first = index == 0;
            self.order(offset, key, starts_partition && is_first);
            if is_first {
                first_key = Some(key.user_key.to_vec());
            }
            let hash = hash_key(key.user_key);
            if data.tag(index) != tag_of(hash) {
                self.report(offset, "tag of an entry is not that of its key");
            }
            self.hashes.push(hash);
            self.prefix(key.user_key);
            self.count(key, value);
            match key.kind() {
                EntryKind::BlobReference => self.reference(offset, value),
                EntryKind::ExpiringPut if value.len() < size_of::<u64>() => {
                    self.report(offset, "put that expires does not say when");
                }
                EntryKind::RangeTombstone => {
                    self.report(offset, "range tombstone stands among the entries");
                }
                _ => {}
            }
            index += 1;
        });
        let last_key = self.last.as_ref().map(|(user_key, _)| user_key.clone());
        self.edges.push((first_key.unwrap_or_default(), last_key.unwrap_or_default()));
    }

    fn order(&mut self, offset: u64, key: InternalKey<'_>, starts_partition: bool) {
        match &mut self.last {
            None => {
                self.smallest_key = Some(key.user_key.to_vec());
                self.last = Some((key.user_key.to_vec(), key.trailer));
            }
            Some((user_key, trailer)) => {
                let before = InternalKey { user_key: user_key.as_slice(), trailer: *trailer };
                let is_ascending = before < key;
                let is_replaced = before.user_key == key.user_key;
                let is_adopted =
                    matches!(self.expected.extras.origin, Some(Origin::Adopted { .. }));
                let reaches_across = starts_partition && is_replaced;
                self.replaced_count += u64::from(is_replaced);
                user_key.clear();
                user_key.extend_from_slice(key.user_key);
                *trailer = key.trailer;
                if !is_ascending {
                    self.report(offset, "entries are not in ascending order");
                } else if is_replaced && is_adopted {
                    self.report(offset, "key stands twice in a table from outside");
                } else if reaches_across {
                    self.report(offset, "versions of one key reach across partitions");
                }
            }
        }
    }

    /// Notes the prefix of `user_key` that the filter should hold, if any.
    fn prefix(&mut self, user_key: &[u8]) {
        let rule = self.expected.extras.prefix_rule;
        let hash = rule.and_then(|rule| rule.prefix_of(user_key)).map(hash_prefix);
        let is_another = hash.is_some() && hash != self.prefix_hashes.last().copied();
        self.prefix_hashes.extend(hash.filter(|_| is_another));
    }

    fn count(&mut self, key: InternalKey<'_>, value: &[u8]) {
        if key.kind() == EntryKind::ExpiringPut {
            self.expiries.add(value);
        }
        self.facts.add(BlockFacts {
            entry_count: 1,
            tombstone_count: u64::from(key.kind().is_tombstone()),
            key_bytes: key.user_key.len() as u64,
            value_bytes: value.len() as u64,
            seqno_min: key.seqno().get(),
            seqno_max: key.seqno().get(),
        });
    }

    fn reference(&mut self, offset: u64, value: &[u8]) {
        match BlobReference::decode(value) {
            Ok(reference) => self.blobs.add(&reference),
            Err(error) => self.report(offset, format!("blob reference does not decode: {error}")),
        }
    }

    fn index(&mut self, block: &WalkedBlock) {
        let edges = std::mem::take(&mut self.edges);
        let mut before: Vec<u8> = Vec::new();
        let mut number = 0;
        let mut is_right = edges.len() == block.item_count();
        block.for_each_separator(|separator, _| {
            if let Some((first, last)) = edges.get(number) {
                let reaches_across = number.checked_sub(1).is_some_and(|number| {
                    edges.get(number).is_some_and(|(_, before)| before == first)
                });
                is_right &= last.as_slice() <= separator;
                is_right &= number == 0 || before < *first || (before == *first && reaches_across);
            }
            number += 1;
            before.clear();
            before.extend_from_slice(separator);
        });
        if self.is_complete && !is_right {
            self.report(block.handle.offset, "separators do not separate the data blocks");
        }
        self.partition_separators.push(before);
    }

    fn filter(&mut self, offset: u64, filter: &FilterBlock) {
        if self.hashes.iter().any(|&hash| !filter.may_contain(hash)) {
            self.report(offset, "filter excludes a key that is there");
        }
        if self.prefix_hashes.iter().any(|&hash| !filter.may_contain(hash)) {
            self.report(offset, "filter excludes the prefix of a key that is there");
        }
    }

    /// Notes the sequence numbers of the range tombstones; the walk has compared the rest with the
    /// properties.
    fn ranges(&mut self, fragments: &Fragments) {
        let seqnos = fragments.as_slice().iter().flat_map(|fragment| &fragment.seqnos);
        self.range_seqnos.extend(seqnos.map(|seqno| seqno.get()));
    }

    /// Whether bounds and sequence numbers are those of the entries and range tombstones seen.
    fn has_expected_bounds(&mut self) -> bool {
        let expected = self.expected;
        let ranges = expected.extras.ranges.as_ref();
        let first_key = self.smallest_key.take();
        let last_key = self.last.take().map(|(user_key, _)| user_key);
        let is_same_kind = ranges.is_none_or(|ranges| {
            let ends_table = last_key.as_ref().is_none_or(|last| *last < ranges.end);
            ranges.has_entries == last_key.is_some() && ranges.ends_table == ends_table
        });
        let smallest = first_key.into_iter().chain(ranges.map(|ranges| ranges.start.clone())).min();
        let largest = last_key.into_iter().chain(ranges.map(|ranges| ranges.end.clone())).max();
        let numbers = || self.range_seqnos.iter().copied();
        let seqno_min = numbers().chain([self.facts.seqno_min]).min();
        let seqno_max = numbers().chain([self.facts.seqno_max]).max();
        is_same_kind
            && smallest.as_ref() == Some(&expected.smallest_key)
            && largest.as_ref() == Some(&expected.largest_key)
            && seqno_min == Some(expected.seqno_min.get())
            && seqno_max == Some(expected.seqno_max.get())
    }

    fn top_index(&mut self, block: &WalkedBlock) {
        let mut separators = Vec::new();
        block.for_each_separator(|separator, _| separators.push(separator.to_vec()));
        if self.is_complete && separators != self.partition_separators {
            self.report(block.handle.offset, "top index has other separators than its partitions");
        }
    }

    /// What the properties should say about expiring entries.
    fn expiry(&self) -> Option<TableExpiry> {
        let BlockFacts { entry_count, tombstone_count, .. } = self.facts;
        let has_ranges = self.expected.extras.ranges.is_some();
        self.expiries.of_table(entry_count, tombstone_count, has_ranges)
    }

    /// Compares the counts with the table's known properties.
    fn end(&mut self, file: &TableFile) {
        let expected = self.expected;
        if file.footer().content_checksum != expected.checksum {
            let what = "footer has another checksum than the table is known by";
            self.report(file.content_end(), what);
        }
        if !self.is_complete {
            return;
        }
        if self.position != file.content_end() {
            self.report(self.position, "bytes follow that belong to no block");
        }
        let is_same = self.facts.entry_count == expected.entry_count
            && self.facts.tombstone_count == expected.tombstone_count
            && self.blobs.are(expected.extras.blobs.as_ref())
            && self.facts.key_bytes == expected.key_bytes
            && self.facts.value_bytes == expected.value_bytes
            && self.data_bytes == expected.data_bytes
            && self.data_block_count == expected.data_block_count
            && self.partition_separators.len() as u64 == u64::from(expected.partition_count)
            && self.expiry() == expected.extras.expiry
            && [0, self.replaced_count].contains(&expected.extras.replaced_count)
            && self.has_expected_bounds();
        if !is_same {
            let offset = file.footer().properties.offset;
            self.report(offset, "entries are not those that the properties count");
        }
    }
}

#[cfg(test)]
mod tests;
