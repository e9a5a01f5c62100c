//! Intact blob files that lost entries referred to.
//!
//! They hold the last copies of the keys and values of those entries. The next open would remove a blob
//! file that no table refers to any more, like the remains of an unfinished job: it is set aside with the
//! damaged files. If other entries still refer to it, the values would go when its garbage is collected:
//! it stays, and gets a second name among the files set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker_base::{BlobFileId, FileKind};
use esker_env::FileError;
use esker_table::{BlobFileWalk, TableProperties};
use esker_tree::Catalog;

use super::super::repair_report::Loss;
use super::super::report::AffectedKeys;
use super::Repair;
use crate::error::Result;
use crate::recovery::orphans::blobs_of;

impl Repair<'_> {
    /// Remembers the blob files to which `table` has references that the tables `made` of it lack.
    pub(super) fn forsake(&mut self, table: &TableProperties, made: &[TableProperties]) {
        let mut kept: BTreeMap<BlobFileId, u64> = BTreeMap::new();
        for one in made.iter().flat_map(TableProperties::blob_uses) {
            *kept.entry(one.facts.id).or_default() += one.count;
        }
        let is_kept = |id: &BlobFileId, count: u64| kept.get(id) == Some(&count);
        let uses = table.blob_uses().filter(|one| !is_kept(&one.facts.id, one.count));
        self.forsaken.extend(uses.map(|one| one.facts.id));
    }

    /// Keeps the blob files that lost entries referred to. If no manifest is intact, not all of those are
    /// known, so every blob file counts that no table refers to.
    pub(super) fn last_copies(&mut self) -> Result<()> {
        let mut referenced = referenced(&self.catalog);
        referenced.append(&mut self.blobs_of_plan);
        let is_whole = self.history.is_whole;
        // Nothing else is left of the database.
        let is_all = !is_whole && self.report.kept.is_empty() && self.report.rebuilt.is_empty();
        let ids = self.place.files_of(FileKind::Blob).map(|(id, _)| BlobFileId(id));
        for id in ids.collect::<Vec<_>>() {
            let name = id.file_name();
            let path = self.place.dir.join(&name);
            let (is_referenced, is_forsaken) =
                (referenced.contains(&id), self.forsaken.contains(&id));
            let is_unknown = !is_whole && !is_referenced;
            if self.damaged.contains(&name) || !(is_forsaken || is_unknown) {
                continue;
            }
            if is_referenced {
                let note = format!("{name} has values of lost entries: it is in damaged, too");
                self.report.notes.push(note);
                self.linked.insert(path);
                continue;
            }
            let walk = match BlobFileWalk::open(&self.tables, id) {
                Ok(walk) => walk,
                // It has a finding then.
                Err(FileError::Corruption(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if self.history.dropped.contains(&walk.keyspace()) {
                continue;
            }
            let count = walk.record_count();
            let note = format!(
                "no table refers to the {count} values of {name} any more: it is set aside as it is"
            );
            self.report.notes.push(note);
            if is_all && 0 < count {
                self.lose(&name, walk)?;
            }
            self.aside.push(path);
        }
        Ok(())
    }

    /// Lists the keys of a blob file.
    fn lose(&mut self, name: &str, walk: BlobFileWalk) -> Result<()> {
        let keyspace = walk.keyspace();
        let state = self.catalog.keyspaces.get(&keyspace);
        let keyspace =
            state.map_or_else(|| format!("keyspace-{keyspace}"), |state| state.name.clone());
        let what = format!("no table is left that refers to its {} values", walk.record_count());
        let mut keys: Option<(Vec<u8>, Vec<u8>)> = None;
        for record in walk {
            let record = match record {
                Ok(record) => record,
                Err(FileError::Corruption(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let key = record.key();
            match &mut keys {
                None => keys = Some((key.to_vec(), key.to_vec())),
                Some((first, _)) if key < first.as_slice() => *first = key.to_vec(),
                Some((_, last)) if last.as_slice() < key => *last = key.to_vec(),
                Some(_) => {}
            }
        }
        let keys = keys.map(|(first, last)| AffectedKeys {
            keyspace,
            start: Bound::Included(first),
            end: Bound::Included(last),
        });
        self.report.lost.push(Loss { file: name.to_owned(), what, keys });
        Ok(())
    }
}

/// The blob files that tables of `catalog` refer to.
fn referenced(catalog: &Catalog) -> BTreeSet<BlobFileId> {
    let accounts = catalog.keyspaces.values().map(|state| blobs_of(state));
    accounts
        .flat_map(|account| account.files().map(|file| file.facts.id).collect::<Vec<_>>())
        .collect()
}
