//! Compactions in parts: all of them or nothing, and of about equal size.

use super::*;
use crate::split::split;

const ENTRIES: u64 = 3000;

/// One run over all keys, and a newer one over the first tenth of them.
fn lopsided() -> TestTree {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    for (count, first) in [(ENTRIES, 1), (ENTRIES / 10, ENTRIES + 1)] {
        let entries: Vec<Entry> = (0..count).map(|n| put(&format!("k{n:05}"), first + n)).collect();
        tree.flush(&[memtable_of(&entries)], &nobody, 20_000);
    }
    tree
}

#[test]
fn parts_take_about_as_many_entries_each() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    let readers = Readers::new(&[], seqno(2 * ENTRIES));
    let parts = split(&tree.version, &plan, 4, 1).unwrap();
    assert_eq!(parts.len(), 4);
    let expected = (ENTRIES + ENTRIES / 10) / 4;
    for part in &parts {
        tree.progress.clear();
        tree.job(|job| compact_part(job, &tree.version, &plan, &readers, part)).unwrap();
        let taken = tree.progress.entries_in();
        assert!(taken.abs_diff(expected) < expected / 5, "{taken} of {expected}: {part:?}");
    }
}

#[test]
fn a_plan_is_cut_only_where_each_part_has_enough() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    let count = |count_max, bytes_min| {
        split(&tree.version, &plan, count_max, bytes_min).unwrap().len() as u64
    };
    assert_eq!((count(0, 1), count(1, 1)), (1, 1));
    assert_eq!(count(8, plan.input_bytes / 2 + 1), 1);
    assert_eq!(count(8, plan.input_bytes / 2), 2);
    assert_eq!(count(8, plan.input_bytes / 5), 5);
    assert_eq!(count(8, u64::MAX), 1);
}

#[test]
fn progress_of_the_parts_adds_up() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    let readers = Readers::new(&[], seqno(2 * ENTRIES));
    let parts = split(&tree.version, &plan, 5, 1).unwrap();
    tree.progress.clear();
    let output = tree.try_compact_in(&plan, &readers, &parts).unwrap();
    assert_eq!(output.entries_in, ENTRIES + ENTRIES / 10);
    assert_eq!(tree.progress.entries_in(), output.entries_in);
    assert_eq!(tree.progress.entries_dropped(), output.entries_dropped);
    let estimated = tree.progress.bytes_out();
    assert!(estimated > output.bytes_written / 2, "{estimated} of {}", output.bytes_written);
}

#[test]
fn parts_that_are_not_joined_leave_no_file_behind() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    let readers = Readers::new(&[], seqno(2 * ENTRIES));
    let parts = split(&tree.version, &plan, 3, 1).unwrap();
    let before = tree.files();
    let done: Vec<CompactedPart> = parts[..2]
        .iter()
        .map(|part| tree.job(|job| compact_part(job, &tree.version, &plan, &readers, part)))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_ne!(tree.files().0, before.0);
    drop(done);
    assert_eq!(tree.files(), before);
    // Nor if one of them fails, wherever.
    for patience in 0.. {
        tree.patience.set(patience);
        match tree.try_compact_in(&plan, &readers, &parts) {
            Err(JobError::Cancelled) => assert_eq!(tree.files(), before, "after {patience}"),
            Err(error) => panic!("{error}"),
            Ok(_) => return,
        }
    }
}

#[test]
fn a_part_that_is_missing_is_noticed_and_nothing_is_left() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    let readers = Readers::new(&[], seqno(2 * ENTRIES));
    let parts = split(&tree.version, &plan, 3, 1).unwrap();
    let before = tree.files();
    let error = tree.try_compact_in(&plan, &readers, &parts[1..]).unwrap_err();
    let counted = format!("entries where the tables count {}", ENTRIES + ENTRIES / 10);
    assert!(error.to_string().contains(&counted), "{error}");
    assert_eq!(tree.files(), before);
}

#[test]
fn damage_of_an_index_that_cuts_are_taken_from_is_reported() {
    let tree = lopsided();
    let plan = plan_of_all(&tree, 6);
    tree.faults.add(Rule::new(Fault::CorruptRead));
    let error = split(&tree.version, &plan, 4, 1).unwrap_err();
    assert!(matches!(error, FileError::Corruption(_)), "{error}");
}
