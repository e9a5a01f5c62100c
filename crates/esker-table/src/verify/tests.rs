//! Whole-table checks: sound tables pass, each kind of lie is named; the bytes of a small table.

use std::fmt::Write as _;
use std::path::Path;

use esker_base::checksum::{checksum64, file_seed, hash_key};
use esker_base::{EntryKind, Fragments, RangeTombstone, SeqNo};

use crate::data_block_builder::DataBlockBuilder;
use crate::footer::Footer;
use crate::sealed::{BLOCK_TRAILER_LEN, Sealer};
use crate::testing::{Bed, Entry, datadriven, get, hard_entries, options};
use crate::{
    BlockHandle, BlockKind, Compression, PrefixRule, TableExpiry, TableOptions, TableProperties,
    TableRanges,
};

fn entries() -> Vec<Entry> {
    vec![
        Entry::put(b"apple", 12, b"red"),
        Entry::new(b"apple", 7, EntryKind::Tombstone, b""),
        Entry::put(b"apricot", 9, b"orange"),
    ]
}

#[test]
fn golden_bytes_of_a_small_table() {
    let bed = Bed::new();
    bed.build(42, options(4096, Compression::Lz4), &entries());
    let bytes = bed.bytes(42);
    let mut dump = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(dump, "{:04x}  {}", row * 16, hex.join(" ")).unwrap();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    datadriven(&root.join("testdata/golden/table.txt"), |_| dump.clone());
    let document = std::fs::read_to_string(root.join("../../docs/FORMAT.md")).unwrap();
    for line in dump.lines() {
        assert!(document.contains(line), "docs/FORMAT.md has the line {line}");
    }
}

#[test]
fn sound_table_passes_and_is_counted() {
    let entries = hard_entries(6, 2_000);
    let bed = Bed::new();
    let properties = bed.build(1, options(300, Compression::Lz4), &entries);
    let report = bed.table(&properties).verify().unwrap();
    assert_eq!(report.corruptions, []);
    assert_eq!(report.entry_count, entries.len() as u64);
    assert_eq!(report.file_bytes, properties.file_bytes);
    let blocks = properties.data_block_count + 2 * properties.partition_count + 2;
    assert_eq!(report.block_count, u64::from(blocks));
}

/// What a check says when the manifest knows the table by `lie`.
fn told(lie: impl FnOnce(&mut TableProperties)) -> Vec<String> {
    let bed = Bed::new();
    let mut properties = bed.build(1, options(300, Compression::Lz4), &entries());
    lie(&mut properties);
    let report = bed.table(&properties).verify().unwrap();
    report.corruptions.into_iter().map(|corruption| corruption.what.into_owned()).collect()
}

#[test]
fn manifest_that_knows_another_table_is_told() {
    const OTHER: &str = "file has other properties than the table is known by";
    const COUNTED: &str = "entries are not those that the properties count";
    assert_eq!(told(|_| {}), [""; 0]);
    assert_eq!(told(|properties| properties.level = 6), [OTHER]);
    assert_eq!(told(|properties| properties.entry_count += 1), [OTHER, COUNTED]);
    assert_eq!(told(|properties| properties.largest_key.push(0)), [OTHER, COUNTED]);
    assert_eq!(told(|properties| properties.smallest_key.clear()), [OTHER, COUNTED]);
    assert_eq!(told(|properties| properties.tombstone_count = 0), [OTHER, COUNTED]);
    assert_eq!(told(|properties| properties.seqno_max = SeqNo::MAX), [OTHER, COUNTED]);
    assert_eq!(told(|properties| properties.extras.replaced_count = 2), [OTHER, COUNTED]);
    let prefix_rule = Some(PrefixRule::First(2));
    assert_eq!(
        told(|properties| properties.extras.prefix_rule = prefix_rule),
        ["filter excludes the prefix of a key that is there", OTHER]
    );
    let footer = "footer has another checksum than the table is known by";
    assert_eq!(told(|properties| properties.checksum += 1), [OTHER, footer]);
    assert_eq!(
        told(|properties| properties.file_bytes += 1)[0].split(" and should").next().unwrap(),
        format!("file is {} bytes long", bed_file_bytes())
    );
}

fn bed_file_bytes() -> u64 {
    Bed::new().build(1, options(300, Compression::Lz4), &entries()).file_bytes
}

/// A table, to be changed under right checksums.
struct Forgery {
    bed: Bed,
    properties: TableProperties,
    bytes: Vec<u8>,
}

impl Forgery {
    fn of(options: TableOptions, entries: &[Entry]) -> Self {
        let bed = Bed::new();
        let properties = bed.build(1, options, entries);
        let bytes = bed.bytes(1);
        Self { bed, properties, bytes }
    }

    /// Where blocks of `kind` stand.
    fn handles(&self, kind: BlockKind) -> Vec<BlockHandle> {
        let blocks = self.bed.table(&self.properties).walk().unwrap().map(Result::unwrap);
        blocks.filter(|block| block.kind == kind).map(|block| block.handle).collect()
    }

    /// What a check says of the table with `payload` in the block at `handle`, which takes the same
    /// room, or why there is none.
    fn told(&self, handle: BlockHandle, payload: &[u8]) -> Vec<String> {
        let seed = file_seed(crate::testing::DATABASE, self.properties.id.0);
        let mut sealed = payload.to_vec();
        let mut sealer = Sealer::new(&options(4096, Compression::None), None, seed);
        sealer.seal(&mut sealed, 0, handle.offset, false);
        assert_eq!(sealed.len() as u64, handle.len, "the forged block takes the same room");
        let mut bytes = self.bytes.clone();
        let start = handle.offset as usize;
        bytes[start..start + sealed.len()].copy_from_slice(&sealed);
        let footer_at = bytes.len() - Footer::LEN;
        let mut footer = Footer::decode(&bytes[footer_at..], seed, footer_at as u64).unwrap();
        footer.content_checksum = checksum_of(&bytes);
        bytes[footer_at..].copy_from_slice(&footer.encode(seed, footer_at as u64));
        let checksum = footer.content_checksum;
        self.bed.replace(1, &bytes);
        let known = TableProperties { checksum, ..self.properties.clone() };
        let report = self.bed.table(&known).verify().unwrap();
        report.corruptions.into_iter().map(|corruption| corruption.what.into_owned()).collect()
    }

    fn payload(&self, handle: BlockHandle) -> &[u8] {
        let (start, end) = (handle.offset as usize, handle.end() as usize);
        &self.bytes[start..end - BLOCK_TRAILER_LEN]
    }
}

fn checksum_of(table: &[u8]) -> u64 {
    checksum64(0, &table[..table.len() - Footer::LEN])
}

/// What a check says of a table of `good` in which the one data block is that of `bad`.
fn forged(good: &[Entry], bad: &[Entry]) -> Vec<String> {
    let forgery = Forgery::of(options(4096, Compression::None), good);
    let mut builder = DataBlockBuilder::default();
    for entry in bad {
        let tag = crate::builder::tag_of(hash_key(&entry.user_key));
        builder.push(entry.key(), &entry.value, tag);
    }
    let mut payload = Vec::new();
    builder.finish(&mut payload);
    forgery.told(forgery.handles(BlockKind::Data)[0], &payload)
}

/// Reads go by the top index alone to the partition that they look into: one whose separators are not
/// those of its partitions hides keys from them, though every block is whole.
#[test]
fn no_byte_of_a_top_index_can_be_another_under_right_checksums() {
    for (seed, count) in [(3, 60), (4, 400)] {
        let forgery = Forgery::of(options(200, Compression::None), &hard_entries(seed, count));
        assert!(1 < forgery.properties.partition_count);
        let handle = forgery.handles(BlockKind::TopIndex)[0];
        let payload = forgery.payload(handle).to_vec();
        assert_eq!(forgery.told(handle, &payload), [""; 0]);
        for at in 0..payload.len() {
            let mut other = payload.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(forgery.told(handle, &other), [""; 0], "byte {at} of {}", payload.len());
        }
    }
}

/// Whatever stands in the blocks that lead to entries: a check that finds nothing wrong promises that all
/// of them are found.
#[test]
fn what_a_check_passes_is_read_right() {
    let entries: Vec<Entry> = ["a", "ab", "b", "c", "d", "da", "e", "f", "fa", "g", "h"]
        .iter()
        .flat_map(|key| {
            [Entry::put(key.as_bytes(), 9, &[7; 60]), Entry::put(key.as_bytes(), 3, b"")]
        })
        .collect();
    let forgery = Forgery::of(options(70, Compression::None), &entries);
    assert!(1 < forgery.properties.partition_count);
    assert!(10 < forgery.properties.data_block_count);
    let (mut passed, mut told) = (0, 0);
    for kind in [BlockKind::Index, BlockKind::Filter, BlockKind::TopIndex] {
        for handle in forgery.handles(kind) {
            let payload = forgery.payload(handle).to_vec();
            for at in 0..payload.len() {
                let byte = payload[at];
                for other in [byte.wrapping_add(1), byte.wrapping_sub(1), byte ^ 1 << (at % 8)] {
                    let mut payload = payload.clone();
                    payload[at] = other;
                    if !forgery.told(handle, &payload).is_empty() {
                        told += 1;
                        continue;
                    }
                    passed += 1;
                    let checksum = checksum_of(&forgery.bed.bytes(1));
                    let properties = TableProperties { checksum, ..forgery.properties.clone() };
                    let table = forgery.bed.table(&properties);
                    for entry in &entries {
                        let found = get(&table, &entry.user_key, entry.trailer.seqno()).unwrap();
                        let when = format!("{kind:?} at {}: byte {at} is {other}", handle.offset);
                        assert_eq!(found.as_ref(), Some(entry), "{when}");
                    }
                }
            }
        }
    }
    assert!(20 < passed && 200 < told, "{passed} passed, {told} told");
}

/// Its blocks are more than a file of that length can have: nothing is kept ready for them.
#[test]
fn a_top_index_that_counts_more_blocks_than_fit_is_told() {
    let forgery = Forgery::of(options(4096, Compression::None), &entries());
    let handle = forgery.handles(BlockKind::TopIndex)[0];
    let mut payload = forgery.payload(handle).to_vec();
    assert_eq!(payload[4], 1, "one block in the one partition");
    for (count, what) in [
        (127, "top index counts more blocks than fit"),
        (2, "index counts other blocks than the top index"),
    ] {
        payload[4] = count;
        let told = forgery.told(handle, &payload);
        assert!(told.iter().any(|told| told.contains(what)), "{count}: {told:?}");
    }
}

#[test]
fn a_table_is_compared_with_the_range_tombstones_that_it_is_known_by() {
    let range = |start: &[u8], end: &[u8]| RangeTombstone {
        start: start.to_vec(),
        end: end.to_vec(),
        seqno: SeqNo::new(4).unwrap(),
    };
    for (entries, range) in [
        (entries(), range(b"b", b"c")),
        (entries(), range(b"a", b"apple")),
        (Vec::new(), range(b"b", b"c")),
    ] {
        let told = |lie: fn(&mut TableRanges)| {
            let bed = Bed::new();
            let fragments = Fragments::of(vec![range.clone()]);
            let options = options(300, Compression::Lz4);
            let mut properties = bed.build_with_ranges(1, options, &entries, fragments);
            lie(properties.extras.ranges.as_mut().unwrap());
            bed.table(&properties).verify().unwrap().corruptions.len()
        };
        assert_eq!(told(|_| {}), 0);
        // Other properties than those of the file, and others than its entries have.
        assert_eq!(told(|ranges| ranges.has_entries ^= true), 2);
        assert_eq!(told(|ranges| ranges.ends_table ^= true), 2);
    }
}

#[test]
fn a_table_is_compared_with_the_expiries_that_it_is_known_by() {
    let until = |key: &[u8], expiry: u64| {
        Entry::new(key, 5, EntryKind::ExpiringPut, &[&expiry.to_le_bytes()[..], b"value"].concat())
    };
    let told = |entries: &[Entry], lie: fn(&mut TableExpiry)| {
        let bed = Bed::new();
        let mut properties = bed.build(1, options(300, Compression::Lz4), entries);
        lie(properties.extras.expiry.as_mut().unwrap());
        let report = bed.table(&properties).verify().unwrap();
        report.corruptions.len()
    };
    let at_once = [until(b"a", 7), until(b"b", 7)];
    assert_eq!(told(&at_once, |_| {}), 0);
    let all = [until(b"a", 7), until(b"b", 3), until(b"c", 9)];
    let some = [until(b"a", 7), until(b"b", 3), Entry::put(b"c", 9, b"stays")];
    for entries in [&all, &some] {
        assert_eq!(told(entries, |_| {}), 0);
        // Other properties than those of the file, and others than its entries have.
        assert_eq!(told(entries, |expiry| expiry.earliest = 2), 2);
        assert_eq!(told(entries, |expiry| expiry.latest = Some(10)), 2);
    }
}

#[test]
fn entries_that_do_not_belong_are_told_under_right_checksums() {
    let good = [Entry::put(b"aa", 5, b"v"), Entry::put(b"bb", 5, b"v")];
    let put = |user_key: &[u8]| Entry::put(user_key, 5, b"v");
    assert_eq!(forged(&good, &good), [""; 0]);
    // What two keys share is stored once.
    for bad in [[put(b"bb"), put(b"aa")], [put(b"aa"), Entry::put(b"aa", 5, b"vvv")]] {
        let told = forged(&good, &bad);
        assert_eq!(told[0], "entries are not in ascending order");
    }
    let short = |user_key: &[u8]| Entry::new(user_key, 5, EntryKind::ExpiringPut, b"v");
    let told = forged(&good, &[short(b"aa"), short(b"bb")]);
    assert_eq!(told[..2], ["put that expires does not say when"; 2]);
    let told = forged(&good, &[put(b"aa"), put(b"cc")]);
    assert_eq!(told[0], "separators do not separate the data blocks");
    let told = forged(&good, &[put(b"aa"), put(b"ba")]);
    assert_eq!(
        told,
        ["filter excludes a key that is there", "entries are not those that the properties count"]
    );
    let told = forged(&good, &[put(b"aa"), Entry::put(b"bb", 5, b"w")]);
    assert_eq!(told, [""; 0], "what the value was, only the whole-file checksum knows");
}

#[test]
fn prefixes_are_checked_against_the_filter() {
    let entries = hard_entries(8, 3_000);
    for rule in [PrefixRule::First(1), PrefixRule::First(3), PrefixRule::Through(b'/')] {
        let bed = Bed::new();
        let options = TableOptions { prefix_rule: Some(rule), ..options(300, Compression::Lz4) };
        let mut properties = bed.build(1, options, &entries);
        assert!(2 < properties.partition_count);
        assert_eq!(properties.extras.prefix_rule, Some(rule));
        assert_eq!(bed.table(&properties).verify().unwrap().corruptions, []);
        // By another rule, prefixes are missing.
        properties.extras.prefix_rule = Some(PrefixRule::First(2));
        let report = bed.table(&properties).verify().unwrap();
        let what = "filter excludes the prefix of a key that is there";
        assert!(report.corruptions.iter().any(|corruption| corruption.what == what));
    }
}

#[test]
fn walk_shows_every_block_with_its_place_and_contents() {
    let entries = hard_entries(7, 1_000);
    let bed = Bed::new();
    let properties = bed.build(1, options(400, Compression::Lz4), &entries);
    let table = bed.table(&properties);
    let (mut seen, mut position, mut partitions) = (Vec::new(), 48, 0);
    for block in table.walk().unwrap().map(Result::unwrap) {
        assert_eq!(block.handle.offset, position);
        position = block.handle.end();
        block.for_each_entry(|key, value| {
            let user_key = key.user_key.to_vec();
            seen.push(Entry { user_key, trailer: key.trailer, value: value.to_vec() });
        });
        let mut separators = 0;
        block.for_each_separator(|_, handle| {
            assert!(handle.end() <= block.handle.offset);
            separators += 1;
        });
        match block.kind {
            BlockKind::Data => assert!(block.item_count() > 0 && separators == 0),
            BlockKind::Index => assert_eq!(separators, block.item_count()),
            BlockKind::Filter => partitions += 1,
            BlockKind::TopIndex => assert_eq!(separators, partitions),
            BlockKind::Dictionary | BlockKind::RangeTombstones => panic!("the table has none"),
            BlockKind::Properties => assert_eq!(block.properties(), Some(&properties)),
            BlockKind::Blob => panic!("a table has no values of blob files"),
        }
        assert!(block.compression == Compression::None || block.kind == BlockKind::Data);
    }
    assert_eq!(seen, entries);
    assert_eq!(position, properties.file_bytes - 48);
}
