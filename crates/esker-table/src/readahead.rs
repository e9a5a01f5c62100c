//! Reads blocks for a cursor that goes through a table in order: several at a time, in a window
//! that doubles as long as it is used up.
//!
//! A block costs one call to the system otherwise, 1.3 us for 4 KiB from the page cache and a
//! round trip to the device when it is not there.

use std::ops::Range;

use esker_cache::{Budget, Charge, Owner};
use esker_env::FileError;

use crate::BlockHandle;
use crate::table_file::TableFile;
use std::sync::Arc;

/// The first window: a few blocks, since a short scan may end any moment.
const WINDOW_FIRST: u64 = 32 << 10;

/// The largest window of a scan that fills the cache.
const WINDOW_MAX_CACHED: u64 = 256 << 10;

/// The largest window of a scan that passes by, such as a compaction.
const WINDOW_MAX_PASSING: u64 = 1 << 20;

/// Bytes read ahead of a cursor.
#[derive(Debug)]
pub(crate) struct Readahead {
    buffer: Vec<u8>,
    /// Offset in the file of the first byte of `buffer`.
    start: u64,
    window: u64,
    window_max: u64,
    /// The block that the cursor was on last, by its number in the table.
    last: Option<u32>,
    /// How many blocks were asked for in a row, each beside the one before.
    in_a_row: u32,
    charge: Charge,
}

impl Readahead {
    /// Without `fill_cache` the cursor passes by, and reads larger pieces, sooner.
    pub(crate) fn new(budget: &Arc<Budget>, fill_cache: bool) -> Self {
        let owner = if fill_cache { Owner::Iterators } else { Owner::Compaction };
        Self {
            buffer: Vec::new(),
            start: 0,
            window: 0,
            window_max: if fill_cache { WINDOW_MAX_CACHED } else { WINDOW_MAX_PASSING },
            last: None,
            in_a_row: 0,
            charge: budget.charge(owner, 0),
        }
    }

    /// Takes note that the cursor is on data block `number` of the table, wherever it came from.
    #[inline]
    pub(crate) fn visit(&mut self, number: u32) {
        let is_beside = self.last.is_some_and(|last| last.abs_diff(number) == 1);
        self.in_a_row = if is_beside { self.in_a_row.saturating_add(1) } else { 0 };
        if !is_beside {
            self.window = 0;
        }
        self.last = Some(number);
    }

    /// The stored bytes of the block at `handle`, which was visited, and perhaps those of its
    /// neighbours inside of `within`.
    pub(crate) fn read(
        &mut self,
        file: &TableFile,
        handle: BlockHandle,
        within: BlockHandle,
        is_descending: bool,
    ) -> Result<Vec<u8>, FileError> {
        if let Some(bytes) = self.buffer.get(self.place(handle)) {
            return Ok(bytes.to_vec());
        }
        // The second block in a row may be chance; the third is a scan.
        let in_a_row_min = if self.window_max == WINDOW_MAX_PASSING { 1 } else { 2 };
        if self.in_a_row < in_a_row_min {
            return file.read_bytes(handle.offset, handle.len as usize);
        }
        self.window = (self.window * 2).clamp(WINDOW_FIRST, self.window_max);
        let range = if is_descending {
            handle.end().saturating_sub(self.window).max(within.offset).min(handle.offset)
                ..handle.end()
        } else {
            handle.offset
                ..handle.offset.saturating_add(self.window).min(within.end()).max(handle.end())
        };
        // The buffer is dropped before the next is read, so that only one is held.
        self.buffer = Vec::new();
        self.buffer = file.read_bytes(range.start, (range.end - range.start) as usize)?;
        self.start = range.start;
        self.charge.set(self.buffer.capacity() as u64);
        let place = self.place(handle);
        Ok(self.buffer[place].to_vec())
    }

    /// Where a block lies in the buffer, or a range outside of it.
    fn place(&self, handle: BlockHandle) -> Range<usize> {
        match handle.offset.checked_sub(self.start) {
            Some(at) => at as usize..at.saturating_add(handle.len) as usize,
            None => usize::MAX..usize::MAX,
        }
    }
}
