//! Intact files that have each other's names, as after a restore by hand: a repair reads them under
//! the names that they say are theirs.
//!
//! Every file says in its header what it is; a table that was taken over from elsewhere says it in
//! the record at its end. So nothing is lost where only names are wrong. On disk nothing is renamed,
//! which a crash could leave half done: what is in such a file is written anew, like what is intact
//! of a damaged one.

use std::collections::{BTreeMap, BTreeSet};

use esker_base::{BlobFileId, FileKind, LogId, TableId};
use esker_env::FileError;
use esker_tree::{BlobAccount, Catalog, Manifest};

use super::place::{Name, Place, database_of_files, said_by};
use crate::error::Result;

/// Files that are read under other names than they have.
#[derive(Default)]
pub(super) struct Misnamed {
    /// The names that they have, by the names that are theirs.
    names: BTreeMap<Name, Name>,
    /// Those of their own names that no file has.
    free: BTreeSet<Name>,
}

impl Misnamed {
    /// The files of `place` that are under the name of another one.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn find(place: &Place) -> Result<Self> {
        let catalog = match Manifest::recover(&*place.env.fs, &place.dir) {
            Ok(recovered) => recovered.map(|recovered| recovered.catalog),
            Err(FileError::Corruption(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let database = match &catalog {
            Some(catalog) => Some(catalog.database),
            None => database_of_files(place)?,
        };
        let mut misnamed = Self::default();
        let Some(database) = database else { return Ok(misnamed) };
        let wanted = catalog.as_ref().map(Wanted::of);
        let mut said = BTreeMap::new();
        for (name, path) in place.named_files() {
            said.insert(name, said_by(place, &path)?);
        }
        for (name, own) in &said {
            let Some((own, _)) = own.filter(|(own, whose)| own != name && *whose == database)
            else {
                continue;
            };
            // A header that cannot be read may be that of the file that belongs here.
            let is_free = match said.get(&own) {
                None => true,
                Some(other) => other.is_some_and(|other| other != (own, database)),
            };
            let is_wanted = match &wanted {
                Some(wanted) => wanted.has(own),
                None => matches!(own.1, FileKind::Table | FileKind::Blob | FileKind::Log),
            };
            if is_free && is_wanted {
                misnamed.names.entry(own).or_insert(*name);
            }
        }
        let own = misnamed.names.keys().copied();
        misnamed.free = own.filter(|own| !said.contains_key(own)).collect();
        Ok(misnamed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names that they have, by the names that are theirs.
    pub(super) const fn names(&self) -> &BTreeMap<Name, Name> {
        &self.names
    }

    /// Those of their own names that no file has.
    pub(super) fn free(&self) -> impl Iterator<Item = Name> {
        self.free.iter().copied()
    }

    /// What is to be said of each.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|((own, own_kind), (id, kind))| {
            let (own, name) = (own.file_name(*own_kind), id.file_name(*kind));
            format!("{name} says that it is {own}, and counts as that")
        })
    }
}

/// The files that a manifest needs.
struct Wanted<'a> {
    catalog: &'a Catalog,
    blobs: BlobAccount,
}

impl<'a> Wanted<'a> {
    fn of(catalog: &'a Catalog) -> Self {
        let states = catalog.keyspaces.values().flat_map(|state| state.tables.values());
        Self { catalog, blobs: BlobAccount::of(states.map(|table| &*table.properties)) }
    }

    fn has(&self, (id, kind): Name) -> bool {
        match kind {
            FileKind::Table => self.catalog.find_table(TableId(id)).is_some(),
            FileKind::Blob => self.blobs.file(BlobFileId(id)).is_some(),
            FileKind::Log => self.catalog.logs.contains(&LogId(id)),
            // A repair writes to the one, and does without the other.
            FileKind::Manifest | FileKind::Warm => false,
        }
    }
}
