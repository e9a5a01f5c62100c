//! A blob file as readers see it: values by reference, each verified before it is returned.
//!
//! Promises: never returns a value from bytes whose checksum did not match, nor one that was stored
//! for another key; damage is an error that names the file and the place. No I/O before the first
//! read. A file that is removed after that goes on working.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker_base::checksum::file_seed;
use esker_base::sync::{Mutex, PoisonError};
use esker_base::{BlobFileId, Corruption, DatabaseId, FileHeader, KeyspaceId};
use esker_cache::{BlockCache, Budget, CacheSlots, Charge, Lookup, Owner, Priority};
use esker_env::{Advice, Clock, File, FileError, FileExt, FileSystem};

use crate::blob_format::{BLOB_FILE_FRAME_LEN, BlobFooter, check_blob_header};
use crate::blob_record::BlobRecord;
use crate::blob_uses::BlobFileFacts;
use crate::cached_block::{CachedBlock, Content};
use crate::sealed::{BLOCK_TRAILER_LEN, unseal};
use crate::{BlobReference, BlockHandle, BlockKind, BlockRead, BlockSlice, ReadTrace};

/// A value is cached if it takes at most one part in this many of the cache's capacity: a few
/// larger ones would leave no room for anything else.
const CACHED_PART: u64 = 64;

/// Where a blob file is, and what reading it needs.
pub(crate) struct BlobPlace<'a> {
    pub(crate) fs: &'a dyn FileSystem,
    pub(crate) dir: &'a Path,
    pub(crate) database: DatabaseId,
    pub(crate) cache: &'a Arc<BlockCache<CachedBlock>>,
    pub(crate) budget: &'a Arc<Budget>,
    pub(crate) clock: &'a dyn Clock,
}

/// One blob file. Opened at the first read, and open from then on.
#[derive(Debug)]
pub struct BlobFile {
    facts: BlobFileFacts,
    open: OnceLock<OpenBlobFile>,
    /// Held by the thread that opens the file, across its I/O; not taken once it is open.
    opening: Mutex<()>,
}

#[derive(Debug)]
struct OpenBlobFile {
    file: RawBlobFile,
    slots: CacheSlots<CachedBlock>,
    cached_len_max: u64,
    /// The slots themselves.
    _charge: Charge,
}

impl BlobFile {
    pub(crate) const fn new(facts: BlobFileFacts) -> Self {
        Self { facts, open: OnceLock::new(), opening: Mutex::new(()) }
    }

    /// What is known of the file without reading it.
    #[must_use]
    pub const fn facts(&self) -> &BlobFileFacts {
        &self.facts
    }

    pub(crate) fn read<T: ReadTrace>(
        &self,
        place: &BlobPlace<'_>,
        user_key: &[u8],
        reference: &BlobReference,
        fill_cache: bool,
        trace: &mut T,
    ) -> Result<BlockSlice, FileError> {
        let open = self.open(place)?;
        let start = if T::ENABLED { place.clock.now() } else { Duration::ZERO };
        let number = reference.number;
        if open.slots.slot_count() <= number {
            let what = "reference to a record that the file does not count";
            return Err(open.file.corruption(reference.block.offset, what));
        }
        let load = || -> Result<CachedBlock, FileError> {
            Ok(CachedBlock(Content::Blob(open.file.read_record(reference.block)?)))
        };
        let (mut block, mut lookup) = if fill_cache && reference.block.len <= open.cached_len_max {
            open.slots.get_or_load(number, Priority::Normal, load)?
        } else {
            match open.slots.peek(number) {
                Some(block) => (block, Lookup::Hit),
                None => (Arc::new(load()?), Lookup::Loaded),
            }
        };
        if block.blob().offset != reference.block.offset {
            // Another reference had a wrong number, so the cached value is not the one that this
            // refers to.
            (block, lookup) = (Arc::new(load()?), Lookup::Loaded);
        }
        if T::ENABLED {
            let from_cache = lookup == Lookup::Hit;
            let time = place.clock.now().saturating_sub(start);
            trace.block(BlockRead {
                kind: BlockKind::Blob,
                offset: reference.block.offset,
                from_cache,
                bytes: reference.block.len,
                time: if from_cache { Duration::ZERO } else { time },
            });
        }
        open.file.check_record(block.blob(), user_key, reference)?;
        let range = block.blob().value();
        Ok(BlockSlice::new(block, range))
    }

    fn open(&self, place: &BlobPlace<'_>) -> Result<&OpenBlobFile, FileError> {
        match self.open.get() {
            Some(open) => Ok(open),
            None => self.open_now(place),
        }
    }

    #[cold]
    fn open_now(&self, place: &BlobPlace<'_>) -> Result<&OpenBlobFile, FileError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let file = RawBlobFile::open(place.fs, place.dir, place.database, self.facts.id)?;
        file.check_facts(&self.facts)?;
        let count = file.footer.record_count;
        // Each record takes at least this much, so the file's length bounds what is allocated.
        let fits = count <= self.facts.record_bytes() / BLOCK_TRAILER_LEN as u64;
        let count = u32::try_from(count).ok().filter(|_| fits);
        let count =
            count.ok_or_else(|| file.corruption(file.content_end(), "footer counts too much"))?;
        let memory = count as usize * CacheSlots::<CachedBlock>::SLOT_LEN;
        let open = OpenBlobFile {
            file,
            slots: place.cache.register(count),
            cached_len_max: place.cache.stats().capacity_bytes / CACHED_PART,
            _charge: place.budget.charge(Owner::Indexes, memory as u64),
        };
        Ok(self.open.get_or_init(|| open))
    }
}

/// An open blob file, read without a cache.
#[derive(Debug)]
pub(crate) struct RawBlobFile {
    file: Arc<dyn File>,
    id: BlobFileId,
    seed: u64,
    pub(crate) footer: BlobFooter,
    pub(crate) file_bytes: u64,
}

/// The path of blob file `id`.
fn blob_path(dir: &Path, id: BlobFileId) -> PathBuf {
    dir.join(id.file_name())
}

impl RawBlobFile {
    /// Opens blob file `id` and checks its header; returns its length, too.
    pub(crate) fn open_checked(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        id: BlobFileId,
    ) -> Result<(Arc<dyn File>, u64), FileError> {
        let file = fs.open(&blob_path(dir, id))?;
        file.advise(Advice::Random);
        let file_bytes = file.len()?;
        let header_len = file_bytes.min(FileHeader::LEN as u64) as usize;
        check_blob_header(&read(&*file, id, 0, header_len)?, database, id)?;
        Ok((file, file_bytes))
    }

    /// Opens blob file `id`, checks its header and reads its footer.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        id: BlobFileId,
    ) -> Result<Self, FileError> {
        let (file, file_bytes) = Self::open_checked(fs, dir, database, id)?;
        let corrupt = |offset: u64, what: &'static str| {
            FileError::Corruption(Corruption::new(id.file_name(), offset, what))
        };
        if file_bytes < BLOB_FILE_FRAME_LEN {
            return Err(corrupt(file_bytes, "file ends before its footer"));
        }
        let seed = file_seed(database, id.0);
        let footer_at = file_bytes - BlobFooter::LEN as u64;
        let footer = read(&*file, id, footer_at, BlobFooter::LEN)?;
        let footer = BlobFooter::decode(&footer, seed, footer_at)
            .map_err(|error| corrupt(footer_at, error.what))?;
        Ok(Self { file, id, seed, footer, file_bytes })
    }

    /// Where the footer starts: the end of all records.
    pub(crate) const fn content_end(&self) -> u64 {
        self.file_bytes - BlobFooter::LEN as u64
    }

    pub(crate) fn corruption(&self, offset: u64, what: impl Into<String>) -> FileError {
        FileError::Corruption(Corruption::new(self.id.file_name(), offset, what.into()))
    }

    /// The facts that tables should have about the file.
    pub(crate) const fn facts(&self, id: BlobFileId) -> BlobFileFacts {
        let BlobFooter { content_checksum: checksum, written_millis, .. } = self.footer;
        BlobFileFacts { id, file_bytes: self.file_bytes, checksum, written_millis }
    }

    /// Checks that the file is the one that tables refer to.
    pub(crate) fn check_facts(&self, facts: &BlobFileFacts) -> Result<(), FileError> {
        if self.file_bytes != facts.file_bytes {
            let what = format!(
                "file has {} bytes, and its tables say {}",
                self.file_bytes, facts.file_bytes
            );
            return Err(self.corruption(0, what));
        }
        if self.facts(facts.id) != *facts {
            let what = "footer has another checksum or time than the tables know";
            return Err(self.corruption(self.content_end(), what));
        }
        Ok(())
    }

    /// Reads `len` bytes at `offset`, which lie inside the file.
    pub(crate) fn read_bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, FileError> {
        read(&*self.file, self.id, offset, len)
    }

    /// Reads and checks the record whose block is at `block`.
    pub(crate) fn read_record(&self, block: BlockHandle) -> Result<BlobRecord, FileError> {
        // Bounded by the file before anything is allocated.
        if block.offset < FileHeader::LEN as u64
            || block.len < BLOCK_TRAILER_LEN as u64
            || block.offset.checked_add(block.len).is_none_or(|end| end > self.content_end())
        {
            return Err(self.corruption(block.offset, "reference reaches out of the file"));
        }
        let stored = self.read_bytes(block.offset, block.len as usize)?;
        self.decode_record(block, stored)
    }

    /// Checks a record whose block was read at `block`.
    pub(crate) fn decode_record(
        &self,
        block: BlockHandle,
        stored: Vec<u8>,
    ) -> Result<BlobRecord, FileError> {
        let (payload, _) = unseal(stored, self.seed, block.offset, None)
            .map_err(|what| self.corruption(block.offset, what))?;
        BlobRecord::new(payload, block.offset).map_err(|error| {
            let file = self.id.file_name();
            FileError::from(Corruption::undecodable(file, block.offset, "record", error))
        })
    }

    /// Opens blob file `id` without checking its header and footer: each record is verified by its
    /// own checksum.
    pub(crate) fn open_unchecked(
        fs: &dyn FileSystem,
        dir: &Path,
        database: DatabaseId,
        id: BlobFileId,
        keyspace: KeyspaceId,
    ) -> Result<Self, FileError> {
        let file = fs.open(&blob_path(dir, id))?;
        let file_bytes = file.len()?;
        // Records may extend up to the footer, wherever that starts in a damaged file.
        let file_bytes = file_bytes.saturating_add(BlobFooter::LEN as u64);
        let (key_bytes, value_bytes) = (0, 0);
        let footer = BlobFooter {
            record_count: 0,
            key_bytes,
            value_bytes,
            content_checksum: 0,
            written_millis: 0,
            keyspace,
        };
        Ok(Self { file, id, seed: file_seed(database, id.0), footer, file_bytes })
    }

    /// Checks that `record` is the one that `reference` was made for.
    pub(crate) fn check_record(
        &self,
        record: &BlobRecord,
        user_key: &[u8],
        reference: &BlobReference,
    ) -> Result<(), FileError> {
        let is_same = record.offset == reference.block.offset
            && record.key() == user_key
            && record.value().len() as u64 == reference.value_len;
        if !is_same {
            let what = "the record is not the one that the reference was made for";
            return Err(self.corruption(reference.block.offset, what));
        }
        Ok(())
    }
}

fn read(file: &dyn File, id: BlobFileId, offset: u64, len: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; len];
    match file.read_exact_at(offset, &mut bytes) {
        Ok(()) => Ok(bytes),
        // The length was taken from the file itself, so the file has shrunk since.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Corruption::new(id.file_name(), offset, "file was cut while it was open").into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
