//! Values come back as they were, from whatever was asked; damage never does.

use esker_base::limits::VALUE_LEN_MAX;
use esker_base::{FileId, KeyspaceId, OwnerId};
use esker_env::FileExt as _;

use super::*;
use crate::blob_reference::BlobReference;
use crate::testing::{Bed, DATABASE, Random};
use crate::{
    BlobFileIdentity, BlobFileWalk, BlobFileWriter, Compression, NoTrace, verify_blob_file,
};

const KEYSPACE: KeyspaceId = KeyspaceId(3);
const WRITTEN_MILLIS: u64 = 0x0102_0304_0506;

fn id(counter: u64) -> BlobFileId {
    BlobFileId(FileId { owner: OwnerId::FIRST, counter })
}

/// Writes blob file `counter` of these keys and values.
fn write(
    bed: &Bed,
    counter: u64,
    compression: Compression,
    values: &[(Vec<u8>, Vec<u8>)],
) -> (BlobFileFacts, Vec<BlobReference>) {
    let path = bed.context.dir.join(id(counter).file_name());
    let file = bed.context.fs.create(&path).unwrap();
    let identity = BlobFileIdentity { database: DATABASE, id: id(counter), keyspace: KEYSPACE };
    let mut writer = BlobFileWriter::new(file, identity, compression);
    let references = values.iter().map(|(key, value)| writer.add(key, value).unwrap()).collect();
    (writer.finish(WRITTEN_MILLIS).unwrap(), references)
}

fn read_value(
    bed: &Bed,
    key: &[u8],
    reference: &BlobReference,
    fill_cache: bool,
) -> Result<Vec<u8>, FileError> {
    let mut encoded = Vec::new();
    reference.encode(&mut encoded);
    assert_eq!(BlobReference::decode(&encoded), Ok(*reference));
    Ok(bed.context.read_blob(key, &encoded, fill_cache, &mut NoTrace)?.to_vec())
}

fn hard_values(seed: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = Random(seed);
    let one = |index: u64| {
        let key = format!("key{index}").into_bytes();
        let len = [0, 1, 100, 5_000, 70_000][random.below(5) as usize];
        let value = match random.below(2) {
            0 => random.bytes(len),
            _ => b"again and ".iter().copied().cycle().take(len).collect(),
        };
        (key, value)
    };
    (0..60).map(one).collect()
}

#[test]
fn values_come_back_with_and_without_the_cache_and_compression() {
    for compression in [Compression::None, Compression::Lz4] {
        let bed = Bed::new();
        let values = hard_values(1);
        let (facts, references) = write(&bed, 7, compression, &values);
        let file = bed.context.blobs.get(facts);
        for fill_cache in [false, true, true] {
            for ((key, value), reference) in values.iter().zip(&references) {
                assert_eq!(read_value(&bed, key, reference, fill_cache).unwrap(), *value);
            }
        }
        let stats = bed.context.cache.stats();
        assert_eq!((stats.loads, stats.hits), (60, 60), "the first and last pass use the cache");
        assert!(stats.resident_bytes > values.iter().map(|(_, v)| v.len() as u64).sum());
        drop(file);
        assert_eq!(bed.context.cache.stats().resident_bytes, 0, "nobody holds the file");
        let report = verify_blob_file(&bed.context, &facts, KEYSPACE).unwrap();
        assert_eq!((report.record_count, report.corruptions.len()), (60, 0));
        let stored: u64 = references.iter().map(BlobReference::record_bytes).sum();
        assert_eq!(stored, facts.record_bytes(), "records fill the file");
    }
}

#[test]
fn values_larger_than_a_share_of_the_cache_are_read_past_it() {
    let bed = Bed::with_cache(1 << 20);
    let values = [(b"k".to_vec(), vec![7; 100_000]), (b"l".to_vec(), vec![8; 100])];
    let (facts, references) = write(&bed, 7, Compression::None, &values);
    let _file = bed.context.blobs.get(facts);
    assert_eq!(read_value(&bed, b"k", &references[0], true).unwrap(), values[0].1);
    assert_eq!(bed.context.cache.stats().loads, 0);
    assert_eq!(read_value(&bed, b"l", &references[1], true).unwrap(), values[1].1);
    assert_eq!(bed.context.cache.stats().loads, 1);
}

#[test]
fn a_reference_leads_only_to_the_value_that_it_was_made_for() {
    let bed = Bed::new();
    let values = hard_values(2);
    let (facts, references) = write(&bed, 7, Compression::Lz4, &values);
    let error = |key: &[u8], reference: BlobReference| {
        read_value(&bed, key, &reference, true).unwrap_err().to_string()
    };
    let missing = "1-00000007.blob is damaged at offset 0: an entry refers to this file, and its \
                   table does not say so";
    assert_eq!(error(b"key0", references[0]), missing);
    let _file = bed.context.blobs.get(facts);
    let other = "the record is not the one that the reference was made for";
    assert!(error(b"key1", references[0]).ends_with(other));
    assert!(error(b"key0", BlobReference { value_len: 7, ..references[0] }).ends_with(other));
    // A wrong number puts the record into the slot of another, which is read past it then.
    let wrong = BlobReference { number: 1, ..references[0] };
    assert_eq!(read_value(&bed, b"key0", &wrong, true).unwrap(), values[0].1);
    assert_eq!(read_value(&bed, b"key1", &references[1], true).unwrap(), values[1].1);
    let past = BlobReference { number: 60, ..references[0] };
    assert!(error(b"key0", past).ends_with("reference to a record that the file does not count"));
    let at = |offset: u64, len: u64| {
        let block = BlockHandle { offset, len };
        error(b"key0", BlobReference { block, number: 9, ..references[0] })
    };
    let end = facts.file_bytes - BlobFooter::LEN as u64;
    // Neither is such a length believed, nor is what stands around the records taken for one.
    for (offset, len) in [
        (47, 100),
        (0, end),
        (48, 4),
        (48, 0),
        (48, end - 47),
        (end, 5),
        (end + 1, 5),
        (48, 1 << 62),
        (u64::MAX, 5),
        (u64::MAX - 1, u64::MAX),
    ] {
        let told = at(offset, len);
        assert!(told.ends_with("reference reaches out of the file"), "{offset} {len}: {told}");
    }
    for (offset, len) in [(48, 5), (48, end - 48), (end - 5, 5)] {
        let told = at(offset, len);
        assert!(told.ends_with("block checksum does not match"), "{offset} {len}: {told}");
    }
}

/// What a footer counts becomes memory when a value is read.
#[test]
fn a_count_of_records_that_no_file_holds_is_not_believed() {
    let values = [(b"key".to_vec(), vec![7; 1_000])];
    for (count, is_refused) in
        [(2, false), (200, false), (300, true), (4_000, true), (1 << 20, true), (1 << 40, true)]
    {
        let bed = Bed::new();
        let (facts, references) = write(&bed, 7, Compression::None, &values);
        let path = bed.context.dir.join(id(7).file_name());
        let file = bed.context.fs.open_for_write(&path).unwrap();
        let at = facts.file_bytes - BlobFooter::LEN as u64;
        let mut bytes = vec![0; BlobFooter::LEN];
        file.read_exact_at(at, &mut bytes).unwrap();
        let seed = file_seed(DATABASE, id(7).0);
        let footer = BlobFooter::decode(&bytes, seed, at).unwrap();
        let footer = BlobFooter { record_count: count, ..footer };
        file.write_all_at(at, &footer.encode(seed, at)).unwrap();
        let _file = bed.context.blobs.get(facts);
        match read_value(&bed, b"key", &references[0], true) {
            Ok(value) => assert!(!is_refused && value == values[0].1, "{count}"),
            Err(error) => {
                assert!(is_refused, "{count}: {error}");
                assert!(error.to_string().ends_with("footer counts too much"), "{error}");
            }
        }
    }
}

#[test]
fn a_reference_to_more_than_the_longest_value_is_refused() {
    let reference = BlobReference {
        file: id(7),
        block: BlockHandle { offset: 48, len: 100 },
        number: 0,
        value_len: VALUE_LEN_MAX,
    };
    let decode = |reference: BlobReference| {
        let mut bytes = Vec::new();
        reference.encode(&mut bytes);
        BlobReference::decode(&bytes).map_err(|error| error.what)
    };
    assert_eq!(decode(reference), Ok(reference));
    let longer = BlobReference { value_len: VALUE_LEN_MAX + 1, ..reference };
    assert_eq!(decode(longer), Err("blob reference says an impossible length"));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bed = Bed::new();
    let values: Vec<(Vec<u8>, Vec<u8>)> =
        hard_values(3).into_iter().filter(|(_, value)| value.len() <= 100).take(6).collect();
    let (facts, references) = write(&bed, 7, Compression::Lz4, &values);
    let path = bed.context.dir.join(id(7).file_name());
    let file = bed.context.fs.open_for_write(&path).unwrap();
    let mut good = vec![0; facts.file_bytes as usize];
    file.read_exact_at(0, &mut good).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        file.write_all_at(0, &bad).unwrap();
        let report = verify_blob_file(&bed.context, &facts, KEYSPACE);
        let is_found = report.as_ref().map_or(true, |report| !report.corruptions.is_empty());
        assert!(is_found, "bit {bit}: {report:?}");
        // A new handle each time: what was read is not read again.
        let held = bed.context.blobs.get(facts);
        for ((key, value), reference) in values.iter().zip(&references) {
            if let Ok(read) = read_value(&bed, key, reference, true) {
                assert_eq!(read, *value, "bit {bit}");
            }
        }
        drop(held);
    }
    for len in 0..good.len() {
        file.truncate(0).unwrap();
        file.write_all_at(0, &good[..len]).unwrap();
        let report = verify_blob_file(&bed.context, &facts, KEYSPACE).unwrap();
        assert!(!report.corruptions.is_empty(), "cut to {len}");
    }
}

#[test]
fn golden_bytes() {
    let bed = Bed::new();
    let values = [(b"key".to_vec(), b"value".to_vec()), (b"l".to_vec(), vec![b'x'; 64])];
    let (facts, references) = write(&bed, 7, Compression::Lz4, &values);
    let mut bytes = vec![0; facts.file_bytes as usize];
    let path = bed.context.dir.join(id(7).file_name());
    bed.context.fs.open(&path).unwrap().read_exact_at(0, &mut bytes).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&bytes), include_str!("../../testdata/golden/blob_file.hex").replace('\n', ""));
    let mut reference = Vec::new();
    references[1].encode(&mut reference);
    assert_eq!(hex(&reference), "01074e140140");
    let keys: Vec<Vec<u8>> = BlobFileWalk::open(&bed.context, id(7))
        .unwrap()
        .map(|record| record.unwrap().key().to_vec())
        .collect();
    assert_eq!(keys, [b"key".to_vec(), b"l".to_vec()]);
}
