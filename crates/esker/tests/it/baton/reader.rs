//! How clients read, and how everything that they find is compared with the history.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker::{Cursor, Db, Result, Snapshot, SnapshotView};

use super::filtering::{FILTERED, as_found};
use super::history::{Id, ORDER_KEY, Seen};
use super::plan::{ORDER, SHARED};
use super::world::World;
use crate::state::{Bounds, Bytes, State};

pub(super) const ALL: Bounds = (Bound::Unbounded, Bound::Unbounded);

/// Entries in their order.
pub(super) type Entries = Vec<(Bytes, Bytes)>;

/// Which events a snapshot holds.
pub(super) fn seen_by(snapshot: &Snapshot, db: &Db, loaded: &str) -> Result<Seen> {
    let get = |name: &str| {
        let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
        snapshot.keyspace(&keyspace).get(ORDER_KEY)
    };
    Ok(Seen::new(get(ORDER)?.as_deref(), get(loaded)?.as_deref()))
}

/// How many events a reader sees now.
pub(super) fn look(world: &World, home: usize, db: &Db, required: &BTreeSet<Id>) -> Result<usize> {
    let seen = seen_by(&db.snapshot(), db, world.loaded)?;
    Ok(world.history(home).at(&seen, required, "a look"))
}

/// What a snapshot shows, by the events that it holds.
pub(super) fn state_of(
    world: &World,
    home: usize,
    db: &Db,
    snapshot: &Snapshot,
    required: &BTreeSet<Id>,
) -> Result<State> {
    let seen = seen_by(snapshot, db, world.loaded)?;
    let mut history = world.history(home);
    let count = history.at(&seen, required, "snapshot");
    Ok(history.state(count))
}

/// Reads everything in a snapshot, forwards, backwards and key by key.
pub(super) fn read_all(
    world: &World,
    home: usize,
    db: &Db,
    required: &BTreeSet<Id>,
    when: &str,
) -> Result<()> {
    let snapshot = db.snapshot();
    let state = state_of(world, home, db, &snapshot, required)?;
    for name in SHARED {
        let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
        let view = snapshot.keyspace(&keyspace);
        let what = format!("{when}, {name}");
        let expected = check_range(&view, &ALL, state.between(name, &ALL), &what)?;
        for (number, (key, value)) in expected.iter().enumerate() {
            if number % 7 == 0 || key.starts_with(FILTERED) {
                let found = view.get(key)?;
                assert!(found.is_some_and(|f| *f == **value), "{what}: {}", key.escape_ascii());
            }
        }
    }
    Ok(())
}

/// Reads a range forwards and backwards; returns what is there.
pub(super) fn check_range(
    view: &SnapshotView,
    bounds: &Bounds,
    expected: Entries,
    what: &str,
) -> Result<Entries> {
    let own = |entry: Result<(esker::Key, esker::Value)>| {
        entry.map(|(key, value)| (Bytes::from(&*key), Bytes::from(&*value)))
    };
    let found: Entries = view.scan(bounds.clone()).map(own).collect::<Result<_>>()?;
    let expected = compare(&found, expected, what);
    let mut found: Entries = view.scan(bounds.clone()).rev().map(own).collect::<Result<_>>()?;
    found.reverse();
    assert_same(&found, &expected, &format!("{what}, backwards"));
    Ok(expected)
}

/// Reads all of `cursor`, forwards and backwards.
pub(super) fn check_cursor(cursor: &mut Cursor, expected: Entries, name: &str) -> Result<()> {
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
    Ok(())
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
