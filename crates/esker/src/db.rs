//! The public handle of a database, and how it is opened.

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_base::KeyspaceId;
use esker_env::Env;

use crate::batch::Batch;
use crate::bulk_loader::BulkLoader;
use crate::bytes::Value;
use crate::compaction_handle::CompactionHandle;
use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::{Event, EventListener};
use crate::expiry::Expiry;
use crate::explain::{GetExplanation, ScanExplanation};
use crate::handle::Handle;
use crate::health::Health;
use crate::ingest::{IngestOptions, IngestReport};
use crate::key_order::{KeyOrder, Order};
use crate::keyspace::Keyspace;
use crate::levels::Levels;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::planned::PlannedJob;
use crate::recovery::{self, OpenRequest};
use crate::recovery_mode::RecoveryMode;
use crate::scan::Scan;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::what_if::WhatIf;

/// An open database. Cheap to clone; usable from many threads.
///
/// Reads and writes on it go to the default keyspace. It closes when it is [closed](Db::close), or
/// when the last clone and the last [`Keyspace`] of it are dropped: a drop hands buffered writes
/// to the system and stops the background work, but flushes nothing and cannot report an error.
#[derive(Clone, Debug)]
pub struct Db {
    default: Keyspace,
}

/// Opens a database with other than the default choices.
#[derive(Clone)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct DbBuilder {
    dir: PathBuf,
    env: Option<Env>,
    options: Options,
    default_keyspace: Option<KeyspaceOptions>,
    orders: Vec<Order>,
    is_read_only: bool,
    creates: bool,
    recovery: RecoveryMode,
    listener: Option<EventListener>,
}

impl DbBuilder {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            env: None,
            options: Options::default(),
            default_keyspace: None,
            orders: Vec::new(),
            is_read_only: false,
            creates: true,
            recovery: RecoveryMode::default(),
            listener: None,
        }
    }

    /// Options of the database.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Options of the default keyspace. Without this call it keeps those that are recorded.
    pub fn default_keyspace(mut self, options: KeyspaceOptions) -> Self {
        self.default_keyspace = Some(options);
        self
    }

    /// Makes a key order of the caller's own known, for keyspaces that were created with it: their
    /// keys can be read without naming it again for each. A keyspace whose order is not known is
    /// recovered and compacted, and refuses calls that name or return keys.
    pub fn key_order(mut self, order: impl KeyOrder) -> Self {
        self.orders.push(Order::new(order));
        self
    }

    /// Opens for reading only: nothing on disk changes but the lock file, and writes are refused.
    /// What the log holds is read into memory. Any number of readers may have the database open, in
    /// one process or many, while nobody has it open for writing.
    pub const fn read_only(mut self, is_read_only: bool) -> Self {
        self.is_read_only = is_read_only;
        self
    }

    /// Whether a database that does not exist is created. Default true.
    pub const fn create_if_missing(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// What to do about damage in the log. Default [`RecoveryMode::TornTail`].
    pub const fn recovery(mut self, mode: RecoveryMode) -> Self {
        self.recovery = mode;
        self
    }

    /// The outside that the database lives in: the operating system by default. For tests, and for
    /// databases in memory.
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Tells `listener` each event as it happens; see [`EventListener`].
    pub fn on_event(mut self, listener: EventListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// - `Locked`: it is open elsewhere, in this process or another.
    /// - `InvalidInput`: there is none and it is not to be created, or the directory holds
    ///   something else, or an option makes no sense.
    /// - `Corruption`: the manifest or the log is damaged, or a file is missing.
    /// - `UnsupportedFormat`: a newer release wrote it.
    /// - `Io`, `NoSpace`.
    ///
    /// An open that fails with one of the first four changes nothing in the directory.
    ///
    /// # Cost
    /// Follows the number of live tables and the length of the log that was not flushed, not the
    /// size or history of the database. Tables are opened when they are first read.
    pub fn open(self) -> Result<Db> {
        let engine = recovery::open(OpenRequest {
            env: self.env.unwrap_or_else(Env::os),
            dir: self.dir,
            options: self.options,
            default_keyspace: self.default_keyspace,
            orders: self.orders,
            is_read_only: self.is_read_only,
            creates: self.creates,
            recovery: self.recovery,
            listener: self.listener,
        })?;
        let default = engine.keyspace(KeyspaceId::DEFAULT).ok_or_else(|| {
            Error::new(crate::ErrorKind::Corruption, "the manifest has no default keyspace")
        })?;
        let handle = Arc::new(Handle::new(engine)?);
        Ok(Db { default: Keyspace::new(handle, default) })
    }
}

impl Db {
    /// Opens the database in `dir` with the default options, creating it if there is none.
    ///
    /// # Errors
    /// As [`DbBuilder::open`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("esker-doc-open-{}", std::process::id()));
    /// let db = esker::Db::open(&dir)?;
    /// db.put("answer", "42")?;
    /// assert_eq!(db.get("answer")?.unwrap(), "42");
    /// db.close()?;
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Opens the database in `dir` with other than the default choices.
    pub fn builder(dir: impl AsRef<Path>) -> DbBuilder {
        DbBuilder::new(dir.as_ref())
    }

    /// Opens a new database that lives in memory and ends with its last handle. The same engine,
    /// over files in memory.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn in_memory() -> Result<Self> {
        Self::builder("memory").env(Env { clock: Env::os().clock, ..Env::memory(0) }).open()
    }

    fn engine(&self) -> &Arc<Engine> {
        self.default.handle().engine()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.engine().dir
    }

    /// The options that the database was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.engine().options
    }

    /// The default keyspace, which reads and writes on the database go to.
    #[must_use]
    pub const fn default_keyspace(&self) -> &Keyspace {
        &self.default
    }

    /// Opens the keyspace `name`, creating it with `options` if there is none. One that exists
    /// takes `options` from now on.
    ///
    /// # Durability
    /// A new keyspace survives loss of power once this returns.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or too long name, options that make no sense, or another key
    /// order or merge operator than the keyspace has; `ReadOnly` if it does not exist; `Io`, `NoSpace`.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = self.engine().open_keyspace(name, Some(&options))?;
        Ok(Keyspace::new(Arc::clone(self.default.handle()), core))
    }

    /// The keyspace `name` with the options that it has; `None` if there is none.
    ///
    /// # Errors
    /// `Closed`.
    pub fn existing_keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.engine().check_open()?;
        let core = self.engine().keyspace_named(name);
        Ok(core.map(|core| Keyspace::new(Arc::clone(self.default.handle()), core)))
    }

    /// The names of all keyspaces, in the order in which they were created.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.engine().keyspaces().iter().map(|keyspace| keyspace.name().to_string()).collect()
    }

    /// Gives a keyspace another name.
    ///
    /// # Errors
    /// `InvalidInput` if another one has the name, or for the default keyspace; `Closed` if it was
    /// dropped; as of a write otherwise.
    pub fn rename_keyspace(&self, keyspace: &Keyspace, name: &str) -> Result<()> {
        self.engine().rename_keyspace(keyspace.core(), name)
    }

    /// Drops a keyspace with everything in it. Durable when this returns.
    ///
    /// # Errors
    /// `InvalidInput` for the default keyspace; `Closed` if it was dropped already; as of a write
    /// otherwise.
    ///
    /// # Cost
    /// One edit of the manifest, however much the keyspace holds. Files go as soon as no scan or
    /// cursor reads them.
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        self.engine().drop_keyspace(keyspace.core())
    }

    /// A batch of writes to any keyspaces, applied together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(self.default.handle()))
    }

    /// Makes tables that [`TableWriter`](crate::TableWriter)s wrote part of `keyspace`: all of them or none, visible at
    /// once, newer than everything before. Each joins the tree as it is, as deep as it fits; its
    /// files are left alone unless [`IngestOptions::move_files`] says otherwise.
    ///
    /// # Durability
    /// The entries survive loss of power once this returns, and so do all writes before it. They
    /// are in no log.
    ///
    /// # Errors
    /// - `InvalidInput`: a file was not written by a table writer, is for another keyspace or in
    ///   another order of keys, or two of them overlap.
    /// - `Corruption`, `UnsupportedFormat`: a file is damaged, or a newer release wrote it.
    /// - `Io`, `NoSpace`, `Closed`, `ReadOnly`, `Poisoned`.
    ///
    /// Nothing is ingested then, and all files are where they were.
    ///
    /// # Cost
    /// Reads each file once, and writes it once where it is copied. Memtables with a key of their
    /// ranges are flushed. Other writes wait while the manifest is written.
    pub fn ingest<P: AsRef<Path>>(
        &self,
        keyspace: &Keyspace,
        files: &[P],
        options: IngestOptions,
    ) -> Result<IngestReport> {
        self.engine().ingest(keyspace.core(), files, options)
    }

    /// A loader of many entries into `keyspace`, past log and memtables. See [`BulkLoader`].
    ///
    /// # Errors
    /// `Closed`, `ReadOnly`, `Poisoned`.
    pub fn bulk_loader(&self, keyspace: &Keyspace) -> Result<BulkLoader> {
        BulkLoader::new(keyspace.clone())
    }

    /// All keyspaces as they are now, to read later. Consistent across keyspaces.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.engine(), self.default.core())
    }

    /// Sets `key` to `value`. See [`Keyspace::put`].
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// Sets `key` to `value` with the given durability. See [`Keyspace::put_with`].
    ///
    /// # Errors
    /// As [`Keyspace::put_with`].
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        self.default.put_with(key, value, durability)
    }

    /// Sets `key` to `value` for as long as `ttl`. See [`Keyspace::put_with_ttl`].
    ///
    /// # Errors
    /// As [`Keyspace::put_with_ttl`].
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.default.put_with_ttl(key, value, ttl)
    }

    /// Until when `key` has its value. See [`Keyspace::expires_at`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn expires_at(&self, key: impl AsRef<[u8]>) -> Result<Option<Expiry>> {
        self.default.expires_at(key)
    }

    /// Removes `key`. See [`Keyspace::delete`].
    ///
    /// # Errors
    /// As [`Keyspace::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// Merges `operand` into the value of `key`. See [`Keyspace::merge`].
    ///
    /// # Errors
    /// As [`Keyspace::merge`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.default.merge(key, operand)
    }

    /// Merges `operand` into the value of `key` with the given durability. See
    /// [`Keyspace::merge`].
    ///
    /// # Errors
    /// As [`Keyspace::merge`].
    pub fn merge_with(
        &self,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        self.default.merge_with(key, operand, durability)
    }

    /// Removes `key`, which was put once. See [`Keyspace::single_delete`].
    ///
    /// # Errors
    /// As [`Keyspace::single_delete`].
    pub fn single_delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.single_delete(key)
    }

    /// Removes every key of `range`. See [`Keyspace::delete_range`].
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.default.delete_range(range)
    }

    /// The value of `key`. See [`Keyspace::get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.default.get(key)
    }

    /// Hands the value of `key` to `use_value` where it lies. See [`Keyspace::get_with`].
    ///
    /// # Errors
    /// As [`Keyspace::get_with`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default.get_with(key, use_value)
    }

    /// Reads the value of `key` into `buffer`. See [`Keyspace::get_into`].
    ///
    /// # Errors
    /// As [`Keyspace::get_into`].
    pub fn get_into(&self, key: impl AsRef<[u8]>, buffer: &mut Vec<u8>) -> Result<bool> {
        self.default.get_into(key, buffer)
    }

    /// The values of `keys`. See [`Keyspace::multi_get`].
    ///
    /// # Errors
    /// As [`Keyspace::multi_get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.default.multi_get(keys)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::contains`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains(key)
    }

    /// The entries of a range, from both ends. See [`Keyspace::scan`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// let db = esker::Db::in_memory()?;
    /// for word in ["ant", "bee", "cat", "dog"] {
    ///     db.put(word, "animal")?;
    /// }
    /// let backwards: Result<Vec<_>, _> = db.scan("b".."d").rev().collect();
    /// let keys: Vec<_> = backwards?.into_iter().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["cat", "bee"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.default.scan(range)
    }

    /// The entries whose keys start with `prefix`, exactly those.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.default.prefix(prefix)
    }

    /// Every entry of the default keyspace.
    pub fn iter(&self) -> Scan {
        self.default.iter()
    }

    /// A cursor over every entry of the default keyspace.
    ///
    /// # Errors
    /// `Closed`.
    pub fn cursor(&self) -> Result<Cursor> {
        self.default.cursor()
    }

    /// Makes every write that was acknowledged before this call, whatever its durability, survive
    /// loss of power.
    ///
    /// # Errors
    /// If the log cannot be written or synced. The database takes no more writes then, until it is
    /// reopened.
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// Writes everything that is in memory to tables, in all keyspaces. See [`Keyspace::flush`].
    ///
    /// # Errors
    /// As [`Keyspace::flush`].
    pub fn flush(&self) -> Result<()> {
        let engine = self.engine();
        engine.keyspaces().iter().try_for_each(|keyspace| engine.flush(keyspace))
    }

    /// Compacts the default keyspace in a range of keys. See [`Keyspace::compact`].
    ///
    /// # Errors
    /// As [`Keyspace::compact`].
    pub fn compact<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.default.compact(range)
    }

    /// Starts a compaction of the default keyspace in the background. See
    /// [`Keyspace::start_compaction`].
    ///
    /// # Errors
    /// As [`Keyspace::start_compaction`].
    pub fn start_compaction<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<CompactionHandle> {
        self.default.start_compaction(range)
    }

    /// Compacts all keyspaces whole.
    ///
    /// # Errors
    /// As [`Keyspace::compact`].
    pub fn compact_all(&self) -> Result<()> {
        let engine = self.engine();
        let all = esker_base::KeyRange::all();
        engine.keyspaces().iter().try_for_each(|keyspace| engine.compact(keyspace, &all))
    }

    /// Returns when no flush or compaction is wanted any more and no write is waiting for one. While
    /// [compactions are paused](Db::pause_compactions), none is wanted, but one that has begun is
    /// waited for. So is one that [was started](Db::start_compaction), unless it is paused between two
    /// steps.
    ///
    /// # Errors
    /// Of a background job that keeps failing; `Closed`, `Poisoned`.
    pub fn wait_until_settled(&self) -> Result<()> {
        self.engine().wait_until_settled()
    }

    /// Does one background job on this thread, if there is one: for databases that were opened
    /// with no [background threads](Options::background_threads). A job that fails is noted in
    /// [`Db::health`] and tried again later.
    pub fn run_background_job(&self) -> bool {
        self.engine().run_background_job()
    }

    /// Begins no compaction and lets those that run wait, at the next block, until
    /// [`Db::resume_compactions`]; those on demand too. Flushes go on, so writes are slowed down in
    /// time. A reopened database is not paused.
    pub fn pause_compactions(&self) {
        self.engine().scheduler.set_paused(true);
    }

    /// Lets compactions go on.
    pub fn resume_compactions(&self) {
        self.engine().scheduler.set_paused(false);
    }

    /// Whether compactions are paused.
    #[must_use]
    pub fn are_compactions_paused(&self) -> bool {
        self.engine().scheduler.is_paused()
    }

    /// The compactions that run, and those that would be begun next, with reasons, scores and bytes:
    /// keyspace by keyspace, in their order. Nothing is done.
    #[must_use]
    pub fn plan(&self) -> Vec<PlannedJob> {
        self.engine().planned_jobs()
    }

    /// What the default keyspace would cost under other options. See [`Keyspace::what_if`].
    ///
    /// # Errors
    /// As [`Keyspace::what_if`].
    pub fn what_if(&self, alternatives: &[KeyspaceOptions]) -> Result<WhatIf> {
        self.default.what_if(alternatives)
    }

    /// Figures about the whole database.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// The shape of the default keyspace's tree.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.default.levels()
    }

    /// Whether everything works, and what does not.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine().health()
    }

    /// What happened lately, oldest first, each with the time since the clock's start.
    #[must_use]
    pub fn events(&self) -> Vec<(Duration, Event)> {
        self.engine().events.list()
    }

    /// How a read of `key` works. See [`Keyspace::explain_get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetExplanation> {
        self.default.explain_get(key)
    }

    /// How a scan works. See [`Keyspace::explain_scan`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        limit: Option<u64>,
    ) -> Result<ScanExplanation> {
        self.default.explain_scan(range, limit)
    }

    /// Closes the database for all its handles: waits for the running jobs, writes small memtables
    /// out or leaves them in the log, makes everything durable and marks the end of log and
    /// manifest, so that damage to any of it is noticed at the next open.
    ///
    /// Snapshots, scans and cursors go on reading what they hold; everything else returns `Closed`.
    ///
    /// # Errors
    /// If something cannot be written. The database is closed nevertheless, and the next open
    /// recovers it.
    pub fn close(self) -> Result<()> {
        let handle = self.default.handle();
        if !handle.engine().mark_closing() {
            return Err(Error::closed());
        }
        handle.stop_threads();
        handle.engine().shut_down()
    }
}
