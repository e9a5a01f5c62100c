//! What a database should hold, in the simplest form: maps of byte strings.
//!
//! A [`State`] is the database at one sequence number. Copies share what they have in common, so a
//! history is a list of them, and a snapshot is one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use esker::operators::Append;
use esker::{Batch, Keyspace, Merge, Order};

use crate::orders::Shortlex;
use crate::random::expiry_at;

pub(crate) type Bytes = Arc<[u8]>;
pub(crate) type Contents = BTreeMap<Bytes, Bytes>;

/// Where a range starts and ends.
pub(crate) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The order in which the keys of a keyspace stand.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Turn {
    #[default]
    Bytewise,
    Reversed,
    /// Shorter keys first: an order of the user's own, which the database does not come with.
    Shortlex,
}

impl Turn {
    /// The one of the options of a keyspace.
    pub(crate) fn of(order: &Order) -> Self {
        let all = [Self::Bytewise, Self::Reversed, Self::Shortlex];
        all.into_iter().find(|turn| turn.order() == *order).expect("a test has no other order")
    }

    pub(crate) fn order(self) -> Order {
        match self {
            Self::Bytewise => Order::bytewise(),
            Self::Reversed => Order::reverse_bytewise(),
            Self::Shortlex => Order::new(Shortlex { name: "shortlex" }),
        }
    }

    pub(crate) fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Bytewise => a.cmp(b),
            Self::Reversed => b.cmp(a),
            Self::Shortlex => (a.len(), a).cmp(&(b.len(), b)),
        }
    }

    /// Whether `key` lies between the bounds.
    pub(crate) fn is_within(self, (start, end): (Bound<&[u8]>, Bound<&[u8]>), key: &[u8]) -> bool {
        let starts = match start {
            Bound::Included(start) => self.compare(start, key).is_le(),
            Bound::Excluded(start) => self.compare(start, key).is_lt(),
            Bound::Unbounded => true,
        };
        let ends = match end {
            Bound::Included(end) => self.compare(key, end).is_le(),
            Bound::Excluded(end) => self.compare(key, end).is_lt(),
            Bound::Unbounded => true,
        };
        starts && ends
    }
}

/// One write of a batch, to the keyspace of that name; no value for a delete, and a range of keys
/// instead of one for a delete of many.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) keyspace: String,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
    pub(crate) how: How,
    /// When the value expires, in milliseconds since the epoch, if it does.
    pub(crate) expiry: Option<u64>,
    /// The keys, if they are many.
    pub(crate) range: Option<Bounds>,
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
    /// Deletes by a single delete what was put once.
    SingleDelete,
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
            expiry: None,
            range: None,
        }
    }

    /// A put that expires so many milliseconds after the epoch.
    pub(crate) fn put_until(keyspace: &str, key: &[u8], value: &[u8], expiry: u64) -> Self {
        Self { expiry: Some(expiry), ..Self::put(keyspace, key, value) }
    }

    pub(crate) fn merge(keyspace: &str, key: &[u8], operand: &[u8]) -> Self {
        Self { how: How::Merge, ..Self::put(keyspace, key, operand) }
    }

    pub(crate) fn toggle(keyspace: &str, key: &[u8], value: &[u8]) -> Self {
        Self { how: How::Toggle, ..Self::put(keyspace, key, value) }
    }

    pub(crate) fn delete(keyspace: &str, key: &[u8]) -> Self {
        Self { value: None, ..Self::put(keyspace, key, b"") }
    }

    /// A delete of a key that was put once.
    pub(crate) fn single_delete(keyspace: &str, key: &[u8]) -> Self {
        Self { how: How::SingleDelete, ..Self::delete(keyspace, key) }
    }

    /// A delete of `range`, turned around if it ends before it starts in the order of the keyspace.
    pub(crate) fn delete_range(keyspace: &str, range: Bounds, turn: Turn) -> Self {
        use Bound::{Excluded, Included};
        let is_inverted = match (&range.0, &range.1) {
            (Included(a) | Excluded(a), Included(b) | Excluded(b)) => turn.compare(b, a).is_lt(),
            _ => false,
        };
        let range = if is_inverted { (range.1, range.0) } else { range };
        Self { range: Some(range), ..Self::delete(keyspace, b"") }
    }

    /// Adds the write to `batch`; `state` is that of before it.
    pub(crate) fn add_to(&self, batch: &mut Batch, keyspace: &Keyspace, state: &State) {
        if let Some(range) = &self.range {
            return batch.delete_range(keyspace, range.clone());
        }
        match (&self.value, self.how) {
            (Some(operand), How::Merge) => batch.merge(keyspace, &self.key, operand),
            (_, How::Toggle) if state.contents(&self.keyspace).contains_key(&self.key) => {
                batch.single_delete(keyspace, &self.key);
            }
            (None, How::SingleDelete) => batch.single_delete(keyspace, &self.key),
            (Some(value), _) => match self.expiry {
                None => batch.put(keyspace, &self.key, value),
                Some(millis) => {
                    batch.put_with_expiry(keyspace, &self.key, value, expiry_at(millis));
                }
            },
            (None, _) => batch.delete(keyspace, &self.key),
        }
    }
}

/// A keyspace as the test knows it: never the same again once dropped, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Id(u32);

/// A value that expires.
#[derive(Clone, Debug)]
struct Expiring {
    /// When it does, in milliseconds since the epoch.
    at: u64,
    /// What operands leave of it then.
    rest: Option<Bytes>,
    /// Whether it had expired before the clock was set back, so that no file may have it.
    may_be_gone: bool,
    /// Whether it is not there, for whoever reads since the database was opened.
    is_gone: bool,
}

/// All keyspaces at one moment.
#[derive(Clone, Default, Debug)]
pub(crate) struct State {
    /// In order of creation, as the database lists them.
    names: Vec<(Id, String)>,
    contents: BTreeMap<Id, Arc<Contents>>,
    /// How the keys of each stand, if not bytewise.
    turns: BTreeMap<Id, Turn>,
    /// What will be of values that expire, and have not yet.
    expiries: BTreeMap<(Id, Bytes), Expiring>,
    /// In milliseconds since the epoch.
    now: u64,
    next: u32,
}

impl State {
    /// A new database.
    pub(crate) fn new() -> Self {
        // No clock of a test stands before this.
        let mut state = Self { now: 1, ..Self::default() };
        state.create("default");
        state
    }

    pub(crate) fn create(&mut self, name: &str) {
        let id = Id(self.next);
        self.next += 1;
        self.names.push((id, name.to_owned()));
        self.contents.insert(id, Arc::default());
    }

    /// Says how the keys of a keyspace stand.
    pub(crate) fn turn(&mut self, name: &str, turn: Turn) {
        self.turns.insert(self.id(name).expect("only keyspaces that exist are turned"), turn);
    }

    pub(crate) fn turn_of(&self, name: &str) -> Turn {
        self.id(name).and_then(|id| self.turns.get(&id).copied()).unwrap_or_default()
    }

    /// The entries of a keyspace between the bounds, in its order.
    pub(crate) fn between(
        &self,
        name: &str,
        bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Vec<(Bytes, Bytes)> {
        between(&self.contents(name), bounds, self.turn_of(name))
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let name = self.names.iter_mut().find(|(_, name)| name == from);
        to.clone_into(&mut name.expect("only keyspaces that exist are renamed").1);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let id = self.id(name).expect("only keyspaces that exist are dropped");
        self.names.retain(|(other, _)| *other != id);
        self.contents.remove(&id);
        self.expiries.retain(|(other, _), _| *other != id);
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

    /// When the value of a key expires, if it is going to.
    pub(crate) fn expiry(&self, name: &str, key: &[u8]) -> Option<u64> {
        Some(self.expiries.get(&(self.id(name)?, key.into()))?.at)
    }

    /// The times after `start` up to `end` at which a value of the keyspace expires.
    pub(crate) fn expiries_of(&self, name: &str, start: u64, end: u64) -> Vec<u64> {
        let id = self.id(name);
        let own = self.expiries.iter().filter(|((other, _), _)| Some(*other) == id);
        let times = own.map(|(_, expiring)| expiring.at);
        times.filter(|expiry| start < *expiry && *expiry <= end).collect()
    }

    /// Lets time pass until so many milliseconds after the epoch.
    pub(crate) fn pass_time(&mut self, now: u64) {
        self.now = now;
        let is_past = |expiring: &Expiring| expiring.is_gone || expiring.at <= now;
        for ((id, key), expiring) in self.expiries.extract_if(.., |_, expiring| is_past(expiring)) {
            let contents = self.contents.get_mut(&id).expect("a known keyspace");
            match expiring.rest {
                None => Arc::make_mut(contents).remove(&key),
                Some(rest) => Arc::make_mut(contents).insert(key, rest),
            };
        }
    }

    /// Time had passed until then, and the clock may be set back now: of what had expired, any part may be
    /// gone for good.
    pub(crate) fn doubt(&mut self, latest: u64) {
        for expiring in self.expiries.values_mut() {
            expiring.may_be_gone |= expiring.at <= latest;
        }
    }

    /// A keyspace of a database that was just opened holds what `found` says, at `now`: so much of what is in
    /// doubt is still there, and no more. Returns how many values the clock has brought back, and how many
    /// it has not.
    pub(crate) fn find(&mut self, name: &str, found: &Contents, now: u64) -> (u64, u64) {
        let own = self.id(name);
        let (mut back, mut gone) = (0, 0);
        for ((id, key), expiring) in &mut self.expiries {
            if Some(*id) == own && now < expiring.at {
                expiring.is_gone = expiring.may_be_gone && found.get(key) == expiring.rest.as_ref();
                back += u64::from(expiring.may_be_gone && !expiring.is_gone);
                gone += u64::from(expiring.is_gone);
            }
        }
        (back, gone)
    }

    pub(crate) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            let id = self.id(&write.keyspace).expect("writes go to keyspaces that exist");
            let contents = Arc::make_mut(self.contents.get_mut(&id).expect("a known keyspace"));
            if let Some(range) = &write.range {
                let turn = self.turns.get(&id).copied().unwrap_or_default();
                for (key, _) in between(contents, range, turn) {
                    contents.remove(&key);
                    self.expiries.remove(&(id, key));
                }
                continue;
            }
            let place = (id, write.key.clone());
            let existing = contents.get(&write.key);
            let plus = |existing: &[u8], operand: &[u8]| -> Bytes {
                [existing, b"+", operand].concat().into()
            };
            let value = match (write.how, existing) {
                (How::Merge, Some(existing)) => {
                    let operand = write.value.as_deref().expect("a merge has an operand");
                    // The operand stays when what it was merged with expires.
                    if let Some(expiring) = self.expiries.get_mut(&place) {
                        expiring.rest = Some(match &expiring.rest {
                            None => operand.into(),
                            Some(rest) => plus(rest, operand),
                        });
                    }
                    Some(plus(existing, operand))
                }
                (How::Toggle, Some(_)) => None,
                _ => write.value.clone(),
            };
            if write.how != How::Merge || existing.is_none() {
                self.expiries.remove(&place);
            }
            let has_expired = write.expiry.is_some_and(|expiry| expiry <= self.now);
            let value = value.filter(|_| !has_expired);
            if let (Some(at), Some(_)) = (write.expiry, &value) {
                let expiring = Expiring { at, rest: None, may_be_gone: false, is_gone: false };
                self.expiries.insert(place, expiring);
            }
            match value {
                Some(value) => contents.insert(write.key.clone(), value),
                None => contents.remove(&write.key),
            };
        }
    }
}

/// The entries of `contents` between the bounds, which may be inverted, in their order.
pub(crate) fn between(
    contents: &Contents,
    bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    turn: Turn,
) -> Vec<(Bytes, Bytes)> {
    let bounds = (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice));
    let inside = contents.iter().filter(|(key, _)| turn.is_within(bounds, key));
    let mut inside: Vec<_> = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    if turn != Turn::Bytewise {
        inside.sort_by(|(a, _), (b, _)| turn.compare(a, b));
    }
    inside
}
