//! Ranges of user keys.

use std::ops::{Bound, RangeBounds};

/// An owned range of user keys, with a bound at either end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// Where the range starts.
    pub start: Bound<Vec<u8>>,
    /// Where the range ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Copies any Rust range of byte strings.
    #[must_use]
    pub fn from_bounds<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Self {
        let own = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        Self { start: own(range.start_bound()), end: own(range.end_bound()) }
    }

    /// Exactly the keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let end = prefix_successor(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(prefix.to_vec()), end }
    }

    /// Whether `key` lies inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.starts_after(key) && !self.ends_before(key)
    }

    /// Whether the range holds a key of `first..=last`.
    #[must_use]
    pub fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        !self.starts_after(last) && !self.ends_before(first)
    }

    /// Whether every key of the range is greater than `key`.
    #[must_use]
    pub fn starts_after(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => key < start.as_slice(),
            Bound::Excluded(start) => key <= start.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// Whether every key of the range is less than `key`.
    #[must_use]
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Excluded(end) if crate::planted::is("range-holds-its-end") => {
                end.as_slice() < key
            }
            Bound::Included(end) => end.as_slice() < key,
            Bound::Excluded(end) => end.as_slice() <= key,
            Bound::Unbounded => false,
        }
    }

    /// Whether no key can lie inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => end < start,
            (Bound::Included(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => end <= start,
            // The successor of `start` is `start` with a zero byte appended; nothing is in between.
            (Bound::Excluded(start), Bound::Excluded(end)) => {
                end <= start
                    || (end.len() == start.len() + 1
                        && end.starts_with(start)
                        && end.ends_with(&[0]))
            }
            (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
            _ => false,
        }
    }
}

/// The smallest key greater than every key that starts with `prefix`; `None` if there is none.
fn prefix_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut successor = prefix[..=kept].to_vec();
    successor[kept] += 1;
    Some(successor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_of_all_ones_has_no_end() {
        assert_eq!(KeyRange::prefix(b"\xff\xff").end, Bound::Unbounded);
        assert_eq!(KeyRange::prefix(b"a\xff").end, Bound::Excluded(b"b".to_vec()));
        assert_eq!(
            KeyRange::prefix(b""),
            KeyRange { start: Bound::Included(vec![]), end: Bound::Unbounded }
        );
    }

    #[test]
    fn prefix_holds_exactly_its_keys() {
        let range = KeyRange::prefix(b"ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff"));
        assert!(!range.contains(b"aa\xff") && !range.contains(b"ac"));
    }

    #[test]
    fn overlap_counts_both_ends() {
        let range = KeyRange::from_bounds(&(b"c".as_slice()..b"f".as_slice()));
        assert!(range.overlaps(b"a", b"c") && range.overlaps(b"e", b"z"));
        assert!(!range.overlaps(b"f", b"z") && !range.overlaps(b"a", b"b"));
    }

    #[test]
    fn emptiness_of_each_kind_of_bound() {
        let key = |s: &str| s.as_bytes().to_vec();
        let range = |start, end| KeyRange { start, end };
        use Bound::{Excluded, Included, Unbounded};
        assert!(range(Included(key("b")), Excluded(key("b"))).is_empty());
        assert!(!range(Included(key("b")), Included(key("b"))).is_empty());
        assert!(range(Excluded(key("b")), Excluded(key("b\0"))).is_empty());
        assert!(!range(Excluded(key("b")), Excluded(key("b\0\0"))).is_empty());
        assert!(range(Unbounded, Excluded(key(""))).is_empty());
        assert!(!range(Unbounded, Unbounded).is_empty());
    }
}
