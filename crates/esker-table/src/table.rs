//! A table as readers see it: point reads, cursors, sizes.
//!
//! Promises: no answer comes from bytes whose checksum did not match; damage is an error that names
//! the file and the place, except in a filter, without which reads go on. No I/O happens before the
//! first read. Knows no more about visibility than "the newest entry that is not newer than this".

use std::sync::{Arc, OnceLock};

use esker_base::sync::{Mutex, PoisonError};
use esker_base::{Fragments, InternalKey, KeyRange, SeqNo, TableId, Trailer};
use esker_env::FileError;

use crate::builder::tag_of;
use crate::cached_block::{BlockSlice, CachedBlock};
use crate::index_block::Candidates;
use crate::open_table::{BlockAhead, OpenTable};
use crate::table_file::{TableFile, table_path};
use crate::{BlobFile, FilterVerdict, NoTrace, Origin, ReadTrace, TableContext, TableProperties};

/// One immutable sorted file.
///
/// The file is opened at the first read and stays open. If it is removed after that, the table goes
/// on working.
#[derive(Debug)]
pub struct Table {
    context: Arc<TableContext>,
    properties: Arc<TableProperties>,
    /// Replaces the sequence numbers in the blocks, if the table was ingested.
    seqno: Option<SeqNo>,
    /// Whether it has range tombstones.
    has_ranges: bool,
    /// The blob files that entries refer to, held so that they can be read and are not removed.
    blobs: Box<[Arc<BlobFile>]>,
    open: OnceLock<OpenTable>,
    /// Held by the thread that opens the file, across its I/O; not taken once the file is open.
    opening: Mutex<()>,
}

/// What a point read found.
#[derive(Clone, Debug)]
pub struct TableEntry {
    /// Sequence number and kind.
    pub trailer: Trailer,
    /// The value; empty for a tombstone.
    pub value: BlockSlice,
}

impl Table {
    /// A table described by the manifest. No I/O.
    #[must_use]
    pub fn new(context: Arc<TableContext>, properties: Arc<TableProperties>) -> Self {
        let seqno = Origin::seqno(properties.extras.origin.as_ref());
        let has_ranges = properties.extras.ranges.is_some();
        let blobs = properties.blob_uses().map(|one| context.blobs.get(one.facts)).collect();
        let (open, opening) = (OnceLock::new(), Mutex::new(()));
        Self { context, properties, seqno, has_ranges, blobs, open, opening }
    }

    /// A table of which only the id is known: reads its header, footer, properties and top index.
    /// For repair and dump.
    ///
    /// # Errors
    /// Of the file system, including `NotFound`; `Corruption` if the file is damaged, belongs to
    /// another database or was created under another id; `UnsupportedFormat` if a newer release
    /// wrote it.
    pub fn open_file(context: Arc<TableContext>, id: TableId) -> Result<Self, FileError> {
        let file = TableFile::open(&*context.fs, &context.dir, context.database, id)?;
        let properties = file.read_properties()?;
        let opened = OpenTable::new(&context, file, &properties)?;
        let table = Self::new(context, Arc::new(properties));
        table.open.set(opened).expect("nobody else has the table yet");
        Ok(table)
    }

    /// The same table, to be opened separately: dropping it closes its file.
    #[must_use]
    pub fn anew(&self) -> Arc<Self> {
        Arc::new(Self::new(Arc::clone(&self.context), Arc::clone(&self.properties)))
    }

    /// What is known of the table without reading it.
    #[must_use]
    pub const fn properties(&self) -> &Arc<TableProperties> {
        &self.properties
    }

    /// The blob files that its entries refer to.
    #[must_use]
    pub fn blob_files(&self) -> &[Arc<BlobFile>] {
        &self.blobs
    }

    /// What the table shares with other tables.
    #[must_use]
    pub const fn context(&self) -> &Arc<TableContext> {
        &self.context
    }

    /// Checks that the file exists and is as long as its properties say. Does not open it for
    /// reads, nor look at its contents.
    ///
    /// # Errors
    /// Of the file system, including `NotFound`; `Corruption` if the length differs.
    pub fn check_size(&self) -> Result<(), FileError> {
        let path = table_path(&self.context.dir, self.properties.id);
        let file_bytes = self.context.fs.open(&path)?.len()?;
        self.check_file_bytes(file_bytes)
    }

    /// The newest entry of `user_key` that is not newer than `snapshot`. `hash` is the
    /// [`hash_key`](esker_base::checksum::hash_key) of the key.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if a needed block is damaged.
    ///
    /// # Cost
    /// From the cache: three short locks, one count on an `Arc`, no allocation and no copy. At most
    /// one data block is read, unless versions of the key extend over several blocks.
    ///
    /// Best of several runs of `examples/figures.rs` on a busy machine of two cores, 1 million
    /// entries of 16 + 100 bytes: 110 ns for hot keys, 0.7 us for random ones (memory latency:
    /// slot, block and value were three misses in sequence; this was measured before block, tags
    /// and keys were prefetched together), 50 ns for absent keys, 2 us with a block from the page
    /// cache.
    #[inline]
    pub fn get<T: ReadTrace>(
        &self,
        user_key: &[u8],
        hash: u64,
        snapshot: SeqNo,
        trace: &mut T,
    ) -> Result<Option<TableEntry>, FileError> {
        let open = self.open()?;
        if T::ENABLED {
            trace.table(&self.properties);
        }
        if snapshot < self.properties.seqno_min {
            return Ok(None);
        }
        let Some(partition) = open.top.candidate(user_key) else {
            return Ok(None);
        };
        let verdict = open.filter_verdict(partition, hash, trace)?;
        if T::ENABLED {
            trace.filter(verdict);
        }
        if verdict == FilterVerdict::Excluded {
            return Ok(None);
        }
        let candidates = open.with_index(partition, trace, |index| index.candidates(user_key))?;
        let Some(candidates) = candidates else {
            return Ok(None);
        };
        let block = BlockAhead { open, partition, candidates, tag: tag_of(hash) };
        self.get_in(block, user_key, snapshot, trace)
    }

    /// The second half of [`Table::get`], in the block of this table that a
    /// [look-ahead](Table::look_ahead) has found.
    ///
    /// # Errors
    /// As [`Table::get`].
    #[inline]
    pub fn get_in<T: ReadTrace>(
        &self,
        block: BlockAhead<'_>,
        user_key: &[u8],
        snapshot: SeqNo,
        trace: &mut T,
    ) -> Result<Option<TableEntry>, FileError> {
        let BlockAhead { open, partition, candidates: Candidates { first, last }, tag } = block;
        let block = open.data_block(partition, first, trace)?;
        let found = block.data().find(user_key, tag, snapshot);
        if T::ENABLED {
            trace.stepped_over(found.stepped_over);
        }
        match found.entry {
            Some(entry) => Ok(Some(self.entry_of(block, entry))),
            None if first == last => Ok(None),
            None => {
                self.get_across(open, partition, first + 1..last + 1, user_key, snapshot, trace)
            }
        }
    }

    /// Its range tombstones; `None` if it has none.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if they, or the top index, are damaged.
    ///
    /// # Cost
    /// No I/O without range tombstones. Otherwise the table is opened, if it is not open, and they
    /// are read with it.
    #[inline]
    pub fn ranges(&self) -> Result<Option<&Fragments>, FileError> {
        if !self.has_ranges {
            return Ok(None);
        }
        Ok(Some(&self.open()?.ranges))
    }

    /// The newest range tombstone over `user_key` that is not newer than `snapshot`.
    ///
    /// # Errors
    /// As [`Table::ranges`].
    ///
    /// # Cost
    /// As [`Table::ranges`], and a binary search.
    #[inline]
    pub fn covering(&self, user_key: &[u8], snapshot: SeqNo) -> Result<Option<SeqNo>, FileError> {
        Ok(self.ranges()?.and_then(|fragments| fragments.covering(user_key, snapshot)))
    }

    /// Continues [`Table::get`] in the further blocks that versions of the key extend over.
    #[cold]
    fn get_across<T: ReadTrace>(
        &self,
        open: &OpenTable,
        partition: usize,
        blocks: std::ops::Range<usize>,
        user_key: &[u8],
        snapshot: SeqNo,
        trace: &mut T,
    ) -> Result<Option<TableEntry>, FileError> {
        let target = InternalKey::seek(user_key, snapshot);
        // Binary search, because a key may have very many versions.
        let (mut start, mut end) = (blocks.start, blocks.end - 1);
        while start < end {
            let middle = start.midpoint(end);
            let block = open.data_block(partition, middle, trace)?;
            let data = block.data();
            if data.is_at_or_after(data.count() - 1, target) {
                end = middle;
            } else {
                if T::ENABLED {
                    trace.stepped_over(data.count() as u64);
                }
                start = middle + 1;
            }
        }
        let block = open.data_block(partition, start, trace)?;
        let data = block.data();
        let entry = data.lower_bound(target);
        if entry < data.count() && user_key.strip_prefix(data.prefix()) == Some(data.suffix(entry))
        {
            return Ok(Some(self.entry_of(block, entry)));
        }
        Ok(None)
    }

    /// Whether the table may hold `user_key`, according to its key bounds and filter. A missing or
    /// damaged filter rules nothing out.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the top index is damaged.
    pub fn may_contain<T: ReadTrace>(
        &self,
        user_key: &[u8],
        hash: u64,
        trace: &mut T,
    ) -> Result<bool, FileError> {
        let open = self.open()?;
        let Some(partition) = open.top.find(user_key) else {
            return Ok(false);
        };
        let verdict = open.filter_verdict(partition, hash, trace)?;
        if T::ENABLED {
            trace.filter(verdict);
        }
        Ok(verdict != FilterVerdict::Excluded)
    }

    /// About how many bytes of the file hold keys of `range`.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if an index is damaged.
    ///
    /// # Cost
    /// Reads at most two index partitions, and no data.
    pub fn approximate_bytes(&self, range: &KeyRange) -> Result<u64, FileError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        if !self.properties.overlaps(range) || range.is_empty() {
            return Ok(0);
        }
        let open = self.open()?;
        let start = match &range.start {
            Included(key) | Excluded(key) => self.data_before(open, key, false)?,
            Unbounded => 0,
        };
        let end = match &range.end {
            Included(key) | Excluded(key) => self.data_before(open, key, true)?,
            Unbounded => open.file.content_end(),
        };
        Ok(end.saturating_sub(start).min(self.properties.data_bytes))
    }

    /// Offset of the start or the end of the block that holds `user_key` or the next key.
    fn data_before(
        &self,
        open: &OpenTable,
        user_key: &[u8],
        at_end: bool,
    ) -> Result<u64, FileError> {
        let Some(partition) = open.top.find(user_key) else {
            return Ok(open.file.content_end());
        };
        open.with_index(partition, &mut NoTrace, |index| {
            index.candidates(user_key).map_or(index.data().end(), |candidates| {
                let number = if at_end { candidates.last } else { candidates.first };
                let handle = index.handle(number);
                if at_end { handle.end() } else { handle.offset }
            })
        })
    }

    /// The payloads of up to `count` data blocks, spread evenly over the table. Bypasses the cache.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if a block that is read is damaged.
    pub fn sample_blocks(&self, count: usize) -> Result<Vec<Vec<u8>>, FileError> {
        let open = self.open()?;
        let total = self.properties.data_block_count as usize;
        let count = count.min(total);
        let mut samples = Vec::with_capacity(count);
        for sample in 0..count {
            let (partition, at) = Self::place_of(open, (sample * total / count) as u32);
            let handle = open.with_index(partition, &mut NoTrace, |index| index.handle(at))?;
            samples.push(open.file.read_block(handle)?.payload.into_vec());
        }
        Ok(samples)
    }

    /// User keys, ascending, that divide the data into up to `count` stretches with about equally
    /// many blocks: one key fewer than stretches.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if an index is damaged.
    ///
    /// # Cost
    /// Reads the indexes that contain the keys, and no data.
    pub fn cut_keys(&self, count: usize) -> Result<Vec<Vec<u8>>, FileError> {
        let open = self.open()?;
        let total = self.properties.data_block_count as usize;
        let count = count.min(total);
        (1..count).map(|stretch| Self::separator(open, stretch * total / count - 1)).collect()
    }

    /// The separator after data block `number`, counted over the whole table.
    fn separator(open: &OpenTable, number: usize) -> Result<Vec<u8>, FileError> {
        let (partition, at) = Self::place_of(open, number as u32);
        open.with_index(partition, &mut NoTrace, |index| {
            let mut separator = Vec::new();
            index.append_separator(at, &mut separator);
            separator
        })
    }

    /// The partition of data block `number`, counted over the whole table, and its number in that.
    pub(crate) fn place_of(open: &OpenTable, number: u32) -> (usize, usize) {
        let partitions = open.top.partitions();
        let partition = partitions.partition_point(|p| p.first_block <= number) - 1;
        (partition, (number - partitions[partition].first_block) as usize)
    }

    /// Bytes of memory that the table holds: its top index and slots, if it is open, and its
    /// blocks in the cache.
    ///
    /// # Cost
    /// Looks at every slot.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.open.get().map_or(0, OpenTable::memory_bytes)
    }

    /// Whether at least half of its blocks are in the cache and were used there, judging by a
    /// sample of a few hundred.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.open.get().is_some_and(|open| 50 <= open.used_percent())
    }

    /// Filters that were found damaged, so that reads went on without them.
    #[must_use]
    pub fn damaged_filter_count(&self) -> u64 {
        self.open.get().map_or(0, OpenTable::damaged_filter_count)
    }

    /// The opened table, if it has been opened.
    #[inline]
    pub(crate) fn opened(&self) -> Option<&OpenTable> {
        self.open.get()
    }

    /// The opened table; opens it at the first call.
    #[inline]
    pub(crate) fn open(&self) -> Result<&OpenTable, FileError> {
        match self.open.get() {
            Some(open) => Ok(open),
            None => self.open_once(),
        }
    }

    #[cold]
    fn open_once(&self) -> Result<&OpenTable, FileError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let TableContext { fs, dir, database, .. } = &*self.context;
        let properties = &self.properties;
        let file = TableFile::open(&**fs, dir, *database, properties.id)?;
        self.check_file_bytes(file.file_bytes())?;
        if file.footer().content_checksum != properties.checksum {
            let what = "footer has another checksum than the table's properties";
            return Err(file.corruption(file.content_end(), what));
        }
        let adopted = file.adoption().map(|adoption| adoption.origin());
        let expected = properties.extras.origin.as_ref().filter(|_| self.seqno.is_some());
        if adopted.as_ref() != expected {
            let what = "file has another origin than the table's properties";
            return Err(file.corruption(file.content_end(), what));
        }
        let opened = OpenTable::new(&self.context, file, properties)?;
        Ok(self.open.get_or_init(|| opened))
    }

    pub(crate) fn check_file_bytes(&self, file_bytes: u64) -> Result<(), FileError> {
        let expected = self.properties.file_bytes;
        if file_bytes == expected {
            return Ok(());
        }
        let what = format!("file is {file_bytes} bytes long and should be {expected}");
        let file = self.properties.id.file_name();
        Err(esker_base::Corruption::new(file, file_bytes.min(expected), what).into())
    }

    #[inline]
    fn entry_of(&self, block: Arc<CachedBlock>, entry: usize) -> TableEntry {
        let trailer = with_seqno(block.data().trailer(entry), self.seqno);
        let range = block.data().value_range(entry);
        TableEntry { trailer, value: BlockSlice::new(block, range) }
    }

    /// The sequence number of all entries, if the table was ingested.
    pub(crate) const fn seqno(&self) -> Option<SeqNo> {
        self.seqno
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.open.get().is_none() {
            self.context.cache.forget_file(self.properties.id.0);
        }
    }
}

/// `trailer` as readers see it: with `seqno`, if that is given for all entries of a table.
#[inline]
pub(crate) fn with_seqno(trailer: Trailer, seqno: Option<SeqNo>) -> Trailer {
    seqno
        .filter(|_| !esker_base::planted::is("ingest-without-seqno"))
        .map_or(trailer, |seqno| Trailer::new(seqno, trailer.kind()))
}

#[cfg(test)]
mod tests;
