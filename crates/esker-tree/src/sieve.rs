//! Lets through the entries that readers need, of those that a flush or a compaction rewrites.
//!
//! Puts and tombstones are decided one by one, by [`Gc`]. Operands and single deletes wait until
//! the entries beneath them are known (`waiting.rs`). Every other kind is decided as a put or a
//! tombstone, according to the meaning that the [`ReadContext`] gives it.
//!
//! A surviving value that no snapshot sees is shown to the compaction filter, if there is one. If
//! the filter removes it, a tombstone takes its place, unless nothing older can exist.
//!
//! Pure except for user code: does not know where entries come from or go to.

use esker_base::{EntryKind, InternalKey, SeqNo, Trailer};

use crate::filter::{FilterDecision, RunningFilter};
use crate::gc::{Fate, Gc};
use crate::job::JobError;
use crate::meaning::{Meaning, ReadContext};
use crate::waiting::{Below, Surroundings, Waiting};

/// Where the surviving entries go.
pub(crate) trait Sink {
    fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), JobError>;
}

/// Decides entry by entry, key by key; entries of a key arrive newest first.
///
/// `may_be_older` says whether an older entry of a key may exist outside the job; it is called with
/// ascending keys.
pub(crate) struct Sieve<'a, F> {
    gc: Gc,
    context: &'a ReadContext,
    may_be_older: F,
    filter: Option<RunningFilter>,
    waiting: Waiting,
    entries_dropped: u64,
    /// How many values the filter removed or changed.
    filtered: u64,
}

impl<'a, F: FnMut(&[u8]) -> bool> Sieve<'a, F> {
    pub(crate) fn new(gc: Gc, context: &'a ReadContext, may_be_older: F) -> Self {
        let waiting = Waiting::default();
        Self { gc, context, may_be_older, filter: None, waiting, entries_dropped: 0, filtered: 0 }
    }

    /// Asks `filter` about values.
    pub(crate) fn with_filter(mut self, filter: Option<RunningFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// How many values the filter has removed or changed.
    pub(crate) const fn filtered(&self) -> u64 {
        self.filtered
    }

    /// How many fewer entries have been written than taken, not counting those that wait.
    pub(crate) const fn entries_dropped(&self) -> u64 {
        self.entries_dropped
    }

    /// Says that the entries of another key follow.
    #[inline]
    pub(crate) fn start_key(&mut self, sink: &mut impl Sink) -> Result<(), JobError> {
        if !self.waiting.is_empty() {
            self.end_key(sink)?;
        }
        self.gc.start_key();
        Ok(())
    }

    /// Says that the entries of the key have ended.
    pub(crate) fn end_key(&mut self, sink: &mut impl Sink) -> Result<(), JobError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let may_be_older = (self.may_be_older)(&self.waiting.user_key);
        let below = if may_be_older { Below::Unknown } else { Below::Nothing };
        self.resolve(below, sink)?;
        Ok(())
    }

    /// Takes the next older entry of the key.
    #[inline]
    pub(crate) fn take(
        &mut self,
        key: InternalKey<'_>,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), JobError> {
        let is_plain = matches!(key.kind(), EntryKind::Put | EntryKind::Tombstone);
        if is_plain && self.waiting.is_empty() {
            return self.decide(key, key.kind(), value, sink);
        }
        self.take_other(key, value, sink)
    }

    /// Takes an entry that counts as one of `kind`, a put or a tombstone.
    #[inline]
    fn decide(
        &mut self,
        key: InternalKey<'_>,
        kind: EntryKind,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), JobError> {
        let trailer = Trailer::new(key.seqno(), kind);
        let may_be_older = &mut self.may_be_older;
        match self.gc.decide(trailer, || may_be_older(key.user_key))? {
            Fate::Keep | Fate::KeepAtZero if kind == EntryKind::Put && self.filter.is_some() => {
                self.filter_value(key, value, sink)
            }
            Fate::Keep => sink.add(key, value),
            Fate::KeepAtZero => {
                sink.add(InternalKey::new(key.user_key, SeqNo::ZERO, key.kind()), value)
            }
            Fate::Shadowed | Fate::Spent => {
                self.entries_dropped += 1;
                Ok(())
            }
        }
    }

    /// Takes a value that stays unless the filter decides otherwise.
    #[cold]
    fn filter_value(
        &mut self,
        key: InternalKey<'_>,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), JobError> {
        let stripe = self.gc.stripe(key.seqno());
        let is_all = stripe == Some(0) && !(self.may_be_older)(key.user_key);
        let zeroes = is_all && self.gc.zeroes(0);
        let seqno = if zeroes { SeqNo::ZERO } else { key.seqno() };
        let kept = InternalKey::new(key.user_key, seqno, key.kind());
        let is_latest = esker_base::planted::is("filter-ignores-snapshots")
            || stripe.is_some_and(|stripe| self.gc.is_latest(stripe));
        let (Some(filter), true) = (&mut self.filter, is_latest) else {
            return sink.add(kept, value);
        };
        let verdict = match self.context.meaning(key.kind(), value)? {
            Meaning::Value { from } => {
                let (before, shown) = value.split_at(from);
                add_filtered(filter, kept, Shown { stored: value, before, shown }, is_all, sink)?
            }
            Meaning::Blob => {
                let blob = self.context.blob(key.user_key, value)?;
                let shown = Shown { stored: value, before: &[], shown: &blob };
                add_filtered(filter, kept, shown, is_all, sink)?
            }
            _ => return sink.add(kept, value),
        };
        self.entries_dropped += u64::from(verdict == Filtered::Dropped);
        self.filtered += u64::from(verdict != Filtered::Kept);
        Ok(())
    }

    #[cold]
    fn take_other(
        &mut self,
        key: InternalKey<'_>,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), JobError> {
        let meaning = self.context.meaning(key.kind(), value)?;
        let Some(stripe) = self.gc.stripe(key.seqno()) else { return sink.add(key, value) };
        if !self.waiting.is_empty()
            && self.waiting.stripe != stripe
            && !esker_base::planted::is("merge-fold-across-snapshot")
        {
            self.resolve(Below::Unknown, sink)?;
        }
        if meaning == Meaning::Operand || key.kind() == EntryKind::SingleDelete {
            self.waiting.add(key.user_key, stripe, key.trailer, value);
            if self.waiting.is_heavy() {
                self.resolve(Below::Unknown, sink)?;
            }
            return Ok(());
        }
        let expires = key.kind() == EntryKind::ExpiringPut;
        let blob;
        let (kind, below) = match meaning {
            Meaning::Value { .. } if expires => (EntryKind::Put, Below::Expiring),
            Meaning::Value { from } => (EntryKind::Put, Below::Value(&value[from..])),
            // Read only if something is to be made of it.
            Meaning::Blob if self.waiting.is_empty() => (EntryKind::Put, Below::Unknown),
            Meaning::Blob => {
                blob = self.context.blob(key.user_key, value)?;
                (EntryKind::Put, Below::Value(&blob))
            }
            _ => (EntryKind::Tombstone, Below::Tombstone),
        };
        if !self.waiting.is_empty() && self.resolve(below, sink)? {
            self.entries_dropped += 1;
            return Ok(());
        }
        // A value that has expired for every reader becomes a tombstone if it has to be kept. With
        // sequence number zero it stays as it is, since no tombstone may have that.
        if expires
            && kind == EntryKind::Tombstone
            && esker_base::planted::is("expired-put-resurrects")
        {
            return Ok(());
        }
        if expires && kind == EntryKind::Tombstone && key.seqno() != SeqNo::ZERO {
            let hiding = InternalKey::new(key.user_key, key.seqno(), kind);
            return self.decide(hiding, kind, &[], sink);
        }
        self.decide(key, kind, value, sink)
    }

    /// Writes the result of the waiting entries; true if the value beneath was used up.
    fn resolve(&mut self, below: Below<'_>, sink: &mut impl Sink) -> Result<bool, JobError> {
        let waited = self.waiting.len();
        let stripe = self.waiting.stripe;
        let user_key = std::mem::take(&mut self.waiting.user_key);
        // Without the operator, operands stay as they are.
        let merger = self.context.merger(&user_key).ok();
        let is_all = stripe == 0 && !(self.may_be_older)(&user_key);
        let surroundings = Surroundings { below, covered: self.gc.is_covered(stripe), is_all };
        let zeroes = is_all && self.gc.zeroes(stripe);
        let (mut dropped, mut filtered) = (0, 0);
        let filter = self.filter.as_mut().filter(|_| self.gc.is_latest(stripe));
        let mut filter = filter;
        let outcome = self.waiting.resolve(merger, surroundings, |seqno, kind, value| {
            if kind != EntryKind::Put {
                return sink.add(InternalKey::new(&user_key, seqno, kind), value);
            }
            let seqno = if zeroes { SeqNo::ZERO } else { seqno };
            let key = InternalKey::new(&user_key, seqno, kind);
            let Some(filter) = &mut filter else { return sink.add(key, value) };
            let shown = Shown { stored: value, before: &[], shown: value };
            let verdict = add_filtered(filter, key, shown, is_all, sink)?;
            dropped += u64::from(verdict == Filtered::Dropped);
            filtered += u64::from(verdict != Filtered::Kept);
            Ok(())
        })?;
        self.entries_dropped += dropped;
        self.filtered += filtered;
        self.waiting.user_key = user_key;
        if outcome.covers {
            self.gc.cover(stripe);
        }
        self.entries_dropped += waited - outcome.written;
        Ok(outcome.takes_below)
    }
}

/// A value as a filter sees it.
#[derive(Clone, Copy)]
struct Shown<'a> {
    /// What the entry has.
    stored: &'a [u8],
    /// The bytes before the value in it.
    before: &'a [u8],
    shown: &'a [u8],
}

/// Adds what `filter` makes of a value: a tombstone if it removes the value, or nothing if nothing
/// older can exist. A changed value from a blob file becomes a put.
fn add_filtered(
    filter: &mut RunningFilter,
    key: InternalKey<'_>,
    Shown { stored, before, shown }: Shown<'_>,
    is_all: bool,
    sink: &mut impl Sink,
) -> Result<Filtered, JobError> {
    match filter.ask(key.user_key, shown, before.len())? {
        FilterDecision::Keep => {
            sink.add(key, stored)?;
            return Ok(Filtered::Kept);
        }
        FilterDecision::Change(value) if key.kind() == EntryKind::BlobReference => {
            sink.add(InternalKey::new(key.user_key, key.seqno(), EntryKind::Put), &value)?;
        }
        FilterDecision::Change(value) => sink.add(key, &[before, &value].concat())?,
        // An entry without a number is the last of its key.
        FilterDecision::Remove if is_all || key.seqno() == SeqNo::ZERO => {
            return Ok(Filtered::Dropped);
        }
        FilterDecision::Remove => {
            sink.add(InternalKey::new(key.user_key, key.seqno(), EntryKind::Tombstone), &[])?;
        }
    }
    Ok(Filtered::Replaced)
}

/// The result for a value that the filter was asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filtered {
    Kept,
    Replaced,
    Dropped,
}

#[cfg(test)]
pub(crate) mod tests;
