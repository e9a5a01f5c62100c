//! Range tombstones: one deletion of every older entry in `[start, end)`.
//!
//! An empty end means "no end": no key is less than the empty key, so a range up to it would hold
//! nothing, and the empty end is free for this use. This applies in memory and in the log; tables
//! store only real ends.

use std::fmt;

use crate::SeqNo;

/// Hides every older entry whose key lies in `[start, end)`.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The first hidden key.
    pub start: Vec<u8>,
    /// The first key after the range, greater than `start`; empty if the range has no end. May be
    /// one byte longer than a key.
    pub end: Vec<u8>,
    /// Entries with a smaller sequence number are hidden.
    pub seqno: SeqNo,
}

impl RangeTombstone {
    /// Whether `key` lies in the range.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && is_before_end(key, &self.end)
    }
}

impl fmt::Debug for RangeTombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", RangeText(&self.start, &self.end), self.seqno)
    }
}

/// Whether `key` is before the end of a range; an empty end is no end.
#[inline]
#[must_use]
pub fn is_before_end(key: &[u8], end: &[u8]) -> bool {
    end.is_empty() || key < end
}

/// Whether `end`, as the end of a range, is not after `other`.
#[must_use]
pub fn ends_within(end: &[u8], other: &[u8]) -> bool {
    other.is_empty() || (!end.is_empty() && end <= other)
}

/// The earlier of two ends.
#[must_use]
pub fn earlier_end<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    if ends_within(a, b) { a } else { b }
}

/// A half-open range as text: `[a, c)`, or `[a, )` without an end.
pub(crate) struct RangeText<'a>(pub(crate) &'a [u8], pub(crate) &'a [u8]);

impl fmt::Display for RangeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.0.escape_ascii(), self.1.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_end_is_behind_every_other() {
        assert!(is_before_end(b"\xff\xff", b"") && is_before_end(b"", b""));
        assert!(is_before_end(b"a", b"b") && !is_before_end(b"b", b"b"));
        assert!(ends_within(b"a", b"") && !ends_within(b"", b"a") && ends_within(b"", b""));
        assert!(ends_within(b"a", b"a") && !ends_within(b"b", b"a"));
        assert_eq!(earlier_end(b"", b"z"), b"z");
        let seqno = SeqNo::ZERO.plus(7);
        let tombstone = RangeTombstone { start: b"b".to_vec(), end: Vec::new(), seqno };
        assert!(tombstone.covers(b"b") && tombstone.covers(b"\xff") && !tombstone.covers(b"a"));
        assert_eq!(format!("{tombstone:?}"), "[b, )#7");
    }
}
