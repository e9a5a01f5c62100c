//! Seeks of a cursor, whole or in parts, so that whoever seeks in several tables waits for the memory of
//! all of them together.
//!
//! Knows how a block is found and what of it is asked for; how cursors hold blocks and move on is in the
//! file above.

use esker_base::{InternalKey, SeqNo};
use esker_env::FileError;

use crate::prefetch::{prefetch_at, prefetch_bytes};

use super::{Direction, TableCursor};

/// Most bytes before the values of a block that are asked for before they are searched: all, in
/// blocks of 4 KiB with entries of some hundred bytes.
const KEYS_PREFETCHED_LEN_MAX: usize = 768;

impl TableCursor {
    /// Moves to the first entry that is not less than `target`.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if a block that is needed is damaged.
    pub fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(None)?;
        self.seek_approached(target)
    }

    /// The first part of a seek to an entry of `user_key`: finds its block. Whoever seeks in several
    /// tables does this in all of them, then [`TableCursor::prefetch_head`], then
    /// [`TableCursor::hold_approached`], then the rest of the seek, so that they wait for memory
    /// together. Nothing but that may follow; the cursor is not valid.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn approach(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        self.is_valid = false;
        self.approached = None;
        let Some(partition) = self.table.open()?.top.candidate(user_key) else {
            return Ok(());
        };
        self.enter_partition(partition)?;
        self.approached = self.current_index().candidates(user_key);
        if let (Some(candidates), Some(open)) = (self.approached, self.table.opened()) {
            // On its way while the other sources of a merge are approached.
            let slot = open.block_number(self.partition, candidates.first);
            prefetch_at(open.slot_address(slot), 1);
        }
        Ok(())
    }

    /// The second part, which may be left out: asks for what the block starts with.
    pub fn prefetch_head(&self) {
        if let (Some(candidates), Some(open)) = (self.approached, self.table.opened()) {
            open.prefetch_data_block(open.block_number(self.partition, candidates.first));
        }
    }

    /// Instead of the second part, for a seek that will wait for the device: has the system start
    /// to read the block, unless that is in the cache. Waits for nobody.
    pub fn announce(&self) {
        if let (Some(candidates), Some(open), Some(index)) =
            (self.approached, self.table.opened(), &self.index)
        {
            let slot = open.block_number(self.partition, candidates.first);
            open.announce_block(slot, index.index().handle(candidates.first));
        }
    }

    /// The third part: holds the block, and asks for its keys. `waits` is called before it is waited
    /// for the device; it must not wait for anything in the cache. Returns whether the block was read,
    /// since it was in no cache.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn hold_approached(&mut self, waits: Option<&mut dyn FnMut()>) -> Result<bool, FileError> {
        self.was_read = false;
        if let Some(candidates) = self.approached {
            self.hold_block(candidates.first, Direction::Ascending, waits)?;
            prefetch_bytes(self.current_block().data().columns_and_keys(), KEYS_PREFETCHED_LEN_MAX);
        }
        Ok(self.was_read)
    }

    /// The rest of a seek to `target`, whose user key was [approached](TableCursor::approach).
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        if self.seqno.is_some() {
            return self.seek_adopted(target);
        }
        self.seek_stored(target)
    }

    /// As [`TableCursor::seek_approached`], by the sequence numbers in the blocks.
    fn seek_stored(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.is_valid = false;
        match self.locate(target)? {
            Some(entry) if entry < self.entry_count => {
                self.settle(entry);
                self.prefetch_values(Direction::Ascending);
                Ok(())
            }
            Some(_) => self.next_block(),
            None => Ok(()),
        }
    }

    /// Moves to the last entry that is not greater than `target`.
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.approach(target.user_key)?;
        self.hold_approached(None)?;
        self.seek_for_prev_approached(target)
    }

    /// As [`TableCursor::seek_approached`], for [`TableCursor::seek_for_prev`].
    ///
    /// # Errors
    /// As [`TableCursor::seek`].
    pub fn seek_for_prev_approached(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        if self.seqno.is_some() {
            return self.seek_adopted_for_prev(target);
        }
        self.is_valid = false;
        let Some(entry) = self.locate(target)? else {
            return self.seek_to_last();
        };
        if entry < self.entry_count && self.current_block().data().trailer(entry) == target.trailer
        {
            self.settle(entry);
            if self.key() == target {
                return Ok(());
            }
        }
        match entry.checked_sub(1) {
            Some(before) => {
                self.settle(before);
                self.prefetch_values(Direction::Descending);
                Ok(())
            }
            None => self.prev_block(),
        }
    }

    /// As [`TableCursor::seek`], where one sequence number stands for all. No key has two entries.
    #[cold]
    fn seek_adopted(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_stored(InternalKey::seek(target.user_key, SeqNo::MAX))?;
        if self.is_valid && self.key() < target { self.next() } else { Ok(()) }
    }

    /// As [`TableCursor::seek_for_prev`], where one sequence number stands for all.
    #[cold]
    fn seek_adopted_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_stored(InternalKey::seek(target.user_key, SeqNo::MAX))?;
        match self.is_valid {
            true if self.key() <= target => Ok(()),
            true => self.prev(),
            false => self.seek_to_last(),
        }
    }

    /// Enters the block of the first entry that is not less than `target`, and returns the number
    /// of that entry; one past the block's last if it is the first of the block that follows.
    /// `None` if all entries are less. The key of `target` was approached.
    fn locate(&mut self, target: InternalKey<'_>) -> Result<Option<usize>, FileError> {
        let Some(candidates) = self.approached else {
            return Ok(None);
        };
        // More than one block only where versions of one key reach across blocks.
        let (mut start, mut end) = (candidates.first, candidates.last);
        while start < end {
            let middle = start.midpoint(end);
            self.enter_block(middle, Direction::Ascending)?;
            if self.current_block().data().is_at_or_after(self.entry_count - 1, target) {
                end = middle;
            } else {
                start = middle + 1;
            }
        }
        self.enter_block(start, Direction::Ascending)?;
        Ok(Some(self.current_block().data().lower_bound(target)))
    }
}
