//! Tables without an end: what is found, and what is said of the rest.

use std::ops::RangeBounds as _;

use esker_base::{DatabaseId, FileHeader, FileId, FileKind, OwnerId, SeqNo};
use esker_env::FileError;

use crate::testing::{Bed, Entry, Random, hard_entries, options};
use crate::{Adoption, Compression, Table, TableOptions, TableProperties};

/// Entries that a walk without the end shows, the keys that it says it did not find, and how many
/// blocks were damaged.
fn found(table: &Table) -> (Vec<Entry>, Vec<super::KeyBounds>, usize) {
    let mut walk = table.walk_by_indexes().unwrap();
    let (mut entries, mut damaged) = (Vec::new(), 0);
    for item in &mut walk {
        match item {
            Ok(block) => block.for_each_entry(|key, value| {
                let (user_key, trailer) = (key.user_key.to_vec(), key.trailer);
                entries.push(Entry { user_key, trailer, value: value.to_vec() });
            }),
            Err(FileError::Corruption(_)) => damaged += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (entries, walk.unfound().to_vec(), damaged)
}

/// Where the first block behind all partitions starts.
fn end_of_partitions(table: &Table) -> usize {
    let walk = table.walk().unwrap();
    let last = walk.map(Result::unwrap).filter(|block| block.partition.is_some()).last();
    last.map_or(FileHeader::LEN, |block| block.handle.end() as usize)
}

fn every_form() -> impl Iterator<Item = TableOptions> {
    [Compression::None, Compression::Lz4].into_iter().flat_map(|compression| {
        [0, 10].map(|filter_bits_per_key| TableOptions {
            filter_bits_per_key,
            ..options(200, compression)
        })
    })
}

fn without_end(bed: &Bed, properties: &TableProperties, filler: u8) {
    let end = end_of_partitions(&bed.table(properties));
    let mut bytes = bed.bytes(1);
    bytes[end..].fill(filler);
    bed.replace(1, &bytes);
}

#[test]
fn nothing_is_lost_with_top_index_properties_and_footer() {
    for (seed, options) in (1..).zip(every_form()) {
        let bed = Bed::new();
        let entries = hard_entries(seed, 900);
        let properties = bed.build(1, options, &entries);
        assert!(properties.partition_count > 5);
        without_end(&bed, &properties, 0xa5);
        let table = bed.table(&properties);
        assert!(matches!(table.walk(), Err(FileError::Corruption(_))));
        assert_eq!(found(&table), (entries, Vec::new(), 0));
    }
}

#[test]
fn table_of_another_database_is_found_by_what_the_manifest_says_of_its_birth() {
    let bed = Bed::new();
    let entries = hard_entries(9, 300);
    let properties = bed.build(1, options(200, Compression::Lz4), &entries);
    let adoption = Adoption {
        database: DatabaseId([7; 16]),
        id: properties.id,
        keyspace: properties.keyspace,
        level: 0,
        seqno: SeqNo::new(77).unwrap(),
        origin_database: bed.context.database,
        origin_id: properties.id.0,
    };
    let len = properties.file_bytes + Adoption::LEN as u64;
    without_end(&bed, &properties, 0);
    let context = crate::TableContext { database: adoption.database, ..(*bed.context).clone() };
    let known = adoption.apply(properties, len);
    let table = Table::new(context.into(), known.into());
    let (found, unfound, damaged) = found(&table);
    assert_eq!((found.len(), unfound.len(), damaged), (entries.len(), 0, 0));
    assert!(found.iter().all(|entry| entry.trailer.seqno() == adoption.seqno));
}

#[test]
fn what_is_missing_after_a_cut_is_among_the_keys_that_were_not_found() {
    for (seed, options) in (20..).zip(every_form()) {
        let bed = Bed::new();
        let entries = hard_entries(seed, 120);
        let properties = bed.build(1, options, &entries);
        let bytes = bed.bytes(1);
        let mut most = 0;
        for len in (FileHeader::LEN..bytes.len()).step_by(23) {
            bed.replace(1, &bytes[..len]);
            let (found, unfound, damaged) = found(&bed.table(&properties));
            assert_eq!(found, entries[..found.len()], "cut at {len}");
            assert_eq!(damaged, 0, "a partition is found by its last block");
            let is_told = |entry: &Entry| unfound.iter().any(|keys| keys.contains(&entry.user_key));
            assert!(entries[found.len()..].iter().all(is_told), "cut at {len}: {unfound:?}");
            assert_eq!(unfound.is_empty(), found.len() == entries.len(), "cut at {len}");
            assert!(!found.iter().any(is_told), "cut at {len}: found, and said not to be");
            assert!(most <= found.len());
            most = found.len();
        }
        assert!(entries.len() / 2 < most);
    }
}

#[test]
fn damage_before_a_lost_end_costs_what_it_hits() {
    let mut random = Random(5);
    let (mut gaps, mut blocks) = (0, 0);
    for (seed, options) in (40..).zip(every_form()) {
        let bed = Bed::new();
        let entries = hard_entries(seed, 400);
        let properties = bed.build(1, options, &entries);
        let end = end_of_partitions(&bed.table(&properties));
        without_end(&bed, &properties, 0);
        let bytes = bed.bytes(1);
        for _ in 0..60 {
            let offset = FileHeader::LEN + random.below((end - FileHeader::LEN) as u64) as usize;
            let mut damaged_bytes = bytes.clone();
            damaged_bytes[offset] ^= 1 << random.below(8);
            bed.replace(1, &damaged_bytes);
            let (found, unfound, damaged) = found(&bed.table(&properties));
            assert!(found.is_sorted_by(|one, next| one.key() < next.key()), "{offset}");
            let is_told = |entry: &Entry| unfound.iter().any(|keys| keys.contains(&entry.user_key));
            let missing = entries.iter().filter(|entry| !found.contains(entry));
            let untold = missing.filter(|entry| !is_told(entry)).count();
            // Keys of a damaged block are told by its item.
            assert!(untold == 0 || damaged == 1, "{offset}: {untold} entries, {damaged} blocks");
            let is_right = |entry: &Entry| entries.contains(entry);
            assert!(found.iter().all(is_right), "{offset}");
            gaps += unfound.len();
            blocks += damaged;
        }
    }
    assert!(gaps > 8 && blocks > 80, "{gaps} {blocks}");
}

#[test]
fn file_with_another_header_is_refused() {
    let bed = Bed::new();
    let properties = bed.build(1, options(200, Compression::None), &hard_entries(3, 50));
    let mut bytes = bed.bytes(1);
    let id = FileId { owner: OwnerId::FIRST, counter: 2 };
    let database = bed.context.database;
    let header = FileHeader { kind: FileKind::Table, format: 2, id, database };
    bytes[..FileHeader::LEN].copy_from_slice(&header.encode());
    bed.replace(1, &bytes);
    let refused = bed.table(&properties).walk_by_indexes().unwrap_err().to_string();
    assert!(refused.contains("file was created as 1-00000002.table"), "{refused}");
}
