//! The public handle of one keyspace: its identity, its tree, and introspection.
//!
//! Writes and reads are in files of their own.

mod reads;
mod writes;

use std::ops::RangeBounds;
use std::sync::Arc;

use crate::compaction_handle::CompactionHandle;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::inspect::explain::{GetExplanation, ScanExplanation};
use crate::inspect::levels::Levels;
use crate::inspect::what_if::{FLUSHES_DEFAULT, WhatIf};
use crate::keyspace_core::KeyspaceCore;
use crate::options::KeyspaceOptions;

/// A named ordered map of a database, with its own tree and options.
///
/// Cheap to clone; usable from many threads. It keeps the database open.
#[derive(Clone, Debug)]
pub struct Keyspace {
    db: Arc<Handle>,
    core: Arc<KeyspaceCore>,
}

impl Keyspace {
    pub(crate) const fn new(db: Arc<Handle>, core: Arc<KeyspaceCore>) -> Self {
        Self { db, core }
    }

    pub(crate) const fn core(&self) -> &Arc<KeyspaceCore> {
        &self.core
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.db
    }

    /// The keyspace as `engine` knows it.
    ///
    /// # Errors
    /// `InvalidInput` if it belongs to another database, where its id means nothing or something
    /// else.
    pub(crate) fn core_in(&self, engine: &Arc<Engine>) -> Result<&Arc<KeyspaceCore>> {
        if Arc::ptr_eq(self.db.engine(), engine)
            || esker_base::planted::is("keyspace-of-another-database-taken")
        {
            return Ok(&self.core);
        }
        let what = format!("the keyspace {:?} belongs to another database", self.name());
        Err(Error::invalid_input(what))
    }

    /// The name, as of the last rename.
    #[must_use]
    pub fn name(&self) -> String {
        self.core.name().to_string()
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> KeyspaceOptions {
        self.core.settings().options.clone()
    }

    /// Writes everything in memory to tables, and returns once those are durable.
    ///
    /// # Errors
    /// If a table or the manifest cannot be written. The entries are then still in memory and in
    /// the log. `Closed`, `ReadOnly`, `Poisoned`.
    pub fn flush(&self) -> Result<()> {
        self.db.engine().flush(&self.core)
    }

    /// Brings all tables that hold keys of `range` down to the last level, on this thread.
    /// Afterwards no deleted or overwritten entry of the range takes space, except those that a
    /// snapshot sees. Of the tables that are in the last level already, those that hold such entries
    /// or have another compression than they should are rewritten, and small ones are joined; with a
    /// compaction filter or a merge operator, all are rewritten. Blob files may hold as much garbage
    /// as [`blob_waste_percent_max`](KeyspaceOptions::blob_waste_percent_max) allows. Memtables are
    /// flushed first; under the policies that keep ages apart, `Fifo` and `TimeWindow`, nothing
    /// else happens. While compactions are [paused](crate::Db::pause_compactions), this call waits
    /// until they are resumed.
    ///
    /// # Errors
    /// If a table cannot be read or written, or the compaction filter fails (`UserCode`); the tree
    /// is then somewhere between before and after. `InvalidInput` if the key order is not known;
    /// `Closed`, `ReadOnly`, `Poisoned`.
    pub fn compact<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.db.engine().compact(&self.core, &self.core.stored_range(&range)?)
    }

    /// Starts a [`Keyspace::compact`] in the background, and returns at once. It runs concurrently
    /// with automatic compactions, on tables that they do not use, and yields to them: whenever one
    /// is due, that is done first. Entries written after the start may or may not be compacted with
    /// the rest.
    ///
    /// Without [background threads](crate::Options::background_threads), it is done step by step by
    /// [`Db::run_background_job`](crate::Db::run_background_job) or [`CompactionHandle::wait`].
    ///
    /// # Errors
    /// `Closed`, `ReadOnly`, `Poisoned`, `InvalidInput` if the key order is not known. Later errors
    /// are returned by [`CompactionHandle::wait`].
    pub fn start_compaction<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<CompactionHandle> {
        let range = self.core.stored_range(&range)?;
        let task = self.db.engine().start_compaction(&self.core, &range)?;
        Ok(CompactionHandle::new(Arc::clone(&self.db), task))
    }

    /// About how many bytes of tables and blob files hold the entries of `range`, as stored:
    /// compressed, and including overwritten entries that are not compacted away yet. Memtables do
    /// not count.
    ///
    /// # Errors
    /// If the index of a table cannot be read; `InvalidInput` if the key order is not known;
    /// `Closed`.
    ///
    /// # Cost
    /// Reads the index of the tables at the ends of the range, and nothing of the others.
    pub fn approximate_bytes<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.db.engine().approximate_bytes(&self.core, &self.core.stored_range(&range)?)
    }

    /// The shape of the tree.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.db.engine().levels(&self.core)
    }

    /// Estimates what the keyspace would cost under each of `alternatives`, and under its live
    /// options, if writes went on as before: 256 flushes like the recorded ones are replayed over
    /// the present tree, through the same functions that plan compactions. Of the options, only the
    /// policy and the size of a memtable matter. See [`WhatIf`] for what is known of the past, and
    /// docs/TUNING.md for what the figures leave out.
    ///
    /// # Errors
    /// `InvalidInput` if options make no sense; `Closed`; `Io` if the directory cannot be read.
    ///
    /// # Cost
    /// Reads at most two manifests, and no table. The computing time grows with the number of
    /// tables and policies: milliseconds for a small tree, seconds for one of thousands of tables.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// use esker::{CompactionPolicy, Db, KeyspaceOptions};
    ///
    /// let db = Db::in_memory()?;
    /// db.put("key", "value")?;
    /// db.flush()?;
    /// let universal = CompactionPolicy::Universal(Default::default());
    /// let other = KeyspaceOptions { compaction: universal, ..db.default_keyspace().options() };
    /// let answer = db.what_if(&[other])?;
    /// let names: Vec<_> = answer.outcomes.iter().map(|outcome| outcome.policy).collect();
    /// assert_eq!(names, ["leveled", "universal"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn what_if(&self, alternatives: &[KeyspaceOptions]) -> Result<WhatIf> {
        self.what_if_after(alternatives, FLUSHES_DEFAULT)
    }

    /// As [`Keyspace::what_if`], over `flushes` flushes of the live memtable size; with larger
    /// memtables they are fewer.
    ///
    /// # Errors
    /// As [`Keyspace::what_if`]; `InvalidInput` unless `flushes` is from 1 to 100,000, and at most a
    /// million where memtables are smaller.
    pub fn what_if_after(&self, alternatives: &[KeyspaceOptions], flushes: u64) -> Result<WhatIf> {
        self.db.engine().what_if(&self.core, alternatives, flushes)
    }

    /// Explains how [`Keyspace::get`] finds `key`: everything that it looks at or leaves out, and
    /// why.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetExplanation> {
        self.db.engine().explain_get(&self.core, key.as_ref())
    }

    /// Explains how a scan of `range` proceeds: what it merges and what it leaves out. Runs the
    /// scan to its end, or over the first `limit` entries.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        limit: Option<u64>,
    ) -> Result<ScanExplanation> {
        self.db.engine().explain_scan(&self.core, &range, limit)
    }
}
