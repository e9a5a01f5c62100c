//! Writes the tables that a repair makes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{BlobFileId, FileId, Fragments, InternalKey, KeyspaceId, OwnerId, TableId};
use esker_table::{
    BlobFileFacts, TableBuilder, TableContext, TableIdentity, TableOptions, TableProperties,
    TableTimes,
};

use super::blob_check::blob_files_of;
use super::scratch::outlined;
use crate::error::Result;
use crate::recovery::orphans::UNFINISHED_SUFFIX;

/// A table that has reached this many bytes is ended.
const TABLE_BYTES_MAX: u64 = 64 << 20;

/// Allocates ids that no file has had.
#[derive(Debug)]
pub(super) struct Ids {
    first: u64,
    next: u64,
}

impl Ids {
    /// From `next` on.
    pub(super) const fn new(next: u64) -> Self {
        Self { first: next, next }
    }

    pub(super) const fn mint(&mut self) -> FileId {
        self.next += 1;
        FileId { owner: OwnerId::FIRST, counter: self.next - 1 }
    }

    /// Whether the id was allocated here.
    pub(super) fn has_minted(&self, id: FileId) -> bool {
        id.owner == OwnerId::FIRST && (self.first..self.next).contains(&id.counter)
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }
}

/// Takes entries in order, and writes disjoint tables. A file gets the name of a table only once it
/// is complete and durable, so that a crash leaves no partial table under such a name. The names
/// are durable once the directory is synced.
pub(super) struct NewTables<'a> {
    context: &'a Arc<TableContext>,
    ids: &'a mut Ids,
    keyspace: KeyspaceId,
    level: u8,
    options: TableOptions,
    builder: Option<TableBuilder>,
    /// The file of the unfinished table.
    unfinished: Option<PathBuf>,
    /// The blob files that entries may refer to.
    blobs: BTreeMap<BlobFileId, BlobFileFacts>,
    last_key: Vec<u8>,
    /// Range tombstones of all tables, and where those that are not written yet start.
    ranges: Fragments,
    range_start: Vec<u8>,
    /// When the entries were written, if known.
    times: Option<TableTimes>,
    /// Nobody reads the values.
    is_outline: bool,
    finished: Vec<TableProperties>,
}

impl<'a> NewTables<'a> {
    pub(super) fn new(
        context: &'a Arc<TableContext>,
        ids: &'a mut Ids,
        keyspace: KeyspaceId,
        level: u8,
        options: TableOptions,
    ) -> Self {
        Self {
            context,
            ids,
            keyspace,
            level,
            options,
            builder: None,
            unfinished: None,
            blobs: BTreeMap::new(),
            last_key: Vec::new(),
            ranges: Fragments::default(),
            range_start: Vec::new(),
            times: None,
            is_outline: false,
            finished: Vec::new(),
        }
    }

    /// The same with these range tombstones, all of which have an end.
    pub(super) fn with_ranges(mut self, ranges: Fragments) -> Self {
        self.ranges = ranges;
        self
    }

    /// The same of entries that were written then.
    pub(super) fn with_times(mut self, times: Option<TableTimes>) -> Self {
        self.times = times;
        self
    }

    /// The same without values, if `is_outline`.
    pub(super) const fn outlined(mut self, is_outline: bool) -> Self {
        self.is_outline = is_outline;
        self
    }

    /// Entries may refer to the blob files that entries of `table` refer to.
    pub(super) fn know_blob_files(&mut self, table: &TableProperties) {
        self.blobs.extend(blob_files_of(table).map(|facts| (facts.id, facts)));
    }

    /// Adds an entry, after all that were added before.
    pub(super) fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<()> {
        let is_full = |builder: &TableBuilder| TABLE_BYTES_MAX <= builder.estimated_file_bytes();
        if self.builder.as_ref().is_some_and(is_full) && self.last_key != key.user_key {
            self.end_table(key.user_key)?;
        }
        if self.builder.is_none() {
            self.start_table()?;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key.user_key);
        let builder = self.builder.as_mut().expect("a table was just started");
        let value = if self.is_outline { outlined(key.kind(), value) } else { value };
        Ok(builder.add(key, value)?)
    }

    fn start_table(&mut self) -> Result<()> {
        let id = TableId(self.ids.mint());
        let path = unfinished(self.context, id);
        if self.context.fs.exists(&path)? {
            self.context.fs.remove(&path)?;
        }
        let file = self.context.fs.create(&path)?;
        self.unfinished = Some(path);
        let (database, keyspace, level) = (self.context.database, self.keyspace, self.level);
        let identity = TableIdentity { database, id, keyspace, level };
        self.builder = Some(TableBuilder::new(file, identity, self.options.clone()));
        Ok(())
    }

    /// Ends the table before `end`, which is empty if no other follows.
    fn end_table(&mut self, end: &[u8]) -> Result<()> {
        let ranges = self.ranges.clipped(&self.range_start, end);
        if self.builder.is_none() && !ranges.is_empty() {
            self.start_table()?;
        }
        if let Some(mut builder) = self.builder.take() {
            builder.set_ranges(ranges);
            self.times.into_iter().for_each(|times| builder.set_times(times));
            self.range_start = end.to_vec();
            self.blobs.values().for_each(|facts| builder.know_blob_file(*facts));
            let table = builder.finish()?;
            let path = self.context.dir.join(table.id.file_name());
            self.context.fs.rename(&unfinished(self.context, table.id), &path)?;
            self.unfinished = None;
            self.finished.push(table);
        }
        Ok(())
    }

    /// Finishes the last table, and returns all.
    pub(super) fn finish(mut self) -> Result<Vec<TableProperties>> {
        self.end_table(&[])?;
        Ok(std::mem::take(&mut self.finished))
    }
}

impl Drop for NewTables<'_> {
    /// After a failure: an unfinished file takes space on a disk that may be full.
    fn drop(&mut self) {
        if let Some(path) = self.unfinished.take() {
            // Best effort: the next open removes it.
            drop(self.context.fs.remove(&path));
        }
    }
}

/// Where a table is written until it is whole.
fn unfinished(context: &TableContext, id: TableId) -> PathBuf {
    context.dir.join(format!("{}{UNFINISHED_SUFFIX}", id.file_name()))
}
