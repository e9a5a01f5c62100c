//! Whether a database still owns its directory.
//!
//! Files are removed by name. Once a database is closed its directory may hold another one, or this one
//! as a backup had it, with other files of the same names; and cursors and jobs may outlive the close.

use std::sync::Arc;

use esker_base::sync::{Mutex, PoisonError};

/// The right to remove files from a directory. Clones share it, until one of them gives it up.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// Lock order: last. Held while files are removed.
    is_owned: Arc<Mutex<bool>>,
}

impl Default for Ownership {
    fn default() -> Self {
        Self { is_owned: Arc::new(Mutex::new(true)) }
    }
}

impl Ownership {
    /// Runs `remove`, which removes files, unless the right was given up.
    pub fn while_owned(&self, remove: impl FnOnce()) {
        let is_owned = self.is_owned.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_owned || esker_base::planted::is("files-removed-after-the-close") {
            remove();
        }
    }

    /// Gives up the right: once this returns, nothing more is removed.
    pub fn give_up(&self) {
        *self.is_owned.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
