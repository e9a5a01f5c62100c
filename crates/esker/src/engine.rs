//! The engine: what all handles of one open database share.
//!
//! Knows how its parts fit together, not how they work: committing is in `commit`, background work
//! in `jobs` and `scheduler`, opening in `recovery`, reading in `read`.

pub(crate) mod garbage;
pub(crate) mod moving;
pub(crate) mod snapshots;
pub(crate) mod warming;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker_base::{FileId, FileKind, KeyspaceId, SeqNo, limits};
use esker_cache::{BlockCache, Budget};
use esker_env::{Env, FileLock};
use esker_table::{CachedBlock, Table, TableContext};
use esker_tree::{EditRecord, Version, VersionEdit};

use crate::commit_queue::{CommitPipeline, Leader};
use crate::counters::Counters;
use crate::engine::garbage::{Garbage, blob_files};
use crate::engine::moving::Moving;
use crate::engine::snapshots::Snapshots;
use crate::engine::warming::Warming;
use crate::error::{Error, Outcome, Result};
use crate::events::{Event, EventListener, EventLog};
use crate::key_order::Order;
use crate::keyspace_core::looks::Looks;
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::ledger::Ledger;
use crate::logs::Logs;
use crate::logs::watch::LogWatch;
use crate::options::{KeyspaceOptions, Options};
use crate::running::RunningJobs;
use crate::scheduler::Scheduler;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use crate::throttle::Throttle;

pub(crate) struct Engine {
    // Fixed at open.
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) is_read_only: bool,
    pub(crate) budget: Arc<Budget>,
    pub(crate) cache: Arc<BlockCache<CachedBlock>>,
    pub(crate) tables: Arc<TableContext>,

    // Lock order: the commit queue, the commit leader, `logs.making`, the ledger, `keyspaces`, a
    // keyspace's view, everything else. These are held across file operations: the ledger and
    // `logs.making`; the leader's lock, for the write of its frame, edits of the catalog, and while
    // tables join a tree; a keyspace's `flushing`, and sometimes its `busy`; the pinned sequence
    // numbers, for the edit of a compaction that a filter has changed; the right to remove files.
    pub(crate) pipeline: CommitPipeline,
    pub(crate) logs: Logs,
    pub(crate) ledger: Ledger,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Live keyspaces by id. Written when one is created or dropped.
    keyspaces: RwLock<BTreeMap<KeyspaceId, Arc<KeyspaceCore>>>,
    pub(crate) scheduler: Scheduler,
    pub(crate) running: RunningJobs,
    pub(crate) throttle: Throttle,
    pub(crate) garbage: Garbage,
    pub(crate) counters: Counters,
    pub(crate) events: EventLog,
    /// What is to be loaded into the cache. Lock order: among the last; held while the list is
    /// read, but not while blocks are.
    pub(crate) warming: Mutex<Warming>,
    /// Tables that are being moved in by an ingest.
    pub(crate) moving: Moving,
    /// When a busy thread has last asked whether a keyspace is to be looked at.
    pub(crate) looks: Looks,

    /// Why writing has stopped for good, once it has. Also set by the file system of `env`.
    poison: Arc<OnceLock<Error>>,
    /// Whether an event says so. Counter only: it is set once.
    is_poison_told: AtomicBool,
    /// Release in `close` pairs with Acquire in `check_open`.
    is_closed: AtomicBool,
    /// When the oldest delete was written that may be in the log, of a keyspace with a deadline: in
    /// milliseconds since the epoch, `u64::MAX` for none. Counter only: the leader's lock orders
    /// it.
    pub(crate) deletes_in_log: AtomicU64,
    /// Frames may be waiting in memory; a background thread hands them to the system soon. Counter
    /// only: the leader's lock orders the frames themselves.
    pub(crate) has_buffered: AtomicBool,
    /// Since when they have been waiting, in nanoseconds of the clock. Counter only, as
    /// `has_buffered`.
    pub(crate) buffered_since: AtomicU64,
    /// The system has refused frames of the log: it takes no more. Counter only, as `has_buffered`.
    pub(crate) has_log_failed: AtomicBool,
    /// What the thread of a compaction knows of the log, if it is the only one. Lock order: last.
    pub(crate) watch_beside: Mutex<LogWatch>,
    /// There are frames after the last mark of the log. Counter only, as `has_buffered`.
    pub(crate) has_unmarked: AtomicBool,
    /// The lock files of the database directory and of a separate log directory. Released when the
    /// database is closed. Lock order: last.
    locks: Mutex<Vec<Box<dyn FileLock>>>,
}

/// What recovery hands to the engine, beyond what the engine creates itself.
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) poison: Arc<OnceLock<Error>>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) is_read_only: bool,
    pub(crate) budget: Arc<Budget>,
    pub(crate) cache: Arc<BlockCache<CachedBlock>>,
    pub(crate) tables: Arc<TableContext>,
    pub(crate) pipeline: CommitPipeline,
    pub(crate) logs: Logs,
    pub(crate) ledger: Ledger,
    pub(crate) visible: SeqNo,
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    pub(crate) locks: Vec<Box<dyn FileLock>>,
    pub(crate) listener: Option<EventListener>,
    /// What is to be loaded into the cache.
    pub(crate) warming: Warming,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let (_, segment_count) = parts.logs.size();
        let has_log = segment_count > 0;
        let clock = Arc::clone(&parts.env.clock);
        Self {
            env: parts.env,
            dir: parts.dir,
            options: parts.options,
            is_read_only: parts.is_read_only,
            budget: parts.budget,
            cache: parts.cache,
            tables: parts.tables,
            pipeline: parts.pipeline,
            logs: parts.logs,
            ledger: parts.ledger,
            snapshots: Arc::new(Snapshots::starting_at(parts.visible, clock)),
            keyspaces: RwLock::new(parts.keyspaces),
            scheduler: Scheduler::default(),
            running: RunningJobs::default(),
            throttle: Throttle::default(),
            garbage: Garbage::default(),
            counters: Counters::default(),
            events: EventLog::new(parts.listener),
            warming: Mutex::new(parts.warming),
            moving: Moving::default(),
            looks: Looks::default(),
            poison: parts.poison,
            is_poison_told: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            // The log from before this open may hold deletes of any age.
            deletes_in_log: AtomicU64::new(if has_log { 0 } else { u64::MAX }),
            has_buffered: AtomicBool::new(false),
            has_log_failed: AtomicBool::new(false),
            watch_beside: Mutex::default(),
            buffered_since: AtomicU64::new(0),
            has_unmarked: AtomicBool::new(false),
            locks: Mutex::new(parts.locks),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.env.clock.now()
    }

    /// Wall-clock time since the Unix epoch: what policies go by, and what tables record about when
    /// their entries were written.
    pub(crate) fn wall(&self) -> Duration {
        self.env.clock.wall()
    }

    /// # Errors
    /// `Closed` after [`Engine::mark_closed`].
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    /// # Errors
    /// `Closed`, `ReadOnly` or `Poisoned`.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.is_read_only {
            return Err(Error::read_only());
        }
        self.poison.get().map_or(Ok(()), |cause| {
            self.tell_poison();
            Err(Error::poisoned(cause))
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns whether this call is the one that closes the database.
    pub(crate) fn mark_closed(&self) -> bool {
        !self.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Releases the directory for the next open.
    pub(crate) fn unlock(&self) {
        self.tables.owned.give_up();
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Stops all writing until the database is reopened. The first cause counts.
    pub(crate) fn poison(&self, cause: &Error) {
        self.poison.get_or_init(|| cause.clone());
        self.tell_poison();
        self.throttle.wake();
        self.scheduler.wake();
    }

    /// Records why writing has stopped, if it has and nothing was recorded.
    pub(crate) fn tell_poison(&self) {
        if let Some(cause) = self.poison.get()
            && !self.is_poison_told.swap(true, Ordering::Relaxed)
        {
            self.events.record(self.now(), Event::Poisoned { cause: cause.clone() });
        }
    }

    pub(crate) fn poison_cause(&self) -> Option<&Error> {
        self.poison.get()
    }

    /// Whether a job that would change the tree should not begin, since it could not succeed.
    pub(crate) fn takes_no_edits(&self) -> bool {
        self.is_read_only || self.poison_cause().is_some()
    }

    pub(crate) fn keyspaces(&self) -> Vec<Arc<KeyspaceCore>> {
        let keyspaces = self.keyspaces.read().unwrap_or_else(PoisonError::into_inner);
        keyspaces.values().cloned().collect()
    }

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<Arc<KeyspaceCore>> {
        self.keyspaces.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn keyspace_named(&self, name: &str) -> Option<Arc<KeyspaceCore>> {
        let keyspaces = self.keyspaces.read().unwrap_or_else(PoisonError::into_inner);
        keyspaces.values().find(|keyspace| *keyspace.name() == *name).cloned()
    }

    /// Opens the keyspace `name`, creating it if necessary; `options`, if given, replace the
    /// recorded ones.
    pub(crate) fn open_keyspace(
        &self,
        name: &str,
        options: Option<&KeyspaceOptions>,
    ) -> Result<Arc<KeyspaceCore>> {
        self.check_open()?;
        check_name(name)?;
        if let Some(options) = options {
            options.check().map_err(Error::invalid_input)?;
        }
        // Serialises creations, and keeps a rename from taking the name meanwhile.
        let leader = self.pipeline.lead();
        if let Some(keyspace) = self.keyspace_named(name) {
            options.map_or(Ok(()), |given| keyspace.give_order(&given.order))?;
            if let Some(options) = options {
                self.change_options(&keyspace, options)?;
            }
            return Ok(keyspace);
        }
        self.check_writable()?;
        let options = options.cloned().unwrap_or_default();
        check_new_order(&options.order)?;
        let id = self.ledger.with_catalog(|catalog| catalog.next_keyspace_id);
        let Some(next_id) = id.checked_add(1) else {
            return Err(Error::invalid_input("the ids of keyspaces of this database are used up"));
        };
        let id = KeyspaceId(id);
        let created = EditRecord::KeyspaceCreated {
            keyspace: id,
            name: name.to_owned(),
            order: options.order.name().to_owned(),
            options: options.encode(),
        };
        let following = EditRecord::NextKeyspaceId(next_id);
        let edit = VersionEdit { records: vec![created, following] };
        let settings = Settings::new(options, self.options.memory_budget_bytes);
        let keyspace = KeyspaceCore::new(id, name, settings, Version::new(id), &self.budget);
        self.change_catalog(edit, || {
            let mut keyspaces = self.keyspaces.write().unwrap_or_else(PoisonError::into_inner);
            keyspaces.insert(id, Arc::clone(&keyspace));
        })?;
        self.update_log_reuse();
        drop(leader);
        Ok(keyspace)
    }

    /// Makes an edit of the catalog durable, then runs `install`.
    ///
    /// # Errors
    /// If the manifest cannot be written. The edit may nevertheless be in it: the outcome is
    /// unknown unless a new manifest without it could be written.
    fn change_catalog<T>(&self, edit: VersionEdit, install: impl FnOnce() -> T) -> Result<T> {
        self.ledger.commit(edit, |_| install()).map_err(|error| match self.ledger.settle() {
            Ok(()) => error,
            Err(_) => error.with_unknown_outcome(),
        })
    }

    fn change_options(&self, keyspace: &KeyspaceCore, options: &KeyspaceOptions) -> Result<()> {
        let settings = keyspace.settings();
        let mut options =
            options.over(&settings.options, &keyspace.name()).map_err(Error::invalid_input)?;
        // The given order may have only a name, while its code was given before.
        options.order = keyspace.order.known().unwrap_or(options.order);
        let has_code = options.merge_operator.is_some() || options.compaction_filter.is_some();
        if options == settings.options && !has_code {
            return Ok(());
        }
        let encoded = options.encode();
        if !self.is_read_only && encoded != settings.options.encode() {
            if !esker_base::planted::is("poisoned-takes-options") {
                self.check_writable()?;
            }
            let record = EditRecord::KeyspaceOptions { keyspace: keyspace.id, options: encoded };
            self.change_catalog(VersionEdit { records: vec![record] }, || ())?;
        }
        let has_deadline = options.delete_deadline.is_some();
        let had_deadline = settings.options.delete_deadline.is_some();
        keyspace.set_settings(Settings::new(options, self.options.memory_budget_bytes));
        if has_deadline && !had_deadline {
            // What was deleted earlier may be in the log, from any time.
            self.deletes_in_log.fetch_min(0, Ordering::Relaxed);
        }
        self.update_log_reuse();
        self.scheduler.request_compaction(keyspace.id);
        Ok(())
    }

    /// Keeps others from writing and from changing the catalog.
    ///
    /// # Errors
    /// As [`Engine::check_writable`], asked only now: a close may have come first.
    fn lead_writable(&self) -> Result<MutexGuard<'_, Leader>> {
        let leader = self.pipeline.lead();
        if !esker_base::planted::is("catalog-changed-behind-a-close") {
            self.check_writable()?;
        }
        Ok(leader)
    }

    pub(crate) fn rename_keyspace(&self, keyspace: &KeyspaceCore, name: &str) -> Result<()> {
        self.check_writable()?;
        check_name(name)?;
        let _leader = self.lead_writable()?;
        keyspace.check_live()?;
        if self.keyspace_named(name).is_some() {
            return Err(Error::invalid_input(format!("a keyspace named {name:?} exists already")));
        }
        if keyspace.id == KeyspaceId::DEFAULT {
            return Err(Error::invalid_input("the default keyspace cannot be renamed"));
        }
        let record = EditRecord::KeyspaceRenamed { keyspace: keyspace.id, name: name.to_owned() };
        self.change_catalog(VersionEdit { records: vec![record] }, || keyspace.set_name(name))
    }

    /// Drops a keyspace: one edit, whatever it holds. Its files are removed when their last reader
    /// is gone.
    pub(crate) fn drop_keyspace(&self, keyspace: &KeyspaceCore) -> Result<()> {
        self.check_writable()?;
        if keyspace.id == KeyspaceId::DEFAULT {
            return Err(Error::invalid_input("the default keyspace cannot be dropped"));
        }
        let leader = self.lead_writable()?;
        keyspace.check_live()?;
        let record = EditRecord::KeyspaceDropped { keyspace: keyspace.id };
        let dropped = self.change_catalog(VersionEdit { records: vec![record] }, || {
            keyspace.mark_dropped();
            self.keyspaces.write().unwrap_or_else(PoisonError::into_inner).remove(&keyspace.id);
        });
        if let Err(error) = dropped {
            if error.outcome() == Outcome::Unknown {
                // What is written to the keyspace from here on could be lost with it.
                self.poison(&error);
            }
            return Err(error);
        }
        drop(leader);
        let version = Arc::clone(&keyspace.view().version);
        self.garbage.add(version.tables());
        self.garbage.add_blobs(blob_files(&version).values().copied());
        drop(version);
        keyspace.forget_contents(&self.budget);
        // Writers of other keyspaces may be waiting for that memory.
        self.note_memtables();
        self.throttle.wake();
        self.collect_garbage();
        if keyspace.settings().options.delete_deadline.is_some() {
            // What it had deleted is still in the log, and nobody looks after the keyspace any
            // more.
            drop(self.leave_log());
        }
        // The drop is done, whether or not this succeeds: the next flush tries again.
        if !esker_base::planted::is("dropped-keyspace-holds-the-log") {
            drop(self.logs.release_before(|| self.oldest_log_needed(), &self.ledger));
        }
        Ok(())
    }

    /// Removes the files that nothing refers to any more; after a close, the next open does.
    pub(crate) fn collect_garbage(&self) {
        let removable = self.garbage.take_unreferenced();
        if removable.is_empty() {
            return;
        }
        let mut left = Vec::new();
        self.tables.owned.while_owned(|| left = self.remove_files(removable));
        // Only now: a listener may drop the last handle, which releases the directory.
        left.into_iter().for_each(|event| self.events.record(self.now(), event));
    }

    /// Returns events about files that could not be removed.
    fn remove_files(&self, files: Vec<(FileId, FileKind)>) -> Vec<Event> {
        let mut left = Vec::new();
        for (id, kind) in files {
            let file = id.file_name(kind);
            let counter = match kind {
                FileKind::Blob => &self.counters.blob_files_removed,
                _ => &self.counters.tables_removed,
            };
            match self.env.fs.remove(&self.dir.join(&file)) {
                Ok(()) => Counters::add(counter, 1),
                // The next open removes it.
                Err(error) => left.push(Event::RemoveFailed { file, error: error.into() }),
            }
        }
        left
    }

    pub(crate) fn open_table(&self, properties: Arc<esker_table::TableProperties>) -> Arc<Table> {
        Arc::new(Table::new(Arc::clone(&self.tables), properties))
    }

    /// The oldest log segment that holds an entry which is not in a table.
    pub(crate) fn oldest_log_needed(&self) -> Option<esker_base::LogId> {
        self.keyspaces().iter().filter_map(|keyspace| keyspace.view().oldest_log()).min()
    }

    /// Notes that there are new frames: once no more come for a while, a background thread marks
    /// the log.
    #[inline]
    pub(crate) fn note_unmarked(&self) {
        if !self.has_unmarked.load(Ordering::Relaxed) {
            self.has_unmarked.store(true, Ordering::Relaxed);
            self.scheduler.wake();
        }
    }

    /// Notes that frames wait in memory: a background thread should hand them to the system soon.
    pub(crate) fn note_buffered(&self) {
        if !esker_base::planted::is("buffered-not-handed-over")
            && !self.has_buffered.swap(true, Ordering::Relaxed)
        {
            let now = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX);
            self.buffered_since.store(now, Ordering::Relaxed);
            self.scheduler.wake();
        }
    }

    /// Whether a writer must hand over frames in time, since there is no background thread to do
    /// it.
    pub(crate) fn is_buffer_overdue(&self) -> bool {
        self.options.background_threads == 0
            && self.buffered_due().is_some_and(|due| due <= self.now())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database in {}", self.dir.display())
    }
}

/// Refuses to create a keyspace whose keys nobody could read.
pub(crate) fn check_new_order(order: &Order) -> Result<()> {
    order.check_known().map_err(Error::invalid_input)
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || limits::KEYSPACE_NAME_LEN_MAX < name.len() {
        return Err(Error::invalid_input(format!(
            "the name of a keyspace has {} bytes, and must have from 1 to {}",
            name.len(),
            limits::KEYSPACE_NAME_LEN_MAX
        )));
    }
    Ok(())
}
