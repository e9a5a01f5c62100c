//! Scans and cursors that stay open while the database changes under them.

use std::collections::VecDeque;
use std::ops::Bound;

use esker::{Cursor, Db, Keyspace, Scan};

use crate::random::Rng;
use crate::state::{Bounds, Bytes, State, Turn};

/// Readers that are open, each with what it should find.
#[derive(Default)]
pub(super) struct Readers {
    scans: Vec<OpenScan>,
    cursors: Vec<OpenCursor>,
}

struct OpenScan {
    keyspace: String,
    scan: Scan,
    rest: VecDeque<(Bytes, Bytes)>,
}

pub(super) struct OpenCursor {
    keyspace: String,
    cursor: Cursor,
    entries: Vec<(Bytes, Bytes)>,
    /// The range of one that is not of a snapshot.
    bounds: Option<Bounds>,
    turn: Turn,
    /// Whether a value may be shown as an empty one.
    pub(super) shows_keys_only: bool,
    /// Where the cursor stands.
    at: Option<usize>,
}

/// Most readers of each kind.
const COUNT_MAX: usize = 3;

impl Readers {
    pub(super) fn clear(&mut self) {
        self.scans.clear();
        self.cursors.clear();
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let scans = self.scans.iter_mut().map(|open| &mut open.keyspace);
        let names = scans.chain(self.cursors.iter_mut().map(|open| &mut open.keyspace));
        names.filter(|name| *name == from).for_each(|name| to.clone_into(name));
    }

    /// The keyspace of that name is no more.
    pub(super) fn forget(&mut self, keyspace: &str) {
        self.scans.retain(|open| open.keyspace != keyspace);
        self.cursors.retain(|open| open.keyspace != keyspace);
    }

    /// Opens a reader on `keyspace`, or lets one that is open do a few steps.
    pub(super) fn work(&mut self, rng: &mut Rng, db: &Db, keyspace: &Keyspace, model: &State) {
        let name = keyspace.name();
        if rng.one_in(2) {
            if self.scans.len() < COUNT_MAX && rng.one_in(2) {
                let bounds = rng.bounds();
                let rest = model.between(&name, &bounds).into();
                let mut open = OpenScan { keyspace: name, scan: keyspace.scan(bounds), rest };
                // From here on the keyspace may change its name, or be dropped.
                open.step(rng);
                self.scans.push(open);
            } else if !self.scans.is_empty() {
                let index = rng.index(self.scans.len());
                if !(0..8).all(|_| self.scans[index].step(rng)) {
                    self.scans.swap_remove(index);
                }
            }
        } else if self.cursors.len() < COUNT_MAX && rng.one_in(2) {
            let bounds = rng.bounds();
            let turn = model.turn_of(&name);
            let all = (Bound::Unbounded, Bound::Unbounded);
            let (bounds, range, cursor) = match rng.below(6) {
                0 => (None, all, db.snapshot().keyspace(keyspace).cursor().unwrap()),
                1 => {
                    let view = db.snapshot().keyspace(keyspace);
                    (None, bounds.clone(), view.cursor_in(bounds).unwrap())
                }
                2 => (Some(all.clone()), all, keyspace.cursor().unwrap()),
                _ => (Some(bounds.clone()), bounds.clone(), keyspace.cursor_in(bounds).unwrap()),
            };
            let entries = model.between(&name, &range);
            let shows_keys_only = rng.one_in(4);
            let cursor = if shows_keys_only { cursor.keys_only() } else { cursor };
            let open = OpenCursor::new(name, cursor, entries, turn);
            self.cursors.push(OpenCursor { bounds, shows_keys_only, ..open });
        } else if !self.cursors.is_empty() {
            let index = rng.index(self.cursors.len());
            (0..12).for_each(|_| self.cursors[index].step(rng));
            if rng.one_in(3) {
                self.cursors[index].refresh(model);
                (0..6).for_each(|_| self.cursors[index].step(rng));
            }
            if rng.one_in(4) {
                self.cursors.swap_remove(index);
            }
        }
    }
}

impl OpenScan {
    /// Takes an entry from either end; false at the end.
    fn step(&mut self, rng: &mut Rng) -> bool {
        take_one(rng, &mut self.scan, &mut self.rest, &self.keyspace)
    }
}

fn take_one(
    rng: &mut Rng,
    scan: &mut Scan,
    rest: &mut VecDeque<(Bytes, Bytes)>,
    what: &str,
) -> bool {
    let (found, expected) = if rng.one_in(3) {
        (scan.next_back(), rest.pop_back())
    } else {
        (scan.next(), rest.pop_front())
    };
    let found = found.transpose().unwrap();
    let found = found.as_ref().map(|(key, value)| (&**key, &**value));
    let expected = expected.as_ref().map(|(key, value)| (&**key, &**value));
    assert!(found == expected, "{what}: found {:?}, expected {:?}", show(found), show(expected));
    found.is_some()
}

fn show(entry: Option<(&[u8], &[u8])>) -> Option<(String, usize)> {
    entry.map(|(key, value)| (key.escape_ascii().to_string(), value.len()))
}

/// Takes all of a scan: from the front, from the back, or changing between them.
pub(super) fn take_from_both_ends(
    rng: &mut Rng,
    scan: &mut Scan,
    expected: Vec<(Bytes, Bytes)>,
    what: &str,
) {
    let mut rest: VecDeque<_> = expected.into();
    match rng.below(3) {
        0 => while take_one(rng, scan, &mut rest, what) {},
        way => loop {
            let (found, expected) = match way {
                1 => (scan.next(), rest.pop_front()),
                _ => (scan.next_back(), rest.pop_back()),
            };
            let found = found.transpose().unwrap();
            let found = found.as_ref().map(|(key, value)| (&**key, &**value));
            let expected = expected.as_ref().map(|(key, value)| (&**key, &**value));
            assert!(found == expected, "{what}: {:?}, not {:?}", show(found), show(expected));
            if found.is_none() {
                break;
            }
        },
    }
    assert!(scan.next().is_none() && scan.next_back().is_none(), "{what}: it goes on");
}

impl OpenCursor {
    /// A cursor that stands nowhere yet, over `entries` of `keyspace`.
    pub(super) const fn new(
        keyspace: String,
        cursor: Cursor,
        entries: Vec<(Bytes, Bytes)>,
        turn: Turn,
    ) -> Self {
        let (bounds, shows_keys_only, at) = (None, false, None);
        Self { keyspace, cursor, entries, bounds, turn, shows_keys_only, at }
    }

    pub(super) fn step(&mut self, rng: &mut Rng) {
        let len = self.entries.len();
        match rng.below(10) {
            0 => {
                self.cursor.seek_to_first().unwrap();
                self.at = (len != 0).then_some(0);
            }
            1 => {
                self.cursor.seek_to_last().unwrap();
                self.at = len.checked_sub(1);
            }
            2 | 3 => {
                let key = rng.key();
                self.cursor.seek(&key).unwrap();
                let is_reached =
                    |(other, _): &(Bytes, Bytes)| self.turn.compare(&key, other).is_le();
                self.at = self.entries.iter().position(is_reached);
            }
            4 | 5 => {
                let key = rng.key();
                self.cursor.seek_for_prev(&key).unwrap();
                let is_reached =
                    |(other, _): &(Bytes, Bytes)| self.turn.compare(other, &key).is_le();
                self.at = self.entries.iter().rposition(is_reached);
            }
            6 | 7 if self.at.is_some() => {
                self.cursor.next().unwrap();
                self.at = self.at.map(|at| at + 1).filter(|at| *at < len);
            }
            8 | 9 if self.at.is_some() => {
                self.cursor.prev().unwrap();
                self.at = self.at.and_then(|at| at.checked_sub(1));
            }
            _ => {}
        }
        self.check();
    }

    /// Shows what is there now, on the same key or the next that exists; as before, if it is of a
    /// snapshot.
    fn refresh(&mut self, model: &State) {
        self.cursor.refresh().unwrap();
        if let Some(bounds) = &self.bounds {
            let key = self.at.map(|at| self.entries[at].0.clone());
            self.entries = model.between(&self.keyspace, bounds);
            let is_reached = |key: &Bytes, other: &Bytes| self.turn.compare(key, other).is_le();
            let place = |key: Bytes| self.entries.iter().position(|(k, _)| is_reached(&key, k));
            self.at = key.and_then(place);
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.cursor.is_valid(), self.at.is_some(), "cursor over {}", self.keyspace);
        if let Some(at) = self.at {
            let (key, value) = &self.entries[at];
            assert_eq!(
                self.cursor.key().escape_ascii().to_string(),
                key.escape_ascii().to_string()
            );
            if self.shows_keys_only && self.cursor.value().is_empty() {
                return;
            }
            assert!(self.cursor.value() == &**value, "value of {}", key.escape_ascii());
            assert!(self.cursor.entry().1 == **value, "entry of {}", key.escape_ascii());
        }
    }
}
