//! Compaction end to end, on real memtables and tables in memory.

mod blobs;
mod parts;
mod random;

use std::sync::Mutex;

use esker_base::{EntryKind, KeyRange, SeqNo};
use esker_env::{Fault, Operation, Rule};

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::plan::PlanReason;
use crate::test_random::TestRandom;
use crate::test_tree::{TestTree, memtable_of, seqno};

/// A plan with the inputs of `runs`: level, run and its tables, in any order.
fn plan_of(
    tree: &TestTree,
    inputs: &BTreeSet<TableId>,
    target_level: usize,
    target_run: Option<RunId>,
) -> Plan {
    let mut plan = Plan {
        reason: PlanReason::Manual,
        inputs: Vec::new(),
        target_level,
        target_run,
        cut_keys: Vec::new(),
        output_bytes_max: 2000,
        is_trivial_move: false,
        is_drop: false,
        first_key: Vec::new(),
        last_key: Vec::new(),
        input_bytes: 0,
    };
    for (level, runs) in tree.version.levels().iter().enumerate() {
        for run in runs.runs() {
            let ids = run.tables().iter().map(|table| table.properties().id);
            let tables: Vec<TableId> = ids.filter(|id| inputs.contains(id)).collect();
            let wanted = run.tables().iter().map(|table| table.properties());
            let wanted = wanted.filter(|table| inputs.contains(&table.id));
            plan.input_bytes += wanted.map(|table| table.file_bytes).sum::<u64>();
            if !tables.is_empty() {
                plan.inputs.push(PlanInput { level, run: run.id(), tables });
            }
        }
    }
    plan
}

/// A plan with every table, into a new run of `target_level`.
fn plan_of_all(tree: &TestTree, target_level: usize) -> Plan {
    let all = tree.version.tables().map(|table| table.properties().id).collect();
    plan_of(tree, &all, target_level, None)
}

fn put(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Put, format!("value{number}").as_bytes())
}

fn delete(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Tombstone, b"")
}

/// Three overlapping runs in level 0.
fn three_runs() -> TestTree {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    for run in 0..3 {
        let entries: Vec<Entry> =
            (0..200).map(|n| put(&format!("k{:03}", (n * 7) % 250), run * 200 + n + 1)).collect();
        tree.flush(&[memtable_of(&entries)], &nobody, 3000);
    }
    tree
}

#[test]
fn last_level_gets_puts_at_zero_and_no_tombstones() {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    tree.flush(&[memtable_of(&[put("a", 1), put("b", 2), put("c", 3)])], &nobody, 1 << 20);
    tree.flush(&[memtable_of(&[delete("a", 4), put("b", 5), put("d", 9)])], &nobody, 1 << 20);
    let plan = plan_of_all(&tree, 6);
    let output = tree.compact(&plan, &Readers::new(&[], seqno(8)));
    let at_zero = |key: &str, written: u64| Entry {
        trailer: Entry::new(b"", 0, EntryKind::Put, b"").trailer,
        ..put(key, written)
    };
    assert_eq!(tree.entries(), [at_zero("b", 5), at_zero("c", 3), put("d", 9)]);
    assert_eq!((output.entries_in, output.entries_dropped), (6, 3));
    assert_eq!(output.removed.len(), 2);
    assert_eq!(output.bytes_written, output.added[0].file_bytes);
    assert_eq!((output.added[0].level, output.added[0].seqno_min), (6, SeqNo::ZERO));
    // Both deepest levels are compressed by default, level 0 never.
    assert_eq!(output.added[0].compression, esker_table::Compression::Lz4);
}

#[test]
fn tombstone_is_kept_above_a_table_that_may_hold_its_key_and_dropped_beside_it() {
    let mut tree = TestTree::new();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    let everyone = Readers::new(&[], seqno(9));
    tree.flush(&[memtable_of(&[put("c", 1), put("m", 2)])], &nobody, 1 << 20);
    let down = plan_of_all(&tree, 6);
    tree.compact(&down, &nobody);
    // Overlapped by an older table at the time of the flush, so that the tombstones are kept.
    let deletes = [delete("a", 3), delete("f", 4), put("y", 5), delete("z", 6)];
    tree.flush(&[memtable_of(&deletes)], &nobody, 1 << 20);
    let flushed = tree.version.levels()[0].runs()[0].tables()[0].properties().id;
    let plan = plan_of(&tree, &BTreeSet::from([flushed]), 3, None);
    let output = tree.compact(&plan, &everyone);
    assert_eq!((output.entries_in, output.entries_dropped), (4, 2));
    // Above the last level, the put keeps its sequence number, though nothing older has its key.
    assert_eq!(tree.entries(), [put("c", 1), delete("f", 4), put("m", 2), put("y", 5)]);
}

#[test]
fn outputs_are_cut_at_the_keys_of_the_plan() {
    let mut tree = three_runs();
    let mut plan = plan_of_all(&tree, 4);
    plan.cut_keys = [b"a".as_slice(), b"k100", b"k1005", b"k2"].map(<[u8]>::to_vec).to_vec();
    plan.output_bytes_max = 1 << 30;
    let output = tree.compact(&plan, &Readers::new(&[], seqno(1000)));
    let bounds: Vec<(&[u8], &[u8])> = output
        .added
        .iter()
        .map(|table| (table.smallest_key.as_slice(), table.largest_key.as_slice()))
        .collect();
    let bound = |first: &'static str, last: &'static str| (first.as_bytes(), last.as_bytes());
    let expected = [
        bound("k000", "k099"),
        bound("k100", "k100"),
        bound("k101", "k198"),
        bound("k200", "k249"),
    ];
    assert_eq!(bounds, expected);
}

#[test]
fn cancelled_compaction_leaves_no_file_wherever_it_stops() {
    let tree = three_runs();
    let plan = plan_of_all(&tree, 6);
    let before = tree.files();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    let mut questions = 0;
    loop {
        tree.patience.set(questions);
        tree.progress.clear();
        match tree.try_compact(&plan, &nobody) {
            Err(JobError::Cancelled) => assert_eq!(tree.files(), before, "after {questions}"),
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        questions += 1;
    }
    assert!(questions >= 4, "asked about once a block, not {questions} times");
    assert!(tree.progress.bytes_in() > 600 * 10);
    assert_eq!(tree.progress.entries_in(), 600);
}

#[test]
fn every_failed_operation_ends_the_compaction_and_leaves_no_file() {
    let nobody = Readers::new(&[], SeqNo::ZERO);
    for operation in
        [Operation::Create, Operation::Open, Operation::Read, Operation::Write, Operation::Sync]
    {
        let mut failures = 0;
        for nth in 1.. {
            let tree = three_runs();
            let plan = plan_of_all(&tree, 6);
            let before = tree.files();
            let rule = Rule::new(Fault::Error(5)).on(&[operation]);
            tree.faults.add(rule.when(esker_env::When::Nth(nth)));
            match tree.try_compact(&plan, &nobody) {
                Err(JobError::File(FileError::Io(_))) => {
                    assert_eq!(tree.files(), before, "{operation:?} {nth}");
                    failures += 1;
                }
                Err(error) => panic!("{error}"),
                Ok(_) => break,
            }
        }
        assert!(failures >= 3, "{operation:?}: {failures}");
    }
}

#[test]
fn names_of_all_outputs_are_durable_before_the_result_is_returned() {
    let tree = three_runs();
    let plan = plan_of_all(&tree, 6);
    let changes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&changes);
    tree.faults.observe(move |event| {
        if event.operation.is_change() && event.operation != Operation::Write {
            seen.lock().unwrap().push(event.operation);
        }
    });
    let output = tree.try_compact(&plan, &Readers::new(&[], SeqNo::ZERO)).unwrap();
    assert!(output.added.len() > 2);
    let mut expected = [Operation::Create, Operation::Sync].repeat(output.added.len());
    expected.push(Operation::SyncDir);
    let changes = changes.lock().unwrap();
    let changes: Vec<_> = changes.iter().filter(|change| **change != Operation::Allocate).collect();
    assert_eq!(changes, expected.iter().collect::<Vec<_>>());
}

#[test]
fn failed_sync_of_the_directory_ends_the_compaction() {
    let tree = three_runs();
    let plan = plan_of_all(&tree, 6);
    let before = tree.files();
    tree.faults.add(Rule::new(Fault::Error(5)).on(&[Operation::SyncDir]));
    let nobody = Readers::new(&[], SeqNo::ZERO);
    assert!(matches!(tree.try_compact(&plan, &nobody), Err(JobError::File(_))));
    assert_eq!(tree.files(), before);
}

#[test]
fn damaged_input_is_corruption_and_leaves_no_file() {
    let tree = three_runs();
    let plan = plan_of_all(&tree, 6);
    let before = tree.files();
    let nobody = Readers::new(&[], SeqNo::ZERO);
    tree.faults.add(Rule::new(Fault::CorruptRead));
    let error = tree.try_compact(&plan, &nobody).unwrap_err();
    assert!(matches!(error, JobError::File(FileError::Corruption(_))), "{error}");
    tree.faults.clear();
    assert_eq!(tree.files(), before);
}

#[test]
fn input_with_another_count_of_entries_is_corruption() {
    let mut tree = three_runs();
    let entries = [put("k000", 1000)];
    let nobody = Readers::new(&[], SeqNo::ZERO);
    let mut tables = tree.flush(&[memtable_of(&entries)], &nobody, 1 << 20);
    // The same file again, with properties that lie.
    tables[0].entry_count = 2;
    tree.install_in_new_run(tables);
    let lying = tree.version.levels()[0].runs()[0].tables()[0].properties().id;
    let plan = plan_of(&tree, &BTreeSet::from([lying]), 0, None);
    let before = tree.files();
    let error = tree.try_compact(&plan, &nobody).unwrap_err();
    assert!(error.to_string().contains("read 1 entries where the tables count 2"), "{error}");
    assert_eq!(tree.files(), before);
}

#[test]
#[should_panic(expected = "passes")]
fn plan_that_takes_a_newer_entry_below_an_older_one_is_a_bug() {
    let mut tree = three_runs();
    let newest = tree.version.levels()[0].runs()[0].tables();
    let inputs = newest.iter().map(|table| table.properties().id).collect();
    let plan = plan_of(&tree, &inputs, 3, None);
    tree.compact(&plan, &Readers::new(&[], SeqNo::ZERO));
}
