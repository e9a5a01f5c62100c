//! Reads through a batch that is not committed yet.
//!
//! The batch's writes to one key are replayed into a temporary memtable on top of the keyspace's
//! value, which is then read like any memtable. So operands, expiry and range deletes mean what
//! they will mean once the batch is committed.

use std::sync::Arc;

use esker_base::coding::Decoder;
use esker_base::{EntryKind, KeyspaceId, SeqNo, is_before_end};
use esker_tree::Version;

use crate::batch::Batch;
use crate::bytes::Value;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::{ReadView, WriteBuffer};
use crate::operation::Operation;

impl Batch {
    /// The value of `key` in `keyspace` as it is now, with the batch's writes so far applied.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `InvalidInput` also if a write of the batch was refused, or the keyspace
    /// is of another database.
    ///
    /// # Cost
    /// Looks through all writes of the batch; reads from the keyspace only if none of them decides
    /// the value.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// let db = esker::Db::in_memory()?;
    /// let words = db.default_keyspace();
    /// db.put("ant", "1")?;
    /// let mut batch = db.batch();
    /// batch.put(words, "bee", "2");
    /// batch.delete(words, "ant");
    /// assert_eq!(batch.get(words, "bee")?.unwrap(), "2");
    /// assert!(batch.get(words, "ant")?.is_none());
    /// assert!(db.get("bee")?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (engine, operations) = self.content()?;
        let core = keyspace.core_in(engine)?;
        let key = key.as_ref();
        let stored = core.stored_key(key)?;
        let writes = writes_to(operations, core.id, &stored)?;
        if writes.first().is_none_or(|(kind, _)| *kind == EntryKind::Merge) {
            let below = engine.get(core, key, None)?;
            if writes.is_empty() {
                return Ok(below);
            }
            let below = below.as_deref().map(|value| (EntryKind::Put, value));
            return engine.get_above(core, &stored, below.into_iter().chain(writes));
        }
        engine.get_above(core, &stored, writes.into_iter())
    }
}

/// The writes of a batch to the stored key `key`, oldest first, starting with the last one that
/// does not depend on the previous value.
fn writes_to<'a>(
    operations: &'a [u8],
    keyspace: KeyspaceId,
    key: &[u8],
) -> Result<Vec<(EntryKind, &'a [u8])>> {
    let mut decoder = Decoder::new(operations);
    let mut writes = Vec::new();
    while !decoder.is_empty() {
        let operation = Operation::decode(&mut decoder).map_err(|error| {
            Error::invalid_input(format!("the batch is damaged: {}", error.what))
        })?;
        if operation.keyspace != keyspace {
            continue;
        }
        let (kind, value) = match operation.kind {
            EntryKind::RangeTombstone => {
                if key < operation.key || !is_before_end(key, operation.value) {
                    continue;
                }
                (EntryKind::Tombstone, &[][..])
            }
            _ if operation.key != key => continue,
            kind => (kind, operation.value),
        };
        if kind != EntryKind::Merge {
            writes.clear();
        }
        writes.push((kind, value));
    }
    Ok(writes)
}

impl Engine {
    /// The value that `writes`, the oldest first, give to a stored key.
    fn get_above<'a>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        writes: impl Iterator<Item = (EntryKind, &'a [u8])>,
    ) -> Result<Option<Value>> {
        let buffer = WriteBuffer::new(&self.budget);
        let mut seqno = SeqNo::ZERO;
        for (kind, value) in writes {
            seqno = seqno.plus(1);
            buffer.memtable.writer().insert(key, seqno, kind, value);
        }
        let version = Arc::new(Version::new(keyspace.id));
        let view = ReadView { active: buffer, immutables: Vec::new(), version };
        self.get_in(keyspace, &view, key, seqno)
    }
}
