//! The merging cursor against a sorted list of all entries.

use esker_base::{EntryKind, InternalKey};

use super::*;
use crate::cursor::vec_cursor::{Entry, VecCursor};
use crate::test_random::TestRandom;

/// Deals random entries over `source_count` sources; returns them, and all entries in order.
fn deal(random: &mut TestRandom, source_count: u64) -> (Vec<VecCursor>, Vec<Entry>) {
    let mut sources = vec![Vec::new(); source_count as usize];
    let mut all = Vec::new();
    // Short keys and few of them, so that heads tie and versions of one key spread over sources.
    for seqno in 1..=random.below(60) {
        let key = random.key(3, 3);
        let entry = Entry::new(&key, seqno, EntryKind::Put, &seqno.to_le_bytes());
        sources[random.below(source_count) as usize].push(entry.clone());
        all.push(entry);
    }
    all.sort_by(|a, b| a.key().cmp(&b.key()));
    (sources.into_iter().map(VecCursor::new).collect(), all)
}

fn check(cursor: &MergingCursor<VecCursor>, all: &[Entry], place: Option<usize>) {
    assert_eq!(cursor.is_valid(), place.is_some());
    if let Some(place) = place {
        assert_eq!(cursor.key(), all[place].key());
        assert_eq!(cursor.value(), all[place].value);
        assert_eq!(cursor.head(), esker_base::key_head(&all[place].user_key));
        assert_eq!(&*cursor.pinned_value(), all[place].value);
    }
}

#[test]
fn every_walk_agrees_with_a_sorted_list() {
    for seed in 0..400 {
        let random = &mut TestRandom::new(seed);
        let source_count = 1 + random.below(6);
        let (sources, all) = deal(random, source_count);
        let mut cursor = MergingCursor::new(sources);
        let mut place: Option<usize> = None;
        check(&cursor, &all, place);
        for _ in 0..120 {
            let target_key = random.key(3, 3);
            let target = Entry::new(&target_key, random.below(61), EntryKind::Put, b"");
            match (random.below(12), place) {
                (0, _) => {
                    cursor.seek_to_first().unwrap();
                    place = Some(0);
                }
                (1, _) => {
                    cursor.seek_to_last().unwrap();
                    place = all.len().checked_sub(1);
                }
                (2, _) => {
                    cursor.seek(target.key()).unwrap();
                    place = Some(all.partition_point(|entry| entry.key() < target.key()));
                }
                (3, _) => {
                    cursor.seek_for_prev(target.key()).unwrap();
                    place = all.partition_point(|entry| entry.key() <= target.key()).checked_sub(1);
                }
                (4..=7, Some(at)) => {
                    cursor.next().unwrap();
                    place = Some(at + 1);
                }
                (_, Some(at)) => {
                    cursor.prev().unwrap();
                    place = at.checked_sub(1);
                }
                (_, None) => {}
            }
            place = place.filter(|&place| place < all.len());
            check(&cursor, &all, place);
        }
    }
}

#[test]
fn equal_keys_are_shown_newer_source_first_in_both_directions() {
    let source = |value: &[u8]| {
        VecCursor::new(vec![
            Entry::new(b"a", 5, EntryKind::Put, value),
            Entry::new(b"c", 5, EntryKind::Put, value),
        ])
    };
    let sources = vec![source(b"new"), source(b"middle"), source(b"old")];
    let mut cursor = MergingCursor::new(sources);
    cursor.seek_to_first().unwrap();
    let mut forward = Vec::new();
    while cursor.is_valid() {
        forward.push((cursor.key().user_key.to_vec(), cursor.value().to_vec()));
        // Back and forth again changes nothing.
        if forward.len() > 1 {
            cursor.prev().unwrap();
            cursor.next().unwrap();
        }
        cursor.next().unwrap();
    }
    let values: Vec<&[u8]> = forward.iter().map(|(_, value)| value.as_slice()).collect();
    assert_eq!(values, [b"new".as_slice(), b"middle", b"old", b"new", b"middle", b"old"]);
    let mut reverse = Vec::new();
    cursor.seek_to_last().unwrap();
    while cursor.is_valid() {
        reverse.push((cursor.key().user_key.to_vec(), cursor.value().to_vec()));
        cursor.prev().unwrap();
    }
    reverse.reverse();
    assert_eq!(reverse, forward);
}

#[test]
fn seek_to_a_near_target_leaves_sources_beyond_it_alone() {
    let source = |keys: &[&[u8]]| {
        VecCursor::new(keys.iter().map(|key| Entry::new(key, 1, EntryKind::Put, b"")).collect())
    };
    let sources = vec![source(&[b"a", b"b", b"c"]), source(&[b"x"]), source(&[b"y"])];
    let mut cursor = MergingCursor::new(sources);
    let first = |key| InternalKey::seek(key, esker_base::SeqNo::MAX);
    cursor.seek(first(b"a")).unwrap();
    cursor.seek(first(b"c")).unwrap();
    assert_eq!(cursor.key().user_key, b"c");
    let seeks: Vec<u64> = cursor.sources().iter().map(|source| source.seek_count).collect();
    assert_eq!(seeks, [2, 1, 1]);
}

/// A source that has jumped over a long stretch walked back through all of it.
#[test]
fn a_change_of_direction_in_a_stretch_that_was_jumped_over_takes_a_few_steps() {
    let source = |seqno: u64, numbers: &mut dyn Iterator<Item = u32>| {
        let entry = |n: u32| Entry::new(format!("{n:04}").as_bytes(), seqno, EntryKind::Put, b"");
        VecCursor::new(numbers.map(entry).collect())
    };
    let mut hidden = source(1, &mut (0..1000));
    hidden.skips = true;
    let newer = source(5, &mut [100, 500, 900].into_iter());
    let mut cursor = MergingCursor::new(vec![newer, hidden]);
    let middle = InternalKey::seek(b"0500", SeqNo::MAX);
    let seeks = |cursor: &MergingCursor<VecCursor>| cursor.sources()[1].seek_count;
    cursor.seek(InternalKey::seek(b"0100", SeqNo::MAX)).unwrap();
    cursor.next().unwrap();
    assert!(cursor.skip_to(b"0999", SeqNo::MAX).unwrap());
    assert_eq!(cursor.key().user_key, middle.user_key);
    let before = seeks(&cursor);
    cursor.prev().unwrap();
    assert_eq!((cursor.key().user_key, seeks(&cursor) - before), (&b"0499"[..], 1));
    assert!(cursor.skip_back_to(b"0001", SeqNo::MAX).unwrap());
    assert_eq!(cursor.key().user_key, b"0100");
    let before = seeks(&cursor);
    cursor.next().unwrap();
    assert_eq!((cursor.key().user_key, seeks(&cursor) - before), (&b"0100"[..], 1));
    assert_eq!(cursor.current().0, 1, "of the older source");
}

#[test]
fn cursor_is_not_valid_after_an_error_and_recovers_by_a_seek() {
    let entries = |keys: &[&[u8]]| {
        keys.iter().map(|key| Entry::new(key, 1, EntryKind::Put, b"")).collect::<Vec<_>>()
    };
    let mut broken = VecCursor::new(entries(&[b"a", b"c", b"e"]));
    broken.fails_at = Some(1);
    let mut cursor = MergingCursor::new(vec![broken, VecCursor::new(entries(&[b"b", b"d"]))]);
    cursor.seek_to_first().unwrap();
    assert!(cursor.next().is_err());
    assert!(!cursor.is_valid());
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key().user_key, b"e");
    assert!(cursor.prev().is_err());
    assert!(!cursor.is_valid());
    assert!(cursor.seek(InternalKey::seek(b"b", esker_base::SeqNo::MAX)).is_err());
    assert!(!cursor.is_valid());
}

#[test]
fn no_sources_are_an_empty_cursor() {
    let mut cursor = MergingCursor::<VecCursor>::new(Vec::new());
    cursor.seek_to_first().unwrap();
    assert!(!cursor.is_valid());
    cursor.seek_to_last().unwrap();
    assert!(!cursor.is_valid());
}
