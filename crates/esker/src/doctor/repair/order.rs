//! The order of a database that is repaired: where tables stand one above the other as their entries
//! do not, all of them become one run.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::{EntryKind, Fragments, InternalKey, KeyspaceId, TableId, Trailer};
use esker_table::{BlobReference, Table};
use esker_tree::{
    Cursor as _, KeyspaceState, LEVEL_COUNT_MAX, MergingCursor, RunCursor, RunId, TablePlace,
    Version, times_of_all,
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
        let from = format!("all tables of {}, merged by sequence number", state.name);
        let names: BTreeSet<String> = state.tables.keys().map(|id| id.file_name()).collect();
        self.report.kept.retain(|name| !names.contains(name));
        let kept = self.catalog.keyspaces.get_mut(&id).expect("the keyspace is there");
        Arc::make_mut(kept).tables.clear();
        if self.options.dry_run {
            let blobs = &mut self.blobs_of_plan;
            let entries = merged(version, |key, value| {
                if key.kind() == EntryKind::BlobReference {
                    blobs.extend(BlobReference::decode(value).map(|reference| reference.file));
                }
                Ok(())
            })?;
            self.report.rebuilt.push(Rebuilt { from, entries });
            return Ok(());
        }
        let level = LEVEL_COUNT_MAX - 1;
        let sources: Vec<_> = version.tables().collect();
        let options = self.table_options(id);
        let born = u8::try_from(level).expect("levels are few");
        let mut tombstones = Vec::new();
        for table in &sources {
            tombstones.extend(table.anew().ranges()?.into_iter().flat_map(Fragments::tombstones));
        }
        let all = sources.iter().map(|table| &**table.properties());
        let times = times_of_all(all, as_millis(self.place.env.clock.wall()));
        let mut tables = NewTables::new(&self.tables, &mut self.ids, id, born, options)
            .with_ranges(Fragments::of(tombstones))
            .with_times(times);
        sources.iter().for_each(|table| tables.know_blob_files(table.properties()));
        let entries = merged(version, |key, value| tables.add(key, value))?;
        let made = tables.finish()?;
        let run = RunId(self.ids.mint().counter);
        self.report.rebuilt.push(Rebuilt { from, entries });
        for properties in made.into_iter().map(Arc::new) {
            self.put(id, TablePlace { level, run, properties });
        }
        Ok(())
    }
}

/// An entry that waits for one of the same number.
struct Pending {
    table: TableId,
    user_key: Vec<u8>,
    trailer: Trailer,
    value: Vec<u8>,
}

impl Pending {
    fn of(cursor: &RunCursor) -> Self {
        let key = cursor.key();
        Self {
            table: cursor.table().properties().id,
            user_key: key.user_key.to_vec(),
            trailer: key.trailer,
            value: cursor.value().to_vec(),
        }
    }

    fn is_repeated_by(&self, key: InternalKey<'_>) -> bool {
        self.user_key == key.user_key && self.trailer.seqno() == key.seqno()
    }

    fn put(
        self,
        add: &mut impl FnMut(InternalKey<'_>, &[u8]) -> Result<()>,
        references: &mut References,
    ) -> Result<u64> {
        let key = InternalKey { user_key: &self.user_key, trailer: self.trailer };
        if !references.is_new(key, &self.value) {
            return Ok(0);
        }
        add(key, &self.value)?;
        Ok(1)
    }
}

/// The references to blobs that were put under one key. One that comes again, with a smaller number, is what
/// a compaction has left of the same write: it says nothing more, and would count twice.
#[derive(Default)]
struct References {
    user_key: Vec<u8>,
    seen: BTreeSet<Vec<u8>>,
}

impl References {
    /// Whether the entry is no reference, or one that was not put under this key yet.
    fn is_new(&mut self, key: InternalKey<'_>, value: &[u8]) -> bool {
        if self.user_key != key.user_key {
            self.seen.clear();
            self.user_key.clear();
            self.user_key.extend_from_slice(key.user_key);
        }
        key.kind() != EntryKind::BlobReference || self.seen.insert(value.to_vec())
    }
}

/// Gives the entries of all tables of `version` to `add`, in order, and returns how many that are. Of those of
/// one key that have one number the one counts that was written last, whatever its kind: others are what a
/// compaction has made it of. Of each run one table is open at a time.
fn merged(
    version: &Version,
    mut add: impl FnMut(InternalKey<'_>, &[u8]) -> Result<()>,
) -> Result<u64> {
    let runs = version.levels().iter().flat_map(|level| level.runs());
    let cursors = runs.map(|run| RunCursor::closing(Arc::clone(run))).collect();
    let mut cursor = MergingCursor::new(cursors);
    let mut pending: Option<Pending> = None;
    let mut references = References::default();
    let mut entries = 0;
    cursor.seek_to_first()?;
    while cursor.is_valid() {
        let (_, current) = cursor.current();
        let repeated = pending.as_ref().filter(|one| one.is_repeated_by(current.key()));
        let is_older = |one: &Pending| current.table().properties().id < one.table;
        if !repeated.is_some_and(is_older) {
            let is_other = repeated.is_none();
            let before = pending.replace(Pending::of(current)).filter(|_| is_other);
            entries += before.map_or(Ok(0), |one| one.put(&mut add, &mut references))?;
        }
        cursor.next()?;
    }
    entries += pending.map_or(Ok(0), |one| one.put(&mut add, &mut references))?;
    Ok(entries)
}
