//! Data blocks: layouts as text under `testdata/block`, lookups against a sorted vector, and bytes
//! that are no block.

use std::fmt::Write as _;
use std::path::PathBuf;

use esker_base::checksum::hash_key;
use esker_base::coding::DecodeError;

use super::*;
use crate::builder::tag_of;
use crate::data_block_builder::DataBlockBuilder;
use crate::testing::{Entry, Random, expected, sorted};

fn payload_of(entries: &[Entry]) -> Vec<u8> {
    let mut builder = DataBlockBuilder::default();
    for entry in entries {
        builder.push(entry.key(), &entry.value, tag_of(hash_key(&entry.user_key)));
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert!(builder.is_empty());
    out
}

/// From a buffer that is longer, and has bytes of another block behind the payload.
fn decode(payload: &[u8]) -> Result<DataBlock, DecodeError> {
    DataBlock::decode([payload, &[0xa5; 40]].concat().into(), payload.len())
}

fn block_of(entries: &[Entry]) -> DataBlock {
    decode(&payload_of(entries)).unwrap()
}

fn key_at(block: &DataBlock, index: usize) -> Vec<u8> {
    [block.prefix(), block.suffix(index)].concat()
}

/// Asks a block of `entries` everything, and compares with the obvious answers.
fn check(entries: &[Entry], probes: &[Vec<u8>]) {
    let block = block_of(entries);
    assert_eq!(block.count(), entries.len());
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(key_at(&block, index), entry.user_key);
        assert_eq!(block.trailer(index), entry.trailer);
        assert_eq!(block.value(index), entry.value);
    }
    let mut seqnos: Vec<u64> = entries.iter().map(|entry| entry.trailer.seqno().get()).collect();
    seqnos.extend([0, SeqNo::MAX.get()]);
    seqnos.sort_unstable();
    seqnos.dedup();
    let keys = entries.iter().map(|entry| &entry.user_key).chain(probes);
    for user_key in keys {
        for &seqno in &seqnos {
            let snapshot = SeqNo::new(seqno).unwrap();
            let target = InternalKey::seek(user_key, snapshot);
            let bound = entries.partition_point(|entry| entry.key() < target);
            assert_eq!(block.lower_bound(target), bound, "{target:?}");
            let found = block.find(user_key, tag_of(hash_key(user_key)), snapshot);
            let right = expected(entries, user_key, snapshot);
            assert_eq!(found.entry.map(|index| &entries[index]), right, "{target:?}");
            let first = entries.partition_point(|entry| entry.user_key < *user_key);
            assert_eq!(found.stepped_over, (bound - first) as u64, "{target:?}");
        }
    }
}

/// What follows the prefix of a random key. Most of them start with eight equal bytes, so that heads
/// say nothing about many.
fn random_suffix(random: &mut Random, len: usize) -> Vec<u8> {
    let mut few = || [0, 1, 255][random.below(3) as usize];
    let (first, is_plain) = (few(), few() == 0);
    let mut suffix: Vec<u8> = (0..len).map(|_| few()).collect();
    if !is_plain {
        suffix[..len.min(8)].fill(first);
    }
    suffix
}

#[test]
fn random_blocks_answer_as_a_sorted_vector() {
    let mut random = Random(11);
    for round in 0..120 {
        let prefix_len = [0, 3, 8, 40][round % 4];
        let prefix = random.bytes(prefix_len);
        let seqno_end = [1, 200, 60_000, 1 << 31, 1 << 50][round % 5];
        // Of many lengths, or all of one: shorter than a head, a head, longer.
        let lens = [0..10, 0..24, 3..4, 8..9, 9..10, 17..18, 20..21][round % 7].clone();
        let random_key = |random: &mut Random| {
            let len = lens.start + random.below((lens.end - lens.start) as u64) as usize;
            [prefix.clone(), random_suffix(random, len)].concat()
        };
        let entries = (0..1 + random.below(60)).map(|_| {
            let user_key = random_key(&mut random);
            let kinds = [EntryKind::Put, EntryKind::Tombstone, EntryKind::Merge];
            let kind = kinds[random.below([1, 3][round % 2]) as usize];
            let value_len = random.below([1, 20][round % 2]) as usize;
            Entry::new(&user_key, random.below(seqno_end), kind, &random.bytes(value_len))
        });
        let entries = sorted(entries.collect());
        let mut probes = vec![vec![], vec![255; 60], random.bytes(5)];
        for _ in 0..4 {
            let key = random_key(&mut random);
            probes
                .extend([key[..key.len() - key.len().min(1)].to_vec(), [&key[..], &[0]].concat()]);
            probes.push(key);
        }
        check(&entries, &[vec![prefix], probes].concat());
    }
}

#[test]
fn blocks_of_extremes_answer_as_a_sorted_vector() {
    let long = vec![b'k'; 65_535];
    let mut longer_tail = long.clone();
    longer_tail[65_534] = b'l';
    check(&[Entry::put(b"", 1, b"")], &[b"a".to_vec()]);
    check(&[Entry::put(&long, 2, b"x"), Entry::put(&long, 1, b"y")], &[b"k".to_vec()]);
    check(&[Entry::put(&long, 2, b"x"), Entry::put(&longer_tail, 1, &[7; 70_000])], &[]);
    let max = SeqNo::MAX.get();
    check(&[Entry::put(b"a", max, b""), Entry::put(b"a", 0, b"v"), Entry::put(b"b", 9, b"")], &[]);
}

#[test]
fn block_of_more_entries_than_tags_are_scanned_for_answers_too() {
    let entries: Vec<Entry> = (0..1_500_u64)
        .map(|number| Entry::put(format!("{:05}", number / 3).as_bytes(), 5 - number % 3, b"v"))
        .collect();
    check(&entries, &[b"00000x".to_vec(), b"0".to_vec(), b"9".to_vec()]);
}

#[test]
fn bytes_that_are_no_block_are_refused_or_harmless() {
    let entries: Vec<Entry> = (0..20_u64)
        .map(|number| {
            let kind = if number % 5 == 0 { EntryKind::Tombstone } else { EntryKind::Put };
            let value = vec![b'v'; number as usize % 7];
            Entry::new(format!("key{:03}", number * number).as_bytes(), 1000 * number, kind, &value)
        })
        .collect();
    let good = payload_of(&entries);
    for len in 0..good.len() {
        assert!(decode(&good[..len]).is_err(), "{len}");
    }
    // Under a checksum that holds, whatever the bytes say must not panic.
    let mut random = Random(5);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bad.len() as u64 / 2) as usize;
            bad[at] = random.next() as u8;
        }
        if let Ok(block) = decode(&bad) {
            for index in 0..block.count() {
                let touched = (key_at(&block, index), block.value(index), block.trailer(index));
                assert!(touched.0.len() <= 65_535);
            }
            block.find(b"key004", tag_of(hash_key(b"key004")), SeqNo::MAX);
            block.lower_bound(InternalKey::seek(b"key004", SeqNo::MAX));
        }
    }
}

/// What is stored of a sequence number is its distance from the smallest: each width, with the smallest
/// so far up that the sum is the largest number there is, and one behind it.
#[test]
fn sequence_numbers_past_the_largest_are_refused_whatever_their_width() {
    for distance in [0, 1, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, 1 << 50] {
        let entries = [Entry::put(b"a", distance, b""), Entry::put(b"b", 0, b"")];
        let mut payload = payload_of(&entries);
        let base = SeqNo::MAX.get() - distance;
        payload[8..16].copy_from_slice(&base.to_le_bytes());
        let block = decode(&payload).unwrap();
        assert_eq!(block.trailer(0).seqno(), SeqNo::MAX, "{distance}");
        assert_eq!(block.trailer(1).seqno().get(), base, "{distance}");
        for base in [base + 1, u64::MAX] {
            payload[8..16].copy_from_slice(&base.to_le_bytes());
            let error = decode(&payload).map(drop).unwrap_err();
            assert_eq!(error.what, "data block has a sequence number past the largest");
        }
    }
}

#[test]
fn zero_bytes_are_found_exactly() {
    let mut random = Random(6);
    for _ in 0..10_000 {
        let bytes: [u8; 8] =
            std::array::from_fn(|_| [0, 1, 0x7f, 0x80, 255][random.below(5) as usize]);
        let marks = zero_bytes(u64::from_le_bytes(bytes)).to_le_bytes();
        assert_eq!(marks, bytes.map(|byte| if byte == 0 { 0x80 } else { 0 }));
    }
}

#[test]
fn layouts_are_those_of_testdata() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/block");
    crate::testing::datadriven(&dir.join("layout.txt"), |input| {
        let entries: Vec<Entry> = input.lines().map(parse_entry).collect();
        let payload = payload_of(&entries);
        let block = decode(&payload).unwrap();
        describe(&block, &payload)
    });
}

/// `kind key seqno value`, where `""` stands for an empty string and `x*3` for `xxx`.
fn parse_entry(line: &str) -> Entry {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = (0..=u8::MAX)
        .map_while(EntryKind::from_byte)
        .find(|kind| kind.to_string() == words[0])
        .expect("a kind of entry");
    let text = |word: &str| match word.split_once('*') {
        Some((text, count)) => text.repeat(count.parse().unwrap()).into_bytes(),
        None => word.trim_matches('"').as_bytes().to_vec(),
    };
    Entry::new(&text(words[1]), words[2].parse().unwrap(), kind, &text(words[3]))
}

fn describe(block: &DataBlock, payload: &[u8]) -> String {
    let mut out = String::new();
    let prefix = block.prefix().escape_ascii();
    writeln!(out, "{} bytes, {} entries, prefix \"{prefix}\"", payload.len(), block.count).unwrap();
    let kinds = block.kind.map_or("a column".to_owned(), |kind| kind.to_string());
    writeln!(out, "kinds: {kinds}").unwrap();
    writeln!(out, "seqnos: {} + {:?}", block.seqno_base, block.seqnos).unwrap();
    writeln!(out, "key ends: {:?}", block.key_ends).unwrap();
    writeln!(out, "value ends: {:?}", block.value_ends).unwrap();
    for (row, bytes) in payload.chunks(16).enumerate().take(8) {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{:04x}  {}", row * 16, hex.join(" ")).unwrap();
    }
    out
}
