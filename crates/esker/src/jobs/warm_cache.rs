//! Warming the cache: a close records which blocks are in it, and they are loaded again after the
//! next open.
//!
//! Promises that neither a close nor an open fails because of it or waits for the loading, and that
//! nothing that readers brought into the cache is evicted for it. A problem with the list is
//! reported as an event, and the cache then starts cold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_base::{ManifestId, TableId};
use esker_table::{Table, WarmSlot};
use esker_tree::{WarmBlock, WarmList};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::engine::warming::{WarmStep, Warming};
use crate::events::Event;
use crate::sync::PoisonError;

impl Engine {
    fn warming(&self) -> crate::sync::MutexGuard<'_, Warming> {
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests loading of the blocks in the list found at the open, if there was one.
    pub(crate) fn begin_warming(&self) {
        if !self.warming().is_over() {
            self.scheduler.request_warming();
        }
    }

    /// Loads some blocks, and requests the next ones.
    pub(crate) fn warm_job(&self) {
        let mut warming = self.warming();
        let unread = warming.unread_file();
        if let (Err(error), Some(file)) = (warming.read(self.now()), unread) {
            drop(warming);
            let error = error.into();
            self.events.record(self.now(), Event::WarmListIgnored { file, error });
            return;
        }
        let step = warming.take_step();
        drop(warming);
        let is_full = step.is_some_and(|step| self.warm(step));
        let mut warming = self.warming();
        if is_full {
            warming.end();
        }
        if !warming.is_over() {
            drop(warming);
            self.scheduler.request_warming();
            return;
        }
        let duration = self.now().saturating_sub(warming.since);
        let Warming { blocks, bytes, reads, .. } = *warming;
        drop(warming);
        self.events.record(self.now(), Event::Warmed { blocks, bytes, reads, duration });
    }

    /// Loads the blocks of `step`; returns whether the cache is full.
    fn warm(&self, step: WarmStep) -> bool {
        // A missing table was compacted away since, or never was one of this database.
        let Some(table) = self.live_table(step.table) else { return false };
        let is_stopping = || self.scheduler.is_stopping() || self.is_closed();
        let may_go_on = || {
            self.write_overdue();
            self.flush_beside();
            !is_stopping()
        };
        let report = match table.warm(&step.slots, &may_go_on) {
            Ok(report) => report,
            Err(error) => {
                let (file, error) = (step.table.file_name(), error.into());
                self.warming().leave_out(step.table);
                self.events.record(self.now(), Event::WarmBlocksLeftOut { file, error });
                return false;
            }
        };
        Counters::add(&self.counters.warmed_blocks, report.blocks);
        let mut warming = self.warming();
        warming.blocks += report.blocks;
        warming.bytes += report.bytes;
        warming.reads += report.reads;
        if is_stopping() {
            warming.give_back(step);
        }
        report.is_full
    }

    fn live_table(&self, id: TableId) -> Option<Arc<Table>> {
        self.keyspaces().iter().find_map(|keyspace| {
            let view = keyspace.view();
            view.version.tables().find(|table| table.properties().id == id).cloned()
        })
    }

    /// Records what is in the cache of a database that was closed with `manifest`, if the options
    /// say so.
    pub(crate) fn save_warm_list(&self, manifest: ManifestId) {
        if !self.options.warm_cache {
            return;
        }
        let list = self.warm_list();
        if list.blocks.is_empty() {
            return;
        }
        let database = self.ledger.database();
        if let Err(error) = list.write(&*self.env.fs, &self.dir, manifest.0, database) {
            let error = error.into();
            self.events.record(self.now(), Event::WarmListNotSaved { error });
        }
    }

    fn warm_list(&self) -> WarmList {
        let mut live = BTreeSet::new();
        let mut by_slots = BTreeMap::new();
        for keyspace in self.keyspaces() {
            for table in keyspace.view().version.tables() {
                let id = table.properties().id;
                live.insert(id);
                by_slots.extend(table.slots_id().map(|slots| (slots, id)));
            }
        }
        let mut building = Building::default();
        for hot in self.cache.by_heat() {
            if let Some(table) = by_slots.get(&hot.slots) {
                let (slot, was_used_again) = (hot.slot, hot.was_used_again);
                building.add(*table, WarmSlot { slot, was_used_again });
            }
        }
        // The part of the last list not loaded yet: the database was closed before the cache was
        // warm.
        let mut warming = self.warming();
        drop(warming.read(self.now()));
        for (table, warm) in warming.rest().filter(|(table, _)| live.contains(table)) {
            building.add(table, warm);
        }
        building.list
    }
}

/// A list under construction.
#[derive(Default)]
struct Building {
    list: WarmList,
    tables: BTreeMap<TableId, u32>,
    /// The blocks already on it.
    blocks: BTreeSet<(u32, u32)>,
}

impl Building {
    fn add(&mut self, table: TableId, warm: WarmSlot) {
        if WarmList::BLOCKS_MAX <= self.list.blocks.len() {
            return;
        }
        let tables = &mut self.list.tables;
        let number = *self.tables.entry(table).or_insert_with(|| {
            tables.push(table);
            tables.len() as u32 - 1
        });
        let WarmSlot { slot, was_used_again } = warm;
        if self.blocks.insert((number, slot)) {
            self.list.blocks.push(WarmBlock { table: number, slot, was_used_again });
        }
    }
}
