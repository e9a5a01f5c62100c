//! Times of outputs: extremes of what overlaps, and debts until they are paid.

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::gc::Readers;
use crate::plan::{Plan, PlanInput, PlanReason};
use crate::shape::RunId;
use crate::test_tree::{TestTree, memtable_of, seqno};
use crate::testing::parse_table;
use esker_base::EntryKind;

fn put(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Put, b"value")
}

fn delete(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Tombstone, b"")
}

fn times(oldest: u64, newest: u64, oldest_tombstone: Option<u64>) -> TableTimes {
    TableTimes { oldest, newest, oldest_tombstone, written: newest }
}

#[test]
fn a_debt_is_taken_over_until_nothing_older_overlaps() {
    for (has_tombstones, has_older, debt) in [
        (true, true, Some(7)),
        (true, false, Some(7)),
        (false, true, Some(7)),
        (false, false, None),
    ] {
        let source = OutputTimes::of_memtables(times(5, 20, Some(7)), true, |_, _| has_older);
        let expected = TableTimes { oldest: 5, newest: 20, oldest_tombstone: debt, written: 30 };
        let held = Held { has_tombstones, has_replaced: false };
        assert_eq!(source.of_output((b"a", b"b"), held, 30), expected);
    }
}

/// With operands above a value that expires, entries are replaced for as long as that is there: it would
/// have been rewritten again and again.
#[test]
fn a_debt_is_taken_over_with_replaced_entries_only_if_a_snapshot_may_need_them() {
    for (has_replaced, is_seen_by_all, debt) in
        [(true, false, Some(7)), (true, true, None), (false, false, None)]
    {
        let times = times(5, 20, Some(7));
        let source = OutputTimes::of_memtables(times, is_seen_by_all, |_, _| false);
        let held = Held { has_tombstones: false, has_replaced };
        assert_eq!(source.of_output((b"a", b"b"), held, 30).oldest_tombstone, debt);
    }
}

/// A plan that merges all runs of level 0 into a new run of `target_level`.
fn merge_all(tree: &TestTree, target_level: usize) -> Plan {
    let runs = tree.version.levels()[0].runs();
    let input = |run: &Arc<Run>| PlanInput {
        level: 0,
        run: run.id(),
        tables: run.tables().iter().map(|table| table.properties().id).collect(),
    };
    Plan {
        reason: PlanReason::Manual,
        inputs: runs.iter().map(input).collect(),
        target_level,
        target_run: None,
        cut_keys: vec![b"m".to_vec()],
        output_bytes_max: 1 << 20,
        is_trivial_move: false,
        is_drop: false,
        first_key: b"a".to_vec(),
        last_key: b"z".to_vec(),
        input_bytes: 0,
    }
}

#[test]
fn outputs_take_over_the_times_of_the_inputs_that_they_overlap() {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], seqno(9));
    let flush = |tree: &mut TestTree, entries: &[_], times| {
        let added = tree.try_flush_at(&[memtable_of(entries)], &nobody, 1 << 20, times).unwrap();
        let added_run = RunId(tree.mint());
        tree.install_at(added, 0, added_run);
    };
    flush(&mut tree, &[put("a", 1), put("c", 2)], times(10, 20, None));
    flush(&mut tree, &[put("x", 3), put("z", 4)], times(30, 40, None));
    flush(&mut tree, &[delete("y", 5)], times(50, 60, Some(55)));
    let output = tree.compact(&merge_all(&tree, 3), &nobody);
    let extremes = |table: &TableProperties| {
        let times = table.extras.times.unwrap();
        (times.oldest, times.newest, times.oldest_tombstone)
    };
    let found: Vec<_> = output.added.iter().map(extremes).collect();
    // The tombstone was spent: nothing older is left that it could hide.
    assert_eq!(found, [(10, 20, None), (30, 60, None)]);
}

#[test]
fn a_shadowed_tombstone_leaves_its_debt() {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], seqno(9));
    let added =
        tree.try_flush_at(&[memtable_of(&[put("k", 1)])], &nobody, 1 << 20, times(1, 2, None));
    let run = RunId(tree.mint());
    tree.install_at(added.unwrap(), 4, run);
    let entries = [delete("k", 2), put("k", 3)];
    let times = times(10, 20, Some(10));
    let added = tree.try_flush_at(&[memtable_of(&entries)], &nobody, 1 << 20, times).unwrap();
    assert_eq!((added[0].entry_count, added[0].tombstone_count), (1, 0));
    assert_eq!(added[0].extras.times.unwrap().oldest_tombstone, Some(10));
}

#[test]
fn tables_that_say_nothing_count_as_of_any_age() {
    let mut table = parse_table("1[a..b 10B]");
    assert_eq!(
        times_of(&table, 9),
        TableTimes { oldest: 0, newest: 9, oldest_tombstone: None, written: 0 }
    );
    table.tombstone_count = 1;
    assert_eq!(times_of(&table, 9).oldest_tombstone, Some(0));
}
