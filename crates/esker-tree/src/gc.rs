//! Decides which entries of one user key survive a flush or a compaction.
//!
//! Pure: no I/O, no clock, no locks. Entries arrive newest first, with the readers; every decision
//! can be replayed from `testdata/gc/`.
//!
//! A *reader* is a live snapshot or the latest view; the latest view always counts. An entry newer
//! than the latest view is always kept. Of the others, one is dropped under exactly two rules:
//!
//! - *Shadowed.* Every reader that can see this entry can also see a newer one of its key.
//! - *Spent tombstone.* Every reader sees the tombstone, and nothing outside this compaction may
//!   hold an older entry of its key. Dropping it earlier would bring the older value back.
//!
//! A put that every reader sees, and whose key can have no older entry anywhere, needs no sequence
//! number: in the last level it is rewritten with zero, so that blocks of such entries store none.
//!
//! Readers divide the sequence numbers into *stripes*: all entries of a stripe are seen by the same
//! readers, so the newest entry of a key in each stripe survives and shadows the rest.
//!
//! Only puts and tombstones are decided here. Operands and single deletes, which depend on the
//! entries beneath them, wait in `waiting.rs` until the entries of their stripe are known; an
//! operand shadows nothing. Other kinds count as what they are to readers, a put or a tombstone.
//!
//! Entries hidden by range tombstones are removed before they get here (`range_gc.rs`).
//!
//! A possible extension: to keep a window of history, move the latest view back to the start of the
//! window.

use esker_base::{EntryKind, SeqNo, Trailer};

use crate::read_error::UnsupportedKind;

/// The sequence numbers at which there are readers, or may be from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readers {
    /// Ascending and distinct; the last is the latest view.
    seqnos: Vec<SeqNo>,
    /// Whether a snapshot sees everything that the latest view sees.
    latest_is_pinned: bool,
}

impl Readers {
    /// The live `snapshots`, ascending, and the latest view at `visible`: a sequence number that no
    /// reader created after this call reads below.
    ///
    /// # Panics
    /// If the snapshots do not ascend.
    #[must_use]
    pub fn new(snapshots: &[SeqNo], visible: SeqNo) -> Self {
        assert!(snapshots.is_sorted(), "snapshots ascend");
        // A snapshot at or after it sees all that the latest view sees, and entries that are always
        // kept.
        let earlier = snapshots.iter().copied().filter(|&snapshot| {
            snapshot < visible && !esker_base::planted::is("gc-ignores-snapshots")
        });
        let mut seqnos: Vec<SeqNo> = earlier.chain([visible]).collect();
        seqnos.dedup();
        let latest_is_pinned = snapshots.last().is_some_and(|&newest| visible <= newest);
        Self { seqnos, latest_is_pinned }
    }

    /// The sequence number up to which every reader sees every entry.
    #[must_use]
    pub fn oldest(&self) -> SeqNo {
        self.seqnos[0]
    }

    /// The sequence number of the latest view.
    #[must_use]
    pub fn latest(&self) -> SeqNo {
        self.seqnos[self.seqnos.len() - 1]
    }

    /// The newest reader that does not see an entry of this number, or `None` if all see it. For an
    /// entry newer than the latest view, which future readers may not see, the number before its
    /// own.
    pub(crate) fn newest_blind(&self, seqno: SeqNo) -> Option<SeqNo> {
        if seqno > self.latest() {
            return seqno.get().checked_sub(1).and_then(SeqNo::new);
        }
        let blind = self.seqnos.partition_point(|&reader| reader < seqno);
        blind.checked_sub(1).map(|newest| self.seqnos[newest])
    }

    /// Whether some reader, present or future, may see an entry of number `older` but not one of
    /// number `newer`.
    pub(crate) fn tells_apart(&self, older: SeqNo, newer: SeqNo) -> bool {
        let first = self.seqnos.partition_point(|&reader| reader < older);
        newer > self.latest() || self.seqnos.get(first).is_some_and(|&reader| reader < newer)
    }

    /// The stripe of an entry: how many readers do not see it. `None` if none of them does.
    #[inline]
    fn stripe(&self, seqno: SeqNo) -> Option<usize> {
        if seqno <= self.seqnos[0] {
            return Some(0);
        }
        let blind = self.seqnos.partition_point(|&reader| reader < seqno);
        (blind < self.seqnos.len()).then_some(blind)
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is kept as it is.
    Keep,
    /// It is kept, with sequence number zero.
    KeepAtZero,
    /// It is dropped: every reader that sees it sees a newer one.
    Shadowed,
    /// It is dropped: a tombstone with nothing left to hide.
    Spent,
}

/// Decides entry by entry, key by key.
#[derive(Clone, Debug)]
pub struct Gc {
    readers: Readers,
    zeroes_seqnos: bool,
    /// The stripe of the entry of this key that came before, where it had one.
    newer: Option<usize>,
}

impl Gc {
    /// A decider that keeps what `readers` need. `zeroes_seqnos` is for the last level.
    #[must_use]
    pub const fn new(readers: Readers, zeroes_seqnos: bool) -> Self {
        Self { readers, zeroes_seqnos, newer: None }
    }

    /// Says that the entries of another key follow.
    #[inline]
    pub const fn start_key(&mut self) {
        self.newer = None;
    }

    /// The stripe of an entry; `None` if no reader sees it.
    #[inline]
    pub(crate) fn stripe(&self, seqno: SeqNo) -> Option<usize> {
        self.readers.stripe(seqno)
    }

    /// Whether an entry of this stripe would be shadowed.
    pub(crate) fn is_covered(&self, stripe: usize) -> bool {
        self.newer == Some(stripe)
    }

    /// Notes that an entry of this stripe was kept that shadows everything older in it.
    pub(crate) const fn cover(&mut self, stripe: usize) {
        self.newer = Some(stripe);
    }

    /// Whether the latest view, but no snapshot, sees the entries of this stripe.
    pub(crate) const fn is_latest(&self, stripe: usize) -> bool {
        stripe + 1 == self.readers.seqnos.len() && !self.readers.latest_is_pinned
    }

    /// Whether a put of this stripe is kept at zero if nothing is older.
    pub(crate) const fn zeroes(&self, stripe: usize) -> bool {
        self.zeroes_seqnos && stripe == 0
    }

    /// Decides about the next older entry of the key. `may_be_older` says whether a still older
    /// entry of the key may exist outside this compaction; called at most once per key.
    ///
    /// # Errors
    /// If the entry is of a kind that this release does not know the meaning of.
    #[inline]
    pub fn decide(
        &mut self,
        trailer: Trailer,
        may_be_older: impl FnOnce() -> bool,
    ) -> Result<Fate, UnsupportedKind> {
        let kind = trailer.kind();
        if !matches!(kind, EntryKind::Put | EntryKind::Tombstone) {
            return Err(UnsupportedKind { kind });
        }
        let Some(stripe) = self.readers.stripe(trailer.seqno()) else { return Ok(Fate::Keep) };
        if self.newer == Some(stripe) {
            return Ok(Fate::Shadowed);
        }
        self.newer = Some(stripe);
        // Stripe 0 is what everyone sees.
        let asks = (stripe == 0 || esker_base::planted::is("seqno-zeroed-early"))
            && (kind == EntryKind::Tombstone || self.zeroes_seqnos);
        Ok(match kind {
            EntryKind::Tombstone if asks && esker_base::planted::is("tombstone-dropped-early") => {
                Fate::Spent
            }
            _ if !asks || may_be_older() => Fate::Keep,
            EntryKind::Tombstone => Fate::Spent,
            _ => Fate::KeepAtZero,
        })
    }
}

#[cfg(test)]
mod tests;
