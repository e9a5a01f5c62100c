//! The registry of blob files that the tables of a database refer to.
//!
//! A blob file is known as long as a table that refers to it is in memory, since each such table
//! holds it. So no version and no reader can need a file that no table holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use esker_base::BlobFileId;
use esker_base::sync::{Mutex, PoisonError};

use crate::blob_file::BlobFile;
use crate::blob_uses::BlobFileFacts;

/// Finds the blob files that are held. Cheap to clone; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct BlobFiles {
    /// Not held across I/O.
    known: Arc<Mutex<BTreeMap<BlobFileId, Weak<BlobFile>>>>,
}

impl BlobFiles {
    /// The blob file with these facts. No I/O.
    #[must_use]
    pub fn get(&self, facts: BlobFileFacts) -> Arc<BlobFile> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = known.get(&facts.id).and_then(Weak::upgrade) {
            return file;
        }
        // Unheld files are forgotten when a new one is added, so this costs at most as much as
        // adding did.
        known.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(BlobFile::new(facts));
        known.insert(facts.id, Arc::downgrade(&file));
        file
    }

    /// The blob file `id`, if somebody holds it.
    #[must_use]
    pub fn find(&self, id: BlobFileId) -> Option<Arc<BlobFile>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).and_then(Weak::upgrade)
    }
}
