//! Opening: from what is on disk to a running engine.
//!
//! In this order: take the lock; read the manifest; take the lock of a separate log directory;
//! check that every file that the manifest names is there; replay the log segments that it names
//! into memtables; then, and not before, change the directory: cut off for good what the replay did
//! not take of the log, so that opening again gives the same result; make the manifest durable; remove
//! what nothing refers to. An open that is refused for what it found leaves everything as it was.

mod directory;
pub(crate) mod mode;
pub(crate) mod orphans;
pub(crate) mod replay;
pub(crate) mod unnamed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use esker_base::{
    Corruption, DatabaseId, FileHeader, FileId, FileKind, KeyspaceId, LogId, planted,
};
use esker_cache::{BlockCache, Budget};
use esker_env::{DirEntry, Env, FileExt as _, FileSystem};
use esker_log::{Extent, LogEnd, write_back};
use esker_table::{BlobFiles, CachedBlock, Ownership, Table, TableContext};
use esker_tree::{BlobFileUse, Catalog, KeyspaceState, Manifest, Recovered, TablePlace, Version};

use crate::commit_queue::{CommitPipeline, Leader};
use crate::directory_syncs::DirectorySyncs;
use crate::engine::warming::Warming;
use crate::engine::{Engine, Parts};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, EventListener};
use crate::key_order::Order;
use crate::keyspace_core::described::DEFAULT_KEYSPACE;
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::ledger::{Ledger, first_free_counter};
use crate::logs::packed_group::Packer;
use crate::logs::{LOG_FORMAT_PACKED, LOG_FORMAT_PLAIN, Logs, RecoveredSegment, expected_header};
use crate::options::{KeyspaceOptions, Options};
use crate::recovery::directory::{check_is_database, find_or_create, lock_dir, look_again};
use crate::recovery::mode::RecoveryMode;
use crate::recovery::orphans::{Places, blobs_of, is_beyond};
use crate::recovery::replay::{Replay, ReplayedSegment};

/// Name of the lock file in a database directory, and in a separate log directory. Never removed.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// What to open, and how.
pub(crate) struct OpenRequest {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) default_keyspace: Option<KeyspaceOptions>,
    /// Custom key orders, for keyspaces that have them.
    pub(crate) orders: Vec<Order>,
    pub(crate) is_read_only: bool,
    pub(crate) creates: bool,
    /// Refuse a database that exists.
    pub(crate) must_be_new: bool,
    pub(crate) recovery: RecoveryMode,
    pub(crate) listener: Option<EventListener>,
}

impl OpenRequest {
    /// Whether missing directories are created.
    const fn makes_directories(&self) -> bool {
        self.creates && !self.is_read_only
    }
}

/// What is wrong with the request itself, if anything is.
fn check_request(request: &OpenRequest) -> std::result::Result<(), String> {
    request.options.check()?;
    request.default_keyspace.iter().try_for_each(KeyspaceOptions::check)?;
    request.orders.iter().try_for_each(Order::check)?;
    if [Some(&request.dir), request.options.log_dir.as_ref()].contains(&Some(&PathBuf::new())) {
        return Err("the path of a directory is empty".into());
    }
    if request.recovery == RecoveryMode::Salvage && !request.is_read_only {
        return Err("a database is salvaged by an open that only reads".into());
    }
    Ok(())
}

/// Makes paths absolute: the process may change its directory while the database is open.
fn make_absolute(request: &mut OpenRequest) -> Result<()> {
    request.dir = request.env.fs.absolute(&request.dir)?;
    if let Some(log_dir) = &mut request.options.log_dir {
        *log_dir = request.env.fs.absolute(log_dir)?;
    }
    Ok(())
}

/// Opens the database, creating it if the request says so and there is none.
pub(crate) fn open(mut request: OpenRequest) -> Result<Arc<Engine>> {
    let started = request.env.clock.now();
    check_request(&request).map_err(Error::invalid_input)?;
    make_absolute(&mut request)?;
    let poison = Arc::new(OnceLock::new());
    let log_dir = request.options.log_dir.clone().unwrap_or_else(|| request.dir.clone());
    let (inner, dirs) = (Arc::clone(&request.env.fs), [request.dir.clone(), log_dir.clone()]);
    request.env.fs = Arc::new(DirectorySyncs::new(inner, dirs, Arc::clone(&poison)));
    let OpenRequest { env, dir, options, .. } = &request;
    // Before anything is created: a directory that is not ours is left as it is.
    check_is_database(&request).or_else(|refused| look_again(&request, refused))?;
    if request.makes_directories() {
        env.fs.create_dir_all(dir)?;
    }
    let lock = lock_dir(&request)?;

    let (recovered, lock_of_log) = find_or_create(&request, &log_dir)?;
    let locks = lock.into_iter().chain(lock_of_log).collect();
    check_end(&request, &recovered)?;
    let budget = Budget::new(options.memory_budget_bytes);
    let cache = BlockCache::new(Arc::clone(&budget), options.cache_bytes);
    let tables = table_context(&request, recovered.catalog.database, &cache, &budget);
    check_files(&request, &log_dir, &recovered.catalog, &tables)?;
    check_log_is_apart(&request, &log_dir, &recovered.catalog)?;
    let keyspaces = keyspaces(&request, &recovered.catalog, &tables, &budget)?;
    let mut replay = Replay::new(&env.fs, &recovered.catalog, &keyspaces, &budget, &log_dir);
    replay.run(request.recovery)?;

    let warming = Warming::find(options.warm_cache, &*env.fs, dir, &recovered);
    let places = Places { fs: &*env.fs, dir, log_dir: &log_dir };
    if !request.is_read_only {
        places.check_log_dir(recovered.catalog.database)?;
    }
    // From here on the directory is changed, unless the open is read-only.
    let Replay { segments, last_seqno, last_logged, operation_count, dropped, .. } = replay;
    let mut told = dropped;
    let (ledger, segments) = if request.is_read_only && !planted::is("read-only-open-writes") {
        (Ledger::read_only(recovered.catalog), Vec::new())
    } else {
        let segments = cut_segments(&request, &log_dir, recovered.catalog.database, segments)?;
        // First the manifest is made durable: the last edits may still be only in the system's
        // memory, and if they are lost, what they made obsolete is needed again.
        let ledger = open_ledger(&request, recovered)?;
        note_cuts(&segments, &ledger)?;
        let logs = segments.iter().map(|segment| segment.id).collect();
        told.extend(ledger.with_catalog(|catalog| places.remove_orphans(catalog, &logs))?);
        (ledger, segments)
    };
    let database = ledger.database();
    let segment_bytes = options.log_segment_bytes.max(64 << 10);
    let packer = options.log_compression_threshold_bytes.map(Packer::new);
    let format = if packer.is_some() { LOG_FORMAT_PACKED } else { LOG_FORMAT_PLAIN };
    let engine = Arc::new(Engine::new(Parts {
        logs: Logs::new(Arc::clone(&env.fs), log_dir, database, format, segment_bytes, segments),
        pipeline: CommitPipeline::starting_at(Leader::starting_at(last_seqno, last_logged, packer)),
        visible: last_seqno,
        locks,
        listener: request.listener,
        is_read_only: request.is_read_only,
        env: request.env,
        poison,
        dir: request.dir,
        options: request.options,
        budget,
        cache,
        tables,
        ledger,
        keyspaces,
        warming,
    }));
    engine.after_open(request.default_keyspace.as_ref())?;
    told.into_iter().for_each(|event| engine.events.record(engine.now(), event));
    let duration = engine.now().saturating_sub(started);
    engine.events.record(engine.now(), Event::Opened { replayed: operation_count, duration });
    Ok(engine)
}

/// What the tables of the database share.
fn table_context(
    request: &OpenRequest,
    database: DatabaseId,
    cache: &Arc<BlockCache<CachedBlock>>,
    budget: &Arc<Budget>,
) -> Arc<TableContext> {
    Arc::new(TableContext {
        fs: Arc::clone(&request.env.fs),
        dir: request.dir.clone(),
        database,
        cache: Arc::clone(cache),
        budget: Arc::clone(budget),
        clock: Arc::clone(&request.env.clock),
        blobs: BlobFiles::default(),
        owned: Ownership::default(),
    })
}

/// Refuses a manifest that does not end properly, in the strict mode.
fn check_end(request: &OpenRequest, recovered: &Recovered) -> Result<()> {
    match recovered.end {
        LogEnd::Torn { offset } if request.recovery == RecoveryMode::Strict => {
            Err(Corruption::new(recovered.id.file_name(), offset, "the end is torn").into())
        }
        _ => Ok(()),
    }
}

/// Checks that every table and blob file of the catalog exists, has its size and says in its header
/// that it is that file of this database, and that there is no file with an id that the catalog
/// cannot have given out. The contents are checked as they are read.
///
/// # Cost
/// One listing of each directory; each file is opened and its header read: some 10 us for a file in
/// memory, one access of the device for another.
fn check_files(
    request: &OpenRequest,
    log_dir: &Path,
    catalog: &Catalog,
    tables: &TableContext,
) -> Result<()> {
    let fs = &*request.env.fs;
    let entries = fs.list(&request.dir)?;
    check_none_beyond(fs, &request.dir, &entries, catalog)?;
    let apart = if log_dir == request.dir { None } else { Some(fs.list(log_dir)?) };
    if let Some(apart) = &apart {
        check_none_beyond(fs, log_dir, apart, catalog)?;
    }
    if !request.is_read_only {
        // Before anything on disk is changed.
        first_free_counter(catalog.next_file_counter, names_in(&entries))?;
    }
    let listed: BTreeMap<&str, &DirEntry> =
        entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    if request.recovery == RecoveryMode::Salvage {
        // Reads of such a table will report it.
        return Ok(());
    }
    check_logs_are_files(apart.as_ref().unwrap_or(&entries), catalog)?;
    for state in catalog.keyspaces.values() {
        for TablePlace { properties, .. } in state.tables.values() {
            check_size(&listed, properties.id.file_name(), properties.file_bytes)?;
            tables.check_table(properties)?;
        }
        for BlobFileUse { facts, .. } in blobs_of(state).files() {
            check_size(&listed, facts.id.file_name(), facts.file_bytes)?;
            tables.check_blob_file(facts.id)?;
        }
    }
    Ok(())
}

/// Checks that the file `name`, of which the manifest says that it has `bytes` bytes, is among those
/// `listed` and has them.
fn check_size(listed: &BTreeMap<&str, &DirEntry>, name: String, bytes: u64) -> Result<()> {
    let wrong = match listed.get(name.as_str()) {
        Some(DirEntry { error: Some(error), .. }) => return Err(error.clone().into()),
        Some(DirEntry { len, .. }) if *len == bytes => return Ok(()),
        Some(DirEntry { len, .. }) => {
            format!("the file has {len} bytes, and the manifest says {bytes}")
        }
        None => "the manifest names this file, and it is missing".to_owned(),
    };
    Err(Corruption::new(name, 0, wrong).into())
}

/// Refuses a segment that is no file: to open a pipe would be to wait for whoever writes to it.
fn check_logs_are_files(entries: &[DirEntry], catalog: &Catalog) -> Result<()> {
    let is_log = |name: &str| match FileId::parse_file_name(name) {
        Some((id, FileKind::Log)) => catalog.logs.contains(&LogId(id)),
        _ => false,
    };
    match entries.iter().find(|entry| entry.is_dir && is_log(&entry.name)) {
        Some(entry) => {
            let what = "the manifest names this file, and it is none";
            Err(Corruption::new(entry.name.clone(), 0, what).into())
        }
        None => Ok(()),
    }
}

/// What files of a database there are, by their names.
fn names_in(entries: &[DirEntry]) -> impl Iterator<Item = (FileId, FileKind)> {
    let files = entries.iter().filter(|entry| !entry.is_dir);
    files.filter_map(|entry| FileId::parse_file_name(&entry.name))
}

/// Refuses a separate log directory that lacks segments which are beside the tables: an open that
/// was not told of it has begun a log there. A recovery that cuts the log off where a segment is
/// missing would drop them.
fn check_log_is_apart(request: &OpenRequest, log_dir: &Path, catalog: &Catalog) -> Result<()> {
    let fs = &*request.env.fs;
    if log_dir == request.dir || request.recovery == RecoveryMode::Salvage {
        return Ok(());
    }
    for name in catalog.logs.iter().map(|log| log.file_name()) {
        if !fs.exists(&log_dir.join(&name))? && fs.exists(&request.dir.join(&name))? {
            let (dir, log_dir) = (request.dir.display(), log_dir.display());
            return Err(Error::invalid_input(format!(
                "{name} is in {dir} and not in {log_dir}, as the database was opened without log_dir \
                 (--log-dir): open it so again, or move that file to {log_dir}"
            )));
        }
    }
    Ok(())
}

/// Refuses a file in `dir` whose id this manifest cannot have given out.
fn check_none_beyond(
    fs: &dyn FileSystem,
    dir: &Path,
    entries: &[DirEntry],
    catalog: &Catalog,
) -> Result<()> {
    let Some((id, kind)) = names_in(entries).find(|name| is_beyond(fs, dir, *name, catalog)) else {
        return Ok(());
    };
    let what = "the file is newer than all that the manifest knows: a newer one is missing";
    Err(Corruption::new(id.file_name(kind), 0, what).into())
}

fn keyspaces(
    request: &OpenRequest,
    catalog: &Catalog,
    tables: &Arc<TableContext>,
    budget: &Arc<Budget>,
) -> Result<BTreeMap<KeyspaceId, Arc<KeyspaceCore>>> {
    let one = |(id, state): (&KeyspaceId, &Arc<KeyspaceState>)| {
        let mut options = KeyspaceOptions::decode(&state.options).map_err(|error| {
            Error::new(
                ErrorKind::Corruption,
                format!("the options of keyspace {} do not decode: {error}", state.name),
            )
        })?;
        options.order = Order::recorded(&state.order, &request.orders);
        if let (KeyspaceId::DEFAULT, Some(given)) = (*id, &request.default_keyspace) {
            // Before anything is changed; the engine takes over the rest once it runs.
            let over = given.over(&options, &state.name).map_err(Error::invalid_input)?;
            options.merge_operator = options.merge_operator.and(over.merge_operator);
        }
        let settings = Settings::new(options, request.options.memory_budget_bytes);
        let open = |properties| Arc::new(Table::new(Arc::clone(tables), properties));
        let refused = |error: esker_tree::EditRefused| {
            Error::new(ErrorKind::Corruption, format!("the manifest makes no sense: {error}"))
        };
        let version = Version::open(*id, state, open).map_err(refused)?;
        let keyspace = KeyspaceCore::new(*id, &state.name, settings, version, budget);
        if let (KeyspaceId::DEFAULT, Some(given)) = (*id, &request.default_keyspace) {
            keyspace.give_order(&given.order)?;
        }
        Ok((*id, keyspace))
    };
    catalog.keyspaces.iter().map(one).collect()
}

/// Cuts off for good what the replay did not take, newest first, so that after a crash in between,
/// a later open cuts it off in the same way.
fn cut_segments(
    request: &OpenRequest,
    log_dir: &Path,
    database: DatabaseId,
    replayed: Vec<ReplayedSegment>,
) -> Result<Vec<RecoveredSegment>> {
    let fs = &request.env.fs;
    let mut kept = Vec::new();
    let mut is_durable = false;
    for segment in replayed.into_iter().rev() {
        let path = log_dir.join(segment.id.file_name());
        let file = if segment.is_missing { fs.create(&path)? } else { fs.open_for_write(&path)? };
        // Nothing but a header is a segment without frames, and keeps the manifest true.
        let least = FileHeader::LEN as u64;
        let end = if segment.is_dropped { least } else { segment.end.max(least) };
        if segment.end < least {
            let (kind, format) = (FileKind::Log, LOG_FORMAT_PLAIN);
            let header = FileHeader { kind, format, id: segment.id.0, database };
            file.write_all_at(0, &header.encode())?;
        }
        if segment.is_torn || segment.is_dropped {
            file.truncate(end)?;
            file.sync_all()?;
        }
        if segment.is_missing {
            fs.sync_dir(log_dir)?;
        }
        if !is_durable {
            // What was read may be only in the system's memory, after a sync that failed.
            let header = expected_header(segment.id, database);
            let read = || Extent::read(&**fs, &path, &header);
            let extent = segment.extent.filter(|_| !segment.is_dropped).map_or_else(read, Ok)?;
            write_back(&*file, segment.durable.min(end), &extent)?;
        }
        // A sync of the log covers the segments before first.
        is_durable |= (FileHeader::LEN as u64) < segment.durable;
        kept.push(RecoveredSegment {
            id: segment.id,
            bytes: end,
            last_seqno: segment.last_seqno,
            file: Some(file),
        });
    }
    kept.reverse();
    Ok(kept)
}

/// Takes back what the manifest says about the ends of segments that were cut shorter, as a
/// point-in-time recovery does; otherwise the next open would find them missing.
fn note_cuts(segments: &[RecoveredSegment], ledger: &Ledger) -> Result<()> {
    let is_cut = |segment: &&RecoveredSegment| {
        ledger.with_catalog(|catalog| {
            catalog.durable_logs.get(&segment.id).is_some_and(|durable| segment.bytes < *durable)
        })
    };
    let cut = segments.iter().filter(is_cut).map(|segment| (segment.id, segment.bytes));
    let edit = ledger.changed_ends(&cut.collect::<Vec<_>>());
    if edit.records.is_empty() { Ok(()) } else { ledger.commit(edit, |_| ()) }
}

fn open_ledger(request: &OpenRequest, recovered: Recovered) -> Result<Ledger> {
    let entries = request.env.fs.list(&request.dir)?;
    let next = first_free_counter(recovered.catalog.next_file_counter, names_in(&entries))?;
    let manifest = Manifest::open(Arc::clone(&request.env.fs), &request.dir, recovered)?;
    Ok(Ledger::new(manifest, next))
}

impl Engine {
    /// Gives the default keyspace its options, and requests the work that recovery left.
    fn after_open(&self, default_keyspace: Option<&KeyspaceOptions>) -> Result<()> {
        self.update_log_reuse();
        if default_keyspace.is_some() {
            self.open_keyspace(DEFAULT_KEYSPACE, default_keyspace)?;
        }
        self.begin_warming();
        if self.is_read_only {
            return Ok(());
        }
        for keyspace in self.keyspaces() {
            if !keyspace.view().immutables.is_empty() {
                self.scheduler.request_flush(keyspace.id);
            }
            self.scheduler.request_compaction(keyspace.id);
            self.update_pressure(&keyspace);
        }
        Ok(())
    }
}
