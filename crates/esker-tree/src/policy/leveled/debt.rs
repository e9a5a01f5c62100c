//! How far the tree is behind: the bytes that must be rewritten until nothing calls for it.

use crate::policy::leveled::view::{LAST, View};
use crate::shape::LEVEL_COUNT_MAX;

impl View<'_> {
    /// Lets what is too much flow down, level by level, counting what it and what it meets weigh.
    pub(super) fn debt_bytes(&self) -> u64 {
        let sizes: Vec<u64> =
            (0..LEVEL_COUNT_MAX).map(|level| self.shape.levels[level].bytes()).collect();
        let is_due = self.scores()[0] >= 1.0;
        let mut coming = if is_due { sizes[0] } else { 0 };
        let mut debt = if is_due { coming.saturating_add(sizes[self.base]) } else { 0 };
        for level in self.base..LAST {
            let excess = (sizes[level] + coming).saturating_sub(self.targets[level]);
            if self.shape.levels[level].runs.len() > 1 {
                debt = debt.saturating_add(sizes[level]);
            }
            // Each byte that goes down meets the next level's share of its key range.
            let held = (sizes[level] + coming).max(1);
            let met = u128::from(excess) * u128::from(sizes[level + 1]) / u128::from(held);
            debt = debt.saturating_add(excess).saturating_add(met.min(u64::MAX.into()) as u64);
            coming = excess;
        }
        if self.shape.levels[LAST].runs.len() > 1 {
            debt = debt.saturating_add(sizes[LAST]);
        }
        debt
    }
}
