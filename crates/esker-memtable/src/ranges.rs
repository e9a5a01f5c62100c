//! The range tombstones of a memtable, kept beside the tree, which knows nothing of them.
//!
//! They are kept in two forms. The *list* has every tombstone, in the order of sequence numbers; it
//! serves flushes and readers in the past. The *map* has the newest tombstone over each key, as
//! disjoint pieces; an insert replaces the pieces that it covers and cuts at most two. So an insert
//! costs amortized O(log n), whatever is in the range: removing a piece was paid for by its
//! insertion.
//!
//! A reader asks the map. If nothing covers a key there, nothing ever did; if the newest tombstone
//! over it is one that the reader sees, that is the answer. So tombstones written after a reader's
//! snapshot cost it nothing for keys that they do not cover. If the newest is one that it does not
//! see, it uses the fragments of those that it sees, which are kept for the next reader that sees
//! the same.
//!
//! A memtable without range tombstones has only a count.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_base::sync::{Mutex, PoisonError, RwLock};
use esker_base::{
    Fragments, RangeTombstone, SeqNo, Stretch, earlier_end, ends_within, is_before_end,
};

/// Memory that a tombstone takes besides its keys: its place in the list, two pieces of the map,
/// and allocator overhead.
const OVERHEAD_BYTES: u64 = 256;

/// How many readers in the past can alternate and find their fragments kept; with one more, each
/// has to build them anew. The fragments of each take as much memory as the list.
const KEPT_MAX: usize = 8;

/// The range tombstones of one memtable.
#[derive(Default)]
pub(crate) struct Ranges {
    /// How many there are; stored after the insert. Release pairs with the Acquire in
    /// [`Ranges::count`]. A reader whose sequence number includes a tombstone sees it counted by
    /// the publication of that number anyway.
    count: AtomicU64,
    /// Counter only.
    bytes: AtomicU64,
    /// Locked for writing by the single writer, for one insert at a time. Not held across anything
    /// else.
    inner: RwLock<Inner>,
    /// The last requested fragments, most recent first, each with the number of tombstones, from
    /// the first on, that it was built from; at most [`KEPT_MAX`]. Lock order: after `inner`, and
    /// not held while that is taken.
    fragments: Mutex<Vec<(usize, Arc<Fragments>)>>,
}

#[derive(Default)]
struct Inner {
    /// Ascending by sequence number.
    list: Vec<RangeTombstone>,
    /// By their starts; disjoint.
    map: BTreeMap<Vec<u8>, Piece>,
}

/// Keys from the start, which is its key in the map, to `end`.
struct Piece {
    end: Vec<u8>,
    seqno: SeqNo,
}

impl Ranges {
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sequence numbers ascend, except when a repair reads entries twice, which costs more.
    #[cold]
    pub(crate) fn insert(&self, start: &[u8], end: &[u8], seqno: SeqNo) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let place = inner.list.partition_point(|other| other.seqno < seqno);
        let is_last = place == inner.list.len();
        if !is_last && inner.list[place].seqno == seqno {
            return;
        }
        let tombstone = RangeTombstone { start: start.to_vec(), end: end.to_vec(), seqno };
        inner.list.insert(place, tombstone);
        if is_last {
            inner.cover(start, end, seqno);
        } else {
            inner.cover_all();
            // They were built from a prefix of the list that has changed.
            self.fragments.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let count = inner.list.len() as u64;
        drop(inner);
        let bytes = 3 * (start.len() + end.len()) as u64 + OVERHEAD_BYTES;
        self.bytes.store(self.size_bytes() + bytes, Ordering::Relaxed);
        self.count.store(count, Ordering::Release);
    }

    /// The newest tombstone over `key` that a reader at `snapshot` sees.
    #[cold]
    pub(crate) fn covering(&self, key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        let newest = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            inner.stretch(key).seqno?
        };
        if newest <= snapshot {
            return Some(newest);
        }
        self.fragments(snapshot)?.covering(key, snapshot)
    }

    /// Calls `look` with the stretch of keys around `key` that are covered alike; `None` if a
    /// reader at `snapshot` does not see what covers them.
    pub(crate) fn stretch<R>(
        &self,
        key: &[u8],
        snapshot: SeqNo,
        look: impl FnOnce(Stretch<'_>) -> R,
    ) -> Option<R> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let stretch = inner.stretch(key);
        stretch.seqno.is_none_or(|newest| newest <= snapshot).then(|| look(stretch))
    }

    /// The fragments of the tombstones up to `snapshot`, each with only the newest; `None` if there
    /// is no such tombstone.
    pub(crate) fn fragments(&self, snapshot: SeqNo) -> Option<Arc<Fragments>> {
        let visible = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            inner.list.partition_point(|tombstone| tombstone.seqno <= snapshot)
        };
        if visible == 0 {
            return None;
        }
        if let Some(kept) = self.kept_fragments(visible) {
            return Some(kept);
        }
        let made = Arc::new(Fragments::for_readers(self.list(visible), |_| None));
        let mut kept = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT_MAX - 1);
        kept.insert(0, (visible, Arc::clone(&made)));
        Some(made)
    }

    /// The fragments of the first `count` tombstones, if they are kept; marks them as the most
    /// recent.
    fn kept_fragments(&self, count: usize) -> Option<Arc<Fragments>> {
        let mut kept = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(of, _)| *of == count)?;
        kept[..=place].rotate_right(1);
        Some(Arc::clone(&kept[0].1))
    }

    /// The first `count` tombstones, oldest first.
    pub(crate) fn list(&self, count: usize) -> Vec<RangeTombstone> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.list.iter().take(count).cloned().collect()
    }

    /// The smallest and the largest sequence number; `None` if there is no tombstone.
    pub(crate) fn seqno_range(&self) -> Option<(SeqNo, SeqNo)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        Some((inner.list.first()?.seqno, inner.list.last()?.seqno))
    }
}

impl Inner {
    /// The piece around `key`, or the gap that it is in.
    fn stretch(&self, key: &[u8]) -> Stretch<'_> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let before = self.map.range::<[u8], _>(upto).next_back();
        if let Some((start, piece)) = before
            && is_before_end(key, &piece.end)
        {
            return Stretch { start, end: &piece.end, seqno: Some(piece.seqno) };
        }
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        let next = self.map.range::<[u8], _>(behind).next();
        Stretch {
            start: before.map_or(b"", |(_, piece)| &piece.end),
            end: next.map_or(b"", |(start, _)| start),
            seqno: None,
        }
    }

    /// Rebuilds the map.
    fn cover_all(&mut self) {
        self.map.clear();
        for RangeTombstone { start, end, seqno } in self.list.clone() {
            self.cover(&start, &end, seqno);
        }
    }

    /// Inserts a piece that is newer than all others into the map, in place of what it covers.
    fn cover(&mut self, start: &[u8], end: &[u8], seqno: SeqNo) {
        if !is_before_end(start, end) {
            return;
        }
        let before = (Bound::Unbounded, Bound::Excluded(start));
        if let Some((_, piece)) = self.map.range_mut::<[u8], _>(before).next_back()
            && is_before_end(start, &piece.end)
        {
            let rest = std::mem::replace(&mut piece.end, start.to_vec());
            let older = piece.seqno;
            self.keep_rest(end, rest, older);
        }
        loop {
            let inside = (Bound::Included(start), Bound::Unbounded);
            let Some((first, _)) = self.map.range::<[u8], _>(inside).next() else { break };
            if !is_before_end(first, end) {
                break;
            }
            let first = first.clone();
            if let Some(piece) = self.map.remove(&first) {
                self.keep_rest(end, piece.end, piece.seqno);
            }
        }
        self.map.insert(start.to_vec(), Piece { end: end.to_vec(), seqno });
    }

    /// Keeps the part after `end` of a piece that ends at `rest`.
    fn keep_rest(&mut self, end: &[u8], rest: Vec<u8>, seqno: SeqNo) {
        if !ends_within(&rest, end) {
            debug_assert!(earlier_end(&rest, end) == end, "the rest starts at the end");
            self.map.insert(end.to_vec(), Piece { end: rest, seqno });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqno(number: u64) -> SeqNo {
        SeqNo::new(number).unwrap()
    }

    fn owned(stretch: Stretch<'_>) -> (Vec<u8>, Vec<u8>, Option<SeqNo>) {
        (stretch.start.to_vec(), stretch.end.to_vec(), stretch.seqno)
    }

    #[test]
    fn random_ranges_cover_what_the_list_covers_at_every_snapshot() {
        let mut word = 7_u64;
        let mut random = |below: u64| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (word >> 33) % below
        };
        for _ in 0..40 {
            let ranges = Ranges::default();
            let mut list: Vec<RangeTombstone> = Vec::new();
            for number in 1..30 {
                let (start, end) = (random(12) as u8, random(14) as u8);
                let end = if end > 12 { Vec::new() } else { vec![end] };
                ranges.insert(&[start], &end, seqno(2 * number));
                list.push(RangeTombstone { start: vec![start], end, seqno: seqno(2 * number) });
                let snapshot = seqno(random(2 * number + 3));
                for (key, at) in (0..14_u8).flat_map(|key| [(key, snapshot), (key, SeqNo::MAX)]) {
                    let visible = list.iter().filter(|t| t.seqno <= at && t.covers(&[key]));
                    let expected = visible.map(|t| t.seqno).max();
                    assert_eq!(ranges.covering(&[key], at), expected, "{key} {at} {list:?}");
                    let fragments = ranges.fragments(at);
                    let found = fragments.and_then(|fragments| fragments.covering(&[key], at));
                    assert_eq!(found, expected);
                    let Some((start, end, seqno)) = ranges.stretch(&[key], at, owned) else {
                        assert!(list.iter().any(|t| at < t.seqno && t.covers(&[key])));
                        continue;
                    };
                    assert!(start.as_slice() <= &[key] && is_before_end(&[key], &end));
                    let inside = |o: &u8| start.as_slice() <= &[*o] && is_before_end(&[*o], &end);
                    for other in (0..14).filter(inside) {
                        assert_eq!(ranges.covering(&[other], at), seqno, "{key} {other} {list:?}");
                    }
                    assert_eq!(seqno, expected);
                }
            }
            assert_eq!(ranges.count(), 29);
            assert_eq!(ranges.seqno_range(), Some((seqno(2), seqno(58))));
        }
    }

    #[test]
    fn numbers_may_come_in_any_order_and_twice() {
        let ranges = Ranges::default();
        ranges.insert(b"a", b"d", seqno(6));
        assert_eq!(ranges.fragments(SeqNo::MAX).unwrap().as_slice().len(), 1);
        ranges.insert(b"c", b"f", seqno(3));
        ranges.insert(b"c", b"f", seqno(3));
        assert_eq!(ranges.count(), 2);
        assert_eq!(ranges.covering(b"c", SeqNo::MAX), Some(seqno(6)));
        assert_eq!(ranges.covering(b"e", SeqNo::MAX), Some(seqno(3)));
        assert_eq!(ranges.covering(b"c", seqno(5)), Some(seqno(3)));
    }

    #[test]
    fn fragments_are_made_once_for_readers_that_see_the_same() {
        let ranges = Ranges::default();
        assert!(ranges.fragments(SeqNo::MAX).is_none());
        ranges.insert(b"a", b"c", seqno(3));
        ranges.insert(b"b", b"d", seqno(6));
        assert!(ranges.fragments(seqno(2)).is_none());
        let first = ranges.fragments(seqno(7)).unwrap();
        assert!(Arc::ptr_eq(&first, &ranges.fragments(seqno(9)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &ranges.fragments(seqno(5)).unwrap()));
    }

    /// Two readers in the past who read by turns had all tombstones sorted for each read.
    #[test]
    fn fragments_are_made_once_for_readers_that_read_by_turns() {
        let ranges = Ranges::default();
        for number in 1..20 {
            ranges.insert(b"a", b"c", seqno(number));
        }
        let readers = || (1..=KEPT_MAX as u64).map(seqno);
        let first: Vec<_> = readers().map(|at| ranges.fragments(at).unwrap()).collect();
        for (at, first) in readers().zip(&first) {
            assert!(Arc::ptr_eq(first, &ranges.fragments(at).unwrap()), "{at}");
        }
        let last = ranges.fragments(seqno(15)).unwrap();
        assert_eq!(last.covering(b"b", SeqNo::MAX), Some(seqno(15)));
        assert_eq!(ranges.fragments.lock().unwrap().len(), KEPT_MAX);
        assert!(!Arc::ptr_eq(&first[0], &ranges.fragments(seqno(1)).unwrap()), "the oldest goes");
        ranges.insert(b"a", b"c", seqno(20));
        assert!(Arc::ptr_eq(&last, &ranges.fragments(seqno(15)).unwrap()));
    }

    #[test]
    fn only_readers_whose_tombstones_are_hidden_by_newer_ones_have_fragments_made() {
        // Each cursor, and each get beside a write, sorted all tombstones of the memtable: reads
        // between deletes of ranges took the square of their number.
        let ranges = Ranges::default();
        ranges.insert(b"a", b"c", seqno(3));
        ranges.insert(b"m", b"p", seqno(6));
        let kept = || ranges.fragments.lock().unwrap().len();
        let gap = |start: &[u8], end: &[u8]| Some((start.to_vec(), end.to_vec(), None));
        for at in [seqno(3), seqno(6), SeqNo::MAX] {
            assert_eq!(ranges.covering(b"b", at), Some(seqno(3)));
            assert_eq!(ranges.covering(b"d", at), None);
            assert_eq!(ranges.stretch(b"d", at, owned), gap(b"c", b"m"));
        }
        assert_eq!(ranges.stretch(b"A", seqno(1), owned), gap(b"", b"a"));
        assert_eq!(ranges.stretch(b"z", seqno(1), owned), gap(b"p", b""));
        assert_eq!(kept(), 0, "nobody had to");
        assert_eq!(ranges.stretch(b"n", seqno(5), owned), None);
        assert_eq!(ranges.covering(b"n", seqno(5)), None);
        assert_eq!(kept(), 1);
    }

    #[test]
    fn nested_ranges_take_memory_by_their_number() {
        let ranges = Ranges::default();
        for number in 1..=2000_u64 {
            ranges.insert(b"", format!("{number:05}").as_bytes(), seqno(number));
        }
        assert_eq!(ranges.inner.read().unwrap().map.len(), 1);
        assert_eq!(ranges.fragments(SeqNo::MAX).unwrap().as_slice().len(), 1);
    }
}
