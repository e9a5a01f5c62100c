//! Fragments: range tombstones cut at each other's ends, so that one binary search suffices.
//!
//! However they overlap, tombstones are cut into disjoint fragments, each with the sequence numbers
//! of the tombstones that cover it, newest first. Pure: the same tombstones in any order give the
//! same fragments. The caller names the readers, which decide which sequence numbers of a fragment
//! are needed; otherwise nested tombstones would take space quadratic in their number.

use std::collections::BTreeMap;
use std::fmt;

use crate::SeqNo;
use crate::range_tombstone::{RangeText, RangeTombstone, earlier_end, is_before_end};

/// A range of keys that is covered by the same tombstones everywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key after it; empty if there is no end.
    pub end: Vec<u8>,
    /// Those of the tombstones that cover it; descending, at least one.
    pub seqnos: Vec<SeqNo>,
}

/// Disjoint fragments, ascending.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fragments {
    fragments: Vec<Fragment>,
}

/// A stretch of keys around one key that one source of tombstones covers alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch<'a> {
    /// The first of the keys.
    pub start: &'a [u8],
    /// The first key after them; empty if there is none.
    pub end: &'a [u8],
    /// The newest tombstone over them that the reader sees.
    pub seqno: Option<SeqNo>,
}

impl Fragment {
    /// The newest tombstone over the fragment that a reader at `snapshot` sees.
    #[inline]
    #[must_use]
    pub fn newest(&self, snapshot: SeqNo) -> Option<SeqNo> {
        self.seqnos.get(self.seqnos.partition_point(|&one| one > snapshot)).copied()
    }

    /// The oldest tombstone over the fragment that is newer than `seqno`.
    #[must_use]
    pub fn oldest_above(&self, seqno: SeqNo) -> Option<SeqNo> {
        let newer = self.seqnos.partition_point(|&one| one > seqno);
        newer.checked_sub(1).map(|last| self.seqnos[last])
    }
}

impl Fragments {
    /// The fragments of `tombstones`, all sequence numbers kept.
    #[must_use]
    pub fn of(tombstones: Vec<RangeTombstone>) -> Self {
        Self::for_readers(tombstones, |seqno| seqno.get().checked_sub(1).and_then(SeqNo::new))
    }

    /// The fragments of `tombstones`, with only the sequence numbers that some reader needs.
    /// `newest_blind` returns the newest reader that does not see a given sequence number, or
    /// `None` if all see it; the next older number that matters is one that this reader sees.
    ///
    /// # Cost
    /// Sorts the ends; for each fragment one search for each of its sequence numbers.
    #[must_use]
    pub fn for_readers(
        mut tombstones: Vec<RangeTombstone>,
        newest_blind: impl Fn(SeqNo) -> Option<SeqNo>,
    ) -> Self {
        tombstones.retain(|tombstone| is_before_end(&tombstone.start, &tombstone.end));
        tombstones.sort_by(|a, b| a.start.cmp(&b.start));
        let ends = tombstones.iter().map(|tombstone| tombstone.end.as_slice());
        let starts = tombstones.iter().map(|tombstone| tombstone.start.as_slice());
        let mut places: Vec<&[u8]> = starts.chain(ends.filter(|end| !end.is_empty())).collect();
        places.sort_unstable();
        places.dedup();
        let mut by_end: Vec<&RangeTombstone> =
            tombstones.iter().filter(|tombstone| !tombstone.end.is_empty()).collect();
        by_end.sort_by(|a, b| a.end.cmp(&b.end));

        let mut found = Self::default();
        let (mut starting, mut ending) = (tombstones.as_slice(), by_end.as_slice());
        // How many tombstones of each number cover the place: pieces of one may overlap.
        let mut active: BTreeMap<SeqNo, usize> = BTreeMap::new();
        for (index, &place) in places.iter().enumerate() {
            while let Some((first, rest)) = ending.split_first().filter(|(t, _)| t.end == place) {
                ending = rest;
                if let Some(count) = active.get_mut(&first.seqno) {
                    *count -= 1;
                    if *count == 0 {
                        active.remove(&first.seqno);
                    }
                }
            }
            while let Some((first, rest)) = starting.split_first().filter(|(t, _)| t.start == place)
            {
                starting = rest;
                *active.entry(first.seqno).or_default() += 1;
            }
            let mut seqnos = Vec::new();
            let mut newest = active.keys().next_back().copied();
            while let Some(seqno) = newest {
                seqnos.push(seqno);
                let below = newest_blind(seqno);
                newest = below.and_then(|reader| active.range(..=reader).next_back()).map(|e| *e.0);
            }
            found.push(place, places.get(index + 1).copied().unwrap_or_default(), seqnos);
        }
        found
    }

    /// The fragments of several sources that are fragments already: the result of
    /// [`Fragments::for_readers`] for all their tombstones, but without expanding each fragment to
    /// one tombstone per sequence number. With many readers, nested tombstones would expand to the
    /// square of their number.
    ///
    /// # Cost
    /// Sorts the ends; for each resulting fragment and each of its sequence numbers, one search in
    /// each source that covers it.
    #[must_use]
    pub fn merged<'a>(
        sources: impl IntoIterator<Item = &'a Fragment>,
        newest_blind: impl Fn(SeqNo) -> Option<SeqNo>,
    ) -> Self {
        let mut all: Vec<&Fragment> = sources.into_iter().collect();
        all.sort_by(|a, b| a.start.cmp(&b.start));
        let ends = all.iter().map(|fragment| fragment.end.as_slice());
        let starts = all.iter().map(|fragment| fragment.start.as_slice());
        let mut places: Vec<&[u8]> = starts.chain(ends.filter(|end| !end.is_empty())).collect();
        places.sort_unstable();
        places.dedup();
        let mut found = Self::default();
        let mut starting = all.as_slice();
        // At most one of each source.
        let mut active: Vec<&Fragment> = Vec::new();
        for (index, &place) in places.iter().enumerate() {
            active.retain(|fragment| is_before_end(place, &fragment.end));
            while let Some((first, rest)) = starting.split_first().filter(|(f, _)| f.start == place)
            {
                starting = rest;
                active.push(first);
            }
            let newest_at = |reader| active.iter().filter_map(|one| one.newest(reader)).max();
            let mut seqnos = Vec::new();
            let mut newest = newest_at(SeqNo::MAX);
            while let Some(seqno) = newest {
                seqnos.push(seqno);
                newest = newest_blind(seqno).and_then(newest_at);
            }
            found.push(place, places.get(index + 1).copied().unwrap_or_default(), seqnos);
        }
        found
    }

    /// Appends a fragment after all others, or extends the last one if it continues that. Does
    /// nothing if `seqnos` is empty.
    ///
    /// # Panics
    /// If it does not come after all others.
    pub fn push(&mut self, start: &[u8], end: &[u8], seqnos: Vec<SeqNo>) {
        if seqnos.is_empty() {
            return;
        }
        if let Some(last) = self.fragments.last_mut() {
            let is_behind = !last.end.is_empty() && last.end.as_slice() <= start;
            assert!(is_behind, "fragments ascend and are disjoint");
            if last.end == start && last.seqnos == seqnos {
                last.end = end.to_vec();
                return;
            }
        }
        self.fragments.push(Fragment { start: start.to_vec(), end: end.to_vec(), seqnos });
    }

    /// The same ranges, all with sequence number `seqno`.
    #[must_use]
    pub fn at(&self, seqno: SeqNo) -> Self {
        let mut all = Self::default();
        for fragment in &self.fragments {
            all.push(&fragment.start, &fragment.end, vec![seqno]);
        }
        all
    }

    /// The fragments, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Fragment] {
        &self.fragments
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The newest tombstone over `key` that a reader at `snapshot` sees.
    ///
    /// # Cost
    /// A binary search.
    #[inline]
    #[must_use]
    pub fn covering(&self, key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        self.fragment(key)?.newest(snapshot)
    }

    /// The fragment that `key` lies in.
    #[inline]
    #[must_use]
    pub fn fragment(&self, key: &[u8]) -> Option<&Fragment> {
        let fragment = self.fragments.get(self.place(key))?;
        (fragment.start.as_slice() <= key).then_some(fragment)
    }

    /// The fragment around `key`, or the gap that it is in.
    #[must_use]
    pub fn stretch(&self, key: &[u8], snapshot: SeqNo) -> Stretch<'_> {
        let place = self.place(key);
        let next = self.fragments.get(place);
        if let Some(fragment) = next.filter(|fragment| fragment.start.as_slice() <= key) {
            let seqno = fragment.newest(snapshot);
            return Stretch { start: &fragment.start, end: &fragment.end, seqno };
        }
        let before = place.checked_sub(1).map(|before| &self.fragments[before]);
        Stretch {
            start: before.map_or(b"", |before| &before.end),
            end: next.map_or(b"", |next| &next.start),
            seqno: None,
        }
    }

    /// The fragments that hold a key of `[start, end)`, uncut.
    #[must_use]
    pub fn overlapping(&self, start: &[u8], end: &[u8]) -> &[Fragment] {
        let first = self.place(start);
        let rest = &self.fragments[first..];
        &rest[..rest.partition_point(|fragment| is_before_end(&fragment.start, end))]
    }

    /// The part of the fragments with keys of `[start, end)`.
    #[must_use]
    pub fn clipped(&self, start: &[u8], end: &[u8]) -> Self {
        let mut clipped = Self::default();
        for fragment in self.overlapping(start, end) {
            let first = fragment.start.as_slice().max(start);
            let last = earlier_end(&fragment.end, end);
            if is_before_end(first, last) {
                clipped.push(first, last, fragment.seqnos.clone());
            }
        }
        clipped
    }

    /// The fragments as tombstones, which have the same fragments.
    pub fn tombstones(&self) -> impl Iterator<Item = RangeTombstone> {
        self.fragments.iter().flat_map(|fragment| {
            fragment.seqnos.iter().map(|&seqno| RangeTombstone {
                start: fragment.start.clone(),
                end: fragment.end.clone(),
                seqno,
            })
        })
    }

    /// Bytes of memory that the fragments take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let one = |fragment: &Fragment| {
            let keys = fragment.start.capacity() + fragment.end.capacity();
            size_of::<Fragment>() + keys + fragment.seqnos.capacity() * size_of::<SeqNo>()
        };
        size_of::<Self>() + self.fragments.iter().map(one).sum::<usize>()
    }

    /// The index of the first fragment that does not end before `key`.
    #[inline]
    fn place(&self, key: &[u8]) -> usize {
        self.fragments.partition_point(|fragment| !is_before_end(key, &fragment.end))
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", RangeText(&self.start, &self.end))?;
        self.seqnos.iter().try_for_each(|seqno| write!(f, " {seqno:?}"))
    }
}

impl fmt::Debug for Fragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.fragments).finish()
    }
}

#[cfg(test)]
mod tests;
