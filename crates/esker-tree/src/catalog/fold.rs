//! Folds edits into a catalog, in place.
//!
//! Decides which edits fit. Does not undo a refused edit: the caller keeps the previous catalog, or
//! has no use for the result if an edit is refused.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_base::limits::KEYSPACE_NAME_LEN_MAX;
use esker_base::{KeyspaceId, SeqNo, TableId};
use esker_table::TableProperties;

use super::{Catalog, KeyspaceState, TablePlace};
use crate::edit::{EditRecord, EditRefused, VersionEdit};
use crate::shape::{LEVEL_COUNT_MAX, RunId};
use index::Index;

/// A catalog into which edits are folded. After a refused edit, it may contain part of that.
#[derive(Debug)]
pub(crate) struct Fold {
    catalog: Catalog,
    /// For many tables. Without it, each added table is looked up in every keyspace, and an edit
    /// that adds tables to a run looks at every table of the keyspace.
    index: Option<Index>,
}

/// What an edit has changed so far.
#[derive(Default)]
struct Touched {
    /// The runs of each keyspace to which it adds tables.
    runs: BTreeMap<KeyspaceId, BTreeSet<(usize, RunId)>>,
    /// The tables that it names.
    tables: BTreeSet<TableId>,
}

impl Touched {
    fn run(&mut self, keyspace: KeyspaceId, level: usize, run: RunId) {
        self.runs.entry(keyspace).or_default().insert((level, run));
    }

    fn table(&mut self, table: TableId) -> Result<(), EditRefused> {
        ensure(self.tables.insert(table), || format!("table {table} is named twice in one edit"))
    }
}

impl Fold {
    /// A fold of any number of edits into `catalog`.
    ///
    /// # Cost
    /// Looks at every table; after that, the cost of an edit hardly grows with their number.
    /// Keyspaces that are shared with another catalog are copied at their first change.
    pub(crate) fn new(catalog: Catalog) -> Self {
        let index = Some(Index::of(&catalog));
        Self { catalog, index }
    }

    /// A fold of only `edit` into `catalog`.
    pub(crate) fn of_one(catalog: Catalog, edit: &VersionEdit) -> Self {
        let table_count: usize = catalog.keyspaces.values().map(|state| state.tables.len()).sum();
        // If asking every keyspace takes longer than looking at every table once.
        if table_count <= edit.records.len().saturating_mul(catalog.keyspaces.len()) {
            return Self::new(catalog);
        }
        Self { catalog, index: None }
    }

    #[cfg(test)]
    pub(crate) const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What the edits add up to.
    pub(crate) fn into_catalog(self) -> Catalog {
        self.catalog
    }

    /// Applies `edit`, as [`Catalog::apply`] does.
    ///
    /// # Errors
    /// With the first reason why it does not fit.
    pub(crate) fn take_in(&mut self, edit: &VersionEdit) -> Result<(), EditRefused> {
        let mut touched = Touched::default();
        for record in &edit.records {
            self.record(record, &mut touched)?;
        }
        if self.index.as_ref().is_some_and(|index| index.stand_apart(&touched.tables)) {
            return Ok(());
        }
        for (keyspace, runs) in &touched.runs {
            if let Some(state) = self.catalog.keyspaces.get(keyspace) {
                state.check_runs(runs)?;
            }
        }
        Ok(())
    }

    fn has_table(&self, id: TableId) -> bool {
        match &self.index {
            Some(index) => index.has(id),
            None => self.catalog.find_table(id).is_some(),
        }
    }

    fn record(&mut self, record: &EditRecord, touched: &mut Touched) -> Result<(), EditRefused> {
        match record {
            // Lower bounds: two that were reserved concurrently may come in either order.
            EditRecord::NextFileCounter(to) => {
                self.catalog.next_file_counter = self.catalog.next_file_counter.max(*to);
                Ok(())
            }
            EditRecord::LastSeqno(to) => {
                self.catalog.last_seqno = self.catalog.last_seqno.max(*to);
                Ok(())
            }
            EditRecord::NextKeyspaceId(to) => {
                self.catalog.next_keyspace_id = self.catalog.next_keyspace_id.max(*to);
                Ok(())
            }
            EditRecord::LogAdded(log) => {
                self.catalog.reserve(log.0);
                let is_new = self.catalog.logs.insert(*log);
                ensure(is_new, || format!("log {log} is added twice"))
            }
            EditRecord::LogRemoved(log) => {
                let was_there = self.catalog.logs.remove(log);
                self.catalog.durable_logs.remove(log);
                ensure(was_there, || format!("log {log} is removed but not there"))
            }
            EditRecord::LogDurable { log, offset } => {
                self.catalog.durable_logs.insert(*log, *offset);
                let is_there = self.catalog.logs.contains(log);
                ensure(is_there, || format!("log {log} is durable but not there"))
            }
            // Concerns only the file that it is in.
            EditRecord::Closed => Ok(()),
            _ => self.keyspace_record(record, touched),
        }
    }

    fn keyspace_record(
        &mut self,
        record: &EditRecord,
        touched: &mut Touched,
    ) -> Result<(), EditRefused> {
        match record {
            EditRecord::KeyspaceCreated { keyspace, name, order, options } => {
                self.create_keyspace(*keyspace, name, order, options)
            }
            EditRecord::KeyspaceRenamed { keyspace, name } => {
                self.check_name(name, Some(*keyspace))?;
                self.keyspace(*keyspace)?.name.clone_from(name);
                Ok(())
            }
            EditRecord::KeyspaceOptions { keyspace, options } => {
                self.keyspace(*keyspace)?.options.clone_from(options);
                Ok(())
            }
            EditRecord::KeyspaceDropped { keyspace } => {
                let Some(dropped) = self.catalog.keyspaces.remove(keyspace) else {
                    return refuse(format!("keyspace {keyspace} does not exist"));
                };
                if let Some(index) = &mut self.index {
                    index.remove_all(&dropped);
                }
                Ok(())
            }
            EditRecord::TableAdded { keyspace, level, run, properties } => {
                let place =
                    TablePlace { level: *level, run: *run, properties: Arc::clone(properties) };
                touched.table(properties.id)?;
                self.add_table(*keyspace, place)?;
                touched.run(*keyspace, *level, *run);
                Ok(())
            }
            EditRecord::TableRemoved { keyspace, table } => {
                touched.table(*table)?;
                self.remove_table(*keyspace, *table)
            }
            EditRecord::TableMoved { keyspace, table, level, run } => {
                touched.table(*table)?;
                self.move_table(*keyspace, *table, (*level, *run))?;
                touched.run(*keyspace, *level, *run);
                Ok(())
            }
            EditRecord::FlushedUpTo { keyspace, seqno } => {
                let flushed = &mut self.keyspace(*keyspace)?.flushed_up_to;
                ensure(*flushed <= *seqno, || {
                    format!("flushed sequence number goes back from {flushed} to {seqno}")
                })?;
                *flushed = *seqno;
                Ok(())
            }
            EditRecord::NextFileCounter(_)
            | EditRecord::LastSeqno(_)
            | EditRecord::NextKeyspaceId(_)
            | EditRecord::LogAdded(_)
            | EditRecord::LogRemoved(_)
            | EditRecord::LogDurable { .. }
            | EditRecord::Closed => unreachable!("not about a keyspace"),
        }
    }

    fn keyspace(&mut self, id: KeyspaceId) -> Result<&mut KeyspaceState, EditRefused> {
        match self.catalog.keyspaces.get_mut(&id) {
            Some(state) => Ok(Arc::make_mut(state)),
            None => refuse(format!("keyspace {id} does not exist")),
        }
    }

    fn check_name(&self, name: &str, owner: Option<KeyspaceId>) -> Result<(), EditRefused> {
        ensure(name.len() <= KEYSPACE_NAME_LEN_MAX, || {
            format!("keyspace name of {} bytes is too long", name.len())
        })?;
        match self.catalog.keyspaces.iter().find(|(_, state)| state.name == name) {
            Some((other, _)) if Some(*other) != owner => {
                refuse(format!("keyspace {other} is called {name:?} already"))
            }
            _ => Ok(()),
        }
    }

    fn create_keyspace(
        &mut self,
        id: KeyspaceId,
        name: &str,
        order: &str,
        options: &[u8],
    ) -> Result<(), EditRefused> {
        ensure(id.0 >= self.catalog.next_keyspace_id, || {
            format!("keyspace id {id} was given before")
        })?;
        self.check_name(name, None)?;
        let Some(next) = id.0.checked_add(1) else {
            return refuse("keyspace ids are used up");
        };
        self.catalog.next_keyspace_id = next;
        let state = KeyspaceState {
            name: name.to_owned(),
            order: order.to_owned(),
            options: options.to_vec(),
            flushed_up_to: SeqNo::ZERO,
            tables: BTreeMap::new(),
        };
        self.catalog.keyspaces.insert(id, Arc::new(state));
        Ok(())
    }

    fn add_table(&mut self, keyspace: KeyspaceId, place: TablePlace) -> Result<(), EditRefused> {
        let TablePlace { level, run, properties } = &place;
        let id = properties.id;
        check_level(*level)?;
        ensure(properties.keyspace == keyspace, || {
            format!("table {id} of keyspace {} is added to {keyspace}", properties.keyspace)
        })?;
        ensure(properties.smallest_key <= properties.largest_key, || {
            format!("table {id} ends before it starts")
        })?;
        ensure(!self.has_table(id), || format!("table {id} is added twice"))?;
        self.catalog.reserve(id.0);
        properties.blob_uses().for_each(|one| self.catalog.reserve(one.facts.id.0));
        self.catalog.reserve_counter(run.0);
        self.keyspace(keyspace)?.tables.insert(id, place.clone());
        if let Some(index) = &mut self.index {
            index.add(keyspace, &place);
        }
        Ok(())
    }

    fn remove_table(&mut self, keyspace: KeyspaceId, table: TableId) -> Result<(), EditRefused> {
        let removed = self.keyspace(keyspace)?.tables.remove(&table);
        if let Some(index) = &mut self.index {
            index.remove(table);
        }
        ensure(removed.is_some(), || {
            format!("table {table} is removed but not in keyspace {keyspace}")
        })
    }

    fn move_table(
        &mut self,
        keyspace: KeyspaceId,
        table: TableId,
        (level, run): (usize, RunId),
    ) -> Result<(), EditRefused> {
        check_level(level)?;
        self.catalog.reserve_counter(run.0);
        let Some(place) = self.keyspace(keyspace)?.tables.get_mut(&table) else {
            return refuse(format!("table {table} is moved but not in keyspace {keyspace}"));
        };
        ensure((place.level, place.run) != (level, run), || {
            format!("table {table} is moved to L{level} {run}, where it stands")
        })?;
        (place.level, place.run) = (level, run);
        let place = place.clone();
        if let Some(index) = &mut self.index {
            index.add(keyspace, &place);
        }
        Ok(())
    }
}

impl KeyspaceState {
    /// Checks that no two tables of one of `runs` overlap.
    fn check_runs(&self, runs: &BTreeSet<(usize, RunId)>) -> Result<(), EditRefused> {
        let mut touched: BTreeMap<(usize, RunId), Vec<&TableProperties>> = BTreeMap::new();
        for place in self.tables.values() {
            if runs.contains(&(place.level, place.run)) {
                touched.entry((place.level, place.run)).or_default().push(&place.properties);
            }
        }
        for ((level, run), mut tables) in touched {
            tables.sort_by(|a, b| a.smallest_key.cmp(&b.smallest_key));
            for (table, next) in tables.iter().zip(tables.iter().skip(1)) {
                if !table.ends_before(&next.smallest_key) {
                    let (a, b) = (table.id, next.id);
                    return refuse(format!("tables {a} and {b} overlap in L{level} {run}"));
                }
            }
        }
        Ok(())
    }
}

fn refuse<T>(what: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, EditRefused> {
    Err(EditRefused::new(what))
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), EditRefused> {
    if holds { Ok(()) } else { refuse(what()) }
}

fn check_level(level: usize) -> Result<(), EditRefused> {
    ensure(level < LEVEL_COUNT_MAX, || format!("there is no level {level}"))
}
