//! The tables of a catalog by id, and of each run by key.
//!
//! Says at once whether a table is there, and whether it overlaps its neighbours in its run, which
//! are all that it can overlap first: the others stood apart before.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use esker_base::{KeyspaceId, TableId};
use esker_table::TableProperties;

use crate::catalog::{Catalog, KeyspaceState, TablePlace};
use crate::shape::RunId;

/// A run of a level of a keyspace.
type Place = (KeyspaceId, usize, RunId);

/// Tables of one catalog. Follows its changes as it is told of them.
#[derive(Default, Debug)]
pub(super) struct Index {
    tables: BTreeMap<TableId, (Place, ByKey)>,
    runs: BTreeMap<Place, BTreeSet<ByKey>>,
}

/// A table, in the order of the smallest keys.
#[derive(Clone, Debug)]
struct ByKey(Arc<TableProperties>);

impl Index {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let mut index = Self::default();
        for (keyspace, state) in &catalog.keyspaces {
            state.tables.values().for_each(|place| index.add(*keyspace, place));
        }
        index
    }

    pub(super) fn has(&self, table: TableId) -> bool {
        self.tables.contains_key(&table)
    }

    /// Adds a table, or moves one to another place.
    pub(super) fn add(&mut self, keyspace: KeyspaceId, place: &TablePlace) {
        self.remove(place.properties.id);
        let table = ByKey(Arc::clone(&place.properties));
        let place = (keyspace, place.level, place.run);
        self.tables.insert(table.0.id, (place, table.clone()));
        self.runs.entry(place).or_default().insert(table);
    }

    pub(super) fn remove(&mut self, table: TableId) {
        let Some((place, table)) = self.tables.remove(&table) else { return };
        let run = self.runs.get_mut(&place).expect("a table stands in its run");
        run.remove(&table);
        if run.is_empty() {
            self.runs.remove(&place);
        }
    }

    pub(super) fn remove_all(&mut self, state: &KeyspaceState) {
        state.tables.keys().for_each(|table| self.remove(*table));
    }

    /// Whether none of `tables` overlaps another table of its run. Those that are gone do not.
    pub(super) fn stand_apart(&self, tables: &BTreeSet<TableId>) -> bool {
        tables.iter().filter_map(|table| self.tables.get(table)).all(|(place, table)| {
            let run = &self.runs[place];
            let before = run.range(..table).next_back();
            let after = run.range((Bound::Excluded(table), Bound::Unbounded)).next();
            before.is_none_or(|before| before.ends_before(table))
                && after.is_none_or(|after| table.ends_before(after))
        })
    }
}

impl ByKey {
    fn ends_before(&self, next: &Self) -> bool {
        self.0.ends_before(&next.0.smallest_key)
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.smallest_key.cmp(&other.0.smallest_key).then(self.0.id.cmp(&other.0.id))
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByKey {}
