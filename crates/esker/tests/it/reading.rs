//! Reads the whole contents of a database and compares them with what it should hold.

use std::sync::Arc;

use esker::{Db, Key, Keyspace, Result};

use crate::state::{Bytes, Contents, State, Turn};

/// Everything in a keyspace, read from its start to its end.
pub(crate) fn contents(keyspace: &Keyspace) -> Result<Contents> {
    keyspace.iter().map(|entry| entry.map(|(k, v)| (Arc::from(&*k), Arc::from(&*v)))).collect()
}

/// What differs, in a line; contents are too long to print.
pub(crate) fn difference(found: &Contents, expected: &Contents) -> Option<String> {
    let missing = expected.iter().find(|(key, _)| !found.contains_key(*key));
    let extra = found.iter().find(|(key, _)| !expected.contains_key(*key));
    let wrong = found.iter().find(|(key, value)| expected.get(*key).is_some_and(|e| e != *value));
    let show = |entry: Option<(&Bytes, &Bytes)>| {
        entry.map_or("none".to_owned(), |(key, value)| {
            format!("{} ({} bytes)", key.escape_ascii(), value.len())
        })
    };
    if missing.is_none() && extra.is_none() && wrong.is_none() {
        return None;
    }
    let (missing, extra, wrong) = (show(missing), show(extra), show(wrong));
    let counts = (found.len(), expected.len());
    Some(format!("missing {missing}, extra {extra}, wrong {wrong}; {counts:?} entries"))
}

/// Checks that a keyspace holds `expected`, read forwards, backwards, and key by key.
pub(crate) fn assert_contents(keyspace: &Keyspace, expected: &Contents, when: &str) {
    let name = keyspace.name();
    let found = contents(keyspace).unwrap_or_else(|error| panic!("{when}: {name}: {error}"));
    if let Some(difference) = difference(&found, expected) {
        panic!("{when}: {name}: {difference}\n{}", keyspace.levels());
    }
    let mut keys: Vec<Bytes> = expected.keys().cloned().collect();
    let turn = Turn::of(&keyspace.options().order);
    keys.sort_by(|a, b| turn.compare(a, b));
    let forwards: Vec<Key> = keyspace.iter().keys().map(Result::unwrap).collect();
    assert!(forwards.iter().eq(keys.iter()), "{when}: {name}: not in order");
    let backwards = keyspace.iter().keys().rev().map(Result::unwrap);
    assert!(backwards.eq(keys.iter().rev()), "{when}: {name}: backwards differs from forwards");
    for (key, value) in expected {
        let found = keyspace.get(key).unwrap();
        assert!(
            found.is_some_and(|found| *found == **value),
            "{when}: {name}: get of {} differs from the scan",
            key.escape_ascii()
        );
    }
}

/// Checks that a database holds exactly `expected`, in all keyspaces.
pub(crate) fn assert_state(db: &Db, expected: &State, when: &str) {
    assert_eq!(db.keyspaces(), expected.names(), "{when}");
    for name in expected.names() {
        let keyspace = db.existing_keyspace(&name).unwrap().expect("it is in the list");
        assert_contents(&keyspace, &expected.contents(&name), when);
    }
}
