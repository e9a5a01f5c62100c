//! Decides what range tombstones hide in a flush or a compaction, and which of them stay.
//!
//! Pure: no I/O, no locks. The rules are those of `gc.rs`, for all keys of a fragment at once:
//!
//! - *An entry is hidden* if every reader that sees it also sees a newer tombstone over its key.
//! - *A tombstone is shadowed* likewise: of those over a fragment, only the newest of each stripe
//!   stays.
//! - *A tombstone is spent* if every reader sees it, and nothing outside this job may hold an older
//!   entry in its fragment: what it hides inside the job is dropped with it.
//! - *A whole table is hidden* if, over all its keys, every reader that sees any of its entries
//!   also sees a tombstone newer than all of them. It is dropped without being read.
//!
//! Under a tombstone that stays, an older entry must always be assumed to exist: a put there that
//! was given sequence number zero would be hidden by the tombstone.

use esker_base::{Fragments, RangeTombstone, SeqNo};
use esker_table::TableProperties;

use crate::gc::Readers;

/// The range tombstones of one job.
pub(crate) struct RangeGc {
    readers: Readers,
    /// Those of all inputs, with the sequence numbers that readers can distinguish.
    all: Fragments,
    /// Those that the outputs keep.
    kept: Fragments,
}

impl RangeGc {
    /// Of a job without range tombstones.
    #[cfg(test)]
    pub(crate) fn none(readers: &Readers) -> Self {
        Self::new(Vec::new(), readers, |_, _| true)
    }

    /// From the `tombstones` of all inputs. `may_be_older` says whether an older entry in
    /// `[start, end)` may exist outside the job.
    pub(crate) fn new(
        tombstones: Vec<RangeTombstone>,
        readers: &Readers,
        may_be_older: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Self {
        let all = Fragments::for_readers(tombstones, |seqno| readers.newest_blind(seqno));
        Self::of(all, readers, may_be_older)
    }

    /// From the range tombstones of all inputs, as fragments for `readers`. `may_be_older` is as in
    /// [`RangeGc::new`].
    pub(crate) fn of(
        all: Fragments,
        readers: &Readers,
        may_be_older: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Self {
        let mut kept = Fragments::default();
        for fragment in all.as_slice() {
            let mut seqnos = fragment.seqnos.clone();
            // Only the oldest one can be seen by everybody.
            if seqnos.last().is_some_and(|&oldest| oldest <= readers.oldest())
                && !may_be_older(&fragment.start, &fragment.end)
            {
                seqnos.pop();
            }
            kept.push(&fragment.start, &fragment.end, seqnos);
        }
        Self { readers: readers.clone(), all, kept }
    }

    /// Whether there are no range tombstones.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether nobody needs an entry of `user_key` with this sequence number, because of a range
    /// tombstone.
    pub(crate) fn hides(&self, user_key: &[u8], seqno: SeqNo) -> bool {
        self.all
            .fragment(user_key)
            .and_then(|fragment| fragment.oldest_above(seqno))
            .is_some_and(|newer| !self.readers.tells_apart(seqno, newer))
    }

    /// Whether nobody needs anything of `table`, because of range tombstones in other tables.
    pub(crate) fn hides_table(&self, table: &TableProperties) -> bool {
        hides_table(&self.all, &self.readers, table)
    }

    /// Whether a range tombstone over `user_key` stays.
    pub(crate) fn stays_over(&self, user_key: &[u8]) -> bool {
        self.kept.fragment(user_key).is_some()
    }

    /// Those that stay.
    pub(crate) const fn kept(&self) -> &Fragments {
        &self.kept
    }
}

/// Whether `fragments`, made for `readers`, hide all of `table` from everybody who sees any of it.
pub(crate) fn hides_table(
    fragments: &Fragments,
    readers: &Readers,
    table: &TableProperties,
) -> bool {
    let mut at = table.smallest_key.as_slice();
    // Fragment by fragment, without a gap.
    while let Some(fragment) = fragments.fragment(at) {
        let newer = fragment.oldest_above(table.seqno_max);
        if newer.is_none_or(|newer| readers.tells_apart(table.seqno_min, newer)) {
            return false;
        }
        if fragment.end.is_empty()
            || table.ends_before(&fragment.end)
            || esker_base::planted::is("table-dropped-beyond-the-range")
        {
            return true;
        }
        at = &fragment.end;
    }
    false
}

#[cfg(test)]
mod tests;
