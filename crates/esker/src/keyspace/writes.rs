//! Writes to one keyspace, one at a time.
//!
//! Promises that an operation is encoded once, with its key in the keyspace's order. Does not know
//! how it is committed.

use std::cell::RefCell;
use std::ops::RangeBounds;
use std::time::Duration;

use esker_base::EntryKind;

use super::Keyspace;
use crate::commit_queue::waiter::Request;
use crate::deleted_range::DeletedRange;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::operation::Operation;
use crate::options::Durability;

thread_local! {
    /// Single writes are encoded here, so that they need no allocation each. Never holds more than
    /// `KEPT_BYTES_MAX` between writes.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const KEPT_BYTES_MAX: usize = 64 << 10;

impl Keyspace {
    /// Sets `key` to `value`; it expires if the keyspace has a
    /// [`default_ttl`](crate::KeyspaceOptions::default_ttl).
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

    /// Sets `key` to `value` for the duration `ttl`: after that, to the millisecond, every read
    /// finds no value, whatever the key had before. The keyspace's
    /// [`default_ttl`](crate::KeyspaceOptions::default_ttl) is ignored. A ttl too long to be
    /// represented never ends.
    ///
    /// Goes by the wall clock. If that is set back while the database is open, expiry does not
    /// follow, so that expired values stay expired. A [`Snapshot`](crate::Snapshot) and a cursor
    /// keep the time at which they were created. Compaction frees the space, and drops whole tables
    /// unread when everything in them has expired.
    ///
    /// Operands merged into a value do not expire with it: from then on they are merged with
    /// nothing.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability); use a [`Batch`](crate::Batch)
    /// for another.
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

    /// Sets `key` to `value` until `expiry`, or for good with [`Expiry::Never`], whatever the
    /// keyspace's [`default_ttl`](crate::KeyspaceOptions::default_ttl). See
    /// [`Keyspace::put_with_ttl`].
    ///
    /// # Durability
    /// As [`Keyspace::put_with_ttl`].
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

    /// When the present value of `key` expires; `None` if it has none. For operands merged into an
    /// expiring value, when that value does.
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
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
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

    /// Merges `operand` into the value of `key`: from now on its value is the old one and this
    /// operand, combined by the [merge operator](crate::KeyspaceOptions::merge_operator). Reads
    /// nothing.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
    ///
    /// # Errors
    /// `InvalidInput` if the keyspace has no merge operator; otherwise as
    /// [`Batch::commit_with`](crate::Batch::commit_with). An operand that the operator rejects is
    /// an error for whoever reads the key.
    ///
    /// # Cost
    /// That of a put. A read of the key merges all operands written since its last put. A flush or
    /// compaction joins those that it meets, if the operator is associative or it also meets the
    /// value beneath them; others stay one by one.
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

    /// Removes `key`, which must have been put at most once since it was last removed. The first
    /// compaction that meets both drops the put and this delete together; the tombstone of a
    /// [`Keyspace::delete`] stays until the last level.
    ///
    /// **For keys that are put once and deleted once.** If the key was put more than once since it
    /// was last removed, or got operands, or is deleted by both kinds of delete, an older value
    /// may come back later; nothing else is harmed.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
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

    /// Removes every key of `range`, whether or not there are any. If no key can lie in the range,
    /// nothing is written.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
    ///
    /// # Errors
    /// As [`Batch::commit_with`](crate::Batch::commit_with); `InvalidInput` also if the range ends
    /// before it starts, or a bound is longer than keys may be.
    ///
    /// # Cost
    /// That of one small write, whatever the range holds. Reads jump over hidden entries; tables
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
            None => {
                self.core.check_live()?;
                let (operations, keyspaces) = (&[][..], &[][..]);
                let nothing = Request { operations, count: 0, keyspaces, durability };
                self.db.engine().commit(nothing)
            }
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
}
