//! Writes tables outside any database, for [`Db::ingest`](crate::Db::ingest).
//!
//! Knows no database: the file gets a random identity of its own, and its checksums are bound to
//! that.

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

use esker_base::{
    DatabaseId, EntryKind, FileId, Fragments, InternalKey, KeyspaceId, OwnerId, RangeTombstone,
    SeqNo, TableId,
};
use esker_env::Env;
use esker_table::{Origin, PrefixRule, TableBuilder, TableIdentity, TableOptions};

use crate::deleted_range::DeletedRange;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::key_order::Order;
use crate::operation::{check_expiring_value, check_key, check_value};
use crate::options::Compression;

/// The layout of a table, and the keyspace that it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableWriterOptions {
    /// Compression of its blocks. Default LZ4.
    pub compression: Compression,
    /// Size of a block before compression, in bytes: from 256 to 1 MiB. Default 4096.
    pub block_size_bytes: u32,
    /// Bits of filter per key, at most 64; 0 for no filter. Default 10.
    pub filter_bits_per_key: u32,
    /// Which key prefixes the filter holds besides whole keys: see
    /// [`KeyspaceOptions::prefix_filter`](crate::KeyspaceOptions::prefix_filter). Default none.
    pub prefix_filter: Option<PrefixRule>,
    /// The key order, which must be that of the keyspace. Default: bytewise.
    pub order: Order,
    /// The only keyspace that accepts the table. Default: any; an empty name, which no keyspace
    /// has, also means any.
    pub keyspace: Option<String>,
}

impl Default for TableWriterOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            block_size_bytes: 4096,
            filter_bits_per_key: 10,
            prefix_filter: None,
            order: Order::bytewise(),
            keyspace: None,
        }
    }
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFile {
    /// The file, as an absolute path.
    pub path: PathBuf,
    /// Entries in it, including deletes but not range deletes.
    pub entries: u64,
    /// Ranges that it deletes; those that overlap or touch count as one.
    pub deleted_ranges: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The first key of an entry, or of a range that is deleted.
    pub smallest: Vec<u8>,
    /// The last key of an entry, or the end of the last deleted range if that comes after it.
    pub largest: Vec<u8>,
}

/// Writes one table file, entry by entry in ascending order of keys.
///
/// When the table is ingested, everything in it takes effect at one moment, after everything that
/// the keyspace had before. A range delete removes only what was there before the table; the
/// table's own entries stay, whatever the order in which they were added.
///
/// Tables should have at most a few hundred megabytes: several smaller ones can each be placed and
/// compacted separately. A writer that is dropped before [`TableWriter::finish`] removes its file.
///
/// # Examples
/// ```
/// # fn main() -> esker::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("esker-doc-ingest-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// let path = dir.join("words.table");
/// let mut writer = esker::TableWriter::create(&path, Default::default())?;
/// writer.put("ant", "1")?;
/// writer.put("bee", "2")?;
/// assert_eq!(writer.finish()?.entries, 2);
///
/// let db = esker::Db::open(dir.join("db"))?;
/// db.ingest(db.default_keyspace(), &[&path], Default::default())?;
/// assert_eq!(db.get("bee")?.unwrap(), "2");
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TableWriter {
    env: Env,
    path: PathBuf,
    /// `None` once it is finished.
    builder: Option<TableBuilder>,
    order: Order,
    /// The only keyspace that accepts the table; empty for any.
    keyspace: String,
    /// As it is stored.
    last_key: Vec<u8>,
    /// Buffer for encoding keys whose order is not bytewise.
    stored: Vec<u8>,
    /// Buffer for assembling values that expire.
    value: Vec<u8>,
    has_operands: bool,
    ranges: Vec<RangeTombstone>,
}

impl TableWriter {
    /// Creates the file `path`, which must not exist.
    ///
    /// # Errors
    /// `Io` if it cannot be created; `InvalidInput` for options that make no sense.
    pub fn create(path: impl AsRef<Path>, options: TableWriterOptions) -> Result<Self> {
        Self::create_in(&Env::os(), path, options)
    }

    /// As [`TableWriter::create`], in the file system of `env`.
    ///
    /// # Errors
    /// As [`TableWriter::create`].
    pub fn create_in(
        env: &Env,
        path: impl AsRef<Path>,
        options: TableWriterOptions,
    ) -> Result<Self> {
        crate::options::check_layout(options.block_size_bytes, options.filter_bits_per_key)
            .map_err(Error::invalid_input)?;
        crate::options::check_prefix(options.prefix_filter).map_err(Error::invalid_input)?;
        options.order.check().map_err(Error::invalid_input)?;
        options.order.check_known().map_err(Error::invalid_input)?;
        // The process may change its directory before the table is finished, or dropped and
        // removed.
        let path = env.fs.absolute(path.as_ref())?;
        let mut database = [0; 16];
        env.random.fill(&mut database);
        let identity = TableIdentity {
            database: DatabaseId(database),
            id: TableId(FileId { owner: OwnerId::FIRST, counter: 1 }),
            keyspace: KeyspaceId::DEFAULT,
            level: 0,
        };
        let layout = TableOptions {
            block_size_bytes: options.block_size_bytes as usize,
            compression: options.compression.of_tables(),
            filter_bits_per_key: options.filter_bits_per_key,
            prefix_rule: options.prefix_filter,
            ..TableOptions::default()
        };
        let file = env.fs.create(&path)?;
        Ok(Self {
            env: env.clone(),
            path,
            builder: Some(TableBuilder::new(file, identity, layout)),
            order: options.order,
            keyspace: options.keyspace.unwrap_or_default(),
            last_key: Vec::new(),
            stored: Vec::new(),
            value: Vec::new(),
            has_operands: false,
            ranges: Vec::new(),
        })
    }

    /// Sets `key` to `value`, once the table is ingested.
    ///
    /// # Errors
    /// - `InvalidInput`: the key does not follow the last one, or key or value is too long.
    ///   Nothing was added; the writer can go on.
    /// - `Io`, `NoSpace`: the file could not be written; the writer can no longer be used.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.add(EntryKind::Put, key.as_ref(), value.as_ref())
    }

    /// Sets `key` to `value` until `expiry`, as [`Keyspace::put_with_expiry`] does. A
    /// [`put`](TableWriter::put) never expires, whatever the default of the keyspace.
    ///
    /// # Errors
    /// As [`TableWriter::put`].
    ///
    /// [`Keyspace::put_with_expiry`]: crate::Keyspace::put_with_expiry
    pub fn put_with_expiry(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expiry: Expiry,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let Some(millis) = expiry.millis() else {
            return self.add(EntryKind::Put, key, value);
        };
        check_expiring_value(value)?;
        let mut stored = std::mem::take(&mut self.value);
        stored.clear();
        stored.extend_from_slice(&millis.to_le_bytes());
        stored.extend_from_slice(value);
        let added = self.add(EntryKind::ExpiringPut, key, &stored);
        self.value = stored;
        added
    }

    /// Merges `operand` into the value of `key`, once the table is ingested. A keyspace without a
    /// merge operator refuses the table.
    ///
    /// # Errors
    /// As [`TableWriter::put`].
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.add(EntryKind::Merge, key.as_ref(), operand.as_ref())?;
        self.has_operands = true;
        Ok(())
    }

    /// Removes `key`, once the table is ingested.
    ///
    /// # Errors
    /// As [`TableWriter::put`].
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.add(EntryKind::Tombstone, key.as_ref(), &[])
    }

    /// Removes `key`, which was put at most once since it was last removed, once the table is
    /// ingested, as [`Keyspace::single_delete`](crate::Keyspace::single_delete) does.
    ///
    /// # Errors
    /// As [`TableWriter::put`].
    pub fn single_delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.add(EntryKind::SingleDelete, key.as_ref(), &[])
    }

    /// Removes all keys of `range` that the keyspace has when the table is ingested. Ranges may be
    /// added in any order, also between entries; the table's own entries stay.
    ///
    /// # Errors
    /// `InvalidInput`: the range has no end, ends before it starts, or has a bound that is too long.
    /// Nothing was added; the writer goes on. A range that includes the last possible key, which is
    /// stored as 65,535 bytes of 255, counts as one without an end.
    ///
    /// # Cost
    /// Both bounds are kept in memory until [`TableWriter::finish`].
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, range: impl RangeBounds<K>) -> Result<()> {
        let order = &self.order;
        let stored = |key: &[u8]| -> Result<Vec<u8>> {
            let mut stored = Vec::new();
            match order.code() {
                Some(code) => code.encode(key, &mut stored),
                None => stored.extend_from_slice(key),
            }
            check_key(&stored)?;
            Ok(stored)
        };
        let Some(DeletedRange { start, end }) = DeletedRange::of_bounds(&range, stored)? else {
            return Ok(());
        };
        if end.is_empty() {
            return Err(Error::invalid_input("a range that a table deletes has an end"));
        }
        self.ranges.push(RangeTombstone { start, end, seqno: SeqNo::ZERO });
        Ok(())
    }

    fn add(&mut self, kind: EntryKind, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(code) = self.order.code() {
            self.stored.clear();
            code.encode(key, &mut self.stored);
        }
        let stored = if self.order.is_bytewise() { key } else { &self.stored };
        check_key(stored)?;
        check_value(value)?;
        let builder = self.builder.as_mut().expect("a writer that is finished is gone");
        if builder.entry_count() > 0 && stored <= self.last_key.as_slice() {
            return Err(Error::invalid_input(format!(
                "key \"{}\" does not follow \"{}\": a table takes each key once, in ascending order",
                key.escape_ascii(),
                self.user_key(&self.last_key).escape_ascii()
            )));
        }
        builder.add(InternalKey::new(stored, SeqNo::ZERO, kind), value)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(stored);
        Ok(())
    }

    /// The key whose encoding is `stored`.
    fn user_key(&self, stored: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        match self.order.code() {
            Some(code) if code.decode(stored, &mut key).is_ok() => key,
            _ => stored.to_vec(),
        }
    }

    /// Entries added; deleted ranges do not count.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.builder.as_ref().map_or(0, TableBuilder::entry_count)
    }

    /// About how long the file would be if it were finished now.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        self.builder.as_ref().map_or(0, TableBuilder::estimated_file_bytes)
    }

    /// Finishes the table.
    ///
    /// # Durability
    /// The file survives loss of power once this returns.
    ///
    /// # Errors
    /// `InvalidInput` if it has neither an entry nor a range to delete; `Io`, `NoSpace`. The file is
    /// removed then.
    pub fn finish(mut self) -> Result<TableFile> {
        if self.entry_count() == 0 && self.ranges.is_empty() {
            let what = "a table has at least one entry, or range to delete";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        let origin = Origin::External {
            order: self.order.name().to_owned(),
            keyspace: std::mem::take(&mut self.keyspace),
            has_operands: self.has_operands,
        };
        let ranges = Fragments::of(std::mem::take(&mut self.ranges));
        let deleted_ranges = ranges.as_slice().len() as u64;
        let mut builder = self.builder.take().expect("a writer is finished once");
        builder.set_ranges(ranges);
        let finished =
            builder.from_origin(origin).finish().map_err(Error::from).and_then(|properties| {
                self.env.fs.sync_dir(parent(&self.path))?;
                Ok(properties)
            });
        let properties = finished.inspect_err(|_| self.remove())?;
        Ok(TableFile {
            path: std::mem::take(&mut self.path),
            entries: properties.entry_count,
            deleted_ranges,
            bytes: properties.file_bytes,
            smallest: self.user_key(&properties.smallest_key),
            largest: self.user_key(&properties.largest_key),
        })
    }

    /// Best effort: the caller has another error to report, or nobody to report to.
    fn remove(&self) {
        drop(self.env.fs.remove(&self.path));
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if self.builder.take().is_some() {
            self.remove();
        }
    }
}

/// The directory that `path` lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
