//! Verification: checks the manifest, then every file that it names, then whether they fit
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_base::{
    BlobFileId, DatabaseId, FileHeader, FileId, FileKind, KeyspaceId, LogId, ManifestId, SeqNo,
    TableId,
};
use esker_env::FileError;
use esker_table::{BlobFileFacts, Table, TableContext};
use esker_tree::{BlobAccount, Catalog, KeyspaceState, Manifest, Run, Version};

use super::blob_check::{blob_files_of, check_blob_file, check_references};
use super::causes::{Causes, UNREADABLE};
use super::lone_check::check_lone_file;
use super::order_check::{check_order, undecided_runs};
use super::place::Place;
use super::report::{AffectedKeys, Finding, UnreferencedFile, VerifyReport};
use super::table_check::{all_keys, check_table};
use super::warm_check::check_warm_list;
use super::{Progress, ProgressListener};
use crate::damaged::log_walk::{LogItem, walk_logs};
use crate::error::Result;
use crate::ledger::first_free_counter;
use crate::logs::durable_of_all;
use crate::options::KeyspaceOptions;
use crate::recovery::LOCK_FILE;
use crate::recovery::unnamed::{GOES_ON, goes_on};

/// Verifies the database in `place`, and identifies damage that is due to unreadable parts.
pub(super) fn verify(
    place: &Place,
    progress: &mut ProgressListener<'_>,
) -> Result<(VerifyReport, Causes)> {
    let mut verification = Verification::new(place, progress);
    if let Some(error) = &place.unlocked {
        let finding = Finding::at(LOCK_FILE, 0, format!("{UNREADABLE}{error}"));
        verification.find(Finding { is_unreadable: true, ..finding });
    }
    match Manifest::recover(&*place.env.fs, &place.dir) {
        // A manifest without its unreadable part may be out of date.
        Ok(Some(recovered)) if place.is_unreadable(&recovered.id.file_name()) => {
            verification.without_manifest()?;
        }
        Ok(Some(recovered)) => {
            verification.catalog(recovered.id, &recovered.catalog)?;
            let findings = verification.report.findings.iter_mut();
            let affected = findings.filter_map(|finding| finding.affected.as_mut());
            AffectedKeys::decode_all(affected, &recovered.catalog);
        }
        Ok(None) => {
            let what = "there are files of a database, and no manifest";
            verification.find(Finding::at("manifest", 0, what));
            verification.without_manifest()?;
        }
        Err(FileError::Corruption(corruption)) => {
            verification.find(Finding::new(corruption));
            verification.without_manifest()?;
        }
        Err(error) => return Err(error.into()),
    }
    let mut report = verification.report;
    let causes = Causes::attribute(&place.unreadable, &mut report.findings);
    Ok((report, causes))
}

struct Verification<'a> {
    place: &'a Place,
    listener: &'a mut dyn FnMut(&Progress),
    progress: Progress,
    report: VerifyReport,
    /// Tables with a finding.
    damaged: BTreeSet<TableId>,
}

impl<'a> Verification<'a> {
    fn new(place: &'a Place, listener: &'a mut ProgressListener<'_>) -> Self {
        let progress = Progress { subject: String::new(), bytes_done: 0, bytes_total: 0 };
        let (report, damaged) = (VerifyReport::default(), BTreeSet::new());
        Self { place, listener, progress, report, damaged }
    }

    fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    /// Reports that `subject` is being read.
    fn enter(&mut self, subject: String) {
        self.progress.subject = subject;
        (self.listener)(&self.progress);
    }

    /// Reports that this many more bytes have been processed.
    fn leave(&mut self, bytes: u64) {
        self.progress.bytes_done += bytes;
        (self.listener)(&self.progress);
    }

    /// Checks the database as the manifest `name` says it is.
    fn catalog(&mut self, manifest: ManifestId, catalog: &Catalog) -> Result<()> {
        let name = &manifest.file_name();
        let tables = self.place.tables(catalog.database);
        let versions = self.keyspaces(name, catalog, &tables);
        let none = BTreeSet::new();
        let undecided = |version: &Version| undecided_runs(version, &none);
        let merged: u64 = versions.values().flat_map(undecided).map(|run| run.bytes()).sum();
        let lone = versions.values().map(Version::bytes).sum::<u64>();
        let logs: Vec<LogId> = catalog.logs.iter().copied().collect();
        let accounts: BTreeMap<KeyspaceId, BlobAccount> =
            versions.iter().map(|(id, version)| (*id, account_of(version))).collect();
        let blobs: u64 = accounts.values().map(BlobAccount::file_bytes).sum();
        let log_bytes = logs.iter().filter_map(|log| self.place.logs().get(&log.0)).sum::<u64>();
        let warm = self.place.files_of(FileKind::Warm).map(|(_, bytes)| bytes).sum::<u64>();
        self.progress.bytes_total = lone + merged + blobs + log_bytes + warm;

        for (id, account) in &accounts {
            for file in account.files() {
                self.blob_file(&tables, &file.facts, *id)?;
            }
        }
        for (id, version) in &versions {
            let state = &catalog.keyspaces[id];
            for table in version.tables() {
                self.table(catalog, state, table, &accounts[id])?;
            }
        }
        for (id, version) in &versions {
            let runs = undecided_runs(version, &self.damaged);
            if !runs.is_empty() {
                self.order(&catalog.keyspaces[id].name, &runs)?;
            }
        }
        let keyspaces = Some(catalog.next_keyspace_id);
        let durable = durable_of_all(catalog);
        let last = self.logs(catalog.database, &logs, &durable, catalog.last_seqno, keyspaces)?;
        self.warm_lists(catalog.database, Some((manifest, catalog)))?;
        self.predecessors(catalog.database)?;
        self.unreferenced(manifest, catalog, last)
    }

    /// Checks what the manifest says of keyspaces, and their trees.
    fn keyspaces(
        &mut self,
        name: &str,
        catalog: &Catalog,
        tables: &Arc<TableContext>,
    ) -> BTreeMap<KeyspaceId, Version> {
        let mut versions = BTreeMap::new();
        if !catalog.keyspaces.contains_key(&KeyspaceId::DEFAULT) {
            self.find(Finding::at(name, 0, "the manifest has no default keyspace"));
        }
        for (id, state) in &catalog.keyspaces {
            self.report.totals.keyspaces += 1;
            if let Err(error) = KeyspaceOptions::decode(&state.options) {
                let what = format!("the options of {} do not decode: {error}", state.name);
                self.find(Finding::at(name, 0, what));
            }
            let open = |properties| Arc::new(Table::new(Arc::clone(tables), properties));
            match Version::open(*id, state, open) {
                Ok(version) => drop(versions.insert(*id, version)),
                Err(error) => self.find(Finding::at(name, 0, error.to_string())),
            }
        }
        versions
    }

    fn blob_file(
        &mut self,
        context: &TableContext,
        facts: &BlobFileFacts,
        keyspace: KeyspaceId,
    ) -> Result<()> {
        self.enter(facts.id.file_name());
        let VerifyReport { findings, totals, .. } = &mut self.report;
        check_blob_file(self.place, context, facts, keyspace, findings, totals)?;
        self.leave(facts.file_bytes);
        Ok(())
    }

    fn table(
        &mut self,
        catalog: &Catalog,
        state: &KeyspaceState,
        table: &Table,
        blobs: &BlobAccount,
    ) -> Result<()> {
        let properties = table.properties();
        let id = properties.id;
        let found = self.report.findings.len();
        self.enter(id.file_name());
        self.report.totals.tables += 1;
        match self.place.file_len(id.0, FileKind::Table) {
            None => {
                let what = "the manifest names this file, and it is missing";
                let finding = Finding::at(id.file_name(), 0, what);
                self.find(finding.affecting(Some(all_keys(table, &state.name))));
            }
            Some(len) => {
                let report = check_table(table, &state.name, &mut self.report.findings)?;
                let totals = &mut self.report.totals;
                totals.table_bytes += len;
                totals.blocks += report.block_count;
                totals.entries += report.entry_count;
                check_references(self.place, table, &state.name, &mut self.report.findings)?;
            }
        }
        let agrees =
            |facts: BlobFileFacts| blobs.file(facts.id).map(|file| file.facts) == Some(facts);
        if !blob_files_of(properties).all(agrees) {
            let what = "the table says of a blob file what another table does not";
            self.find(Finding::at(id.file_name(), 0, what));
        }
        if catalog.last_seqno < properties.seqno_max {
            let what = format!(
                "the table holds sequence number {}, and the manifest knows none past {}",
                properties.seqno_max, catalog.last_seqno
            );
            self.find(Finding::at(id.file_name(), 0, what));
        }
        if self.report.findings.len() != found {
            self.damaged.insert(id);
        }
        self.leave(properties.file_bytes);
        Ok(())
    }

    fn order(&mut self, keyspace: &str, runs: &[Arc<Run>]) -> Result<()> {
        self.enter(format!("order of entries in {keyspace}"));
        let bytes: u64 = runs.iter().map(|run| run.bytes()).sum();
        let mut done = 0;
        let findings = check_order(runs, |read| {
            // Blocks may be compressed: what is read may be more than what the files have.
            let now = read.min(bytes);
            self.progress.bytes_done += now - done;
            done = now;
            (self.listener)(&self.progress);
        })?;
        self.report.findings.extend(findings);
        self.leave(bytes - done);
        Ok(())
    }

    /// Checks `logs`, and returns the last number in them, if they have groups. An operation may be on a
    /// keyspace below `next_keyspace_id`, where known.
    fn logs(
        &mut self,
        database: DatabaseId,
        logs: &[LogId],
        durable: &BTreeMap<LogId, u64>,
        before: SeqNo,
        next_keyspace_id: Option<u32>,
    ) -> Result<Option<SeqNo>> {
        let place = self.place;
        let mut last = None;
        // Groups are missing before the present place: it does not count, unless it says that it
        // was durable.
        let mut is_dropping = false;
        let mut is_behind_damage = false;
        let mut first_hole = None;
        walk_logs(place.damaged_log(database), logs, durable, before, |item| match item {
            LogItem::Group(group) => {
                (is_behind_damage, last) = (false, Some(group.last_seqno()));
                self.report.totals.groups += 1;
                self.report.totals.operations += group.operations.len() as u64;
                let unknown = next_keyspace_id.is_some_and(|next| {
                    group.operations.iter().any(|operation| next <= operation.keyspace.0)
                });
                if unknown {
                    let what = "the group has an operation on a keyspace that never was";
                    self.find(Finding::at(group.log.file_name(), group.offset, what));
                }
            }
            LogItem::Gap { hole, .. } => {
                // Damage leaves a gap, and has been found.
                if !std::mem::take(&mut is_behind_damage) && !is_dropping {
                    first_hole = hole;
                    is_dropping = true;
                }
            }
            LogItem::Damage(corruption) => {
                is_behind_damage = true;
                self.find(Finding::new(corruption));
            }
            LogItem::HeaderDamage(_, corruption) => self.find(Finding::new(corruption)),
            LogItem::End(segment) => {
                let name = segment.log.file_name();
                self.enter(name.clone());
                let len = place.logs().get(&segment.log.0).copied().unwrap_or(0);
                self.report.totals.logs += 1;
                self.report.totals.log_bytes += len;
                // Without damage, a gap is damage itself if it was durable.
                if is_dropping && (FileHeader::LEN as u64) < segment.marked_durable {
                    let what = "groups before this segment are missing, though they were durable";
                    let place = first_hole.map_or_else(String::new, |hole| format!(", {hole}"));
                    self.find(Finding::at(name, 0, format!("{what}{place}")));
                }
                self.leave(len);
            }
        })?;
        Ok(last)
    }

    /// Lists unreferenced files, and finds those that a newer manifest must have named, and what keeps
    /// an open from giving numbers to files. `last` is the last number in the log.
    fn unreferenced(
        &mut self,
        manifest: ManifestId,
        catalog: &Catalog,
        last: Option<SeqNo>,
    ) -> Result<()> {
        let place = self.place;
        let lists = place.files_of(FileKind::Warm).filter(|(id, _)| *id != manifest.0);
        let lists = lists.map(|(id, bytes)| (id, FileKind::Warm, bytes));
        let manifest = &manifest.file_name();
        let is_named = |id: FileId| catalog.find_table(TableId(id)).is_some();
        let tables = place.files_of(FileKind::Table).filter(|(id, _)| !is_named(*id));
        let tables = tables.map(|(id, bytes)| (id, FileKind::Table, bytes));
        let states = catalog.keyspaces.values().flat_map(|state| state.tables.values());
        let blobs = BlobAccount::of(states.map(|table| &*table.properties));
        let blobs = place
            .files_of(FileKind::Blob)
            .filter(|(id, _)| blobs.file(BlobFileId(*id)).is_none())
            .map(|(id, bytes)| (id, FileKind::Blob, bytes));
        let tables = tables.chain(blobs.collect::<Vec<_>>());
        let logs = place.logs().iter().filter(|(id, _)| !catalog.logs.contains(&LogId(**id)));
        let logs = logs.map(|(id, bytes)| (*id, FileKind::Log, *bytes));
        // No id is given out before a manifest has reserved it.
        let beyond = place.beyond(catalog);
        for (id, kind) in &beyond {
            let what = format!("{} is newer than all that the manifest knows", id.file_name(*kind));
            self.find(Finding::at(manifest, 0, format!("a newer one is missing: {what}")));
        }
        if let Err(corruption) = first_free_counter(catalog.next_file_counter, place.names()) {
            self.find(Finding::new(corruption));
        }
        for (id, kind, bytes) in tables.chain(logs).chain(lists).collect::<Vec<_>>() {
            let file = id.file_name(kind);
            if kind == FileKind::Log
                && !beyond.contains(&(id, kind))
                && goes_on(&*place.env.fs, &place.log_dir, LogId(id), catalog, last)?
            {
                self.find(Finding::at(file.clone(), 0, GOES_ON));
            }
            self.report.unreferenced.push(UnreferencedFile { file, bytes });
        }
        Ok(())
    }

    /// Checks all warm lists.
    fn warm_lists(
        &mut self,
        database: DatabaseId,
        newest: Option<(ManifestId, &Catalog)>,
    ) -> Result<()> {
        for (id, bytes) in self.place.files_of(FileKind::Warm) {
            self.enter(id.file_name(FileKind::Warm));
            check_warm_list(self.place, id, database, newest, &mut self.report.findings)?;
            self.leave(bytes);
        }
        Ok(())
    }

    /// Checks the manifests before the newest, which a repair would have to go by.
    fn predecessors(&mut self, database: DatabaseId) -> Result<()> {
        let place = self.place;
        if esker_base::planted::is("manifest-before-the-newest-not-verified") {
            return Ok(());
        }
        for (id, name) in place.predecessors() {
            self.enter(name.clone());
            let fs = &*place.env.fs;
            match Manifest::check_predecessor(fs, &place.dir, name, (*id, database)) {
                Err(FileError::Corruption(corruption)) => self.find(Finding::new(corruption)),
                // A newer release has had the database open.
                Ok(()) | Err(FileError::UnsupportedFormat(_)) => {}
                // It is under another name, and known by its own.
                Err(FileError::Io(error)) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Checks each file by itself.
    fn without_manifest(&mut self) -> Result<()> {
        let place = self.place;
        let files = place.files_of(FileKind::Table).chain(place.files_of(FileKind::Blob));
        let files = files.chain(place.files_of(FileKind::Warm));
        let bytes: u64 = files.map(|(_, bytes)| bytes).sum();
        self.progress.bytes_total = bytes + place.logs().values().sum::<u64>();
        let Some(database) = super::place::database_of_files(place)? else { return Ok(()) };
        let tables = place.tables(database);
        let kinds = [FileKind::Blob, FileKind::Table].into_iter();
        let files =
            kinds.flat_map(|kind| place.files_of(kind).map(move |(id, bytes)| ((id, kind), bytes)));
        for (name, bytes) in files {
            self.enter(name.0.file_name(name.1));
            check_lone_file(place, &tables, name, &mut self.report)?;
            self.leave(bytes);
        }
        self.warm_lists(database, None)?;
        self.predecessors(database)?;
        let logs: Vec<LogId> = place.logs().keys().copied().map(LogId).collect();
        self.logs(database, &logs, &BTreeMap::new(), SeqNo::MAX, None).map(drop)
    }
}

/// The blob files that the tables of `version` refer to.
fn account_of(version: &Version) -> BlobAccount {
    BlobAccount::of(version.tables().map(|table| &**table.properties()))
}
