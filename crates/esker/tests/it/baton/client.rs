//! One client: does its operations one after the other, beside the others, and compares every
//! answer with the history.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use esker::{
    Cursor, Db, Durability, Error, ErrorKind, Keyspace, KeyspaceOptions, Outcome, Result, Snapshot,
};

use super::history::{Id, ORDER_KEY, name_of};
use super::script::{ORDER, Op, SHARED, rule};
use super::world::World;
use crate::state::{Bounds, Bytes, State, Write};

/// A cursor that was opened, and what it shows.
struct Held {
    name: &'static str,
    cursor: Cursor,
    entries: Vec<(Bytes, Bytes)>,
}

pub(super) struct Client {
    id: u32,
    /// Batches and keyspaces so far.
    number: u32,
    has_faults: bool,
    world: Arc<World>,
    db: Db,
    held: Vec<Held>,
}

const ALL: Bounds = (Bound::Unbounded, Bound::Unbounded);

impl Client {
    /// The first batch has the number `number`.
    pub(super) fn new(id: u32, number: u32, has_faults: bool, world: Arc<World>, db: Db) -> Self {
        Self { id, number, has_faults, world, db, held: Vec::new() }
    }

    /// Does everything, until the database is closed.
    pub(super) fn run(&mut self, ops: Vec<Op>) {
        for op in ops {
            if let Err(error) = self.act(&op) {
                if error.kind() == ErrorKind::Closed && self.world.is_closing() {
                    return;
                }
                self.excuse(&error, &op);
            }
        }
        while !self.held.is_empty() {
            if let Err(error) = self.release() {
                self.excuse(&error, &Op::Release);
            }
        }
    }

    /// # Panics
    /// If nothing went wrong that would explain `error`.
    fn excuse(&self, error: &Error, op: &Op) {
        let is_expected = match error.kind() {
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned => self.has_faults,
            ErrorKind::Closed => self.world.is_closing(),
            _ => false,
        };
        assert!(is_expected, "client {}, {op:?}: {error:?}", self.id);
    }

    fn act(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Write(writes, durability) => self.write(writes, *durability),
            Op::Get(name, key) => self.get(name, key),
            Op::Scan(name, bounds) => self.scan(name, bounds),
            Op::ReadAll => read_all(&self.world, &self.db, &self.required(), "read all"),
            Op::Hold(name) => self.hold(name),
            Op::Release => self.release(),
            Op::Flush(name) => self.keyspace(name)?.flush(),
            Op::Compact(name) => self.keyspace(name)?.compact::<&[u8]>(..),
            Op::StartCompaction(name, what) => {
                let handle = self.keyspace(name)?.start_compaction::<&[u8]>(..)?;
                match what {
                    0 => handle.wait().map(drop),
                    1 => {
                        handle.cancel();
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Op::Temporary => self.come_and_go(),
            Op::Pause(duration) => {
                self.db.pause_compactions();
                self.world.env.clock.sleep(*duration);
                self.db.resume_compactions();
                Ok(())
            }
            Op::Sync => {
                let before = self.world.history().acknowledged();
                self.db.sync()?;
                self.world.history().promise(&before);
                Ok(())
            }
            Op::Sleep(duration) => {
                self.world.env.clock.sleep(*duration);
                Ok(())
            }
            Op::Spoil(kind, seed) => {
                self.world.faults.add(rule(*kind, *seed));
                Ok(())
            }
            Op::Heal => {
                self.world.faults.clear();
                Ok(())
            }
            Op::Close => {
                self.world.set_closing();
                self.held.clear();
                self.db.clone().close()
            }
        }
    }

    fn keyspace(&self, name: &str) -> Result<Keyspace> {
        Ok(self.db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces"))
    }

    /// What every reader sees that begins now.
    fn required(&self) -> BTreeSet<Id> {
        self.world.history().acknowledged()
    }

    fn write(&mut self, writes: &[Write], durability: Durability) -> Result<()> {
        let id = (self.id, self.number);
        self.number += 1;
        let mut batch = self.db.batch();
        // Nothing of this batch depends on what was there before.
        let state = State::new();
        for write in writes {
            write.add_to(&mut batch, &self.keyspace(&write.keyspace)?, &state);
        }
        batch.merge(&self.keyspace(ORDER)?, ORDER_KEY, name_of(id));
        self.world.history().issue(id, writes.to_vec());
        let result = batch.commit_with(durability);
        let mut history = self.world.history();
        match &result {
            Ok(()) => history.acknowledge(id, durability),
            Err(error) if error.outcome() == Outcome::NotDone => history.refuse(id),
            Err(_) => {}
        }
        result
    }

    /// What is read now is what was there after some batch from before the call to after it.
    fn get(&self, name: &str, key: &[u8]) -> Result<()> {
        let required = self.required();
        let first = look(&self.world, &self.db, &required)?;
        let found = self.keyspace(name)?.get(key)?;
        let last = look(&self.world, &self.db, &required)?;
        let history = self.world.history();
        let allowed = |count| {
            let contents = history.state(count).contents(name);
            contents.get(key).map(|value| value.to_vec())
        };
        let found = found.map(Vec::from);
        assert!(
            (first..=last).any(|count| allowed(count) == found),
            "get of {name} {} gives {found:?}, not one of the states {first} to {last}",
            key.escape_ascii()
        );
        Ok(())
    }

    fn scan(&self, name: &str, bounds: &Bounds) -> Result<()> {
        let required = self.required();
        let snapshot = self.db.snapshot();
        let state = state_of(&self.world, &self.db, &snapshot, &required)?;
        let view = snapshot.keyspace(&self.keyspace(name)?);
        let expected = state.between(name, bounds);
        compare(view.scan(bounds.clone()), expected.iter(), name)?;
        compare(view.scan(bounds.clone()).rev(), expected.iter().rev(), name)
    }

    fn hold(&mut self, name: &'static str) -> Result<()> {
        let required = self.required();
        let snapshot = self.db.snapshot();
        // Not looked at before it must: its tables may be those that nobody has opened.
        let cursor = snapshot.keyspace(&self.keyspace(name)?).cursor()?;
        let state = state_of(&self.world, &self.db, &snapshot, &required)?;
        self.held.push(Held { name, cursor, entries: state.between(name, &ALL) });
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut held = self.held.remove(0);
        check_cursor(&mut held.cursor, &held.entries, held.name)
    }

    fn come_and_go(&mut self) -> Result<()> {
        let name = format!("temporary {} {}", self.id, self.number);
        self.number += 1;
        let options = KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() };
        let keyspace = self.db.keyspace(&name, options)?;
        let mut entries: Vec<(Bytes, Bytes)> = Vec::new();
        for key in [b"1".as_slice(), b"2", b"3"] {
            keyspace.put(key, b"value")?;
            entries.push((key.into(), b"value".as_slice().into()));
        }
        keyspace.flush()?;
        let mut cursor = keyspace.cursor()?;
        self.db.drop_keyspace(&keyspace)?;
        check_cursor(&mut cursor, &entries, &name)
    }
}

/// Reads all of `cursor`, forwards and backwards.
fn check_cursor(cursor: &mut Cursor, entries: &[(Bytes, Bytes)], name: &str) -> Result<()> {
    let differs = |cursor: &Cursor, entry: &(Bytes, Bytes)| {
        !cursor.is_valid() || *cursor.key() != *entry.0 || *cursor.value() != *entry.1
    };
    cursor.seek_to_first()?;
    for entry in entries {
        assert!(!differs(cursor, entry), "{name}: cursor at {}", entry.0.escape_ascii());
        cursor.next()?;
    }
    assert!(!cursor.is_valid(), "{name}: the cursor has more");
    cursor.seek_to_last()?;
    for entry in entries.iter().rev() {
        assert!(!differs(cursor, entry), "{name}: cursor back at {}", entry.0.escape_ascii());
        cursor.prev()?;
    }
    Ok(())
}

fn compare<'a>(
    found: impl Iterator<Item = Result<(esker::Key, esker::Value)>>,
    mut expected: impl Iterator<Item = &'a (Bytes, Bytes)>,
    name: &str,
) -> Result<()> {
    for entry in found {
        let (key, value) = entry?;
        let expected = expected.next();
        assert!(
            expected.is_some_and(|(k, v)| **k == *key && **v == *value),
            "{name}: found {}, and there should be {:?}",
            key.escape_ascii(),
            expected.map(|(key, _)| key.escape_ascii().to_string())
        );
    }
    let missing = expected.next().map(|(key, _)| key.escape_ascii().to_string());
    assert!(missing.is_none(), "{name}: {missing:?} is missing");
    Ok(())
}

/// How many batches a reader sees now.
fn look(world: &World, db: &Db, required: &BTreeSet<Id>) -> Result<usize> {
    let order = db.existing_keyspace(ORDER)?.expect("nobody drops the order").get(ORDER_KEY)?;
    Ok(world.history().at(order.as_deref(), required, "get"))
}

/// What a snapshot shows, by the batches that it holds.
fn state_of(world: &World, db: &Db, snapshot: &Snapshot, required: &BTreeSet<Id>) -> Result<State> {
    let order = db.existing_keyspace(ORDER)?.expect("nobody drops the order");
    let order = snapshot.keyspace(&order).get(ORDER_KEY)?;
    let mut history = world.history();
    let count = history.at(order.as_deref(), required, "snapshot");
    Ok(history.state(count))
}

/// Reads everything in a snapshot, forwards, backwards and key by key.
pub(super) fn read_all(world: &World, db: &Db, required: &BTreeSet<Id>, when: &str) -> Result<()> {
    let snapshot = db.snapshot();
    let state = state_of(world, db, &snapshot, required)?;
    for name in SHARED {
        let keyspace = db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces");
        let view = snapshot.keyspace(&keyspace);
        let expected = state.between(name, &ALL);
        let what = format!("{when}, {name}");
        compare(view.scan::<&[u8]>(..), expected.iter(), &what)?;
        compare(view.scan::<&[u8]>(..).rev(), expected.iter().rev(), &what)?;
        for (key, value) in expected.iter().step_by(7) {
            let found = view.get(key)?;
            assert!(found.is_some_and(|f| *f == **value), "{what}: get {}", key.escape_ascii());
        }
    }
    Ok(())
}
