//! Range tombstones in tables: their bytes, what readers get of them, what damage becomes.

use esker_base::{KeyRange, RangeTombstone};

use super::*;
use crate::testing::{Bed, Entry, get, options};
use crate::{Compression, TableProperties};

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

fn fragments(ranges: &[(&[u8], &[u8], u64)]) -> Fragments {
    let one = |&(start, end, number): &(&[u8], &[u8], u64)| RangeTombstone {
        start: start.to_vec(),
        end: end.to_vec(),
        seqno: seqno(number),
    };
    Fragments::of(ranges.iter().map(one).collect())
}

/// The example of FORMAT.md section 5.
#[test]
fn golden_bytes() {
    let given = fragments(&[(b"apple", b"fig", 300), (b"banana", b"cherry", 309)]);
    let mut bytes = Vec::new();
    encode(&given, &mut bytes);
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex.join(" "),
        "03 05 61 70 70 6c 65 06 62 61 6e 61 6e 61 01 ac 02 \
         06 62 61 6e 61 6e 61 06 63 68 65 72 72 79 02 b5 02 09 \
         06 63 68 65 72 72 79 03 66 69 67 01 ac 02"
    );
    assert_eq!(decode(&bytes), Ok(given.clone()));
    let handle = BlockHandle { offset: 48, len: 54 };
    let ranges = TableRanges::of(&given, handle, Some(b"date")).unwrap();
    let mut bytes = Vec::new();
    ranges.encode(&mut bytes);
    assert_eq!(bytes, b"\x30\x36\x03\x05apple\x03fig\x01\x01");
    assert_eq!(TableRanges::decode(&mut Decoder::new(&bytes)), Ok(ranges));
}

#[test]
fn descriptions_that_cannot_be_are_refused() {
    const WRONG: &str = "table properties describe impossible range tombstones";
    for (bytes, expected) in [
        (&b"\x30\x36\x03\x05apple\x03fig\x01\x00"[..], Ok(())),
        (b"\x30\x36\x03\x05apple\x03fig\x00\x01", Ok(())),
        (b"\x30\x36\x03\x05apple\x03fig\x00\x00", Err(WRONG)),
        (b"\x30\x36\x00\x05apple\x03fig\x01\x01", Err(WRONG)),
        (b"\x30\x36\x03\x03fig\x03fig\x01\x01", Err(WRONG)),
        (b"\x30\x36\x03\x03fig\x05apple\x01\x01", Err(WRONG)),
        (b"\x30\x36\x03\x05apple\x03fig\x02\x01", Err("a flag is neither 0 nor 1")),
    ] {
        let decoded = TableRanges::decode(&mut Decoder::new(bytes));
        assert_eq!(decoded.map(drop).map_err(|error| error.what), expected, "{bytes:?}");
    }
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    const DISORDER: &str = "range tombstones are not disjoint ranges in ascending order";
    const NUMBERS: &str = "range tombstones have impossible sequence numbers";
    const COUNT: &str = "range tombstones could be joined, or are none";
    for (bytes, what) in [
        (&b"\x00"[..], COUNT),
        (b"\x01\x01b\x01a\x01\x05", DISORDER),
        (b"\x01\x01a\x00\x01\x05", DISORDER),
        (b"\x01\x01a\x01a\x01\x05", DISORDER),
        (b"\x02\x01a\x01c\x01\x05\x01b\x01d\x01\x05", DISORDER),
        (b"\x02\x01a\x01b\x01\x05\x01b\x01d\x01\x05", COUNT),
        (b"\x01\x01a\x01c\x00", NUMBERS),
        (b"\x01\x01a\x01c\x02\x05\x00", NUMBERS),
        (b"\x01\x01a\x01c\x02\x05\x06", NUMBERS),
        (b"\x01\x01a\x01c\x7f\x05\x01", NUMBERS),
        (b"\x01\x01a\x01c\x01\x05\x00", "unexpected bytes follow"),
        (b"\x01\x01a\x01c", "varint does not end"),
    ] {
        assert_eq!(decode(bytes).map_err(|error| error.what), Err(what), "{bytes:?}");
    }
}

fn entries() -> Vec<Entry> {
    vec![Entry::put(b"c", 5, b"v"), Entry::put(b"e", 20, b"w"), Entry::put(b"m", 5, b"x")]
}

#[test]
fn a_table_knows_which_of_its_keys_are_deleted() {
    let bed = Bed::new();
    let given = fragments(&[(b"b", b"f", 10), (b"x", b"z", 12)]);
    let layout = options(100, Compression::Lz4);
    let properties = bed.build_with_ranges(1, layout, &entries(), given.clone());
    assert_eq!(
        (properties.smallest_key.as_slice(), properties.largest_key.as_slice()),
        (&b"b"[..], &b"z"[..])
    );
    assert_eq!((properties.seqno_min, properties.seqno_max), (seqno(5), seqno(20)));
    assert!(properties.ends_before(b"z") && !properties.ends_before(b"y\xff"));
    assert_eq!(round_trip(&properties), properties);
    let table = bed.table(&properties);
    assert_eq!(table.ranges().unwrap(), Some(&given));
    assert_eq!(table.covering(b"c", SeqNo::MAX).unwrap(), Some(seqno(10)));
    assert_eq!(table.covering(b"c", seqno(9)).unwrap(), None);
    assert_eq!(table.covering(b"f", SeqNo::MAX).unwrap(), None);
    assert_eq!(get(&table, b"c", SeqNo::MAX).unwrap().as_ref(), Some(&entries()[0]));
    assert_eq!(table.verify().unwrap().corruptions, []);
    let opened = bed.open_file(1).unwrap();
    assert_eq!(**opened.properties(), properties);
    assert_eq!(opened.ranges().unwrap(), Some(&given));
}

fn round_trip(properties: &TableProperties) -> TableProperties {
    let mut bytes = Vec::new();
    properties.encode(&mut bytes);
    TableProperties::decode(&mut Decoder::new(&bytes)).unwrap()
}

#[test]
fn a_table_may_hold_range_tombstones_alone() {
    let bed = Bed::new();
    let given = fragments(&[(b"", b"f", 10)]);
    let properties = bed.build_with_ranges(1, options(100, Compression::Lz4), &[], given);
    assert_eq!((properties.entry_count, properties.data_block_count), (0, 0));
    assert_eq!(round_trip(&properties), properties);
    for table in [bed.table(&properties), bed.open_file(1).unwrap()] {
        assert_eq!(get(&table, b"c", SeqNo::MAX).unwrap(), None);
        assert_eq!(table.covering(b"c", SeqNo::MAX).unwrap(), Some(seqno(10)));
        let mut cursor = table.cursor(true);
        cursor.seek_to_first().unwrap();
        assert!(!cursor.is_valid());
        cursor.seek_to_last().unwrap();
        assert!(!cursor.is_valid());
        let key = esker_base::InternalKey::seek(b"c", SeqNo::MAX);
        cursor.seek(key).unwrap();
        assert!(!cursor.is_valid());
        cursor.seek_for_prev(key).unwrap();
        assert!(!cursor.is_valid());
        assert_eq!(table.approximate_bytes(&KeyRange::all()).unwrap(), 0);
        let report = table.verify().unwrap();
        assert_eq!((report.corruptions, report.block_count), (vec![], 3));
    }
}

/// Where one range ends behind the longest key and another goes on, a fragment starts there. It
/// could be written and not read: neither the table nor the manifest that named it.
#[test]
fn a_range_may_start_right_behind_the_longest_key() {
    let bed = Bed::new();
    let behind = [&[b'k'; KEY_LEN_MAX][..], b"\0"].concat();
    for (number, given) in [
        (1, fragments(&[(b"a", &behind, 12), (b"b", b"z", 10)])),
        (2, fragments(&[(&behind, b"z", 10)])),
    ] {
        assert!(given.as_slice().iter().any(|fragment| fragment.start == behind));
        let layout = options(100, Compression::Lz4);
        let properties = bed.build_with_ranges(number, layout, &[], given.clone());
        assert_eq!(round_trip(&properties), properties);
        for table in [bed.table(&properties), bed.open_file(number).unwrap()] {
            assert_eq!(table.ranges().unwrap(), Some(&given));
            assert_eq!(table.covering(b"y", SeqNo::MAX).unwrap(), Some(seqno(10)));
            assert_eq!(table.verify().unwrap().corruptions, []);
        }
    }
}

#[test]
fn an_end_that_an_entry_has_as_its_key_belongs_to_the_table() {
    let bed = Bed::new();
    let given = fragments(&[(b"b", b"m", 10)]);
    let properties = bed.build_with_ranges(1, options(100, Compression::None), &entries(), given);
    assert!(!properties.ends_before(b"m") && properties.ends_before(b"m\0"));
    assert_eq!(bed.table(&properties).verify().unwrap().corruptions, []);
}

#[test]
fn every_flipped_bit_of_the_block_is_noticed() {
    let bed = Bed::new();
    let given = fragments(&[(b"b", b"f", 10), (b"d", b"z", 12)]);
    let properties = bed.build_with_ranges(1, options(100, Compression::Lz4), &entries(), given);
    let good = bed.bytes(1);
    let handle = properties.extras.ranges.as_ref().unwrap().handle;
    for bit in handle.offset * 8..handle.end() * 8 {
        let mut bad = good.clone();
        bad[(bit / 8) as usize] ^= 1 << (bit % 8);
        bed.replace(1, &bad);
        let table = bed.table(&properties);
        // Without its range tombstones nothing in the table can be believed.
        assert!(
            table.covering(b"c", SeqNo::MAX).is_err() && get(&table, b"m", SeqNo::MAX).is_err()
        );
        assert_ne!(table.verify().unwrap().corruptions, [], "bit {bit}");
    }
}

#[test]
fn properties_that_lie_about_ranges_are_refused() {
    let bed = Bed::new();
    let given = fragments(&[(b"b", b"f", 10), (b"x", b"z", 12)]);
    let good = bed.build_with_ranges(1, options(100, Compression::None), &entries(), given);
    let refused = |lie: &dyn Fn(&mut TableProperties)| {
        let mut properties = good.clone();
        lie(&mut properties);
        let mut bytes = Vec::new();
        properties.encode(&mut bytes);
        TableProperties::decode(&mut Decoder::new(&bytes)).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|properties| properties.smallest_key = b"bb".to_vec()));
    assert!(refused(&|properties| properties.largest_key = b"y".to_vec()));
    assert!(refused(&|properties| properties.largest_key = b"zz".to_vec()));
    assert!(refused(&|properties| {
        properties.extras.ranges.as_mut().unwrap().has_entries = false;
    }));
    let other = fragments(&[(b"b", b"g", 10), (b"x", b"z", 12), (b"y", b"z", 13)]);
    let mut lying = good.clone();
    let ranges = lying.extras.ranges.as_mut().unwrap();
    ranges.fragment_count = other.as_slice().len() as u64;
    let error = bed.table(&lying).ranges().unwrap_err();
    assert!(error.to_string().ends_with("range tombstones are not those of the properties"));
}
