//! The public handle of a database.

mod entries;

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::compaction_handle::CompactionHandle;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::inspect::explain::{GetExplanation, ScanExplanation};
use crate::inspect::health::Health;
use crate::inspect::levels::Levels;
use crate::inspect::planned::PlannedJob;
use crate::inspect::stats::Stats;
use crate::inspect::what_if::WhatIf;
use crate::keyspace::Keyspace;
use crate::keyspace_core::KeyspaceCore;
use crate::load::bulk_loader::BulkLoader;
use crate::load::ingest::{IngestOptions, IngestReport};
use crate::options::{KeyspaceOptions, Options};
use crate::snapshot::Snapshot;

/// An open database. Cheap to clone; usable from many threads.
///
/// Reads and writes on it go to the default keyspace. It closes when it is [closed](Db::close), or
/// when the last clone of it and the last [`Keyspace`], [`Batch`], [`BulkLoader`] and
/// [`CompactionHandle`] are dropped: that hands buffered writes to the system and stops the
/// background work, but flushes nothing and cannot report an error. Snapshots, scans and cursors do
/// not keep it open.
///
/// The drop of the last one waits for the running jobs. Where a job itself drops it, by way of an
/// [`EventListener`](crate::EventListener), [`MergeOperator`](crate::MergeOperator) or
/// [`CompactionFilter`](crate::CompactionFilter), the drop returns at once, and the directory can be
/// opened again a moment later, when the jobs have ended: until then that is refused as `Locked`.
#[derive(Clone, Debug)]
pub struct Db {
    default: Keyspace,
}

impl Db {
    pub(crate) const fn new(default: Keyspace) -> Self {
        Self { default }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.default.handle().engine()
    }

    /// The directory, as an absolute path.
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

    /// Opens the keyspace `name`, creating it with `options` if there is none. The name has from 1 to
    /// [`KEYSPACE_NAME_LEN_MAX`](crate::limits::KEYSPACE_NAME_LEN_MAX) bytes.
    ///
    /// One that exists takes `options` from now on, for all its handles: all of them, so what is left
    /// at its default is so from now on, whatever it was, and a compaction filter that is not given
    /// works no more. Only the order of the keys is fixed, and a merge operator stays if none is given.
    /// What is on disk stays as it was written, until it is compacted. To change one option, change it
    /// in [`Keyspace::options`]; to change none, see [`Db::existing_keyspace`]. A database that was
    /// opened for reading goes by `options` as far as it can, and records none.
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
    /// `InvalidInput` if a keyspace has the name, be it this one, for the default keyspace, or for one of
    /// another database; `Closed` if it was dropped; as of a write otherwise.
    pub fn rename_keyspace(&self, keyspace: &Keyspace, name: &str) -> Result<()> {
        self.engine().rename_keyspace(keyspace.core_in(self.engine())?, name)
    }

    /// Drops a keyspace with everything in it. Durable when this returns.
    ///
    /// # Errors
    /// `InvalidInput` for the default keyspace, or for one of another database; `Closed` if it was
    /// dropped already; as of a write otherwise.
    ///
    /// # Cost
    /// One edit of the manifest, however much the keyspace holds. Files go as soon as no scan or
    /// cursor reads them.
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        self.engine().drop_keyspace(keyspace.core_in(self.engine())?)
    }

    /// A batch of writes to any keyspaces, applied together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(self.default.handle()))
    }

    /// Makes tables that [`TableWriter`](crate::TableWriter)s wrote part of `keyspace`: all of them or none, visible at
    /// once, newer than everything before. Each joins the tree as it is, as deep as it fits, and under
    /// policies that keep ages apart, `Fifo` and `TimeWindow`, in level 0; its files are left alone
    /// unless [`IngestOptions::move_files`] says otherwise.
    ///
    /// # Durability
    /// The entries survive loss of power once this returns, and so do all writes before it. They
    /// are in no log.
    ///
    /// # Errors
    /// - `InvalidInput`: a file was not written by a table writer, is for another keyspace or in
    ///   another order of keys, or two of them overlap; the keyspace is of another database.
    /// - `Corruption`, `UnsupportedFormat`: a file is damaged, or a newer release wrote it.
    /// - `Io`, `NoSpace`, `Closed`, `ReadOnly`, `Poisoned`.
    ///
    /// Nothing is ingested then, and all files are where they were. If the outcome of the error is
    /// [`Unknown`](crate::Outcome::Unknown), the manifest could not be written, and reopening tells
    /// whether the tables are part of the keyspace; the database takes no more writes until then.
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
        self.engine().ingest(keyspace.core_in(self.engine())?, files, options)
    }

    /// A loader of many entries into `keyspace`, past log and memtables. See [`BulkLoader`].
    ///
    /// # Errors
    /// `InvalidInput` for a keyspace of another database; `Closed`, `ReadOnly`, `Poisoned`.
    pub fn bulk_loader(&self, keyspace: &Keyspace) -> Result<BulkLoader> {
        keyspace.core_in(self.engine())?;
        BulkLoader::new(keyspace.clone())
    }

    /// All keyspaces as they are now, to read later. Consistent across keyspaces.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.engine(), self.default.core())
    }

    /// Makes every write to the log that was acknowledged before this call, whatever its durability,
    /// survive loss of power. A keyspace [without a log](KeyspaceOptions::log) is to be flushed for that.
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
        let mut keyspaces = engine.keyspaces().into_iter();
        keyspaces
            .try_for_each(|keyspace| over_if_dropped(engine, &keyspace, engine.flush(&keyspace)))
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
        let mut keyspaces = engine.keyspaces().into_iter();
        keyspaces.try_for_each(|keyspace| {
            over_if_dropped(engine, &keyspace, engine.compact(&keyspace, &all))
        })
    }

    /// Returns when no flush or compaction is wanted any more and no write is waiting for one. While
    /// [compactions are paused](Db::pause_compactions), none is wanted, but one that has begun is
    /// waited for. So is one that [was started](Db::start_compaction), unless it is paused between two
    /// steps. The cache is full of what [`Options::warm_cache`] loads into it then; a database that was
    /// opened for reading waits for that alone.
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

    /// About how many bytes on disk hold the entries of `range` in the default keyspace. See
    /// [`Keyspace::approximate_bytes`].
    ///
    /// # Errors
    /// As [`Keyspace::approximate_bytes`].
    pub fn approximate_bytes<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.default.approximate_bytes(range)
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
    /// Cursors and scans go on reading what they hold; everything else returns `Closed`. Once the
    /// directory is opened again, files that only they refer to are removed, and a read of one that
    /// they had not opened before is an `Io` error.
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

/// What came of work on `keyspace` as one of all: if it was dropped meanwhile, it was not one of them.
fn over_if_dropped(engine: &Engine, keyspace: &KeyspaceCore, result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Closed && keyspace.is_dropped() => {
            engine.check_open()
        }
        result => result,
    }
}
