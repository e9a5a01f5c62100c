//! The user's view against a map of versions.

use std::collections::BTreeMap;
use std::ops::Bound;

use esker_base::{EntryKind, KeyRange, SeqNo};

use super::back::COPIED_VALUE_LEN_MAX;
use super::*;
use crate::cursor::vec_cursor::{Entry, VecCursor};
use crate::merge::MergingCursor;
use crate::operator::Merge;
use crate::sieve::tests::Commas;
use crate::test_random::TestRandom;

type View = VisibleCursor<MergingCursor<VecCursor>>;

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

/// What a reader at `snapshot` sees of `entries`, which ascend by number, in `range`.
fn visible(entries: &[Entry], snapshot: SeqNo, range: &KeyRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut values: BTreeMap<&[u8], Option<Vec<u8>>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.key().seqno() <= snapshot) {
        let value = values.entry(&entry.user_key).or_default();
        match (entry.key().kind(), &mut *value) {
            (EntryKind::Put, value) => *value = Some(entry.value.clone()),
            (EntryKind::Merge, Some(value)) => {
                value.push(b',');
                value.extend(&entry.value);
            }
            (EntryKind::Merge, value) => *value = Some(entry.value.clone()),
            (_, value) => *value = None,
        }
    }
    let existing = values.into_iter().filter_map(|(key, value)| Some((key.to_vec(), value?)));
    existing.filter(|(key, _)| range.contains(key)).collect()
}

fn random_range(random: &mut TestRandom) -> KeyRange {
    let bound = |random: &mut TestRandom| match random.below(4) {
        0 => Bound::Included(random.key(3, 3)),
        1 => Bound::Excluded(random.key(3, 3)),
        _ => Bound::Unbounded,
    };
    KeyRange { start: bound(random), end: bound(random) }
}

/// Entries of few keys, so that some have many versions; now and then one has dozens.
fn random_entries(random: &mut TestRandom) -> Vec<Entry> {
    let mut entries = Vec::new();
    let count = random.below(80);
    let favourite = random.key(3, 3);
    let favours = random.one_in(2);
    let merges = random.one_in(2);
    for number in 1..=count {
        let is_favourite = favours && random.below(3) > 0;
        let key = if is_favourite { favourite.clone() } else { random.key(3, 3) };
        let kinds =
            [EntryKind::Put, EntryKind::Tombstone, EntryKind::Merge, EntryKind::SingleDelete];
        let kind = if merges {
            kinds[random.below(4) as usize]
        } else {
            kinds[usize::from(random.one_in(3))]
        };
        let len = if random.one_in(5) { COPIED_VALUE_LEN_MAX as u64 + 1 } else { random.below(9) };
        let has_value = matches!(kind, EntryKind::Put | EntryKind::Merge);
        let value = if has_value { vec![number as u8; len as usize] } else { vec![] };
        entries.push(Entry::new(&key, number, kind, &value));
    }
    entries
}

fn view(entries: &[Entry], random: &mut TestRandom, snapshot: SeqNo, range: &KeyRange) -> View {
    let mut sources = vec![Vec::new(); 1 + random.below(4) as usize];
    for entry in entries {
        let source = random.below(sources.len() as u64) as usize;
        sources[source].push(entry.clone());
    }
    let sources = sources.into_iter().map(VecCursor::new).collect();
    let merge = Some(Merge::new(Commas { folds: random.one_in(2) }));
    let context = ReadContext { merge, ..ReadContext::default() };
    VisibleCursor::new(MergingCursor::new(sources), snapshot, range.clone(), context)
}

fn check(cursor: &View, expected: &[(Vec<u8>, Vec<u8>)], place: Option<usize>, context: &str) {
    assert_eq!(cursor.is_valid(), place.is_some(), "{context}");
    if let Some(place) = place {
        assert_eq!(cursor.key(), expected[place].0, "{context}");
        assert_eq!(cursor.value(), expected[place].1, "{context}");
        assert_eq!(&*cursor.pinned_value(), expected[place].1, "{context}");
    }
}

#[test]
fn every_walk_agrees_with_a_map_of_versions() {
    for seed in 0..600 {
        let random = &mut TestRandom::new(seed);
        let entries = random_entries(random);
        let snapshot = seqno(random.below(entries.len() as u64 + 2));
        let range = random_range(random);
        let expected = visible(&entries, snapshot, &range);
        let mut cursor = view(&entries, random, snapshot, &range);
        let mut place = None;
        for step in 0..80 {
            let context = format!("seed {seed} step {step} snapshot {snapshot} {range:?}");
            let target = random.key(3, 3);
            match (random.below(12), place) {
                (0, _) => {
                    cursor.seek_to_first().unwrap();
                    place = Some(0);
                }
                (1, _) => {
                    cursor.seek_to_last().unwrap();
                    place = expected.len().checked_sub(1);
                }
                (2, _) => {
                    cursor.seek(&target).unwrap();
                    place = Some(expected.partition_point(|(key, _)| *key < target));
                }
                (3, _) => {
                    cursor.seek_for_prev(&target).unwrap();
                    place = expected.partition_point(|(key, _)| *key <= target).checked_sub(1);
                }
                (4..=7, Some(at)) => {
                    cursor.next().unwrap();
                    place = Some(at + 1);
                }
                (_, Some(at)) => {
                    cursor.prev().unwrap();
                    place = usize::checked_sub(at, 1);
                }
                (_, None) => {}
            }
            place = place.filter(|&place| place < expected.len());
            check(&cursor, &expected, place, &context);
        }
    }
}

/// `count` versions of the key "m", between one version each of "a" and "z".
fn many_versions(count: u64) -> Vec<Entry> {
    let mut entries = vec![Entry::new(b"a", 1, EntryKind::Put, b"first")];
    for number in 0..count {
        entries.push(Entry::new(b"m", 10 + number, EntryKind::Put, &number.to_le_bytes()));
    }
    entries.push(Entry::new(b"z", 2, EntryKind::Put, b"last"));
    entries
}

#[test]
fn a_key_with_thousands_of_versions_costs_a_bounded_number_of_steps() {
    let entries = many_versions(5_000);
    for snapshot in [10, 2_000, 5_009] {
        let random = &mut TestRandom::new(snapshot);
        let mut cursor = view(&entries, random, seqno(snapshot), &KeyRange::all());
        let mut keys = Vec::new();
        cursor.seek_to_first().unwrap();
        while cursor.is_valid() {
            keys.push((cursor.key().to_vec(), cursor.seqno().get()));
            cursor.next().unwrap();
        }
        assert_eq!(keys, [(b"a".into(), 1), (b"m".into(), snapshot), (b"z".into(), 2)]);
        cursor.seek_to_last().unwrap();
        while cursor.is_valid() {
            assert_eq!(keys.pop(), Some((cursor.key().to_vec(), cursor.seqno().get())));
            cursor.prev().unwrap();
        }
        assert_eq!(keys, []);
        let stepped = cursor.stepped_over();
        assert!(stepped.versions < 12 * u64::from(STEPS_MAX), "{stepped:?}");
        assert!(stepped.seeks > 0, "{stepped:?}");
    }
}

#[test]
fn new_entries_of_many_keys_cost_no_seeks() {
    let mut entries = vec![Entry::new(b"zz", 1, EntryKind::Put, b"old")];
    for number in 0..500_u64 {
        let key = format!("k{number:04}");
        entries.push(Entry::new(key.as_bytes(), 10 + number, EntryKind::Put, b"new"));
    }
    let mut cursor = view(&entries, &mut TestRandom::new(1), seqno(5), &KeyRange::all());
    cursor.seek_to_first().unwrap();
    assert_eq!(cursor.key(), b"zz");
    assert_eq!(cursor.stepped_over().seeks, 0);
    assert_eq!(cursor.stepped_over().versions, 500);
}

#[test]
fn counts_tell_versions_from_tombstones() {
    let entries = [
        Entry::new(b"a", 3, EntryKind::Tombstone, b""),
        Entry::new(b"a", 1, EntryKind::Put, b"x"),
        Entry::new(b"b", 9, EntryKind::Put, b"too new"),
        Entry::new(b"b", 4, EntryKind::Put, b"y"),
    ];
    let mut cursor = view(&entries, &mut TestRandom::new(1), seqno(5), &KeyRange::all());
    cursor.seek_to_first().unwrap();
    assert_eq!((cursor.key(), cursor.value()), (b"b".as_slice(), b"y".as_slice()));
    assert_eq!(
        cursor.stepped_over(),
        SteppedOver { versions: 2, tombstones: 1, ..SteppedOver::default() }
    );
}

#[test]
fn kinds_without_a_meaning_are_errors_in_both_directions() {
    for kind in (0..=6).filter_map(EntryKind::from_byte) {
        let context = ReadContext::default();
        if context.meaning(kind, b"").is_ok() {
            continue;
        }
        let entries = [
            Entry::new(b"a", 1, EntryKind::Put, b"x"),
            Entry::new(b"b", 2, kind, b"y"),
            Entry::new(b"c", 3, EntryKind::Put, b"z"),
        ];
        let mut cursor = view(&entries, &mut TestRandom::new(1), seqno(5), &KeyRange::all());
        cursor.seek_to_first().unwrap();
        assert_eq!(cursor.key(), b"a");
        let error = cursor.next().unwrap_err();
        assert!(matches!(error, ReadError::UnsupportedKind(error) if error.kind == kind));
        assert!(!cursor.is_valid());
        cursor.seek_to_last().unwrap();
        assert_eq!(cursor.key(), b"c");
        assert!(cursor.prev().is_err());
        assert!(!cursor.is_valid());
        // A reader that does not see the entry is not disturbed by it.
        let mut earlier = view(&entries, &mut TestRandom::new(1), seqno(1), &KeyRange::all());
        earlier.seek_to_last().unwrap();
        assert_eq!(earlier.key(), b"a");
    }
}

fn operands(count: u64, len: usize) -> Vec<Entry> {
    let mut entries = vec![Entry::new(b"a", 1, EntryKind::Put, b"first")];
    entries.push(Entry::new(b"m", 2, EntryKind::Put, b"base"));
    for number in 0..count {
        let operand = vec![b'0' + (number % 10) as u8; len];
        entries.push(Entry::new(b"m", 10 + number, EntryKind::Merge, &operand));
    }
    entries.push(Entry::new(b"z", 3, EntryKind::Put, b"last"));
    entries
}

#[test]
fn long_chains_of_operands_are_merged_within_memory_in_both_directions() {
    // Many small ones, and some that together are past the limit, which half of the operators
    // can fold.
    for (count, len) in [(5_000, 3), (40, 300_000)] {
        let entries = operands(count, len);
        for (seed, snapshot) in [(1, 10), (2, 10 + count / 2), (3, 9 + count), (4, 20 + count)] {
            let random = &mut TestRandom::new(seed);
            let expected = visible(&entries, seqno(snapshot), &KeyRange::all());
            let mut cursor = view(&entries, random, seqno(snapshot), &KeyRange::all());
            cursor.seek_to_first().unwrap();
            let (mut place, mut there) = (0, "next next prev prev next prev".split(' '));
            loop {
                check(&cursor, &expected, Some(place), &format!("{count} at {snapshot}"));
                assert_eq!(cursor.seqno().get() > 9, place == 1);
                match there.next() {
                    Some("next") => {
                        cursor.next().unwrap();
                        place += 1;
                    }
                    Some(_) => {
                        cursor.prev().unwrap();
                        place -= 1;
                    }
                    None => break,
                }
            }
            let mut back = view(&entries, random, seqno(snapshot), &KeyRange::all());
            back.seek_to_last().unwrap();
            for place in [2, 1, 0] {
                check(&back, &expected, Some(place), &format!("{count} back at {snapshot}"));
                back.prev().unwrap();
            }
            assert!(!back.is_valid());
        }
    }
}

#[test]
fn operands_without_an_operator_that_can_merge_them_are_errors_of_their_key() {
    let entries = [
        Entry::new(b"a", 1, EntryKind::Put, b"x"),
        Entry::new(b"b", 2, EntryKind::Merge, b"bad"),
        Entry::new(b"c", 3, EntryKind::Put, b"z"),
    ];
    let random = &mut TestRandom::new(1);
    let mut cursor = view(&entries, random, seqno(5), &KeyRange::all());
    let failed = "the merge operator \"commas\" failed for the key \"b\": an operand is bad";
    let not_given = "the key \"b\" has operands for the merge operator \"commas\", and the \
                     keyspace was opened with none";
    let none = "the key \"b\" has operands, and the keyspace has no merge operator";
    for (merge, message) in
        [(None, failed), (Some(Some(Merge::named("commas"))), not_given), (Some(None), none)]
    {
        if let Some(merge) = merge {
            cursor.context.merge = merge;
        }
        cursor.seek_to_first().unwrap();
        assert_eq!(cursor.next().unwrap_err().to_string(), message);
        assert!(!cursor.is_valid());
        cursor.seek_to_last().unwrap();
        assert_eq!(cursor.prev().unwrap_err().to_string(), message);
        assert!(!cursor.is_valid());
        cursor.seek(b"c").unwrap();
        assert_eq!(cursor.key(), b"c");
    }
}

#[test]
fn nothing_is_read_for_a_place_outside_of_the_range() {
    let entries = [Entry::new(b"m", 1, EntryKind::Put, b"x")];
    let range = KeyRange::from_bounds(&(b"b".as_slice()..b"f".as_slice()));
    let mut cursor = view(&entries, &mut TestRandom::new(1), seqno(5), &range);
    cursor.seek(b"f").unwrap();
    cursor.seek_for_prev(b"a").unwrap();
    let empty = KeyRange::from_bounds(&(b"f".as_slice()..b"b".as_slice()));
    let mut nowhere = view(&entries, &mut TestRandom::new(1), seqno(5), &empty);
    nowhere.seek_to_first().unwrap();
    nowhere.seek_to_last().unwrap();
    for cursor in [cursor, nowhere] {
        assert!(!cursor.is_valid());
        assert_eq!(cursor.source().sources().iter().map(|s| s.seek_count).sum::<u64>(), 0);
    }
}

/// A cursor that goes back seeks to the newest entry of a key that has operands: where keys are out of order
/// that leads to places where it has been, again and again.
#[test]
fn going_back_over_operands_that_are_out_of_order_ends() {
    let operand = |key: &[u8], number| Entry::new(key, number, EntryKind::Merge, b"x");
    let orders: [&[&[u8]]; 3] =
        [&[b"a", b"c", b"b", b"c"], &[b"c", b"a"], &[b"b", b"b", b"a", b"b"]];
    for keys in orders {
        let numbered = keys.iter().zip(1..).map(|(key, number)| operand(key, number));
        let source = MergingCursor::new(vec![VecCursor::as_given(numbered.collect())]);
        let merge = Some(Merge::new(Commas { folds: true }));
        let context = ReadContext { merge, ..ReadContext::default() };
        let mut cursor = VisibleCursor::new(source, seqno(9), KeyRange::all(), context);
        let mut moved = cursor.seek_to_last();
        let mut moves = 0;
        while moved.is_ok() && cursor.is_valid() {
            moves += 1;
            assert!(moves < 50, "it goes on and on: {keys:?}");
            moved = cursor.prev();
        }
        let error = moved.unwrap_err().to_string();
        assert_eq!(error, "a table is damaged at offset 0: keys do not ascend", "{keys:?}");
    }
}
