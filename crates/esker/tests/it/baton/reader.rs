//! How clients read, and how everything that they find is compared with the history.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker::{Cursor, Db, Key, Result, Snapshot, SnapshotView, Value};

use super::clock::Shown;
use super::coverage;
use super::filtering::{FILTERED, as_found};
use super::history::{Found, Id, ORDER_KEY, Part, Seen};
use super::world::World;
use crate::state::{Bounds, Bytes, State, Turn};

pub(super) const ALL: Bounds = (Bound::Unbounded, Bound::Unbounded);

/// Entries in their order.
pub(super) type Entries = Vec<(Bytes, Bytes)>;

/// Which events of a part a snapshot holds.
pub(super) fn seen_by(snapshot: &Snapshot, db: &Db, part: Part) -> Result<Seen> {
    let get = |name: &str| {
        let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
        snapshot.keyspace(&keyspace).get(ORDER_KEY)
    };
    Ok(Seen::new(get(part.order)?.as_deref(), get(part.loaded)?.as_deref()))
}

/// A snapshot, and the time at which it was taken, in milliseconds since the epoch: what expires
/// goes by that for whoever reads in it.
pub(super) struct Taken {
    pub(super) snapshot: Snapshot,
    pub(super) millis: u64,
    shown: Shown,
}

impl Taken {
    /// Taken again until no time passes meanwhile.
    pub(super) fn new(world: &World, db: &Db) -> Self {
        loop {
            let shown = world.shown();
            let snapshot = db.snapshot();
            if world.millis() == shown.millis() {
                return Self { snapshot, millis: shown.millis(), shown };
            }
        }
    }

    /// What keyspaces hold, read once.
    pub(super) fn contents(&self, db: &Db, names: &[&'static str]) -> Result<Found> {
        let one = |name: &&'static str| {
            let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
            let entries = self.snapshot.keyspace(&keyspace).iter();
            let contents = entries.map(owned).collect::<Result<_>>()?;
            Ok((*name, contents))
        };
        names.iter().map(one).collect()
    }
}

/// How many events of a part, by its number, a reader sees now.
pub(super) fn look(world: &World, part: usize, db: &Db, required: &BTreeSet<Id>) -> Result<usize> {
    let seen = seen_by(&db.snapshot(), db, world.part(part))?;
    Ok(world.history(part).at(&seen, required, "a look"))
}

/// What a snapshot shows of a part, by the events that it holds and the time.
pub(super) fn state_of(
    world: &World,
    part: usize,
    db: &Db,
    taken: &Taken,
    required: &BTreeSet<Id>,
) -> Result<State> {
    let seen = seen_by(&taken.snapshot, db, world.part(part))?;
    let mut history = world.history(part);
    let count = history.at(&seen, required, "snapshot");
    coverage::add("values that stay expired", history.behind_clock(count, taken.shown));
    Ok(history.state(count, taken.millis))
}

/// Reads everything of a part in a snapshot, forwards, backwards, key by key, and many keys at once.
pub(super) fn read_all(
    world: &World,
    part: usize,
    db: &Db,
    required: &BTreeSet<Id>,
    when: &str,
) -> Result<()> {
    let taken = Taken::new(world, db);
    let state = state_of(world, part, db, &taken, required)?;
    for name in world.part(part).names {
        let expected = state.between(name, &ALL);
        let is_own_order = state.turn_of(name) == Turn::Shortlex && !is_bytewise(&expected);
        coverage::add("scans in an order of the user's own", u64::from(is_own_order));
        read_view(&taken.snapshot, db, name, expected, &format!("{when}, {name}"))?;
    }
    Ok(())
}

/// Reads all that a snapshot shows of a keyspace, in every way; returns what is there.
fn read_view(
    snapshot: &Snapshot,
    db: &Db,
    name: &str,
    expected: Entries,
    what: &str,
) -> Result<Entries> {
    let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
    let view = snapshot.keyspace(&keyspace);
    let expected = check_range(&view, &ALL, expected, what)?;
    let is_read = |(number, (key, _)): &(usize, &(Bytes, Bytes))| {
        number % 7 == 0 || key.starts_with(FILTERED)
    };
    let some: Vec<_> = expected.iter().enumerate().filter(is_read).map(|(_, one)| one).collect();
    let keys: Vec<&Bytes> = some.iter().map(|(key, _)| key).collect();
    let many = view.multi_get(&keys)?;
    for ((key, value), together) in some.into_iter().zip(many) {
        for found in [view.get(key)?, together] {
            assert!(found.is_some_and(|f| *f == **value), "{what}: {}", key.escape_ascii());
        }
    }
    Ok(expected)
}

/// A snapshot that is kept, and what it showed when it was looked at first.
pub(super) struct Kept {
    taken: Taken,
    part: Part,
    /// Of each of its keyspaces.
    shown: Vec<Entries>,
}

impl Kept {
    pub(super) fn new(
        world: &World,
        number: usize,
        db: &Db,
        required: &BTreeSet<Id>,
    ) -> Result<Self> {
        let (taken, part) = (Taken::new(world, db), world.part(number));
        let state = state_of(world, number, db, &taken, required)?;
        let shown = part.names.iter().map(|name| {
            let expected = state.between(name, &ALL);
            read_view(&taken.snapshot, db, name, expected, &format!("kept, {name}"))
        });
        Ok(Self { part, shown: shown.collect::<Result<_>>()?, taken })
    }

    /// Whatever was compacted since, and whatever has expired, it shows the same.
    pub(super) fn look_again(&self, db: &Db) -> Result<()> {
        for (name, shown) in self.part.names.iter().zip(&self.shown) {
            let what = format!("looked at again, {name}");
            let found = read_view(&self.taken.snapshot, db, name, shown.clone(), &what)?;
            assert_same(&found, shown, &what);
        }
        Ok(())
    }
}

/// Reads a range forwards and backwards; returns what is there.
pub(super) fn check_range(
    view: &SnapshotView,
    bounds: &Bounds,
    expected: Entries,
    what: &str,
) -> Result<Entries> {
    let found: Entries = view.scan(bounds.clone()).map(owned).collect::<Result<_>>()?;
    let expected = compare(&found, expected, what);
    let mut found: Entries = view.scan(bounds.clone()).rev().map(owned).collect::<Result<_>>()?;
    found.reverse();
    assert_same(&found, &expected, &format!("{what}, backwards"));
    Ok(expected)
}

fn owned(entry: Result<(Key, Value)>) -> Result<(Bytes, Bytes)> {
    entry.map(|(key, value)| (Bytes::from(&*key), Bytes::from(&*value)))
}

/// Takes `cursor` on from where it stands to the end, over the keys of `ahead`; then reads all of it,
/// forwards and backwards.
pub(super) fn check_cursor(
    cursor: &mut Cursor,
    expected: Entries,
    ahead: &BTreeSet<Bytes>,
    (name, turn): (&str, Turn),
) -> Result<()> {
    let mut rest = Entries::new();
    while cursor.is_valid() {
        rest.push((cursor.key().into(), cursor.value().into()));
        cursor.next()?;
    }
    let mut found = Entries::new();
    cursor.seek_to_first()?;
    while cursor.is_valid() {
        found.push((cursor.key().into(), cursor.value().into()));
        cursor.next()?;
    }
    let expected = compare(&found, expected, &format!("{name}, by a cursor"));
    found.clear();
    cursor.seek_to_last()?;
    while cursor.is_valid() {
        found.push((cursor.key().into(), cursor.value().into()));
        cursor.prev()?;
    }
    found.reverse();
    assert_same(&found, &expected, &format!("{name}, by a cursor, backwards"));
    check_seeks(cursor, &expected, (name, turn))?;
    let ahead = expected.into_iter().filter(|(key, _)| ahead.contains(key)).collect();
    assert_same(&rest, &ahead, &format!("{name}, by a cursor that stood somewhere"));
    Ok(())
}

/// Seeks to some entries and beside them, from both sides, and turns round there.
fn check_seeks(cursor: &mut Cursor, expected: &Entries, (name, turn): (&str, Turn)) -> Result<()> {
    if expected.len() < 2 || turn == Turn::Reversed {
        // What is beside a key in that order has no name.
        return Ok(());
    }
    let is_own_order = turn == Turn::Shortlex && !is_bytewise(expected);
    coverage::add("cursors over an order of the user's own", u64::from(is_own_order));
    let at = |cursor: &Cursor| cursor.is_valid().then(|| Bytes::from(cursor.key()));
    let key =
        |place: Option<usize>| place.and_then(|place| expected.get(place)).map(|one| one.0.clone());
    for (place, (own, _)) in expected.iter().enumerate().step_by(7) {
        let behind = key_behind(own, turn);
        let is_next = expected.get(place + 1).is_some_and(|(next, _)| **next == *behind);
        let next = if is_next { place + 2 } else { place + 1 };
        cursor.seek(own)?;
        let mut found = vec![at(cursor)];
        cursor.seek_for_prev(own)?;
        found.push(at(cursor));
        cursor.seek_for_prev(&behind)?;
        found.push(at(cursor));
        cursor.next()?;
        found.push(at(cursor));
        cursor.seek(&behind)?;
        found.push(at(cursor));
        if cursor.is_valid() {
            cursor.prev()?;
            found.push(at(cursor));
        }
        let (last, first) = if is_next { (place + 1, place + 1) } else { (place, place + 1) };
        let mut right = vec![key(Some(place)); 2];
        right.extend([key(Some(last)), key(Some(next)), key(Some(first))]);
        right.extend(key(Some(first)).map(|_| key(first.checked_sub(1))));
        assert!(found == right, "{name}, by seeks at {}: {found:?}", own.escape_ascii());
    }
    Ok(())
}

/// The key that comes right behind `key`, in an order that has one.
fn key_behind(key: &[u8], turn: Turn) -> Vec<u8> {
    if turn == Turn::Bytewise {
        return [key, b"\0"].concat();
    }
    // The next one of the same length, or the first that is longer.
    let mut behind = key.to_vec();
    for byte in behind.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return behind;
        }
    }
    vec![0; key.len() + 1]
}

fn is_bytewise(entries: &Entries) -> bool {
    entries.is_sorted_by(|a, b| a.0 < b.0)
}

/// Compares `found` with `expected`; returns that with what the filter has done.
fn compare(found: &Entries, expected: Entries, what: &str) -> Entries {
    let by_key: BTreeMap<&Bytes, &Bytes> = found.iter().map(|(key, value)| (key, value)).collect();
    let get = |key: &[u8]| by_key.get(&Bytes::from(key)).copied();
    let expected = as_found(expected, get, what).collect();
    assert_same(found, &expected, what);
    expected
}

fn assert_same(found: &Entries, expected: &Entries, what: &str) {
    let show = |entry: Option<&(Bytes, Bytes)>| {
        entry.map(|(key, value)| format!("{} ({} bytes)", key.escape_ascii(), value.len()))
    };
    let place = (0..found.len().max(expected.len())).find(|n| found.get(*n) != expected.get(*n));
    if let Some(place) = place {
        let (found, expected) = (show(found.get(place)), show(expected.get(place)));
        panic!("{what}: found {found:?}, and there should be {expected:?}");
    }
}
