//! Tables against a sorted vector: point reads at every snapshot, sizes, traces, charges.

use std::ops::Bound;
use std::sync::Arc;

use esker_base::checksum::hash_key;
use esker_base::{EntryKind, KeyRange, SeqNo};
use esker_cache::Owner;

use crate::testing::{Bed, Entry, Random, expected, get, hard_entries, options, sorted};
use crate::{
    BlockKind, BlockRead, Compression, FilterVerdict, ReadTrace, TableOptions, TableProperties,
};

#[test]
fn every_key_at_every_snapshot_answers_as_a_sorted_vector() {
    for (seed, block_size, compression) in
        [(1, 64, Compression::None), (2, 400, Compression::Lz4), (3, 4096, Compression::Lz4)]
    {
        let entries = hard_entries(seed, 1_500);
        let bed = Bed::new();
        let table = bed.table(&bed.build(1, options(block_size, compression), &entries));
        let mut random = Random(seed);
        for entry in &entries {
            let seqno = entry.trailer.seqno().get();
            let snapshots = [seqno, seqno.saturating_sub(1), random.below(5_000), SeqNo::MAX.get()];
            for snapshot in snapshots.map(|seqno| SeqNo::new(seqno).unwrap()) {
                let found = get(&table, &entry.user_key, snapshot).unwrap();
                assert_eq!(found.as_ref(), expected(&entries, &entry.user_key, snapshot));
            }
            let absent = [&entry.user_key, [0].as_slice()].concat();
            let found = get(&table, &absent, SeqNo::MAX).unwrap();
            assert_eq!(found.as_ref(), expected(&entries, &absent, SeqNo::MAX));
        }
        assert_eq!(table.verify().unwrap().corruptions, []);
    }
}

#[test]
fn extreme_entries_survive() {
    let long = vec![7; 65_535];
    let mut random = Random(9);
    let entries = sorted(vec![
        Entry::put(b"", 5, b"empty key"),
        Entry::put(b"", 4, b""),
        Entry::put(b"big", 3, &random.bytes(200_000)),
        Entry::put(b"big", 2, &vec![b'x'; 100_000]),
        Entry::put(&long, 9, b"long key"),
        Entry::put(&long, 8, b"long key, before"),
    ]);
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(4096, Compression::Lz4), &entries));
    for entry in &entries {
        let found = get(&table, &entry.user_key, entry.trailer.seqno()).unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    assert_eq!(table.verify().unwrap().corruptions, []);
}

#[test]
fn old_version_is_found_across_hundreds_of_blocks_by_halving() {
    let entries: Vec<Entry> =
        (0..5_000).map(|age| Entry::put(b"hot", 5_000 - age, b"some value")).collect();
    let bed = Bed::new();
    let properties = bed.build(1, options(128, Compression::None), &entries);
    assert!(properties.data_block_count > 300 && properties.partition_count == 1);
    let table = bed.table(&properties);
    for seqno in [1, 2, 777, 2_500, 4_999, 5_000] {
        let snapshot = SeqNo::new(seqno).unwrap();
        let mut trace = Trace::default();
        let found = table.get(b"hot", hash_key(b"hot"), snapshot, &mut trace).unwrap().unwrap();
        assert_eq!(found.trailer.seqno(), snapshot);
        let blocks = trace.blocks.iter().filter(|block| block.kind == BlockKind::Data).count();
        assert!(blocks <= 12, "{blocks} blocks for #{seqno}");
    }
    assert!(get(&table, b"hot", SeqNo::ZERO).unwrap().is_none());
}

#[test]
fn properties_say_what_was_added_and_the_file_says_the_same() {
    let entries = sorted(vec![
        Entry::put(b"a", 7, b"12345"),
        Entry::new(b"a", 3, EntryKind::Tombstone, b""),
        Entry::new(b"bb", 9, EntryKind::SingleDelete, b""),
        Entry::put(b"ccc", 5, b"1"),
    ]);
    let bed = Bed::new();
    let properties = bed.build(4, options(4096, Compression::Lz4), &entries);
    let known = &properties;
    assert_eq!((known.entry_count, known.tombstone_count), (4, 2));
    assert_eq!((known.key_bytes, known.value_bytes), (7, 6));
    assert_eq!((known.seqno_min.get(), known.seqno_max.get()), (3, 9));
    assert_eq!(
        (known.smallest_key.as_slice(), known.largest_key.as_slice()),
        (&b"a"[..], &b"ccc"[..])
    );
    assert_eq!(known.file_bytes, bed.bytes(4).len() as u64);
    assert_eq!(**bed.open_file(4).unwrap().properties(), properties);
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let mut decoder = esker_base::coding::Decoder::new(&encoded);
    assert_eq!(TableProperties::decode(&mut decoder), Ok(properties));
    assert!(decoder.is_empty());
}

#[derive(Default)]
struct Trace {
    tables: usize,
    verdicts: Vec<FilterVerdict>,
    blocks: Vec<BlockRead>,
    stepped_over: u64,
}

impl ReadTrace for Trace {
    fn table(&mut self, _properties: &TableProperties) {
        self.tables += 1;
    }
    fn filter(&mut self, verdict: FilterVerdict) {
        self.verdicts.push(verdict);
    }
    fn block(&mut self, read: BlockRead) {
        self.blocks.push(read);
    }
    fn stepped_over(&mut self, count: u64) {
        self.stepped_over += count;
    }
}

#[test]
fn trace_tells_filter_blocks_and_versions() {
    let entries: Vec<Entry> = (0..100_u64)
        .flat_map(|key| (1..=3).rev().map(move |seqno| Entry::put(&[key as u8], seqno, b"v")))
        .collect();
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(256, Compression::None), &entries));
    let read = |user_key: &[u8], seqno: u64| {
        let mut trace = Trace::default();
        let snapshot = SeqNo::new(seqno).unwrap();
        let found = table.get(user_key, hash_key(user_key), snapshot, &mut trace).unwrap();
        (found.is_some(), trace)
    };
    let kinds = |trace: &Trace, from_cache: bool| -> Vec<BlockKind> {
        let blocks = trace.blocks.iter().filter(|block| block.from_cache == from_cache);
        blocks.map(|block| block.kind).collect()
    };
    let all = [BlockKind::Filter, BlockKind::Index, BlockKind::Data];
    let (found, trace) = read(&[5], 1);
    assert!(found && trace.tables == 1);
    assert_eq!(
        (trace.verdicts.as_slice(), trace.stepped_over),
        (&[FilterVerdict::MayContain][..], 2)
    );
    assert_eq!(kinds(&trace, false), all);
    assert!(trace.blocks.iter().all(|block| block.bytes > 0 && block.offset >= 48));
    let (_, trace) = read(&[5], 3);
    assert_eq!((kinds(&trace, true), trace.stepped_over), (all.to_vec(), 0));
    let (found, trace) = read(b"absent", 3);
    assert_eq!((found, trace.verdicts.as_slice()), (false, &[FilterVerdict::Excluded][..]));
    assert_eq!(kinds(&trace, true), [BlockKind::Filter]);
}

#[test]
fn table_without_filter_answers_and_says_so() {
    let entries: Vec<Entry> = (0..50_u8).map(|key| Entry::put(&[key], 1, b"v")).collect();
    let options = TableOptions { filter_bits_per_key: 0, ..options(256, Compression::None) };
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options, &entries));
    let mut trace = Trace::default();
    assert!(table.get(&[9], hash_key(&[9]), SeqNo::MAX, &mut trace).unwrap().is_some());
    assert_eq!(trace.verdicts, [FilterVerdict::Absent]);
    assert!(table.may_contain(b"\x09x", 0, &mut trace).unwrap());
    assert!(!table.may_contain(b"\xff", 0, &mut trace).unwrap(), "past the largest key");
    assert_eq!(table.verify().unwrap().corruptions, []);
}

#[test]
fn nothing_is_read_before_the_first_read_and_every_charge_ends_with_the_table() {
    let entries = hard_entries(5, 3_000);
    let bed = Bed::new();
    let properties = bed.build(1, options(256, Compression::Lz4), &entries);
    let table = bed.table(&properties);
    assert_eq!((table.memory_bytes(), bed.budget.used_total()), (0, 0));
    for entry in &entries {
        get(&table, &entry.user_key, SeqNo::MAX).unwrap();
    }
    let mut cursor = table.cursor(false);
    cursor.seek_to_first().unwrap();
    for owner in [Owner::BlockCache, Owner::Indexes, Owner::Filters] {
        assert!(bed.budget.used(owner) > 0, "{owner}");
    }
    assert_eq!(table.memory_bytes(), bed.budget.used_total() - bed.budget.used(Owner::Compaction));
    drop(cursor);
    drop(table);
    assert_eq!(bed.budget.used_total(), 0);
}

#[test]
fn value_outlives_its_eviction_and_its_table() {
    let entries: Vec<Entry> =
        (0..500_u32).map(|key| Entry::put(&key.to_le_bytes(), 1, &[key as u8; 100])).collect();
    let entries = sorted(entries);
    let bed = Bed::with_cache(6_000);
    let table = bed.table(&bed.build(1, options(512, Compression::None), &entries));
    let hash = hash_key(&entries[0].user_key);
    let found = table.get(&entries[0].user_key, hash, SeqNo::MAX, &mut crate::NoTrace);
    let value = found.unwrap().unwrap().value;
    for entry in &entries {
        assert_eq!(get(&table, &entry.user_key, SeqNo::MAX).unwrap().as_ref(), Some(entry));
    }
    drop(table);
    assert_eq!(*value, *entries[0].value);
    assert!(bed.context.cache.stats().evictions > 0);
}

#[test]
fn approximate_bytes_follow_the_range() {
    let mut random = Random(3);
    let entries: Vec<Entry> = (0..10_000_u32)
        .map(|key| Entry::put(format!("{key:05}").as_bytes(), 1, &random.bytes(100)))
        .collect();
    let bed = Bed::new();
    let properties = bed.build(1, options(1024, Compression::Lz4), &entries);
    let table = bed.table(&properties);
    let bytes = |start: &str, end: &str| {
        let range = KeyRange {
            start: Bound::Included(start.as_bytes().to_vec()),
            end: Bound::Excluded(end.as_bytes().to_vec()),
        };
        table.approximate_bytes(&range).unwrap() as f64
    };
    let all = table.approximate_bytes(&KeyRange::all()).unwrap();
    assert_eq!(all, properties.data_bytes);
    let half = bytes("02500", "07500") / all as f64;
    assert!((0.48..0.54).contains(&half), "{half}");
    assert!(bytes("05000", "05001") <= 3_000.0);
    assert_eq!(bytes("x", "z"), 0.0);
    assert_eq!(bytes("", "00000"), 0.0, "nothing before the first key");
    assert_eq!(bytes("05000", "04000"), 0.0);
}

#[test]
fn readers_on_several_threads_get_the_same_answers() {
    let entries = hard_entries(8, 2_000);
    let bed = Bed::with_cache(60_000);
    let table = bed.table(&bed.build(1, options(512, Compression::Lz4), &entries));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (table, entries) = (&table, &entries);
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..2_000 {
                    let entry = &entries[random.below(entries.len() as u64) as usize];
                    let snapshot = entry.trailer.seqno();
                    let found = get(table, &entry.user_key, snapshot).unwrap();
                    assert_eq!(found.as_ref(), expected(entries, &entry.user_key, snapshot));
                }
            });
        }
    });
    assert_eq!(Arc::strong_count(&table), 1);
}

#[test]
fn cut_keys_make_stretches_of_about_as_many_blocks() {
    let entry = |number: u64| Entry::put(format!("k{number:06}").as_bytes(), 1, &[7; 50]);
    let entries: Vec<Entry> = (0..20_000).map(entry).collect();
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(256, Compression::None), &entries));
    assert!(table.properties().data_block_count > 3000, "several partitions");
    for count in [1, 2, 7, 100] {
        let cuts = table.cut_keys(count).unwrap();
        assert_eq!(cuts.len(), count - 1);
        let place = |cut: &Vec<u8>| entries.partition_point(|entry| entry.user_key < *cut);
        let places: Vec<usize> = [0].into_iter().chain(cuts.iter().map(place)).collect();
        let ends = places[1..].iter().copied().chain([entries.len()]);
        for (start, end) in places.iter().zip(ends) {
            let share = entries.len() / count;
            assert!((end - start).abs_diff(share) <= 10, "{count}: {start} to {end}");
        }
    }
    // Of as many stretches as there are blocks, each ends where its block does.
    let blocks = bed.table(&bed.build(3, options(256, Compression::None), &entries[..100]));
    let count = blocks.properties().data_block_count as usize;
    let mut ends = Vec::new();
    for block in blocks.walk().unwrap().map(Result::unwrap) {
        let mut last = Vec::new();
        block.for_each_entry(|key, _| last = key.user_key.to_vec());
        ends.extend(Some(last).filter(|last| !last.is_empty()));
    }
    assert_eq!(ends.len(), count);
    let cuts = blocks.cut_keys(count).unwrap();
    assert_eq!(cuts.len(), count - 1);
    for (cut, pair) in cuts.iter().zip(ends.windows(2)) {
        assert!(pair[0] <= *cut && *cut < pair[1], "{}", cut.escape_ascii());
    }
    // Never more stretches than blocks.
    let few = bed.table(&bed.build(2, options(4096, Compression::None), &entries[..10]));
    assert_eq!((few.cut_keys(0).unwrap(), few.cut_keys(9).unwrap()), (vec![], vec![]));
}
