//! Finds the partitions of a table whose top index or footer is damaged.
//!
//! ```text
//! partition := data block+, index block, filter block?
//! ```
//!
//! An index is never compressed, says where its first data block starts, and begins where its last
//! one ends. So the file is searched for positions where these numbers fit, and such a position is
//! an index if the checksum, which is seeded with the position, matches. What is between an index
//! and the start of the next partition is a filter, or partitions whose indexes are damaged too.

use std::ops::Bound;

use esker_base::FileHeader;
use esker_env::FileError;

use crate::index_block::IndexBlock;
use crate::sealed::BLOCK_TRAILER_LEN;
use crate::table_file::TableFile;
use crate::top_index::{Partition, TopIndex};
use crate::{BlockHandle, TableProperties};

/// Bytes searched at a time, and the largest index that can be found: that of a thousand blocks
/// with separators of 4 KiB.
const PIECE_BYTES: u64 = 4 << 20;

/// A key range.
pub type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What was found.
pub(crate) struct FoundPartitions {
    /// What the top index would say.
    pub(crate) top: TopIndex,
    /// The keys that may be in partitions that were not found.
    pub(crate) unfound: Vec<KeyBounds>,
}

impl FoundPartitions {
    /// Searches `file`, about which `known` is known.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn of(file: &TableFile, known: &TableProperties) -> Result<Self, FileError> {
        let mut search = Search {
            file,
            partitions: Vec::new(),
            separator_bytes: Vec::new(),
            separator_ends: Vec::new(),
            block_count: 0,
            position: FileHeader::LEN as u64,
            before: Bound::Included(known.smallest_key.clone()),
            gaps: Vec::new(),
        };
        search.run()?;
        let is_complete = search.block_count == known.data_block_count;
        let Search { partitions, separator_bytes, separator_ends, mut gaps, before, .. } = search;
        if let Bound::Included(last) | Bound::Excluded(last) = &before
            && (partitions.is_empty() || *last < known.largest_key)
        {
            gaps.push((before, Bound::Included(known.largest_key.clone())));
        }
        if is_complete {
            gaps.clear();
        }
        let mut payload = Vec::new();
        TopIndex::encode(&mut payload, &partitions, &separator_bytes, &separator_ends);
        let top =
            TopIndex::decode(payload.into()).map_err(|error| file.corruption(0, error.what))?;
        Ok(Self { top, unfound: gaps })
    }
}

/// Partitions in the order of the file, and what may lie between them.
struct Search<'a> {
    file: &'a TableFile,
    partitions: Vec<Partition>,
    separator_bytes: Vec<u8>,
    separator_ends: Vec<usize>,
    block_count: u32,
    /// What was found ends here.
    position: u64,
    /// Keys that were not found yet are behind this one.
    before: Bound<Vec<u8>>,
    gaps: Vec<KeyBounds>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), FileError> {
        let end = self.file.content_end();
        let mut offset = self.position;
        while offset < end {
            // Half of it is looked through; the other half is there for an index that starts before.
            let len = (2 * PIECE_BYTES).min(end - offset);
            let piece = self.file.read_bytes(offset, len as usize)?;
            let mut at = 0;
            while at < piece.len().min(PIECE_BYTES as usize) {
                at += self.index_at(offset + at as u64, &piece[at..])?.unwrap_or(1);
            }
            offset += at as u64;
        }
        Ok(())
    }

    /// Takes the partition whose index `bytes` start with, which stand at `offset`, if there is one;
    /// how many of them it takes.
    fn index_at(&mut self, offset: u64, bytes: &[u8]) -> Result<Option<usize>, FileError> {
        let Some((block_count, payload_len)) = IndexBlock::measure(bytes, self.position, offset)
        else {
            return Ok(None);
        };
        let len = payload_len + BLOCK_TRAILER_LEN;
        let partition = Partition {
            first_block: self.block_count,
            block_count,
            index: BlockHandle { offset, len: len as u64 },
            filter: None,
        };
        match self.file.read_index(&partition) {
            Ok(index) => {
                self.add(partition, &index);
                Ok(Some(len))
            }
            // It only looked like one.
            Err(FileError::Corruption(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, partition: Partition, index: &IndexBlock) {
        let between =
            BlockHandle { offset: self.position, len: index.data().offset - self.position };
        let is_filter = !self.partitions.is_empty() && self.file.read_filter(between).is_ok();
        let last_at = self.separator_bytes.len();
        index.append_separator(index.block_count() - 1, &mut self.separator_bytes);
        self.separator_ends.push(self.separator_bytes.len());
        let last = self.separator_bytes[last_at..].to_vec();
        let before = std::mem::replace(&mut self.before, Bound::Excluded(last));
        if between.len != 0 && !is_filter {
            let mut first = Vec::new();
            index.append_separator(0, &mut first);
            self.gaps.push((before, Bound::Included(first)));
        }
        self.position = partition.index.end();
        self.block_count = self.block_count.saturating_add(partition.block_count);
        self.partitions.push(partition);
    }
}

#[cfg(test)]
mod tests;
