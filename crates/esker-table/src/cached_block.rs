//! Blocks as the cache holds them, and values that keep their blocks alive.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use esker_cache::{FirstLook, Owner, Weigh};

use crate::blob_record::BlobRecord;
use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::index_block::IndexBlock;
use crate::prefetch::prefetch_at;
use crate::spare;

/// A block of a table, verified and ready for lookups. Its contents are private to this crate.
#[derive(Debug)]
pub struct CachedBlock(pub(crate) Content);

/// The kinds of blocks that are cached. Which slot holds which is fixed for a table's life.
#[derive(Debug)]
pub(crate) enum Content {
    Data(DataBlock),
    Index(IndexBlock),
    /// `None` for a damaged filter, so that it is read, and counted, only once.
    Filter(Option<FilterBlock>),
    /// A value of a blob file, with its key.
    Blob(BlobRecord),
}

/// Most bytes of the front of a data block that are prefetched together with the block: its tags
/// and all keys, for a block of 4 KiB with values of a hundred bytes.
const FRONT_LEN_MAX: usize = 640;

/// Prefetches a data block: the counts of its `Arc`, its struct, and the front of its payload.
#[inline]
pub(crate) fn prefetch_data(block: *const CachedBlock, look: FirstLook) {
    // The counts of the `Arc` precede what it points to.
    let counts = block.cast::<u8>().wrapping_sub(COUNTS_LEN);
    prefetch_at(counts, COUNTS_LEN + size_of::<CachedBlock>());
    prefetch_at(std::ptr::without_provenance(look.address), usize::from(look.len));
}

/// Bytes of the two counts of an `Arc`.
const COUNTS_LEN: usize = 2 * size_of::<usize>();

impl CachedBlock {
    /// # Panics
    /// If it is not a data block, which is a bug in the numbering of slots.
    #[inline]
    pub(crate) const fn data(&self) -> &DataBlock {
        match &self.0 {
            Content::Data(block) => block,
            _ => panic!("slots of data blocks hold data blocks"),
        }
    }

    /// # Panics
    /// If it is not an index block, which is a bug in the numbering of slots.
    #[inline]
    pub(crate) const fn index(&self) -> &IndexBlock {
        match &self.0 {
            Content::Index(block) => block,
            _ => panic!("slots of index blocks hold index blocks"),
        }
    }

    /// The filter, `None` if it is damaged.
    ///
    /// # Panics
    /// If it is not a filter block, which is a bug in the numbering of slots.
    #[inline]
    pub(crate) const fn filter(&self) -> Option<&FilterBlock> {
        match &self.0 {
            Content::Filter(block) => block.as_ref(),
            _ => panic!("slots of filter blocks hold filter blocks"),
        }
    }
}

impl CachedBlock {
    /// # Panics
    /// If it is not a record, which is a bug in the numbering of slots.
    #[inline]
    pub(crate) const fn blob(&self) -> &BlobRecord {
        match &self.0 {
            Content::Blob(record) => record,
            _ => panic!("slots of blob files hold records"),
        }
    }

    /// The bytes that contain the values.
    ///
    /// # Panics
    /// If it is neither a data block nor a record.
    #[inline]
    fn payload(&self) -> &[u8] {
        match &self.0 {
            Content::Data(block) => block.payload(),
            Content::Blob(record) => record.payload(),
            _ => panic!("values lie in data blocks and blob files"),
        }
    }
}

impl Weigh for CachedBlock {
    fn weight_bytes(&self) -> usize {
        COUNTS_LEN
            + match &self.0 {
                Content::Data(block) => block.memory_bytes(),
                Content::Index(block) => block.memory_bytes(),
                Content::Filter(Some(block)) => block.memory_bytes(),
                Content::Filter(None) => size_of::<Self>(),
                Content::Blob(record) => record.memory_bytes(),
            }
    }

    fn owner(&self) -> Owner {
        match &self.0 {
            Content::Data(_) | Content::Blob(_) => Owner::BlockCache,
            Content::Index(_) => Owner::Indexes,
            Content::Filter(_) => Owner::Filters,
        }
    }

    fn prefetch(start: *const u8, len: usize) {
        prefetch_at(start, len);
    }

    fn retire(self) {
        if let Content::Data(block) = self.0 {
            spare::keep_payload(block.into_payload());
        }
    }

    fn first_look(&self) -> FirstLook {
        match &self.0 {
            Content::Data(block) => {
                let front = block.front();
                FirstLook {
                    address: front.as_ptr().addr(),
                    len: front.len().min(FRONT_LEN_MAX) as u16,
                }
            }
            _ => FirstLook::default(),
        }
    }
}

/// Bytes of a value, within their block: the block stays in memory, evicted or not, as long as this
/// lives.
///
/// # Cost
/// A clone is one count on an `Arc`. No bytes are copied.
#[derive(Clone)]
pub struct BlockSlice {
    block: Arc<CachedBlock>,
    range: Range<usize>,
}

impl BlockSlice {
    pub(crate) const fn new(block: Arc<CachedBlock>, range: Range<usize>) -> Self {
        Self { block, range }
    }

    /// Memory of the block that this keeps alive, in bytes.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.block.weight_bytes()
    }
}

impl Deref for BlockSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block.payload()[self.range.clone()]
    }
}

impl AsRef<[u8]> for BlockSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for BlockSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}
