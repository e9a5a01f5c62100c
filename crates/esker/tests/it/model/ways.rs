//! Every way to read a range of keys, of a keyspace as it is or as a snapshot sees it.
//!
//! Which one is chosen takes nothing from the choices of the run: those of a seed stay what they are.

use std::collections::VecDeque;

use esker::{Cursor, Keyspace, Result, Scan, SnapshotView};

use crate::random::Rng;
use crate::state::{Bounds, Bytes, Turn};

use super::readers::OpenCursor;

/// Who reads.
pub(super) enum Reader<'a> {
    Now(&'a Keyspace),
    Then(&'a SnapshotView),
}

/// What a reader should find: all of its keyspace, in order.
pub(super) struct Expected {
    pub(super) entries: Vec<(Bytes, Bytes)>,
    pub(super) turn: Turn,
    /// Where, for a failure.
    pub(super) what: String,
}

impl Reader<'_> {
    fn scan(&self, bounds: Bounds) -> Scan {
        match self {
            Self::Now(keyspace) => keyspace.scan(bounds),
            Self::Then(view) => view.scan(bounds),
        }
    }

    fn prefix(&self, prefix: &[u8]) -> Scan {
        match self {
            Self::Now(keyspace) => keyspace.prefix(prefix),
            Self::Then(view) => view.prefix(prefix),
        }
    }

    fn cursor_in(&self, bounds: Bounds) -> Result<Cursor> {
        match self {
            Self::Now(keyspace) => keyspace.cursor_in(bounds),
            Self::Then(view) => view.cursor_in(bounds),
        }
    }

    /// Reads in some way, and checks what comes of it.
    pub(super) fn check(&self, mut rng: Rng, expected: &Expected) {
        let bounds = if rng.one_in(3) { rng.range_to_delete() } else { rng.bounds() };
        let what = &format!("{}, {bounds:?}", expected.what);
        match rng.below(6) {
            0 => take(&mut rng, self.scan(bounds.clone()).keys(), expected.keys(&bounds), what),
            1 => take(&mut rng, self.scan(bounds.clone()).values(), expected.values(&bounds), what),
            2 => self.check_prefix(&mut rng, expected),
            3 => self.walk(&mut rng, bounds, expected),
            4 => self.check_keys(&mut rng, expected),
            _ => self.check_figures(&mut rng, bounds, expected),
        }
    }

    fn check_prefix(&self, rng: &mut Rng, expected: &Expected) {
        let key = rng.key();
        let prefix = &key[..rng.index(key.len() + 1)];
        let what = &format!("{}, prefix {}", expected.what, prefix.escape_ascii());
        let keys = expected.entries.iter().map(|(key, _)| key.clone());
        take(rng, self.prefix(prefix).keys(), keys.filter(|key| key.starts_with(prefix)), what);
    }

    fn walk(&self, rng: &mut Rng, bounds: Bounds, expected: &Expected) {
        let entries = expected.between(&bounds);
        let cursor = self.cursor_in(bounds).unwrap();
        let shows_keys_only = rng.one_in(2);
        let cursor = if shows_keys_only { cursor.keys_only() } else { cursor };
        let what = expected.what.clone();
        let mut open = OpenCursor::new(what, cursor, entries, expected.turn);
        open.shows_keys_only = shows_keys_only;
        (0..30).for_each(|_| open.step(rng));
    }

    fn check_keys(&self, rng: &mut Rng, expected: &Expected) {
        let keys: Vec<_> = (0..rng.below(12)).map(|_| rng.key()).collect();
        let own = |key: &Vec<u8>| {
            let entry = expected.entries.iter().find(|(other, _)| **other == **key);
            entry.map(|(_, value)| value.to_vec())
        };
        let wanted: Vec<_> = keys.iter().map(own).collect();
        let (all, each, there): (_, Vec<_>, Vec<_>) = match self {
            Self::Now(keyspace) => (
                keyspace.multi_get(&keys).unwrap(),
                keys.iter().map(|key| keyspace.get_with(key, <[u8]>::to_vec).unwrap()).collect(),
                keys.iter().map(|key| keyspace.contains(key).unwrap()).collect(),
            ),
            Self::Then(view) => (
                view.multi_get(&keys).unwrap(),
                keys.iter().map(|key| view.get_with(key, <[u8]>::to_vec).unwrap()).collect(),
                keys.iter().map(|key| view.contains(key).unwrap()).collect(),
            ),
        };
        let what = &expected.what;
        assert!(all.iter().map(Option::as_deref).eq(wanted.iter().map(Option::as_deref)), "{what}");
        assert!(each == wanted, "{what}");
        assert!(there.into_iter().eq(wanted.iter().map(Option::is_some)), "{what}");
    }

    /// What is said of a range, of a keyspace as it is.
    fn check_figures(&self, rng: &mut Rng, bounds: Bounds, expected: &Expected) {
        let Self::Now(keyspace) = self else { return self.walk(rng, bounds, expected) };
        let count = expected.between(&bounds).len() as u64;
        let limit = rng.one_in(2).then(|| rng.below(20));
        let explained = keyspace.explain_scan(bounds.clone(), limit).unwrap();
        let what = &expected.what;
        assert_eq!(explained.entry_count, count.min(limit.unwrap_or(count)), "{what}, {bounds:?}");
        keyspace.approximate_bytes(bounds).unwrap();
    }
}

impl Expected {
    fn between(&self, bounds: &Bounds) -> Vec<(Bytes, Bytes)> {
        let contents = self.entries.iter().cloned().collect();
        crate::state::between(&contents, bounds, self.turn)
    }

    fn keys(&self, bounds: &Bounds) -> impl Iterator<Item = Bytes> {
        self.between(bounds).into_iter().map(|(key, _)| key)
    }

    fn values(&self, bounds: &Bounds) -> impl Iterator<Item = Bytes> {
        self.between(bounds).into_iter().map(|(_, value)| value)
    }
}

/// Takes all that there is, from either end.
fn take(
    rng: &mut Rng,
    mut found: impl DoubleEndedIterator<Item = Result<esker::Bytes>>,
    expected: impl Iterator<Item = Bytes>,
    what: &str,
) {
    let mut rest: VecDeque<_> = expected.collect();
    loop {
        let (found, expected) = match rng.one_in(3) {
            true => (found.next_back(), rest.pop_back()),
            false => (found.next(), rest.pop_front()),
        };
        let found = found.transpose().unwrap();
        assert!(
            found.as_deref() == expected.as_deref(),
            "{what}: {:?}, not {:?}",
            found.map(|bytes| bytes.escape_ascii().to_string()),
            expected.map(|bytes| bytes.escape_ascii().to_string())
        );
        if expected.is_none() {
            break;
        }
    }
}
