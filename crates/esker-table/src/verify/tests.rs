//! Whole-table checks: sound tables pass, each kind of lie is named; the bytes of a small table.

use std::fmt::Write as _;
use std::path::Path;

use esker_base::{EntryKind, SeqNo};

use crate::data_block_builder::DataBlockBuilder;
use crate::testing::{Bed, Entry, datadriven, hard_entries, options};
use crate::{BlockKind, Compression, PrefixRule, TableOptions, TableProperties};

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

/// A table of `good`, in which the one data block was replaced by that of `bad`, under right
/// checksums; what a check says.
fn forged(good: &[Entry], bad: &[Entry]) -> Vec<String> {
    use crate::footer::Footer;
    use crate::sealed::Sealer;
    use esker_base::checksum::{checksum64, file_seed, hash_key};

    let bed = Bed::new();
    let mut properties = bed.build(1, options(4096, Compression::None), good);
    let mut bytes = bed.bytes(1);
    let block = bed.table(&properties).walk().unwrap().next().unwrap().unwrap();
    assert_eq!(block.kind, BlockKind::Data);
    let mut builder = DataBlockBuilder::default();
    for entry in bad {
        let tag = crate::builder::tag_of(hash_key(&entry.user_key));
        builder.push(entry.key(), &entry.value, tag);
    }
    let seed = file_seed(crate::testing::DATABASE, properties.id.0);
    let mut sealed = Vec::new();
    builder.finish(&mut sealed);
    Sealer::new(&options(4096, Compression::None), None, seed).seal(
        &mut sealed,
        0,
        block.handle.offset,
        false,
    );
    assert_eq!(sealed.len() as u64, block.handle.len, "the forged block takes the same room");
    let start = block.handle.offset as usize;
    bytes[start..start + sealed.len()].copy_from_slice(&sealed);
    let footer_at = bytes.len() - Footer::LEN;
    let mut footer = Footer::decode(&bytes[footer_at..], seed, footer_at as u64).unwrap();
    footer.content_checksum = checksum64(0, &bytes[..footer_at]);
    bytes[footer_at..].copy_from_slice(&footer.encode(seed, footer_at as u64));
    properties.checksum = footer.content_checksum;
    bed.replace(1, &bytes);
    let report = bed.table(&properties).verify().unwrap();
    report.corruptions.into_iter().map(|corruption| corruption.what.into_owned()).collect()
}

#[test]
fn entries_that_do_not_belong_are_told_under_right_checksums() {
    let good = [Entry::put(b"aa", 5, b"v"), Entry::put(b"bb", 5, b"v")];
    let put = |user_key: &[u8]| Entry::put(user_key, 5, b"v");
    assert_eq!(forged(&good, &good), [""; 0]);
    let told = forged(&good, &[put(b"bb"), put(b"aa")]);
    assert_eq!(told[0], "entries are not in ascending order");
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
