//! Prefix filters against the entries of tables: never wrong, and of use.

use std::ops::Bound;

use esker_base::{Fragments, RangeTombstone, SeqNo};

use super::*;
use crate::testing::{Bed, Entry, Random, hard_entries, options};
use crate::{BlockKind, Compression, PrefixRule, TableOptions, TableProperties};

fn options_with(rule: PrefixRule) -> TableOptions {
    TableOptions { prefix_rule: Some(rule), ..options(300, Compression::Lz4) }
}

fn some_key(random: &mut Random, entries: &[Entry]) -> Vec<u8> {
    entries[random.below(entries.len() as u64) as usize].user_key.clone()
}

/// A bound at `key`, or close to it.
fn bound(random: &mut Random, mut key: Vec<u8>) -> Bound<Vec<u8>> {
    match random.below(5) {
        0 => key.push(random.below(256) as u8),
        1 => drop(key.pop()),
        2 => key.truncate(2),
        3 => key.iter_mut().last().into_iter().for_each(|last| *last = last.wrapping_add(1)),
        _ => {}
    }
    match random.below(9) {
        0 => Bound::Unbounded,
        1..5 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}

fn holds(entries: &[Entry], range: &KeyRange) -> bool {
    entries.iter().any(|entry| range.contains(&entry.user_key))
}

/// Keys of three bytes of a head and two of a tail, of which only every third head is there.
fn by_heads(count: u32) -> Vec<Entry> {
    let key = |number: u32| format!("{:03}/{:02}", number / 20 * 3, number % 20);
    (0..count).map(|number| Entry::put(key(number).as_bytes(), 5, b"value")).collect()
}

#[test]
fn what_is_excluded_is_not_there() {
    let rules = [PrefixRule::First(1), PrefixRule::First(2), PrefixRule::Through(b'/')];
    for (seed, rule) in (1_u64..).zip(rules) {
        let entries = hard_entries(seed, 4_000);
        let bed = Bed::new();
        let table = bed.table(&bed.build(1, options_with(rule), &entries));
        assert!(2 < table.properties().partition_count);
        let mut random = Random(seed);
        let mut excluded = 0;
        for _ in 0..30_000 {
            let first = some_key(&mut random, &entries);
            let is_short = random.below(2) == 0;
            let last = if is_short { first.clone() } else { some_key(&mut random, &entries) };
            let (start, end) = (bound(&mut random, first), bound(&mut random, last));
            let range = KeyRange { start, end };
            if table.prefix_verdict(&range).unwrap() == FilterVerdict::Excluded {
                excluded += u32::from(!range.is_empty());
                assert!(!holds(&entries, &range), "{rule}: {range:?}");
            }
        }
        assert!(rule != PrefixRule::First(2) || 0 < excluded, "no range was excluded");
    }
}

#[test]
fn absent_prefixes_are_excluded_and_present_ones_are_not() {
    for rule in [PrefixRule::First(3), PrefixRule::Through(b'/')] {
        let entries = by_heads(4_000);
        let bed = Bed::new();
        let table = bed.table(&bed.build(1, options_with(rule), &entries));
        assert!(4 < table.properties().partition_count);
        let mut let_through = 0;
        for head in 0..600 {
            let range = KeyRange::prefix(format!("{head:03}/").as_bytes());
            match table.prefix_verdict(&range).unwrap() {
                FilterVerdict::Excluded => assert_ne!(head % 3, 0, "{rule}: {head}"),
                FilterVerdict::MayContain => let_through += u32::from(head % 3 != 0),
                other => panic!("{other:?}"),
            }
        }
        assert!(let_through < 20, "of 400: {let_through}");
        let across = KeyRange::from_bounds(&("001/".."003/01"));
        assert_eq!(table.prefix_verdict(&across).unwrap(), FilterVerdict::Absent);
    }
}

/// Each prefix once in each partition, and not once for each key.
#[test]
fn a_prefix_of_many_keys_takes_the_bits_of_one() {
    let entries = by_heads(4_000);
    let filter_bytes = |rule| {
        let bed = Bed::new();
        let options = TableOptions { prefix_rule: rule, ..options(4096, Compression::Lz4) };
        let table = bed.table(&bed.build(1, options, &entries));
        let filters = table.walk().unwrap().map(Result::unwrap);
        let filters = filters.filter(|block| block.kind == BlockKind::Filter);
        filters.map(|block| block.handle.len).sum::<u64>()
    };
    let keys_alone = filter_bytes(None);
    let with = filter_bytes(Some(PrefixRule::First(3)));
    assert!(keys_alone < with && with < keys_alone * 112 / 100, "{keys_alone} {with}");
}

#[test]
fn a_prefix_that_spans_partitions_is_in_the_filter_of_each() {
    let key = |number: u32| format!("a{number:04}");
    let entries: Vec<_> =
        (0..3_000).map(|number| Entry::put(key(number).as_bytes(), 5, b"value")).collect();
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options_with(PrefixRule::First(1)), &entries));
    assert!(4 < table.properties().partition_count);
    for number in 0..3_000 {
        let range = KeyRange::from_bounds(&(key(number)..=key(number)));
        assert_eq!(table.prefix_verdict(&range).unwrap(), FilterVerdict::MayContain);
    }
}

#[test]
fn a_table_without_the_rule_or_without_a_filter_says_nothing() {
    let entries = by_heads(100);
    let bed = Bed::new();
    let range = KeyRange::prefix(b"001/");
    let none = bed.build(1, options(300, Compression::Lz4), &entries);
    assert_eq!(bed.table(&none).prefix_verdict(&range).unwrap(), FilterVerdict::Absent);
    let options = options_with(PrefixRule::First(3));
    let no_bits = TableOptions { filter_bits_per_key: 0, ..options };
    let none = bed.build(2, no_bits, &entries);
    assert_eq!(none.extras.prefix_rule, None, "it is recorded only where there is a filter");
    assert_eq!(bed.table(&none).prefix_verdict(&range).unwrap(), FilterVerdict::Absent);
}

#[test]
fn a_table_of_range_tombstones_alone_has_no_entries() {
    let (start, end, seqno) = (b"a".to_vec(), b"z".to_vec(), SeqNo::new(7).unwrap());
    let fragments = Fragments::of(vec![RangeTombstone { start, end, seqno }]);
    let bed = Bed::new();
    let options = options_with(PrefixRule::First(1));
    let table = bed.table(&bed.build_with_ranges(1, options, &[], fragments));
    let verdict = table.prefix_verdict(&KeyRange::prefix(b"b")).unwrap();
    assert_eq!(verdict, FilterVerdict::Excluded);
    assert_eq!(table.covering(b"b", SeqNo::MAX).unwrap(), SeqNo::new(7));
}

fn damaged(bed: &Bed, properties: &TableProperties) {
    let mut bytes = bed.bytes(1);
    for block in bed.table(properties).walk().unwrap().map(Result::unwrap) {
        if block.kind == BlockKind::Filter {
            bytes[block.handle.offset as usize + 20] ^= 1;
        }
    }
    bed.replace(1, &bytes);
}

#[test]
fn a_damaged_filter_is_counted_and_excludes_nothing() {
    let bed = Bed::new();
    let properties = bed.build(1, options_with(PrefixRule::First(3)), &by_heads(100));
    damaged(&bed, &properties);
    let table = bed.table(&properties);
    for head in 0..10 {
        let range = KeyRange::prefix(format!("{head:03}/").as_bytes());
        let verdict = table.prefix_verdict(&range).unwrap();
        assert_eq!(verdict, FilterVerdict::Damaged);
    }
    assert_eq!(table.damaged_filter_count(), 1);
}
