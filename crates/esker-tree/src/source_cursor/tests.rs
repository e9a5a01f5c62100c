//! Runs and memtables under one view, while the newest memtable takes writes.

use std::sync::Arc;

use esker_base::{EntryKind, KeyRange, SeqNo};
use esker_memtable::Memtable;

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::gc::Readers;
use crate::meaning::ReadContext;
use crate::merge::MergingCursor;
use crate::test_random::TestRandom;
use crate::test_tree::{TestTree, memtable_of, seqno, visible_contents};
use crate::visible::VisibleCursor;

fn random_entry(random: &mut TestRandom, number: u64) -> Entry {
    let kind = if random.one_in(4) { EntryKind::Tombstone } else { EntryKind::Put };
    let value = if kind == EntryKind::Put { number.to_le_bytes().to_vec() } else { Vec::new() };
    Entry::new(&random.key(3, 4), number, kind, &value)
}

fn insert(memtable: &Memtable, entry: &Entry) {
    let key = entry.key();
    memtable.writer().insert(key.user_key, key.seqno(), key.kind(), &entry.value);
}

#[test]
fn turning_passes_entries_that_were_written_meanwhile() {
    let put = |key: &str, number| Entry::new(key.as_bytes(), number, EntryKind::Put, b"");
    // Used up when the direction changes: it looks for its last or first entry anew.
    let active = memtable_of(&[put("a", 1)]);
    let older = memtable_of(&[put("b", 3), put("m", 4), put("y", 5)]);
    let mut cursor = MergingCursor::new(vec![active.cursor(), older.cursor()]);
    cursor.seek(put("m", 9).key()).unwrap();
    assert_eq!(cursor.key(), put("m", 4).key());
    for (number, key) in ["d", "n", "o", "p"].into_iter().enumerate() {
        insert(&active, &put(key, 10 + number as u64));
    }
    Cursor::prev(&mut cursor).unwrap();
    assert!(cursor.key() < put("m", 4).key(), "{:?}", cursor.key());
    let mut cursor = MergingCursor::new(vec![memtable_of(&[]).cursor(), older.cursor()]);
    let empty = cursor.sources()[0].memtable().clone();
    cursor.seek_for_prev(put("m", 0).key()).unwrap();
    for (number, key) in ["e", "f", "k"].into_iter().enumerate() {
        insert(&empty, &put(key, 20 + number as u64));
    }
    Cursor::next(&mut cursor).unwrap();
    assert!(cursor.key() > put("m", 4).key(), "{:?}", cursor.key());
}

/// The memtable, the newer run, and each table of the older run.
fn sources_of(active: &Arc<Memtable>, tree: &TestTree) -> Vec<SourceCursor> {
    let runs = tree.version.levels()[0].runs();
    let run = RunCursor::new(Arc::clone(&runs[0]), &KeyRange::all(), true);
    let mut sources = vec![SourceCursor::Memtable(active.cursor()), SourceCursor::Run(run)];
    let tables = runs[1].tables().iter();
    sources.extend(tables.map(|table| SourceCursor::Table(table.cursor(true))));
    sources
}

#[test]
fn a_view_stays_the_same_while_the_newest_memtable_takes_writes() {
    for seed in 0..40 {
        let random = &mut TestRandom::new(seed);
        let mut number = 0;
        let mut written = Vec::new();
        let mut some_entries = |random: &mut TestRandom, count: u64| {
            let entries: Vec<Entry> = (0..count)
                .map(|_| {
                    number += 1;
                    random_entry(random, number)
                })
                .collect();
            written.extend_from_slice(&entries);
            entries
        };
        let mut tree = TestTree::new();
        let nobody = Readers::new(&[], SeqNo::ZERO);
        for _ in 0..2 {
            let entries = some_entries(random, 40);
            tree.flush(&[memtable_of(&entries)], &nobody, 700);
        }
        let active = memtable_of(&some_entries(random, 30));
        let snapshot = seqno(number);
        let everything = KeyRange::all();
        let source = MergingCursor::new(sources_of(&active, &tree));
        let mut cursor =
            VisibleCursor::new(source, snapshot, everything.clone(), ReadContext::default());
        let expected = visible_contents(&written, snapshot, &everything);

        cursor.seek_to_first().unwrap();
        let mut place = Some(0);
        for step in 0..300 {
            for _ in 0..random.below(4) {
                number += 1;
                insert(&active, &random_entry(random, number));
            }
            let target = random.key(3, 4);
            match (random.below(12), place) {
                (0, _) => {
                    cursor.seek(&target).unwrap();
                    place = Some(expected.partition_point(|(key, _)| *key < target));
                }
                (1, _) => {
                    cursor.seek_for_prev(&target).unwrap();
                    place = expected.partition_point(|(key, _)| *key <= target).checked_sub(1);
                }
                (2..=6, Some(at)) => {
                    cursor.next().unwrap();
                    place = Some(at + 1);
                }
                (_, Some(at)) => {
                    cursor.prev().unwrap();
                    place = usize::checked_sub(at, 1);
                }
                (_, None) => {
                    cursor.seek_to_last().unwrap();
                    place = expected.len().checked_sub(1);
                }
            }
            place = place.filter(|&place| place < expected.len());
            assert_eq!(cursor.is_valid(), place.is_some(), "seed {seed} step {step}");
            if let Some(place) = place {
                let (key, value) = &expected[place];
                assert_eq!((cursor.key(), cursor.value()), (key.as_slice(), value.as_slice()));
                assert_eq!(&*cursor.pinned_value(), value.as_slice());
            }
        }
    }
}
