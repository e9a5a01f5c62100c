//! Obsolete log segments that are kept for reuse: how many, and for how long.
//!
//! A reused segment needs no allocation, and its syncs change no metadata. Until it is reused, its
//! space is idle, so only few are kept, and none once nobody writes.

use crate::logs::Logs;
use crate::sync::atomic::Ordering;

/// How many are kept at most.
const SPARE_COUNT_MAX: usize = 1;

impl Logs {
    /// Sets whether obsolete segments may be reused; if not, removes the spare ones now.
    pub(crate) fn set_reuses(&self, reuses: bool) {
        self.reuses.store(reuses, Ordering::Relaxed);
        if !reuses {
            self.remove_spares();
        }
    }

    /// Whether to keep one more than the `count` that there are.
    pub(super) fn wants_spare(&self, count: usize) -> bool {
        self.reuses.load(Ordering::Relaxed) && count < SPARE_COUNT_MAX
    }

    /// Removes the spare segments, to free their disk space.
    pub(crate) fn remove_spares(&self) {
        let spare = std::mem::take(&mut self.segments().spare);
        spare.iter().for_each(|path| self.remove_file(path));
    }
}
