//! A range that a user wants deleted, in the form of a range tombstone.
//!
//! A range tombstone includes its start and excludes its end; an empty end is no end. All other
//! kinds of bounds are converted to this form exactly, without exceeding the length limit of keys.

use std::borrow::Cow;
use std::ops::{Bound, RangeBounds};

use esker_base::{KeyRange, limits};

use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::operation::check_key;

/// Stored keys from `start` to `end`, exclusive; `end` is empty if there is no end.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct DeletedRange {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl DeletedRange {
    /// The stored keys of `range`; `None` if no key can lie inside.
    ///
    /// # Errors
    /// `InvalidInput` if a bound is too long for a key, if the range ends before it starts, or if
    /// the order of the keyspace is not known.
    pub(crate) fn of<K: AsRef<[u8]>>(
        keyspace: &KeyspaceCore,
        range: &impl RangeBounds<K>,
    ) -> Result<Option<Self>> {
        Self::of_bounds(range, |key| keyspace.stored_key(key).map(Cow::into_owned))
    }

    /// As [`DeletedRange::of`], where `stored` gives the stored key of a key.
    ///
    /// # Errors
    /// `InvalidInput` if the range ends before it starts; those of `stored`.
    pub(crate) fn of_bounds<K: AsRef<[u8]>>(
        range: &impl RangeBounds<K>,
        stored: impl Fn(&[u8]) -> Result<Vec<u8>>,
    ) -> Result<Option<Self>> {
        let stored = |bound: Bound<&K>| -> Result<Bound<Vec<u8>>> {
            Ok(match bound {
                Bound::Included(key) => Bound::Included(stored(key.as_ref())?),
                Bound::Excluded(key) => Bound::Excluded(stored(key.as_ref())?),
                Bound::Unbounded => Bound::Unbounded,
            })
        };
        Self::of_stored(KeyRange {
            start: stored(range.start_bound())?,
            end: stored(range.end_bound())?,
        })
    }

    fn of_stored(range: KeyRange) -> Result<Option<Self>> {
        use Bound::{Excluded, Included, Unbounded};
        if let (Included(start) | Excluded(start), Included(end) | Excluded(end)) =
            (&range.start, &range.end)
            && end < start
        {
            return Err(Error::invalid_input("the range to delete ends before it starts"));
        }
        if range.is_empty() {
            return Ok(None);
        }
        let start = match range.start {
            Unbounded => Some(Vec::new()),
            Included(start) => Some(start),
            Excluded(start) => successor(start),
        };
        let end = match range.end {
            // Nothing lies before the empty key: the range was empty.
            Excluded(end) => end,
            Included(end) => successor(end).unwrap_or_default(),
            Unbounded => Vec::new(),
        };
        let Some(start) = start else { return Ok(None) };
        debug_assert!(check_key(&start).is_ok() && check_key(&end).is_ok());
        Ok(esker_base::is_before_end(&start, &end).then_some(Self { start, end }))
    }
}

/// The first key after `key`; `None` if there is none.
fn successor(mut key: Vec<u8>) -> Option<Vec<u8>> {
    if key.len() < limits::KEY_LEN_MAX {
        key.push(0);
        return Some(key);
    }
    // No longer key starts with this one.
    match KeyRange::prefix(&key).end {
        Bound::Excluded(end) => Some(end),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        let range = KeyRange { start: start.map(<[u8]>::to_vec), end: end.map(<[u8]>::to_vec) };
        DeletedRange::of_stored(range).unwrap().map(|range| (range.start, range.end))
    }

    fn ends(start: &[u8], end: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((start.to_vec(), end.to_vec()))
    }

    #[test]
    fn every_sort_of_bound_becomes_a_start_and_an_end() {
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(stored(Included(b"a"), Excluded(b"c")), ends(b"a", b"c"));
        assert_eq!(stored(Excluded(b"a"), Included(b"c")), ends(b"a\0", b"c\0"));
        assert_eq!(stored(Unbounded, Unbounded), ends(b"", b""));
        assert_eq!(stored(Unbounded, Included(b"")), ends(b"", b"\0"));
        assert_eq!(stored(Included(b"a"), Included(b"a")), ends(b"a", b"a\0"));
        assert_eq!(stored(Included(b"a"), Excluded(b"a")), None);
        assert_eq!(stored(Excluded(b"a"), Excluded(b"a\0")), None);
        assert_eq!(stored(Unbounded, Excluded(b"")), None);
    }

    #[test]
    fn keys_of_the_greatest_length_have_successors_that_are_no_longer() {
        use Bound::{Excluded, Included, Unbounded};
        let longest = vec![b'k'; limits::KEY_LEN_MAX];
        let mut next = longest.clone();
        *next.last_mut().unwrap() += 1;
        assert_eq!(stored(Excluded(&longest), Unbounded), ends(&next, b""));
        assert_eq!(stored(Unbounded, Included(&longest)), ends(b"", &next));
        let last = vec![0xff; limits::KEY_LEN_MAX];
        assert_eq!(stored(Excluded(&last), Unbounded), None);
        assert_eq!(stored(Included(&last), Included(&last)), ends(&last, b""));
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_refused() {
        let range =
            KeyRange { start: Bound::Included(b"b".to_vec()), end: Bound::Excluded(b"a".to_vec()) };
        let error = DeletedRange::of_stored(range).unwrap_err();
        assert_eq!(error.to_string(), "the range to delete ends before it starts");
    }
}
