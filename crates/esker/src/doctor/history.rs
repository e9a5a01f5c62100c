//! What all manifests of a directory say, as far as they can be read.
//!
//! If the newest manifest is intact, it alone counts. If it is not, its intact frames, and the
//! previous manifest, still show which tables were added, moved and removed, and the names of
//! keyspaces. Ids are never reused: what an edit removed stays removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_base::{Corruption, DatabaseId, FileKind, KeyspaceId, LogId, ManifestId, SeqNo, TableId};
use esker_env::FileError;
use esker_log::{ExpectedHeader, LogReader};
use esker_table::{ExternalTable, Origin, TableKeyspace, TableProperties};
use esker_tree::{
    Catalog, EditRecord, KeyspaceState, MANIFEST_FORMAT, Manifest, Merge, TablePlace, VersionEdit,
};

use super::place::{Place, database_of_files, said_by};
use super::whole::is_whole;
use crate::error::{Error, Result};
use crate::key_order::BYTEWISE;
use crate::keyspace_core::described::DEFAULT_KEYSPACE;
use crate::options::KeyspaceOptions;

/// What is known of a database without its tables and its log.
pub(super) struct History {
    pub(super) catalog: Catalog,
    /// Whether the catalog is from an intact manifest: then nothing is missing.
    pub(super) is_whole: bool,
    /// Tables that were removed, or were of a keyspace that was dropped.
    pub(super) removed: BTreeSet<TableId>,
    /// Segments that were released.
    pub(super) released: BTreeSet<LogId>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
    /// Keyspaces whose name and options are unknown.
    unnamed: BTreeSet<KeyspaceId>,
    unset: BTreeSet<KeyspaceId>,
    /// Those whose order is unknown.
    unordered: BTreeSet<KeyspaceId>,
    /// Those about which tables tell more than manifests.
    described: BTreeSet<KeyspaceId>,
}

impl History {
    /// Reads what there is. `None` if not even the id of the database can be determined.
    ///
    /// # Errors
    /// Of the system; `UnsupportedFormat`.
    pub(super) fn read(place: &Place) -> Result<Option<Self>> {
        match Manifest::recover(&*place.env.fs, &place.dir) {
            Ok(Some(recovered)) if is_whole(place, &recovered)? => {
                let mut history = Self::new(recovered.catalog, true);
                if history.replace_options() {
                    history.ask_tables(place)?;
                }
                return Ok(Some(history));
            }
            Ok(_) | Err(FileError::Corruption(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(database) = database_of_files(place)? else { return Ok(None) };
        let mut history = Self::new(Catalog::new(database), false);
        for (id, name) in manifests_of(place, database)? {
            history.read_manifest(place, id, &name)?;
        }
        history.catalog.keyspaces.retain(|id, _| !history.dropped.contains(id));
        history.keyspace(KeyspaceId::DEFAULT);
        history.replace_options();
        if !esker_base::planted::is("tables-tell-nothing-of-keyspaces") {
            history.ask_tables(place)?;
        }
        Ok(Some(history))
    }

    /// Replaces options that do not decode, since no open would accept them; returns whether there
    /// were any.
    fn replace_options(&mut self) -> bool {
        let unset = self.unset.len();
        for (id, state) in &mut self.catalog.keyspaces {
            if KeyspaceOptions::decode(&state.options).is_err() {
                Arc::make_mut(state).options = KeyspaceOptions::default().encode();
                self.unset.insert(*id);
            }
        }
        unset < self.unset.len()
    }

    const fn new(catalog: Catalog, is_whole: bool) -> Self {
        Self {
            catalog,
            is_whole,
            removed: BTreeSet::new(),
            released: BTreeSet::new(),
            dropped: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            unset: BTreeSet::new(),
            unordered: BTreeSet::new(),
            described: BTreeSet::new(),
        }
    }

    pub(super) const fn database(&self) -> DatabaseId {
        self.catalog.database
    }

    /// Ensures that the keyspace exists; creates it, with a new name, if nothing is known of it.
    /// Returns whether it was created.
    pub(super) fn keyspace(&mut self, id: KeyspaceId) -> bool {
        if self.catalog.keyspaces.contains_key(&id) {
            return false;
        }
        let state = KeyspaceState {
            name: self.free_name(id),
            order: BYTEWISE.to_owned(),
            options: KeyspaceOptions::default().encode(),
            flushed_up_to: SeqNo::ZERO,
            tables: BTreeMap::new(),
        };
        self.catalog.keyspaces.insert(id, Arc::new(state));
        self.catalog.next_keyspace_id = self.catalog.next_keyspace_id.max(id.0.saturating_add(1));
        if id != KeyspaceId::DEFAULT {
            self.unnamed.insert(id);
        }
        self.unset.insert(id);
        self.unordered.insert(id);
        true
    }

    /// What is unknown about the keyspace, which is named `name` now, if anything.
    pub(super) fn untold(&self, id: KeyspaceId, name: &str) -> Option<String> {
        let what = match (self.unnamed.contains(&id), self.unset.contains(&id)) {
            (_, true) if self.described.contains(&id) => {
                "more of the options than order and merge operator"
            }
            (true, true) => "the name and the options",
            (true, false) => "the name",
            (false, true) => "the options",
            (false, false) => return None,
        };
        let order = match self.unordered.contains(&id) {
            true => ": its keys are taken as those of a bytewise order",
            false => "",
        };
        Some(format!("{what} of {name}{order}"))
    }

    /// A name for the keyspace that no other has.
    fn free_name(&self, id: KeyspaceId) -> String {
        let others = self.catalog.keyspaces.iter().filter(|(other, _)| **other != id);
        let names: BTreeSet<&str> = others.map(|(_, state)| state.name.as_str()).collect();
        let mut name = match id {
            KeyspaceId::DEFAULT => DEFAULT_KEYSPACE.to_owned(),
            _ => format!("keyspace-{id}"),
        };
        while names.contains(name.as_str()) {
            name.push('-');
        }
        name
    }

    /// Gives the keyspace its name. Another keyspace with that name was renamed or dropped earlier,
    /// by an edit that is lost.
    fn name(&mut self, id: KeyspaceId, name: &str) {
        self.state(id).name = name.to_owned();
        self.unnamed.remove(&id);
        let mut others = self.catalog.keyspaces.iter().filter(|(other, _)| **other != id);
        if let Some(other) = others.find(|(_, state)| state.name == name).map(|(other, _)| *other) {
            self.state(other).name = self.free_name(other);
            self.unnamed.insert(other);
        }
    }

    /// Consults the newest table of each keyspace whose creation is in no manifest.
    fn ask_tables(&mut self, place: &Place) -> Result<()> {
        let tables = place.tables(self.catalog.database);
        let (mut told, mut told_outside) = (BTreeMap::new(), BTreeMap::new());
        for (id, _) in place.files_of(FileKind::Table) {
            let Ok(table) = place.open_table(&tables, TableId(id))? else { continue };
            let properties = table.properties();
            let keyspace = properties.keyspace;
            let is_known =
                self.catalog.keyspaces.contains_key(&keyspace) && !self.unset.contains(&keyspace);
            let is_gone = self.dropped.contains(&keyspace) || self.removed.contains(&properties.id);
            if is_known || is_gone {
                continue;
            }
            if let Some(of_it) = &properties.extras.keyspace {
                told.insert(keyspace, Arc::clone(of_it));
            } else if let Some(of_it) = told_outside_of(place, properties) {
                told_outside.insert(keyspace, Arc::new(of_it));
            }
        }
        told_outside.append(&mut told);
        told_outside.into_iter().for_each(|(id, told)| self.describe(id, &told));
        Ok(())
    }

    /// Uses what a table records about its keyspace.
    fn describe(&mut self, id: KeyspaceId, told: &TableKeyspace) {
        self.described.insert(id);
        let merge_operator = Some(&told.merge_operator).filter(|name| !name.is_empty());
        let options = KeyspaceOptions {
            merge_operator: merge_operator.map(|name| Merge::named(name)),
            ..KeyspaceOptions::default()
        };
        let state = self.state(id);
        state.order.clone_from(&told.order);
        state.options = options.encode();
        self.unordered.remove(&id);
        let is_other = |(other, state): (&KeyspaceId, &Arc<KeyspaceState>)| {
            *other != id && state.name == told.name && !self.unnamed.contains(other)
        };
        // A name from a manifest, for this or another keyspace, is newer than one from a table.
        let is_free = !told.name.is_empty() && !self.catalog.keyspaces.iter().any(is_other);
        if self.unnamed.contains(&id) && is_free {
            self.name(id, &told.name);
        }
    }

    fn read_manifest(&mut self, place: &Place, id: ManifestId, name: &str) -> Result<()> {
        let expected = ExpectedHeader {
            kind: FileKind::Manifest,
            id: id.0,
            database: Some(self.catalog.database),
            newest_format: MANIFEST_FORMAT,
        };
        let path = place.dir.join(name);
        let database = self.catalog.database;
        let patched = place.with_header_at(&path, id.0, FileKind::Manifest, database)?;
        let fs = patched.as_ref().unwrap_or(&place.env.fs);
        let mut reader = match LogReader::open(&**fs, &path, &expected) {
            Ok(reader) => reader,
            Err(FileError::Corruption(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut is_first = true;
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    // The first edit of a manifest replaces everything before it.
                    let is_snapshot = std::mem::replace(&mut is_first, false);
                    let edit = VersionEdit::decode(frame.payload);
                    let Ok(edit) = edit else { continue };
                    if is_snapshot {
                        self.start_over();
                    }
                    edit.records.iter().for_each(|record| self.record(record));
                }
                Ok(None) => return Ok(()),
                Err(FileError::Corruption(Corruption { .. })) => {
                    is_first = false;
                    if !reader.skip_damage()? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Error::from(error)),
            }
        }
    }

    /// Forgets what exists, but not what was removed.
    fn start_over(&mut self) {
        for state in self.catalog.keyspaces.values() {
            self.removed.extend(state.tables.keys());
        }
        self.released.extend(&self.catalog.logs);
        self.dropped.extend(self.catalog.keyspaces.keys());
        self.catalog.keyspaces.clear();
        self.catalog.logs.clear();
        self.catalog.durable_logs.clear();
    }

    fn state(&mut self, id: KeyspaceId) -> &mut KeyspaceState {
        self.keyspace(id);
        let state = self.catalog.keyspaces.get_mut(&id).expect("it was made if it was not there");
        Arc::make_mut(state)
    }

    /// Applies a record even if it does not fit: the one that it depends on may be lost.
    fn record(&mut self, record: &EditRecord) {
        let catalog = &mut self.catalog;
        match record {
            EditRecord::NextFileCounter(to) => {
                catalog.next_file_counter = catalog.next_file_counter.max(*to);
            }
            EditRecord::LastSeqno(to) => catalog.last_seqno = catalog.last_seqno.max(*to),
            EditRecord::NextKeyspaceId(to) => {
                catalog.next_keyspace_id = catalog.next_keyspace_id.max(*to);
            }
            EditRecord::LogAdded(log) => {
                self.released.remove(log);
                catalog.logs.insert(*log);
            }
            EditRecord::LogRemoved(log) => {
                catalog.logs.remove(log);
                catalog.durable_logs.remove(log);
                self.released.insert(*log);
            }
            EditRecord::LogDurable { log, offset } => {
                catalog.durable_logs.insert(*log, *offset);
            }
            EditRecord::Closed => {}
            EditRecord::KeyspaceCreated { keyspace, name, order, options } => {
                self.dropped.remove(keyspace);
                self.name(*keyspace, name);
                self.unset.remove(keyspace);
                self.unordered.remove(keyspace);
                let state = self.state(*keyspace);
                state.order.clone_from(order);
                state.options.clone_from(options);
            }
            EditRecord::KeyspaceRenamed { keyspace, name } => self.name(*keyspace, name),
            EditRecord::KeyspaceOptions { keyspace, options } => {
                self.state(*keyspace).options.clone_from(options);
            }
            EditRecord::KeyspaceDropped { keyspace } => {
                if let Some(state) = catalog.keyspaces.remove(keyspace) {
                    self.removed.extend(state.tables.keys());
                }
                self.dropped.insert(*keyspace);
            }
            EditRecord::TableAdded { keyspace, level, run, properties } => {
                self.removed.remove(&properties.id);
                let properties = Arc::clone(properties);
                let place = TablePlace { level: *level, run: *run, properties };
                self.state(*keyspace).tables.insert(place.properties.id, place);
            }
            EditRecord::TableRemoved { keyspace, table } => {
                self.state(*keyspace).tables.remove(table);
                self.removed.insert(*table);
            }
            EditRecord::TableMoved { keyspace, table, level, run } => {
                if let Some(place) = self.state(*keyspace).tables.get_mut(table) {
                    (place.level, place.run) = (*level, *run);
                }
            }
            EditRecord::FlushedUpTo { keyspace, seqno } => {
                let state = self.state(*keyspace);
                state.flushed_up_to = state.flushed_up_to.max(*seqno);
            }
        }
    }
}

/// The manifests, oldest first, with the names of their files: in the order of the ids that they say
/// are theirs, where they say so.
fn manifests_of(place: &Place, database: DatabaseId) -> Result<BTreeMap<ManifestId, String>> {
    let mut manifests = BTreeMap::new();
    for (id, name) in place.manifests() {
        let own = match said_by(place, &place.dir.join(&name))? {
            Some(((own, FileKind::Manifest), whose)) if whose == database => ManifestId(own),
            _ => id,
        };
        manifests.entry(own).or_insert(name);
    }
    Ok(manifests)
}

/// What an ingested table records about the keyspace that it was written for: its key order, and
/// its name if it was for one keyspace only.
fn told_outside_of(place: &Place, table: &TableProperties) -> Option<TableKeyspace> {
    let Some(Origin::Adopted { .. }) = &table.extras.origin else { return None };
    let path = place.dir.join(table.id.file_name());
    let outside = ExternalTable::open(&*place.env.fs, &path).ok()?;
    let Some(Origin::External { order, keyspace, .. }) = &outside.properties().extras.origin else {
        return None;
    };
    let (name, order) = (keyspace.clone(), order.clone());
    Some(TableKeyspace { name, order, merge_operator: String::new() })
}
