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
/// Reads and writes on it go to the default keyspace. The database is closed by [`Db::close`], or
/// when the last clone of this handle and the last [`Keyspace`], [`Batch`], [`BulkLoader`] and
/// [`CompactionHandle`] are dropped. Such a drop hands buffered writes to the system and stops
/// background work, but it flushes nothing and cannot report an error. Snapshots, scans and cursors
/// do not keep the database open.
///
/// Dropping the last handle waits for the running jobs. If a job itself drops it, through an
/// [`EventListener`](crate::EventListener), [`MergeOperator`](crate::MergeOperator) or
/// [`CompactionFilter`](crate::CompactionFilter), the drop returns at once; the directory can be
/// opened again when the jobs have ended, a moment later, and until then an open is refused as
/// `Locked`.
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

    /// The default keyspace: reads and writes on the database go to it.
    #[must_use]
    pub const fn default_keyspace(&self) -> &Keyspace {
        &self.default
    }

    /// Opens the keyspace `name`, or creates it with `options` if it does not exist. The name has 1
    /// to [`KEYSPACE_NAME_LEN_MAX`](crate::limits::KEYSPACE_NAME_LEN_MAX) bytes.
    ///
    /// For an existing keyspace, `options` replace all its options from now on, for all its
    /// handles: an option left at its default is reset to the default, and a compaction filter that
    /// is not given stops working. The exceptions are the key order, which is fixed, and the merge
    /// operator, which is kept if none is given. Data on disk stays as it was written until a
    /// compaction rewrites it; to have all of it rewritten, set
    /// [`periodic_compaction`](KeyspaceOptions::periodic_compaction) for a while. To change one
    /// option, change it in a copy of [`Keyspace::options`]; to change none, use
    /// [`Db::existing_keyspace`]. A database that was opened for reading applies `options` as far
    /// as it can, and does not record them.
    ///
    /// # Durability
    /// A new keyspace survives loss of power once this returns.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or too long name, options that make no sense, or a key order or
    /// merge operator that differs from the keyspace's; `ReadOnly` if it does not exist; `Io`,
    /// `NoSpace`, `Closed`, `Poisoned`. If the outcome is [`Unknown`](crate::Outcome::Unknown), the
    /// keyspace or its new options may be there at the next open.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = self.engine().open_keyspace(name, Some(&options))?;
        Ok(Keyspace::new(Arc::clone(self.default.handle()), core))
    }

    /// The existing keyspace `name`, with its options unchanged; `None` if there is none.
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

    /// Gives a keyspace another name. Durable when this returns.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or too long name, if a keyspace, even this one, has it already,
    /// for the default keyspace, or for one of another database; `Closed` if it was dropped;
    /// otherwise as for a write.
    pub fn rename_keyspace(&self, keyspace: &Keyspace, name: &str) -> Result<()> {
        self.engine().rename_keyspace(keyspace.core_in(self.engine())?, name)
    }

    /// Drops a keyspace with everything in it. Durable when this returns.
    ///
    /// # Errors
    /// `InvalidInput` for the default keyspace, or for one of another database; `Closed` if it was
    /// dropped already; otherwise as for a write.
    ///
    /// # Cost
    /// One edit of the manifest, however much the keyspace holds, and one to release log segments.
    /// If it had a [`delete_deadline`](KeyspaceOptions::delete_deadline), the memtables of the
    /// others are flushed, too. Files are removed once no scan or cursor reads them.
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        self.engine().drop_keyspace(keyspace.core_in(self.engine())?)
    }

    /// A batch of writes to any keyspaces, applied together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(self.default.handle()))
    }

    /// Makes tables written by [`TableWriter`](crate::TableWriter)s part of `keyspace`: all of them
    /// or none, all visible at the same moment, and newer than everything before. Each joins the
    /// tree unchanged, as deep as it fits, or in level 0 under the policies that keep ages apart,
    /// `Fifo` and `TimeWindow`. The files are copied, unless [`IngestOptions::move_files`] is set.
    ///
    /// # Durability
    /// The entries survive loss of power once this returns, and so do all earlier writes. The
    /// entries are not written to the log.
    ///
    /// # Errors
    /// - `InvalidInput`: a file was not written by a table writer, is for another keyspace, has
    ///   another key order, or has operands and the keyspace no merge operator; two files overlap;
    ///   a file to be moved is a table of a database; or the keyspace belongs to another database.
    /// - `Corruption`, `UnsupportedFormat`: a file is damaged, or a newer release wrote it.
    /// - `Io`, `NoSpace`, `Closed`, `ReadOnly`, `Poisoned`.
    ///
    /// After an error, nothing has been ingested, and all files are where they were. But if its
    /// outcome is [`Unknown`](crate::Outcome::Unknown), the manifest could not be written: only
    /// reopening shows whether the tables are part of the keyspace, and the database accepts no
    /// writes until then.
    ///
    /// # Cost
    /// Reads each file once, and writes it once if it is copied. Memtables with keys in the ranges
    /// of the tables are flushed. Other writes wait while the manifest is written.
    pub fn ingest<P: AsRef<Path>>(
        &self,
        keyspace: &Keyspace,
        files: &[P],
        options: IngestOptions,
    ) -> Result<IngestReport> {
        self.engine().ingest(keyspace.core_in(self.engine())?, files, options)
    }

    /// A loader that writes many entries to `keyspace`, bypassing log and memtables. See
    /// [`BulkLoader`].
    ///
    /// # Errors
    /// `InvalidInput` for a keyspace of another database; `Closed`, `ReadOnly`, `Poisoned`.
    pub fn bulk_loader(&self, keyspace: &Keyspace) -> Result<BulkLoader> {
        keyspace.core_in(self.engine())?;
        BulkLoader::new(keyspace.clone())
    }

    /// Takes a snapshot of all keyspaces as they are now, consistent across them.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.engine(), self.default.core())
    }

    /// Makes every logged write that was acknowledged before this call survive loss of power,
    /// whatever its durability. A keyspace [without a log](KeyspaceOptions::log) must be flushed
    /// instead.
    ///
    /// # Errors
    /// - `Io`, `NoSpace`: the log cannot be written or synced. The database then accepts no writes
    ///   until it is reopened.
    /// - `Closed`, `ReadOnly`, `Poisoned`.
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

    /// Waits until no flush or compaction is due and no write is waiting for one. While
    /// [compactions are paused](Db::pause_compactions), none is due, but one that has begun is
    /// waited for. A compaction that [was started](Db::start_compaction) is also waited for, unless
    /// it is paused between two steps. So is the loading of blocks by [`Options::warm_cache`]; a
    /// database that was opened for reading waits for that alone.
    ///
    /// # Errors
    /// The error of a background job whose last try failed, even if it was the first; `Closed`,
    /// `Poisoned`.
    pub fn wait_until_settled(&self) -> Result<()> {
        self.engine().wait_until_settled()
    }

    /// Runs one background job on this thread and returns whether there was one. For databases that
    /// were opened without [background threads](Options::background_threads). A job that fails is
    /// reported by [`Db::health`] and tried again later.
    pub fn run_background_job(&self) -> bool {
        self.engine().run_background_job()
    }

    /// Pauses all compactions, including those on demand, until [`Db::resume_compactions`]: none is
    /// begun, and those that run wait at their next block. Flushes go on, so writes are slowed down
    /// eventually. A reopened database is not paused.
    pub fn pause_compactions(&self) {
        self.engine().scheduler.set_paused(true);
    }

    /// Ends [`Db::pause_compactions`].
    pub fn resume_compactions(&self) {
        self.engine().scheduler.set_paused(false);
    }

    /// Whether compactions are paused.
    #[must_use]
    pub fn are_compactions_paused(&self) -> bool {
        self.engine().scheduler.is_paused()
    }

    /// The compactions that are running and those that would begin next, with reasons, scores and
    /// bytes, in order, one keyspace after another. Starts nothing.
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

    /// Whether everything works and, if not, what does not.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine().health()
    }

    /// Recent events, oldest first, each with its time since the start of the engine's clock.
    #[must_use]
    pub fn events(&self) -> Vec<(Duration, Event)> {
        self.engine().events.list()
    }

    /// Explains how a read of `key` proceeds. See [`Keyspace::explain_get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetExplanation> {
        self.default.explain_get(key)
    }

    /// Explains how a scan proceeds. See [`Keyspace::explain_scan`].
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

    /// Closes the database for all its handles. Waits for the running jobs, flushes small memtables
    /// or leaves their entries in the log, makes everything durable, and marks the ends of log and
    /// manifest, so that the next open notices damage anywhere in them.
    ///
    /// Cursors and scans keep reading what they hold; everything else returns `Closed`. When the
    /// directory is opened again, files that only they refer to are removed, and their reads of
    /// files that they had not opened before fail with `Io`.
    ///
    /// # Errors
    /// If something cannot be written, or the database was `Poisoned` before. It is closed all the
    /// same, and the next open recovers it. `Closed` if it was closed already.
    pub fn close(self) -> Result<()> {
        let handle = self.default.handle();
        if !handle.engine().mark_closing() {
            return Err(Error::closed());
        }
        handle.stop_threads();
        handle.engine().shut_down()
    }
}

/// The result of work on `keyspace` as one of all keyspaces: if it was dropped meanwhile, its
/// `Closed` does not count.
fn over_if_dropped(engine: &Engine, keyspace: &KeyspaceCore, result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Closed && keyspace.is_dropped() => {
            engine.check_open()
        }
        result => result,
    }
}
