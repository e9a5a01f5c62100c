//! Passing entries that range tombstones hide.
//!
//! An entry is hidden if a tombstone over its key, visible to the reader, has a larger sequence
//! number. The source of the entry jumps to the end of that stretch of keys, if all its entries
//! there are older; the other sources, which may have newer entries, do not. So a stretch costs one
//! jump for each source, however many entries it hides, and nothing in between is read.

use esker_base::SeqNo;

use crate::cursor::Cursor;
use crate::read_error::ReadError;

use super::VisibleCursor;

impl<C: Cursor> VisibleCursor<C> {
    /// The tombstone that hides the current entry of the source, if one does.
    fn covering(&mut self) -> Result<Option<SeqNo>, ReadError> {
        let Some(coverage) = &mut self.coverage else { return Ok(None) };
        let entry = self.source.key();
        Ok(coverage.at(entry.user_key)?.filter(|&seqno| entry.seqno() < seqno))
    }

    /// Whether the current entry of the source is hidden.
    pub(super) fn is_covered(&mut self) -> Result<bool, ReadError> {
        Ok(self.covering()?.is_some())
    }

    /// The newest range tombstone over `self.key`.
    pub(super) fn covering_key(&mut self) -> Result<Option<SeqNo>, ReadError> {
        match &mut self.coverage {
            None => Ok(None),
            Some(coverage) => Ok(coverage.at(&self.key)?),
        }
    }

    /// Going forward: if the current entry of the source is hidden, moves the source past it, and
    /// past more if that costs nothing.
    #[cold]
    pub(super) fn pass_covered(&mut self) -> Result<bool, ReadError> {
        let Some(seqno) = self.covering()? else { return Ok(false) };
        let end = self.coverage.as_ref().map_or(&b""[..], |coverage| coverage.end());
        self.stepped_over.covered += 1;
        if self.source.skip_to(end, seqno)? {
            self.stepped_over.jumps += 1;
        } else {
            self.source.next()?;
        }
        Ok(true)
    }

    /// Going back, as [`VisibleCursor::pass_covered`].
    #[cold]
    pub(super) fn pass_covered_back(&mut self) -> Result<bool, ReadError> {
        let Some(seqno) = self.covering()? else { return Ok(false) };
        let start = self.coverage.as_ref().map_or(&b""[..], |coverage| coverage.start());
        self.stepped_over.covered += 1;
        if self.source.skip_back_to(start, seqno)? {
            self.stepped_over.jumps += 1;
        } else {
            self.source.prev()?;
        }
        Ok(true)
    }
}
