//! Plans against garbage in blob files: which tables they take, when, and what becomes of the rest.

use super::*;
use crate::blob_account::pick_blob_waste;
use crate::blob_options::{BlobBound, BlobOptions};
use crate::plan::Busy;

/// Bytes that a table is aimed at: a few entries.
const TABLE_BYTES: u64 = 700;

fn bound(waste_percent_max: u32, due_millis: Option<u64>) -> BlobBound {
    BlobBound { waste_percent_max, due_millis }
}

/// Tables side by side in the last level, in the middle of which are some without large values; a
/// tenth of the large ones is garbage, all in one blob file.
fn tree_with_garbage() -> TestTree {
    let mut tree = TestTree::new();
    tree.blobs = BlobOptions { threshold_bytes: Some(300), ..BlobOptions::OFF };
    let nobody = Readers::new(&[], SeqNo::ZERO);
    let one = |n: u64| {
        let len = if (40..80).contains(&n) { 200 } else { 300 };
        let value: Vec<u8> = (0..len).map(|at| (n * 31 + at * at * 7) as u8).collect();
        Entry::new(format!("k{n:03}").as_bytes(), n + 1, EntryKind::Put, &value)
    };
    let entries: Vec<Entry> = (0..120).map(one).collect();
    tree.flush(&[memtable_of(&entries)], &nobody, 1 << 20);
    let deletes: Vec<Entry> =
        (0..120).step_by(10).map(|n| delete(&format!("k{n:03}"), 200 + n)).collect();
    tree.flush(&[memtable_of(&deletes)], &nobody, 1 << 20);
    let mut plan = plan_of_all(&tree, 6);
    plan.output_bytes_max = TABLE_BYTES;
    tree.compact(&plan, &Readers::new(&[], seqno(400)));
    let account = tree.account();
    assert_eq!(account.files().count(), 1);
    assert!(account.garbage_bytes() * 9 < account.record_bytes() && account.garbage_bytes() > 0);
    tree
}

fn pick(tree: &TestTree, busy: &Busy, bound: BlobBound) -> Option<Plan> {
    pick_blob_waste(&tree.version.shape(), busy, bound, TABLE_BYTES)
}

#[test]
fn garbage_within_its_bound_and_its_time_is_left_alone() {
    let tree = tree_with_garbage();
    let written = tree.account().files().next().unwrap().facts.written_millis;
    for (percent, due, is_past) in [
        (12, None, false),
        (12, Some(written - 1), false),
        (12, Some(written), true),
        (9, None, true),
        (9, Some(written - 1), true),
    ] {
        let plan = pick(&tree, &Busy::new(), bound(percent, due));
        assert_eq!(plan.is_some(), is_past, "{percent} % {due:?}");
        assert!(plan.is_none_or(|plan| plan.reason == PlanReason::BlobWaste));
    }
}

#[test]
fn a_file_without_garbage_is_never_due() {
    let mut tree = TestTree::new();
    tree.blobs = BlobOptions { threshold_bytes: Some(5), ..BlobOptions::OFF };
    tree.flush(&[memtable_of(&[put("a", 1)])], &Readers::new(&[], SeqNo::ZERO), 1 << 20);
    assert_eq!(tree.account().files().count(), 1);
    assert_eq!(pick(&tree, &Busy::new(), bound(1, Some(u64::MAX))), None);
}

#[test]
fn what_is_rewritten_stands_side_by_side_and_is_not_in_flight() {
    let mut tree = tree_with_garbage();
    tree.blobs.bound = bound(9, None);
    let ids = |tree: &TestTree| -> Vec<TableId> {
        tree.version.levels()[6].runs()[0].tables().iter().map(|t| t.properties().id).collect()
    };
    let refers = |tree: &TestTree, id: TableId| {
        let mut tables = tree.version.tables();
        tables.any(|t| t.properties().id == id && t.properties().extras.blobs.is_some())
    };
    let all = ids(&tree);
    let first = all.iter().take_while(|id| refers(&tree, **id)).copied().collect::<Vec<_>>();
    let others = all[first.len()..].iter().skip_while(|id| !refers(&tree, **id));
    let last = others.copied().collect::<Vec<_>>();
    assert!(!first.is_empty() && !last.is_empty() && first.len() + last.len() < all.len());
    let plan = pick(&tree, &Busy::new(), tree.blobs.bound).unwrap();
    assert_eq!(plan.tables().collect::<Vec<_>>(), first, "those before the gap");
    let mut busy = Busy::new();
    busy.start(plan.clone());
    let beside = pick(&tree, &busy, tree.blobs.bound).unwrap();
    assert_eq!(beside.tables().collect::<Vec<_>>(), last, "those behind it");
    busy.start(beside);
    assert_eq!(pick(&tree, &busy, tree.blobs.bound), None, "all are in flight");

    let entries = tree.entries().len();
    tree.compact(&plan, &Readers::new(&[], seqno(400)));
    let plan = pick(&tree, &Busy::new(), tree.blobs.bound).unwrap();
    assert_eq!(plan.tables().collect::<Vec<_>>(), last);
    tree.compact(&plan, &Readers::new(&[], seqno(400)));
    assert_eq!(pick(&tree, &Busy::new(), tree.blobs.bound), None);
    assert_eq!((tree.account().garbage_bytes(), tree.entries().len()), (0, entries));
    let (files, known) = tree.files();
    assert_eq!(files, known);
}

/// What became of the tables on both sides of a gap overlapped what was merged into the gap
/// meanwhile: the edit of whichever came last did not fit.
#[test]
fn tables_beside_a_gap_that_is_about_to_be_filled_wait() {
    let mut tree = tree_with_garbage();
    let smaller = Plan { output_bytes_max: 300, ..plan_of_all(&tree, 6) };
    tree.compact(&smaller, &Readers::new(&[], seqno(400)));
    let plan = pick(&tree, &Busy::new(), bound(9, None)).unwrap();
    let chosen: Vec<TableId> = plan.tables().collect();
    let tables = tree.version.levels()[6].runs()[0].tables();
    let first = tables.iter().find(|table| table.properties().id == chosen[0]).unwrap();
    assert!(chosen.len() > 1, "there is a gap behind the first");
    let gap = [&first.properties().largest_key[..], b"!"].concat();
    let filling = |level| {
        let mut busy = Busy::new();
        busy.start(Plan {
            reason: PlanReason::LevelZero,
            inputs: Vec::new(),
            target_level: level,
            first_key: gap.clone(),
            last_key: gap.clone(),
            ..plan.clone()
        });
        busy
    };
    assert_eq!(pick(&tree, &filling(6), bound(9, None)), None);
    assert_eq!(
        pick(&tree, &filling(5), bound(9, None)),
        Some(plan.clone()),
        "one above is no matter"
    );
}

#[test]
fn a_job_clears_files_that_are_due_and_leaves_the_others_where_they_are() {
    for (due, is_cleared) in [(None, false), (Some(u64::MAX), true)] {
        let mut tree = tree_with_garbage();
        tree.blobs.bound = bound(50, due);
        let old = tree.account().files().next().unwrap().facts.id;
        let plan = plan_of_all(&tree, 6);
        let output = tree.compact(&plan, &Readers::new(&[], seqno(400)));
        assert_eq!(tree.account().file(old).is_none(), is_cleared, "{due:?}");
        assert_eq!(output.blob_bytes_written > 0, is_cleared, "{due:?}");
        assert_eq!(tree.account().garbage_bytes() == 0, is_cleared, "{due:?}");
    }
}
