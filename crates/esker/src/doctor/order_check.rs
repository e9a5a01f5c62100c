//! Checks whether the order of runs and levels in a tree agrees with their entries.
//!
//! A point read takes the first entry that it finds, from the newest run to the oldest: of two
//! entries of a key, the newer must be in the newer run. If the sequence ranges of two tables do
//! not decide that because they overlap, their entries are merged and compared, with each other and
//! with the range tombstones over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::{Fragments, InternalKey, KeyRange, SeqNo, TableId};
use esker_env::FileError;
use esker_table::Table;
use esker_tree::{Cursor as _, MergingCursor, Run, RunCursor, Version};

use super::report::Finding;
use crate::error::Result;

/// The runs of `version`, newest first, with only the tables whose order can be decided only by
/// their entries. Tables in `damaged` are left out.
pub(super) fn undecided_runs(version: &Version, damaged: &BTreeSet<TableId>) -> Vec<Arc<Run>> {
    let runs: Vec<&Arc<Run>> = version.levels().iter().flat_map(|level| level.runs()).collect();
    let mut undecided = BTreeSet::new();
    for (index, newer) in runs.iter().enumerate() {
        for older in &runs[index + 1..] {
            for a in newer.tables() {
                let a = a.properties();
                let range = KeyRange::from_bounds::<Vec<u8>>(&(&a.smallest_key..=&a.largest_key));
                for b in older.overlapping(&range) {
                    let b = b.properties();
                    if a.seqno_min <= b.seqno_max {
                        undecided.extend([a.id, b.id]);
                    }
                }
            }
        }
    }
    let is_wanted = |table: &&Arc<Table>| {
        let id = table.properties().id;
        undecided.contains(&id) && !damaged.contains(&id)
    };
    let kept = runs.iter().filter_map(|run| {
        let tables: Vec<Arc<Table>> = run.tables().iter().filter(is_wanted).cloned().collect();
        let is_some = !tables.is_empty();
        is_some.then(|| Run::new(run.id(), tables).expect("tables of a run are disjoint"))
    });
    kept.map(Arc::new).collect()
}

/// Merges `runs`, newest first, and lists the tables with an entry that is older than, or equal to,
/// one of the same key in an older run. Reports bytes read to `progress`.
///
/// # Errors
/// Of the system. A table that is damaged ends the check with a finding.
pub(super) fn check_order(
    runs: &[Arc<Run>],
    mut progress: impl FnMut(u64),
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    match merge(runs, &mut findings, &mut progress) {
        Ok(()) => Ok(findings),
        Err(FileError::Corruption(corruption)) => {
            findings.push(Finding::new(corruption));
            Ok(findings)
        }
        Err(error) => Err(error.into()),
    }
}

/// Entries between two reports of progress.
const PROGRESS_ENTRIES: u64 = 8192;

fn merge(
    runs: &[Arc<Run>],
    findings: &mut Vec<Finding>,
    progress: &mut dyn FnMut(u64),
) -> std::result::Result<(), FileError> {
    // There may be more tables than allowed open files.
    let cursors = runs.iter().map(|run| RunCursor::closing(Arc::clone(run))).collect();
    let mut cursor = MergingCursor::new(cursors);
    let ranges: Vec<Fragments> =
        runs.iter().map(|run| ranges_of(run)).collect::<std::result::Result<_, FileError>>()?;
    let mut named = BTreeSet::new();
    let mut key: Vec<u8> = Vec::new();
    // The oldest run that entries of the key have come from so far, and the last number.
    let mut last: Option<(usize, SeqNo)> = None;
    let (mut bytes, mut entries) = (0, 0);
    cursor.seek_to_first()?;
    while cursor.is_valid() {
        let (source, current) = cursor.current();
        let entry = current.key();
        let before = last.filter(|_| key == entry.user_key);
        if let Some(what) = misplaced(&ranges, source, entry) {
            let table = current.table().properties().id;
            if named.insert(table) {
                findings.push(Finding::at(table.file_name(), 0, what));
            }
        }
        // Reads would tolerate a duplicate entry; compaction refuses it.
        if before.is_some_and(|(deepest, seqno)| source < deepest || seqno == entry.seqno()) {
            let table = current.table().properties().id;
            if named.insert(table) {
                let what = format!(
                    "the table holds {} of key \"{}\", not newer than an entry in a run behind it",
                    entry.seqno(),
                    entry.user_key.escape_ascii()
                );
                findings.push(Finding::at(table.file_name(), 0, what));
            }
        }
        if before.is_none() {
            key.clear();
            key.extend_from_slice(entry.user_key);
        }
        let deepest = before.map_or(source, |(deepest, _)| deepest.max(source));
        last = Some((deepest, entry.seqno()));
        bytes += (entry.user_key.len() + current.value().len()) as u64;
        entries += 1;
        if entries % PROGRESS_ENTRIES == 0 {
            progress(bytes);
        }
        cursor.next()?;
    }
    Ok(())
}

/// All range tombstones of a run.
fn ranges_of(run: &Run) -> std::result::Result<Fragments, FileError> {
    let mut tombstones = Vec::new();
    for table in run.tables_with_ranges() {
        tombstones.extend(table.anew().ranges()?.into_iter().flat_map(Fragments::tombstones));
    }
    Ok(Fragments::of(tombstones))
}

/// What is wrong, if a range tombstone over `entry`, which is in the run at index `source`, is on
/// the wrong side of it.
fn misplaced(ranges: &[Fragments], source: usize, entry: InternalKey<'_>) -> Option<String> {
    for (place, fragments) in ranges.iter().enumerate().filter(|(place, _)| *place != source) {
        let Some(fragment) = fragments.fragment(entry.user_key) else { continue };
        let is_wrong = |seqno: &SeqNo| match place < source {
            true => *seqno < entry.seqno(),
            false => entry.seqno() < *seqno,
        };
        if let Some(seqno) = fragment.seqnos.iter().find(|seqno| is_wrong(seqno)) {
            let key = entry.user_key.escape_ascii();
            let number = entry.seqno();
            return Some(format!(
                "the table holds {number} of key \"{key}\", on the wrong side of a range tombstone of \
                 {seqno}"
            ));
        }
    }
    None
}
