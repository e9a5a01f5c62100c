//! Loading by slots: what is loaded, with how many reads, and what is not.

use esker_base::SeqNo;

use super::*;
use crate::Compression;
use crate::testing::{Bed, Entry, get, hard_entries, options};

fn slots(range: std::ops::Range<u32>) -> Vec<WarmSlot> {
    range.map(|slot| WarmSlot { slot, was_used_again: slot.is_multiple_of(3) }).collect()
}

fn read_all(table: &Table, entries: &[Entry]) {
    for entry in entries {
        let found = get(table, &entry.user_key, SeqNo::MAX).unwrap();
        assert!(found.is_some(), "a key is missing");
    }
}

#[test]
fn blocks_that_were_loaded_are_read_from_the_cache() {
    let entries = hard_entries(1, 1_500);
    let bed = Bed::new();
    let properties = bed.build(1, options(200, Compression::Lz4), &entries);
    let table = bed.table(&properties);
    assert_eq!(table.slots_id(), None);
    // More than there are, as a list may name that is not of this table.
    let report = table.warm(&slots(0..100_000), &|| true).unwrap();
    let open = table.opened().unwrap();
    assert_eq!(report.blocks, u64::from(open.slot_count()));
    assert!(!report.is_full && report.bytes > properties.data_bytes, "{report:?}");
    let partitions = open.top.partitions().len() as u64;
    assert!(2 * partitions < report.reads && report.reads < 2 * partitions + 5, "{report:?}");
    read_all(&table, &entries);
    let stats = bed.context.cache.stats();
    assert_eq!((stats.loads, stats.evictions), (0, 0));
    let hot = bed.context.cache.by_heat();
    assert!(hot.iter().all(|hot| Some(hot.slots) == table.slots_id()));
    assert_eq!(hot.len() as u64, report.blocks);
    assert_eq!(table.warm(&slots(0..100_000), &|| true).unwrap(), WarmReport::default());
}

#[test]
fn blocks_come_one_by_one_as_well() {
    let entries = hard_entries(2, 500);
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(300, Compression::None), &entries));
    let count = table.properties().data_block_count;
    for slot in (0..count).rev() {
        let report = table.warm(&slots(slot..slot + 1), &|| true).unwrap();
        assert!(1 <= report.blocks, "the block, and perhaps its index: {report:?}");
    }
    for entry in &entries {
        get(&table, &entry.user_key, SeqNo::MAX).unwrap();
    }
    let filters = table.opened().unwrap().top.partitions().len() as u64;
    assert_eq!(bed.context.cache.stats().loads, filters);
}

#[test]
fn nothing_is_evicted_and_loading_ends_where_the_cache_is_full() {
    let entries = hard_entries(3, 1_500);
    let bed = Bed::with_cache(30_000);
    let table = bed.table(&bed.build(1, options(200, Compression::Lz4), &entries));
    let report = table.warm(&slots(0..100_000), &|| true).unwrap();
    assert!(report.is_full, "{report:?}");
    let stats = bed.context.cache.stats();
    assert_eq!((stats.evictions, stats.resident_count), (0, report.blocks));
    assert!(stats.resident_bytes <= stats.capacity_bytes);
}

#[test]
fn loading_ends_when_it_is_to() {
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(200, Compression::Lz4), &hard_entries(4, 500)));
    assert_eq!(table.warm(&slots(0..100), &|| false).unwrap().blocks, 0);
}

#[test]
fn damaged_block_is_an_error_and_what_came_before_stays() {
    let bed = Bed::new();
    let properties = bed.build(1, options(200, Compression::None), &hard_entries(5, 500));
    let mut bytes = bed.bytes(1);
    bytes[60] ^= 1;
    bed.replace(1, &bytes);
    let table = bed.table(&properties);
    let error = table.warm(&slots(0..1), &|| true).unwrap_err();
    assert!(error.to_string().contains("is damaged at offset 48"), "{error}");
    assert_eq!(table.warm(&slots(1..2), &|| true).unwrap().blocks, 1);
}
