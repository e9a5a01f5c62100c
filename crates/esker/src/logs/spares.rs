//! Obsolete log segments that are kept for reuse: how many, and for how long.
//!
//! A reused segment needs no allocation, and its syncs change no metadata. Until it is reused, its
//! space is idle, so only few are kept, and none once nobody writes.

use crate::logs::Logs;
use crate::sync::PoisonError;
use crate::sync::atomic::Ordering;

/// How many are kept at most.
const SPARE_COUNT_MAX: usize = 1;

impl Logs {
    /// Sets whether obsolete segments may be reused. If not any more, removes the spare ones, and
    /// the old bytes of segments that were made of spare ones and hold no frames yet.
    pub(crate) fn set_reuses(&self, reuses: bool) {
        let had_reused = self.reuses.swap(reuses, Ordering::Relaxed);
        if reuses || !had_reused {
            return;
        }
        // Whoever makes or releases a segment meanwhile may have seen the other value.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_spares();
        let mut made = {
            let mut segments = self.segments();
            [segments.prepared.take(), segments.unnamed.take()]
        };
        for (_, writer) in made.iter_mut().flatten() {
            // If that fails, the segment takes no frames, and the first write to it says why.
            drop(writer.give_back_room());
        }
        let mut segments = self.segments();
        [segments.prepared, segments.unnamed] = made;
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
