//! The tables that a flush or a compaction writes, with their blob files: cut at the right keys,
//! all or none.
//!
//! Unless the job completes, every file that it created is removed when it ends, however it ends. A
//! file that cannot be removed is left for the collection of unreferenced files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{BlobFileId, EntryKind, Fragments, InternalKey, TableId};
use esker_cache::{BlockCache, Charge, Owner};
use esker_env::FileSystem;
use esker_table::{
    CachedBlock, Dictionary, Ownership, Table, TableBuilder, TableContext, TableIdentity,
    TableOptions, TableProperties,
};

use crate::blob_account::BlobAccount;
use crate::blob_output::{BlobOutput, Placed};
use crate::job::{Job, JobError};
use crate::times::{Held, OutputTimes};

/// Where outputs are cut.
pub(crate) struct Cuts<'a> {
    /// No output holds entries on both sides of one of these: each starts an output. Ascending. Range
    /// tombstones with no entry between two cuts go with the next entries, or with the last ones.
    pub(crate) keys: &'a [Vec<u8>],
    /// Size, in bytes, at which an output is finished.
    pub(crate) bytes_max: u64,
}

/// Tables being written, ascending.
pub(crate) struct Outputs<'a> {
    job: Job<'a>,
    level: usize,
    options: TableOptions,
    dictionary: Option<Arc<Dictionary>>,
    keeps_blocks: bool,
    cuts: Cuts<'a>,
    times: OutputTimes<'a>,
    builder: Option<TableBuilder>,
    blobs: BlobOutput,
    /// What the builder holds in memory.
    charge: Charge,
    finished: Vec<TableProperties>,
    finished_bytes: u64,
    entry_count: u64,
    /// The range tombstones of all tables, and where those not written yet start.
    ranges: Fragments,
    range_start: Vec<u8>,
    /// Every file that was created.
    files: NewFiles,
}

/// Files of an unfinished job: removed when this is dropped, unless claimed.
pub(crate) struct NewFiles {
    fs: Arc<dyn FileSystem>,
    owned: Ownership,
    paths: Vec<PathBuf>,
    /// The cache that holds blocks of the tables.
    cache: Arc<BlockCache<CachedBlock>>,
    tables: Vec<TableId>,
}

impl NewFiles {
    fn none(context: &TableContext) -> Self {
        let (fs, cache) = (Arc::clone(&context.fs), Arc::clone(&context.cache));
        Self { fs, owned: context.owned.clone(), paths: Vec::new(), cache, tables: Vec::new() }
    }

    /// Keeps the files: the job is done.
    pub(crate) fn claim(mut self) {
        self.paths.clear();
        self.tables.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut self.paths);
        self.owned.while_owned(|| {
            // Best effort: the error that ended the job is the one to report.
            paths.iter().for_each(|path| drop(self.fs.remove(path)));
        });
        self.tables.drain(..).for_each(|table| self.cache.forget_file(table.0));
    }
}

/// Whether most of the data of `tables` is being read from the cache: then whatever replaces it or
/// is flushed above it will be too.
pub(crate) fn are_hot<'t>(tables: impl Iterator<Item = &'t Arc<Table>>) -> bool {
    let (mut bytes, mut hot_bytes) = (0_u64, 0_u64);
    for table in tables {
        let file_bytes = table.properties().file_bytes;
        bytes += file_bytes;
        hot_bytes += if table.is_hot() { file_bytes } else { 0 };
    }
    0 < hot_bytes && bytes <= hot_bytes.saturating_mul(2)
}

impl<'a> Outputs<'a> {
    /// `inputs` tells of the blob files that the inputs refer to.
    pub(crate) fn new(
        job: Job<'a>,
        level: usize,
        options: TableOptions,
        cuts: Cuts<'a>,
        times: OutputTimes<'a>,
        inputs: &BlobAccount,
    ) -> Self {
        Self {
            job,
            level,
            options,
            dictionary: None,
            keeps_blocks: false,
            cuts,
            times,
            builder: None,
            blobs: BlobOutput::new(job.blobs, inputs),
            charge: job.tables.budget.charge(Owner::Compaction, 0),
            finished: Vec::new(),
            finished_bytes: 0,
            entry_count: 0,
            ranges: Fragments::default(),
            range_start: Vec::new(),
            files: NewFiles::none(job.tables),
        }
    }

    /// Compresses the tables with `dictionary`, where they are compressed with Zstandard.
    pub(crate) fn with_dictionary(mut self, dictionary: Option<Arc<Dictionary>>) -> Self {
        self.dictionary = dictionary;
        self
    }

    /// Also puts data blocks into the cache if `keeps`, as far as there is room.
    pub(crate) const fn keeping_blocks(mut self, keeps: bool) -> Self {
        self.keeps_blocks = keeps;
        self
    }

    /// The same with these range tombstones, which are cut where tables are cut, so that tables
    /// stay disjoint. A table with range tombstones only comes last, if at all.
    pub(crate) fn with_ranges(mut self, ranges: Fragments) -> Self {
        self.ranges = ranges;
        self
    }

    /// Also moves the values in these blob files, which the inputs refer to, to new ones.
    pub(crate) fn clearing_blob_files(mut self, files: BTreeSet<BlobFileId>) -> Self {
        self.blobs.clear(files);
        self
    }

    /// Starts the entries of `user_key`: the only place where a table may end.
    #[inline]
    pub(crate) fn start_key(&mut self, user_key: &[u8]) -> Result<(), JobError> {
        let passed = self.cuts.keys.iter().take_while(|cut| cut.as_slice() <= user_key).count();
        let (passed_keys, keys) = self.cuts.keys.split_at(passed);
        self.cuts.keys = keys;
        match &self.builder {
            Some(builder)
                if passed > 0 || builder.estimated_file_bytes() >= self.cuts.bytes_max =>
            {
                self.finish_table(passed_keys.last().map_or(user_key, Vec::as_slice))
            }
            _ => Ok(()),
        }
    }

    /// Adds an entry of the key that was started.
    #[inline]
    pub(crate) fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), JobError> {
        self.entry_count += 1;
        if self.blobs.concerns(key.kind(), value) {
            return self.add_blob(key, value);
        }
        match &mut self.builder {
            Some(builder) => builder.add(key, value)?,
            None => self.start_table()?.add(key, value)?,
        }
        Ok(())
    }

    /// Adds an entry whose value is in a blob file, or will be.
    #[cold]
    fn add_blob(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), JobError> {
        if self.builder.is_none() {
            self.start_table()?;
        }
        let builder = self.builder.as_mut().expect("a table was started");
        let (user_key, seqno) = (key.user_key, key.seqno());
        match self.blobs.place(&self.job, key, value, &mut self.files.paths)? {
            Placed::AsItIs(value) => builder.add(key, value)?,
            Placed::Inline(value) => {
                builder.add(InternalKey::new(user_key, seqno, EntryKind::Put), &value)?;
            }
            Placed::Reference(value) => {
                builder.add(InternalKey::new(user_key, seqno, EntryKind::BlobReference), value)?;
            }
        }
        Ok(())
    }

    /// Bytes of tables and blob files that are written or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        let unfinished = self.builder.as_ref().map_or(0, TableBuilder::estimated_file_bytes);
        self.finished_bytes + unfinished + self.blobs.bytes()
    }

    /// Charges the memory held now; to be called about once per block.
    pub(crate) fn charge(&mut self) {
        let held = self.builder.as_ref().map_or(0, TableBuilder::memory_bytes);
        self.charge.set((held + self.blobs.memory_bytes()) as u64);
    }

    /// Entries added.
    pub(crate) const fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// Finishes the last table, makes the names of all files durable, and returns the tables, with
    /// the files to be claimed.
    pub(crate) fn finish(mut self) -> Result<(Vec<TableProperties>, NewFiles), JobError> {
        self.finish_table(&[])?;
        let counted: u64 = self.finished.iter().map(|table| table.entry_count).sum();
        assert_eq!(counted, self.entry_count, "outputs hold the entries that were added");
        if !self.finished.is_empty() && !esker_base::planted::is("skip-directory-sync") {
            self.job
                .tables
                .fs
                .sync_dir(&self.job.tables.dir)
                .map_err(esker_env::FileError::from)?;
        }
        Ok((self.finished, self.files))
    }

    #[cold]
    fn start_table(&mut self) -> Result<&mut TableBuilder, JobError> {
        let context = self.job.tables;
        let id = (self.job.next_id)().ok_or(JobError::Cancelled)?;
        let path = context.dir.join(id.file_name());
        let file = context.fs.create(&path).map_err(esker_env::FileError::from)?;
        self.files.paths.push(path);
        self.files.tables.push(id);
        let level = u8::try_from(self.level).expect("levels are few");
        let keyspace = self.job.keyspace;
        let identity = TableIdentity { database: context.database, id, keyspace, level };
        let builder = TableBuilder::new(Arc::clone(&file), identity, self.options.clone());
        let builder =
            if self.keeps_blocks { builder.keeping_blocks(&context.cache) } else { builder };
        Ok(self.builder.insert(builder.with_dictionary(self.dictionary.clone())))
    }

    /// Finishes the table before `end`, which is empty if no other table follows.
    #[cold]
    fn finish_table(&mut self, end: &[u8]) -> Result<(), JobError> {
        let ranges = self.ranges.clipped(&self.range_start, end);
        if self.builder.is_none() && end.is_empty() && !ranges.is_empty() {
            self.start_table()?;
        }
        let Some(mut builder) = self.builder.take() else { return Ok(()) };
        builder.set_ranges(ranges);
        self.range_start = end.to_vec();
        let (first, last, has_tombstones) = builder.content();
        let held = Held { has_tombstones, has_replaced: 0 < builder.replaced_count() };
        let times = self.times.of_output((first, last), held, self.job.wall_millis());
        builder.set_times(times);
        self.blobs
            .finish_table(&self.job)?
            .values()
            .for_each(|facts| builder.know_blob_file(*facts));
        let table = builder.finish()?;
        if let Some(before) = self.finished.last() {
            assert!(before.ends_before(&table.smallest_key), "outputs are disjoint and ascend");
        }
        self.finished_bytes += table.file_bytes;
        self.finished.push(table);
        Ok(())
    }
}
