//! One run of `esker bench`: the database between benchmarks, the threads, and the meters around
//! each benchmark.

use std::fs;
use std::path::{Path, PathBuf};

use esker::env::SystemClock;
use esker::{Db, KeyspaceOptions, Options};

use crate::failure::{Failure, Result};

use super::arguments::{BenchArguments, Benchmark};
use super::keys::{Keys, Order};
use super::process;
use super::random::mix;
use super::reading::Reading;
use super::report::Row;
use super::values::Values;
use super::work::Work;

/// The name of the session's own directory: it removes the contents.
const DIR_NAME: &str = "bench-db";

/// State kept from one benchmark to the next.
pub(super) struct Session<'a> {
    pub(super) arguments: &'a BenchArguments,
    pub(super) clock: SystemClock,
    pub(super) keys: Keys,
    pub(super) values: Values,
    /// Whether every key is known to exist.
    pub(super) is_complete: bool,
    dir: PathBuf,
    /// Removed at the end.
    temporary: Option<PathBuf>,
    /// None only while it is being replaced.
    db: Option<Db>,
}

/// The work of one thread: operations with the numbers from `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) first: u64,
    pub(super) count: u64,
    /// Differs between threads and benchmarks.
    pub(super) seed: u64,
}

impl<'a> Session<'a> {
    pub(super) fn start(arguments: &'a BenchArguments) -> Result<Self> {
        let temporary = arguments
            .dir
            .is_none()
            .then(|| std::env::temp_dir().join(format!("esker-benchmark-{}", std::process::id())));
        let parent = arguments.dir.as_ref().or(temporary.as_ref());
        let dir = parent.map_or_else(PathBuf::new, |parent| parent.join(DIR_NAME));
        let keys = Keys::new(Order::Hashed, arguments.num, arguments.key_size, mix(arguments.seed));
        let mut session = Self {
            arguments,
            clock: SystemClock::new(),
            keys,
            values: Values::new(arguments.value_size, arguments.seed),
            is_complete: false,
            dir,
            temporary,
            db: None,
        };
        session.open()?;
        session.recognize_keys()?;
        Ok(session)
    }

    pub(super) const fn db(&self) -> &Db {
        self.db.as_ref().expect("a session has its database open between exchanges")
    }

    /// Opens the database, with the requested cache memory in addition to all memtables.
    pub(super) fn open(&mut self) -> Result<()> {
        let arguments = self.arguments;
        let options = Options {
            memory_budget_bytes: arguments
                .cache_bytes
                .saturating_add(arguments.memtable_bytes.saturating_mul(8)),
            cache_bytes: Some(arguments.cache_bytes),
            durability: arguments.durability.into(),
            log_compression_threshold_bytes: arguments.log_compression_threshold,
            warm_cache: arguments.warm_cache,
            ..Options::default()
        };
        let keyspace = KeyspaceOptions {
            compaction: arguments.compaction.policy(),
            compression: arguments.compression.into(),
            shallow_compression: arguments.compression.into(),
            memtable_bytes: arguments.memtable_bytes,
            blob_threshold_bytes: arguments.blob_threshold,
            prefix_filter: arguments.prefix_filter.0,
            ..KeyspaceOptions::default()
        };
        let builder = Db::builder(&self.dir).options(options).default_keyspace(keyspace);
        self.db = Some(builder.open()?);
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<()> {
        if let Some(db) = self.db.take() {
            db.close()?;
        }
        Ok(())
    }

    /// Replaces the database by an empty one.
    fn empty(&mut self) -> Result<()> {
        self.close()?;
        remove_dir(&self.dir)?;
        self.open()
    }

    /// Determines which keys a database of an earlier run has.
    fn recognize_keys(&mut self) -> Result<()> {
        for order in [Order::Ascending, Order::Hashed] {
            self.keys.order = order;
            let mut key = self.keys.buffer();
            for index in 0..self.keys.count.min(100) {
                self.keys.write(index, &mut key);
                if self.db().contains(&key)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Runs one benchmark, with preparation before and settling after it.
    pub(super) fn run(&mut self, benchmark: Benchmark) -> Result<Row> {
        if benchmark.fills() {
            self.empty()?;
            self.is_complete = false;
            self.keys.order = match benchmark {
                Benchmark::FillSeq | Benchmark::FillBulkSeq => Order::Ascending,
                _ => Order::Hashed,
            };
        }
        process::reset_peak_memory();
        let before = Reading::take(self.clock, self.db());
        let work = self.work(benchmark)?;
        let after = Reading::take(self.clock, self.db());
        self.db().wait_until_settled()?;
        let settled = Reading::take(self.clock, self.db());
        match benchmark {
            Benchmark::FillSeq
            | Benchmark::FillRandom
            | Benchmark::FillBatch
            | Benchmark::FillBulk
            | Benchmark::FillBulkSeq => self.is_complete = true,
            Benchmark::DeleteRandom => self.is_complete = false,
            _ => {}
        }
        let keyspaces = self.db().stats().keyspaces;
        Ok(Row {
            benchmark,
            work,
            before,
            after,
            settled,
            peak_memory_bytes: process::peak_memory_bytes(),
            dir_bytes: process::dir_bytes(&self.dir),
            table_bytes: keyspaces.iter().map(|keyspace| keyspace.table_bytes).sum(),
            blob_bytes: keyspaces.iter().map(|keyspace| keyspace.blob_bytes).sum(),
            blob_garbage_bytes: keyspaces.iter().map(|keyspace| keyspace.blob_garbage_bytes).sum(),
            run_count: keyspaces.iter().map(|keyspace| keyspace.run_count).sum(),
        })
    }

    fn work(&mut self, benchmark: Benchmark) -> Result<Work> {
        match benchmark {
            Benchmark::FillSeq | Benchmark::FillRandom => self.fill(),
            Benchmark::FillBatch => self.fill_in_batches(),
            Benchmark::FillBulk | Benchmark::FillBulkSeq => self.fill_in_bulk(),
            Benchmark::FillSync => self.fill_synced(),
            Benchmark::Overwrite => self.overwrite(),
            Benchmark::DeleteRandom => self.delete_random(),
            Benchmark::ReadRandom => self.read_random(),
            Benchmark::ReadMissing => self.read_missing(),
            Benchmark::ReadHot => self.read_hot(),
            Benchmark::MultiReadRandom => self.multi_read_random(),
            Benchmark::ReadWhileWriting => self.read_while_writing(),
            Benchmark::SeekRandom => self.seek_random(),
            Benchmark::SeekReverse => self.seek_reverse(),
            Benchmark::ReadSeq => self.read_all_forward(),
            Benchmark::ReadReverse => self.read_all_backward(),
            Benchmark::Compact => self.compact(),
            Benchmark::Open => self.open_again(),
        }
    }

    /// Divides `count` operations among the threads, and sums up their work.
    pub(super) fn on_threads(
        &self,
        count: u64,
        work: impl Fn(Share) -> Result<Work> + Sync,
    ) -> Result<Work> {
        let threads = self.arguments.threads;
        let seed = mix(self.arguments.seed ^ count);
        let share = |thread: u64| {
            let first = count * thread / threads;
            let end = count * (thread + 1) / threads;
            Share { first, count: end - first, seed: seed.wrapping_add(thread) }
        };
        if threads == 1 {
            return work(share(0));
        }
        let work = &work;
        std::thread::scope(|scope| {
            let spawn = |thread| scope.spawn(move || work(share(thread)));
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let mut total = Work::start(self.clock);
            for handle in handles {
                let done = handle.join().map_err(|_panic| Failure::Said)??;
                total = total.add(&done);
            }
            Ok(total)
        })
    }

    /// Size of a key with its value.
    pub(super) const fn entry_bytes(&self) -> u64 {
        (self.arguments.key_size + self.arguments.value_size) as u64
    }

    /// Closes the database, and removes it if no directory was given.
    pub(super) fn end(mut self) -> Result<()> {
        self.close()
    }
}

impl Drop for Session<'_> {
    /// Also after a failure: a temporary database may be large.
    fn drop(&mut self) {
        drop(self.db.take());
        if let Some(dir) = &self.temporary {
            drop(remove_dir(dir));
        }
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::other(format!("cannot remove {}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}
