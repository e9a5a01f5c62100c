//! The order of a database that is repaired: where tables stand one above the other as their entries
//! do not, all of them become one run.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::{Fragments, InternalKey, KeyspaceId, SeqNo};
use esker_table::Table;
use esker_tree::{
    Cursor as _, KeyspaceState, LEVEL_COUNT_MAX, MergingCursor, RunId, TablePlace, Version,
    times_of_all,
};

use super::super::new_tables::NewTables;
use super::super::order_check::{check_order, undecided_runs};
use super::super::repair_report::Rebuilt;
use super::{Repair, refused};
use crate::error::Result;
use crate::keyspace_core::write_times::as_millis;

impl Repair<'_> {
    /// Where the entries of a keyspace are not in the order of its runs, merges all of them.
    pub(super) fn check_order(&mut self) -> Result<()> {
        let states: Vec<_> = self.catalog.keyspaces.clone().into_iter().collect();
        for (id, state) in states {
            let open = |properties| Arc::new(Table::new(Arc::clone(&self.tables), properties));
            let version = Version::open(id, &state, open).map_err(refused)?;
            let runs = undecided_runs(&version, &BTreeSet::new());
            if !check_order(&runs, |_| {})?.is_empty() {
                self.merge(id, &state, &version)?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, id: KeyspaceId, state: &KeyspaceState, version: &Version) -> Result<()> {
        let level = LEVEL_COUNT_MAX - 1;
        let mut sources: Vec<_> = version.tables().collect();
        // Of entries with one number the first counts: that of the table that was written last.
        sources.sort_by_key(|table| std::cmp::Reverse(table.properties().id));
        let cursors = sources.iter().map(|table| table.cursor(false)).collect();
        let options = self.table_options(id);
        let born = u8::try_from(level).expect("levels are few");
        let mut tombstones = Vec::new();
        for table in &sources {
            tombstones.extend(table.ranges()?.into_iter().flat_map(Fragments::tombstones));
        }
        let all = sources.iter().map(|table| &**table.properties());
        let times = times_of_all(all, as_millis(self.place.env.clock.wall()));
        let mut tables = NewTables::new(&self.tables, &mut self.ids, id, born, options)
            .with_ranges(Fragments::of(tombstones))
            .with_times(times);
        sources.iter().for_each(|table| tables.know_blob_files(table.properties()));
        let mut cursor = MergingCursor::new(cursors);
        let mut last: Option<(Vec<u8>, SeqNo)> = None;
        let mut entries = 0;
        cursor.seek_to_first()?;
        while cursor.is_valid() {
            let (_, current) = cursor.current();
            let key: InternalKey<'_> = current.key();
            let is_repeated = last
                .as_ref()
                .is_some_and(|(user_key, seqno)| user_key == key.user_key && *seqno == key.seqno());
            if !is_repeated {
                tables.add(key, current.value())?;
                last = Some((key.user_key.to_vec(), key.seqno()));
                entries += 1;
            }
            cursor.next()?;
        }
        let made = tables.finish()?;
        let run = RunId(self.ids.mint().counter);
        let from = format!("all tables of {}, merged by sequence number", state.name);
        self.report.rebuilt.push(Rebuilt { from, entries });
        let names: BTreeSet<String> = state.tables.keys().map(|id| id.file_name()).collect();
        self.report.kept.retain(|name| !names.contains(name));
        let kept = self.catalog.keyspaces.get_mut(&id).expect("the keyspace is there");
        Arc::make_mut(kept).tables.clear();
        for properties in made.into_iter().map(Arc::new) {
            self.put(id, TablePlace { level, run, properties });
        }
        Ok(())
    }
}
