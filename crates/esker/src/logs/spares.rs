//! Obsolete log segments that are kept for reuse: how many, and for how long.
//!
//! A reused segment needs no allocation, and its syncs no change of metadata. Its room lies idle
//! until then, so only few are kept, and none once nobody writes.

use crate::logs::Logs;
use crate::sync::atomic::Ordering;

/// How many are kept at most.
const SPARE_COUNT_MAX: usize = 1;

impl Logs {
    /// Whether obsolete segments may be used again; if not, the spare ones go now.
    pub(crate) fn set_reuses(&self, reuses: bool) {
        self.reuses.store(reuses, Ordering::Relaxed);
        if !reuses {
            self.remove_spares();
        }
    }

    /// Whether one more is to be kept beside `count`.
    pub(super) fn wants_spare(&self, count: usize) -> bool {
        self.reuses.load(Ordering::Relaxed) && count < SPARE_COUNT_MAX
    }

    /// Gives back what the spare segments take on the disk.
    pub(crate) fn remove_spares(&self) {
        let spare = std::mem::take(&mut self.segments().spare);
        spare.iter().for_each(|path| self.remove_file(path));
    }
}
