//! The compaction debt: the bytes that must be rewritten before every level is within its target.

use crate::policy::leveled::view::{Hull, LAST, View};
use crate::shape::table_bytes;

impl View<'_> {
    /// Lets the excess flow down, level by level, counting its bytes and those that it is merged
    /// with.
    pub(super) fn debt_bytes(&self) -> u64 {
        let is_due = self.scores()[0] >= 1.0;
        let mut coming = if is_due { self.shape.levels[0].bytes() } else { 0 };
        let mut debt = if is_due { self.level_zero_debt() } else { 0 };
        for (level, shape) in self.shape.levels.iter().enumerate().skip(self.base) {
            let bytes = shape.bytes();
            if shape.runs.len() > 1 {
                debt += bytes;
            }
            let excess = (bytes + coming).saturating_sub(self.targets[level]);
            if level < LAST && excess > 0 {
                debt += (excess as f64 * self.cost_of_a_byte(level)) as u64;
            }
            coming = excess;
        }
        debt
    }

    /// Bytes of the groups of level 0 and of what they overlap; nothing for those that can be
    /// moved.
    fn level_zero_debt(&self) -> u64 {
        let weights = self.groups(0).into_iter().map(|group| {
            let met = table_bytes(self.overlapping(self.base, group.hull));
            if met == 0 && group.choices.len() == 1 { 0 } else { group.bytes() + met }
        });
        weights.sum()
    }

    /// Bytes that are rewritten when one byte of `level` moves down: itself and what it is merged
    /// with, or none if it is moved. The mean over the present tables.
    fn cost_of_a_byte(&self, level: usize) -> f64 {
        let (mut own_bytes, mut rewritten) = (0, 0);
        for table in self.shape.levels[level].tables() {
            let met = table_bytes(self.overlapping(level + 1, Hull::of(table)));
            own_bytes += table.file_bytes;
            rewritten += if met == 0 { 0 } else { table.file_bytes + met };
        }
        if own_bytes == 0 { 1.0 } else { rewritten as f64 / own_bytes as f64 }
    }
}
