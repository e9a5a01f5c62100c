//! Placement of values in a flush or a compaction: which go to a blob file, which come back from
//! one, and which stay where they are.
//!
//! A put whose value reaches the threshold becomes a reference to a new blob file. A reference is
//! kept unless the job is clearing its file: then the value is rewritten, to a new blob file or, if
//! it is below the present threshold, into the table. Expiring puts and merge operands stay in the
//! table whatever their size: the former are gone soon, and the latter get folded.
//!
//! A blob file belongs to the table that is being written and is finished no later than it, so that
//! the properties of the table can fully describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use esker_base::{BlobFileId, Corruption, EntryKind, InternalKey};
use esker_env::FileError;
use esker_table::{
    BlobFileFacts, BlobFileIdentity, BlobFileWriter, BlobReference, BlockSlice, NoTrace,
};

use crate::blob_account::BlobAccount;
use crate::blob_options::BlobOptions;
use crate::job::{Job, JobError};

/// The place of the value of one entry.
pub(crate) enum Placed<'a> {
    /// It stays where it is.
    AsItIs(&'a [u8]),
    /// It comes back into the table: the entry is a put of this value.
    Inline(BlockSlice),
    /// It is in a blob file: the entry is this reference.
    Reference(&'a [u8]),
}

/// The blob files that a job reads and writes.
pub(crate) struct BlobOutput {
    options: BlobOptions,
    writer: Option<BlobFileWriter>,
    /// Files that entries of the inputs refer to, and those that were written.
    facts: BTreeMap<BlobFileId, BlobFileFacts>,
    /// Of those, the ones being cleared: their values are rewritten.
    cleared: BTreeSet<BlobFileId>,
    /// Bytes of the files that are finished.
    finished_bytes: u64,
    /// The last reference, encoded.
    reference: Vec<u8>,
}

impl BlobOutput {
    /// `inputs` tells of the blob files that the inputs refer to.
    pub(crate) fn new(options: BlobOptions, inputs: &BlobAccount) -> Self {
        let is_cleared = |id: &BlobFileId| match options.threshold_bytes {
            Some(_) => inputs.is_past(*id, options.bound),
            None => true,
        };
        let facts: BTreeMap<BlobFileId, BlobFileFacts> =
            inputs.files().map(|file| (file.facts.id, file.facts)).collect();
        let cleared = facts.keys().copied().filter(is_cleared).collect();
        let (finished_bytes, reference) = (0, Vec::new());
        Self { options, writer: None, facts, cleared, finished_bytes, reference }
    }

    /// Also clears `files`, which the inputs refer to.
    pub(crate) fn clear(&mut self, files: BTreeSet<BlobFileId>) {
        self.cleared.extend(files);
    }

    /// Bytes of blob files written, or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        self.finished_bytes + self.writer.as_ref().map_or(0, BlobFileWriter::bytes)
    }

    /// Memory held until it is written, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, BlobFileWriter::memory_bytes)
    }

    /// Whether [`BlobOutput::place`] may have something to do.
    #[inline]
    pub(crate) fn concerns(&self, kind: EntryKind, value: &[u8]) -> bool {
        match kind {
            EntryKind::Put => self.options.separates(value.len() as u64),
            EntryKind::BlobReference => true,
            _ => false,
        }
    }

    /// Decides where the value of an entry goes, and writes it if that is a blob file. A path that
    /// was created is added to `created` first.
    pub(crate) fn place<'a>(
        &'a mut self,
        job: &Job<'_>,
        key: InternalKey<'_>,
        value: &'a [u8],
        created: &mut Vec<PathBuf>,
    ) -> Result<Placed<'a>, JobError> {
        if key.kind() == EntryKind::Put {
            self.write(job, key.user_key, value, created)?;
            return Ok(Placed::Reference(&self.reference));
        }
        let damaged = |what: &str| {
            let what = format!("blob reference of key \"{}\" {what}", key.user_key.escape_ascii());
            FileError::from(Corruption::new("a table", 0, what))
        };
        let old = BlobReference::decode(value).map_err(|error| damaged(error.what))?;
        if !self.facts.contains_key(&old.file) {
            return Err(damaged("names a file that its table does not list").into());
        }
        if !self.cleared.contains(&old.file) {
            return Ok(Placed::AsItIs(value));
        }
        let read = job.tables.read_blob(key.user_key, value, false, &mut NoTrace)?;
        if !self.options.separates(read.len() as u64) {
            return Ok(Placed::Inline(read));
        }
        self.write(job, key.user_key, &read, created)?;
        Ok(Placed::Reference(&self.reference))
    }

    fn write(
        &mut self,
        job: &Job<'_>,
        user_key: &[u8],
        value: &[u8],
        created: &mut Vec<PathBuf>,
    ) -> Result<(), JobError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let id = BlobFileId((job.next_id)().ok_or(JobError::Cancelled)?.0);
                let path = job.tables.dir.join(id.file_name());
                let file = job.tables.fs.create(&path).map_err(FileError::from)?;
                created.push(path);
                let (database, keyspace) = (job.tables.database, job.keyspace);
                let identity = BlobFileIdentity { database, id, keyspace };
                none.insert(BlobFileWriter::new(file, identity, self.options.compression))
            }
        };
        let reference = writer.add(user_key, value)?;
        let is_full = self.options.file_bytes_max <= writer.bytes();
        self.reference.clear();
        reference.encode(&mut self.reference);
        if is_full { self.finish_file(job) } else { Ok(()) }
    }

    /// Finishes the current blob file, before the table that refers to it is finished, and returns
    /// what is known of every file.
    pub(crate) fn finish_table(
        &mut self,
        job: &Job<'_>,
    ) -> Result<&BTreeMap<BlobFileId, BlobFileFacts>, JobError> {
        self.finish_file(job)?;
        Ok(&self.facts)
    }

    fn finish_file(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        if let Some(writer) = self.writer.take() {
            let facts = writer.finish(job.wall_millis())?;
            self.finished_bytes += facts.file_bytes;
            self.facts.insert(facts.id, facts);
        }
        Ok(())
    }
}
