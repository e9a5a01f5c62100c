//! An open table file: finds its footer, reads its blocks, and trusts nothing unchecked.
//!
//! Does not know the cache; every call reads from the file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::checksum::file_seed;
use esker_base::coding::{DecodeError, Decoder};
use esker_base::{Corruption, DatabaseId, FileHeader, FileId, Fragments, TableId};
use esker_env::{Advice, File, FileError, FileExt, FileSystem};

use crate::adoption::ADOPTION_MAGIC;
use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::footer::Footer;
use crate::format::check_header;
use crate::index_block::IndexBlock;
use crate::range_block;
use crate::sealed::{BLOCK_TRAILER_LEN, unseal, unseal_into};
use crate::spare;
use crate::top_index::{Partition, TopIndex};
use crate::{
    Adoption, BlockHandle, BlockKind, Compression, Dictionary, TableProperties, TableRanges,
};

/// How much of the end of a file is read at once when it is opened: footer, properties and, for
/// tables of ordinary size, the whole top index.
const TAIL_BYTES: u64 = 4096;

/// An open table file.
#[derive(Debug)]
pub(crate) struct TableFile {
    file: Arc<dyn File>,
    id: TableId,
    seed: u64,
    footer: Footer,
    footer_at: u64,
    file_bytes: u64,
    /// Set if a database has ingested the table.
    adoption: Option<Adoption>,
    /// The dictionary of the data blocks, once it is read.
    dictionary: Option<Dictionary>,
    /// The last bytes of the file, until the blocks in them are read.
    tail: Vec<u8>,
}

/// The path of table `id`.
pub(crate) fn table_path(dir: &Path, id: TableId) -> PathBuf {
    dir.join(id.file_name())
}

/// Checks that the header of `file` is that of the table `known` of `database`; returns under which
/// database and id it was born.
fn check_birth(
    file: &dyn File,
    database: DatabaseId,
    known: &TableProperties,
) -> Result<(DatabaseId, FileId), FileError> {
    let id = known.id;
    let header_len = file.len()?.min(FileHeader::LEN as u64) as usize;
    let header = read(file, id, 0, header_len)?;
    let birth = Adoption::of(database, known)
        .map_or((database, id.0), |adoption| (adoption.origin_database, adoption.origin_id));
    check_header(&header, id, birth)?;
    Ok(birth)
}

impl TableFile {
    /// Opens table `id`, checks its header and reads its footer.
    ///
    /// # Cost
    /// Two reads: the header, and the last 4 KiB.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        id: TableId,
    ) -> Result<Self, FileError> {
        let file = fs.open(&table_path(dir, id))?;
        file.advise(Advice::Random);
        let file_bytes = file.len()?;
        let corrupt = |offset: u64, what: &'static str| {
            FileError::Corruption(Corruption::new(id.file_name(), offset, what))
        };
        let header_len = file_bytes.min(FileHeader::LEN as u64) as usize;
        let header = read(&*file, id, 0, header_len)?;
        let least = (FileHeader::LEN + Footer::LEN) as u64;
        if file_bytes < least {
            check_header(&header, id, (database, id.0))?;
            return Err(corrupt(file_bytes, "file ends before its footer"));
        }
        let tail_start = file_bytes.saturating_sub(TAIL_BYTES).max(FileHeader::LEN as u64);
        let tail = read(&*file, id, tail_start, (file_bytes - tail_start) as usize)?;
        let adoption = Self::read_adoption(&tail, file_bytes, database, id)?;
        let (born_in, born_as) =
            adoption.map_or((database, id.0), |a| (a.origin_database, a.origin_id));
        check_header(&header, id, (born_in, born_as))?;
        let seed = file_seed(born_in, born_as);
        let behind = if adoption.is_some() { Adoption::LEN } else { 0 };
        let footer_bytes = tail[..tail.len() - behind].last_chunk::<{ Footer::LEN }>();
        let footer_at = file_bytes - (behind + Footer::LEN) as u64;
        let footer_bytes = footer_bytes.ok_or_else(|| corrupt(footer_at, "file is too short"))?;
        let footer = Footer::decode(footer_bytes, seed, footer_at)
            .map_err(|error| corrupt(footer_at, error.what))?;
        Ok(Self { file, id, seed, footer, footer_at, file_bytes, adoption, dictionary: None, tail })
    }

    /// Checks that the file of the table `known` is there, and by its header that it is that table.
    pub(crate) fn check_start(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        known: &TableProperties,
    ) -> Result<(), FileError> {
        let file = fs.open(&table_path(dir, known.id))?;
        // Else the system reads ahead, up to megabytes.
        file.advise(Advice::Random);
        check_birth(&*file, database, known).map(|_| ())
    }

    /// Opens a table whose end is damaged or lost, using what is known of it. Its content ends
    /// where its blocks ended, or where the file does.
    pub(crate) fn open_without_end(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        known: &TableProperties,
    ) -> Result<Self, FileError> {
        let id = known.id;
        let file = fs.open(&table_path(dir, id))?;
        let file_bytes = file.len()?;
        let adoption = Adoption::of(database, known);
        let (born_in, born_as) = check_birth(&*file, database, known)?;
        let end_bytes = Footer::LEN + if adoption.is_some() { Adoption::LEN } else { 0 };
        let nothing = BlockHandle { offset: 0, len: 0 };
        Ok(Self {
            file,
            id,
            seed: file_seed(born_in, born_as),
            footer: Footer { top_index: nothing, properties: nothing, content_checksum: 0 },
            footer_at: known.file_bytes.saturating_sub(end_bytes as u64).min(file_bytes),
            file_bytes,
            adoption,
            dictionary: None,
            tail: Vec::new(),
        })
    }

    /// The adoption that ends the file, if it ends with one.
    fn read_adoption(
        tail: &[u8],
        file_bytes: u64,
        database: DatabaseId,
        id: TableId,
    ) -> Result<Option<Adoption>, FileError> {
        if !tail.ends_with(&ADOPTION_MAGIC) {
            return Ok(None);
        }
        let offset = file_bytes.saturating_sub(Adoption::LEN as u64);
        let bytes = tail
            .last_chunk::<{ Adoption::LEN }>()
            .filter(|_| (FileHeader::LEN + Footer::LEN + Adoption::LEN) as u64 <= file_bytes);
        let adoption = match bytes {
            Some(bytes) => Adoption::decode(bytes, database, id, offset),
            None => Err(Decoder::new(tail).error("adoption is not complete")),
        };
        adoption.map(Some).map_err(|error| {
            FileError::Corruption(Corruption::new(id.file_name(), offset, error.what))
        })
    }

    /// The adoption that ends the file, if it ends with one.
    pub(crate) const fn adoption(&self) -> Option<&Adoption> {
        self.adoption.as_ref()
    }

    /// The name of the file.
    pub(crate) fn name(&self) -> String {
        self.id.file_name()
    }

    pub(crate) const fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Where the footer starts: the end of all blocks.
    pub(crate) const fn content_end(&self) -> u64 {
        self.footer_at
    }

    /// Frees the memory of the tail.
    pub(crate) fn forget_tail(&mut self) {
        self.tail = Vec::new();
    }

    /// A corruption error about this file.
    pub(crate) fn corruption(&self, offset: u64, what: impl Into<String>) -> FileError {
        FileError::Corruption(Corruption::new(self.id.file_name(), offset, what.into()))
    }

    /// Reads and checks the block at `handle`.
    pub(crate) fn read_block(&self, handle: BlockHandle) -> Result<Unsealed, FileError> {
        self.check_handle(handle)?;
        let tail_start = self.file_bytes - self.tail.len() as u64;
        let stored = match handle.offset.checked_sub(tail_start) {
            Some(at) if !self.tail.is_empty() => {
                self.tail[at as usize..(at + handle.len) as usize].to_vec()
            }
            _ => read(&*self.file, self.id, handle.offset, handle.len as usize)?,
        };
        self.unseal(handle, stored)
    }

    /// Announces to the system that the block at `handle` will be read soon.
    pub(crate) fn will_need(&self, handle: BlockHandle) {
        self.file.will_need(handle.offset, handle.len);
    }

    /// Checks `handle` against the file, to bound what is read and allocated.
    fn check_handle(&self, handle: BlockHandle) -> Result<(), FileError> {
        let least = FileHeader::LEN as u64;
        if handle.offset < least
            || handle.len < BLOCK_TRAILER_LEN as u64
            || handle.offset.checked_add(handle.len).is_none_or(|end| end > self.content_end())
        {
            return Err(self.corruption(handle.offset, "block handle reaches out of the file"));
        }
        Ok(())
    }

    /// Reads the data block at `handle`, using buffers that the thread keeps; calls `waits`, if
    /// given, before it waits for the device.
    pub(crate) fn read_data(
        &self,
        handle: BlockHandle,
        waits: Option<impl FnOnce()>,
    ) -> Result<DataBlock, FileError> {
        self.check_handle(handle)?;
        let read = |stored: &mut [u8]| match waits {
            Some(waits) => self.read_telling(handle.offset, stored, waits),
            None => read_into(&*self.file, self.id, handle.offset, stored),
        };
        if handle.len > spare::LEN_MAX as u64 {
            let mut stored = vec![0; handle.len as usize];
            read(&mut stored)?;
            return self.decode_data(handle, self.unseal(handle, stored)?.payload);
        }
        let (payload, len) = spare::with_stored(handle.len as usize, |stored| {
            spare::prefetch_payload();
            read(stored)?;
            let dictionary = self.dictionary.as_ref();
            unseal_into(stored, self.seed, handle.offset, dictionary, spare::payload)
                .map_err(|what| self.corruption(handle.offset, what))
        })?;
        DataBlock::decode(payload, len)
            .map_err(|error| self.undecodable(handle, BlockKind::Data, error))
    }

    /// Checks a block that was read at `handle`.
    pub(crate) fn unseal(
        &self,
        handle: BlockHandle,
        stored: Vec<u8>,
    ) -> Result<Unsealed, FileError> {
        let (payload, compression) =
            unseal(stored, self.seed, handle.offset, self.dictionary.as_ref())
                .map_err(|what| self.corruption(handle.offset, what))?;
        Ok(Unsealed { payload: payload.into_boxed_slice(), compression })
    }

    /// Reads the dictionary that the properties describe, before the first data block is read.
    pub(crate) fn read_dictionary(
        &mut self,
        properties: &TableProperties,
    ) -> Result<(), FileError> {
        if let Some(handle) = properties.extras.dictionary {
            let payload = self.read_block(handle)?.payload;
            self.dictionary = Some(Dictionary::new(payload.into_vec()));
        }
        Ok(())
    }

    /// The dictionary of the data blocks, if it was read.
    pub(crate) const fn dictionary(&self) -> Option<&Dictionary> {
        self.dictionary.as_ref()
    }

    /// Reads the top index.
    pub(crate) fn read_top_index(&self) -> Result<TopIndex, FileError> {
        let handle = self.footer.top_index;
        let top = TopIndex::decode(self.read_block(handle)?.payload)
            .map_err(|error| self.undecodable(handle, BlockKind::TopIndex, error))?;
        // Each data block takes this many bytes at least: the count bounds what is allocated.
        if u64::from(top.data_block_count()) > self.file_bytes / BLOCK_TRAILER_LEN as u64 {
            return Err(self.corruption(handle.offset, "top index counts more blocks than fit"));
        }
        Ok(top)
    }

    /// Reads the properties block, and completes it with what the footer and the file say.
    pub(crate) fn read_properties(&self) -> Result<TableProperties, FileError> {
        let handle = self.footer.properties;
        let payload = self.read_block(handle)?.payload;
        let mut decoder = Decoder::new(&payload);
        let checksum = self.footer.content_checksum;
        let properties = TableProperties::decode_block(&mut decoder, self.file_bytes, checksum)
            .and_then(|properties| decoder.finish().map(|()| properties))
            .map_err(|error| self.undecodable(handle, BlockKind::Properties, error))?;
        let Some(adoption) = self.adoption else {
            if properties.id != self.id {
                return Err(self.corruption(handle.offset, "properties name another table"));
            }
            return Ok(properties);
        };
        if properties.id.0 != adoption.origin_id {
            return Err(self.corruption(handle.offset, "properties name another table"));
        }
        Ok(adoption.apply(properties, self.file_bytes))
    }

    /// Reads the range tombstones that the properties describe as `ranges`.
    pub(crate) fn read_ranges(&self, ranges: &TableRanges) -> Result<Fragments, FileError> {
        self.decode_ranges(ranges, &self.read_block(ranges.handle)?.payload)
    }

    /// Decodes the payload of the block of range tombstones.
    pub(crate) fn decode_ranges(
        &self,
        ranges: &TableRanges,
        payload: &[u8],
    ) -> Result<Fragments, FileError> {
        let handle = ranges.handle;
        let fragments = range_block::decode(payload)
            .map_err(|error| self.undecodable(handle, BlockKind::RangeTombstones, error))?;
        let slice = fragments.as_slice();
        let is_same = slice.len() as u64 == ranges.fragment_count
            && slice.first().is_some_and(|first| first.start == ranges.start)
            && slice.last().is_some_and(|last| last.end == ranges.end);
        if is_same {
            return Ok(match &self.adoption {
                Some(adoption) => fragments.at(adoption.range_seqno()),
                None => fragments,
            });
        }
        Err(self.corruption(handle.offset, "range tombstones are not those of the properties"))
    }

    /// Reads the index of a partition.
    pub(crate) fn read_index(&self, partition: &Partition) -> Result<IndexBlock, FileError> {
        let handle = partition.index;
        let payload = self.read_block(handle)?.payload;
        IndexBlock::decode(payload, partition.block_count, handle.offset)
            .map_err(|error| self.undecodable(handle, BlockKind::Index, error))
    }

    /// Reads a filter.
    pub(crate) fn read_filter(&self, handle: BlockHandle) -> Result<FilterBlock, FileError> {
        self.decode_filter(handle, &self.read_block(handle)?.payload)
    }

    /// Decodes the payload of the filter at `handle`.
    pub(crate) fn decode_filter(
        &self,
        handle: BlockHandle,
        payload: &[u8],
    ) -> Result<FilterBlock, FileError> {
        FilterBlock::decode(payload)
            .map_err(|error| self.undecodable(handle, BlockKind::Filter, error))
    }

    /// Decodes the payload of the data block at `handle`.
    pub(crate) fn decode_data(
        &self,
        handle: BlockHandle,
        payload: Box<[u8]>,
    ) -> Result<DataBlock, FileError> {
        let len = payload.len();
        DataBlock::decode(payload, len)
            .map_err(|error| self.undecodable(handle, BlockKind::Data, error))
    }

    /// Reads `len` bytes at `offset`, which must be inside the file.
    pub(crate) fn read_bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, FileError> {
        read(&*self.file, self.id, offset, len)
    }

    /// As [`TableFile::read_bytes`]; calls `waits` before it waits for the device.
    pub(crate) fn read_bytes_telling(
        &self,
        offset: u64,
        len: usize,
        waits: impl FnOnce(),
    ) -> Result<Vec<u8>, FileError> {
        let mut bytes = vec![0; len];
        self.read_telling(offset, &mut bytes, waits)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset`; calls `waits` before it waits for the device.
    fn read_telling(
        &self,
        offset: u64,
        bytes: &mut [u8],
        waits: impl FnOnce(),
    ) -> Result<(), FileError> {
        let at_hand = self.file.read_at_hand(offset, bytes)?.unwrap_or(0);
        if at_hand == bytes.len() {
            return Ok(());
        }
        waits();
        read_into(&*self.file, self.id, offset + at_hand as u64, &mut bytes[at_hand..])
    }

    /// As [`TableFile::read_bytes`], replacing the contents of `buffer`, which is empty after a
    /// failure.
    pub(crate) fn read_into(
        &self,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FileError> {
        // Only the part by which the buffer grows is zeroed.
        buffer.resize(len, 0);
        let result = read_into(&*self.file, self.id, offset, buffer);
        if result.is_err() {
            buffer.clear();
        }
        result
    }

    /// Lets the system drop `range` from the page cache.
    pub(crate) fn forget(&self, range: Range<u64>) {
        self.file.forget(range);
    }

    fn undecodable(&self, handle: BlockHandle, kind: BlockKind, error: DecodeError) -> FileError {
        let unit = format!("{kind} block");
        let file = self.id.file_name();
        FileError::Corruption(Corruption::undecodable(file, handle.offset, &unit, error))
    }
}

/// A block whose checksum matched.
pub(crate) struct Unsealed {
    pub(crate) payload: Box<[u8]>,
    pub(crate) compression: Compression,
}

fn read(file: &dyn File, id: TableId, offset: u64, len: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; len];
    read_into(file, id, offset, &mut bytes)?;
    Ok(bytes)
}

fn read_into(file: &dyn File, id: TableId, offset: u64, bytes: &mut [u8]) -> Result<(), FileError> {
    match file.read_exact_at(offset, bytes) {
        Ok(()) => Ok(()),
        // The length was taken from the file itself, so the file has shrunk since.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Corruption::new(id.file_name(), offset, "file was cut while it was open").into())
        }
        Err(error) => Err(error.into()),
    }
}
