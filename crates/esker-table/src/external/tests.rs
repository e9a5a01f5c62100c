//! A table from outside is read as if all its entries had the one sequence number that it was
//! given, and verifies; what is not one is refused.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::testing::{Bed, DATABASE, Entry, Random, get, id, options};
use crate::{Compression, Table, TableBuilder, TableIdentity, TableOptions};
use esker_base::checksum::{checksum32, file_seed};
use esker_base::{EntryKind, Fragments, InternalKey, KeyspaceId, OwnerId, RangeTombstone, TableId};

const BIRTH: DatabaseId = DatabaseId(*b"elsewhere-------");
const OUTSIDE: &str = "outside";

fn birth_id() -> FileId {
    FileId { owner: OwnerId::FIRST, counter: 1 }
}

fn external() -> Origin {
    Origin::External { order: "bytewise".into(), keyspace: String::new(), has_operands: false }
}

/// Writes a table from outside with these entries.
fn write(bed: &Bed, options: TableOptions, entries: &[Entry], origin: Option<Origin>) {
    write_with_ranges(bed, options, entries, &[], origin);
}

/// Writes a table from outside with these entries, which deletes these ranges.
fn write_with_ranges(
    bed: &Bed,
    options: TableOptions,
    entries: &[Entry],
    ranges: &[(&str, &str)],
    origin: Option<Origin>,
) {
    let identity = TableIdentity {
        database: BIRTH,
        id: TableId(birth_id()),
        keyspace: KeyspaceId(0),
        level: 0,
    };
    let file = bed.context.fs.create(Path::new(OUTSIDE)).unwrap();
    let mut builder = TableBuilder::new(file, identity, options);
    if let Some(origin) = origin {
        builder = builder.from_origin(origin);
    }
    for entry in entries {
        builder.add(entry.key(), &entry.value).unwrap();
    }
    let tombstone = |&(start, end): &(&str, &str)| RangeTombstone {
        start: start.into(),
        end: end.into(),
        seqno: SeqNo::ZERO,
    };
    builder.set_ranges(Fragments::of(ranges.iter().map(tombstone).collect()));
    builder.finish().unwrap();
}

fn entries(seed: u64, count: u64) -> Vec<Entry> {
    let mut random = Random(seed);
    let one = |number: u64| {
        let kind = if number.is_multiple_of(5) { EntryKind::Tombstone } else { EntryKind::Put };
        Entry::new(format!("key{:04}", number * 3).as_bytes(), 0, kind, &random.bytes(20))
    };
    (0..count).map(one).collect()
}

fn adoption(seqno: u64) -> Adoption {
    Adoption {
        database: DATABASE,
        id: id(9),
        keyspace: KeyspaceId(4),
        level: 6,
        seqno: SeqNo::new(seqno).unwrap(),
        origin_database: BIRTH,
        origin_id: birth_id(),
    }
}

/// Takes the table over as table 9, at a sequence number.
fn take_over(bed: &Bed, seqno: u64) -> TableProperties {
    let external = ExternalTable::open(&*bed.context.fs, Path::new(OUTSIDE)).unwrap();
    let copy = bed.create(9);
    external.check(Some(&*copy)).unwrap();
    let adoption = adoption(seqno);
    let content_bytes = external.properties().file_bytes;
    let file_bytes = adopt(&*copy, content_bytes, &adoption).unwrap();
    adoption.apply(external.properties().clone(), file_bytes)
}

/// The entries as they are read once taken over.
fn at_seqno(entries: &[Entry], seqno: u64) -> Vec<Entry> {
    let moved = |e: &Entry| Entry::new(&e.user_key, seqno, e.trailer.kind(), &e.value);
    entries.iter().map(moved).collect()
}

fn shown(cursor: &crate::TableCursor) -> Option<Entry> {
    cursor.is_valid().then(|| Entry {
        user_key: cursor.key().user_key.to_vec(),
        trailer: cursor.key().trailer,
        value: cursor.value().to_vec(),
    })
}

#[test]
fn every_read_shows_the_one_sequence_number() {
    let bed = Bed::new();
    let given = entries(1, 300);
    write(&bed, options(256, Compression::Lz4), &given, Some(external()));
    let properties = take_over(&bed, 50);
    let expected = at_seqno(&given, 50);
    for table in [bed.table(&properties), bed.open_file(9).unwrap()] {
        assert_eq!(**table.properties(), properties);
        assert_eq!(table.verify().unwrap().corruptions, []);
        for entry in &expected {
            assert_eq!(
                get(&table, &entry.user_key, SeqNo::new(50).unwrap()).unwrap().as_ref(),
                Some(entry)
            );
            assert_eq!(get(&table, &entry.user_key, SeqNo::new(49).unwrap()).unwrap(), None);
        }
        check_cursor(&table, &expected);
    }
}

/// Seeks to every key and between them, at numbers before, at and behind that of the entries.
fn check_cursor(table: &Arc<Table>, expected: &[Entry]) {
    let mut cursor = table.cursor(true);
    for number in 0..910 {
        let user_key = format!("key{number:04}");
        for seqno in [0, 49, 50, 51] {
            for target in [
                InternalKey::seek(user_key.as_bytes(), SeqNo::new(seqno).unwrap()),
                InternalKey::new(user_key.as_bytes(), SeqNo::new(seqno).unwrap(), EntryKind::Put),
            ] {
                let first = expected.partition_point(|entry| entry.key() < target);
                cursor.seek(target).unwrap();
                assert_eq!(shown(&cursor).as_ref(), expected.get(first), "seek {target:?}");
                let after = expected.partition_point(|entry| entry.key() <= target);
                cursor.seek_for_prev(target).unwrap();
                let last = after.checked_sub(1).map(|last| &expected[last]);
                assert_eq!(shown(&cursor).as_ref(), last, "seek for prev {target:?}");
            }
        }
    }
    let mut seen = Vec::new();
    cursor.seek_to_first().unwrap();
    while let Some(entry) = shown(&cursor) {
        seen.push(entry);
        cursor.next().unwrap();
    }
    assert_eq!(seen, expected);
    cursor.seek_to_last().unwrap();
    for entry in expected.iter().rev() {
        assert_eq!(shown(&cursor).as_ref(), Some(entry));
        cursor.prev().unwrap();
    }
}

/// Point reads go by the numbers in the blocks, cursors by that of the adoption: all are zero, or they would
/// not agree.
#[test]
fn numbers_of_its_own_and_keys_that_stand_twice_are_told() {
    let told = |entries: &[Entry]| {
        let bed = Bed::new();
        write(&bed, options(256, Compression::None), entries, Some(external()));
        let path = Path::new(OUTSIDE);
        let mut forge =
            crate::fuzzing::forge::Forge::of(&crate::testing::read_file(&bed.context, path));
        forge.number_at_zero();
        bed.context.fs.remove(path).unwrap();
        bed.context.fs.create(path).unwrap().write_all_at(0, &forge.seal(&mut |_, _| {})).unwrap();
        let report = bed.table(&take_over(&bed, 700)).verify().unwrap();
        report.corruptions.into_iter().map(|one| one.what.into_owned()).collect::<Vec<_>>()
    };
    let zero = |kind| Entry::new(b"key", 0, kind, b"");
    assert_eq!(told(&[zero(EntryKind::Put)]), [""; 0]);
    let told_twice = told(&[zero(EntryKind::Put), zero(EntryKind::Tombstone)]);
    assert_eq!(told_twice, ["key stands twice in a table from outside"]);
    let told_own = told(&[Entry::put(b"key", 5, b"")]);
    assert_eq!(told_own, ["entry of a table from outside has a sequence number of its own"]);
}

#[test]
fn what_an_earlier_adoption_left_is_passed_over() {
    let bed = Bed::new();
    let given = entries(2, 10);
    write(&bed, options(256, Compression::None), &given, Some(external()));
    let properties = take_over(&bed, 7);
    let bytes = bed.bytes(9);
    let content = properties.file_bytes as usize - Adoption::LEN;
    for cut in content..=bytes.len() {
        bed.replace(9, &bytes[..cut]);
        let again = ExternalTable::open(&*bed.context.fs, &bed.path(9)).unwrap();
        assert_eq!(again.properties().file_bytes, content as u64, "cut at {cut}");
        again.check(None).unwrap();
    }
    // Adopted anew, at another number: the last one counts.
    let file = bed.context.fs.open_for_write(&bed.path(9)).unwrap();
    assert_eq!(adopt(&*file, content as u64, &adoption(8)).unwrap(), properties.file_bytes);
    assert_eq!(bed.open_file(9).unwrap().properties().seqno_max.get(), 8);
    let error = get(&bed.table(&properties), b"key0003", SeqNo::MAX).unwrap_err().to_string();
    assert!(error.contains("file has another origin than the table's properties"), "{error}");
}

#[test]
fn deleted_ranges_come_right_before_the_entries() {
    for count in [20, 0] {
        let bed = Bed::new();
        let ranges = [("a", "c"), ("b", "key0020"), ("y", "z")];
        let layout = options(256, Compression::Lz4);
        write_with_ranges(&bed, layout, &entries(7, count), &ranges, Some(external()));
        let properties = take_over(&bed, 50);
        let numbers = (properties.seqno_min.get(), properties.seqno_max.get());
        assert_eq!(numbers, if count == 0 { (49, 49) } else { (49, 50) });
        assert_eq!((&*properties.smallest_key, &*properties.largest_key), (&b"a"[..], &b"z"[..]));
        let seqno = |number| SeqNo::new(number).unwrap();
        for table in [bed.table(&properties), bed.open_file(9).unwrap()] {
            assert_eq!(**table.properties(), properties);
            assert_eq!(table.verify().unwrap().corruptions, []);
            for (key, is_covered) in
                [("a", true), ("key0019", true), ("key0020", false), ("y", true)]
            {
                let covering = |snapshot| table.covering(key.as_bytes(), snapshot).unwrap();
                assert_eq!(covering(SeqNo::MAX), is_covered.then_some(seqno(49)), "{key}");
                assert_eq!(covering(seqno(48)), None, "{key}");
            }
        }
    }
    // Of a file that says that it was adopted at zero, whatever wrote it.
    let bed = Bed::new();
    let layout = options(256, Compression::Lz4);
    write_with_ranges(&bed, layout, &entries(7, 3), &[("a", "b")], Some(external()));
    let table = bed.table(&take_over(&bed, 0));
    assert_eq!(table.covering(b"a", SeqNo::MAX).unwrap(), Some(SeqNo::ZERO));
}

#[test]
fn every_flipped_bit_of_an_adopted_table_is_noticed() {
    let bed = Bed::new();
    let given = entries(3, 30);
    let ranges = [("a", "b"), ("key0009", "key0030")];
    let layout = options(100, Compression::Lz4);
    write_with_ranges(&bed, layout, &given, &ranges, Some(external()));
    let properties = take_over(&bed, 50);
    let expected = at_seqno(&given, 50);
    let good = bed.bytes(9);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bed.replace(9, &bad);
        assert_ne!(bed.table(&properties).verify().unwrap().corruptions, [], "bit {bit}");
        for table in bed.open_file(9).into_iter().chain([bed.table(&properties)]) {
            for entry in &expected {
                if let Ok(found) = get(&table, &entry.user_key, SeqNo::MAX) {
                    assert_eq!(found.as_ref(), Some(entry), "bit {bit}");
                }
            }
            for (key, covering) in [(&b"a"[..], 49), (b"key0010", 49)] {
                if let Ok(found) = table.covering(key, SeqNo::MAX) {
                    assert_eq!(found, SeqNo::new(covering), "bit {bit}");
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_table_from_outside_is_refused() {
    let bed = Bed::new();
    write(&bed, options(100, Compression::Lz4), &entries(4, 30), Some(external()));
    let path = Path::new(OUTSIDE);
    let fs = &bed.context.fs;
    let file = fs.open_for_write(path).unwrap();
    let mut good = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut good).unwrap();
    let is_taken = || {
        let opened = ExternalTable::open(&**fs, path).map_err(|error| error.to_string())?;
        opened.check(None).map_err(|error| error.to_string())
    };
    assert_eq!(is_taken(), Ok(()));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        file.write_all_at(0, &bad).unwrap();
        assert!(is_taken().is_err(), "bit {bit}");
    }
    file.write_all_at(0, &good).unwrap();
    for len in (0..good.len() as u64).rev() {
        file.truncate(len).unwrap();
        assert!(is_taken().is_err(), "{len} bytes");
    }
}

#[test]
fn tables_of_a_database_are_not_taken_over() {
    let bed = Bed::new();
    write(&bed, options(100, Compression::Lz4), &entries(5, 3), None);
    let refused = |path: &Path| match ExternalTable::open(&*bed.context.fs, path) {
        Err(ExternalError::NotExternal(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Path::new(OUTSIDE)), "it was not written by a table writer");
    bed.context.fs.remove(Path::new(OUTSIDE)).unwrap();
    let numbered = [Entry::put(b"k", 3, b"v")];
    write(&bed, options(100, Compression::Lz4), &numbered, Some(external()));
    assert_eq!(refused(Path::new(OUTSIDE)), "it was not written by a table writer");
}

/// The example of FORMAT.md section 5.
#[test]
fn golden_bytes_of_an_adoption() {
    let bytes = adoption(0x0102).encode(1000);
    let checksum = &bytes[76..80];
    let mut expected = Vec::new();
    expected.extend_from_slice(&DATABASE.0);
    expected.extend_from_slice(b"\x01\0\0\0\x09\0\0\0\0\0\0\0\x04\0\0\0\x02\x01\0\0\0\0\0\0");
    expected.extend_from_slice(&BIRTH.0);
    expected.extend_from_slice(b"\x01\0\0\0\x01\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0");
    expected.extend_from_slice(checksum);
    expected.extend_from_slice(b"esad");
    assert_eq!(bytes, expected);
    assert_eq!(checksum, [11, 38, 142, 68]);
    assert_eq!(Adoption::decode(&bytes, DATABASE, id(9), 1000), Ok(adoption(0x0102)));
    assert!(Adoption::decode(&bytes, DATABASE, id(9), 1001).is_err());
    assert!(Adoption::decode(&bytes, DATABASE, id(8), 1000).is_err());
    // Nothing that is not said is there, whatever the checksum says.
    for at in 69..76 {
        let mut other = bytes.clone();
        other[at] = 1;
        let seed = file_seed(DATABASE, id(9).0).wrapping_add(1000);
        let checksum = checksum32(seed, &other[..76]);
        other[76..80].copy_from_slice(&checksum.to_le_bytes());
        let error = Adoption::decode(&other, DATABASE, id(9), 1000).unwrap_err();
        assert_eq!(error.what, "adoption is not that of the table", "byte {at}");
    }
}
