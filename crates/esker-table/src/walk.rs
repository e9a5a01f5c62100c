//! Walks a table file block by block, in file order, past the cache: for dump, verify and salvage.
//!
//! A block that cannot be read is an item of the walk, and the walk goes on after it. The data
//! blocks of a partition with a damaged index are skipped, since their positions are unknown. If
//! the top index is lost, [`Table::walk_by_indexes`] does without it.

use std::sync::Arc;

use esker_base::{FileHeader, Fragments, InternalKey, SeqNo};
use esker_env::FileError;

use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::found_partitions::{FoundPartitions, KeyBounds};
use crate::index_block::IndexBlock;
use crate::table::with_seqno;
use crate::table_file::TableFile;
use crate::top_index::TopIndex;
use crate::{BlockHandle, BlockKind, Compression, Table, TableProperties, TableRanges};

/// One block of a walk.
#[derive(Debug)]
pub struct WalkedBlock {
    /// What it is.
    pub kind: BlockKind,
    /// The partition that it belongs to; `None` for top index and properties.
    pub partition: Option<u32>,
    /// Its position and size in the file.
    pub handle: BlockHandle,
    /// How it is compressed.
    pub compression: Compression,
    /// Its unpacked size, in bytes.
    pub payload_bytes: u64,
    /// Replaces the sequence numbers of a data block, if the table was ingested.
    pub(crate) seqno: Option<SeqNo>,
    pub(crate) content: WalkedContent,
}

/// The content of a block of a walk.
#[derive(Debug)]
pub(crate) enum WalkedContent {
    Data(DataBlock),
    Index(Arc<IndexBlock>),
    Filter(FilterBlock),
    Dictionary,
    Ranges(Fragments),
    TopIndex(Arc<TopIndex>),
    Properties(Box<TableProperties>),
}

impl WalkedBlock {
    /// The number of entries of a data block, separators of an index, or fragments of range
    /// tombstones; zero for other blocks.
    #[must_use]
    pub fn item_count(&self) -> usize {
        match &self.content {
            WalkedContent::Data(block) => block.count(),
            WalkedContent::Index(block) => block.block_count(),
            WalkedContent::TopIndex(top) => top.partitions().len(),
            WalkedContent::Ranges(fragments) => fragments.as_slice().len(),
            WalkedContent::Filter(_) | WalkedContent::Dictionary | WalkedContent::Properties(_) => {
                0
            }
        }
    }

    /// Calls `visit` with every entry of a data block, in order.
    pub fn for_each_entry(&self, mut visit: impl FnMut(InternalKey<'_>, &[u8])) {
        let WalkedContent::Data(block) = &self.content else {
            return;
        };
        let mut user_key = block.prefix().to_vec();
        for index in 0..block.count() {
            user_key.truncate(block.prefix().len());
            user_key.extend_from_slice(block.suffix(index));
            let trailer = with_seqno(block.trailer(index), self.seqno);
            let key = InternalKey { user_key: &user_key, trailer };
            visit(key, block.value(index));
        }
    }

    /// Calls `visit` with every separator of an index or top index, and the handle of its block: a
    /// data block, or the index of a partition.
    pub fn for_each_separator(&self, mut visit: impl FnMut(&[u8], BlockHandle)) {
        let mut separator = Vec::new();
        for number in 0..self.item_count() {
            separator.clear();
            let handle = match &self.content {
                WalkedContent::Index(block) => {
                    block.append_separator(number, &mut separator);
                    block.handle(number)
                }
                WalkedContent::TopIndex(top) => {
                    top.append_separator(number, &mut separator);
                    top.partitions()[number].index
                }
                _ => return,
            };
            visit(&separator, handle);
        }
    }

    /// The range tombstones, if that is what the block holds.
    #[must_use]
    pub fn ranges(&self) -> Option<&Fragments> {
        match &self.content {
            WalkedContent::Ranges(fragments) => Some(fragments),
            _ => None,
        }
    }

    /// The properties, if that is what the block holds.
    #[must_use]
    pub fn properties(&self) -> Option<&TableProperties> {
        match &self.content {
            WalkedContent::Properties(properties) => Some(properties),
            _ => None,
        }
    }
}

/// The position of a walk.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before a partition: its index is read, to learn where its blocks are.
    Partition(usize),
    /// Before data block `.1` of partition `.0`.
    Data(usize, usize),
    Index(usize),
    Filter(usize),
    Dictionary,
    Ranges,
    TopIndex,
    Properties,
    End,
}

/// A walk over all blocks of a table.
#[derive(Debug)]
pub struct TableWalk {
    file: TableFile,
    top: Arc<TopIndex>,
    index: Option<(Arc<IndexBlock>, u64)>,
    /// The dictionary's handle, likewise.
    dictionary: Option<BlockHandle>,
    /// The range tombstones' handle, according to the known properties of the table.
    ranges: Option<TableRanges>,
    step: Step,
    /// Whether footer and top index are there.
    has_end: bool,
    unfound: Vec<KeyBounds>,
}

impl Table {
    /// Walks the file block by block, bypassing the cache. Opens the file separately.
    ///
    /// # Errors
    /// As [`Table::open_file`]; also if the top index is damaged.
    pub fn walk(&self) -> Result<TableWalk, FileError> {
        let context = self.context();
        let id = self.properties().id;
        let file = TableFile::open(&*context.fs, &context.dir, context.database, id)?;
        TableWalk::new(file, self.properties())
    }

    /// Walks the file without footer and top index, by searching for the indexes of its partitions:
    /// an index says where its blocks start, and follows directly after them.
    /// [`TableWalk::unfound`] says which keys may be in partitions that were not found.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the header or the dictionary is damaged.
    ///
    /// # Cost
    /// Reads the whole file once before the walk.
    pub fn walk_by_indexes(&self) -> Result<TableWalk, FileError> {
        let (context, properties) = (self.context(), self.properties());
        let (fs, dir) = (&*context.fs, &context.dir);
        let mut file = TableFile::open_without_end(fs, dir, context.database, properties)?;
        file.read_dictionary(properties)?;
        let found = FoundPartitions::of(&file, properties)?;
        Ok(TableWalk::over(file, properties, found.top, false, found.unfound))
    }
}

impl TableWalk {
    fn new(mut file: TableFile, properties: &TableProperties) -> Result<Self, FileError> {
        file.read_dictionary(properties)?;
        let top = file.read_top_index()?;
        // From here on every block is read from the file, not from the copy of its tail.
        file.forget_tail();
        Ok(Self::over(file, properties, top, true, Vec::new()))
    }

    fn over(
        file: TableFile,
        properties: &TableProperties,
        top: TopIndex,
        has_end: bool,
        unfound: Vec<KeyBounds>,
    ) -> Self {
        let dictionary = properties.extras.dictionary;
        let ranges = properties.extras.ranges.clone();
        let is_empty = top.partitions().is_empty();
        let step = if is_empty { Step::Dictionary } else { Step::Partition(0) };
        let top = Arc::new(top);
        Self { file, top, index: None, dictionary, ranges, step, has_end, unfound }
    }

    /// Which keys may be in partitions that could not be found. Keys of damaged blocks are not
    /// included: such a block is an item of the walk.
    #[must_use]
    pub fn unfound(&self) -> &[KeyBounds] {
        &self.unfound
    }

    pub(crate) const fn file(&self) -> &TableFile {
        &self.file
    }

    /// Where the first block starts.
    pub(crate) const START: u64 = FileHeader::LEN as u64;

    /// Takes the next step of the walk; `None` if it yields nothing.
    fn take(&mut self) -> Option<Result<WalkedBlock, FileError>> {
        match self.step {
            Step::Partition(partition) => self.enter(partition),
            Step::Data(partition, number) => {
                let (index, _) = self.index.as_ref()?;
                let is_last = number + 1 == index.block_count();
                self.step = if is_last {
                    Step::Index(partition)
                } else {
                    Step::Data(partition, number + 1)
                };
                let handle = index.handle(number);
                Some(self.show(BlockKind::Data, Some(partition), handle, |file, payload| {
                    file.decode_data(handle, payload).map(WalkedContent::Data)
                }))
            }
            Step::Index(partition) => {
                self.step = Step::Filter(partition);
                let (index, payload_bytes) = self.index.take()?;
                Some(Ok(WalkedBlock {
                    kind: BlockKind::Index,
                    partition: Some(partition as u32),
                    handle: self.top.partitions()[partition].index,
                    compression: Compression::None,
                    payload_bytes,
                    seqno: None,
                    content: WalkedContent::Index(index),
                }))
            }
            Step::Filter(partition) => {
                let is_last = partition + 1 == self.top.partitions().len();
                self.step = if is_last { Step::Dictionary } else { Step::Partition(partition + 1) };
                let handle = self.top.partitions()[partition].filter?;
                Some(self.show(BlockKind::Filter, Some(partition), handle, |file, payload| {
                    file.decode_filter(handle, &payload).map(WalkedContent::Filter)
                }))
            }
            Step::Dictionary => {
                self.step = Step::Ranges;
                let handle = self.dictionary?;
                Some(self.show(BlockKind::Dictionary, None, handle, |_, _| {
                    Ok(WalkedContent::Dictionary)
                }))
            }
            Step::Ranges => {
                self.step = if self.has_end { Step::TopIndex } else { Step::End };
                let ranges = self.ranges.as_ref()?;
                Some(self.show(BlockKind::RangeTombstones, None, ranges.handle, |file, payload| {
                    file.decode_ranges(ranges, &payload).map(WalkedContent::Ranges)
                }))
            }
            Step::TopIndex => {
                self.step = Step::Properties;
                let (handle, top) = (self.file.footer().top_index, Arc::clone(&self.top));
                Some(self.show(BlockKind::TopIndex, None, handle, |_, _| {
                    Ok(WalkedContent::TopIndex(top))
                }))
            }
            Step::Properties => {
                self.step = Step::End;
                let handle = self.file.footer().properties;
                Some(self.show(BlockKind::Properties, None, handle, |file, _| {
                    Ok(WalkedContent::Properties(Box::new(file.read_properties()?)))
                }))
            }
            Step::End => None,
        }
    }

    fn enter(&mut self, number: usize) -> Option<Result<WalkedBlock, FileError>> {
        let place = &self.top.partitions()[number];
        match self.file.read_index(place) {
            Ok(index) => {
                let payload_bytes = place.index.len - crate::sealed::BLOCK_TRAILER_LEN as u64;
                self.index = Some((Arc::new(index), payload_bytes));
                self.step = Step::Data(number, 0);
                None
            }
            Err(error) => {
                self.step = Step::Filter(number);
                Some(Err(error))
            }
        }
    }

    fn show(
        &self,
        kind: BlockKind,
        partition: Option<usize>,
        handle: BlockHandle,
        decode: impl FnOnce(&TableFile, Box<[u8]>) -> Result<WalkedContent, FileError>,
    ) -> Result<WalkedBlock, FileError> {
        let unsealed = self.file.read_block(handle)?;
        Ok(WalkedBlock {
            kind,
            partition: partition.map(|number| number as u32),
            handle,
            compression: unsealed.compression,
            payload_bytes: unsealed.payload.len() as u64,
            seqno: self.file.adoption().map(|adoption| adoption.seqno),
            content: decode(&self.file, unsealed.payload)?,
        })
    }
}

impl Iterator for TableWalk {
    type Item = Result<WalkedBlock, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !matches!(self.step, Step::End) {
            if let Some(item) = self.take() {
                return Some(item);
            }
        }
        None
    }
}
