//! The user's view, going back: the entries of a key come oldest first, and the last visible one
//! decides. If the source knows that an entry is the first of its key, the entry is borrowed;
//! otherwise it is put aside while the source moves on to the previous key.

use esker_base::EntryKind;

use crate::cursor::Cursor;
use crate::meaning::Meaning;
use crate::read_error::ReadError;

use super::{Aside, Position, STEPS_MAX, Shown, Verdict, VisibleCursor, first_of_key};

/// Values up to this length are copied when they are put aside; larger ones are pinned.
pub(super) const COPIED_VALUE_LEN_MAX: usize = 512;

/// What one visible entry says about its key, going back.
enum Judgement {
    Decided(Verdict),
    /// The entries that are older are needed as well.
    Operand,
}

impl<C: Cursor> VisibleCursor<C> {
    /// Moves to the key before.
    ///
    /// # Errors
    /// As [`VisibleCursor::seek_to_first`]; the cursor is not valid then.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    pub fn prev(&mut self) -> Result<(), ReadError> {
        if self.position == Position::OnEntry
            && let Some(step) = self.source.step_back()
        {
            let is_outside =
                step.head <= self.start_head && self.range.starts_after(self.source.key().user_key);
            if !is_outside && self.source.is_first_of_key() && self.shows_put(step.trailer) {
                return Ok(());
            }
            self.position = Position::Invalid;
            return self.show_prev();
        }
        self.prev_afar()
    }

    /// [`VisibleCursor::prev`] if the previous entry is not at hand.
    fn prev_afar(&mut self) -> Result<(), ReadError> {
        match std::mem::replace(&mut self.position, Position::Invalid) {
            Position::Invalid => panic!("the cursor is valid"),
            Position::OnEntry | Position::OnNewest => {
                self.take_key();
                self.leave_key_back()?;
            }
            Position::Before => {}
            Position::After => self.source.seek_for_prev(first_of_key(&self.key))?,
        }
        self.show_prev()
    }

    /// Shows the last visible key at or before the position of the source.
    pub(super) fn show_prev(&mut self) -> Result<(), ReadError> {
        while self.find_visible_back()? {
            if self.source.is_first_of_key() && self.source.key().trailer.is_put() {
                self.seqno = self.source.key().seqno();
                self.shown = Shown::Source { from: 0 };
                self.position = Position::OnEntry;
                break;
            }
            match self.decide_key_back()? {
                Verdict::Exists => break,
                Verdict::Deleted => self.stepped_over.tombstones += 1,
            }
        }
        Ok(())
    }

    /// Moves the source back to an entry that the snapshot sees; false if there is none in the
    /// range.
    fn find_visible_back(&mut self) -> Result<bool, ReadError> {
        let mut steps = 0;
        while self.source.is_valid() {
            let entry = self.source.key();
            if self.range.starts_after(entry.user_key) {
                return Ok(false);
            }
            if entry.seqno() <= self.snapshot {
                if self.coverage.is_some() && self.pass_covered_back()? {
                    continue;
                }
                return Ok(true);
            }
            if self.is_stuck(&mut steps) {
                self.source.seek_for_prev(first_of_key(&self.key))?;
            } else {
                self.source.prev()?;
            }
        }
        Ok(false)
    }

    /// Decides a key, starting at its oldest visible version, where the source is, and shows it if
    /// it exists. The source ends up before the key, or at the shown version.
    fn decide_key_back(&mut self) -> Result<Verdict, ReadError> {
        let mut judgement = self.put_aside()?;
        for _ in 0..STEPS_MAX {
            let Judgement::Decided(verdict) = judgement else { break };
            self.source.prev()?;
            if !self.is_on_key() {
                if let Verdict::Exists = verdict {
                    if self.shown == Shown::Blob {
                        self.read_aside()?;
                    }
                    self.position = Position::Before;
                }
                return Ok(verdict);
            }
            self.stepped_over.versions += 1;
            judgement = if self.source.key().seqno() <= self.snapshot {
                self.put_aside()?
            } else {
                Judgement::Decided(verdict)
            };
        }
        // Many versions, or operands: seeks straight to the newest one, as when going forward.
        self.stepped_over.seeks += 1;
        self.decide_from_newest()
    }

    /// Judges the current entry of the source, and puts its key and value aside.
    fn put_aside(&mut self) -> Result<Judgement, ReadError> {
        self.take_key();
        self.shown = Shown::Aside;
        let from = match self.source.key().kind() {
            EntryKind::Put => 0,
            EntryKind::Tombstone => return Ok(Judgement::Decided(Verdict::Deleted)),
            kind => match self.context.meaning(kind, self.source.value())? {
                Meaning::Value { from } => from,
                Meaning::Blob => {
                    self.shown = Shown::Blob;
                    0
                }
                Meaning::Nothing => return Ok(Judgement::Decided(Verdict::Deleted)),
                Meaning::Operand => return Ok(Judgement::Operand),
            },
        };
        let value = &self.source.value()[from..];
        if value.len() > COPIED_VALUE_LEN_MAX && from == 0 {
            self.aside = Aside::Pinned(self.source.pinned_value());
        } else if let Aside::Copied(copy) = &mut self.aside {
            copy.clear();
            copy.extend_from_slice(value);
        } else {
            self.aside = Aside::Copied(value.to_vec());
        }
        Ok(Judgement::Decided(Verdict::Exists))
    }

    /// Moves the source from an entry of `self.key` back before all of them.
    pub(super) fn leave_key_back(&mut self) -> Result<(), ReadError> {
        self.source.prev()?;
        self.pass_versions_back()
    }

    /// Moves the source back before all entries of `self.key`; it has passed the last one already.
    fn pass_versions_back(&mut self) -> Result<(), ReadError> {
        let mut steps = 0;
        while self.is_on_key() {
            self.stepped_over.versions += 1;
            steps += 1;
            if steps < STEPS_MAX {
                self.source.prev()?;
            } else {
                self.stepped_over.seeks += 1;
                self.source.seek_for_prev(first_of_key(&self.key))?;
                break;
            }
        }
        Ok(())
    }
}
