//! A batch: writes to any keyspaces, applied together or not at all.

mod reads;

use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{EntryKind, KeyspaceId, limits};

use crate::commit_queue::waiter::Request;
use crate::deleted_range::DeletedRange;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::handle::Handle;
use crate::keyspace::Keyspace;
use crate::keyspace_core::KeyspaceCore;
use crate::operation::Operation;
use crate::options::Durability;

/// Writes that take effect together, in the order in which they were added, or not at all. Before
/// the commit, only [`Batch::get`] sees them. If none of its keyspaces has [a
/// log](crate::KeyspaceOptions::log), a crash may leave the part that some of them had flushed.
///
/// # Cost
/// Each write is encoded once, when it is added; committing copies the bytes into the log.
#[derive(Debug)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    db: Arc<Handle>,
    operations: Vec<u8>,
    count: u64,
    keyspaces: Vec<Arc<KeyspaceCore>>,
    /// The first write that was refused; committing returns it.
    refused: Option<Error>,
}

impl Batch {
    pub(crate) const fn new(db: Arc<Handle>) -> Self {
        Self { db, operations: Vec::new(), count: 0, keyspaces: Vec::new(), refused: None }
    }

    /// Sets `key` to `value` in `keyspace`. A key or value that is too long makes
    /// [`Batch::commit`] fail with nothing written. The keyspace's
    /// [`default_ttl`](crate::KeyspaceOptions::default_ttl) counts from this call.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        match keyspace.core().default_ttl() {
            None => self.add(keyspace, EntryKind::Put, key.as_ref(), value.as_ref()),
            Some(ttl) => self.put_with_ttl(keyspace, key, value, ttl),
        }
    }

    /// Sets `key` to `value` in `keyspace` for the duration `ttl`, counted from this call. See
    /// [`Keyspace::put_with_ttl`]. A ttl of zero makes [`Batch::commit`] fail with nothing written.
    pub fn put_with_ttl(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) {
        match keyspace.expiry_after(ttl) {
            Ok(expiry) => self.add_expiring(keyspace, key.as_ref(), value.as_ref(), expiry),
            Err(error) => drop(self.refused.get_or_insert(error)),
        }
    }

    /// Sets `key` to `value` in `keyspace` until `expiry`. See [`Keyspace::put_with_expiry`].
    pub fn put_with_expiry(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expiry: Expiry,
    ) {
        match expiry.millis() {
            None => self.add(keyspace, EntryKind::Put, key.as_ref(), value.as_ref()),
            Some(expiry) => self.add_expiring(keyspace, key.as_ref(), value.as_ref(), expiry),
        }
    }

    /// Removes `key` from `keyspace`, whether it is there or not.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.add(keyspace, EntryKind::Tombstone, key.as_ref(), &[]);
    }

    /// Merges `operand` into the value of `key` in `keyspace`. See [`Keyspace::merge`]. Without a
    /// merge operator [`Batch::commit`] fails with nothing written.
    pub fn merge(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        if let Err(error) = keyspace.core().check_merges() {
            self.refused.get_or_insert(error);
            return;
        }
        self.add(keyspace, EntryKind::Merge, key.as_ref(), operand.as_ref());
    }

    /// Removes `key`, which was put once, from `keyspace`. See [`Keyspace::single_delete`].
    pub fn single_delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.add(keyspace, EntryKind::SingleDelete, key.as_ref(), &[]);
    }

    /// Removes every key of `range` from `keyspace`: those that were there before the batch, and
    /// those that the batch has written so far. A range in which no key can lie adds nothing; one
    /// that ends before it starts, or has a bound that is too long for a key, makes
    /// [`Batch::commit`] fail with nothing written.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) {
        match DeletedRange::of(keyspace.core(), &range) {
            Ok(Some(DeletedRange { start, end })) => {
                let core = keyspace.core();
                let kind = EntryKind::RangeTombstone;
                let operation = Operation { keyspace: core.id, kind, key: &start, value: &end };
                self.add_stored(keyspace, |operations| operation.encode(operations));
            }
            Ok(None) => {}
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }

    fn add(&mut self, keyspace: &Keyspace, kind: EntryKind, key: &[u8], value: &[u8]) {
        self.add_encoded(keyspace, key, |keyspace, key, out| {
            Operation { keyspace, kind, key, value }.encode(out)
        });
    }

    fn add_expiring(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8], expiry: u64) {
        self.add_encoded(keyspace, key, |keyspace, key, out| {
            Operation::encode_expiring(keyspace, (key, value), expiry, out)
        });
    }

    /// Adds the operation that `encode` produces from the keyspace and the stored key.
    fn add_encoded(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        encode: impl FnOnce(KeyspaceId, &[u8], &mut Vec<u8>) -> Result<()>,
    ) {
        let core = keyspace.core();
        self.add_stored(keyspace, |operations| encode(core.id, &core.stored_key(key)?, operations));
    }

    fn add_stored(&mut self, keyspace: &Keyspace, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) {
        let core = keyspace.core();
        let result = if let Err(error) = keyspace.core_in(self.db.engine()) {
            Err(error)
        } else if self.count == limits::BATCH_COUNT_MAX {
            Err(Error::invalid_input("the batch has too many operations"))
        } else {
            encode(&mut self.operations)
        };
        if let Err(error) = result {
            self.refused.get_or_insert(error);
            return;
        }
        self.count += 1;
        // From the back: writes to one keyspace mostly come together.
        if !self.keyspaces.iter().rev().any(|known| known.id == core.id) {
            self.keyspaces.push(Arc::clone(core));
        }
    }

    /// The engine and the encoded writes.
    ///
    /// # Errors
    /// The error of the write that was refused; `Closed`.
    pub(crate) fn content(&self) -> Result<(&Arc<Engine>, &[u8])> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let engine = self.db.engine();
        engine.check_open()?;
        Ok((engine, &self.operations))
    }

    /// How many writes were added.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether no write was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the encoded writes, in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.operations.len()
    }

    /// Forgets all writes, and keeps the memory for new ones.
    pub fn clear(&mut self) {
        self.operations.clear();
        self.count = 0;
        self.keyspaces.clear();
        self.refused = None;
    }

    /// Applies all writes, or none of them.
    ///
    /// # Durability
    /// That of [`Options::durability`](crate::Options::durability).
    ///
    /// # Errors
    /// See [`Batch::commit_with`].
    pub fn commit(self) -> Result<()> {
        let durability = self.db.engine().options.durability;
        self.commit_with(durability)
    }

    /// Applies all writes, or none of them, with the given durability.
    ///
    /// # Durability
    /// Everything logged before is then at least as safe, even if the batch is empty.
    ///
    /// # Errors
    /// - `InvalidInput`: one of the writes was refused, or the sequence numbers are used up; nothing
    ///   was written.
    /// - `Io`, `NoSpace`: the log could not be written. [`Error::outcome`] says whether the batch
    ///   may be in it; if so, the database accepts no writes until it is reopened.
    /// - The error, of whatever kind, of a flush without which memory has no room for the batch:
    ///   one that found no space or keeps failing; nothing was written.
    /// - `Closed`, `ReadOnly`, `Poisoned`: nothing was written, unless the outcome is unknown, as
    ///   after a panic of the thread that was writing the batch.
    ///
    /// # Cost
    /// One copy into the log and one write to it, shared with the batches that other threads
    /// commit at the same time; one memtable insert for each write.
    pub fn commit_with(mut self, durability: Durability) -> Result<()> {
        self.commit_in_place(durability)
    }

    /// As [`Batch::commit_with`], but on success leaves the batch empty, with its memory, to be
    /// filled again.
    ///
    /// # Errors
    /// As [`Batch::commit_with`]; the batch is then as it was.
    pub fn commit_and_clear(&mut self, durability: Durability) -> Result<()> {
        self.commit_in_place(durability)?;
        self.clear();
        Ok(())
    }

    fn commit_in_place(&mut self, durability: Durability) -> Result<()> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        self.db.engine().commit(Request {
            operations: &self.operations,
            count: self.count,
            keyspaces: &self.keyspaces,
            durability,
        })
    }
}
