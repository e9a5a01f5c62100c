//! A small database with files of every kind, and its contents.

use std::path::Path;

use esker::env::{FileSystem, MemoryFileSystem};
use esker::{Db, Durability, KeyspaceOptions, Options, Result};

use crate::journal::Marks;
use crate::reading::difference;
use crate::recovered::{self, DIR, Found, Loss, env_of, open};
use crate::state::{State, Write};

/// Writes the sample with `db`, and returns what it holds: two keyspaces, tables in two levels,
/// entries that are in the log only, and a keyspace that was dropped.
pub(crate) fn write(db: &Db) -> State {
    let mut state = State::new();
    let small = KeyspaceOptions { block_size_bytes: 256, ..KeyspaceOptions::default() };
    for name in ["default", "users", "dropped"] {
        if name != "default" {
            state.create(name);
        }
        db.keyspace(name, small.clone()).unwrap();
    }
    let mut put = |name: &str, key: String, value: String| {
        let keyspace = db.existing_keyspace(name).unwrap().expect("it was created");
        keyspace.put_with(&key, &value, Durability::Power).unwrap();
        state.apply(&[Write::put(name, key.as_bytes(), value.as_bytes())]);
    };
    (0..24).for_each(|i| put("default", format!("key {i:02}"), format!("old value {i}")));
    db.compact::<&[u8]>(..).unwrap();
    (0..24).step_by(3).for_each(|i| put("default", format!("key {i:02}"), format!("value {i}")));
    (0..6).for_each(|i| put("users", format!("user {i}"), format!("name {i}")));
    put("dropped", "key".into(), "value".into());
    db.flush().unwrap();
    put("default", "key 01".into(), "in the log".into());
    put("users", "user 7".into(), String::new());
    let dropped = db.existing_keyspace("dropped").unwrap().expect("it was created");
    db.drop_keyspace(&dropped).unwrap();
    state.remove("dropped");
    for (name, key) in [("default", "key 05"), ("users", "user 2")] {
        let keyspace = db.existing_keyspace(name).unwrap().expect("it was created");
        keyspace.delete_with(key, Durability::Power).unwrap();
        state.apply(&[Write::delete(name, key.as_bytes())]);
    }
    state
}

/// The options of the sample: what the cache holds is written down at its close.
pub(crate) fn options() -> Options {
    Options { warm_cache: true, ..recovered::options() }
}

/// The sample, closed, in memory.
pub(crate) fn in_memory() -> (MemoryFileSystem, State) {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    let state = write(&db);
    db.close().unwrap();
    (fs, state)
}

/// The sample with another keyspace, `blobs`, most of whose values lie in blob files: two of them,
/// with garbage in one.
pub(crate) fn in_memory_with_blobs() -> (MemoryFileSystem, State) {
    let (fs, mut state) = in_memory();
    let db = open(&env_of(&fs), &options()).unwrap();
    let of_blobs = KeyspaceOptions { blob_threshold_bytes: Some(32), ..Default::default() };
    let keyspace = db.keyspace("blobs", of_blobs).unwrap();
    state.create("blobs");
    for round in 1..3 {
        for i in (0..8).step_by(round) {
            let (key, value) = (format!("key {i}"), format!("{round}{i} ").repeat(4 * i));
            keyspace.put_with(&key, &value, Durability::Power).unwrap();
            state.apply(&[Write::put("blobs", key.as_bytes(), value.as_bytes())]);
        }
        keyspace.flush().unwrap();
    }
    // What was read is in the cache.
    assert_eq!(keyspace.iter().count(), 8);
    db.close().unwrap();
    (fs, state)
}

/// Opens the sample and reads all of it, forwards, backwards and key by key.
///
/// # Panics
/// If an answer is wrong.
pub(crate) fn read(fs: &dyn FileSystem, db: Result<Db>, state: &State, when: &str) -> Result<()> {
    assert!(fs.exists(Path::new(DIR)).unwrap());
    let db = db?;
    let found = Found::read(&db)?;
    found.index(std::slice::from_ref(state), &Marks::default(), Loss::Power, when);
    for name in state.names() {
        let keyspace = db.existing_keyspace(&name)?.expect("the index has found it");
        let expected = state.contents(&name);
        let backwards: Result<_> = keyspace
            .iter()
            .rev()
            .map(|entry| entry.map(|(key, value)| ((*key).into(), (*value).into())))
            .collect();
        assert_eq!(difference(&backwards?, &expected), None, "{when}: backwards");
        for key in expected.keys() {
            let value = keyspace.get(key)?;
            assert_eq!(value.as_deref(), expected.get(key).map(|value| &**value), "{when}");
        }
        assert_eq!(keyspace.get("missing")?, None, "{when}");
    }
    Ok(())
}
