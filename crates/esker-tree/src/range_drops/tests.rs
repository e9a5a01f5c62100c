//! Which tables go without being read, on real tables in memory.

use std::sync::Arc;

use esker_base::{EntryKind, KeyRange, SeqNo};
use esker_env::{Fault, Operation, Rule};

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::plan::JobId;
use crate::test_tree::{TestTree, memtable_of, seqno};

fn put(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Put, b"value")
}

fn delete_range(start: &str, end: &str, number: u64) -> Entry {
    Entry::new(start.as_bytes(), number, EntryKind::RangeTombstone, end.as_bytes())
}

/// Keys from `k000` on in many small tables, and a newer run that deletes `start..end`.
fn tree_with(start: &str, end: &str) -> TestTree {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    let entries: Vec<Entry> = (0..300).map(|n| put(&format!("k{n:03}"), n + 1)).collect();
    let tables = tree.flush(&[memtable_of(&entries)], &nobody, 600);
    assert!(tables.len() > 5, "{} tables", tables.len());
    tree.flush(&[memtable_of(&[delete_range(start, end, 400)])], &nobody, 600);
    tree
}

fn drop_all(tree: &mut TestTree, readers: &Readers) -> usize {
    match pick_drop(&tree.version, &Busy::new(), readers).unwrap() {
        Some(plan) => {
            assert!(plan.is_drop && plan.reason == PlanReason::RangeDeleted);
            tree.remove(&plan.tables().collect::<Vec<_>>());
            plan.table_count()
        }
        None => 0,
    }
}

#[test]
fn covered_tables_go_without_being_read_and_then_the_tombstone() {
    let mut tree = tree_with("k", "l");
    let count = tree.version.table_count();
    let everyone = Readers::new(&[], seqno(500));
    // Every table but that of the tombstone fails to be read.
    for table in tree.version.levels()[0].runs()[1].tables() {
        let path = format!("**{}", table.properties().id.file_name());
        tree.faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Read]).path(&path));
    }
    assert_eq!(drop_all(&mut tree, &everyone), count, "nothing is left for it to hide");
    assert_eq!(tree.version.table_count(), 0);
    assert_eq!(drop_all(&mut tree, &everyone), 0);
}

#[test]
fn a_table_that_reaches_out_stays_and_so_does_the_tombstone() {
    let mut tree = tree_with("k0500", "k2005");
    let everyone = Readers::new(&[], seqno(500));
    let before = tree.contents(seqno(500), &KeyRange::all());
    let count = tree.version.table_count();
    let dropped = drop_all(&mut tree, &everyone);
    assert!(0 < dropped && dropped + 3 <= count, "{dropped} of {count}");
    assert_eq!(tree.contents(seqno(500), &KeyRange::all()), before);
    let has_ranges = |table: &Arc<esker_table::Table>| table.properties().extras.ranges.is_some();
    assert!(tree.version.tables().any(has_ranges));
    assert_eq!(drop_all(&mut tree, &everyone), 0);
}

#[test]
fn a_snapshot_keeps_what_it_sees() {
    let mut tree = tree_with("k", "l");
    let before = tree.contents(seqno(100), &KeyRange::all());
    assert_eq!(before.len(), 100);
    // Tables newer than the snapshot go: it sees nothing of them.
    assert!(drop_all(&mut tree, &Readers::new(&[seqno(100)], seqno(500))) > 0);
    assert_eq!(tree.contents(seqno(100), &KeyRange::all()), before);
    assert_eq!(tree.contents(seqno(500), &KeyRange::all()), []);
    // A tombstone that nobody sees yet hides nothing.
    assert_eq!(drop_all(&mut tree, &Readers::new(&[], seqno(399))), 0);
}

#[test]
fn tables_in_flight_are_left_alone() {
    let tree = tree_with("k", "l");
    let everyone = Readers::new(&[], seqno(500));
    let plan = pick_drop(&tree.version, &Busy::new(), &everyone).unwrap().unwrap();
    let mut busy = Busy::new();
    let first = Plan {
        inputs: vec![PlanInput {
            tables: plan.inputs[1].tables[..1].to_vec(),
            ..plan.inputs[1].clone()
        }],
        ..plan.clone()
    };
    let job: JobId = busy.start(first);
    let rest = pick_drop(&tree.version, &busy, &everyone).unwrap().unwrap();
    // The tombstone as well: it still hides the table in flight.
    assert_eq!(rest.table_count() + 2, plan.table_count());
    busy.finish(job);
}
