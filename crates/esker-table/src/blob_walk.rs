//! Walks a blob file from front to back, without its tables: for verification and dump.

use esker_base::{BlobFileId, Corruption, FileHeader, KeyspaceId};
use esker_env::FileError;

use crate::blob_file::RawBlobFile;
use crate::blob_format::RECORD_PREFIX_LEN;
use crate::blob_record::BlobRecord;
use crate::sealed::BLOCK_TRAILER_LEN;
use crate::verify::read_checksum;
use crate::{BlobFileFacts, BlockHandle, TableContext};

/// What a check of a whole blob file found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BlobFileReport {
    /// Records that could be read.
    pub record_count: u64,
    /// Bytes of the values in them.
    pub value_bytes: u64,
    /// What is wrong, in file order; empty if nothing is.
    pub corruptions: Vec<Corruption>,
}

/// One record of a blob file.
#[derive(Debug)]
pub struct WalkedRecord {
    /// Its number, from 0.
    pub number: u32,
    /// Its block.
    pub block: BlockHandle,
    record: BlobRecord,
}

impl WalkedRecord {
    /// The user key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.record.payload()[self.record.value()]
    }
}

/// Goes through the records of a blob file. A damaged record is an error in its place, and the walk
/// goes on after it if its length can be trusted.
#[derive(Debug)]
pub struct BlobFileWalk {
    file: RawBlobFile,
    offset: u64,
    number: u32,
}

impl BlobFileWalk {
    /// Opens blob file `id`.
    ///
    /// # Errors
    /// Of the file system, `NotFound` among them; `Corruption` of header or footer;
    /// `UnsupportedFormat`.
    pub fn open(context: &TableContext, id: BlobFileId) -> Result<Self, FileError> {
        let file = RawBlobFile::open(&*context.fs, &context.dir, context.database, id)?;
        Ok(Self { file, offset: FileHeader::LEN as u64, number: 0 })
    }

    /// What tables should know of the file.
    #[must_use]
    pub const fn facts(&self, id: BlobFileId) -> BlobFileFacts {
        self.file.facts(id)
    }

    /// The keyspace that the footer names.
    #[must_use]
    pub const fn keyspace(&self) -> KeyspaceId {
        self.file.footer.keyspace
    }

    /// How many records the footer counts.
    #[must_use]
    pub const fn record_count(&self) -> u64 {
        self.file.footer.record_count
    }

    fn take(&mut self) -> Option<Result<WalkedRecord, FileError>> {
        let end = self.file.content_end();
        let at = self.offset;
        let left = end.checked_sub(at).filter(|&left| left > 0)?;
        // Until the length can be trusted, there is no next record.
        self.offset = end;
        let too_short = |file: &RawBlobFile| file.corruption(at, "record reaches out of the file");
        if left < RECORD_PREFIX_LEN as u64 {
            return Some(Err(too_short(&self.file)));
        }
        let prefix = match self.file.read_bytes(at, RECORD_PREFIX_LEN) {
            Ok(prefix) => prefix,
            Err(error) => return Some(Err(error)),
        };
        let len = prefix.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if len < BLOCK_TRAILER_LEN as u64 || left - (RECORD_PREFIX_LEN as u64) < len {
            return Some(Err(too_short(&self.file)));
        }
        let block = BlockHandle { offset: at + RECORD_PREFIX_LEN as u64, len };
        self.offset = block.end();
        let number = self.number;
        self.number = number.saturating_add(1);
        let record = self.file.read_record(block);
        Some(record.map(|record| WalkedRecord { number, block, record }))
    }
}

impl Iterator for BlobFileWalk {
    type Item = Result<WalkedRecord, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take()
    }
}

/// Reads the whole blob file of `facts` and checks everything in it.
///
/// # Errors
/// Of the file system, including `NotFound`, and `UnsupportedFormat`. Damage is an item of the
/// report, not an error.
///
/// # Cost
/// Reads the file twice: record by record, and for its checksum.
pub fn verify_blob_file(
    context: &TableContext,
    facts: &BlobFileFacts,
    keyspace: KeyspaceId,
) -> Result<BlobFileReport, FileError> {
    let mut report = BlobFileReport::default();
    match verify_into(context, facts, keyspace, &mut report) {
        Ok(()) => {}
        Err(FileError::Corruption(corruption)) => report.corruptions.push(corruption),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn verify_into(
    context: &TableContext,
    facts: &BlobFileFacts,
    keyspace: KeyspaceId,
    report: &mut BlobFileReport,
) -> Result<(), FileError> {
    let mut walk = BlobFileWalk::open(context, facts.id)?;
    walk.file.check_facts(facts)?;
    let mut key_bytes = 0;
    for item in &mut walk {
        match item {
            Ok(record) => {
                report.record_count += 1;
                report.value_bytes += record.value().len() as u64;
                key_bytes += record.key().len() as u64;
            }
            Err(FileError::Corruption(corruption)) => report.corruptions.push(corruption),
            Err(error) => return Err(error),
        }
    }
    // A damaged record also makes counts and checksum wrong, and has been reported already.
    if !report.corruptions.is_empty() {
        return Ok(());
    }
    let footer = &walk.file.footer;
    let is_same = footer.record_count == report.record_count
        && footer.key_bytes == key_bytes
        && footer.value_bytes == report.value_bytes;
    if !is_same {
        let what = "records are not those that the footer counts";
        return Err(walk.file.corruption(walk.file.content_end(), what));
    }
    if footer.keyspace != keyspace {
        let what = format!("values are of keyspace {}, not {keyspace}", footer.keyspace);
        return Err(walk.file.corruption(walk.file.content_end(), what));
    }
    let read = |offset, len| walk.file.read_bytes(offset, len);
    if read_checksum(walk.file.content_end(), read)? != footer.content_checksum {
        let what = "file does not have the checksum that its footer says";
        return Err(walk.file.corruption(0, what));
    }
    Ok(())
}
