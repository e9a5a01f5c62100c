//! Readahead for a cursor that goes through a table in order: reads several blocks at a time, in a
//! window that doubles as long as it is used up.
//!
//! Otherwise each block costs a system call, which takes 1.3 us for 4 KiB from the page cache, or a
//! round trip to the device.

use esker_cache::{Budget, Charge, Owner};
use esker_env::FileError;

use crate::BlockHandle;
use crate::table_file::TableFile;
use std::sync::Arc;

/// The first window: a few blocks, since a short scan may end any moment.
const WINDOW_FIRST: u64 = 32 << 10;

/// The largest window of a scan that fills the cache.
const WINDOW_MAX_CACHED: u64 = 256 << 10;

/// The largest window of a scan that bypasses the cache, such as a compaction.
const WINDOW_MAX_PASSING: u64 = 1 << 20;

/// What a cursor has read is dropped from the page cache in pieces of this many bytes: a system
/// with large pages in its page cache drops those that are entirely inside a piece.
const FORGET_BYTES: u64 = 2 << 20;

/// What happens to the blocks that a cursor reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// They are put into the cache.
    Kept,
    /// They bypass the cache.
    Passing,
    /// They bypass the cache, and the system may drop them from the page cache too, since the
    /// reader is about to replace the table. So the output of a compaction reuses the memory of its
    /// input, rather than memory that nobody has touched for long.
    ReadLast,
}

/// How a cursor moves through its table, and what was read ahead of it.
///
/// Small as long as nothing was: most cursors seek once, find their blocks in the cache, and end.
#[derive(Debug)]
pub(crate) struct Readahead {
    ahead: Option<Box<Ahead>>,
    window: u64,
    /// The block that the cursor was on last, by its number in the table.
    last: Option<u32>,
    /// How many blocks were visited in a row, each next to the one before.
    in_a_row: u32,
    blocks: Blocks,
}

/// Bytes read ahead.
#[derive(Debug)]
struct Ahead {
    buffer: Vec<u8>,
    /// Offset in the file of the first byte of `buffer`.
    start: u64,
    charge: Charge,
    /// Offset up to which the system was told to drop what was read.
    forgotten: u64,
}

impl Readahead {
    pub(crate) const fn new(blocks: Blocks) -> Self {
        Self { ahead: None, window: 0, last: None, in_a_row: 0, blocks }
    }

    /// Notes that the cursor is on data block `number` of the table, wherever the block came from.
    #[inline]
    pub(crate) fn visit(&mut self, number: u32) {
        let is_beside = self.last.is_some_and(|last| last.abs_diff(number) == 1);
        self.in_a_row = if is_beside { self.in_a_row.saturating_add(1) } else { 0 };
        if !is_beside {
            self.window = 0;
        }
        self.last = Some(number);
    }

    /// How many blocks were visited in a row, each next to the previous one.
    pub(crate) const fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// The stored bytes of the block at `handle`, which was visited; may read its neighbours within
    /// `within` too. Memory is charged to `budget`. `waits` is called before a wait for a block
    /// that is read alone.
    pub(crate) fn read(
        &mut self,
        file: &TableFile,
        budget: &Arc<Budget>,
        handle: BlockHandle,
        within: BlockHandle,
        is_descending: bool,
        waits: Option<&mut dyn FnMut()>,
    ) -> Result<Vec<u8>, FileError> {
        if let Some(bytes) = self.ahead.as_ref().and_then(|ahead| ahead.bytes(handle)) {
            return Ok(bytes.to_vec());
        }
        // The second block in a row may be chance; the third is a scan.
        let passes = self.blocks != Blocks::Kept;
        let (in_a_row_min, window_max) =
            if passes { (1, WINDOW_MAX_PASSING) } else { (2, WINDOW_MAX_CACHED) };
        if self.in_a_row < in_a_row_min {
            return match waits {
                Some(waits) => file.read_bytes_telling(handle.offset, handle.len as usize, waits),
                None => file.read_bytes(handle.offset, handle.len as usize),
            };
        }
        self.window = (self.window * 2).clamp(WINDOW_FIRST, window_max);
        let range = if is_descending {
            handle.end().saturating_sub(self.window).max(within.offset).min(handle.offset)
                ..handle.end()
        } else {
            handle.offset
                ..handle.offset.saturating_add(self.window).min(within.end()).max(handle.end())
        };
        let owner = if passes { Owner::Compaction } else { Owner::Iterators };
        let ahead = self.ahead.get_or_insert_with(|| {
            let (buffer, charge) = (Vec::new(), budget.charge(owner, 0));
            Box::new(Ahead { buffer, start: 0, charge, forgotten: range.start })
        });
        if self.blocks == Blocks::ReadLast {
            ahead.forget_before(range.start, file);
        }
        file.read_into(range.start, (range.end - range.start) as usize, &mut ahead.buffer)?;
        if window_max <= handle.len {
            // The block alone: the cursor need not hold as much memory from here on.
            ahead.charge.set(0);
            return Ok(std::mem::take(&mut ahead.buffer));
        }
        ahead.start = range.start;
        ahead.charge.set(ahead.buffer.capacity() as u64);
        Ok(ahead.bytes(handle).expect("the block is part of what was read").to_vec())
    }
}

impl Ahead {
    /// The bytes of a block, if all of it was read.
    fn bytes(&self, handle: BlockHandle) -> Option<&[u8]> {
        let at = handle.offset.checked_sub(self.start)? as usize;
        self.buffer.get(at..at.saturating_add(handle.len as usize))
    }

    /// Lets the system drop what is before `offset`, once that is a whole piece.
    fn forget_before(&mut self, offset: u64, file: &TableFile) {
        if offset >= self.forgotten.saturating_add(FORGET_BYTES) {
            // Includes the piece before: a large page may extend over both.
            file.forget(self.forgotten.saturating_sub(FORGET_BYTES)..offset);
            self.forgotten = offset;
        }
    }
}
