//! The public handle of one keyspace.

use std::cell::RefCell;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{EntryKind, KeyRange};

use crate::bytes::Value;
use crate::compaction_handle::CompactionHandle;
use crate::cursor::Cursor;
use crate::deleted_range::DeletedRange;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::explain::{GetExplanation, ScanExplanation};
use crate::handle::Handle;
use crate::keyspace_core::KeyspaceCore;
use crate::levels::Levels;
use crate::operation::Operation;
use crate::options::{Durability, KeyspaceOptions};
use crate::read::Found;
use crate::scan::Scan;
use crate::waiter::Request;
use crate::what_if::{FLUSHES_DEFAULT, WhatIf};

thread_local! {
    /// Where single writes are encoded: no allocation for each. Never holds more than
    /// `KEPT_BYTES_MAX` between writes.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const KEPT_BYTES_MAX: usize = 64 << 10;

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

    /// What `engine` knows the keyspace by.
    ///
    /// # Errors
    /// `InvalidInput` if it belongs to another database: ids mean nothing there, or something else.
    pub(crate) fn core_in(&self, engine: &Arc<Engine>) -> Result<&Arc<KeyspaceCore>> {
        if Arc::ptr_eq(self.db.engine(), engine) {
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

    /// Sets `key` to `value`; it expires if the keyspace has a
    /// [`default_ttl`](KeyspaceOptions::default_ttl).
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, self.db.engine().options.durability)
    }

    /// Sets `key` to `value`, with the given durability.
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        match self.core.default_ttl() {
            None => self.write(EntryKind::Put, key, value, durability),
            Some(ttl) => self.write_expiring(key, value, self.expiry_after(ttl)?, durability),
        }
    }

    /// Sets `key` to `value` for as long as `ttl`: from then on, to the millisecond, every read
    /// finds no value, whatever the key had before. The keyspace's
    /// [`default_ttl`](KeyspaceOptions::default_ttl) does not count. A ttl past the end of time
    /// never ends.
    ///
    /// Goes by the wall clock, which may be set; within one opening of the database it never goes
    /// back, so that what has expired stays so. A [`Snapshot`](crate::Snapshot) and a cursor keep
    /// the time at which they were made. The space goes with compaction: by whole tables, without
    /// reading them, where all that they hold has expired.
    ///
    /// Operands merged over a value do not expire with it: from then on they are merged with
    /// nothing.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability); a [`Batch`](crate::Batch) takes
    /// another.
    ///
    /// # Errors
    /// `InvalidInput` if `ttl` is zero; as [`Batch::commit_with`](crate::Batch::commit_with)
    /// otherwise.
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let expiry = self.expiry_after(ttl)?;
        let durability = self.db.engine().options.durability;
        self.write_expiring(key.as_ref(), value.as_ref(), expiry, durability)
    }

    /// Sets `key` to `value` until `expiry`; with [`Expiry::Never`] for good, whatever the
    /// keyspace's [`default_ttl`](KeyspaceOptions::default_ttl). See [`Keyspace::put_with_ttl`].
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn put_with_expiry(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expiry: Expiry,
    ) -> Result<()> {
        let durability = self.db.engine().options.durability;
        let (key, value) = (key.as_ref(), value.as_ref());
        match expiry.millis() {
            None => self.write(EntryKind::Put, key, value, durability),
            Some(expiry) => self.write_expiring(key, value, expiry, durability),
        }
    }

    /// Until when `key` has the value that it has; `None` if it has none. Of operands merged over a
    /// value that expires, when that does.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn expires_at(&self, key: impl AsRef<[u8]>) -> Result<Option<Expiry>> {
        self.db.engine().expires_at(&self.core, key.as_ref())
    }

    /// In milliseconds since the epoch, as of now.
    pub(crate) fn expiry_after(&self, ttl: Duration) -> Result<u64> {
        self.db.engine().snapshots.clock.after(ttl)
    }

    /// Removes `key`, whether it is there or not.
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_with(key, self.db.engine().options.durability)
    }

    /// Removes `key`, with the given durability.
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn delete_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.write(EntryKind::Tombstone, key.as_ref(), &[], durability)
    }

    /// Adds `operand` to what the [merge operator](KeyspaceOptions::merge_operator) makes of `key`:
    /// its value is, from now on, that of before with this operand merged in. Reads nothing.
    ///
    /// # Errors
    /// `InvalidInput` if the keyspace has no merge operator; otherwise as
    /// [`Batch::commit_with`](crate::Batch::commit_with). An operand that the operator cannot make
    /// sense of is an error of whoever reads the key.
    ///
    /// # Cost
    /// That of a put. A read of the key merges all operands since the last put, flush or
    /// compaction of it.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_with(key, operand, self.db.engine().options.durability)
    }

    /// Merges `operand` into the value of `key`, with the given durability. See
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
        self.core.check_merges()?;
        self.write(EntryKind::Merge, key.as_ref(), operand.as_ref(), durability)
    }

    /// Removes `key`, which was put once since it was last removed, or never. The put and this
    /// delete vanish together in the first compaction that meets both, where a
    /// [`Keyspace::delete`] stays until the last level.
    ///
    /// **For keys that are put once and deleted once.** If the key was put more than once since it
    /// was last removed, or got operands, or is deleted by both kinds of delete, an older value
    /// may come back later; nothing else is harmed.
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn single_delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.single_delete_with(key, self.db.engine().options.durability)
    }

    /// Removes `key`, which was put once, with the given durability. See
    /// [`Keyspace::single_delete`].
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with).
    pub fn single_delete_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.write(EntryKind::SingleDelete, key.as_ref(), &[], durability)
    }

    /// Removes every key of `range`, whether any is there or not. A range that no key can lie in
    /// removes nothing, and nothing is written.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with); `InvalidInput` also if the range ends
    /// before it starts, or a bound is longer than keys may be.
    ///
    /// # Cost
    /// That of one small write, whatever the range holds. Reads jump over what it hides; tables
    /// that it covers are dropped without being read.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.delete_range_with(range, self.db.engine().options.durability)
    }

    /// Removes every key of `range`, with the given durability. See [`Keyspace::delete_range`].
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub fn delete_range_with<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        durability: Durability,
    ) -> Result<()> {
        match DeletedRange::of(&self.core, &range)? {
            Some(DeletedRange { start, end }) => {
                let (keyspace, kind) = (self.core.id, EntryKind::RangeTombstone);
                let operation = Operation { keyspace, kind, key: &start, value: &end };
                self.commit_one(durability, |out| operation.encode(out))
            }
            None => self.db.engine().check_writable(),
        }
    }

    fn write(
        &self,
        kind: EntryKind,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<()> {
        let key = &*self.core.stored_key(key)?;
        let operation = Operation { keyspace: self.core.id, kind, key, value };
        self.commit_one(durability, |out| operation.encode(out))
    }

    /// Puts a value that expires so many milliseconds after the epoch.
    fn write_expiring(
        &self,
        key: &[u8],
        value: &[u8],
        expiry: u64,
        durability: Durability,
    ) -> Result<()> {
        let key = &*self.core.stored_key(key)?;
        self.commit_one(durability, |out| {
            Operation::encode_expiring(self.core.id, (key, value), expiry, out)
        })
    }

    fn commit_one(
        &self,
        durability: Durability,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        // A thread that is ending has none: `take` would panic there.
        let mut operations = SCRATCH.try_with(RefCell::take).unwrap_or_default();
        operations.clear();
        let result = encode(&mut operations).and_then(|()| {
            self.db.engine().commit(Request {
                operations: &operations,
                count: 1,
                keyspaces: std::slice::from_ref(&self.core),
                durability,
            })
        });
        if operations.capacity() <= KEPT_BYTES_MAX {
            SCRATCH.try_with(|scratch| scratch.replace(operations)).ok();
        }
        result
    }

    /// The value of `key`; `None` if it has none.
    ///
    /// # Errors
    /// - `InvalidInput`: the key is too long.
    /// - `Corruption`, `Io`: a table that may hold the key cannot be read.
    /// - `UserCode`: the key has operands, and the merge operator was not given or failed.
    /// - `Closed`.
    ///
    /// # Cost
    /// One search in each memtable, and in each run whose filter does not rule the key out. A
    /// value of less than a kilobyte is copied; a larger one is handed out where it lies.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.db.engine().get(&self.core, key.as_ref(), None)
    }

    /// Hands the value of `key` to `use_value` where it lies: no copy and no allocation. `None` if
    /// there is no value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let use_found = |found: Found<'_>| use_value(found.as_bytes());
        self.db.engine().get_with(&self.core, key.as_ref(), None, use_found)
    }

    /// Replaces the contents of `buffer` by the value of `key`, and says whether there is one.
    /// Allocates only if the buffer is too small.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; the buffer is then empty.
    pub fn get_into(&self, key: impl AsRef<[u8]>, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.clear();
        let found = self.get_with(key, |value| buffer.extend_from_slice(value))?;
        Ok(found.is_some())
    }

    /// The values of `keys`, in their order, all as of one moment.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.db.engine().multi_get(&self.core, keys, None)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.db.engine().contains(&self.core, key.as_ref(), None)
    }

    /// The entries whose keys lie in `range`, in order, from both ends, as of now. A range that ends
    /// before it starts has none.
    ///
    /// Where the type of the keys cannot be told from the range, as of `..` and of a pair of bounds
    /// of references, it has to be named.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// use std::ops::Bound;
    ///
    /// let db = esker::Db::in_memory()?;
    /// for word in ["ant", "bee", "cat", "dog"] {
    ///     db.put(word, "animal")?;
    /// }
    /// assert_eq!(db.scan("b"..="cat").count(), 2);
    /// assert_eq!(db.scan::<&str>(..).count(), 4);
    /// let behind = (Bound::Excluded("bee"), Bound::Unbounded);
    /// assert_eq!(db.scan::<&str>(behind).count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        Scan::new(self.db.engine(), &self.core, self.core.stored_range(&range), None)
    }

    /// The entries whose keys start with `prefix`, exactly those.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::of_prefix(self.db.engine(), &self.core, prefix.as_ref(), None)
    }

    /// Every entry.
    pub fn iter(&self) -> Scan {
        Scan::new(self.db.engine(), &self.core, Ok(KeyRange::all()), None)
    }

    /// A cursor over every entry, as of now.
    ///
    /// # Errors
    /// `Closed`.
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(self.db.engine(), &self.core, KeyRange::all(), None)
    }

    /// A cursor that stays inside `range`, and looks only at tables that overlap it.
    ///
    /// # Errors
    /// `Closed`.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Cursor> {
        Cursor::new(self.db.engine(), &self.core, self.core.stored_range(&range)?, None)
    }

    /// Writes everything in memory to tables, and returns when they are durable.
    ///
    /// # Errors
    /// If a table or the manifest cannot be written; what was in memory still is, and in the log.
    pub fn flush(&self) -> Result<()> {
        self.db.engine().flush(&self.core)
    }

    /// Rewrites all tables that hold a key of `range` into the deepest level, on this thread:
    /// afterwards no deleted or overwritten entry of the range takes space, but for those that a
    /// snapshot sees. Memtables are flushed first. Under policies that keep ages apart, `Fifo` and
    /// `TimeWindow`, that is all.
    ///
    /// # Errors
    /// If a table cannot be read or written; the tree is then somewhere between before and after.
    pub fn compact<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.db.engine().compact(&self.core, &self.core.stored_range(&range)?)
    }

    /// Starts what [`Keyspace::compact`] does, in the background, and returns at once. It runs beside
    /// automatic compactions, on tables that those do not use, and after them: whenever one is wanted,
    /// it is done first. What is written after the start may or may not be compacted with the rest.
    ///
    /// Without [background threads](crate::Options::background_threads), it is done step by step by
    /// [`Db::run_background_job`](crate::Db::run_background_job) or [`CompactionHandle::wait`].
    ///
    /// # Errors
    /// `Closed`, `ReadOnly`, `Poisoned`, `InvalidInput` if the order of the keys is not known. Later ones
    /// are for [`CompactionHandle::wait`].
    pub fn start_compaction<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<CompactionHandle> {
        let range = self.core.stored_range(&range)?;
        let task = self.db.engine().start_compaction(&self.core, &range)?;
        Ok(CompactionHandle::new(Arc::clone(&self.db), task))
    }

    /// About how many bytes of tables and blob files hold the entries of `range`, as they are stored:
    /// compressed, and with what was overwritten and not compacted yet. What is in memory does not count.
    ///
    /// # Errors
    /// If the index of a table cannot be read; `Closed`.
    ///
    /// # Cost
    /// Of tables at the ends of the range the index is read, of the others nothing.
    pub fn approximate_bytes<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.db.engine().approximate_bytes(&self.core, &self.core.stored_range(&range)?)
    }

    /// The shape of the tree.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.db.engine().levels(&self.core)
    }

    /// What the keyspace would cost under `alternatives`, beside its live options, if writes went on
    /// as before: the flushes that are known of are replayed over the tree as it is, through the very
    /// functions that plan compactions, 256 flushes far. Of options, the policy and the size of a
    /// memtable count. See [`WhatIf`] for what is known of the past, and docs/TUNING.md for what the
    /// figures leave out.
    ///
    /// # Errors
    /// `InvalidInput` if options are not possible; `Closed` of a keyspace that was dropped; of the
    /// system, if the directory cannot be read.
    ///
    /// # Cost
    /// Reads at most two manifests, and no table. Computes for a time that grows with tables and
    /// policies: milliseconds for a small tree, seconds for one of thousands of tables.
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

    /// As [`Keyspace::what_if`], so many flushes far: of the live size; larger ones are fewer.
    ///
    /// # Errors
    /// As [`Keyspace::what_if`]; `InvalidInput` unless `flushes` is from 1 to 100,000.
    pub fn what_if_after(&self, alternatives: &[KeyspaceOptions], flushes: u64) -> Result<WhatIf> {
        self.db.engine().what_if(&self.core, alternatives, flushes)
    }

    /// How [`Keyspace::get`] finds `key`: everything that is looked at or left out, and why.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetExplanation> {
        self.db.engine().explain_get(&self.core, key.as_ref())
    }

    /// How a scan of `range` works: what it merges and leaves out. Runs the scan to its end, or
    /// over the first `limit` entries.
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
