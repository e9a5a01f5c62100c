//! What decoders refuse although every checksum fits: bytes that no writer of this crate makes.
//!
//! A change in a file is found by its checksums; these rules stand behind them, for files that are
//! whole but in the wrong place, of another release, or made by something else.

use esker_base::checksum::file_seed;
use esker_base::coding::{Decoder, put_varint};
use esker_base::{
    BlobFileId, DatabaseId, FileHeader, FileId, FileKind, KeyspaceId, OwnerId, SeqNo,
};
use esker_env::FileExt as _;

use crate::blob_format::{BlobFooter, check_blob_header};
use crate::index_block::IndexBlock;
use crate::testing::{Bed, DATABASE, Entry, options};
use crate::top_index::TopIndex;
use crate::{
    BlobFileFacts, BlobFileIdentity, BlobFileWriter, BlobUses, Compression, TableProperties,
    verify_blob_file,
};

const KEYSPACE: KeyspaceId = KeyspaceId(3);

fn blob_id(counter: u64) -> BlobFileId {
    BlobFileId(FileId { owner: OwnerId::FIRST, counter })
}

#[test]
fn a_blob_file_that_is_another_one_is_named_by_its_header() {
    let good = FileHeader { kind: FileKind::Blob, format: 1, id: blob_id(7).0, database: DATABASE };
    let check = |header: FileHeader| {
        check_blob_header(&header.encode(), DATABASE, blob_id(7)).map_err(|error| error.to_string())
    };
    assert_eq!(check(good), Ok(()));
    let other = DatabaseId(*b"another database");
    let cases = [
        (FileHeader { kind: FileKind::Table, ..good }, "file is a table and not a blob file"),
        (FileHeader { database: other, ..good }, "file belongs to database "),
        (FileHeader { id: blob_id(8).0, ..good }, "file was created as 1-00000008.blob"),
        (FileHeader { format: 0, ..good }, "file has format version 0"),
    ];
    for (header, what) in cases {
        let error = check(header).unwrap_err();
        assert!(error.starts_with("1-00000007.blob is damaged at offset 0: "), "{error}");
        assert!(error.contains(what), "{error}");
    }
    let error = check(FileHeader { format: 99, ..good }).unwrap_err();
    assert!(error.contains("format version 99"), "{error}");
}

/// Writes a blob file of two values, and what tables know of it.
fn write(bed: &Bed, counter: u64, first: &[u8]) -> BlobFileFacts {
    let id = blob_id(counter);
    let file = bed.context.fs.create(&bed.context.dir.join(id.file_name())).unwrap();
    let identity = BlobFileIdentity { database: DATABASE, id, keyspace: KEYSPACE };
    let mut writer = BlobFileWriter::new(file, identity, Compression::None);
    writer.add(b"a", first).unwrap();
    writer.add(b"b", b"value").unwrap();
    writer.finish(5).unwrap()
}

fn corruption_of(bed: &Bed, facts: &BlobFileFacts, keyspace: KeyspaceId) -> String {
    let report = verify_blob_file(&bed.context, facts, keyspace).unwrap();
    assert_eq!(report.corruptions.len(), 1, "{:?}", report.corruptions);
    report.corruptions[0].to_string()
}

#[test]
fn a_blob_file_that_is_not_what_its_tables_know_is_named() {
    let bed = Bed::new();
    let facts = write(&bed, 7, b"one");
    assert!(verify_blob_file(&bed.context, &facts, KEYSPACE).unwrap().corruptions.is_empty());
    let longer = BlobFileFacts { file_bytes: facts.file_bytes + 1, ..facts };
    let error = corruption_of(&bed, &longer, KEYSPACE);
    assert!(error.ends_with("file has 138 bytes, and its tables say 139"), "{error}");
    let footer = "footer has another checksum or time than the tables know";
    for other in [
        BlobFileFacts { checksum: !facts.checksum, ..facts },
        BlobFileFacts { written_millis: 6, ..facts },
    ] {
        assert!(corruption_of(&bed, &other, KEYSPACE).ends_with(footer));
    }
    let error = corruption_of(&bed, &facts, KeyspaceId(4));
    assert!(error.ends_with("values are of keyspace 3, not 4"), "{error}");
}

/// Puts another footer with a checksum that fits at the end of blob file 7.
fn write_footer(bed: &Bed, facts: &BlobFileFacts, change: impl FnOnce(&mut BlobFooter)) {
    let file = bed.context.fs.open_for_write(&bed.context.dir.join(facts.id.file_name())).unwrap();
    let at = facts.file_bytes - BlobFooter::LEN as u64;
    let mut bytes = vec![0; BlobFooter::LEN];
    file.read_exact_at(at, &mut bytes).unwrap();
    let seed = file_seed(DATABASE, facts.id.0);
    let mut footer = BlobFooter::decode(&bytes, seed, at).unwrap();
    change(&mut footer);
    file.write_all_at(at, &footer.encode(seed, at)).unwrap();
}

#[test]
fn a_blob_file_is_compared_with_what_its_footer_counts() {
    let counts = "records are not those that the footer counts";
    let changes: [fn(&mut BlobFooter); 3] = [
        |footer| footer.record_count += 1,
        |footer| footer.key_bytes += 1,
        |footer| footer.value_bytes += 1,
    ];
    for change in changes {
        let bed = Bed::new();
        let facts = write(&bed, 7, b"one");
        write_footer(&bed, &facts, change);
        assert!(corruption_of(&bed, &facts, KEYSPACE).ends_with(counts));
    }
    let bed = Bed::new();
    let facts = write(&bed, 7, b"one");
    write_footer(&bed, &facts, |footer| footer.content_checksum ^= 1);
    let facts = BlobFileFacts { checksum: facts.checksum ^ 1, ..facts };
    let error = corruption_of(&bed, &facts, KEYSPACE);
    assert!(error.ends_with("file does not have the checksum that its footer says"), "{error}");
}

#[test]
fn lists_of_blob_files_that_no_table_has_are_refused() {
    let one = |counter: u64, count: u64, bytes: u64| {
        let mut out = Vec::new();
        // Owner, counter, length of the file, checksum, time, count, bytes.
        [1, counter, 1000].into_iter().for_each(|number| put_varint(&mut out, number));
        out.extend_from_slice(&[7; 8]);
        [9, count, bytes].into_iter().for_each(|number| put_varint(&mut out, number));
        out
    };
    let decode = |uses: &[Vec<u8>]| {
        let mut bytes = vec![uses.len() as u8];
        uses.iter().for_each(|one| bytes.extend_from_slice(one));
        BlobUses::decode(&mut Decoder::new(&bytes)).map_err(|error| error.what)
    };
    assert_eq!(decode(&[one(7, 1, 900), one(8, 2, 40)]).unwrap().as_slice().len(), 2);
    assert_eq!(decode(&[]), Err("list of blob files is empty"));
    let disorder = Err("blob files of a table do not ascend");
    assert_eq!(decode(&[one(8, 1, 40), one(7, 1, 40)]), disorder);
    assert_eq!(decode(&[one(7, 1, 40), one(7, 1, 40)]), disorder);
    let too_much = Err("blob file of a table counts what it cannot hold");
    assert_eq!(decode(&[one(7, 0, 40)]), too_much);
    assert_eq!(decode(&[one(7, 1, 901)]), too_much);
}

#[test]
fn indexes_that_fit_no_table_are_refused() {
    let encode = |ends: &[u64]| {
        let mut payload = Vec::new();
        IndexBlock::encode(&mut payload, 100, ends, b"ab", &[1, 2]);
        payload.into_boxed_slice()
    };
    let decode = |ends: &[u64], count: u32, data_end: u64| {
        IndexBlock::decode(encode(ends), count, data_end).map(drop).map_err(|error| error.what)
    };
    assert_eq!(decode(&[40, 90], 2, 190), Ok(()));
    assert_eq!(decode(&[40, 90], 2, 189), Err("index names blocks that reach into itself"));
    assert_eq!(decode(&[40, 90], 3, 190), Err("index counts other blocks than the top index"));
    assert_eq!(decode(&[0, 1], 2, 190), Err("index names more blocks than there are bytes"));
    let mut none = Vec::new();
    IndexBlock::encode(&mut none, 100, &[], b"", &[]);
    let error = IndexBlock::decode(none.into_boxed_slice(), 0, 190).unwrap_err();
    assert_eq!(error.what, "index counts other blocks than the top index");
}

/// A count that no payload bears out must not become memory.
#[test]
fn top_indexes_of_more_partitions_than_bytes_are_refused() {
    let decode = |payload: &[u8]| TopIndex::decode(payload.into()).map(drop);
    for count in [8, 1_000, u32::MAX] {
        let error = decode(&[&count.to_le_bytes()[..], &[0; 3]].concat()).unwrap_err();
        assert_eq!(error.what, "top index has an impossible number of partitions", "{count}");
    }
    // As many as there are bytes may be; that the bytes do not hold them shows one by one.
    let error = decode(&[&7_u32.to_le_bytes()[..], &[1; 3]].concat()).unwrap_err();
    assert_eq!(error.what, "varint does not end");
}

/// Makes properties wrong.
type Change = fn(&mut TableProperties);

#[test]
fn properties_that_no_finished_table_has_are_refused() {
    let bed = Bed::new();
    let entries = [Entry::put(b"a", 1, b"x"), Entry::put(b"b", 2, b"y")];
    let good = bed.build(1, options(4096, Compression::None), &entries);
    let decode = |change: Change| {
        let mut properties = good.clone();
        change(&mut properties);
        let mut bytes = Vec::new();
        properties.encode(&mut bytes);
        TableProperties::decode(&mut Decoder::new(&bytes)).map(drop).map_err(|error| error.what)
    };
    assert_eq!(decode(|_| ()), Ok(()));
    assert_eq!(decode(|it| it.largest_key = vec![b'b'; 65_535]), Ok(()), "the longest key");
    assert_eq!(decode(|it| it.tombstone_count = 2), Ok(()), "tombstones alone");
    let cases: [(Change, &str); 9] = [
        (
            |it| it.smallest_key = b"c".to_vec(),
            "table properties have their keys in the wrong order",
        ),
        (
            |it| it.seqno_min = SeqNo::new(3).unwrap(),
            "table properties have their sequence numbers in the wrong order",
        ),
        (|it| it.data_block_count = 0, "table properties count more blocks than entries"),
        (|it| it.data_block_count = 3, "table properties count more blocks than entries"),
        (|it| it.tombstone_count = 3, "table properties count more tombstones than entries"),
        (|it| it.partition_count = 0, "table properties count more partitions than blocks"),
        (|it| it.partition_count = 2, "table properties count more partitions than blocks"),
        (|it| it.smallest_key = vec![7; 70_000], "table properties hold a key that is too long"),
        (
            |it| it.largest_key = vec![7; 65_536],
            "table properties have bounds that do not fit their range tombstones",
        ),
    ];
    for (change, what) in cases {
        assert_eq!(decode(change), Err(what));
    }
}
