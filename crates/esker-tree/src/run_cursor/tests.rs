//! The run cursor against the sorted list of its entries.

use std::ops::Bound;

use esker_base::{EntryKind, SeqNo};

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::gc::Readers;
use crate::test_random::TestRandom;
use crate::test_tree::{TestTree, memtable_of};

/// A run of many small tables, and its entries. Versions of one key fill more than one block.
fn small_tables(seed: u64) -> (TestTree, Vec<Entry>) {
    let random = &mut TestRandom::new(seed);
    let mut entries = Vec::new();
    for number in 1..=200 {
        let key = random.key(3, 4);
        entries.push(Entry::new(&key, number, EntryKind::Put, &[number as u8; 20]));
    }
    let mut tree = TestTree::new();
    // Nobody can see any entry yet, so all are kept.
    let readers = Readers::new(&[], SeqNo::ZERO);
    tree.flush(&[memtable_of(&entries)], &readers, 600);
    entries.sort_by(|a, b| a.key().cmp(&b.key()));
    assert_eq!(tree.entries(), entries);
    (tree, entries)
}

fn only_run(tree: &TestTree) -> Arc<Run> {
    let runs = tree.version.levels()[0].runs();
    assert_eq!(runs.len(), 1);
    Arc::clone(&runs[0])
}

#[test]
fn every_walk_agrees_with_a_sorted_list() {
    for seed in 0..20 {
        let (tree, entries) = small_tables(seed);
        let run = only_run(&tree);
        assert!(run.tables().len() > 3, "{}", run.tables().len());
        let random = &mut TestRandom::new(seed);
        let mut cursor = RunCursor::new(run, &KeyRange::all(), true);
        let mut place: Option<usize> = None;
        for _ in 0..300 {
            let key = random.key(4, 4);
            let target = Entry::new(&key, random.below(201), EntryKind::Put, b"");
            match (random.below(10), place) {
                (0, _) => {
                    cursor.seek_to_first().unwrap();
                    place = Some(0);
                }
                (1, _) => {
                    cursor.seek_to_last().unwrap();
                    place = Some(entries.len() - 1);
                }
                (2, _) => {
                    cursor.seek(target.key()).unwrap();
                    place = Some(entries.partition_point(|entry| entry.key() < target.key()));
                }
                (3, _) => {
                    cursor.seek_for_prev(target.key()).unwrap();
                    let end = entries.partition_point(|entry| entry.key() <= target.key());
                    place = end.checked_sub(1);
                }
                (4..=6, Some(at)) => {
                    cursor.next().unwrap();
                    place = Some(at + 1);
                }
                (_, Some(at)) => {
                    cursor.prev().unwrap();
                    place = at.checked_sub(1);
                }
                (_, None) => {}
            }
            place = place.filter(|&place| place < entries.len());
            assert_eq!(cursor.is_valid(), place.is_some());
            if let Some(place) = place {
                assert_eq!(cursor.key(), entries[place].key());
                assert_eq!(cursor.value(), entries[place].value);
                assert_eq!(&*cursor.pinned_value(), entries[place].value);
            }
        }
    }
}

#[test]
fn tables_outside_of_the_range_are_never_opened() {
    for seed in 0..20 {
        let (tree, _) = small_tables(seed);
        // Fresh tables, which nothing has opened.
        let make = |table: &Arc<Table>| {
            Arc::new(Table::new(Arc::clone(&tree.context), Arc::clone(table.properties())))
        };
        let tables: Vec<_> = only_run(&tree).tables().iter().map(make).collect();
        let run = Arc::new(Run::new(only_run(&tree).id(), tables).unwrap());
        let random = &mut TestRandom::new(seed);
        let (low, high) = (random.key(3, 4), random.key(3, 4));
        let range = KeyRange { start: Bound::Excluded(low), end: Bound::Included(high) };
        let mut cursor = RunCursor::new(Arc::clone(&run), &range, true);
        for _ in 0..30 {
            let key = random.key(3, 4);
            cursor.seek(InternalKey::seek(&key, SeqNo::MAX)).unwrap();
            cursor.seek_for_prev(InternalKey::seek(&key, SeqNo::ZERO)).unwrap();
        }
        cursor.seek_to_first().unwrap();
        while cursor.is_valid() {
            cursor.next().unwrap();
        }
        cursor.seek_to_last().unwrap();
        while cursor.is_valid() {
            cursor.prev().unwrap();
        }
        for table in run.tables() {
            let properties = table.properties();
            let overlaps = range.overlaps(&properties.smallest_key, &properties.largest_key);
            assert_eq!(table.memory_bytes() > 0, overlaps && !range.is_empty(), "{range:?}");
        }
    }
}
