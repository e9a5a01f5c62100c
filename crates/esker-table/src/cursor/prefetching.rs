//! What a cursor asks memory for ahead of itself: the values where a seek has led, the next block of a
//! short walk, the next two of a long one.
//!
//! Changes nothing that a cursor shows; without it all would be as right, and slower.

use esker_env::FileError;

use crate::data_block::DataBlock;
use crate::prefetch::{prefetch_bytes, prefetch_bytes_back};

use super::{Direction, IN_A_ROW_MIN, LEFT_PREFETCHED, TableCursor};

/// Most bytes of values that are asked for when a seek has found the first of them: what some steps
/// of a merge read in one of its sources, or ten steps over one source, with values of a hundred bytes.
const VALUES_PREFETCHED_LEN_MAX: usize = 1024;

/// Most bytes of the next block that are asked for while one is walked through.
const BLOCK_PREFETCHED_LEN_MAX: usize = 4096;

impl TableCursor {
    /// Asks for the values that a short scan reads from where a seek has led, and for the next block where
    /// that is near. On its way while the other sources of a merge are searched.
    pub(super) fn prefetch_values(&self, direction: Direction) {
        let data = self.current_block().data();
        prefetch_values(data, self.entry, direction);
        let left = match direction {
            Direction::Ascending => self.entry_count - 1 - self.entry,
            Direction::Descending => self.entry,
        };
        if left < self.prefetches_below {
            self.prefetch_beside(LEFT_PREFETCHED, direction);
        }
    }

    /// Asks for what the next block starts with when [`LEFT_PREFETCHED`] entries are `left` in this one, and
    /// for its first values when none is. A scan that goes on has [`TableCursor::look_ahead`] for that.
    #[cold]
    #[inline(never)]
    pub(super) fn prefetch_beside(&self, left: usize, direction: Direction) {
        let Some(open) = self.table.opened() else { return };
        let number = open.block_number(self.partition, self.block_number);
        let beside = match direction {
            Direction::Ascending => number.checked_add(1),
            Direction::Descending => number.checked_sub(1),
        };
        let Some(beside) = beside else { return };
        if left == LEFT_PREFETCHED {
            open.prefetch_data_block(beside);
        } else if left == 0 {
            let first = |data: &DataBlock| match direction {
                Direction::Ascending => 0,
                Direction::Descending => data.count() - 1,
            };
            open.peek_data_block(beside, |data| prefetch_values(data, first(data), direction));
        }
    }

    /// Before the block that was entered is walked through: has the one behind it on its way, and
    /// what the one behind that starts with.
    pub(super) fn look_ahead(&self, direction: Direction) -> Result<(), FileError> {
        if self.readahead.in_a_row() < IN_A_ROW_MIN {
            return Ok(());
        }
        let open = self.table.open()?;
        let number = open.block_number(self.partition, self.block_number);
        let ahead = |count: u32| match direction {
            Direction::Ascending => number.checked_add(count),
            Direction::Descending => number.checked_sub(count),
        };
        if let Some(next) = ahead(1) {
            open.peek_data_block(next, |data| {
                prefetch_bytes(data.payload(), BLOCK_PREFETCHED_LEN_MAX)
            });
        }
        if let Some(after) = ahead(2) {
            open.prefetch_data_block(after);
        }
        Ok(())
    }
}

/// Asks for the values of `data` from that of `entry` on.
#[inline]
fn prefetch_values(data: &DataBlock, entry: usize, direction: Direction) {
    match direction {
        Direction::Ascending => prefetch_bytes(data.values_from(entry), VALUES_PREFETCHED_LEN_MAX),
        Direction::Descending => {
            prefetch_bytes_back(data.values_up_to(entry), VALUES_PREFETCHED_LEN_MAX);
        }
    }
}
