//! A cursor over a sorted vector: the simplest source there is, for tests of what stands above.
//!
//! Counts its seeks, and can be told to fail.

use std::sync::Arc;

use esker_base::{EntryKind, InternalKey, SeqNo, Trailer, key_head};
use esker_env::{FileError, IoError};

use super::{Cursor, PinnedValue, Step};

/// One entry, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) user_key: Vec<u8>,
    pub(crate) trailer: Trailer,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    pub(crate) fn new(user_key: &[u8], seqno: u64, kind: EntryKind, value: &[u8]) -> Self {
        let trailer = Trailer::new(SeqNo::new(seqno).unwrap(), kind);
        Self { user_key: user_key.to_vec(), trailer, value: value.to_vec() }
    }

    pub(crate) fn key(&self) -> InternalKey<'_> {
        InternalKey { user_key: &self.user_key, trailer: self.trailer }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct VecCursor {
    entries: Arc<[Entry]>,
    place: Option<usize>,
    /// Seeks of every sort so far.
    pub(crate) seek_count: u64,
    /// Fails the move that would reach this place.
    pub(crate) fails_at: Option<usize>,
    /// Jumps where it is told to skip.
    pub(crate) skips: bool,
}

impl VecCursor {
    /// Sorts `entries`.
    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        Self::as_given(entries)
    }

    /// Shows `entries` in whatever order they are: what no undamaged source does.
    pub(crate) fn as_given(entries: Vec<Entry>) -> Self {
        let entries = entries.into();
        Self { entries, place: None, seek_count: 0, fails_at: None, skips: false }
    }

    fn go(&mut self, place: Option<usize>) -> Result<(), FileError> {
        self.place = place.filter(|&place| place < self.entries.len());
        if self.place.is_some() && self.place == self.fails_at {
            self.place = None;
            let error = std::io::Error::other("told to fail");
            return Err(IoError::new("read", "vec", error).into());
        }
        Ok(())
    }

    fn step_to(&mut self, place: usize, is_far: bool) -> Option<Step> {
        let entry = self.entries.get(place)?;
        if is_far || self.fails_at == Some(place) || entry.user_key == self.entry().user_key {
            return None;
        }
        self.place = Some(place);
        Some(Step { head: self.head(), trailer: self.key().trailer })
    }

    fn entry(&self) -> &Entry {
        &self.entries[self.place.expect("the cursor is valid")]
    }
}

impl Cursor for VecCursor {
    fn is_valid(&self) -> bool {
        self.place.is_some()
    }

    fn key(&self) -> InternalKey<'_> {
        self.entry().key()
    }

    fn head(&self) -> u64 {
        key_head(&self.entry().user_key)
    }

    fn value(&self) -> &[u8] {
        &self.entry().value
    }

    fn pinned_value(&self) -> PinnedValue {
        PinnedValue::Owned(self.value().into())
    }

    fn skip_to(&mut self, end: &[u8], _below: SeqNo) -> Result<bool, FileError> {
        if self.skips {
            self.seek(InternalKey::seek(end, SeqNo::MAX))?;
        }
        Ok(self.skips)
    }

    fn skip_back_to(&mut self, start: &[u8], _below: SeqNo) -> Result<bool, FileError> {
        if self.skips {
            self.seek_for_prev(InternalKey::seek(start, SeqNo::MAX))?;
        }
        Ok(self.skips)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_count += 1;
        self.go(Some(self.entries.partition_point(|entry| entry.key() < target)))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        self.seek_count += 1;
        self.go(self.entries.partition_point(|entry| entry.key() <= target).checked_sub(1))
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        self.seek_count += 1;
        self.go(Some(0))
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        self.seek_count += 1;
        self.go(self.entries.len().checked_sub(1))
    }

    fn next(&mut self) -> Result<(), FileError> {
        self.go(Some(self.place.expect("the cursor is valid") + 1))
    }

    fn prev(&mut self) -> Result<(), FileError> {
        self.go(self.place.expect("the cursor is valid").checked_sub(1))
    }

    /// Not past every third entry, as a table ends at a block.
    fn step(&mut self) -> Option<Step> {
        let next = self.place? + 1;
        self.step_to(next, next.is_multiple_of(3))
    }

    fn step_back(&mut self) -> Option<Step> {
        let place = self.place?;
        self.step_to(place.checked_sub(1)?, place.is_multiple_of(3))
    }

    fn is_first_of_key(&self) -> bool {
        let place = self.place.expect("the cursor is valid");
        !place.is_multiple_of(3) && self.entries[place - 1].user_key != self.entry().user_key
    }
}
