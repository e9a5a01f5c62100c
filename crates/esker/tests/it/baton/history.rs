//! Which batches there are, in which order they came, and what the database holds after each.
//!
//! The order is learnt from the database itself: see [`History::at`].

use std::collections::{BTreeMap, BTreeSet};

use esker::Durability;

use super::script::ORDER;
use crate::state::{State, Write};

/// The key of the keyspace [`ORDER`] that every batch appends its name to.
pub(super) const ORDER_KEY: &[u8] = b"order";

/// A batch: whose it is, and which one of those.
pub(super) type Id = (u32, u32);

/// Batches of one database.
#[derive(Clone)]
pub(super) struct History {
    batches: BTreeMap<Id, Vec<Write>>,
    /// Those that are not there, and never will be.
    refused: BTreeSet<Id>,
    /// Those that every reader sees.
    acknowledged: BTreeSet<Id>,
    pub(super) promises: Promises,
    /// Those that are known to be there, in their order.
    order: Vec<Id>,
    /// What there is after the first so many of `order`.
    states: Vec<State>,
}

/// Batches that stay.
#[derive(Clone, Default)]
pub(super) struct Promises {
    /// Whatever becomes of the process.
    pub(super) process: BTreeSet<Id>,
    /// Whatever becomes of the power.
    pub(super) power: BTreeSet<Id>,
}

/// The name that a batch appends.
pub(super) fn name_of(id: Id) -> String {
    format!("{}.{}", id.0, id.1)
}

fn parse(name: &str) -> Id {
    let (client, number) = name.split_once('.').expect("a name of a batch has two parts");
    let number_of = |text: &str| text.parse().expect("a name of a batch has two numbers");
    (number_of(client), number_of(number))
}

impl History {
    pub(super) fn new(state: State) -> Self {
        Self {
            batches: BTreeMap::new(),
            refused: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            promises: Promises::default(),
            order: Vec::new(),
            states: vec![state],
        }
    }

    /// The batch `id` is about to be committed.
    pub(super) fn issue(&mut self, id: Id, writes: Vec<Write>) {
        assert!(self.batches.insert(id, writes).is_none(), "each batch has a name of its own");
    }

    pub(super) fn acknowledge(&mut self, id: Id, durability: Durability) {
        self.acknowledged.insert(id);
        if durability != Durability::Buffered {
            self.promises.process.insert(id);
        }
        if durability == Durability::Power {
            self.promises.power.insert(id);
        }
    }

    /// The batch `id` was not done.
    pub(super) fn refuse(&mut self, id: Id) {
        self.refused.insert(id);
    }

    pub(super) fn acknowledged(&self) -> BTreeSet<Id> {
        self.acknowledged.clone()
    }

    /// `ids` stay, whatever becomes of the power.
    pub(super) fn promise(&mut self, ids: &BTreeSet<Id>) {
        self.promises.process.extend(ids);
        self.promises.power.extend(ids);
    }

    /// How many batches have come where the key of the order holds `found`.
    ///
    /// # Panics
    /// If that is no order of batches that were issued, or another one than was seen before, or if
    /// one of `required` is missing.
    pub(super) fn at(
        &mut self,
        found: Option<&[u8]>,
        required: &BTreeSet<Id>,
        when: &str,
    ) -> usize {
        let text = std::str::from_utf8(found.unwrap_or_default()).expect("names are text");
        let ids: Vec<Id> = text.split('+').filter(|name| !name.is_empty()).map(parse).collect();
        let common = ids.len().min(self.order.len());
        assert_eq!(ids[..common], self.order[..common], "{when}: batches came in two orders");
        for id in &ids[common..] {
            let writes =
                self.batches.get(id).unwrap_or_else(|| panic!("{when}: who wrote {id:?}?"));
            assert!(!self.refused.contains(id), "{when}: {id:?} was not done, and is there");
            assert!(!self.order.contains(id), "{when}: {id:?} is there twice");
            let mut state = self.states.last().cloned().expect("there is the first one");
            state.apply(writes);
            let operand = name_of(*id);
            state.apply(&[Write::merge(ORDER, ORDER_KEY, operand.as_bytes())]);
            self.states.push(state);
            self.order.push(*id);
        }
        let there: BTreeSet<Id> = ids.iter().copied().collect();
        let missing: Vec<&Id> = required.difference(&there).collect();
        assert!(missing.is_empty(), "{when}: {missing:?} are missing after {ids:?}");
        ids.len()
    }

    /// What there is after the first `count` batches.
    pub(super) fn state(&self, count: usize) -> State {
        self.states[count].clone()
    }

    /// Nothing but the first `count` batches is left; they stay as long as the power does.
    pub(super) fn cut(&mut self, count: usize) {
        self.order.truncate(count);
        self.states.truncate(count + 1);
        let left: BTreeSet<Id> = self.order.iter().copied().collect();
        self.refused = self.batches.keys().filter(|id| !left.contains(id)).copied().collect();
        self.acknowledged.clone_from(&left);
        self.promises.power.retain(|id| left.contains(id));
        self.promises.process = left;
    }
}
