//! What a database should hold, kept the simplest way: maps of byte strings.
//!
//! A [`State`] is the database at one sequence number. Copies share what they have in common, so a
//! history is a list of them, and a snapshot is one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use esker::operators::Append;
use esker::{Batch, Keyspace, Merge};

pub(crate) type Bytes = Arc<[u8]>;
pub(crate) type Contents = BTreeMap<Bytes, Bytes>;

/// One write of a batch, to the keyspace of that name; no value for a delete.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) keyspace: String,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
    pub(crate) how: How,
}

/// What a write does with its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// Puts it, or deletes.
    Plain,
    /// Merges it: keyspaces that get such writes have [`merge_operator`].
    Merge,
    /// Puts it if the key is not there, and deletes the key by a single delete if it is. Keys that
    /// get such writes get no other ones.
    Toggle,
}

/// What joins a plus sign and the operand to the value.
pub(crate) fn merge_operator() -> Option<Merge> {
    Some(Merge::new(Append::new("+")))
}

impl Write {
    pub(crate) fn put(keyspace: &str, key: &[u8], value: &[u8]) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            key: key.into(),
            value: Some(value.into()),
            how: How::Plain,
        }
    }

    pub(crate) fn merge(keyspace: &str, key: &[u8], operand: &[u8]) -> Self {
        Self { how: How::Merge, ..Self::put(keyspace, key, operand) }
    }

    pub(crate) fn toggle(keyspace: &str, key: &[u8], value: &[u8]) -> Self {
        Self { how: How::Toggle, ..Self::put(keyspace, key, value) }
    }

    pub(crate) fn delete(keyspace: &str, key: &[u8]) -> Self {
        Self { keyspace: keyspace.to_owned(), key: key.into(), value: None, how: How::Plain }
    }

    /// Adds the write to `batch`; `state` is that of before it.
    pub(crate) fn add_to(&self, batch: &mut Batch, keyspace: &Keyspace, state: &State) {
        match (&self.value, self.how) {
            (Some(operand), How::Merge) => batch.merge(keyspace, &self.key, operand),
            (_, How::Toggle) if state.contents(&self.keyspace).contains_key(&self.key) => {
                batch.single_delete(keyspace, &self.key);
            }
            (Some(value), _) => batch.put(keyspace, &self.key, value),
            (None, _) => batch.delete(keyspace, &self.key),
        }
    }
}

/// A keyspace as the test knows it: never the same again once dropped, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Id(u32);

/// All keyspaces at one moment.
#[derive(Clone, Default, Debug)]
pub(crate) struct State {
    /// In order of creation, as the database lists them.
    names: Vec<(Id, String)>,
    contents: BTreeMap<Id, Arc<Contents>>,
    /// Those whose keys stand in reverse order.
    reversed: BTreeSet<Id>,
    next: u32,
}

impl State {
    /// A new database.
    pub(crate) fn new() -> Self {
        let mut state = Self::default();
        state.create("default");
        state
    }

    pub(crate) fn create(&mut self, name: &str) {
        let id = Id(self.next);
        self.next += 1;
        self.names.push((id, name.to_owned()));
        self.contents.insert(id, Arc::default());
    }

    /// Says that the keys of a keyspace stand in reverse order.
    pub(crate) fn reverse(&mut self, name: &str) {
        self.reversed.insert(self.id(name).expect("only keyspaces that exist are reversed"));
    }

    pub(crate) fn is_reversed(&self, name: &str) -> bool {
        self.id(name).is_some_and(|id| self.reversed.contains(&id))
    }

    /// The entries of a keyspace between the bounds, in its order.
    pub(crate) fn between(
        &self,
        name: &str,
        bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Vec<(Bytes, Bytes)> {
        between(&self.contents(name), bounds, self.is_reversed(name))
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let name = self.names.iter_mut().find(|(_, name)| name == from);
        to.clone_into(&mut name.expect("only keyspaces that exist are renamed").1);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let id = self.id(name).expect("only keyspaces that exist are dropped");
        self.names.retain(|(other, _)| *other != id);
        self.contents.remove(&id);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn id(&self, name: &str) -> Option<Id> {
        self.names.iter().find(|(_, other)| other == name).map(|(id, _)| *id)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.id(name).is_some()
    }

    /// What the keyspace holds; nothing if it is not there.
    pub(crate) fn by_id(&self, id: Id) -> Arc<Contents> {
        self.contents.get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn contents(&self, name: &str) -> Arc<Contents> {
        self.id(name).map(|id| self.by_id(id)).unwrap_or_default()
    }

    pub(crate) fn set_contents(&mut self, name: &str, contents: Contents) {
        let id = self.id(name).expect("the keyspace exists");
        self.contents.insert(id, Arc::new(contents));
    }

    pub(crate) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            let id = self.id(&write.keyspace).expect("writes go to keyspaces that exist");
            let contents = Arc::make_mut(self.contents.get_mut(&id).expect("a known keyspace"));
            let existing = contents.get(&write.key);
            let value = match (write.how, existing) {
                (How::Merge, Some(existing)) => {
                    let operand = write.value.as_deref().expect("a merge has an operand");
                    Some([existing, b"+".as_slice(), operand].concat().into())
                }
                (How::Toggle, Some(_)) => None,
                _ => write.value.clone(),
            };
            match value {
                Some(value) => contents.insert(write.key.clone(), value),
                None => contents.remove(&write.key),
            };
        }
    }
}

/// The entries of `contents` between the bounds, which may be inverted, in order or in reverse.
pub(crate) fn between(
    contents: &Contents,
    bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    is_reversed: bool,
) -> Vec<(Bytes, Bytes)> {
    // Backwards, a range starts at its larger keys.
    let (lower, upper) = if is_reversed { (&bounds.1, &bounds.0) } else { (&bounds.0, &bounds.1) };
    let starts = |key: &[u8]| match lower {
        Bound::Included(start) => start.as_slice() <= key,
        Bound::Excluded(start) => start.as_slice() < key,
        Bound::Unbounded => true,
    };
    let ends = |key: &[u8]| match upper {
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
        Bound::Unbounded => true,
    };
    let inside = contents.iter().filter(|(key, _)| starts(key) && ends(key));
    let mut inside: Vec<_> = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    if is_reversed {
        inside.reverse();
    }
    inside
}
