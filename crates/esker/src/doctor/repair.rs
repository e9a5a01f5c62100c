//! Repair: builds a manifest that fits what is intact.
//!
//! Everything new is written next to the old files, under ids that no file has had: first tables,
//! then second names or copies of damaged files, then the manifest, which takes effect when it is
//! renamed; only then do the damaged files lose their first names. A crash leaves either the old
//! state or the new one. A failure before the manifest leaves nothing of the repair.
//!
//! Where tables go is decided by what is provably right:
//!
//! - If the manifest is intact, every table stays in its run. The intact entries of a damaged table
//!   go to a new table in the same place; its keys are a subset, so runs stay disjoint.
//! - If it is not, tables that are named in the remains of manifests go where those say, and others
//!   to the level that they were built for. It is then not always known which tables had been
//!   replaced already; the report says so.
//! - Then the entries themselves are checked for order; if they are out of order, all tables of the
//!   keyspace are merged into one run, ordered by sequence number. Sequence number zero is only
//!   given to the oldest entry of a key, so it sorts correctly.

mod last_copies;
mod logs;
mod order;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{BlobFileId, FileId, FileKind, KeyspaceId, LogId, ManifestId, SeqNo, TableId};
use esker_table::{TableContext, TableOptions};
use esker_tree::{Catalog, EditRecord, EditRefused, Manifest, TablePlace, VersionEdit};

use super::causes::Causes;
use super::history::History;
use super::lone_check::check_lone_files;
use super::new_tables::Ids;
use super::own_names::Misnamed;
use super::place::Place;
use super::repair_report::RepairReport;
use super::report::AffectedKeys;
use super::scratch::Scratch;
use super::set_aside::{DAMAGED_DIR, copy_aside, keep_aside, link_aside};
use super::verify::verify;
use super::{ProgressListener, RepairOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::described::described;
use crate::ledger::first_free_counter;
use crate::options::KeyspaceOptions;
use crate::recovery::orphans::{Places, UNFINISHED_SUFFIX};

/// Ids that are skipped if it is unknown how many were given out or reserved.
const UNKNOWN_IDS: u64 = 4096;

/// A lower bound for the input that a repair puts into one table before it starts another: far less
/// than it usually is, to allow for well-compressed values.
const TABLE_BYTES_LEAST: u64 = 64 << 10;

/// Repairs the database in `place`.
pub(super) fn repair(
    place: &Place,
    options: &RepairOptions,
    progress: &mut ProgressListener<'_>,
) -> Result<RepairReport> {
    let (found, mut causes) = verify(place, progress)?;
    let mut report = RepairReport {
        is_dry_run: options.dry_run,
        findings: found.findings,
        ..RepairReport::default()
    };
    let mut unreferenced = found.unreferenced;
    if report.was_sound() {
        return Ok(report);
    }
    let misnamed = Misnamed::find(place)?;
    let renamed = (!misnamed.is_empty()).then(|| place.by_own_names(misnamed.names()));
    let place = renamed.as_ref().unwrap_or(place);
    let mut damaged: BTreeSet<String> =
        report.findings.iter().map(|finding| finding.file.clone()).collect();
    if renamed.is_some() {
        let found;
        (found, causes) = verify(place, progress)?;
        unreferenced = found.unreferenced;
        damaged = found.findings.into_iter().map(|finding| finding.file).collect();
        damaged.extend(misnamed.names().keys().map(|(id, kind)| id.file_name(*kind)));
        report.notes.extend(misnamed.notes());
    }
    let Some(history) = History::read(place)? else {
        let what = "no file has a header that is intact: which database it is cannot be told";
        return Err(Error::new(ErrorKind::Corruption, what));
    };
    if !history.is_whole {
        // What is taken of them must be intact, as what a manifest names must be.
        let database = history.database();
        let found = check_lone_files(place, database, &unreferenced, &mut causes, progress)?;
        damaged.extend(found.iter().map(|finding| finding.file.clone()));
        report.findings.extend(found);
    }
    check_log_dir(place, &history)?;
    if !options.dry_run {
        check_still_refused(place)?;
    }
    let refused = place.unreadable.extent();
    let ids = ids_for(place, &history, &misnamed, options.dry_run)?;
    let tables = tables_for(place, &history, options.dry_run)?;
    let mut repair = Repair {
        place,
        options,
        tables,
        catalog: history.catalog.clone(),
        ids,
        damaged,
        misnamed,
        history,
        causes,
        report,
        aside: Vec::new(),
        kept_aside: Vec::new(),
        linked: BTreeSet::new(),
        misplaced: BTreeSet::new(),
        forsaken: BTreeSet::new(),
        blobs_of_plan: BTreeSet::new(),
    };
    repair.carry_out(refused)?;
    Ok(repair.report)
}

/// Ids for new files, which no file has and none can have had.
fn ids_for(place: &Place, history: &History, misnamed: &Misnamed, dry_run: bool) -> Result<Ids> {
    let on_disk = place.names().chain(place.logs().keys().map(|id| (*id, FileKind::Log)));
    let on_disk = on_disk.chain(misnamed.names().values().copied());
    let next = first_free_counter(history.catalog.next_file_counter.max(1), on_disk)?;
    match (history.is_whole, dry_run) {
        (true, false) => reserve(place, &history.catalog, next),
        (true, true) => Ok(Ids::new(next)),
        (false, _) => Ok(Ids::new(next + UNKNOWN_IDS)),
    }
}

/// The context for tables; those that a dry run makes are on no disk.
fn tables_for(place: &Place, history: &History, dry_run: bool) -> Result<Arc<TableContext>> {
    let tables = place.tables(history.database());
    if !dry_run {
        return Ok(tables);
    }
    let fs = Arc::new(Scratch::over(&place.env.fs, &place.dir)?);
    Ok(Arc::new(TableContext { fs, ..TableContext::clone(&tables) }))
}

/// Refuses to give up what the device can read after all.
fn check_still_refused(place: &Place) -> Result<()> {
    match place.unreadable.given_after_all(&*place.device.fs)? {
        None => Ok(()),
        Some(path) => {
            let what = format!("{} could not be read, and now it can be", path.display());
            Err(changed(&what))
        }
    }
}

fn changed(what: &str) -> Error {
    let what = format!("{what}; nothing was changed, and another try may find more intact");
    Error::new(ErrorKind::Io, what)
}

/// Refuses to give up the whole log unless the caller has said that it is here: otherwise the next
/// open with the right log directory would remove it.
fn check_log_dir(place: &Place, history: &History) -> Result<()> {
    // Damaged segments are moved away, which must not happen to another database's.
    let (fs, dir, log_dir) = (&*place.env.fs, place.dir.as_path(), place.log_dir.as_path());
    if !esker_base::planted::is("foreign-log-repaired") {
        Places { fs, dir, log_dir }.check_log_dir(history.database())?;
    }
    check_log_is_here(place, Some(&history.catalog.logs).filter(|_| history.is_whole))
}

/// The same, based only on which files exist; `logs` are the segments named by an intact manifest,
/// if there is one.
pub(super) fn check_log_is_here(place: &Place, logs: Option<&BTreeSet<LogId>>) -> Result<()> {
    let is_there = |log: &LogId| place.logs().contains_key(&log.0);
    // A damaged manifest may name segments that were released since. If there is no manifest, only
    // a segment shows that the log is here.
    let is_found = match logs {
        Some(logs) => logs.is_empty() || logs.iter().any(is_there),
        None => !place.logs().is_empty() || !place.manifests().is_empty(),
    };
    if place.is_log_dir_given || is_found {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "no segment of the log is in {}: say where the log lies, even if it is there",
        place.dir.display()
    )))
}

/// Makes the intact manifest reserve ids from `next` on: what a crash leaves of the repair is then
/// removed by the next open, like files of any unfinished job.
fn reserve(place: &Place, catalog: &Catalog, next: u64) -> Result<Ids> {
    let mut ids = Ids::new(next);
    if let Some(recovered) = Manifest::recover(&*place.env.fs, &place.dir)? {
        let record = EditRecord::NextFileCounter(next + ids_wanted(place, catalog));
        let mut manifest = Manifest::open(Arc::clone(&place.env.fs), &place.dir, recovered)?;
        manifest.append(&VersionEdit { records: vec![record] }, || ManifestId(ids.mint()))?;
    }
    Ok(ids)
}

/// More ids than a repair can use. It writes one table for each damaged one, and for each keyspace
/// one from the log and one if order is restored, with a run for each; and more tables if one grows
/// large.
fn ids_wanted(place: &Place, catalog: &Catalog) -> u64 {
    let (mut files, mut bytes) = (0, 0_u64);
    let lens = FileKind::ALL.into_iter().flat_map(|kind| place.files_of(kind)).map(|(_, len)| len);
    for len in lens.chain(place.logs().values().copied()) {
        files += 1;
        bytes = bytes.saturating_add(len);
    }
    let keyspaces = catalog.keyspaces.len() as u64;
    UNKNOWN_IDS + 4 * (files + keyspaces) + bytes / TABLE_BYTES_LEAST
}

struct Repair<'a> {
    place: &'a Place,
    options: &'a RepairOptions,
    tables: Arc<TableContext>,
    history: History,
    causes: Causes,
    /// What the new manifest will say.
    catalog: Catalog,
    ids: Ids,
    /// Files with findings, and those that are [misnamed](Misnamed), by their own names.
    damaged: BTreeSet<String>,
    misnamed: Misnamed,
    report: RepairReport,
    /// Files to be moved out of the database.
    aside: Vec<PathBuf>,
    /// What those are called that have been, so far.
    kept_aside: Vec<PathBuf>,
    /// Files that stay in the database, and get a second name among those that were moved out.
    linked: BTreeSet<PathBuf>,
    /// Tables that a manifest assigns to a keyspace that is not theirs.
    misplaced: BTreeSet<TableId>,
    /// Blob files that lost entries referred to, as far as anything tells.
    forsaken: BTreeSet<BlobFileId>,
    /// Blob files that entries refer to which a dry run has merged and not written.
    blobs_of_plan: BTreeSet<BlobFileId>,
}

impl Repair<'_> {
    /// Does it; `refused` is how much of the files could not be read before.
    fn carry_out(&mut self, refused: u64) -> Result<()> {
        let mut result = self.run();
        if refused < self.place.unreadable.extent() {
            result = Err(changed("what the device gave while it was verified it refuses now"));
        }
        if self.options.dry_run {
            return result;
        }
        let prepared = result.and_then(|()| self.prepare());
        let (id, catalog) = prepared.inspect_err(|_| self.take_back())?;
        self.install(id, catalog)
    }

    fn run(&mut self) -> Result<()> {
        if !self.history.is_whole {
            self.catalog.logs.clear();
            let note = "no manifest is whole: tables that had been replaced already may be among \
                        those that are kept, and keyspaces that had been dropped may be back";
            self.report.notes.push(note.to_owned());
        }
        for state in self.catalog.keyspaces.values_mut() {
            Arc::make_mut(state).tables.clear();
        }
        self.known_tables()?;
        if !self.history.is_whole {
            self.unknown_tables()?;
        }
        self.set_aside(FileKind::Blob);
        self.set_aside(FileKind::Warm);
        self.logs()?;
        let is_trusted = self.history.is_whole && esker_base::planted::is("order-of-runs-trusted");
        if !is_trusted {
            self.check_order()?;
        }
        self.last_copies()?;
        let seqnos = self.catalog.keyspaces.values().flat_map(|state| state.tables.values());
        let newest = seqnos.map(|place| place.properties.seqno_max).max().unwrap_or(SeqNo::ZERO);
        self.catalog.last_seqno = self.catalog.last_seqno.max(newest);
        let lost = self.report.lost.iter_mut().filter_map(|loss| loss.keys.as_mut());
        AffectedKeys::decode_all(lost, &self.catalog);
        for (id, state) in &self.catalog.keyspaces {
            let note = |what| format!("nothing tells {what}");
            self.report.notes.extend(self.history.untold(*id, &state.name).map(note));
        }
        self.set_aside_manifests();
        self.set_aside_misnamed();
        for path in &self.aside {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.report.set_aside.push(name);
        }
        Ok(())
    }

    /// Sets aside damaged files of `kind`: what is intact of blob files is in tables by now, and
    /// warm lists are not needed.
    fn set_aside(&mut self, kind: FileKind) {
        for (id, _) in self.place.files_of(kind) {
            let name = id.file_name(kind);
            if self.damaged.contains(&name) {
                self.aside.push(self.place.dir.join(name));
            }
        }
    }

    /// Sets aside all manifests, if none is whole. The one before a whole one goes with the next.
    fn set_aside_manifests(&mut self) {
        if self.history.is_whole {
            let old =
                self.place.predecessors().values().filter(|name| self.damaged.contains(*name));
            let note =
                |name| format!("{name} goes: the manifest after it is whole, and is kept instead");
            self.report.notes.extend(old.map(note));
        } else {
            let names = self.place.manifests().into_values();
            self.aside.extend(names.map(|name| self.place.dir.join(name)));
        }
    }

    /// Sets aside files that are under the names of others: what is in them is in new tables by now.
    fn set_aside_misnamed(&mut self) {
        let free: BTreeSet<PathBuf> =
            self.misnamed.free().map(|own| self.place.path_of(own)).collect();
        self.aside.retain(|path| !free.contains(path));
        for name in self.misnamed.names().values() {
            let path = self.place.path_of(*name);
            if !self.aside.contains(&path) {
                self.aside.push(path);
            }
        }
    }

    fn make_keyspace(&mut self, id: KeyspaceId) {
        if self.history.keyspace(id) {
            let state = Arc::clone(&self.history.catalog.keyspaces[&id]);
            self.catalog.keyspaces.insert(id, state);
            let next = self.history.catalog.next_keyspace_id;
            self.catalog.next_keyspace_id = self.catalog.next_keyspace_id.max(next);
        }
    }

    fn put(&mut self, keyspace: KeyspaceId, place: TablePlace) {
        let state = self.catalog.keyspaces.get_mut(&keyspace).expect("the keyspace was made");
        Arc::make_mut(state).tables.insert(place.properties.id, place);
    }

    fn table_options(&self, keyspace: KeyspaceId) -> TableOptions {
        let state = &self.catalog.keyspaces[&keyspace];
        let options = KeyspaceOptions::decode(&state.options).unwrap_or_default();
        let merge_operator = options.merge_operator.as_ref().map(|merge| merge.name());
        TableOptions {
            block_size_bytes: options.block_size_bytes as usize,
            compression: options.compression.of_tables(),
            filter_bits_per_key: options.filter_bits_per_key,
            prefix_rule: options.prefix_filter,
            zstd_level: options.zstd_level,
            zstd_dictionary_bytes: 0,
            keyspace: described(keyspace, &state.name, &state.order, merge_operator),
        }
    }

    /// Makes durable what there must be before the manifest that makes the repair take effect. Returns
    /// what that is to be.
    fn prepare(&mut self) -> Result<(ManifestId, Catalog)> {
        let fs = &self.place.device.fs;
        fs.sync_dir(&self.place.dir)?;
        if self.place.log_dir != self.place.dir {
            // If nothing can be written, everything may be unreadable too: nothing is given up
            // because of that.
            fs.sync_dir(&self.place.log_dir)?;
        }
        for path in self.aside.clone() {
            let kept = self.keep_aside(&path)?;
            self.kept_aside.push(kept);
        }
        for path in &self.linked {
            match link_aside(&**fs, &self.place.dir, path) {
                Ok(kept) => self.kept_aside.push(kept),
                Err(error) => {
                    let what = format!("values of lost entries go with garbage some day: {error}");
                    self.report.notes.push(what);
                }
            }
        }
        let manifest = ManifestId(self.ids.mint());
        self.catalog.next_file_counter = self.catalog.next_file_counter.max(self.ids.next());
        // What is written must be acceptable to an open.
        let mut checked = Catalog::new(self.catalog.database);
        checked.apply(&self.catalog.snapshot_edit()).map_err(refused)?;
        Ok((manifest, checked))
    }

    /// Removes what was made, to which nothing refers yet, as far as possible. It would take space on a
    /// disk that may be full; and another try without a whole manifest would take the tables for some
    /// of the database.
    fn take_back(&self) {
        let (fs, dir) = (&*self.place.device.fs, &self.place.dir);
        let is_made = |name: &String| {
            let unfinished = name.strip_suffix(UNFINISHED_SUFFIX);
            let named = FileId::parse_file_name(unfinished.unwrap_or(name));
            // A manifest that is finished is the one that reserves the ids.
            let is_ours = |kind| kind == FileKind::Table || unfinished.is_some();
            named.is_some_and(|(id, kind)| is_ours(kind) && self.ids.has_minted(id))
        };
        let names = fs.list(dir).unwrap_or_default().into_iter().map(|entry| entry.name);
        let made = names.filter(is_made);
        let made = made.map(|name| dir.join(name));
        made.chain(self.kept_aside.iter().cloned()).for_each(|path| drop(fs.remove(&path)));
    }

    /// Writes the manifest, and removes what is not needed any more.
    fn install(&mut self, manifest: ManifestId, catalog: Catalog) -> Result<()> {
        let fs = &self.place.device.fs;
        if let Err(error) = Manifest::create(Arc::clone(fs), &self.place.dir, manifest, catalog) {
            // Once it has its name, it may be what counts.
            let is_named = fs.exists(&self.place.dir.join(manifest.file_name()));
            if matches!(is_named, Ok(false)) {
                self.take_back();
            }
            return Err(error.into());
        }
        // A damaged one that was the newest has become the one before by that.
        let renamed = self.aside.iter().filter_map(|path| {
            match FileId::parse_file_name(path.file_name()?.to_str()?) {
                Some((id, FileKind::Manifest)) => Some(Manifest::predecessor_name(ManifestId(id))),
                _ => None,
            }
        });
        let renamed: Vec<_> = renamed.map(|name| self.place.dir.join(name)).collect();
        for path in self.aside.iter().chain(&renamed) {
            let result = fs.exists(path).and_then(|is| if is { fs.remove(path) } else { Ok(()) });
            match result {
                // The repair is done; the next open tries this again.
                Err(error) if self.place.unreadable.is_refused_here(path) => {
                    self.report.notes.push(error.to_string());
                }
                result => result?,
            }
        }
        fs.sync_dir(&self.place.dir)?;
        if self.place.log_dir != self.place.dir {
            fs.sync_dir(&self.place.log_dir)?;
        }
        Ok(())
    }
}

impl Repair<'_> {
    /// Sets the file aside, and returns the path that it has there. If the device cannot read all of it,
    /// that is no copy, if possible.
    fn keep_aside(&mut self, path: &Path) -> Result<PathBuf> {
        let place = self.place;
        let fs = &*place.device.fs;
        if !place.unreadable.is_refused_here(path) {
            return keep_aside(fs, &place.dir, path);
        }
        let itself = "was asked for twice and counts as lost; the file itself is set aside, and no copy of \
                      it: what the device gives of it some day is not lost";
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let error = match link_aside(fs, &place.dir, path) {
            Ok(kept) => {
                let what = format!("what the device does not give of {name} {itself}");
                self.report.notes.push(what);
                return Ok(kept);
            }
            Err(error) => error,
        };
        // The log may lie on another device.
        let apart = path.parent().filter(|dir| *dir != place.dir);
        if let Some(dir) = apart
            && let Ok(kept) = link_aside(fs, dir, path)
        {
            let dir = dir.join(DAMAGED_DIR);
            let what =
                format!("what the device does not give of {name} {itself}: {}", dir.display());
            self.report.notes.push(what);
            return Ok(kept);
        }
        if place.unreadable.is_whole(path) {
            // There is nothing to copy.
            return Err(error);
        }
        let what = "is set aside as a copy, with zeros for what the device does not give";
        self.report.notes.push(format!("{name} {what}: {error}"));
        copy_aside(&*place.padded.fs, &place.dir, path)
    }
}

fn refused(error: EditRefused) -> Error {
    let what = format!("what is intact does not fit together: {error}");
    Error::new(ErrorKind::Corruption, what)
}
