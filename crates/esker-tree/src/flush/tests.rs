//! What flush keeps, how it cuts, and how it ends early.

use esker_base::{EntryKind, KeyRange};

use super::*;
use crate::cursor::vec_cursor::Entry;
use crate::test_tree::{TestTree, memtable_of, seqno};

fn put(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Put, format!("{key}{number}").as_bytes())
}

fn delete(key: &str, number: u64) -> Entry {
    Entry::new(key.as_bytes(), number, EntryKind::Tombstone, b"")
}

#[test]
fn memtables_are_merged_and_only_what_readers_need_is_written() {
    let mut tree = TestTree::new();
    let older = memtable_of(&[put("a", 1), put("b", 2), put("c", 3)]);
    let newer = memtable_of(&[put("a", 4), delete("b", 5), put("d", 6), put("d", 7)]);
    let tables = tree.flush(&[older, newer], &Readers::new(&[seqno(3)], seqno(6)), 1 << 20);
    let expected = [
        put("a", 4),
        put("a", 1),
        delete("b", 5),
        put("b", 2),
        put("c", 3),
        put("d", 7),
        put("d", 6),
    ];
    assert_eq!(tree.entries(), expected);
    assert_eq!((tables.len(), tables[0].level), (1, 0));
    let without_snapshot = tree
        .try_flush(
            &[memtable_of(&[put("a", 8), put("a", 9), delete("e", 10)])],
            &Readers::new(&[], seqno(10)),
            1 << 20,
        )
        .unwrap();
    // The tombstone hides nothing that a table could hold: no table reaches as far as "e".
    assert_eq!(without_snapshot[0].entry_count, 1);
    assert_eq!(without_snapshot[0].tombstone_count, 0);
}

#[test]
fn tombstone_is_kept_where_a_table_may_hold_its_key() {
    let mut tree = TestTree::new();
    let readers = Readers::new(&[], seqno(9));
    tree.flush(&[memtable_of(&[put("a", 1), put("m", 2)])], &readers, 1 << 20);
    let tables = tree.flush(&[memtable_of(&[delete("g", 3), delete("n", 4)])], &readers, 1 << 20);
    assert_eq!(tables.len(), 1);
    assert_eq!(tree.entries(), [put("a", 1), delete("g", 3), put("m", 2)]);
}

#[test]
fn nothing_left_means_no_table() {
    let mut tree = TestTree::new();
    let memtable = memtable_of(&[put("a", 1), delete("a", 2)]);
    assert_eq!(tree.flush(&[memtable], &Readers::new(&[], seqno(2)), 1 << 20), []);
    assert_eq!(tree.flush(&[], &Readers::new(&[], seqno(2)), 1 << 20), []);
    assert!(tree.files().0.is_empty());
}

#[test]
fn tables_are_cut_between_keys_and_never_inside_one() {
    let mut tree = TestTree::new();
    let mut entries = Vec::new();
    for number in 1..=300 {
        entries.push(put(["b", "d", "f"][number as usize % 3], number));
        entries.push(put(&format!("c{number:03}"), 300 + number));
    }
    let readers = Readers::new(&[], seqno(0));
    let tables = tree.flush(&[memtable_of(&entries)], &readers, 1000);
    assert!(tables.len() > 4);
    assert_eq!(tables.iter().map(|table| table.entry_count).sum::<u64>(), 600);
    assert!(tables.iter().all(|table| table.file_bytes < 6000));
    assert_eq!(tree.contents(seqno(700), &KeyRange::all()).len(), 303);
    // Names were made durable once, after the last table.
    assert_eq!(tree.files().0, tree.files().1);
}

#[test]
fn entry_without_a_meaning_ends_the_flush_and_leaves_no_file() {
    let mut tree = TestTree::new();
    // A reference means nothing where blob files cannot be read.
    tree.reads.blobs = None;
    let mut entries: Vec<Entry> =
        (1..500).map(|number| put(&format!("k{number}"), number)).collect();
    entries.push(Entry::new(b"z", 500, EntryKind::BlobReference, b"x"));
    let readers = Readers::new(&[], seqno(0));
    let error = tree.try_flush(&[memtable_of(&entries)], &readers, 1000).unwrap_err();
    let kind = EntryKind::BlobReference;
    assert!(matches!(error, JobError::UnsupportedKind(error) if error.kind == kind));
    assert!(tree.next_counter.get() > 2, "tables were written");
    assert!(tree.files().0.is_empty());
}
