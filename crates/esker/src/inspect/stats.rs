//! Statistics of an open database.

use std::fmt;
use std::time::Duration;

use esker_base::Shown;
use esker_cache::{CacheStats, Owner};
use esker_tree::BlobAccount;

use crate::counters::CounterValues;
use crate::engine::Engine;
use crate::running::RunningJob;

/// Statistics of a database at one moment. Names are stable.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Counts since open.
    pub counters: CounterValues,
    /// The block cache.
    pub cache: CacheStats,
    /// Memory charged to the budget, by owner.
    pub memory: Vec<(&'static str, u64)>,
    /// The budget, in bytes.
    pub memory_budget_bytes: u64,
    /// Bytes in live log segments.
    pub log_bytes_live: u64,
    /// Live log segments.
    pub log_segment_count: usize,
    /// The last sequence number that readers see.
    pub visible_seqno: u64,
    /// Each keyspace.
    pub keyspaces: Vec<KeyspaceStats>,
    /// The flushes and compactions that run, oldest first.
    pub running_jobs: Vec<RunningJob>,
    /// Snapshots held: sequence number and age, oldest first.
    pub snapshots: Vec<(u64, Duration)>,
}

/// Statistics of one keyspace.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Memtables, the active one included.
    pub memtable_count: usize,
    /// Memory of all memtables, in bytes.
    pub memtable_bytes: u64,
    /// Tables.
    pub table_count: usize,
    /// Bytes of all tables.
    pub table_bytes: u64,
    /// Entries in tables, counting each version and tombstone.
    pub table_entries: u64,
    /// Tombstones in tables.
    pub tombstones: u64,
    /// Runs that a read may have to search, at most.
    pub run_count: usize,
    /// Bytes of tables that compactions could free. An estimate: each tombstone frees itself and,
    /// if its table overlaps older ones, an older entry of average size; other entries free an
    /// older one as often as in the latest compactions.
    pub reclaimable_bytes: u64,
    /// Age of the oldest delete whose deleted entries may still be in tables.
    pub oldest_delete_age: Option<Duration>,
    /// Blob files.
    pub blob_file_count: usize,
    /// Bytes of all blob files.
    pub blob_bytes: u64,
    /// Bytes in blob files that no table refers to.
    pub blob_garbage_bytes: u64,
}

impl Stats {
    /// Bytes written to the device, including the log, for each byte of keys and values written,
    /// since open; 0 before the first write.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        let (given, written) = (self.counters.write_bytes, self.counters.written_bytes());
        if given == 0 { 0.0 } else { written as f64 / given as f64 }
    }
}

impl fmt::Display for Stats {
    /// One `name value` a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.counters.named() {
            writeln!(f, "{name} {value}")?;
        }
        writeln!(f, "write_amplification {:.2}", self.write_amplification())?;
        writeln!(f, "cache_hits {}", self.cache.hits)?;
        writeln!(f, "cache_loads {}", self.cache.loads)?;
        writeln!(f, "cache_evictions {}", self.cache.evictions)?;
        writeln!(f, "cache_resident_bytes {}", self.cache.resident_bytes)?;
        writeln!(f, "cache_capacity_bytes {}", self.cache.capacity_bytes)?;
        for (owner, bytes) in &self.memory {
            writeln!(f, "memory_{owner}_bytes {bytes}")?;
        }
        writeln!(f, "memory_budget_bytes {}", self.memory_budget_bytes)?;
        writeln!(f, "log_bytes_live {}", self.log_bytes_live)?;
        writeln!(f, "log_segment_count {}", self.log_segment_count)?;
        writeln!(f, "visible_seqno {}", self.visible_seqno)?;
        writeln!(f, "snapshot_count {}", self.snapshots.len())?;
        writeln!(f, "running_job_count {}", self.running_jobs.len())?;
        for job in &self.running_jobs {
            writeln!(f, "running_job {job}")?;
        }
        for keyspace in &self.keyspaces {
            let name = Shown::from(&*keyspace.name);
            writeln!(f, "keyspace {name} memtable_count {}", keyspace.memtable_count)?;
            writeln!(f, "keyspace {name} memtable_bytes {}", keyspace.memtable_bytes)?;
            writeln!(f, "keyspace {name} table_count {}", keyspace.table_count)?;
            writeln!(f, "keyspace {name} table_bytes {}", keyspace.table_bytes)?;
            writeln!(f, "keyspace {name} table_entries {}", keyspace.table_entries)?;
            writeln!(f, "keyspace {name} tombstones {}", keyspace.tombstones)?;
            writeln!(f, "keyspace {name} run_count {}", keyspace.run_count)?;
            writeln!(f, "keyspace {name} reclaimable_bytes {}", keyspace.reclaimable_bytes)?;
            let seconds = keyspace.oldest_delete_age.map_or(0, |age| age.as_secs());
            writeln!(f, "keyspace {name} oldest_delete_age_seconds {seconds}")?;
            writeln!(f, "keyspace {name} blob_file_count {}", keyspace.blob_file_count)?;
            writeln!(f, "keyspace {name} blob_bytes {}", keyspace.blob_bytes)?;
            writeln!(f, "keyspace {name} blob_garbage_bytes {}", keyspace.blob_garbage_bytes)?;
        }
        Ok(())
    }
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        let (log_bytes_live, log_segment_count) = self.logs.size();
        let mut counters = self.counters.values();
        (counters.log_bytes, counters.log_syncs) = self.logs.work();
        let now = self.now();
        let owners = [
            ("memtables", Owner::Memtables),
            ("cache", Owner::BlockCache),
            ("indexes", Owner::Indexes),
            ("filters", Owner::Filters),
            ("log", Owner::Log),
            ("iterators", Owner::Iterators),
            ("compaction", Owner::Compaction),
        ];
        let age = |(seqno, taken): (esker_base::SeqNo, Duration)| {
            (seqno.get(), now.saturating_sub(taken))
        };
        Stats {
            counters,
            cache: self.cache.stats(),
            memory: owners.map(|(name, owner)| (name, self.budget.used(owner))).to_vec(),
            memory_budget_bytes: self.budget.total(),
            log_bytes_live,
            log_segment_count,
            visible_seqno: self.snapshots.visible().get(),
            keyspaces: self.keyspaces().iter().map(|k| self.keyspace_stats(k)).collect(),
            running_jobs: self.running.list(now),
            snapshots: self.snapshots.holders().into_iter().map(age).collect(),
        }
    }

    fn keyspace_stats(&self, keyspace: &crate::keyspace_core::KeyspaceCore) -> KeyspaceStats {
        let (reclaimable_bytes, oldest_delete_age) = self.deletes(keyspace);
        let view = keyspace.view();
        let tables = || view.version.tables().map(|table| table.properties());
        let blobs = BlobAccount::of(tables().map(|table| &**table));
        KeyspaceStats {
            name: keyspace.name().to_string(),
            memtable_count: view.memtables().count(),
            memtable_bytes: view.memtables().map(|memtable| memtable.size_bytes()).sum(),
            table_count: tables().count(),
            table_bytes: tables().map(|table| table.file_bytes).sum(),
            table_entries: tables().map(|table| table.entry_count).sum(),
            tombstones: tables().map(|table| table.tombstone_count).sum(),
            reclaimable_bytes,
            oldest_delete_age,
            run_count: view.version.levels().iter().map(|level| level.runs().len()).sum(),
            blob_file_count: blobs.files().count(),
            blob_bytes: blobs.file_bytes(),
            blob_garbage_bytes: blobs.garbage_bytes(),
        }
    }
}
