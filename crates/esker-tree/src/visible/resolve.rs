//! Keys whose newest visible entry is neither a put nor a tombstone, resolved off the common path.
//!
//! Operands are resolved going forward, from the newest one that the reader sees down to the value
//! beneath them. A cursor going back first seeks to the newest. If they take much memory and the
//! operator cannot fold them, they are instead merged from the oldest up, a part at a time.

use crate::cursor::{Cursor, PinnedValue};
use crate::meaning::Meaning;
use crate::operands::{Operands, Order};
use crate::operator::Merger;
use crate::read_error::ReadError;

use super::{Aside, InternalKey, Position, Shown, Verdict, VisibleCursor, first_of_key};

impl<C: Cursor> VisibleCursor<C> {
    /// Going forward: the source is at the key's newest visible entry. Shows the key if it exists;
    /// if not, the source ends up after it.
    #[cold]
    pub(super) fn show_resolved(&mut self) -> Result<bool, ReadError> {
        let (verdict, position) = self.resolve()?;
        if let Verdict::Exists = verdict {
            self.position = position;
            return Ok(true);
        }
        self.stepped_over.tombstones += 1;
        if position == Position::OnEntry {
            self.leave_key()?;
        }
        Ok(false)
    }

    /// Going back: seeks to the newest visible entry of `self.key`, and shows the key if it exists;
    /// if not, the source ends up before it.
    pub(super) fn decide_from_newest(&mut self) -> Result<Verdict, ReadError> {
        self.check_turn()?;
        self.source.seek(InternalKey::seek(&self.key, self.snapshot))?;
        if !self.is_on_key() {
            return Err(self.source.out_of_order().into());
        }
        self.take_key();
        let (verdict, position) = self.resolve()?;
        match (&verdict, position) {
            (Verdict::Exists, Position::OnEntry) => self.position = Position::OnNewest,
            (Verdict::Exists, _) => self.position = position,
            (_, Position::OnEntry) => self.leave_key_back()?,
            (_, _) => self.source.seek_for_prev(first_of_key(&self.key))?,
        }
        Ok(verdict)
    }

    /// Refuses damaged tables in which a cursor going back comes to the same key again: it would do
    /// so endlessly.
    fn check_turn(&mut self) -> Result<(), ReadError> {
        if self.turned_at.as_ref().is_some_and(|before| **before <= *self.key) {
            return Err(self.source.out_of_order().into());
        }
        self.turned_at.get_or_insert_default().set(&self.key);
        Ok(())
    }

    /// Resolves `self.key`, at whose newest visible entry the source is. Also returns the position
    /// of the source afterwards.
    fn resolve(&mut self) -> Result<(Verdict, Position), ReadError> {
        let meaning = self.context.meaning(self.source.key().kind(), self.source.value())?;
        let verdict = match meaning {
            Meaning::Value { from } => {
                self.shown = Shown::Source { from };
                Verdict::Exists
            }
            Meaning::Blob => {
                self.aside = self.read_blob(self.source.value())?;
                self.shown = Shown::Aside;
                Verdict::Exists
            }
            Meaning::Nothing => Verdict::Deleted,
            Meaning::Operand => return self.merge(),
        };
        Ok((verdict, Position::OnEntry))
    }

    /// Going back: puts aside the value in a blob file, replacing its reference that was put aside.
    #[cold]
    pub(super) fn read_aside(&mut self) -> Result<(), ReadError> {
        self.aside = match &self.aside {
            Aside::Copied(reference) => self.read_blob(reference)?,
            Aside::Pinned(reference) => self.read_blob(reference)?,
        };
        self.shown = Shown::Aside;
        Ok(())
    }

    /// The value of `self.key` that `reference` refers to.
    fn read_blob(&self, reference: &[u8]) -> Result<Aside, ReadError> {
        if self.context.keys_only {
            return Ok(Aside::Copied(Vec::new()));
        }
        let value = self.context.blob(&self.key, reference)?;
        Ok(Aside::Pinned(PinnedValue::Block(value)))
    }

    /// Merges the operands of `self.key`, at whose newest the source is.
    fn merge(&mut self) -> Result<(Verdict, Position), ReadError> {
        let mut operands = std::mem::take(&mut self.operands);
        operands.clear();
        let mut merged = self.aside.take_memory();
        let result = self.merge_into(&mut operands, &mut merged);
        self.operands = operands;
        self.aside = Aside::Copied(merged);
        self.shown = Shown::Aside;
        result.map(|position| (Verdict::Exists, position))
    }

    fn merge_into(
        &mut self,
        operands: &mut Operands,
        merged: &mut Vec<u8>,
    ) -> Result<Position, ReadError> {
        // Not `self.merger()`: the source moves while the merger is in use.
        let (context, key) = (self.context.clone(), self.key.clone());
        let merger = context.merger(&key)?;
        let base = loop {
            operands.add(self.source.value());
            self.stepped_over.operands += 1;
            if operands.is_heavy() && !operands.fold(merger, Order::NewestFirst) {
                return self.merge_from_oldest(merger, operands, merged);
            }
            self.source.next()?;
            match self.meaning_on_key()? {
                Some(Meaning::Operand) => {}
                base => break base,
            }
        };
        let blob;
        let existing = match base {
            Some(Meaning::Value { from }) => Some(&self.source.value()[from..]),
            Some(Meaning::Blob) => {
                blob = context.blob(&key, self.source.value())?;
                Some(&*blob)
            }
            _ => None,
        };
        operands.merge(merger, existing, Order::NewestFirst, merged)?;
        Ok(if base.is_some() { Position::OnEntry } else { Position::After })
    }

    /// Merges operands that are too many for memory: finds the value beneath them, then goes back
    /// up to the newest one that the reader sees.
    fn merge_from_oldest(
        &mut self,
        merger: Merger<'_>,
        operands: &mut Operands,
        merged: &mut Vec<u8>,
    ) -> Result<Position, ReadError> {
        operands.clear();
        let base = loop {
            self.source.next()?;
            match self.meaning_on_key()? {
                Some(Meaning::Operand) => self.stepped_over.operands += 1,
                base => break base,
            }
        };
        let mut value = match base {
            Some(Meaning::Value { from }) => Some(self.source.value()[from..].to_vec()),
            Some(Meaning::Blob) => {
                Some(self.context.blob(merger.key(), self.source.value())?.to_vec())
            }
            _ => None,
        };
        if base.is_some() {
            self.source.prev()?;
        } else {
            // The oldest that no range tombstone hides.
            let covering = self.covering_key()?;
            let oldest = |seqno| InternalKey::seek(merger.key(), seqno);
            let oldest = covering.map_or(super::last_of_key(merger.key()), oldest);
            self.source.seek_for_prev(oldest)?;
        }
        while self.is_on_key() && self.source.key().seqno() <= self.snapshot {
            operands.add(self.source.value());
            if operands.is_heavy() {
                operands.merge(merger, value.as_deref(), Order::OldestFirst, merged)?;
                std::mem::swap(value.get_or_insert_default(), merged);
                operands.clear();
            }
            self.source.prev()?;
        }
        if operands.is_empty() {
            *merged = value.unwrap_or_default();
        } else {
            operands.merge(merger, value.as_deref(), Order::OldestFirst, merged)?;
        }
        self.source.seek(InternalKey::seek(merger.key(), self.snapshot))?;
        Ok(Position::OnEntry)
    }

    /// The meaning of the source's current entry; `None` if it is not of `self.key`, or is hidden
    /// by a range tombstone.
    fn meaning_on_key(&mut self) -> Result<Option<Meaning>, ReadError> {
        if !self.is_on_key() || self.coverage.is_some() && self.is_covered()? {
            return Ok(None);
        }
        Ok(Some(self.context.meaning(self.source.key().kind(), self.source.value())?))
    }
}
