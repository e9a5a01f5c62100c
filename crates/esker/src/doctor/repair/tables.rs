//! The tables of a database that is repaired: which of them stay, and what is intact of the others.
//!
//! A table with a finding becomes a new one, at the same place, of the entries that can be read;
//! the keys of those that cannot are listed. Does not know how the result is made durable.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use esker_base::{
    BlobFileId, Corruption, FileId, FileKind, Fragments, InternalKey, KeyspaceId, TableId,
};
use esker_env::FileError;
use esker_table::{BlockKind, KeyBounds, Origin, Table, TableContext, TableProperties, TableWalk};
use esker_tree::{LEVEL_COUNT_MAX, RunId, TablePlace};

use super::super::blob_check::{blob_files_of, salvaged};
use super::super::causes::Causes;
use super::super::new_tables::NewTables;
use super::super::place::Place;
use super::super::repair_report::{Loss, Rebuilt};
use super::super::report::AffectedKeys;
use super::super::table_check::{DamageMap, all_keys, is_apart, walk};
use super::Repair;
use crate::error::Result;

impl Repair<'_> {
    /// Tables that the manifests name.
    pub(super) fn known_tables(&mut self) -> Result<()> {
        let states: Vec<_> = self.history.catalog.keyspaces.clone().into_iter().collect();
        for (id, state) in states {
            for place in state.tables.values() {
                let Some(told) = self.as_its_file_says(id, place)? else {
                    self.misplaced.insert(place.properties.id);
                    continue;
                };
                let place = self.placed(id, &told);
                let name = place.properties.id.file_name();
                let table = Table::new(Arc::clone(&self.tables), Arc::clone(&place.properties));
                if self.place.file_len(place.properties.id.0, FileKind::Table).is_none() {
                    let keys = Some(all_keys(&table, &state.name));
                    let what = match self.history.is_whole {
                        true => "the file is missing",
                        false => "the file is missing, unless it had been replaced",
                    };
                    self.report.lost.push(Loss { file: name, what: what.to_owned(), keys });
                    self.forsake(&place.properties, &[]);
                } else if self.damaged.contains(&name) || self.lacks_blobs(&place.properties) {
                    self.salvage(&table, id, place.level, place.run)?;
                } else {
                    self.report.kept.push(name);
                    self.put(id, place);
                }
            }
        }
        Ok(())
    }

    /// The table with what its file says of it, where no manifest is whole: the file was verified by that.
    /// `None` if that says that it is of another keyspace.
    fn as_its_file_says(
        &self,
        keyspace: KeyspaceId,
        place: &TablePlace,
    ) -> Result<Option<TablePlace>> {
        let (known, mut place) = (&place.properties, place.clone());
        if self.history.is_whole || self.damaged.contains(&known.id.file_name()) {
            return Ok(Some(place));
        }
        match Table::open_file(Arc::clone(&self.tables), known.id) {
            Ok(table) => {
                let mut said = TableProperties::clone(table.properties());
                if matches!(said.extras.origin, Some(Origin::Adopted { .. })) {
                    // When its entries came, only the manifest says.
                    said.extras.times = known.extras.times;
                }
                if said.keyspace != keyspace {
                    return Ok(None);
                }
                place.properties = Arc::new(said);
            }
            // Of a header, or of none: what is known leads to what is intact.
            Err(FileError::Corruption(_) | FileError::Io(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Some(place))
    }

    /// The table where the manifests say that it stands. Where an edit that moved tables is lost,
    /// a newer one may stand there already: then it has a run of its own.
    fn placed(&self, keyspace: KeyspaceId, place: &TablePlace) -> TablePlace {
        let table = &place.properties;
        let is_taken = || {
            self.catalog.keyspaces[&keyspace].tables.values().any(|other| {
                (other.level, other.run) == (place.level, place.run)
                    && !is_apart(&other.properties, table)
            })
        };
        let is_taken = !self.history.is_whole && is_taken();
        let run = if is_taken { RunId(table.id.0.counter) } else { place.run };
        TablePlace { run, ..place.clone() }
    }

    /// Tables on disk of which the manifests say nothing that is true.
    pub(super) fn unknown_tables(&mut self) -> Result<()> {
        let ids: Vec<FileId> = self.place.files_of(FileKind::Table).map(|(id, _)| id).collect();
        for id in ids.into_iter().map(TableId) {
            let is_known = self.history.catalog.find_table(id).is_some();
            let is_at_its_place =
                !self.misplaced.contains(&id) || self.catalog.find_table(id).is_some();
            if is_known && is_at_its_place || self.history.removed.contains(&id) {
                continue;
            }
            let name = id.file_name();
            let table = match self.place.open_table(&self.tables, id)? {
                Ok(table) => table,
                Err(corruption) => {
                    self.aside.push(self.place.dir.join(&name));
                    let what = self.causes.of(&corruption);
                    self.report.lost.push(Loss { file: name, what, keys: None });
                    continue;
                }
            };
            let properties = Arc::clone(table.properties());
            let keyspace = properties.keyspace;
            if self.history.dropped.contains(&keyspace) {
                continue;
            }
            self.make_keyspace(keyspace);
            let level = usize::from(properties.level).min(LEVEL_COUNT_MAX - 1);
            let run = self.run_for(keyspace, level, &properties);
            if self.damaged.contains(&name) || self.lacks_blobs(&properties) {
                self.salvage(&table, keyspace, level, run)?;
            } else {
                self.report.kept.push(name);
                self.put(keyspace, TablePlace { level, run, properties });
            }
        }
        Ok(())
    }

    /// Whether the table refers to a blob file that is damaged or missing.
    fn lacks_blobs(&self, table: &TableProperties) -> bool {
        blob_files_of(table).any(|facts| self.lacks_blob(facts.id))
    }

    /// The blob files that the table refers to, and that are damaged or missing.
    fn lacking_blobs(&self, table: &TableProperties) -> BTreeSet<BlobFileId> {
        let ids = blob_files_of(table).map(|facts| facts.id);
        ids.filter(|id| self.lacks_blob(*id)).collect()
    }

    fn lacks_blob(&self, id: BlobFileId) -> bool {
        self.damaged.contains(&id.file_name())
            || self.place.file_len(id.0, FileKind::Blob).is_none()
    }

    /// A run that the table can stand in: of a deeper level one that it does not overlap; else one
    /// of its own, as new as the table.
    fn run_for(&self, keyspace: KeyspaceId, level: usize, table: &TableProperties) -> RunId {
        let own = RunId(table.id.0.counter);
        if level == 0 {
            return own;
        }
        let mut free: BTreeMap<RunId, bool> = BTreeMap::new();
        for place in self.catalog.keyspaces[&keyspace].tables.values() {
            let other = &place.properties;
            if place.level == level {
                *free.entry(place.run).or_insert(true) &= is_apart(other, table);
            }
        }
        free.into_iter().rev().find(|(_, is_free)| *is_free).map_or(own, |(run, _)| run)
    }

    /// The table as it is with the header that it should have, if it has another.
    fn with_header(&self, table: &Table) -> Result<Option<Table>> {
        let id = table.properties().id.0;
        let patched = self.place.with_header(id, FileKind::Table, self.history.database())?;
        Ok(patched.map(|fs| {
            let context = TableContext { fs, ..TableContext::clone(&self.tables) };
            Table::new(Arc::new(context), Arc::clone(table.properties()))
        }))
    }

    /// Takes over what is intact of a damaged table, and lists the keys of what is not.
    fn salvage(
        &mut self,
        table: &Table,
        keyspace: KeyspaceId,
        level: usize,
        run: RunId,
    ) -> Result<()> {
        let name = table.properties().id.file_name();
        let keyspace_name = self.catalog.keyspaces[&keyspace].name.clone();
        self.aside.push(self.place.dir.join(&name));
        let options = self.table_options(keyspace);
        let born = u8::try_from(level).expect("levels are few");
        let patched = self.with_header(table)?;
        let table = patched.as_ref().unwrap_or(table);
        let walk = match walk(table) {
            Ok(walk) => walk,
            Err(FileError::Corruption(corruption)) => {
                let keys = Some(all_keys(table, &keyspace_name));
                let what = self.causes.of(&corruption);
                self.report.lost.push(Loss { file: name, what, keys });
                self.forsake(table.properties(), &[]);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.report.lost.extend(unfound(self.place, &name, &keyspace_name, &walk));
        let map = DamageMap::of(table)?;
        let lacking = self.lacking_blobs(table.properties());
        let mut tables = NewTables::new(&self.tables, &mut self.ids, keyspace, born, options)
            .with_ranges(intact_ranges(table)?)
            .with_times(table.properties().extras.times)
            .outlined(self.options.dry_run);
        tables.know_blob_files(table.properties());
        let mut entries = 0;
        let mut order = Order::default();
        for item in walk {
            let block = match item {
                Ok(block) => block,
                Err(FileError::Corruption(corruption)) => {
                    let why = (self.place, &self.causes);
                    let lost = lost_block(why, &keyspace_name, &map, &corruption);
                    self.report.lost.extend(lost);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if block.kind != BlockKind::Data {
                continue;
            }
            let mut result = Ok(());
            let mut broken = Vec::new();
            block.for_each_entry(|key, value| {
                if result.is_err() || !order.goes_on(key) {
                    return;
                }
                let (place, context) = (self.place, &self.tables);
                result = salvaged(place, context, &lacking, key, value, |key, value| {
                    entries += 1;
                    tables.add(key, value)
                })
                .map(|lost| broken.extend(lost));
            });
            result?;
            self.report.lost.extend(losses(&keyspace_name, broken));
        }
        self.report.lost.extend(order.lost(&name, &keyspace_name));
        let made = tables.finish()?;
        self.forsake(table.properties(), &made);
        self.report.rebuilt.push(Rebuilt { from: name, entries });
        for properties in made {
            let properties = Arc::new(properties);
            self.put(keyspace, TablePlace { level, run, properties });
        }
        Ok(())
    }
}

/// What a block of a table costs, if it costs anything.
fn lost_block(
    (place, causes): (&Place, &Causes),
    keyspace: &str,
    map: &DamageMap,
    corruption: &Corruption,
) -> Option<Loss> {
    let keys = map.affected_by(corruption)?;
    let bytes = corruption.offset..map.end_of(corruption);
    let why = place.why_unreadable(&corruption.file, bytes);
    let what = why.unwrap_or_else(|| causes.of(corruption));
    Some(loss(&corruption.file, &what, keyspace, keys))
}

/// The keys to which no index of the table leads any more.
fn unfound(place: &Place, file: &str, keyspace: &str, walk: &TableWalk) -> Vec<Loss> {
    let why = place.why_unreadable(file, 0..u64::MAX);
    let why = why.unwrap_or_else(|| "no index leads there".to_owned());
    walk.unfound().iter().map(|keys| loss(file, &why, keyspace, keys.clone())).collect()
}

/// The order in which the entries of a table come.
#[derive(Default)]
struct Order {
    last: Option<(Vec<u8>, u64)>,
    /// Keys of those that do not stand in it, from the first to the last.
    misplaced: Option<(Vec<u8>, Vec<u8>)>,
}

impl Order {
    /// Whether the entry stands behind the last one that did. A builder takes nothing else; what does not
    /// was never written by one.
    fn goes_on(&mut self, key: InternalKey<'_>) -> bool {
        let word = key.trailer.word();
        let ascends = self.last.as_ref().is_none_or(|(user_key, trailer)| {
            (user_key.as_slice(), Reverse(*trailer)) < (key.user_key, Reverse(word))
        });
        if ascends {
            self.last = Some((key.user_key.to_vec(), word));
            return true;
        }
        let (first, last) = match self.misplaced.take() {
            None => (key.user_key.to_vec(), key.user_key.to_vec()),
            Some((first, last)) if key.user_key < first.as_slice() => (key.user_key.to_vec(), last),
            Some((first, last)) if last.as_slice() < key.user_key => (first, key.user_key.to_vec()),
            Some(keys) => keys,
        };
        self.misplaced = Some((first, last));
        false
    }
}

impl Order {
    /// What is left out.
    fn lost(self, file: &str, keyspace: &str) -> Option<Loss> {
        let (first, last) = self.misplaced?;
        let keys = (Bound::Included(first), Bound::Included(last));
        Some(loss(file, "entries are not in ascending order", keyspace, keys))
    }
}

/// The range tombstones of a damaged table, if they can be read.
fn intact_ranges(table: &Table) -> Result<Fragments> {
    if table.properties().extras.ranges.is_some() {
        for item in walk(table)? {
            match item {
                Ok(block) if block.ranges().is_some() => {
                    return Ok(block.ranges().cloned().unwrap_or_default());
                }
                Ok(_) | Err(FileError::Corruption(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Fragments::default())
}

/// Keys of a file that cannot be read.
fn loss(file: &str, what: &str, keyspace: &str, (start, end): KeyBounds) -> Loss {
    let keys = Some(AffectedKeys { keyspace: keyspace.to_owned(), start, end });
    Loss { file: file.to_owned(), what: what.to_owned(), keys }
}

/// Keys whose values in blob files could not be read.
fn losses(keyspace: &str, broken: Vec<(Vec<u8>, Corruption)>) -> impl Iterator<Item = Loss> {
    broken.into_iter().map(move |(key, corruption)| {
        let keys = (Bound::Included(key.clone()), Bound::Included(key));
        loss(&corruption.file, &corruption.what, keyspace, keys)
    })
}
