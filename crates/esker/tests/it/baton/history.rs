//! Which batches and loads there are, in which order they came, and what the database holds after
//! each.
//!
//! The order is learnt from the database itself: see [`History::at`]. An *event* is a batch or a
//! load; a load is an ingest or a bulk load.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use esker::Durability;
use esker_base::baton;

use super::clock::Shown;
use super::coverage;
use crate::state::{Bytes, Contents, How, State, Write};

/// The key that every batch appends its name to, by a merge: in the keyspace of the order, and in
/// the one that loads go to. A load puts its name there instead, so that the names behind it are
/// those of the batches that came later.
pub(super) const ORDER_KEY: &[u8] = b"order";

/// How keys start that only one client writes, by puts and single deletes in turn.
pub(super) const TOGGLED: &[u8] = b"toggled";

/// An event: whose it is, and which one of those.
pub(super) type Id = (u32, u32);

/// Keyspaces of a database that events go to, in an order of their own: those with a log, which tells
/// the order of what is in all of them, or the one without.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The number of the database.
    pub(super) home: usize,
    /// Which keyspaces are compared.
    pub(super) names: &'static [&'static str],
    /// The keyspace of the order.
    pub(super) order: &'static str,
    /// The keyspace that loads go to; that of the order, if there are none.
    pub(super) loaded: &'static str,
    pub(super) is_logged: bool,
}

/// What keyspaces hold, by their names.
pub(super) type Found = BTreeMap<&'static str, Contents>;

/// Events of one part.
#[derive(Clone)]
pub(super) struct History {
    pub(super) part: Part,
    events: BTreeMap<Id, Vec<Write>>,
    /// Those that are loads.
    loads: BTreeSet<Id>,
    /// Those that are not there, and never will be.
    refused: BTreeSet<Id>,
    /// Loads of those that were under way at the moment which is looked at: their edit may be in the
    /// manifest, which was written anew without it later.
    undone: BTreeSet<Id>,
    /// Those that every reader sees.
    acknowledged: BTreeSet<Id>,
    pub(super) promises: Promises,
    /// Batches that nobody wanted to be with the system when they were acknowledged, and when that was,
    /// as [`baton::idle`](esker_base::baton::idle) tells it.
    buffered: Vec<(Id, Duration)>,
    /// Those that are known to be there, in their order.
    order: Vec<Id>,
    /// What there is after the first so many of `order`.
    states: Vec<State>,
    /// The most events that anybody has seen: what is learnt later came behind them.
    seen: usize,
    /// What the clock showed at the latest before the database was closed or crashed, in milliseconds since
    /// the epoch, until it is open again.
    latest: u64,
}

/// Events that stay, at some moment, and those of which nobody knows yet.
#[derive(Clone, Default)]
pub(super) struct Promises {
    /// Whatever becomes of the process.
    pub(super) process: BTreeSet<Id>,
    /// Whatever becomes of the power.
    pub(super) power: BTreeSet<Id>,
    /// Loads that have no answer yet.
    pub(super) under_way: BTreeSet<Id>,
}

/// What tells which events a reader sees.
pub(super) struct Seen {
    /// Every batch.
    batches: Vec<Id>,
    /// The last load.
    load: Option<Id>,
    /// The batches after it.
    since: Vec<Id>,
}

/// The name that a batch appends.
pub(super) fn name_of(id: Id) -> String {
    format!("{}.{}", id.0, id.1)
}

/// The name that a load puts.
pub(super) fn load_name_of(id: Id) -> String {
    format!("load {}", name_of(id))
}

fn parse(name: &str) -> Id {
    let (client, number) = name.split_once('.').expect("a name has two parts");
    let number_of = |text: &str| text.parse().expect("a name has two numbers");
    (number_of(client), number_of(number))
}

impl Seen {
    /// From what stands under [`ORDER_KEY`] in the keyspace of the order, and in that of the loads.
    pub(super) fn new(order: Option<&[u8]>, loaded: Option<&[u8]>) -> Self {
        let names = |text: Option<&[u8]>| {
            let text = std::str::from_utf8(text.unwrap_or_default()).expect("names are text");
            let names = text.split('+').filter(|name| !name.is_empty());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut since = names(loaded);
        let load = since.first().and_then(|name| name.strip_prefix("load ")).map(parse);
        if load.is_some() {
            since.remove(0);
        }
        let ids = |names: Vec<String>| names.iter().map(|name| parse(name)).collect();
        Self { batches: ids(names(order)), load, since: ids(since) }
    }
}

impl History {
    pub(super) fn new(part: Part, state: State) -> Self {
        Self {
            part,
            events: BTreeMap::new(),
            loads: BTreeSet::new(),
            refused: BTreeSet::new(),
            undone: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            promises: Promises::default(),
            buffered: Vec::new(),
            order: Vec::new(),
            states: vec![state],
            seen: 0,
            latest: 0,
        }
    }

    /// The batch `id` is about to be committed.
    pub(super) fn issue(&mut self, id: Id, writes: Vec<Write>) {
        assert!(self.events.insert(id, writes).is_none(), "each event has a name of its own");
    }

    /// The load `id` is about to be done. No other one is, and those before it have been seen, or
    /// have not happened.
    pub(super) fn issue_load(&mut self, id: Id, writes: Vec<Write>) {
        self.issue(id, writes);
        self.loads.insert(id);
        self.promises.under_way.insert(id);
    }

    pub(super) fn acknowledge(&mut self, id: Id, durability: Durability) {
        self.acknowledged.insert(id);
        self.promises.under_way.remove(&id);
        if durability == Durability::Buffered && self.part.is_logged {
            self.buffered.push((id, baton::idle()));
        }
        if durability != Durability::Buffered {
            self.promises.process.insert(id);
        }
        if durability == Durability::Power {
            self.promises.power.insert(id);
        }
    }

    /// The event `id` was not done.
    pub(super) fn refuse(&mut self, id: Id) {
        self.refused.insert(id);
        self.promises.under_way.remove(&id);
    }

    /// What is looked at is as it was at the moment of `promises`.
    pub(super) fn go_back(&mut self, promises: &Promises) {
        self.undone = self.refused.intersection(&promises.under_way).copied().collect();
    }

    pub(super) fn acknowledged(&self) -> BTreeSet<Id> {
        self.acknowledged.clone()
    }

    /// `ids` stay, whatever becomes of the power.
    pub(super) fn promise(&mut self, ids: &BTreeSet<Id>) {
        self.promises.process.extend(ids);
        self.promises.power.extend(ids);
    }

    /// How many events there are where `seen` was read.
    ///
    /// # Panics
    /// If these are no events that were issued, or come in another order than was seen before, or
    /// if one of `required` is missing.
    pub(super) fn at(&mut self, seen: &Seen, required: &BTreeSet<Id>, when: &str) -> usize {
        let Seen { batches, load, since } = seen;
        let known: Vec<Id> = self.order.iter().filter(|id| !self.is_load(id)).copied().collect();
        let common = batches.len().min(known.len());
        assert_eq!(batches[..common], known[..common], "{when}: batches came in two orders");
        for id in &batches[common..] {
            self.learn(*id, self.order.len(), when);
        }
        assert!(batches.ends_with(since), "{when}: {since:?} after a load, and {batches:?} in all");
        let before = batches.len() - since.len();
        if let Some(load) = load.filter(|load| !self.order.contains(load)) {
            let place = self.place_of_batch(before);
            let later = self.order[place..].iter().find(|id| self.is_load(id));
            if !self.undone.contains(&load) {
                assert!(
                    self.seen <= place,
                    "{when}: {load:?} came before what was seen without it"
                );
                assert!(later.is_none(), "{when}: {load:?} came before {later:?}");
            }
            self.learn(load, place, when);
        }
        let batches_end = batches.len().checked_sub(1).map_or(0, |n| self.place_of_batch(n) + 1);
        let load_place = load.and_then(|load| self.order.iter().position(|id| *id == load));
        let count = batches_end.max(load_place.map_or(0, |place| place + 1));
        let there = &self.order[..count];
        let last = there.iter().rposition(|id| self.is_load(id));
        assert_eq!(last, load_place, "{when}: the last load, of {there:?}");
        let batches_before =
            last.map_or(0, |last| there[..last].iter().filter(|id| !self.is_load(id)).count());
        assert_eq!(batches_before, before, "{when}: batches before the last load of {there:?}");
        let missing: Vec<&Id> = required.iter().filter(|id| !there.contains(id)).collect();
        assert!(missing.is_empty(), "{when}: {missing:?} are missing after {there:?}");
        self.seen = self.seen.max(count);
        count
    }

    fn is_load(&self, id: &Id) -> bool {
        self.loads.contains(id)
    }

    /// Where the batch stands in `order` that has so many before it; its end, if there is none.
    fn place_of_batch(&self, number: usize) -> usize {
        let mut batches = self.order.iter().enumerate().filter(|(_, id)| !self.is_load(id));
        batches.nth(number).map_or(self.order.len(), |(place, _)| place)
    }

    /// Puts `id` into its place of the order.
    fn learn(&mut self, id: Id, place: usize, when: &str) {
        assert!(self.events.contains_key(&id), "{when}: who wrote {id:?}?");
        let is_refused = self.refused.contains(&id) && !self.undone.contains(&id);
        assert!(!is_refused, "{when}: {id:?} was not done, and is there");
        assert!(!self.order.contains(&id), "{when}: {id:?} is there twice");
        self.order.insert(place, id);
        self.states.truncate(place + 1);
        for id in &self.order[place..] {
            let mut state = self.states.last().cloned().expect("there is the first one");
            state.apply(&self.events[id]);
            self.states.push(state);
        }
    }

    /// What a reader sees of the first `count` events at that time, in milliseconds since the epoch.
    pub(super) fn state(&self, count: usize, millis: u64) -> State {
        let mut state = self.states[count].clone();
        state.pass_time(millis);
        state
    }

    /// The database ends when the clock shows this, or showed it at the latest.
    pub(super) fn end_at(&mut self, shown: Shown) {
        self.latest = self.latest.max(shown.millis());
    }

    /// It is open again with the first `count` events, and its keyspaces hold what `found` says, at that time
    /// in milliseconds since the epoch. If the clock was set back meanwhile, what had expired is there again
    /// where no compaction had met it.
    pub(super) fn find(&mut self, count: usize, found: &Found, millis: u64) {
        for state in &mut self.states[..=count] {
            state.doubt(self.latest);
        }
        for (name, found) in found {
            let (back, gone) = self.states[count].find(name, found, millis);
            coverage::add("values that a clock brought back", back);
            coverage::add("values that no clock could bring back", gone);
        }
        self.latest = 0;
    }

    /// How many values of the first `count` events had expired before the clock was set back, and would not
    /// have by what it shows.
    pub(super) fn behind_clock(&self, count: usize, shown: Shown) -> u64 {
        let (wall, latest) = (shown.wall.as_millis() as u64, shown.millis());
        let of = |name: &&str| self.states[count].expiries_of(name, wall, latest).len() as u64;
        self.part.names.iter().map(of).sum()
    }

    /// Which of its own keys `client` has put and not deleted again, and which it has.
    pub(super) fn toggles(&self, client: u32) -> BTreeMap<(String, Bytes), bool> {
        let own = self.order.iter().filter(|id| id.0 == client);
        let writes = own.flat_map(|id| &self.events[id]);
        let toggles = writes.filter(|write| write.key.starts_with(TOGGLED));
        let one = |write: &Write| {
            ((write.keyspace.clone(), write.key.clone()), write.how != How::SingleDelete)
        };
        toggles.map(one).collect()
    }

    /// Buffered batches that were acknowledged before stay, whatever becomes of the process.
    pub(super) fn promise_buffered(&mut self, before: Duration) {
        let process = &mut self.promises.process;
        self.buffered.retain(|(id, at)| {
            let is_old = *at < before;
            if is_old {
                coverage::add("buffered batches that were old at a crash", 1);
                process.insert(*id);
            }
            !is_old
        });
    }

    /// Nothing but the first `count` events is left; they stay as long as the power does.
    pub(super) fn cut(&mut self, count: usize) {
        self.order.truncate(count);
        self.states.truncate(count + 1);
        self.seen = count;
        let left: BTreeSet<Id> = self.order.iter().copied().collect();
        self.refused = self.events.keys().filter(|id| !left.contains(id)).copied().collect();
        self.acknowledged.clone_from(&left);
        self.promises.power.retain(|id| left.contains(id));
        self.promises.process = left;
        self.promises.under_way.clear();
        self.undone.clear();
        self.buffered.clear();
    }
}
