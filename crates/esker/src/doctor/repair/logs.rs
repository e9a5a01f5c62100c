//! The log of a database that is repaired: kept as it is, or moved into tables as far as it is intact.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_base::{DatabaseId, FileKind, Fragments, LogId, SeqNo};
use esker_memtable::Memtable;
use esker_table::TableTimes;
use esker_tree::{KeyspaceState, RunId, TablePlace};

use super::super::log_rescue::rescue;
use super::super::new_tables::NewTables;
use super::super::place::Place;
use super::super::repair_report::Rebuilt;
use super::Repair;
use crate::damaged::log_walk::{LogItem, walk_logs};
use crate::error::Result;
use crate::keyspace_core::write_times::as_millis;
use crate::recovery::replay::written_since;

impl Repair<'_> {
    /// Keeps the log as it is, if it is whole; else moves what is intact of it into tables.
    pub(super) fn logs(&mut self) -> Result<()> {
        let is_log = |name: &String| name.ends_with(FileKind::Log.extension());
        if self.history.is_whole && !self.damaged.iter().any(is_log) {
            return Ok(());
        }
        let logs: Vec<LogId> = match self.history.is_whole {
            true => self.history.catalog.logs.iter().copied().collect(),
            false => {
                let (ours, others) = self.place.logs_of(self.history.database())?;
                self.aside
                    .extend(others.iter().map(|log| self.place.path_of((log.0, FileKind::Log))));
                ours
            }
        };
        let (released, logs): (Vec<LogId>, Vec<LogId>) =
            logs.into_iter().partition(|log| self.history.released.contains(log));
        let goes_on = self.options.past_holes;
        let rescued = rescue(self.place, &self.history, &self.causes, &logs, goes_on)?;
        self.report.lost.extend(rescued.lost);
        for log in rescued.spoilt {
            if self.place.logs().contains_key(&log.0) {
                self.aside.push(self.place.log_dir.join(log.file_name()));
            }
        }
        if rescued.operation_count > 0 {
            let from = "the log".to_owned();
            self.report.rebuilt.push(Rebuilt { from, entries: rescued.operation_count });
        }
        self.catalog.logs.clear();
        // Nothing is taken of segments that were released, but the log must not seem to go on in them.
        let last = last_number_in(self.place, self.history.database(), &released)?;
        self.catalog.last_seqno = self.catalog.last_seqno.max(rescued.last_seqno).max(last);
        for (keyspace, memtable) in rescued.memtables {
            self.make_keyspace(keyspace);
            let options = self.table_options(keyspace);
            let memtable = Arc::new(memtable);
            let ranges = ranges_in_memory(&memtable, &self.catalog.keyspaces[&keyspace]);
            let now = as_millis(self.place.env.clock.wall());
            let oldest = written_since(&self.catalog.keyspaces[&keyspace]).min(now);
            let has_tombstones = memtable.tombstone_count() + memtable.range_tombstone_count() > 0;
            let oldest_tombstone = has_tombstones.then_some(oldest);
            let times = TableTimes { oldest, newest: now, oldest_tombstone, written: now };
            let mut tables = NewTables::new(&self.tables, &mut self.ids, keyspace, 0, options)
                .with_ranges(ranges)
                .with_times(Some(times))
                .outlined(self.options.dry_run);
            let mut cursor = memtable.cursor();
            cursor.seek_to_first();
            while cursor.is_valid() {
                tables.add(cursor.key(), cursor.value())?;
                cursor.next();
            }
            let made = tables.finish()?;
            let run = RunId(self.ids.mint().counter);
            for properties in made.into_iter().map(Arc::new) {
                self.put(keyspace, TablePlace { level: 0, run, properties });
            }
        }
        let last_seqno = self.catalog.last_seqno;
        for state in self.catalog.keyspaces.values_mut() {
            let state = Arc::make_mut(state);
            state.flushed_up_to = state.flushed_up_to.max(last_seqno);
        }
        Ok(())
    }
}

/// The largest sequence number in `logs`.
fn last_number_in(place: &Place, database: DatabaseId, logs: &[LogId]) -> Result<SeqNo> {
    let mut last = SeqNo::ZERO;
    walk_logs(place.damaged_log(database), logs, &BTreeMap::new(), SeqNo::MAX, |item| {
        if let LogItem::Group(group) = item {
            last = last.max(group.last_seqno());
        }
    })?;
    Ok(last)
}

/// The range tombstones of what was in the log, as a table may hold them: one without an end ends
/// behind everything that is older.
fn ranges_in_memory(memtable: &Arc<Memtable>, state: &KeyspaceState) -> Fragments {
    let mut cursor = memtable.cursor();
    cursor.seek_to_last();
    let last = cursor.is_valid().then(|| cursor.key().user_key.to_vec());
    let in_tables = state.tables.values().map(|place| place.properties.largest_key.clone());
    let mut end = in_tables.chain(last).max().unwrap_or_default();
    if end.len() <= esker_base::limits::KEY_LEN_MAX {
        end.push(0);
    }
    let mut tombstones = memtable.range_tombstones();
    for tombstone in tombstones.iter_mut().filter(|tombstone| tombstone.end.is_empty()) {
        tombstone.end.clone_from(&end);
    }
    tombstones.retain(|tombstone| tombstone.start < tombstone.end);
    Fragments::of(tombstones)
}
