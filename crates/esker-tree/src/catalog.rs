//! The catalog: what a database consists of, that is, keyspaces with their tables, logs and
//! counters. It is the sum of all edits.
//!
//! Strict: an edit that does not fit is refused with a reason, and changes nothing. Maps are
//! ordered, so the same edits always give the same catalog.
//!
//! Holds facts about tables, not tables: nothing here opens a file.

mod fold;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use esker_base::{DatabaseId, FileId, KeyspaceId, LogId, OwnerId, SeqNo, TableId};
use esker_table::TableProperties;

use crate::edit::{EditRecord, EditRefused, VersionEdit};
use crate::shape::{RunId, RunShape, Shape};
pub(crate) use fold::Fold;

/// The contents of a manifest.
#[derive(Clone, PartialEq, Debug)]
pub struct Catalog {
    /// The database that it describes.
    pub database: DatabaseId,
    /// Shared, so that applying an edit copies only the keyspaces that it touches.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
    /// Log segments that may hold entries which are in no table.
    pub logs: BTreeSet<LogId>,
    /// How far segments of `logs` are known to be durable; for others, this is unknown.
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
    /// Its options, as encoded by the floor above.
    pub options: Vec<u8>,
    /// Every entry up to here is in the tables.
    pub flushed_up_to: SeqNo,
    /// Every table, and its place.
    pub tables: BTreeMap<TableId, TablePlace>,
}

/// The place of a table, and what is known about it.
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
        // Descending, because newer runs have larger ids and come first.
        for ((level, id), mut tables) in runs.into_iter().rev() {
            tables.sort_by(|a, b| a.smallest_key.cmp(&b.smallest_key));
            shape.levels[level].runs.push(RunShape { id, tables });
        }
        shape
    }
}

impl Catalog {
    /// The catalog of an empty database.
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

    /// Applies `edit`: all of it or, if it is refused, nothing.
    ///
    /// Records are applied in order, and may not name a table twice. Whether tables overlap is
    /// checked at the end: an edit may add the outputs of a compaction before it removes the
    /// inputs.
    ///
    /// # Errors
    /// With the first reason why it does not fit.
    ///
    /// # Cost
    /// Copies the keyspaces that it touches.
    pub fn apply(&mut self, edit: &VersionEdit) -> Result<(), EditRefused> {
        *self = self.with(edit)?;
        Ok(())
    }

    /// This catalog after `edit`, as by [`Catalog::apply`].
    ///
    /// # Errors
    /// With the first reason why it does not fit.
    pub(crate) fn with(&self, edit: &VersionEdit) -> Result<Self, EditRefused> {
        let mut fold = Fold::of_one(self.clone(), edit);
        fold.take_in(edit)?;
        Ok(fold.into_catalog())
    }

    /// The edit that turns [`Catalog::new`] into this catalog.
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

    /// The place of `table`, and its keyspace.
    ///
    /// # Cost
    /// Searches every keyspace.
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
