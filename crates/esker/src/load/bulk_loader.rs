//! The bulk loader: turns entries in any order into tables, bypassing log and memtables.
//!
//! As long as keys ascend, entries go through a small buffer straight into tables for the last
//! level. Once they do not, the buffer grows to its share of the memory budget, and whenever it is
//! full, it is sorted and spilled as a sorted run; at the end the runs are merged, and the newest
//! entry of each key wins. No manifest names any of it before [`BulkLoader::finish`], which makes
//! all tables part of the tree in one edit, as an ingest does.

use std::sync::Arc;
use std::time::Duration;

use esker_cache::{Charge, Owner};
use esker_table::{TableOptions, WriteBehind};
use esker_tree::{LEVEL_COUNT_MAX, TargetLevel};

use crate::engine::Engine;
use crate::error::Result;
use crate::jobs::outputs::table_options;
use crate::keyspace::Keyspace;
use crate::load::adopt_tables::LooseTable;
use crate::load::sort_buffer::SortBuffer;
use crate::load::spilled_runs::SpilledRuns;
use crate::load::table_sequence::TableSequence;
use crate::operation::check_value;

/// Size of the buffer while keys ascend, in bytes.
const SORTED_BUFFER_BYTES: u64 = 256 << 10;

/// Least and most bytes that are buffered once keys do not ascend; between these limits, a quarter
/// of the memory budget. A larger buffer makes fewer runs to merge; see [`SpilledRuns`].
const BUFFER_BYTES_MIN: u64 = 1 << 20;
const BUFFER_BYTES_MAX: u64 = 256 << 20;

/// Size of one piece handed to the thread that writes the files.
const PIECE_BYTES: u64 = 1 << 20;

/// How much the buffer grows before the charge to the budget is updated.
const CHARGE_STEP_BYTES: u64 = 4 << 20;

/// Loads many entries: faster than writes, and all or nothing.
///
/// Entries may come in any order; of several with the same key, the last one counts. They replace
/// what the keyspace has under their keys, as if all were written in one batch at the end; until
/// then they are invisible. In an empty keyspace they go to the last level, where nothing rewrites
/// them; otherwise each table goes as deep as it fits. Under the policies that keep ages apart,
/// `Fifo` and `TimeWindow`, they go to level 0 and count as written at the end of the load.
///
/// A loader that is dropped before [`BulkLoader::finish`] leaves nothing behind.
///
/// # Examples
/// ```
/// # fn main() -> esker::Result<()> {
/// let db = esker::Db::in_memory()?;
/// let mut loader = db.bulk_loader(db.default_keyspace())?;
/// loader.put("b", "2")?;
/// loader.put("a", "1")?;
/// assert!(db.get("a")?.is_none());
/// assert_eq!(loader.finish()?.entries, 2);
/// assert_eq!(db.get("a")?.unwrap(), "1");
/// # Ok(())
/// # }
/// ```
pub struct BulkLoader {
    /// The visible sequence number when the load began.
    started_at: esker_base::SeqNo,
    started: Duration,
    buffer: SortBuffer,
    charge: Charge,
    buffer_bytes_max: u64,
    /// Size of the buffer, in bytes, at which it is checked next.
    look_at: u64,
    /// Tables for the last level, which have taken all entries so far, as long as keys ascend.
    streamed: Option<TableSequence>,
    /// The thread that writes and syncs the files, while the caller's thread builds the next
    /// blocks.
    behind: Option<Arc<WriteBehind>>,
    runs: SpilledRuns,
    entries: u64,
    replaced: u64,
    /// An earlier call failed: some entries may be missing.
    failure: Option<crate::Error>,
    /// Last, since fields drop in order. This may be the last handle, and once it is gone, the next
    /// open owns the directory: by then the files above must be removed, and their thread must have
    /// ended.
    keyspace: Keyspace,
}

/// What a bulk load did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkLoadReport {
    /// Entries that were loaded.
    pub entries: u64,
    /// Entries that were replaced by a later one with the same key.
    pub replaced: u64,
    /// Tables that were made.
    pub tables: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// Sorted runs that were spilled and merged; 0 if the input was sorted or fitted into memory.
    pub spilled_runs: usize,
    /// The sequence number of all entries, or that of the last write before the load if it was
    /// empty.
    pub seqno: u64,
    /// Time since the loader was created.
    pub duration: Duration,
}

impl BulkLoader {
    pub(crate) fn new(keyspace: Keyspace) -> Result<Self> {
        let engine = keyspace.handle().engine();
        engine.check_writable()?;
        keyspace.core().check_live()?;
        let budget = engine.options.memory_budget_bytes;
        let piece_bytes =
            engine.options.part_bytes.unwrap_or(PIECE_BYTES).clamp(1, 1 << 30) as usize;
        let buffer_bytes_max = (budget / 4).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let threads = Some(&engine.env.threads).filter(|_| 0 < engine.options.background_threads);
        Ok(Self {
            started_at: engine.snapshots.visible(),
            started: engine.now(),
            buffer: SortBuffer::new(),
            charge: engine.budget.charge(Owner::Compaction, 0),
            buffer_bytes_max,
            look_at: SORTED_BUFFER_BYTES,
            streamed: None,
            behind: threads.map(|threads| WriteBehind::new(Arc::clone(threads), piece_bytes)),
            runs: SpilledRuns::new(buffer_bytes_max),
            entries: 0,
            replaced: 0,
            failure: None,
            keyspace,
        })
    }

    fn engine(&self) -> &Arc<Engine> {
        self.keyspace.handle().engine()
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// - `InvalidInput`: key or value is too long; the entry is skipped, and the loader can go on.
    /// - `Io`, `NoSpace`, `Closed`: a table could not be written. Every later call fails likewise,
    ///   and what was loaded is removed with the loader. That the database was closed, or the
    ///   keyspace dropped, may go unnoticed until a table is written, or until the end.
    ///
    /// # Cost
    /// Two copies, and a third if keys do not ascend. The call that fills the buffer also builds
    /// tables from it, and may merge runs that were spilled before. A thread of its own writes and
    /// syncs the files of a load of a megabyte or more; without background threads, or if no thread
    /// can be started, the caller does. An error of that thread is returned after one more megabyte
    /// at the latest, or at the end.
    #[inline]
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let key = self.keyspace.core().stored_key(key)?;
        check_value(value)?;
        self.buffer.push(&key, value);
        self.entries += 1;
        if self.buffer.used_bytes() < self.look_at {
            return Ok(());
        }
        self.make_room()
    }

    /// Called when the buffer would be full if keys ascended, or has grown since.
    #[cold]
    fn make_room(&mut self) -> Result<()> {
        self.check()?;
        let builder_bytes = self.streamed.as_ref().map_or(0, TableSequence::memory_bytes);
        self.charge.set(self.buffer.held_bytes() + builder_bytes);
        let used = self.buffer.used_bytes();
        let is_ascending = self.runs.is_empty() && self.buffer.is_sorted();
        let result = if is_ascending {
            self.stream(true)
        } else if used < self.buffer_bytes_max {
            self.look_at = (used + CHARGE_STEP_BYTES).min(self.buffer_bytes_max);
            return Ok(());
        } else {
            self.look_at = SORTED_BUFFER_BYTES;
            self.spill()
        };
        self.note(result)
    }

    fn check(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.failure = Some(error.clone());
            // From now on every call checks, and fails.
            self.look_at = 0;
        }
        result
    }

    fn tables(&self, options: TableOptions, bytes_max: u64) -> TableSequence {
        let behind = self.behind.clone();
        TableSequence::new(self.engine(), self.keyspace.core().id, options, bytes_max, behind)
    }

    /// A writer of tables for the last level.
    fn last_level_tables(&self) -> TableSequence {
        let keyspace = self.keyspace.core();
        let settings = keyspace.settings();
        let level = LEVEL_COUNT_MAX - 1;
        let options = table_options(keyspace, &settings, TargetLevel { level, deepest: level });
        self.tables(options, settings.table_bytes)
    }

    /// Writes the buffer, whose keys follow all earlier ones, to the tables for the last level.
    fn stream(&mut self, more_may_come: bool) -> Result<()> {
        let mut tables = match self.streamed.take() {
            Some(tables) => tables,
            None => self.last_level_tables(),
        };
        let written = self.buffer.drain(more_may_come, |key, value| tables.put(key, value));
        self.streamed = Some(tables);
        self.replaced += written?;
        Ok(())
    }

    /// Writes the buffer to a run of its own, sorted.
    fn spill(&mut self) -> Result<()> {
        if let Some(mut tables) = self.streamed.take() {
            tables.end()?;
            // None if the buffer has kept everything: a single entry that filled it.
            if !tables.finished().is_empty() {
                self.add_run(tables)?;
            }
        }
        let mut tables = self.temporary_tables();
        self.replaced += self.buffer.drain(false, |key, value| tables.put(key, value))?;
        tables.end()?;
        self.add_run(tables)
    }

    fn add_run(&mut self, run: TableSequence) -> Result<()> {
        let mut runs = std::mem::replace(&mut self.runs, SpilledRuns::new(self.buffer_bytes_max));
        let replaced = runs.push(run, || self.temporary_tables());
        self.runs = runs;
        self.replaced += replaced?;
        Ok(())
    }

    /// Options of tables that are read once and removed: no filter, and no time for compression.
    fn temporary_tables(&self) -> TableSequence {
        let options = TableOptions {
            compression: esker_table::Compression::None,
            filter_bits_per_key: 0,
            block_size_bytes: 64 << 10,
            ..TableOptions::default()
        };
        self.tables(options, u64::MAX)
    }

    /// Makes the entries part of the keyspace, all at once.
    ///
    /// # Durability
    /// They survive loss of power once this returns, and so do all writes before it. They are in no
    /// log.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `Closed`, `Poisoned`. Nothing is loaded then, and nothing left behind. But
    /// if the outcome of the error is [`Unknown`](crate::Outcome::Unknown), the manifest could not
    /// be written: only reopening shows whether everything was loaded or nothing, and the database
    /// accepts no writes until then.
    pub fn finish(mut self) -> Result<BulkLoadReport> {
        self.check()?;
        self.engine().check_writable()?;
        self.keyspace.core().check_live()?;
        let spilled_runs = self.write_out()?;
        let mut report = BulkLoadReport {
            entries: self.entries - self.replaced,
            replaced: self.replaced,
            tables: 0,
            bytes: 0,
            spilled_runs,
            seqno: self.engine().snapshots.visible().get(),
            duration: Duration::ZERO,
        };
        if let Some(tables) = self.streamed.take() {
            let database = self.engine().tables.database;
            let finished = tables.finished().iter();
            let loose: Vec<LooseTable> = finished
                .map(|table| LooseTable {
                    id: table.id,
                    properties: table.clone(),
                    birth: (database, table.id.0),
                })
                .collect();
            let adopted = self.engine().adopt_tables(self.keyspace.core(), &loose, self.started_at);
            match adopted {
                Ok(adopted) => {
                    tables.take();
                    report.seqno = adopted.seqno.get();
                    report.tables = adopted.tables.len();
                    report.bytes = adopted.tables.iter().map(|(_, table)| table.file_bytes).sum();
                }
                Err(error) => {
                    if error.outcome() == crate::Outcome::Unknown {
                        // The manifest may name them. If it does not, the next open removes them.
                        tables.take();
                    }
                    return Err(error);
                }
            }
        } else {
            self.engine().sync()?;
        }
        report.duration = self.engine().now().saturating_sub(self.started);
        Ok(report)
    }

    /// Gives up the load and removes what it has written.
    pub fn abort(self) {
        drop(self);
    }

    /// Moves all entries into `streamed`, and finishes its last table. Returns how many runs were
    /// merged.
    fn write_out(&mut self) -> Result<usize> {
        // After sorted input, the buffer still holds the last key: its sorted entries follow those
        // that were streamed.
        let follows = self.streamed.is_none() || self.buffer.is_sorted();
        if self.runs.is_empty() && follows {
            if !self.buffer.is_empty() {
                self.stream(false)?;
            }
            if let Some(tables) = &mut self.streamed {
                tables.end()?;
                tables.settle()?;
            }
            return Ok(0);
        }
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        self.buffer.release();
        self.charge.set(0);
        self.merge()?;
        Ok(self.runs.spilled())
    }

    /// Merges the runs into tables of the last level.
    fn merge(&mut self) -> Result<()> {
        let mut output = self.last_level_tables();
        self.replaced += self.runs.merge_into(&mut output)?;
        self.streamed = Some(output);
        Ok(())
    }
}

impl std::fmt::Debug for BulkLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BulkLoader({}, {} entries)", self.keyspace.name(), self.entries)
    }
}
