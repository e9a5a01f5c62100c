//! What an entry means to a reader that sees it: the one place that gives kinds their meaning.
//!
//! Puts and tombstones are so frequent that readers handle them directly; they ask here about every
//! other kind, and what they need for that is in the [`ReadContext`].
//!
//! Does not know which entries a reader sees.

use std::sync::Arc;

use esker_base::{EXPIRY_LEN, EntryKind, expiry_of};
use esker_env::FileError;
use esker_table::{BlockSlice, NoTrace, ReadTrace, TableContext};

use crate::operator::{Merge, MergeError, Merger};
use crate::read_error::UnsupportedKind;

/// What a reader needs to give entries their meaning.
#[derive(Clone, Default, Debug)]
pub struct ReadContext {
    /// The keyspace's merge operator, if it has one.
    pub merge: Option<Merge>,
    /// The time that expiries are compared with, in milliseconds since 1970-01-01 UTC. A value that
    /// expires exactly then has expired.
    pub now_millis: u64,
    /// How to read values in blob files; without it, an entry that refers to one has no meaning.
    pub blobs: Option<BlobReads>,
    /// Whether only keys are wanted: values in blob files are not read, and shown as empty.
    /// Operands are merged all the same.
    pub keys_only: bool,
}

/// How to read values in blob files.
#[derive(Clone, Debug)]
pub struct BlobReads {
    /// Where the files are.
    pub tables: Arc<TableContext>,
    /// Whether values are put into the cache.
    pub fill_cache: bool,
}

/// What one entry says about its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The key has a value: the stored bytes from this one on.
    Value {
        /// How many bytes are stored before the value.
        from: usize,
    },
    /// The key has a value in a blob file: the stored bytes are a reference to it.
    Blob,
    /// The key has no value.
    Nothing,
    /// The value is what the merge operator makes of this operand and older entries.
    Operand,
}

impl ReadContext {
    /// The meaning of an entry of `kind` with the stored bytes `stored`.
    ///
    /// # Errors
    /// For a kind that has no meaning in this release.
    pub fn meaning(&self, kind: EntryKind, stored: &[u8]) -> Result<Meaning, UnsupportedKind> {
        match kind {
            EntryKind::Put => Ok(Meaning::Value { from: 0 }),
            EntryKind::Tombstone | EntryKind::SingleDelete => Ok(Meaning::Nothing),
            EntryKind::Merge => Ok(Meaning::Operand),
            EntryKind::ExpiringPut => match expiry_of(stored) {
                Some(expiry)
                    if expiry <= self.now_millis
                        && !esker_base::planted::is("expired-put-visible") =>
                {
                    Ok(Meaning::Nothing)
                }
                Some(_) => Ok(Meaning::Value { from: EXPIRY_LEN }),
                // No release writes one too short to hold its expiry.
                None => Err(UnsupportedKind { kind }),
            },
            EntryKind::BlobReference if self.blobs.is_some() => Ok(Meaning::Blob),
            _ => Err(UnsupportedKind { kind }),
        }
    }

    /// The value in a blob file that `reference`, stored for `key`, refers to.
    ///
    /// # Errors
    /// Of reading the file, including damage.
    ///
    /// # Panics
    /// Without [`ReadContext::blobs`].
    pub fn read_blob<T: ReadTrace>(
        &self,
        key: &[u8],
        reference: &[u8],
        trace: &mut T,
    ) -> Result<BlockSlice, FileError> {
        let blobs = self.blobs.as_ref().expect("a reference has a meaning where it can be read");
        blobs.tables.read_blob(key, reference, blobs.fill_cache, trace)
    }

    /// As [`ReadContext::read_blob`], without a trace.
    pub(crate) fn blob(&self, key: &[u8], reference: &[u8]) -> Result<BlockSlice, FileError> {
        self.read_blob(key, reference, &mut NoTrace)
    }

    /// The operator, to merge the operands of `key`.
    pub(crate) fn merger<'a>(&'a self, key: &'a [u8]) -> Result<Merger<'a>, MergeError> {
        Merger::new(self.merge.as_ref(), key)
    }
}
