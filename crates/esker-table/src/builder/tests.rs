//! Building on a file system where things go wrong.

use std::sync::Arc;

use esker_base::SeqNo;
use esker_cache::BlockCache;
use esker_env::{Fault, FaultFileSystem, Operation, Rule, When};

use super::*;
use crate::testing::{Bed, Entry, Random, get, identity, options};
use crate::{Compression, Table, TableContext, TableProperties};

const EIO: i32 = 5;

/// About three megabytes: several writes to the system.
fn entries() -> Vec<Entry> {
    let mut random = Random(1);
    (0..3_000_u32)
        .map(|key| Entry::put(format!("{key:05}").as_bytes(), 1, &random.bytes(1_000)))
        .collect()
}

/// A bed whose files go through `faults`.
fn faulty_bed() -> (Bed, Arc<FaultFileSystem>) {
    let bed = Bed::new();
    let context = &bed.context;
    let faults =
        Arc::new(FaultFileSystem::new(Arc::clone(&context.fs), Arc::clone(&context.clock)));
    let context = TableContext { fs: faults.clone(), ..TableContext::clone(context) };
    (Bed { context: Arc::new(context), budget: Arc::clone(&bed.budget) }, faults)
}

/// Adds all entries, whatever becomes of each, and finishes; how many calls failed.
fn build_on(
    bed: &Bed,
    counter: u64,
    entries: &[Entry],
) -> (usize, Result<TableProperties, FileError>) {
    let options = options(4096, Compression::None);
    let mut builder = TableBuilder::new(bed.create(counter), identity(counter), options);
    let add = |entry: &&Entry| builder.add(entry.key(), &entry.value).is_err();
    let failed_count = entries.iter().filter(add).count();
    (failed_count, builder.finish())
}

#[test]
fn builder_that_failed_once_fails_for_ever() {
    let entries = entries();
    for operation in [Operation::Write, Operation::Sync] {
        for number in 1..=8 {
            let (bed, faults) = faulty_bed();
            let rule = Rule::new(Fault::Error(EIO)).on(&[operation]).when(When::Nth(number));
            faults.add(rule);
            let (failed_count, finished) = build_on(&bed, 1, &entries);
            let was_hit = !faults.injected().is_empty();
            assert_eq!(finished.is_err(), was_hit, "{operation:?} {number}");
            if operation == Operation::Write && number == 1 {
                // A megabyte in: the first write has failed, and with it all that follows.
                assert!(failed_count > 1_500, "{failed_count} calls");
            }
        }
    }
}

#[test]
fn short_writes_and_reads_do_no_harm() {
    let entries = entries();
    let (bed, faults) = faulty_bed();
    faults.add(Rule::new(Fault::Short).when(When::OneIn { count: 2, seed: 7 }));
    let (failed_count, finished) = build_on(&bed, 1, &entries);
    assert_eq!(failed_count, 0);
    let table = bed.table(&finished.unwrap());
    assert_eq!(table.verify().unwrap().corruptions, []);
    assert!(faults.injected().len() > 100);
}

#[test]
fn bytes_changed_lost_or_misplaced_on_their_way_to_disk_are_noticed() {
    let entries = entries();
    for fault in [Fault::CorruptWrite, Fault::LostWrite, Fault::MisdirectedWrite(4096)] {
        for number in 1..=4 {
            let (bed, faults) = faulty_bed();
            faults.add(Rule::new(fault.clone()).on(&[Operation::Write]).when(When::Nth(number)));
            let properties = build_on(&bed, 1, &entries).1.unwrap();
            assert_eq!(faults.injected().len(), 1);
            let table = bed.table(&properties);
            assert_ne!(table.verify().unwrap().corruptions, [], "{fault:?} {number}");
            for entry in &entries {
                if let Ok(found) = get(&table, &entry.user_key, SeqNo::MAX) {
                    assert_eq!(found.as_ref(), Some(entry), "{fault:?} {number}");
                }
            }
        }
    }
}

#[test]
fn read_that_failed_once_is_tried_again_by_the_next_caller() {
    let entries = &entries()[..200];
    let (bed, faults) = faulty_bed();
    let properties = build_on(&bed, 1, entries).1.unwrap();
    for operation in [Operation::Open, Operation::Len, Operation::Read] {
        for number in 1..=6 {
            faults.clear();
            let cache = BlockCache::new(Arc::clone(&bed.budget), None);
            let context = TableContext { cache, ..TableContext::clone(&bed.context) };
            let table = Table::new(Arc::new(context), Arc::new(properties.clone()));
            let rule = Rule::new(Fault::Error(EIO)).on(&[operation]).when(When::Nth(number));
            faults.add(rule);
            let key = entries[77].user_key.as_slice();
            let first = get(&table, key, SeqNo::MAX);
            assert!(matches!(first, Ok(Some(_)) | Err(FileError::Io(_))), "{first:?}");
            assert_eq!(get(&table, key, SeqNo::MAX).unwrap().as_ref(), Some(&entries[77]));
        }
    }
}

#[test]
#[should_panic(expected = "ascending order")]
fn entry_that_is_not_greater_is_refused() {
    let bed = Bed::new();
    let mut builder =
        TableBuilder::new(bed.create(1), identity(1), options(4096, Compression::None));
    let entry = Entry::put(b"a", 5, b"");
    builder.add(entry.key(), b"").unwrap();
    builder.add(entry.key(), b"").unwrap();
}

/// A table of `entries` whose blocks are kept in the cache of `bed`.
fn build_keeping(bed: &Bed, entries: &[Entry]) -> Arc<Table> {
    let options = options(4096, Compression::Lz4);
    let builder = TableBuilder::new(bed.create(1), identity(1), options);
    let mut builder = builder.keeping_blocks(&bed.context.cache);
    entries.iter().for_each(|entry| builder.add(entry.key(), &entry.value).unwrap());
    bed.table(&builder.finish().unwrap())
}

#[test]
fn kept_blocks_are_those_of_the_file_and_are_not_read() {
    let entries = entries();
    let bed = Bed::new();
    let table = build_keeping(&bed, &entries);
    for entry in &entries {
        let found = get(&table, &entry.user_key, SeqNo::MAX).unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    let partition_count = table.open().unwrap().top.partitions().len() as u64;
    assert_eq!(bed.context.cache.stats().loads, 2 * partition_count, "indexes and filters");
    assert!(table.is_hot());
    let unkept = Bed::new();
    let (_, properties) = build_on(&unkept, 1, &entries);
    let unkept = unkept.table(&properties.unwrap());
    assert!(!unkept.is_hot());
    assert!(get(&unkept, b"00001", SeqNo::MAX).unwrap().is_some());
    assert!(!unkept.is_hot(), "one block of many is in use");
}

#[test]
fn kept_blocks_evict_nothing_and_go_with_their_table() {
    let entries = entries();
    let bed = Bed::with_cache(1 << 20);
    let used = bed.table(&bed.build(2, options(4096, Compression::None), &entries[..200]));
    let read = |entry: &Entry| get(&used, &entry.user_key, SeqNo::MAX).unwrap();
    assert!(entries[..200].iter().all(|entry| read(entry).is_some()));
    let table = build_keeping(&bed, &entries);
    let stats = bed.context.cache.stats();
    assert_eq!(stats.evictions, 0);
    let free_bytes = stats.capacity_bytes - stats.resident_bytes;
    assert!(free_bytes < 16 << 10, "what was free is used: {stats:?}");
    drop(table);
    let after = bed.context.cache.stats().resident_bytes;
    assert!(after < stats.resident_bytes / 2, "{after} of {}", stats.resident_bytes);
}

/// The prefix that keys have in common stands in a block once, so that a block of long keys seemed empty
/// however many were held for it in full.
#[test]
fn block_of_long_keys_that_differ_at_their_ends_is_ended_in_time() {
    let bed = Bed::new();
    let options = options(1 << 20, Compression::None);
    let mut builder = TableBuilder::new(bed.create(1), identity(1), options);
    let mut key = vec![b'k'; KEY_LEN_MAX];
    for number in 0..600_u16 {
        key[KEY_LEN_MAX - 2..].copy_from_slice(&[(number >> 8) as u8, number as u8]);
        let key = InternalKey::new(&key, SeqNo::ZERO.plus(1), EntryKind::Put);
        builder.add(key, b"").unwrap();
    }
    assert_eq!(builder.finish().unwrap().data_block_count, 3);
}

#[test]
fn a_large_entry_is_counted_while_it_is_held_and_leaves_no_memory_behind() {
    // What the open block held was not counted, and what it was compressed in stayed.
    let mut random = Random(3);
    let large = random.bytes(9 << 20);
    let bed = Bed::new();
    let options = options(1 << 20, Compression::Lz4);
    let mut builder = TableBuilder::new(bed.create(1), identity(1), options);
    let mut add = |key: &[u8], value: &[u8]| {
        builder.add(Entry::put(key, 1, value).key(), value).unwrap();
        builder.memory_bytes()
    };
    let before = add(b"a", b"small");
    assert!(before + large.len() <= add(b"b", &large));
    assert!(add(b"c", b"small") < before + (2 << 20));
    // Blocks of keys that differ in their last bytes hold many of them.
    let long = vec![b'd'; 60_000];
    let held = (0..250_u8).map(|last| add(&[&long, &[last][..]].concat(), b"")).max();
    assert!(held.is_some_and(|held| 200 * long.len() <= held));
    assert!(add(b"e", b"small") < before + (2 << 20));
    assert_eq!(bed.table(&builder.finish().unwrap()).verify().unwrap().corruptions, []);
}

/// Such a reference comes from a damaged table. The manifest could not be read that named the new one.
#[test]
fn table_whose_properties_nobody_could_read_is_not_finished() {
    let bed = Bed::new();
    let file = esker_base::BlobFileId(crate::testing::id(7).0);
    let block = BlockHandle { offset: 56, len: 2_000 };
    let mut value = Vec::new();
    BlobReference { file, block, number: 0, value_len: 5 }.encode(&mut value);
    let options = options(4096, Compression::None);
    let mut builder = TableBuilder::new(bed.create(1), identity(1), options);
    builder.know_blob_file(BlobFileFacts {
        id: file,
        file_bytes: 1_000,
        checksum: 0,
        written_millis: 0,
    });
    let key = InternalKey::new(b"key", SeqNo::ZERO, EntryKind::BlobReference);
    builder.add(key, &value).unwrap();
    let error = builder.finish().unwrap_err().to_string();
    assert_eq!(
        error,
        "1-00000001.table is damaged at offset 0: what its entries add up to cannot be: blob file of a \
         table counts what it cannot hold"
    );
}
