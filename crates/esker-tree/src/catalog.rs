//! What a database consists of: keyspaces with their tables, logs, counters. The fold of edits.
//!
//! Strict: an edit that does not fit is refused with a reason, and changes nothing. Maps are
//! ordered, so a catalog is the same wherever the same edits are applied.
//!
//! Holds what is known about tables, not tables: nothing here opens a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use esker_base::limits::KEYSPACE_NAME_LEN_MAX;
use esker_base::{DatabaseId, FileId, KeyspaceId, LogId, OwnerId, SeqNo, TableId};
use esker_table::TableProperties;

use crate::edit::{EditRecord, EditRefused, VersionEdit};
use crate::shape::{LEVEL_COUNT_MAX, RunId, RunShape, Shape};

/// Everything that a manifest says.
#[derive(Clone, PartialEq, Debug)]
pub struct Catalog {
    /// The database that it describes.
    pub database: DatabaseId,
    /// Shared, so that applying an edit copies only the keyspaces that it touches.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
    /// Log segments that may hold entries which are in no table.
    pub logs: BTreeSet<LogId>,
    /// Up to where segments of `logs` are known to be durable; of others nothing is known.
    pub durable_logs: BTreeMap<LogId, u64>,
    /// Above the counter of every file id of [`OwnerId::FIRST`] and of every run id.
    pub next_file_counter: u64,
    /// No larger sequence number is in the tables.
    pub last_seqno: SeqNo,
    /// Above every keyspace id.
    pub next_keyspace_id: u32,
}

/// One keyspace of a [`Catalog`].
#[derive(Clone, PartialEq, Debug)]
pub struct KeyspaceState {
    /// Unique among the keyspaces that exist.
    pub name: String,
    /// Name of the order of its keys.
    pub order: String,
    /// Its options, in the coding of the floor above.
    pub options: Vec<u8>,
    /// Every entry up to here is in the tables.
    pub flushed_up_to: SeqNo,
    /// Every table, and where it stands.
    pub tables: BTreeMap<TableId, TablePlace>,
}

/// Where a table stands, and what is known about it.
#[derive(Clone, PartialEq, Debug)]
pub struct TablePlace {
    /// Its level.
    pub level: usize,
    /// Its run in that level.
    pub run: RunId,
    /// What is known about it.
    pub properties: Arc<TableProperties>,
}

impl KeyspaceState {
    /// The tables as a tree.
    ///
    /// # Cost
    /// Sorts the tables.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let mut runs: BTreeMap<(usize, RunId), Vec<Arc<TableProperties>>> = BTreeMap::new();
        for place in self.tables.values() {
            let run = runs.entry((place.level, place.run)).or_default();
            run.push(Arc::clone(&place.properties));
        }
        let mut shape = Shape::default();
        // Descending, because newer runs have larger ids and stand first.
        for ((level, id), mut tables) in runs.into_iter().rev() {
            tables.sort_by(|a, b| a.smallest_key.cmp(&b.smallest_key));
            shape.levels[level].runs.push(RunShape { id, tables });
        }
        shape
    }

    /// That no two tables of one of `runs` overlap.
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

/// What an edit has been about so far.
#[derive(Default)]
struct Touched {
    /// The runs of each keyspace that it puts tables into.
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

impl Catalog {
    /// Of a database that has nothing yet.
    #[must_use]
    pub const fn new(database: DatabaseId) -> Self {
        Self {
            database,
            keyspaces: BTreeMap::new(),
            logs: BTreeSet::new(),
            durable_logs: BTreeMap::new(),
            next_file_counter: 1,
            last_seqno: SeqNo::ZERO,
            next_keyspace_id: 0,
        }
    }

    /// Takes in `edit`, all of it or, if it is refused, nothing.
    ///
    /// The records count in their order, and name no table twice. Whether tables overlap is asked at
    /// the end: an edit may add the outputs of a compaction before it removes the inputs.
    ///
    /// # Errors
    /// With the first reason why it does not fit.
    ///
    /// # Cost
    /// Copies the keyspaces that it touches.
    pub fn apply(&mut self, edit: &VersionEdit) -> Result<(), EditRefused> {
        let mut next = self.clone();
        let mut touched = Touched::default();
        for record in &edit.records {
            next.apply_record(record, &mut touched)?;
        }
        for (keyspace, runs) in &touched.runs {
            if let Some(state) = next.keyspaces.get(keyspace) {
                state.check_runs(runs)?;
            }
        }
        *self = next;
        Ok(())
    }

    /// The edit that makes this catalog out of [`Catalog::new`].
    #[must_use]
    pub fn snapshot_edit(&self) -> VersionEdit {
        let mut records = Vec::new();
        for (&keyspace, state) in &self.keyspaces {
            records.push(EditRecord::KeyspaceCreated {
                keyspace,
                name: state.name.clone(),
                order: state.order.clone(),
                options: state.options.clone(),
            });
            if state.flushed_up_to > SeqNo::ZERO {
                records.push(EditRecord::FlushedUpTo { keyspace, seqno: state.flushed_up_to });
            }
            records.extend(state.tables.values().map(|place| EditRecord::TableAdded {
                keyspace,
                level: place.level,
                run: place.run,
                properties: Arc::clone(&place.properties),
            }));
        }
        records.extend(self.logs.iter().copied().map(EditRecord::LogAdded));
        let durable = self.durable_logs.iter().filter(|(log, _)| self.logs.contains(log));
        records.extend(durable.map(|(&log, &offset)| EditRecord::LogDurable { log, offset }));
        records.push(EditRecord::NextFileCounter(self.next_file_counter));
        records.push(EditRecord::LastSeqno(self.last_seqno));
        records.push(EditRecord::NextKeyspaceId(self.next_keyspace_id));
        VersionEdit { records }
    }

    /// Where `table` stands, and in which keyspace.
    #[must_use]
    pub fn find_table(&self, table: TableId) -> Option<(KeyspaceId, &TablePlace)> {
        self.keyspaces.iter().find_map(|(&id, state)| Some((id, state.tables.get(&table)?)))
    }

    /// Raises the file counter above `id`.
    pub(crate) fn reserve(&mut self, id: FileId) {
        if id.owner == OwnerId::FIRST {
            self.reserve_counter(id.counter);
        }
    }

    fn reserve_counter(&mut self, counter: u64) {
        self.next_file_counter = self.next_file_counter.max(counter.saturating_add(1));
    }

    fn apply_record(
        &mut self,
        record: &EditRecord,
        touched: &mut Touched,
    ) -> Result<(), EditRefused> {
        match record {
            // Lower bounds: two that were taken at once may come in either order.
            EditRecord::NextFileCounter(to) => {
                self.next_file_counter = self.next_file_counter.max(*to);
                Ok(())
            }
            EditRecord::LastSeqno(to) => {
                self.last_seqno = self.last_seqno.max(*to);
                Ok(())
            }
            EditRecord::NextKeyspaceId(to) => {
                self.next_keyspace_id = self.next_keyspace_id.max(*to);
                Ok(())
            }
            EditRecord::LogAdded(log) => {
                self.reserve(log.0);
                let is_new = self.logs.insert(*log);
                ensure(is_new, || format!("log {log} is added twice"))
            }
            EditRecord::LogRemoved(log) => {
                let was_there = self.logs.remove(log);
                self.durable_logs.remove(log);
                ensure(was_there, || format!("log {log} is removed but not there"))
            }
            EditRecord::LogDurable { log, offset } => {
                self.durable_logs.insert(*log, *offset);
                let is_there = self.logs.contains(log);
                ensure(is_there, || format!("log {log} is durable but not there"))
            }
            // About the file that it stands in.
            EditRecord::Closed => Ok(()),
            _ => self.apply_to_keyspace(record, touched),
        }
    }

    fn apply_to_keyspace(
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
                let dropped = self.keyspaces.remove(keyspace);
                ensure(dropped.is_some(), || format!("keyspace {keyspace} does not exist"))
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
                let removed = self.keyspace(*keyspace)?.tables.remove(table);
                ensure(removed.is_some(), || {
                    format!("table {table} is removed but not in keyspace {keyspace}")
                })
            }
            EditRecord::TableMoved { keyspace, table, level, run } => {
                touched.table(*table)?;
                check_level(*level)?;
                self.reserve_counter(run.0);
                let Some(place) = self.keyspace(*keyspace)?.tables.get_mut(table) else {
                    return refuse(format!(
                        "table {table} is moved but not in keyspace {keyspace}"
                    ));
                };
                ensure((place.level, place.run) != (*level, *run), || {
                    format!("table {table} is moved to L{level} {run}, where it stands")
                })?;
                (place.level, place.run) = (*level, *run);
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
        match self.keyspaces.get_mut(&id) {
            Some(state) => Ok(Arc::make_mut(state)),
            None => refuse(format!("keyspace {id} does not exist")),
        }
    }

    fn check_name(&self, name: &str, owner: Option<KeyspaceId>) -> Result<(), EditRefused> {
        ensure(name.len() <= KEYSPACE_NAME_LEN_MAX, || {
            format!("keyspace name of {} bytes is too long", name.len())
        })?;
        match self.keyspaces.iter().find(|(_, state)| state.name == name) {
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
        ensure(id.0 >= self.next_keyspace_id, || format!("keyspace id {id} was given before"))?;
        self.check_name(name, None)?;
        let Some(next) = id.0.checked_add(1) else {
            return refuse("keyspace ids are used up");
        };
        self.next_keyspace_id = next;
        let state = KeyspaceState {
            name: name.to_owned(),
            order: order.to_owned(),
            options: options.to_vec(),
            flushed_up_to: SeqNo::ZERO,
            tables: BTreeMap::new(),
        };
        self.keyspaces.insert(id, Arc::new(state));
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
        ensure(self.find_table(id).is_none(), || format!("table {id} is added twice"))?;
        self.reserve(id.0);
        properties.blob_uses().for_each(|one| self.reserve(one.facts.id.0));
        self.reserve_counter(run.0);
        self.keyspace(keyspace)?.tables.insert(id, place);
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

impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "next file {}, last seqno {}", self.next_file_counter, self.last_seqno)?;
        writeln!(f, ", next keyspace {}", self.next_keyspace_id)?;
        for (id, state) in &self.keyspaces {
            write!(f, "keyspace {id} {:?} order {:?}, ", state.name, state.order)?;
            write!(f, "{} bytes of options, ", state.options.len())?;
            writeln!(f, "flushed up to {}", state.flushed_up_to)?;
            write!(f, "{}", state.shape())?;
        }
        for log in &self.logs {
            match self.durable_logs.get(log) {
                Some(offset) => writeln!(f, "log {log} durable up to {offset}")?,
                None => writeln!(f, "log {log}")?,
            }
        }
        Ok(())
    }
}
