//! A search for valid frames behind a place where none stands.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use esker_env::FileError;

use super::read_frame;
use super::window::{Window, is_zeros};
use crate::frame::{HEAD_LEN_MAX, Head, SegmentIdentity, TAG_LEN};

/// How often the bytes searched may be read over for places that turn out not to be frames.
/// Chance gives next to none; this bounds what crafted bytes can cost.
const REREADS_MAX: u64 = 16;

/// What the search has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    OnlyZeros,
    Other,
    /// Given up, because too much of it looks like frames.
    Unsearched,
}

/// Goes through a segment by its tag.
pub(super) struct LookAhead {
    identity: SegmentIdentity,
    /// Where to search on.
    position: u64,
    /// Bytes of false frames that may still be read.
    budget: u64,
    rest: Rest,
}

impl LookAhead {
    /// A search from `start`, where no frame is, to the end of the file.
    pub(super) fn new(identity: SegmentIdentity, start: u64, file_len: u64) -> Self {
        let budget = file_len.saturating_sub(start).saturating_mul(REREADS_MAX);
        Self { identity, position: start, budget, rest: Rest::OnlyZeros }
    }

    /// What all calls of [`LookAhead::next`] have seen; final once it has returned `None`.
    pub(super) const fn rest(&self) -> Rest {
        self.rest
    }

    /// The next valid frame and its offset.
    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<(u64, Head)>, FileError> {
        while let Some(offset) = self.next_tag(window)? {
            if let Some(head) = read_frame(window, &self.identity, offset)? {
                self.position = offset.saturating_add(head.frame_len as u64);
                return Ok(Some((offset, head)));
            }
            self.position = offset.saturating_add(1);
            let false_frame = self.claimed_len(window, offset)?;
            match self.budget.checked_sub(false_frame) {
                Some(budget) => self.budget = budget,
                None => {
                    self.rest = Rest::Unsearched;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// How much was read to find that no frame stands at `offset`.
    fn claimed_len(&self, window: &mut Window, offset: u64) -> Result<u64, FileError> {
        let room = window.room(offset);
        let head = self.identity.head(window.at_least(offset, HEAD_LEN_MAX)?, offset, room);
        Ok(head.map_or(HEAD_LEN_MAX as u64, |head| head.frame_len as u64))
    }

    /// The next place where the tag stands.
    fn next_tag(&mut self, window: &mut Window) -> Result<Option<u64>, FileError> {
        let tag = self.identity.tag_bytes();
        loop {
            // No tag starts with a zero.
            self.position = window.data_from(self.position);
            let room = window.room(self.position);
            let bytes = window.written(self.position, TAG_LEN)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if !is_zeros(bytes) {
                self.rest = Rest::Other;
                if let Some(at) = bytes.windows(TAG_LEN).position(|four| four == tag) {
                    return Ok(Some(self.position.saturating_add(at as u64)));
                }
            }
            // The last bytes may be the start of a tag, unless the file ends with them.
            let short = TAG_LEN.saturating_sub(1);
            let last = bytes.get(bytes.len().saturating_sub(short)..).unwrap_or_default();
            let is_end = room <= bytes.len() as u64;
            let may_start =
                |from: &usize| last.get(*from..).is_some_and(|end| tag.starts_with(end));
            let started = (0..last.len()).find(may_start).filter(|_| !is_end);
            let unsearched = last.len().saturating_sub(started.unwrap_or(last.len()));
            self.position = self.position.saturating_add(bytes.len() as u64);
            if unsearched != 0 {
                self.position = self.position.saturating_sub(unsearched as u64);
                let bytes = window.at_least(self.position, TAG_LEN)?;
                if bytes.starts_with(&tag) {
                    return Ok(Some(self.position));
                }
                self.position = self.position.saturating_add(1);
            }
        }
    }
}
