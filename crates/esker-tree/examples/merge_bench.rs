//! How fast merging, flush and compaction are: `cargo run --release -p esker-tree --example
//! merge_bench [entries]`.
//!
//! 16-byte keys of random bytes, 100-byte values that do not compress, 4 KiB blocks; files in
//! memory, so that the disk is not measured. Best of three.

#![expect(clippy::print_stdout, reason = "prints its figures")]

use std::cell::Cell;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{DatabaseId, EntryKind, FileId, KeyRange, KeyspaceId, OwnerId, SeqNo, TableId};
use esker_cache::{BlockCache, Budget};
use esker_env::{Clock, Env};
use esker_memtable::Memtable;
use esker_table::{Compression, Table, TableContext, TableOptions, TableProperties};
use esker_tree::{
    Cursor, FlushInput, Job, MergingCursor, Plan, PlanInput, PlanReason, Progress, ReadContext,
    Readers, RunCursor, RunId, Signal, TargetLevel, Version, VersionEdit, VisibleCursor, compact,
    flush,
};

struct Bench {
    context: Arc<TableContext>,
    clock: Arc<dyn Clock>,
    counter: Cell<u64>,
    progress: Progress,
    random: u64,
    values: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let budget = Budget::new(4 << 30);
        let clock = Env::os().clock;
        let context = TableContext {
            fs: Env::memory(1).fs,
            dir: PathBuf::from("db"),
            database: DatabaseId([7; 16]),
            cache: BlockCache::new(Arc::clone(&budget), None),
            budget,
            clock: Arc::clone(&clock),
            blobs: esker_table::BlobFiles::default(),
            owned: esker_table::Ownership::default(),
        };
        context.fs.create_dir_all(&context.dir).expect("memory takes everything");
        let (counter, progress) = (Cell::new(1), Progress::default());
        let mut bench = Self {
            context: Arc::new(context),
            clock,
            counter,
            progress,
            random: 1,
            values: vec![],
        };
        bench.values = (0..(1 << 20) / 8).flat_map(|_| bench.next().to_le_bytes()).collect();
        bench
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn mint(&self) -> u64 {
        self.counter.replace(self.counter.get() + 1)
    }

    fn job<T>(&self, compression: Compression, work: impl FnOnce(&Job<'_>) -> T) -> T {
        let options = |_: TargetLevel| TableOptions { compression, ..TableOptions::default() };
        work(&Job {
            tables: &self.context,
            keyspace: KeyspaceId::DEFAULT,
            context: &ReadContext::default(),
            filter: None,
            options: &options,
            blobs: esker_tree::BlobOptions::OFF,
            next_id: &|| Some(TableId(FileId { owner: OwnerId::FIRST, counter: self.mint() })),
            interrupt: &|| Signal::Continue,
            progress: &self.progress,
        })
    }

    fn memtable(&mut self, count: u64) -> Arc<Memtable> {
        let memtable = Arc::new(Memtable::new());
        let mut writer = memtable.writer();
        for _ in 0..count {
            let seqno = SeqNo::new(self.mint()).expect("counts are small");
            let mut key = [0; 16];
            key[..8].copy_from_slice(&self.next().to_le_bytes());
            key[8..].copy_from_slice(&self.next().to_le_bytes());
            let at = (seqno.get() * 104) as usize % (self.values.len() - 100);
            writer.insert(&key, seqno, EntryKind::Put, &self.values[at..at + 100]);
        }
        drop(writer);
        memtable
    }

    fn flush(&self, version: &Version, memtable: &Arc<Memtable>) -> Vec<TableProperties> {
        let input = FlushInput {
            memtables: std::slice::from_ref(memtable),
            version,
            readers: &Readers::new(&[], SeqNo::MAX),
            table_bytes_max: 64 << 20,
            times: esker_table::TableTimes::default(),
        };
        self.job(Compression::None, |job| flush(job, input)).expect("memory takes everything")
    }

    fn with_run(&self, version: &Version, tables: Vec<TableProperties>) -> Version {
        let run = RunId(self.mint());
        let keyspace = KeyspaceId::DEFAULT;
        let records = tables.into_iter().map(|properties| esker_tree::EditRecord::TableAdded {
            keyspace,
            level: 0,
            run,
            properties: Arc::new(properties),
        });
        let edit = VersionEdit { records: records.collect() };
        let make = |properties| Arc::new(Table::new(Arc::clone(&self.context), properties));
        version.apply(&edit, make).expect("tables of one flush are disjoint")
    }

    /// A tree of runs with so many entries.
    fn tree(&mut self, counts: &[u64]) -> Version {
        counts.iter().fold(Version::new(KeyspaceId::DEFAULT), |version, &count| {
            let memtable = self.memtable(count);
            let tables = self.flush(&version, &memtable);
            self.with_run(&version, tables)
        })
    }

    fn report(&self, what: &str, count: u64, mut work: impl FnMut()) {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let start = self.clock.now();
            work();
            best = best.min(self.clock.now() - start);
        }
        let nanos = best.as_nanos() as f64 / count as f64;
        println!("{what:<46} {nanos:>7.1} ns/entry {:>7.2} M entries/s", 1000.0 / nanos);
    }
}

fn merging(version: &Version, fill_cache: bool) -> MergingCursor<RunCursor> {
    let runs = version.levels().iter().flat_map(|level| level.runs());
    let all = KeyRange::all();
    MergingCursor::new(runs.map(|run| RunCursor::new(Arc::clone(run), &all, fill_cache)).collect())
}

fn measure_scans(bench: &mut Bench, name: &str, counts: &[u64]) {
    let version = bench.tree(counts);
    let count: u64 = counts.iter().sum();
    let scan = |cursor: &mut MergingCursor<RunCursor>| {
        let mut sum = 0;
        cursor.seek_to_first().expect("memory reads");
        while cursor.is_valid() {
            sum += cursor.key().user_key.len() + cursor.value().len();
            cursor.next().expect("memory reads");
        }
        black_box(sum);
    };
    // Once, to fill the cache.
    scan(&mut merging(&version, true));
    bench.report(&format!("merge {name}"), count, || scan(&mut merging(&version, true)));
    let view = || {
        VisibleCursor::new(
            merging(&version, true),
            SeqNo::MAX,
            KeyRange::all(),
            ReadContext::default(),
        )
    };
    bench.report(&format!("visible {name}"), count, || {
        let mut cursor = view();
        let mut sum = 0;
        cursor.seek_to_first().expect("memory reads");
        while cursor.is_valid() {
            sum += cursor.key().len() + cursor.value().len();
            cursor.next().expect("memory reads");
        }
        black_box(sum);
    });
    bench.report(&format!("visible, back, {name}"), count, || {
        let mut cursor = view();
        let mut sum = 0;
        cursor.seek_to_last().expect("memory reads");
        while cursor.is_valid() {
            sum += cursor.key().len() + cursor.value().len();
            cursor.prev().expect("memory reads");
        }
        black_box(sum);
    });
}

fn measure_jobs(bench: &mut Bench, count: u64) {
    let memtable = bench.memtable(count);
    let empty = Version::new(KeyspaceId::DEFAULT);
    bench.report("flush of one memtable", count, || {
        for table in bench.flush(&empty, &memtable) {
            let path = bench.context.dir.join(table.id.file_name());
            bench.context.fs.remove(&path).expect("the file exists");
        }
    });
    drop(memtable);
    let version = bench.tree(&[count / 4; 4]);
    let inputs = version.levels()[0].runs().iter().map(|run| PlanInput {
        level: 0,
        run: run.id(),
        tables: run.tables().iter().map(|table| table.properties().id).collect(),
    });
    let plan = Plan {
        reason: PlanReason::Manual,
        inputs: inputs.collect(),
        target_level: 6,
        target_run: None,
        cut_keys: Vec::new(),
        output_bytes_max: 64 << 20,
        is_trivial_move: false,
        is_drop: false,
        first_key: Vec::new(),
        last_key: Vec::new(),
        input_bytes: version.bytes(),
    };
    for compression in [Compression::None, Compression::Lz4] {
        bench.report(&format!("compaction of 4 runs, {compression}"), count, || {
            let readers = Readers::new(&[], SeqNo::MAX);
            let output = bench.job(compression, |job| compact(job, &version, &plan, &readers));
            for table in output.expect("memory takes everything").added {
                let path = bench.context.dir.join(table.id.file_name());
                bench.context.fs.remove(&path).expect("the file exists");
            }
        });
    }
}

fn main() {
    let count = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().expect("a number"));
    let mut bench = Bench::new();
    measure_scans(&mut bench, "1 run", &[count]);
    measure_scans(&mut bench, "4 equal runs", &[count / 4; 4]);
    measure_scans(&mut bench, "8 equal runs", &[count / 8; 8]);
    measure_scans(
        &mut bench,
        "runs of 1, 1, 1, 10, 100",
        &[100, 10, 1, 1, 1].map(|n| n * count / 113),
    );
    measure_jobs(&mut bench, count);
}
