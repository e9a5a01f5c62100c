//! Ingest: tables that a [`TableWriter`](crate::TableWriter) wrote become part of a keyspace as
//! they are.
//!
//! First every file is checked, and nothing is changed. Then each is copied or hard-linked into the
//! directory of the database, under an id that no manifest names, so that the next open removes
//! what a crash leaves. Then all join the tree at once (`adopt_tables`). The originals of a move
//! are removed last.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{Corruption, FileId, TableId};
use esker_table::{Adoption, ExternalError, ExternalTable, Origin, Table};

use crate::engine::Engine;
use crate::engine::moving::Claim;
use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::load::adopt_tables::LooseTable;
use crate::load::table_writer::parent;

/// Options of an ingest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IngestOptions {
    /// Moves the files instead of copying them: each is hard-linked into the directory of the
    /// database, where the file system can do that, and loses its own name once the ingest is
    /// durable. After an error all files are where they were. A table in the directory of a
    /// database can be copied, but not moved; the target of a symbolic link is copied, and the link
    /// removed. Do not move one file into two databases at the same time. Default false.
    pub move_files: bool,
    /// Checks every block and the order of all entries, in addition to the checksum of the whole
    /// file, which is always checked. Reads each file once more. Default false.
    pub verify_entries: bool,
}

/// The result of an ingest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngestReport {
    /// The sequence number of all entries.
    pub seqno: u64,
    /// The tables, in key order.
    pub tables: Vec<IngestedTable>,
    /// Files that were to be moved and are ingested, but could not be removed.
    pub not_removed: Vec<PathBuf>,
}

/// One table of an [`IngestReport`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngestedTable {
    /// The file that it came from.
    pub path: PathBuf,
    /// The name of its file in the directory of the database.
    pub file: String,
    /// The level that it joined.
    pub level: usize,
    /// Entries in it; deleted ranges do not count.
    pub entries: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

impl Engine {
    pub(crate) fn ingest<P: AsRef<Path>>(
        &self,
        keyspace: &KeyspaceCore,
        paths: &[P],
        options: IngestOptions,
    ) -> Result<IngestReport> {
        self.check_writable()?;
        keyspace.check_live()?;
        let started_at = self.snapshots.visible();
        let tables = self.externals(keyspace, paths)?;
        if tables.is_empty() {
            self.sync()?;
            let (seqno, tables, not_removed) = (started_at.get(), Vec::new(), Vec::new());
            return Ok(IngestReport { seqno, tables, not_removed });
        }
        if options.move_files {
            check_movable(&tables)?;
        }
        let mut ids = Vec::with_capacity(tables.len());
        let mut claims = Vec::new();
        let adopted = self
            .take_in(keyspace, &tables, options, (&mut ids, &mut claims))
            .and_then(|loose| self.adopt_tables(keyspace, &loose, started_at));
        drop(claims);
        let adopted = adopted.inspect_err(|error| self.remove_loose(&ids, error))?;
        let not_removed =
            if options.move_files { self.remove_originals(&tables) } else { Vec::new() };
        let one =
            |((table, id), (level, properties)): ((&ExternalTable, &TableId), &(usize, Arc<_>))| {
                let properties: &esker_table::TableProperties = properties;
                IngestedTable {
                    path: table.path().to_path_buf(),
                    file: id.file_name(),
                    level: *level,
                    entries: properties.entry_count,
                    bytes: properties.file_bytes,
                }
            };
        let tables = tables.iter().zip(&ids).zip(&adopted.tables).map(one).collect();
        Ok(IngestReport { seqno: adopted.seqno.get(), tables, not_removed })
    }

    /// Checks the files, and returns them in key order. Changes nothing.
    fn externals<P: AsRef<Path>>(
        &self,
        keyspace: &KeyspaceCore,
        paths: &[P],
    ) -> Result<Vec<ExternalTable>> {
        let mut tables = Vec::with_capacity(paths.len());
        for path in paths {
            let path = path.as_ref();
            let table = ExternalTable::open(&*self.env.fs, path).map_err(|error| match error {
                ExternalError::File(error) => Error::from(error),
                ExternalError::NotExternal(what) => {
                    Error::invalid_input(format!("{} cannot be ingested: {what}", path.display()))
                }
            })?;
            check_fits(&table, keyspace)?;
            tables.push(table);
        }
        tables.sort_by(|a, b| a.properties().smallest_key.cmp(&b.properties().smallest_key));
        // The end of a deleted range need not be a valid key in the keyspace's order.
        let shown = |stored: &[u8]| {
            let key = keyspace.user_key(stored);
            key.map_or_else(|_| stored.to_vec(), Cow::into_owned).escape_ascii().to_string()
        };
        for pair in tables.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            if !a.properties().ends_before(&b.properties().smallest_key) {
                return Err(Error::invalid_input(format!(
                    "{} and {} overlap: the one ends with key \"{}\", the other starts with \"{}\"",
                    a.path().display(),
                    b.path().display(),
                    shown(&a.properties().largest_key),
                    shown(&b.properties().smallest_key),
                )));
            }
        }
        Ok(tables)
    }

    /// Checks each table and makes it a file of the directory. Adds the ids to `ids`, even those of
    /// tables that failed, and to `claims` the tables that were hard-linked.
    fn take_in<'a>(
        &'a self,
        keyspace: &KeyspaceCore,
        tables: &[ExternalTable],
        options: IngestOptions,
        (ids, claims): (&mut Vec<TableId>, &mut Vec<Claim<'a>>),
    ) -> Result<Vec<LooseTable>> {
        let mut loose = Vec::with_capacity(tables.len());
        for table in tables {
            self.check_writable()?;
            let id = self.ledger.allocate_table()?;
            let path = self.dir.join(id.file_name());
            ids.push(id);
            // Copies, if the system cannot link, or not from there.
            let claim = if options.move_files { self.claim(table)? } else { None };
            let is_linked = claim.is_some() && self.link(table, &path);
            if is_linked {
                claims.extend(claim);
                table.check(None)?;
            } else {
                table.check(Some(&*self.env.fs.create(&path)?))?;
            }
            let one =
                LooseTable { id, properties: table.properties().clone(), birth: table.birth() };
            if options.verify_entries {
                self.verify_entries(keyspace, &one, table.path())?;
            }
            loose.push(one);
        }
        Ok(loose)
    }

    /// The right to hard-link a table; `None` if another ingest has or had it: if that ingest
    /// linked the file but could not remove the original, it is a table of a database already.
    fn claim(&self, table: &ExternalTable) -> Result<Option<Claim<'_>>> {
        let Some(claim) = self.moving.claim(table.birth()) else { return Ok(None) };
        // After the claim: whoever had it before may have ended since the file was opened.
        let is_new = !table.is_adopted_by_now()? || esker_base::planted::is("file-moved-in-twice");
        Ok(is_new.then_some(claim))
    }

    /// Hard-links a table under a name by which it can be written to; returns whether that was
    /// possible, and the file is still that table.
    fn link(&self, table: &ExternalTable, path: &Path) -> bool {
        let fs = &*self.env.fs;
        if fs.link(table.path(), path).is_err() {
            return false;
        }
        // The name may have got another file since that was opened.
        let is_it = || {
            esker_base::planted::is("file-of-that-name-moved")
                || table.is_at(fs, path).unwrap_or(false)
        };
        let is_usable = fs.open_for_write(path).is_ok() && is_it();
        if !is_usable {
            drop(fs.remove(path));
        }
        is_usable
    }

    /// Checks every block of a table that was copied or linked.
    fn verify_entries(
        &self,
        keyspace: &KeyspaceCore,
        table: &LooseTable,
        path: &Path,
    ) -> Result<()> {
        let file = self.env.fs.open_for_write(&self.dir.join(table.id.file_name()))?;
        let adoption = Adoption {
            database: self.tables.database,
            id: table.id,
            keyspace: keyspace.id,
            level: 0,
            seqno: self.snapshots.visible(),
            origin_database: table.birth.0,
            origin_id: table.birth.1,
        };
        let content_bytes = table.properties.file_bytes;
        let file_bytes = esker_table::adopt(&*file, content_bytes, &adoption)?;
        let properties = adoption.apply(table.properties.clone(), file_bytes);
        let report = Table::new(Arc::clone(&self.tables), Arc::new(properties)).verify()?;
        match report.corruptions.into_iter().next() {
            None => Ok(()),
            Some(found) => {
                let file = path.display().to_string();
                Err(Corruption::new(file, found.offset, found.what).into())
            }
        }
    }

    /// Removes the files that were moved; returns those that could not be removed.
    fn remove_originals(&self, tables: &[ExternalTable]) -> Vec<PathBuf> {
        let mut not_removed = Vec::new();
        for table in tables {
            let dir = parent(table.path());
            let removed = match table.is_at(&*self.env.fs, table.path()) {
                // A file that came by that name since is not ours to remove.
                Ok(false) if !esker_base::planted::is("file-of-that-name-moved") => continue,
                Ok(_) => self.env.fs.remove(table.path()),
                Err(error) => Err(error),
            };
            match removed.and_then(|()| self.env.fs.sync_dir(dir)) {
                Ok(()) => {}
                // Another ingest that moves it too was faster.
                Err(error) if error.is_not_found() => {}
                Err(_) => not_removed.push(table.path().to_path_buf()),
            }
        }
        not_removed
    }
}

/// Refuses a file that is a table of a database under the name it has there: it would be taken from
/// it.
fn check_movable(tables: &[ExternalTable]) -> Result<()> {
    let is_of_database = |table: &&ExternalTable| {
        let name = table.path().file_name().and_then(|name| name.to_str());
        table.is_adopted() && name.and_then(FileId::parse_file_name).is_some()
    };
    match tables.iter().find(is_of_database) {
        None => Ok(()),
        Some(table) => {
            let path = table.path().display();
            Err(Error::invalid_input(format!(
                "{path} cannot be moved: it is a table of a database"
            )))
        }
    }
}

/// Refuses a table with another key order, one for another keyspace, and one with operands for
/// which the keyspace has no operator.
fn check_fits(table: &ExternalTable, keyspace: &KeyspaceCore) -> Result<()> {
    let Some(Origin::External { order, keyspace: named, has_operands }) =
        &table.properties().extras.origin
    else {
        return Ok(());
    };
    let path = table.path().display();
    if **order != *keyspace.order.name {
        return Err(Error::invalid_input(format!(
            "{path} cannot be ingested: its keys are in the order {order:?}, those of the \
             keyspace in {:?}",
            keyspace.order.name
        )));
    }
    let name = keyspace.name();
    if !named.is_empty() && **named != *name {
        return Err(Error::invalid_input(format!(
            "{path} cannot be ingested: it is for the keyspace {named:?}, not {name:?}"
        )));
    }
    if *has_operands && keyspace.check_merges().is_err() {
        return Err(Error::invalid_input(format!(
            "{path} cannot be ingested: it has merge operands, and the keyspace {name:?} has no \
             merge operator"
        )));
    }
    Ok(())
}
