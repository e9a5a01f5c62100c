//! Cursors against a sorted vector: every seek, every step, in both directions.

use esker_base::{InternalKey, SeqNo, key_head};

use super::*;
use crate::Compression;
use crate::testing::{Bed, Entry, Random, hard_entries, options};

/// Checks that `cursor` stands on entry `place` of `entries`, or on none.
fn check(cursor: &TableCursor, entries: &[Entry], place: Option<usize>) {
    let Some(entry) = place.and_then(|place| entries.get(place)) else {
        assert!(!cursor.is_valid());
        return;
    };
    assert!(cursor.is_valid(), "the cursor stands on {:?}", entry.key());
    assert_eq!(cursor.key(), entry.key());
    assert_eq!(cursor.head(), key_head(&entry.user_key));
    assert_eq!(cursor.value(), entry.value);
    assert_eq!(*cursor.value_slice(), *entry.value);
}

fn target(random: &mut Random, entries: &[Entry]) -> (Vec<u8>, SeqNo) {
    let mut user_key = entries[random.below(entries.len() as u64) as usize].user_key.clone();
    match random.below(6) {
        0 => user_key.push(0),
        1 => drop(user_key.pop()),
        2 => user_key = vec![255; 30],
        _ => {}
    }
    (
        user_key,
        SeqNo::new([0, random.below(5_000), SeqNo::MAX.get()][random.below(3) as usize]).unwrap(),
    )
}

#[test]
fn random_walk_agrees_with_a_sorted_vector() {
    for (seed, block_size, fill_cache) in [(1, 64, true), (2, 500, false), (3, 4096, true)] {
        let entries = hard_entries(seed, 1_500);
        let bed = Bed::with_cache(100_000);
        let table = bed.table(&bed.build(1, options(block_size, Compression::Lz4), &entries));
        let mut cursor = table.cursor(fill_cache);
        let mut random = Random(seed);
        let mut place: Option<usize> = None;
        for _ in 0..6_000 {
            match random.below(12) {
                0 => {
                    let (user_key, seqno) = target(&mut random, &entries);
                    let target = InternalKey::seek(&user_key, seqno);
                    cursor.seek(target).unwrap();
                    place = Some(entries.partition_point(|entry| entry.key() < target));
                }
                1 => {
                    let (user_key, seqno) = target(&mut random, &entries);
                    let target = InternalKey::seek(&user_key, seqno);
                    cursor.seek_for_prev(target).unwrap();
                    place = entries.partition_point(|entry| entry.key() <= target).checked_sub(1);
                }
                2 if random.below(20) == 0 => {
                    cursor.seek_to_first().unwrap();
                    place = Some(0);
                }
                3 if random.below(20) == 0 => {
                    cursor.seek_to_last().unwrap();
                    place = Some(entries.len() - 1);
                }
                4..=8 if cursor.is_valid() => {
                    if random.below(2) == 0 || cursor.step() != Some(cursor.head()) {
                        cursor.next().unwrap();
                    }
                    place = place.map(|place| place + 1);
                }
                9.. if cursor.is_valid() => {
                    if random.below(2) == 0 || cursor.step_back() != Some(cursor.head()) {
                        cursor.prev().unwrap();
                    }
                    place = place.and_then(|place| place.checked_sub(1));
                }
                _ => {}
            }
            check(&cursor, &entries, place);
            if let Some(place) = place.filter(|_| cursor.is_valid()) {
                let before = place.checked_sub(1).map(|before| &entries[before].user_key);
                let is_first = before != Some(&entries[place].user_key);
                assert_eq!(cursor.is_first_of_key(), is_first);
            }
        }
    }
}

#[test]
fn steps_end_at_blocks_and_at_entries_of_the_same_key() {
    let entries = hard_entries(5, 600);
    let bed = Bed::with_cache(1 << 20);
    let properties = bed.build(1, options(500, Compression::None), &entries);
    let table = bed.table(&properties);
    let mut cursor = table.cursor(true);
    assert_eq!((cursor.step(), cursor.step_back()), (None, None), "it stands nowhere");
    cursor.seek_to_first().unwrap();
    let (mut far, mut far_back) = (0, 0);
    for pair in entries.windows(2) {
        let is_other = pair[0].user_key != pair[1].user_key;
        if cursor.step().is_none() {
            far += u32::from(is_other);
            assert_eq!(cursor.key(), pair[0].key(), "nothing has changed");
            cursor.next().unwrap();
        } else {
            assert!(is_other);
        }
    }
    assert_eq!(cursor.step(), None);
    for pair in entries.windows(2).rev() {
        let is_other = pair[0].user_key != pair[1].user_key;
        if cursor.step_back().is_none() {
            far_back += u32::from(is_other);
            assert_eq!(cursor.key(), pair[1].key(), "nothing has changed");
            cursor.prev().unwrap();
        } else {
            assert!(is_other);
        }
    }
    assert_eq!((cursor.step_back(), cursor.key()), (None, entries[0].key()));
    assert_eq!(far, far_back);
    assert!(0 < far && far < properties.data_block_count, "some keys reach across blocks");
}

#[test]
fn seeks_to_every_entry_itself_land_on_it() {
    let entries = hard_entries(4, 1_000);
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(200, Compression::None), &entries));
    let mut cursor = table.cursor(true);
    for (place, entry) in entries.iter().enumerate() {
        cursor.seek(entry.key()).unwrap();
        check(&cursor, &entries, Some(place));
        cursor.seek_for_prev(entry.key()).unwrap();
        check(&cursor, &entries, Some(place));
    }
}

#[test]
fn scans_both_ways_see_everything_with_and_without_the_cache() {
    let entries = hard_entries(5, 4_000);
    for fill_cache in [true, false] {
        let bed = Bed::new();
        let table = bed.table(&bed.build(1, options(512, Compression::Lz4), &entries));
        let mut cursor = table.cursor(fill_cache);
        cursor.seek_to_first().unwrap();
        for place in 0..entries.len() {
            check(&cursor, &entries, Some(place));
            cursor.next().unwrap();
        }
        assert!(!cursor.is_valid());
        cursor.seek_to_last().unwrap();
        for place in (0..entries.len()).rev() {
            check(&cursor, &entries, Some(place));
            cursor.prev().unwrap();
        }
        assert!(!cursor.is_valid());
        let blocks = u64::from(table.properties().data_block_count);
        let partitions = table.open().unwrap().top.partitions().len() as u64;
        let stats = bed.context.cache.stats();
        let expected = partitions + if fill_cache { blocks } else { 0 };
        assert_eq!((stats.loads, stats.resident_count), (expected, expected), "each once");
        // The last block is entered twice on the way, and is held the second time.
        assert!(stats.hits >= if fill_cache { blocks - 1 } else { 0 });
    }
}

#[test]
fn scan_reads_many_blocks_at_once_and_charges_what_it_holds() {
    let mut random = Random(7);
    let entries: Vec<Entry> = (0..20_000_u32)
        .map(|key| Entry::put(format!("{key:06}").as_bytes(), 1, &random.bytes(50)))
        .collect();
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(1024, Compression::None), &entries));
    let mut cursor = table.cursor(false);
    cursor.seek_to_first().unwrap();
    for _ in 0..5_000 {
        cursor.next().unwrap();
    }
    let held = bed.budget.used(esker_cache::Owner::Compaction);
    assert!(held > 0, "the window is charged");
    drop(cursor);
    assert_eq!(bed.budget.used(esker_cache::Owner::Compaction), 0);
}

#[test]
fn scan_past_a_huge_value_does_not_go_on_to_hold_as_much_memory() {
    // The window grew to the block, and stayed so for the rest of the cursor's life.
    let mut random = Random(8);
    let entry = |key: u32, len: usize, random: &mut Random| {
        Entry::put(format!("{key:06}").as_bytes(), 1, &random.bytes(len))
    };
    let mut entries: Vec<Entry> = (0..4_000).map(|key| entry(key, 500, &mut random)).collect();
    entries[1_000] = entry(1_000, 3 << 20, &mut random);
    for (fill_cache, most) in [(true, 256 << 10), (false, 1 << 20)] {
        let bed = Bed::new();
        let table = bed.table(&bed.build(1, options(4_096, Compression::None), &entries));
        let mut cursor = table.cursor(fill_cache);
        let held = || {
            let owners = [esker_cache::Owner::Compaction, esker_cache::Owner::Iterators];
            owners.map(|owner| bed.budget.used(owner)).iter().sum::<u64>()
        };
        let mut largest = 0;
        cursor.seek_to_first().unwrap();
        for place in 0..entries.len() {
            check(&cursor, &entries, Some(place));
            largest = largest.max(held());
            cursor.next().unwrap();
        }
        cursor.seek_to_last().unwrap();
        for place in (0..entries.len()).rev() {
            check(&cursor, &entries, Some(place));
            largest = largest.max(held());
            cursor.prev().unwrap();
        }
        assert!(0 < largest && largest <= most, "{largest}");
    }
}
