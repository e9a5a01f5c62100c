//! What the driver asks of every store.
//!
//! Each engine is opened in a process of its own. Threads work through sessions, so that an
//! engine that reads in transactions can keep one open. Scans are loops inside of the engine's
//! own file, so that no virtual call stands between two entries.

use std::path::PathBuf;
use std::time::Duration;

use crate::keys::Key;

/// Errors are only ever shown.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Reads that share one transaction, in engines that read in transactions.
#[cfg_attr(not(any(feature = "lmdb", feature = "redb")), expect(dead_code, reason = "see above"))]
pub(crate) const READS_PER_TRANSACTION: u32 = 1000;

/// Memory that every engine may use for memtables: one active and three waiting ones of 64 MiB.
pub(crate) const MEMTABLE_BYTES: usize = 64 << 20;

/// Entries in a batch where an engine loads many by batches.
const BULK_BATCH_COUNT: usize = 1000;

/// How to open an engine: the same for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) cache_bytes: u64,
    /// Whether each write waits for the device (D2) or only for the system (D1).
    pub(crate) syncs: bool,
    /// Whether keys are written in ascending order, for engines that can append.
    pub(crate) keys_ascend: bool,
    /// Whether compactions run by themselves, for engines that can do without.
    pub(crate) compacts: bool,
    /// An upper bound of what the files may hold, for engines that map them.
    pub(crate) file_bytes_max: u64,
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// What a scan has seen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) entries: u64,
    /// Depends on every entry, so that none can be left out.
    pub(crate) sum: u64,
}

impl Seen {
    #[inline]
    pub(crate) fn note(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        let last = value.last().copied().unwrap_or_default();
        self.sum = self.sum.wrapping_add(u64::from(key[0]) + u64::from(last) + value.len() as u64);
    }
}

/// An open store.
pub(crate) trait Engine: Send + Sync {
    /// A session for one thread.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Waits until no flush and no compaction runs or is due. Memtables stay. Returns how long it
    /// only looked on to be sure, where the engine can but be asked again and again.
    fn settle(&self) -> Result<Duration>;

    /// Writes memtables into tables, and waits for it.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Rewrites everything into its final place; `false` if the engine has no such thing.
    fn compact(&self) -> Result<bool>;

    /// Takes many entries at once that ascend and are all new. They survive loss of power at the end,
    /// unless the engine has nothing for it but batches: this is what happens here.
    fn bulk_load(&self, entries: &mut dyn Iterator<Item = (Key, &[u8])>) -> Result<()> {
        let mut session = self.session()?;
        loop {
            let taken: Vec<(Key, &[u8])> = entries.take(BULK_BATCH_COUNT).collect();
            if taken.is_empty() {
                return Ok(());
            }
            let batch: Vec<(&[u8], &[u8])> =
                taken.iter().map(|(key, value)| (&key[..], *value)).collect();
            session.put_batch(&batch)?;
        }
    }

    /// Closes it so that everything is there when it is opened again.
    fn close(self: Box<Self>) -> Result<()>;
}

/// The operations of one thread.
pub(crate) trait Session {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    fn delete(&mut self, key: &[u8]) -> Result<()>;

    /// Applies all or nothing.
    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()>;

    /// Hands the value of `key` to `use_value`; `false` if there is none.
    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// How many of `keys` exist; their values are looked at.
    fn multi_get(&mut self, keys: &[&[u8]]) -> Result<u64> {
        let mut found = 0;
        for key in keys {
            found += u64::from(self.get(key, &mut |value| {
                std::hint::black_box(value[0]);
            })?);
        }
        Ok(found)
    }

    /// Visits at most `limit` entries from `from` on, itself included, or from the end at which
    /// `direction` begins. Makes a new iterator.
    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen>;
}
