//! The view of a user on a sorted source of entries: the newest visible entry of each key.
//!
//! Given a snapshot and a key range, a [`VisibleCursor`] shows for each user key in the range the
//! newest entry whose sequence number is not above the snapshot, unless that is a tombstone.
//!
//! - *Forward*, the entries of a key come newest first: the first visible one decides, and the rest
//!   are stepped over.
//! - *Reverse*, they come oldest first: the last visible one decides (`visible/back.rs`).
//! - After [`STEPS_MAX`] steps over one key the cursor seeks instead, so that a key costs a
//!   bounded number of steps, however many versions it has.
//! - *Either way*, most steps lead from a put to the put of another key, which is at hand. Such a
//!   step looks at the entry once; everything else is kept off this path.
//!
//! A memtable may take writes in the meantime: they are newer than the snapshot, so they are
//! stepped over like any other entry that the snapshot does not see.
//!
//! Entries hidden by a range tombstone are passed like those that the snapshot does not see, most
//! of them without being looked at (`visible/covered.rs`).
//!
//! Puts and tombstones are decided here, with one test of the kind; all other kinds get their
//! meaning from the [`ReadContext`], off these paths (`visible/resolve.rs`). A kind without a
//! meaning is an error, never a wrong answer.

mod back;
mod covered;
mod resolve;
mod seek;
mod stepped_over;

use std::ops::Bound;

use esker_base::{EntryKind, InternalKey, KeyBuffer, KeyRange, SeqNo, Trailer, key_head};

use crate::coverage::Coverage;
use crate::cursor::{Cursor, PinnedValue};
use crate::meaning::ReadContext;
use crate::operands::Operands;
use crate::read_error::ReadError;

pub use stepped_over::SteppedOver;

/// Steps over entries of one key before the cursor seeks past the rest: a seek costs about as much
/// as this many steps.
const STEPS_MAX: u32 = 8;

/// The user's view of a source of entries, at a snapshot, within a range of keys.
///
/// Initially not valid; a seek positions it. Seeks stay inside the range: a forward seek to a key
/// before it finds the first key of the range, and one beyond it finds nothing.
///
/// # Cost
/// Usually no copy: keys and values are borrowed from the source. If the source has to move on
/// before a key is shown, one copy of the key and of a small value.
pub struct VisibleCursor<C> {
    source: C,
    snapshot: SeqNo,
    range: KeyRange,
    context: ReadContext,
    /// Keys with a larger head than this are certainly after the start of the range.
    start_head: u64,
    /// Keys with a smaller head than this are certainly before the end of the range.
    end_head: u64,
    position: Position,
    /// A copy of the shown key while the source is elsewhere, or of a key that is being decided or
    /// left; with its head.
    key: KeyBuffer,
    key_head: u64,
    seqno: SeqNo,
    /// Where the value that is shown lies.
    shown: Shown,
    /// The value shown by [`Shown::Aside`].
    aside: Aside,
    /// Empty except while a key is resolved; kept for its memory.
    operands: Operands,
    stepped_over: SteppedOver,
    /// The last key at which a cursor going back has turned, until it goes forward.
    turned_at: Option<KeyBuffer>,
    /// What range tombstones hide; `None` if there are none.
    coverage: Option<Box<Coverage>>,
}

/// The position of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// Nowhere.
    Invalid,
    /// The source is at an entry of the shown key.
    OnEntry,
    /// As [`Position::OnEntry`], reached by a cursor going back that has turned.
    OnNewest,
    /// The source is before every entry of the shown key, whose value was put aside.
    Before,
    /// The source is after every entry of the shown key, whose value was put aside.
    After,
}

/// Where the value that is shown lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// In the source's current entry, from this byte on.
    Source { from: usize },
    /// It was put aside.
    Aside,
    /// In a blob file; the reference to it was put aside. Never while the cursor is valid.
    Blob,
}

/// A value that was put aside.
enum Aside {
    Copied(Vec<u8>),
    Pinned(PinnedValue),
}

impl Aside {
    /// The memory for a copy, empty.
    fn take_memory(&mut self) -> Vec<u8> {
        match self {
            Self::Copied(copy) => {
                copy.clear();
                std::mem::take(copy)
            }
            Self::Pinned(_) => Vec::new(),
        }
    }
}

/// What one visible entry says about its key.
#[derive(Clone, Copy)]
enum Verdict {
    Exists,
    Deleted,
}

impl<C: Cursor> VisibleCursor<C> {
    /// A cursor that shows what a reader at `snapshot` sees of `source` inside `range`.
    #[must_use]
    pub fn new(source: C, snapshot: SeqNo, range: KeyRange, context: ReadContext) -> Self {
        let start_head = match &range.start {
            Bound::Included(start) | Bound::Excluded(start) => key_head(start),
            Bound::Unbounded => 0,
        };
        let end_head = match &range.end {
            Bound::Included(end) | Bound::Excluded(end) => key_head(end),
            Bound::Unbounded => u64::MAX,
        };
        Self {
            source,
            snapshot,
            range,
            context,
            start_head,
            end_head,
            position: Position::Invalid,
            key: KeyBuffer::new(),
            key_head: 0,
            seqno: SeqNo::ZERO,
            shown: Shown::Source { from: 0 },
            aside: Aside::Copied(Vec::new()),
            operands: Operands::default(),
            stepped_over: SteppedOver::default(),
            turned_at: None,
            coverage: None,
        }
    }

    /// The same cursor, without what `coverage` hides: the range tombstones of everything in the
    /// source.
    #[must_use]
    pub fn with_coverage(mut self, coverage: Option<Box<Coverage>>) -> Self {
        self.coverage = coverage;
        self
    }

    /// From the next move on, does not read values in blob files; see [`ReadContext::keys_only`].
    pub const fn show_keys_only(&mut self) {
        self.context.keys_only = true;
    }

    /// Whether the cursor is positioned on a key.
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.position != Position::Invalid
    }

    /// The user key.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self.position {
            Position::Invalid => panic!("the cursor is valid"),
            Position::OnEntry | Position::OnNewest => self.source.key().user_key,
            Position::Before | Position::After => &self.key,
        }
    }

    /// The value of the key.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        assert!(self.is_valid(), "the cursor is valid");
        match (self.shown, &self.aside) {
            (Shown::Source { from }, _) => &self.source.value()[from..],
            (Shown::Aside | Shown::Blob, Aside::Copied(value)) => value,
            (Shown::Aside | Shown::Blob, Aside::Pinned(value)) => value,
        }
    }

    /// The value of the key, kept alive after the cursor has moved on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    ///
    /// # Cost
    /// A reference count; in reverse, a copy of a small value; in either direction, a copy of a
    /// merged one.
    #[must_use]
    pub fn pinned_value(&self) -> PinnedValue {
        assert!(self.is_valid(), "the cursor is valid");
        match (self.shown, &self.aside) {
            (Shown::Source { from: 0 }, _) => self.source.pinned_value(),
            (Shown::Source { from }, _) => PinnedValue::Owned(self.source.value()[from..].into()),
            (_, Aside::Copied(value)) => PinnedValue::Owned(value.as_slice().into()),
            (_, Aside::Pinned(value)) => value.clone(),
        }
    }

    /// The sequence number of the shown entry, or of the newest operand if the value was merged;
    /// zero if compaction has dropped the number because every reader sees the entry.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[must_use]
    pub fn seqno(&self) -> SeqNo {
        assert!(self.is_valid(), "the cursor is valid");
        self.seqno
    }

    /// The snapshot that the cursor reads at.
    #[must_use]
    pub const fn snapshot(&self) -> SeqNo {
        self.snapshot
    }

    /// The range that the cursor keeps to.
    #[must_use]
    pub const fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Counts of what has been passed without being shown, since the cursor was created.
    #[must_use]
    pub const fn stepped_over(&self) -> SteppedOver {
        self.stepped_over
    }

    /// The source, wherever it is positioned.
    #[must_use]
    pub const fn source(&self) -> &C {
        &self.source
    }

    /// Moves to the next key.
    ///
    /// # Errors
    /// As [`VisibleCursor::seek_to_first`]; the cursor is not valid then.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[expect(clippy::should_implement_trait, reason = "a cursor lends what it shows")]
    #[inline]
    pub fn next(&mut self) -> Result<(), ReadError> {
        if self.position == Position::OnEntry
            && let Some(step) = self.source.step()
        {
            let is_outside =
                step.head >= self.end_head && self.range.ends_before(self.source.key().user_key);
            if !is_outside && self.shows_put(step.trailer) {
                return Ok(());
            }
            self.position = Position::Invalid;
            return self.show_next();
        }
        self.next_afar()
    }

    /// [`VisibleCursor::next`] if the next entry is not at hand.
    fn next_afar(&mut self) -> Result<(), ReadError> {
        self.turned_at = None;
        match std::mem::replace(&mut self.position, Position::Invalid) {
            Position::Invalid => panic!("the cursor is valid"),
            Position::OnEntry | Position::OnNewest => {
                self.take_key();
                self.leave_key()?;
            }
            Position::Before => self.source.seek(last_of_key(&self.key))?,
            Position::After => {}
        }
        self.show_next()
    }

    /// Shows the entry that the source has stepped to, of another key in the range, if it is a put
    /// and needs no further checks.
    #[inline]
    fn shows_put(&mut self, trailer: Trailer) -> bool {
        let seqno = trailer.seqno();
        let is_shown = trailer.is_put() && seqno <= self.snapshot && self.coverage.is_none();
        if is_shown {
            self.seqno = seqno;
            self.shown = Shown::Source { from: 0 };
        }
        is_shown
    }

    /// Shows the first visible key at or after the position of the source.
    fn show_next(&mut self) -> Result<(), ReadError> {
        let mut steps = 0;
        while self.source.is_valid() {
            let head = self.source.head();
            let entry = self.source.key();
            if head >= self.end_head && self.range.ends_before(entry.user_key) {
                break;
            }
            if entry.seqno() > self.snapshot && !esker_base::planted::is("scan-ignores-snapshot") {
                if self.is_stuck(&mut steps) {
                    self.source.seek(InternalKey::seek(&self.key, self.snapshot))?;
                } else {
                    self.source.next()?;
                }
                continue;
            }
            if self.coverage.is_some() && self.pass_covered()? {
                continue;
            }
            let entry = self.source.key();
            self.seqno = entry.seqno();
            steps = 0;
            match entry.kind() {
                EntryKind::Put => {
                    self.shown = Shown::Source { from: 0 };
                    self.position = Position::OnEntry;
                    break;
                }
                EntryKind::Tombstone => {
                    self.stepped_over.tombstones += 1;
                    self.take_key();
                    self.leave_key()?;
                }
                _ => {
                    self.take_key();
                    if self.show_resolved()? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies the current key of the source.
    fn take_key(&mut self) {
        let entry = self.source.key();
        self.seqno = entry.seqno();
        self.key_head = self.source.head();
        self.key.set(entry.user_key);
    }

    /// Whether the source is at an entry of `self.key`.
    #[inline]
    fn is_on_key(&self) -> bool {
        self.source.is_valid()
            && self.source.head() == self.key_head
            && *self.source.key().user_key == *self.key
    }

    /// Moves the source from an entry of `self.key` past all of them.
    fn leave_key(&mut self) -> Result<(), ReadError> {
        self.source.next()?;
        self.pass_versions()
    }

    /// Moves the source past all entries of `self.key`; it has passed the first already.
    fn pass_versions(&mut self) -> Result<(), ReadError> {
        let mut steps = 0;
        while self.is_on_key() {
            self.stepped_over.versions += 1;
            steps += 1;
            if steps < STEPS_MAX {
                self.source.next()?;
            } else {
                self.stepped_over.seeks += 1;
                self.source.seek(last_of_key(&self.key))?;
                break;
            }
        }
        Ok(())
    }

    /// Counts a step over an entry that is too new, and returns whether many of one key have
    /// followed each other; then that key is in `self.key`.
    ///
    /// The key is copied only at the [`STEPS_MAX`]th entry in a row, and compared again that many
    /// entries later, so that new entries of many different keys cost no seeks.
    #[inline]
    fn is_stuck(&mut self, steps: &mut u32) -> bool {
        self.stepped_over.versions += 1;
        *steps += 1;
        if *steps == STEPS_MAX {
            self.take_key();
        }
        if *steps < 2 * STEPS_MAX {
            return false;
        }
        *steps = 0;
        let is_stuck = self.is_on_key();
        self.stepped_over.seeks += u64::from(is_stuck);
        is_stuck
    }
}

/// The position before every entry of `user_key`.
const fn first_of_key(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::seek(user_key, SeqNo::MAX)
}

/// The position after every entry of `user_key`: no operation has sequence number zero, and
/// compaction gives it to no tombstone.
const fn last_of_key(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::new(user_key, SeqNo::ZERO, EntryKind::Tombstone)
}

#[cfg(test)]
mod tests;
