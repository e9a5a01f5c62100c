//! Flush: immutable memtables become tables of one new run of level 0.
//!
//! Does not know when memtables are flushed, nor what happens to their log segments.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::RangeTombstone;
use esker_memtable::{Memtable, MemtableCursor};
use esker_table::{TableProperties, TableTimes};

use crate::blob_account::BlobAccount;
use crate::gc::{Gc, Readers};
use crate::job::{Job, JobError, TargetLevel};
use crate::merge::MergingCursor;
use crate::older::{OlderRuns, older_overlaps};
use crate::output::{Cuts, Outputs, are_hot};
use crate::range_gc::RangeGc;
use crate::rewrite::rewrite;
use crate::sieve::Sieve;
use crate::split::PartRange;
use crate::times::OutputTimes;
use crate::version::Version;

/// What a flush reads.
#[derive(Clone, Copy)]
pub struct FlushInput<'a> {
    /// The memtables to flush, oldest first; nothing older of the keyspace is in memory.
    pub memtables: &'a [Arc<Memtable>],
    /// The tables of the keyspace: all are older.
    pub version: &'a Version,
    /// Who reads.
    pub readers: &'a Readers,
    /// Size, in bytes, at which a table is finished.
    pub table_bytes_max: u64,
    /// When the entries were written.
    pub times: TableTimes,
}

/// Writes the entries of `input.memtables` that a reader needs to tables of level 0, ascending and
/// disjoint. Writes no table if no reader needs any entry.
///
/// # Durability
/// The tables and their names are durable when this returns.
///
/// # Errors
/// Of the file system, if the job is cancelled, or for an entry without a meaning. No file is then
/// left behind.
pub fn flush(job: &Job<'_>, input: FlushInput<'_>) -> Result<Vec<TableProperties>, JobError> {
    let mut source =
        MergingCursor::new(input.memtables.iter().rev().map(Memtable::cursor).collect());
    let populated = input.version.levels().iter().rposition(|level| !level.runs().is_empty());
    let target = TargetLevel { level: 0, deepest: populated.unwrap_or(0) };
    let mut older = OlderRuns::all(input.version);
    let inputs = BTreeSet::new();
    let gc = Gc::new(input.readers.clone(), false);
    let cuts = Cuts { keys: &[], bytes_max: input.table_bytes_max };
    let newest = input.memtables.iter().filter_map(|memtable| memtable.seqno_range()).map(|r| r.1);
    let is_seen_by_all = newest.max() <= Some(input.readers.oldest());
    let times = OutputTimes::of_memtables(input.times, is_seen_by_all, |first, last| {
        older_overlaps(input.version, (first, last), |_, _, _| true)
    });
    let ranges = RangeGc::new(range_tombstones(&input), input.readers, |start, end| {
        older.may_hold_any(start, end, &inputs)
    });
    let none = BlobAccount::default();
    let outputs = Outputs::new(*job, target.level, (job.options)(target), cuts, times, &none);
    let mut outputs =
        outputs.with_ranges(ranges.kept().clone()).keeping_blocks(are_hot(input.version.tables()));
    let counts = rewrite(
        job,
        &mut source,
        Sieve::new(gc, job.context, |user_key: &[u8]| {
            ranges.stays_over(user_key) || older.may_hold(user_key, &inputs)
        }),
        &ranges,
        (&PartRange::whole(), &mut outputs),
        |_: &MemtableCursor| "memtable".to_owned(),
    )?;
    let expected: u64 = input.memtables.iter().map(|memtable| memtable.entry_count()).sum();
    assert_eq!(counts.entries_in, expected, "a memtable that is flushed takes no more writes");
    let (added, files) = outputs.finish()?;
    files.claim();
    Ok(added)
}

/// The range tombstones of all memtables. In a table each must have an end: one without an end gets
/// one after everything older, which is all in these memtables and the tables.
fn range_tombstones(input: &FlushInput<'_>) -> Vec<RangeTombstone> {
    let memtables = input.memtables.iter();
    let mut tombstones: Vec<RangeTombstone> =
        memtables.flat_map(|memtable| memtable.range_tombstones()).collect();
    if tombstones.iter().any(|tombstone| tombstone.end.is_empty()) {
        let end = end_of_everything(input);
        for tombstone in tombstones.iter_mut().filter(|tombstone| tombstone.end.is_empty()) {
            tombstone.end.clone_from(&end);
        }
        tombstones.retain(|tombstone| tombstone.start < tombstone.end);
    }
    tombstones
}

/// Greater than every key of the memtables and the tables; empty if there is none.
fn end_of_everything(input: &FlushInput<'_>) -> Vec<u8> {
    let in_tables = input.version.tables().map(|table| {
        let properties = table.properties();
        let end = properties.largest_key.as_slice();
        if properties.ends_before(end) { end.to_vec() } else { successor(end) }
    });
    let in_memory = input.memtables.iter().filter_map(|memtable| {
        let mut cursor = memtable.cursor();
        cursor.seek_to_last();
        cursor.is_valid().then(|| successor(cursor.key().user_key))
    });
    in_tables.chain(in_memory).max().unwrap_or_default()
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;
