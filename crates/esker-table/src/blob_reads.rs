//! Reads of values in blob files, by their references in tables.

use esker_base::{BlobFileId, Corruption, KeyspaceId};
use esker_env::FileError;

use crate::blob_file::{BlobPlace, RawBlobFile};
use crate::blob_reference::BlobReference;
use crate::cached_block::BlockSlice;
use crate::context::TableContext;
use crate::trace::ReadTrace;

impl TableContext {
    /// The value that `reference`, stored in a table for a version of `user_key`, refers to. With
    /// `fill_cache`, goes through the cache, unless the value is too large.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the reference or what it leads to is damaged;
    /// `UnsupportedFormat`.
    ///
    /// # Cost
    /// From the cache: one lock of the list of blob files and one of the value. Otherwise one read
    /// of exactly the record.
    pub fn read_blob<T: ReadTrace>(
        &self,
        user_key: &[u8],
        reference: &[u8],
        fill_cache: bool,
        trace: &mut T,
    ) -> Result<BlockSlice, FileError> {
        let reference = decode(reference)?;
        let Some(file) = self.blobs.find(reference.file) else {
            let what = "an entry refers to this file, and its table does not say so";
            return Err(Corruption::new(reference.file.file_name(), 0, what).into());
        };
        let place = BlobPlace {
            fs: &*self.fs,
            dir: &self.dir,
            database: self.database,
            cache: &self.cache,
            budget: &self.budget,
            clock: &*self.clock,
        };
        file.read(&place, user_key, &reference, fill_cache, trace)
    }

    /// As [`TableContext::read_blob`], from a blob file in which only the value needs to be intact.
    /// For repair.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the reference or the value is damaged.
    ///
    /// # Cost
    /// Opens the file each time.
    pub fn rescue_blob(
        &self,
        user_key: &[u8],
        reference: &[u8],
    ) -> Result<(BlobFileId, Vec<u8>), FileError> {
        let reference = decode(reference)?;
        let (fs, id) = (&*self.fs, reference.file);
        let keyspace = KeyspaceId::DEFAULT;
        let file = RawBlobFile::open_unchecked(fs, &self.dir, self.database, id, keyspace)?;
        let record = file.read_record(reference.block)?;
        file.check_record(&record, user_key, &reference)?;
        Ok((id, record.payload()[record.value()].to_vec()))
    }
}

fn decode(reference: &[u8]) -> Result<BlobReference, FileError> {
    BlobReference::decode(reference).map_err(|error| {
        let what = format!("blob reference does not decode: {error}");
        FileError::from(Corruption::new("a table", 0, what))
    })
}
