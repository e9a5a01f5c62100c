//! A small tree in memory for tests, with a model beside it: every entry ever written.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{
    DatabaseId, EntryKind, FileId, InternalKey, KeyRange, KeyspaceId, OwnerId, SeqNo, TableId,
    is_before_end,
};
use esker_cache::{BlockCache, Budget};
use esker_env::{Env, FaultFileSystem};
use esker_memtable::Memtable;
use esker_table::{Compression, Table, TableContext, TableOptions, TableProperties, TableTimes};

use crate::blob_account::BlobAccount;
use crate::blob_options::BlobOptions;
use crate::compaction::{CompactionOutput, compact, compact_part, join_parts};
use crate::coverage::Coverage;
use crate::cursor::vec_cursor::Entry;
use crate::edit::{EditRecord, VersionEdit};
use crate::flush::{FlushInput, flush};
use crate::gc::Readers;
use crate::job::{Job, JobError, Progress, Signal, TargetLevel};
use crate::meaning::{BlobReads, ReadContext};
use crate::merge::MergingCursor;
use crate::plan::Plan;
use crate::run_cursor::RunCursor;
use crate::shape::RunId;
use crate::split::PartRange;
use crate::version::Version;
use crate::visible::VisibleCursor;

pub(crate) fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

/// Keys with their values.
pub(crate) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// What a reader at `snapshot` sees of `entries` in `range`, by the definition.
pub(crate) fn visible_contents(entries: &[Entry], snapshot: SeqNo, range: &KeyRange) -> Contents {
    let mut newest: BTreeMap<&[u8], &Entry> = BTreeMap::new();
    let is_range = |entry: &&Entry| entry.key().kind() == EntryKind::RangeTombstone;
    let visible = || entries.iter().filter(|entry| entry.key().seqno() <= snapshot);
    let hides = |newer: &Entry, entry: &Entry| {
        newer.user_key <= entry.user_key
            && is_before_end(&entry.user_key, &newer.value)
            && entry.trailer < newer.trailer
    };
    for entry in visible().filter(|entry| !is_range(entry)) {
        if visible().filter(is_range).any(|newer| hides(newer, entry)) {
            continue;
        }
        let kept = newest.entry(&entry.user_key).or_insert(entry);
        if entry.trailer > kept.trailer {
            *kept = entry;
        }
    }
    newest
        .into_iter()
        .filter(|(key, entry)| range.contains(key) && entry.key().kind() == EntryKind::Put)
        .map(|(key, entry)| (key.to_vec(), entry.value.clone()))
        .collect()
}

pub(crate) struct TestTree {
    pub(crate) faults: FaultFileSystem,
    pub(crate) context: Arc<TableContext>,
    pub(crate) version: Version,
    pub(crate) next_counter: Cell<u64>,
    pub(crate) progress: Progress,
    pub(crate) reads: ReadContext,
    /// Questions that the interrupt answers with "go on" before it cancels.
    pub(crate) patience: Cell<u64>,
    pub(crate) blobs: BlobOptions,
}

impl TestTree {
    pub(crate) fn new() -> Self {
        let env = Env::memory(1);
        let faults = FaultFileSystem::new(env.fs, Arc::clone(&env.clock));
        let budget = Budget::new(1 << 20);
        let context = Arc::new(TableContext {
            fs: Arc::new(faults.clone()),
            dir: PathBuf::from("db"),
            database: DatabaseId([7; 16]),
            cache: BlockCache::new(Arc::clone(&budget), None),
            budget,
            clock: env.clock,
            blobs: esker_table::BlobFiles::default(),
            owned: esker_table::Ownership::default(),
        });
        context.fs.create_dir_all(&context.dir).unwrap();
        let blobs = BlobReads { tables: Arc::clone(&context), fill_cache: true };
        let reads = ReadContext { blobs: Some(blobs), ..ReadContext::default() };
        Self {
            faults,
            context,
            version: Version::new(KeyspaceId::DEFAULT),
            next_counter: Cell::new(1),
            progress: Progress::default(),
            reads,
            patience: Cell::new(u64::MAX),
            blobs: BlobOptions::OFF,
        }
    }

    pub(crate) fn mint(&self) -> u64 {
        self.next_counter.replace(self.next_counter.get() + 1)
    }

    /// Runs `work` as a job.
    pub(crate) fn job<T>(&self, work: impl FnOnce(&Job<'_>) -> T) -> T {
        let next_id = || Some(TableId(FileId { owner: OwnerId::FIRST, counter: self.mint() }));
        let interrupt = || match self.patience.get() {
            0 => Signal::Cancel,
            left => {
                self.patience.set(left - 1);
                Signal::Continue
            }
        };
        let options = |target: TargetLevel| TableOptions {
            block_size_bytes: 256,
            compression: if target.is_deep() { Compression::Lz4 } else { Compression::None },
            ..TableOptions::default()
        };
        work(&Job {
            tables: &self.context,
            keyspace: KeyspaceId::DEFAULT,
            context: &self.reads,
            filter: None,
            options: &options,
            blobs: self.blobs,
            next_id: &next_id,
            interrupt: &interrupt,
            progress: &self.progress,
        })
    }

    pub(crate) fn try_flush(
        &self,
        memtables: &[Arc<Memtable>],
        readers: &Readers,
        table_bytes_max: u64,
    ) -> Result<Vec<TableProperties>, JobError> {
        let now = u64::try_from(self.context.clock.wall().as_millis()).unwrap();
        let has_tombstone = memtables.iter().any(|memtable| memtable.tombstone_count() > 0);
        let oldest_tombstone = has_tombstone.then_some(now);
        let times = TableTimes { oldest: now, newest: now, oldest_tombstone, written: now };
        self.try_flush_at(memtables, readers, table_bytes_max, times)
    }

    /// Flushes entries that were written then.
    pub(crate) fn try_flush_at(
        &self,
        memtables: &[Arc<Memtable>],
        readers: &Readers,
        table_bytes_max: u64,
        times: TableTimes,
    ) -> Result<Vec<TableProperties>, JobError> {
        let version = &self.version;
        let input = FlushInput { memtables, version, readers, table_bytes_max, times };
        self.job(|job| flush(job, input))
    }

    /// Flushes, and installs what comes out as a run of level 0.
    pub(crate) fn flush(
        &mut self,
        memtables: &[Arc<Memtable>],
        readers: &Readers,
        table_bytes_max: u64,
    ) -> Vec<TableProperties> {
        let added = self.try_flush(memtables, readers, table_bytes_max).unwrap();
        let run = RunId(self.mint());
        self.install(added.clone(), &[], 0, run);
        added
    }

    pub(crate) fn try_compact(
        &self,
        plan: &Plan,
        readers: &Readers,
    ) -> Result<CompactionOutput, JobError> {
        self.job(|job| compact(job, &self.version, plan, readers))
    }

    /// The same part by part.
    pub(crate) fn try_compact_in(
        &self,
        plan: &Plan,
        readers: &Readers,
        parts: &[PartRange],
    ) -> Result<CompactionOutput, JobError> {
        let part = |part| self.job(|job| compact_part(job, &self.version, plan, readers, part));
        join_parts(plan, parts.iter().map(part).collect::<Result<_, _>>()?)
    }

    /// Compacts, installs the result, and removes the files of the inputs.
    pub(crate) fn compact(&mut self, plan: &Plan, readers: &Readers) -> CompactionOutput {
        self.compact_in(plan, readers, &[PartRange::whole()])
    }

    /// The same part by part.
    pub(crate) fn compact_in(
        &mut self,
        plan: &Plan,
        readers: &Readers,
        parts: &[PartRange],
    ) -> CompactionOutput {
        let output = self.try_compact_in(plan, readers, parts).unwrap();
        self.install_output(plan, &output);
        output
    }

    /// Installs what came of `plan`, and removes the files of the inputs.
    pub(crate) fn install_output(&mut self, plan: &Plan, output: &CompactionOutput) {
        let run = plan.target_run.unwrap_or_else(|| RunId(self.mint()));
        self.replace(output.added.clone(), &output.removed, plan.target_level, run);
    }

    /// Removes tables, and their files.
    pub(crate) fn remove(&mut self, tables: &[TableId]) {
        self.replace(Vec::new(), tables, 0, RunId(0));
    }

    /// Installs tables instead of others, and removes the files of those, and the blob files that no
    /// table refers to any more.
    fn replace(
        &mut self,
        added: Vec<TableProperties>,
        removed: &[TableId],
        level: usize,
        run: RunId,
    ) {
        let blobs = self.blob_names();
        self.install(added, removed, level, run);
        let kept = self.files().1;
        let is_gone = |blob: &String| !kept.contains(blob);
        let removed = removed.iter().map(|table| table.file_name());
        for name in removed.chain(blobs.into_iter().filter(is_gone)) {
            self.context.fs.remove(&self.context.dir.join(name)).unwrap();
        }
    }

    /// Installs tables that were made otherwise.
    pub(crate) fn install_in_new_run(&mut self, tables: Vec<TableProperties>) {
        let removed: Vec<TableId> = tables.iter().map(|table| table.id).collect();
        let run = RunId(self.mint());
        self.install(Vec::new(), &removed, 0, run);
        self.install(tables, &[], 0, run);
    }

    /// Installs tables in a run of the level.
    pub(crate) fn install_at(&mut self, added: Vec<TableProperties>, level: usize, run: RunId) {
        self.install(added, &[], level, run);
    }

    fn install(
        &mut self,
        added: Vec<TableProperties>,
        removed: &[TableId],
        level: usize,
        run: RunId,
    ) {
        let keyspace = KeyspaceId::DEFAULT;
        let removed = removed.iter().map(|&table| EditRecord::TableRemoved { keyspace, table });
        let added = added.into_iter().map(|properties| {
            let properties = Arc::new(properties);
            EditRecord::TableAdded { keyspace, level, run, properties }
        });
        let edit = VersionEdit { records: removed.chain(added).collect() };
        let make_table = |properties| Arc::new(Table::new(Arc::clone(&self.context), properties));
        self.version = self.version.apply(&edit, make_table).unwrap();
    }

    /// What a reader sees of the tables.
    pub(crate) fn cursor(
        &self,
        snapshot: SeqNo,
        range: &KeyRange,
    ) -> VisibleCursor<MergingCursor<RunCursor>> {
        let runs = self.version.levels().iter().flat_map(|level| level.runs());
        let sources = runs.map(|run| RunCursor::new(Arc::clone(run), range, true)).collect();
        let runs = self.version.levels().iter().flat_map(|level| level.runs());
        let coverage = Coverage::new(snapshot, &[], runs);
        let source = MergingCursor::new(sources);
        VisibleCursor::new(source, snapshot, range.clone(), self.reads.clone())
            .with_coverage(coverage)
    }

    /// All that a reader sees of the tables in `range`; a scan back sees the same.
    pub(crate) fn contents(&self, snapshot: SeqNo, range: &KeyRange) -> Contents {
        let mut cursor = self.cursor(snapshot, range);
        let mut contents = Vec::new();
        cursor.seek_to_first().unwrap();
        while cursor.is_valid() {
            contents.push((cursor.key().to_vec(), cursor.value().to_vec()));
            cursor.next().unwrap();
        }
        cursor.seek_to_last().unwrap();
        for (key, value) in contents.iter().rev() {
            assert_eq!((cursor.key(), cursor.value()), (key.as_slice(), value.as_slice()));
            cursor.prev().unwrap();
        }
        assert!(!cursor.is_valid());
        contents
    }

    /// Names of all files, and names of the files that the version refers to.
    pub(crate) fn files(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let listed = self.context.fs.list(&self.context.dir).unwrap();
        let known = self.version.tables().map(|table| table.properties().id.file_name());
        let known = known.chain(self.blob_names()).collect();
        (listed.into_iter().map(|entry| entry.name).collect(), known)
    }

    /// What the tables refer to.
    pub(crate) fn account(&self) -> BlobAccount {
        BlobAccount::of_shape(&self.version.shape())
    }

    fn blob_names(&self) -> Vec<String> {
        self.account().files().map(|file| file.facts.id.file_name()).collect()
    }

    /// Every entry of the tables, in the order of internal keys.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries_of(self.version.tables())
    }

    pub(crate) fn entries_of<'a>(
        &self,
        tables: impl Iterator<Item = &'a Arc<Table>>,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        for table in tables {
            let mut cursor = table.cursor(true);
            cursor.seek_to_first().unwrap();
            while cursor.is_valid() {
                let InternalKey { user_key, trailer } = cursor.key();
                let value = cursor.value().to_vec();
                entries.push(Entry { user_key: user_key.to_vec(), trailer, value });
                cursor.next().unwrap();
            }
        }
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        entries
    }
}

/// A memtable of `entries`.
pub(crate) fn memtable_of(entries: &[Entry]) -> Arc<Memtable> {
    let memtable = Memtable::new();
    let mut writer = memtable.writer();
    for entry in entries {
        let key = entry.key();
        writer.insert(key.user_key, key.seqno(), key.kind(), &entry.value);
    }
    drop(writer);
    Arc::new(memtable)
}
