//! What a user sees of a sorted source of entries: the newest visible version of each key.
//!
//! Given a snapshot and a range of keys, a [`VisibleCursor`] shows for each user key in the range
//! the newest entry whose sequence number is not above the snapshot, unless it is a tombstone.
//!
//! - *Forward*, the entries of a key stand newest first: the first visible one decides, and the
//!   rest of the key is stepped over.
//! - *Reverse*, they stand oldest first: the last visible one decides (`visible/back.rs`).
//! - After [`STEPS_MAX`] steps over one key the cursor seeks instead, so that a key costs a
//!   bounded number of steps, however many versions it has.
//! - *Either way*, most steps lead from one put to another put, of another key, that is at hand.
//!   Such a step is one look at the entry; everything else is apart from it.
//!
//! A memtable may take writes meanwhile: they are newer than the snapshot, so they are stepped
//! over like any other version that the snapshot does not see.
//!
//! Entries that a range tombstone hides are passed like those that the snapshot does not see, and
//! most of them without a look (`visible/covered.rs`).
//!
//! Puts and tombstones are decided here, with one look at the kind; what every other kind means is
//! asked of the [`ReadContext`], apart from these paths (`visible/resolve.rs`). A kind without a
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

/// Steps over the entries of one key before the cursor seeks past the rest: a seek costs about as
/// much as this many steps.
const STEPS_MAX: u32 = 8;

/// The user's view of a source of entries, at a snapshot, within a range of keys.
///
/// Made not valid; a seek places it. Seeks stay inside the range: one to a key before it finds the
/// first key of the range, and one beyond it finds nothing.
///
/// # Cost
/// Mostly no copy: keys and values are shown where the source has them. Where the source has to move
/// on before a key is shown, one of the key and of a small value.
pub struct VisibleCursor<C> {
    source: C,
    snapshot: SeqNo,
    range: KeyRange,
    context: ReadContext,
    /// Keys with a larger head than this are after the start of the range for certain.
    start_head: u64,
    /// Keys with a smaller head than this are before the end of the range for certain.
    end_head: u64,
    position: Position,
    /// A copy of the key that is shown while the source stands elsewhere, or of one that is judged
    /// or left; with its head.
    key: KeyBuffer,
    key_head: u64,
    seqno: SeqNo,
    /// Where the value that is shown lies.
    shown: Shown,
    /// What is shown by [`Shown::Aside`].
    aside: Aside,
    /// Empty but while a key is resolved; kept for its memory.
    operands: Operands,
    stepped_over: SteppedOver,
    /// The last key that a cursor which goes back has turned at, until it goes forward.
    turned_at: Option<KeyBuffer>,
    /// What range tombstones hide; `None` where there are none.
    coverage: Option<Box<Coverage>>,
}

/// Where a cursor stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// Nowhere.
    Invalid,
    /// The source stands on an entry of the key that is shown.
    OnEntry,
    /// As [`Position::OnEntry`], where a cursor that goes back has turned to get there.
    OnNewest,
    /// The source stands before every entry of the key that is shown; its value was put aside.
    Before,
    /// The source stands behind every entry of the key that is shown; its value was put aside.
    After,
}

/// Where the value that is shown lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// In the entry that the source stands on, from this byte on.
    Source { from: usize },
    /// It was put aside.
    Aside,
    /// In a blob file; what says where was put aside. Never while the cursor is valid.
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
    /// Shows what a reader at `snapshot` sees of `source` inside `range`.
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

    /// The same without what `coverage` hides: the range tombstones of everything in the source.
    #[must_use]
    pub fn with_coverage(mut self, coverage: Option<Box<Coverage>>) -> Self {
        self.coverage = coverage;
        self
    }

    /// From the next move on, leaves values that lie in blob files unread; see
    /// [`ReadContext::keys_only`].
    pub const fn show_keys_only(&mut self) {
        self.context.keys_only = true;
    }

    /// Whether the cursor stands on a key.
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
    /// A reference count; in reverse, a copy of a small value, and of a merged one in either.
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

    /// The sequence number of the version that is shown, which is that of its newest operand if it
    /// was merged; zero if compaction has let it go because every reader sees it.
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

    /// What has been passed without being shown, since the cursor was made.
    #[must_use]
    pub const fn stepped_over(&self) -> SteppedOver {
        self.stepped_over
    }

    /// The source, wherever it stands.
    #[must_use]
    pub const fn source(&self) -> &C {
        &self.source
    }

    /// Moves to the key after.
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

    /// [`VisibleCursor::next`] where the next entry is not at hand.
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

    /// Shows the entry of another key, in the range, that the source has stepped to, if it is a put
    /// and nothing has to be asked about it.
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

    /// Shows the first visible key from where the source stands on.
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

    /// Takes over the key that the source stands on.
    fn take_key(&mut self) {
        let entry = self.source.key();
        self.seqno = entry.seqno();
        self.key_head = self.source.head();
        self.key.set(entry.user_key);
    }

    /// Whether the source stands on an entry of `self.key`.
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

    /// Moves the source past all entries of `self.key`, of which it has passed the first.
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

    /// Counts a step over an entry that is too new, and says whether many of one key follow each
    /// other; then that key is `self.key`.
    ///
    /// The key is copied only at the [`STEPS_MAX`]th entry in a row, and looked at again as many
    /// later, so that new entries of many keys cost no seeks.
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

/// The place before every entry of `user_key`.
const fn first_of_key(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::seek(user_key, SeqNo::MAX)
}

/// The place after every entry of `user_key`: no operation has sequence number zero, and what
/// compaction gives it is not a tombstone.
const fn last_of_key(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::new(user_key, SeqNo::ZERO, EntryKind::Tombstone)
}

#[cfg(test)]
mod tests;
