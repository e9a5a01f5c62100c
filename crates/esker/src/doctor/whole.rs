//! Whether a manifest that could be read is all that there is to know, or an older one in the place of the
//! newest, or one without its last edits.
//!
//! What a kill leaves is no sign of that: outputs of jobs whose edit was not written, and files that an edit
//! made obsolete and nobody has removed. So a file that the manifest does not name counts only if it may hold
//! what was in one that it names and that is missing.

use esker_base::{FileKind, KeyspaceId, LogId, TableId};
use esker_log::LogEnd;
use esker_table::TableProperties;
use esker_tree::{Catalog, Recovered};

use super::blob_check::blob_files_of;
use super::place::{Place, said_by};
use super::table_check::is_apart;
use crate::damaged::log_walk::{LogItem, walk_logs};
use crate::error::Result;
use crate::logs::durable_of_all;
use crate::recovery::orphans::files_of;
use crate::recovery::unnamed::goes_on;

/// Whether a manifest that could be read is complete.
pub(super) fn is_whole(place: &Place, recovered: &Recovered) -> Result<bool> {
    Ok(seems_whole(place, recovered)? && !log_goes_on(place, &recovered.catalog)?)
}

/// Whether there is a segment that goes on where the log ends, and that `catalog` does not name.
fn log_goes_on(place: &Place, catalog: &Catalog) -> Result<bool> {
    let is_unnamed = |log: &LogId| !catalog.logs.contains(log);
    let unnamed: Vec<LogId> = place.logs().keys().copied().map(LogId).filter(is_unnamed).collect();
    if unnamed.is_empty() {
        return Ok(false);
    }
    let logs: Vec<LogId> = catalog.logs.iter().copied().collect();
    let (log, mut last) = (place.damaged_log(catalog.database), None);
    walk_logs(log, &logs, &durable_of_all(catalog), catalog.last_seqno, |item| {
        if let LogItem::Group(group) = item {
            last = Some(group.last_seqno());
        }
    })?;
    for log in unnamed {
        if goes_on(&*place.env.fs, &place.log_dir, log, catalog, last)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same, by the manifest and the files that are there.
fn seems_whole(place: &Place, recovered: &Recovered) -> Result<bool> {
    let catalog = &recovered.catalog;
    // No database is without it, so no open accepts such a manifest.
    if !catalog.keyspaces.contains_key(&KeyspaceId::DEFAULT) {
        return Ok(false);
    }
    // Zeros in place of its last edits would look like its end.
    let is_unreadable = place.is_unreadable(&recovered.id.file_name());
    if is_unreadable && !esker_base::planted::is("manifest-with-a-hole-is-whole") {
        return Ok(false);
    }
    // No id is given out before a manifest has reserved it: so a newer one is missing.
    if !place.beyond(catalog).is_empty() {
        return Ok(false);
    }
    let missing = Missing::of(place, catalog);
    if missing.is_nothing() {
        return Ok(true);
    }
    // What looks like an unacknowledged edit was acknowledged if files have been removed because of
    // it. And where an older manifest was put back, what replaced those files is there.
    let is_torn = matches!(recovered.end, LogEnd::Torn { .. });
    Ok(!is_torn && !missing.is_replaced(place)?)
}

/// What a manifest names and is not there.
struct Missing<'a> {
    catalog: &'a Catalog,
    /// Tables that are missing, or refer to a blob file that is, with their keyspaces.
    tables: Vec<(KeyspaceId, &'a TableProperties)>,
    /// Whether a segment of the log is.
    has_log: bool,
}

impl<'a> Missing<'a> {
    fn of(place: &Place, catalog: &'a Catalog) -> Self {
        let is_there = |id, kind| place.file_len(id, kind).is_some();
        let is_missing = |table: &TableProperties| {
            !is_there(table.id.0, FileKind::Table)
                || !blob_files_of(table).all(|facts| is_there(facts.id.0, FileKind::Blob))
        };
        let named = catalog
            .keyspaces
            .iter()
            .flat_map(|(id, state)| state.tables.values().map(|table| (*id, &*table.properties)));
        let tables = named.filter(|(_, table)| is_missing(table)).collect();
        let has_log = catalog.logs.iter().any(|log| !place.logs().contains_key(&log.0));
        Self { catalog, tables, has_log }
    }

    const fn is_nothing(&self) -> bool {
        self.tables.is_empty() && !self.has_log
    }

    /// Whether a table is there, under its own name, that the manifest does not name and that may have
    /// replaced some of this.
    fn is_replaced(&self, place: &Place) -> Result<bool> {
        let database = self.catalog.database;
        let (tables, (named, _)) = (place.tables(database), files_of(self.catalog));
        for (id, kind) in place.names() {
            let is_other = kind == FileKind::Table && !named.contains(&TableId(id));
            let own = ((id, kind), database);
            if !is_other || said_by(place, &place.path_of(own.0))? != Some(own) {
                continue;
            }
            // One that was not finished has replaced nothing.
            if let Ok(table) = place.open_table(&tables, TableId(id))?
                && self.may_be_in(table.properties())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `other`, which the manifest does not name, may hold some of this.
    fn may_be_in(&self, other: &TableProperties) -> bool {
        let overlaps = |(keyspace, table): &(KeyspaceId, &TableProperties)| {
            *keyspace == other.keyspace && !is_apart(table, other)
        };
        self.tables.iter().any(overlaps) || self.has_log && self.is_out_of_log(other)
    }

    /// Whether `other` holds what was in the log when the manifest was written: it has newer numbers than
    /// all that the manifest says is in tables, or is made of none of its tables. (A compaction takes
    /// numbers off.)
    fn is_out_of_log(&self, other: &TableProperties) -> bool {
        match self.catalog.keyspaces.get(&other.keyspace) {
            Some(state) => {
                let mut named = state.tables.values();
                state.flushed_up_to < other.seqno_max
                    || named.all(|table| is_apart(&table.properties, other))
            }
            // It was made since, and not dropped before.
            None => self.catalog.next_keyspace_id <= other.keyspace.0,
        }
    }
}
