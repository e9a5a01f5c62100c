//! What happened in the runs: a simulation in which something never happens says nothing about it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often each thing happened, of all runs. Held for a moment only, never at a step.
static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// What must have happened in any run over all seeds.
const REQUIRED: [&str; 80] = [
    // Counted by the engine.
    "flushes",
    "compactions",
    "split_compactions",
    "trivial_moves",
    "compaction_entries_dropped",
    "ingested_tables",
    "blob_flush_bytes",
    "blob_move_bytes",
    "blob_files_removed",
    "job_failures",
    "tables_removed",
    "delayed_writes",
    "log_packed_bytes",
    "warmed_blocks",
    // Files.
    "log segments begun",
    "log segments used again",
    "manifests begun",
    "faults",
    "reads that would wait",
    "reads announced",
    // What clients did.
    "ingests",
    "bulk loads",
    "bulk loads given up",
    "single deletes",
    "default ttls",
    "batches without a log",
    "compactions cancelled",
    "compactions that were paused",
    "closes beside clients",
    "waits until all was settled beside clients",
    "entries that a filter removed",
    "entries that a filter changed",
    "keys of multi-gets",
    "snapshots looked at again",
    "writes that were refused",
    "writes of unknown outcome",
    "keyspaces dropped",
    "tables left behind and taken",
    "strangers that were refused",
    "options changed while it was open",
    "looks beside writers that memory held back",
    // How generations ended, and what they began with.
    "closed",
    "dropped",
    "poisoned",
    "power lost",
    "two databases",
    "logs apart",
    "openings that failed",
    "generations in which it did not open",
    "options changed",
    "recoveries that left nothing",
    "databases at rest",
    "databases that were outlived",
    "closes that failed",
    "crashes in a close",
    "cursors that read on after a close",
    "keyspaces that dropped what was old",
    "values that left the files in time",
    "tables with a second name",
    "panics of the file system that a client met",
    "buffered batches that were old at a crash",
    "crashes behind a promise while others waited for one",
    "logs that were let go",
    "sound databases that were looked at",
    "databases that were only read",
    "damages that an open or a reader noticed",
    "damaged logs",
    "recoveries to a point in time",
    "repairs",
    "repairs with the log of another database",
    "crashes right behind a promise",
    // Orders of the user's own.
    "scans in an order of the user's own",
    "cursors over an order of the user's own",
    "ranges deleted in an order of the user's own",
    // A clock that goes back.
    "clocks set back while a database was open",
    "clocks set back before an open",
    "values that stay expired",
    "values that a clock brought back",
    "values that no clock could bring back",
    "ages and deadlines by a clock that was set back",
];

/// What must have happened besides where there is Zstandard.
const REQUIRED_OF_ZSTANDARD: [&str; 2] = ["tables with Zstandard", "tables with a dictionary"];

fn counts() -> MutexGuard<'static, BTreeMap<&'static str, u64>> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many more.
pub(super) fn add(what: &'static str, count: u64) {
    *counts().entry(what).or_default() += count;
}

/// Prints all counts.
///
/// # Panics
/// If something never happened.
pub(super) fn print_and_require() {
    let counts = std::mem::take(&mut *counts());
    let line: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    eprintln!("in these schedules: {}", line.join(", "));
    let of_feature = REQUIRED_OF_ZSTANDARD.iter().filter(|_| cfg!(feature = "zstd"));
    let required = REQUIRED.iter().chain(of_feature);
    let never = required.filter(|what| counts.get(*what).is_none_or(|count| *count == 0));
    let never: Vec<_> = never.collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}
