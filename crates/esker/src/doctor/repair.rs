//! The repair: a manifest that fits what is intact.
//!
//! Everything new is written beside the old, under ids that no file has had: first tables, then
//! copies of what is damaged, then the manifest, which takes effect by its rename; only then are
//! the originals of the copies removed. A crash leaves the old state or the new one.
//!
//! What is provably right decides where tables go:
//!
//! - The manifest is whole: every table stays in its run. The intact entries of a damaged one go
//!   to a new table at the same place, which holds a part of its keys, so runs stay disjoint and
//!   in order.
//! - It is not: tables that what is left of the manifests knows go where it says, others to the
//!   level that they were built for. Then the entries themselves are asked whether that is in
//!   order, and where it is not, all tables of the keyspace are merged into one run, in which order
//!   is that of sequence numbers. Zero stands for the oldest entry of a key, so it sorts right.
//!   Which tables had been replaced already cannot always be told then; the report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{
    BlobFileId, Corruption, FileId, FileKind, Fragments, InternalKey, KeyspaceId, LogId,
    ManifestId, SeqNo, TableId,
};
use esker_env::FileError;
use esker_memtable::Memtable;
use esker_table::{BlockKind, KeyBounds, Table, TableContext, TableOptions, TableProperties};
use esker_tree::{
    Catalog, Cursor as _, EditRecord, EditRefused, KeyspaceState, LEVEL_COUNT_MAX, Manifest,
    MergingCursor, RunId, TablePlace, Version, VersionEdit,
};

use super::blob_check::{blob_files_of, salvaged};
use super::history::History;
use super::log_rescue::rescue;
use super::new_tables::{Ids, NewTables};
use super::order_check::{check_order, undecided_runs};
use super::place::Place;
use super::repair_report::{Loss, Rebuilt, RepairReport};
use super::report::AffectedKeys;
use super::set_aside::copy_aside;
use super::table_check::{DamageMap, all_keys, walk};
use super::verify::verify;
use super::{ProgressListener, RepairOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::options::KeyspaceOptions;

/// Ids that are passed over where it is not known how many were given, or are reserved.
const UNKNOWN_IDS: u64 = 4096;

/// Repairs the database in `place`.
pub(super) fn repair(
    place: &Place,
    options: &RepairOptions,
    progress: &mut ProgressListener<'_>,
) -> Result<RepairReport> {
    let found = verify(place, progress)?;
    let report = RepairReport {
        is_dry_run: options.dry_run,
        findings: found.findings,
        ..RepairReport::default()
    };
    if report.was_sound() {
        return Ok(report);
    }
    let Some(history) = History::read(place)? else {
        let what = "no file has a header that is intact: which database it is cannot be told";
        return Err(Error::new(ErrorKind::Corruption, what));
    };
    let on_disk = FileKind::ALL.into_iter().flat_map(|kind| place.files_of(kind)).map(|(id, _)| id);
    let newest = on_disk.chain(place.logs().keys().copied()).map(|id| id.counter).max();
    let next = newest.map_or(1, |newest| newest + 1).max(history.catalog.next_file_counter);
    let ids = match (history.is_whole, options.dry_run) {
        (true, false) => reserve(place, next)?,
        (true, true) => Ids::new(next),
        (false, _) => Ids::new(next + UNKNOWN_IDS),
    };
    let mut repair = Repair {
        place,
        options,
        tables: place.tables(history.database()),
        catalog: history.catalog.clone(),
        ids,
        damaged: report.findings.iter().map(|finding| finding.file.clone()).collect(),
        history,
        report,
        aside: Vec::new(),
    };
    repair.run()?;
    Ok(repair.report)
}

/// Makes the manifest, which is whole, say that ids from `next` on may be given: what a crash leaves
/// of the repair is then removed by the next open like any other unfinished job.
fn reserve(place: &Place, next: u64) -> Result<Ids> {
    let mut ids = Ids::new(next);
    if let Some(recovered) = Manifest::recover(&*place.env.fs, &place.dir)? {
        let record = EditRecord::NextFileCounter(next + UNKNOWN_IDS);
        let mut manifest = Manifest::open(Arc::clone(&place.env.fs), &place.dir, recovered)?;
        manifest.append(&VersionEdit { records: vec![record] }, || ManifestId(ids.mint()))?;
    }
    Ok(ids)
}

struct Repair<'a> {
    place: &'a Place,
    options: &'a RepairOptions,
    tables: Arc<TableContext>,
    history: History,
    /// What the new manifest will say.
    catalog: Catalog,
    ids: Ids,
    /// Files with findings.
    damaged: BTreeSet<String>,
    report: RepairReport,
    /// Files to be taken out of the database.
    aside: Vec<PathBuf>,
}

impl Repair<'_> {
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
        self.blob_files();
        self.logs()?;
        if !self.history.is_whole && !self.options.dry_run {
            self.check_order()?;
        }
        let seqnos = self.catalog.keyspaces.values().flat_map(|state| state.tables.values());
        let newest = seqnos.map(|place| place.properties.seqno_max).max().unwrap_or(SeqNo::ZERO);
        self.catalog.last_seqno = self.catalog.last_seqno.max(newest);
        if !self.history.is_whole {
            let names = self.place.manifests().into_values();
            self.aside.extend(names.map(|name| self.place.dir.join(name)));
        }
        for path in &self.aside {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.report.set_aside.push(name);
        }
        if self.options.dry_run { Ok(()) } else { self.install() }
    }

    /// Tables that the manifests name.
    fn known_tables(&mut self) -> Result<()> {
        let states: Vec<_> = self.history.catalog.keyspaces.clone().into_iter().collect();
        for (id, state) in states {
            for place in state.tables.values() {
                let name = place.properties.id.file_name();
                let table = Table::new(Arc::clone(&self.tables), Arc::clone(&place.properties));
                if self.place.file_len(place.properties.id.0, FileKind::Table).is_none() {
                    let keys = Some(all_keys(&table, &state.name));
                    let what = match self.history.is_whole {
                        true => "the file is missing",
                        false => "the file is missing, unless it had been replaced",
                    };
                    self.report.lost.push(Loss { file: name, what: what.to_owned(), keys });
                } else if self.damaged.contains(&name) || self.lacks_blobs(&place.properties) {
                    self.salvage(&table, id, place.level, place.run)?;
                } else {
                    self.report.kept.push(name);
                    self.put(id, place.clone());
                }
            }
        }
        Ok(())
    }

    /// Tables on disk of which the manifests say nothing.
    fn unknown_tables(&mut self) -> Result<()> {
        let ids: Vec<FileId> = self.place.files_of(FileKind::Table).map(|(id, _)| id).collect();
        for id in ids.into_iter().map(TableId) {
            let is_known = self.history.catalog.find_table(id).is_some();
            if is_known || self.history.removed.contains(&id) {
                continue;
            }
            let name = id.file_name();
            let patched = self.place.with_header(id.0, FileKind::Table, self.history.database())?;
            let context = patched.map_or_else(
                || Arc::clone(&self.tables),
                |fs| Arc::new(TableContext { fs, ..TableContext::clone(&self.tables) }),
            );
            let table = match Table::open_file(context, id) {
                Ok(table) => table,
                Err(FileError::Corruption(corruption)) => {
                    self.aside.push(self.place.dir.join(&name));
                    let what = corruption.what.into_owned();
                    self.report.lost.push(Loss { file: name, what, keys: None });
                    continue;
                }
                Err(error) => return Err(error.into()),
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

    /// Blob files that are damaged: what is intact of them is in tables by now.
    fn blob_files(&mut self) {
        for (id, _) in self.place.files_of(FileKind::Blob) {
            let name = id.file_name(FileKind::Blob);
            if self.damaged.contains(&name) {
                self.aside.push(self.place.dir.join(name));
            }
        }
    }

    fn make_keyspace(&mut self, id: KeyspaceId) {
        if self.history.keyspace(id) {
            let state = Arc::clone(&self.history.catalog.keyspaces[&id]);
            let note = format!("nothing tells the name and the options of {}", state.name);
            self.report.notes.push(note);
            self.catalog.keyspaces.insert(id, state);
            let next = self.history.catalog.next_keyspace_id;
            self.catalog.next_keyspace_id = self.catalog.next_keyspace_id.max(next);
        }
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
                let is_apart = other.ends_before(&table.smallest_key)
                    || table.ends_before(&other.smallest_key);
                *free.entry(place.run).or_insert(true) &= is_apart;
            }
        }
        free.into_iter().rev().find(|(_, is_free)| *is_free).map_or(own, |(run, _)| run)
    }

    fn put(&mut self, keyspace: KeyspaceId, place: TablePlace) {
        let state = self.catalog.keyspaces.get_mut(&keyspace).expect("the keyspace was made");
        Arc::make_mut(state).tables.insert(place.properties.id, place);
    }

    fn table_options(&self, keyspace: KeyspaceId) -> TableOptions {
        let options = KeyspaceOptions::decode(&self.catalog.keyspaces[&keyspace].options);
        let options = options.unwrap_or_default();
        TableOptions {
            block_size_bytes: options.block_size_bytes as usize,
            compression: options.compression.of_tables(),
            filter_bits_per_key: options.filter_bits_per_key,
            zstd_level: options.zstd_level,
            zstd_dictionary_bytes: 0,
        }
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
                let what = corruption.what.into_owned();
                self.report.lost.push(Loss { file: name, what, keys });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let unfound = walk.unfound().iter().cloned();
        let lost = unfound.map(|keys| loss(&name, "no index leads there", &keyspace_name, keys));
        self.report.lost.extend(lost);
        let map = DamageMap::of(table)?;
        let lacking = self.lacking_blobs(table.properties());
        let ranges =
            if self.options.dry_run { Fragments::default() } else { intact_ranges(table)? };
        let mut tables = NewTables::new(&self.tables, &mut self.ids, keyspace, born, options)
            .with_ranges(ranges);
        tables.know_blob_files(table.properties());
        let mut entries = 0;
        let mut last: Option<(Vec<u8>, u64)> = None;
        for item in walk {
            let block = match item {
                Ok(block) => block,
                Err(FileError::Corruption(corruption)) => {
                    let Some(keys) = map.affected_by(&corruption) else { continue };
                    self.report.lost.push(loss(&name, &corruption.what, &keyspace_name, keys));
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
                // A builder takes nothing else; what does not ascend was never written by one.
                let ascends = last.as_ref().is_none_or(|(user_key, trailer)| {
                    (user_key.as_slice(), std::cmp::Reverse(*trailer))
                        < (key.user_key, std::cmp::Reverse(key.trailer.word()))
                });
                if result.is_err() || !ascends {
                    return;
                }
                last = Some((key.user_key.to_vec(), key.trailer.word()));
                result = salvaged(&self.tables, &lacking, key, value, |key, value| {
                    entries += 1;
                    if self.options.dry_run { Ok(()) } else { tables.add(key, value) }
                })
                .map(|lost| broken.extend(lost));
            });
            result?;
            self.report.lost.extend(losses(&keyspace_name, broken));
        }
        let made = tables.finish()?;
        self.report.rebuilt.push(Rebuilt { from: name, entries });
        for properties in made {
            let properties = Arc::new(properties);
            self.put(keyspace, TablePlace { level, run, properties });
        }
        Ok(())
    }

    /// Keeps the log as it is, if it is whole; else moves what is intact of it into tables.
    fn logs(&mut self) -> Result<()> {
        let is_log = |name: &String| name.ends_with(FileKind::Log.extension());
        if self.history.is_whole && !self.damaged.iter().any(is_log) {
            return Ok(());
        }
        let logs: Vec<LogId> = match self.history.is_whole {
            true => self.history.catalog.logs.iter().copied().collect(),
            false => self.place.logs_of(self.history.database())?,
        };
        let logs: Vec<LogId> =
            logs.into_iter().filter(|log| !self.history.released.contains(log)).collect();
        let rescued = rescue(self.place, &self.history, &logs, self.options.past_holes)?;
        self.report.lost.extend(rescued.lost);
        for log in rescued.spoilt {
            if self.place.logs().contains_key(&log.0) {
                self.aside.push(self.place.log_dir.join(log.file_name()));
            }
        }
        if rescued.operation_count > 0 {
            let from = "the log".to_owned();
            self.report.rebuilt.push(Rebuilt { from, entries: rescued.operation_count });
        }
        self.catalog.logs.clear();
        self.catalog.last_seqno = self.catalog.last_seqno.max(rescued.last_seqno);
        for (keyspace, memtable) in rescued.memtables {
            self.make_keyspace(keyspace);
            if self.options.dry_run {
                continue;
            }
            let options = self.table_options(keyspace);
            let memtable = Arc::new(memtable);
            let ranges = ranges_in_memory(&memtable, &self.catalog.keyspaces[&keyspace]);
            let mut tables = NewTables::new(&self.tables, &mut self.ids, keyspace, 0, options)
                .with_ranges(ranges);
            let mut cursor = memtable.cursor();
            cursor.seek_to_first();
            while cursor.is_valid() {
                tables.add(cursor.key(), cursor.value())?;
                cursor.next();
            }
            let made = tables.finish()?;
            let run = RunId(self.ids.mint().counter);
            for properties in made.into_iter().map(Arc::new) {
                self.put(keyspace, TablePlace { level: 0, run, properties });
            }
        }
        let last_seqno = self.catalog.last_seqno;
        for state in self.catalog.keyspaces.values_mut() {
            let state = Arc::make_mut(state);
            state.flushed_up_to = state.flushed_up_to.max(last_seqno);
        }
        Ok(())
    }

    /// Where the entries of a keyspace are not in the order of its runs, merges all of them.
    fn check_order(&mut self) -> Result<()> {
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
        let mut tables = NewTables::new(&self.tables, &mut self.ids, id, born, options)
            .with_ranges(Fragments::of(tombstones));
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

    /// Makes everything durable, in an order in which a crash does no harm.
    fn install(&mut self) -> Result<()> {
        let fs = &self.place.env.fs;
        fs.sync_dir(&self.place.dir)?;
        for path in &self.aside {
            copy_aside(&**fs, &self.place.dir, path)?;
        }
        let manifest = ManifestId(self.ids.mint());
        self.catalog.next_file_counter = self.catalog.next_file_counter.max(self.ids.next());
        // What is written must be what an open takes.
        let mut checked = Catalog::new(self.catalog.database);
        checked.apply(&self.catalog.snapshot_edit()).map_err(refused)?;
        drop(Manifest::create(Arc::clone(fs), &self.place.dir, manifest, checked)?);
        for path in &self.aside {
            if fs.exists(path)? {
                fs.remove(path)?;
            }
        }
        fs.sync_dir(&self.place.dir)?;
        if self.place.log_dir != self.place.dir {
            fs.sync_dir(&self.place.log_dir)?;
        }
        Ok(())
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

/// The range tombstones of what was in the log, as a table may hold them: one without an end ends
/// behind everything that is older.
fn ranges_in_memory(memtable: &Arc<Memtable>, state: &KeyspaceState) -> Fragments {
    let mut cursor = memtable.cursor();
    cursor.seek_to_last();
    let last = cursor.is_valid().then(|| cursor.key().user_key.to_vec());
    let in_tables = state.tables.values().map(|place| place.properties.largest_key.clone());
    let mut end = in_tables.chain(last).max().unwrap_or_default();
    if end.len() <= esker_base::limits::KEY_LEN_MAX {
        end.push(0);
    }
    let mut tombstones = memtable.range_tombstones();
    for tombstone in tombstones.iter_mut().filter(|tombstone| tombstone.end.is_empty()) {
        tombstone.end.clone_from(&end);
    }
    tombstones.retain(|tombstone| tombstone.start < tombstone.end);
    Fragments::of(tombstones)
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

fn refused(error: EditRefused) -> Error {
    let what = format!("what is intact does not fit together: {error}");
    Error::new(ErrorKind::Corruption, what)
}
