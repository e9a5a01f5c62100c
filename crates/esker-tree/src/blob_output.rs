//! Values on their way out of a flush or a compaction: which go to a blob file, which come back
//! from one, and which stay where they are.
//!
//! A put whose value reaches the threshold becomes a reference to a new blob file. A reference is
//! kept as it is, unless its file is one that the job clears: then the value is written anew, to a
//! new blob file or, if it is below the threshold by now, into the table. Expiring puts and
//! merge operands stay in the table whatever their size: the one is gone soon, and the other is
//! folded.
//!
//! A blob file belongs to the table that is being written: it ends with it at the latest, so that
//! the properties of the table can say all about it.

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

/// What becomes of the value of one entry.
pub(crate) enum Placed<'a> {
    /// It stays as it is.
    AsItIs(&'a [u8]),
    /// It came back: the entry is a put of this value.
    Inline(BlockSlice),
    /// It lies in a blob file: the entry is this reference.
    Reference(&'a [u8]),
}

/// The blob files that a job reads and writes.
pub(crate) struct BlobOutput {
    options: BlobOptions,
    writer: Option<BlobFileWriter>,
    /// Files that entries of the inputs refer to, and those that were written.
    facts: BTreeMap<BlobFileId, BlobFileFacts>,
    /// Of them, those whose values are written anew.
    cleared: BTreeSet<BlobFileId>,
    /// Bytes of the files that are finished.
    finished_bytes: u64,
    /// The reference that was made last, encoded.
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

    /// Bytes of blob files written, or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        self.finished_bytes + self.writer.as_ref().map_or(0, BlobFileWriter::bytes)
    }

    /// What is held in memory until it is written, in bytes.
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

    /// Ends the blob file that is being written, before the table that refers to it ends, and
    /// tells what is known of every file.
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
