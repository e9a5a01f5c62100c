//! The filter: never wrong about a key that is there, seldom about one that is not.

use esker_base::checksum::hash_key;

use super::*;

fn hashes(range: std::ops::Range<u64>) -> Vec<u64> {
    range.map(|number| hash_key(&number.to_le_bytes())).collect()
}

/// False positives in a million questions, for a filter of `key_count` keys.
fn false_positives(key_count: u64, bits_per_key: u32) -> usize {
    let filter = FilterBlock::build(&hashes(0..key_count), bits_per_key);
    let mut payload = Vec::new();
    filter.encode(&mut payload);
    let filter = FilterBlock::decode(&payload).unwrap();
    assert!(hashes(0..key_count).iter().all(|&hash| filter.may_contain(hash)));
    let absent = hashes(1 << 32..(1 << 32) + 200_000);
    absent.iter().filter(|&&hash| filter.may_contain(hash)).count() * 5
}

#[test]
fn no_key_is_excluded_and_few_absent_ones_pass() {
    let bound = [(5, 125_000), (8, 32_000), (10, 13_500), (14, 3_500), (16, 2_000), (20, 900)];
    for (bits_per_key, most) in bound {
        let passed = false_positives(30_000, bits_per_key);
        assert!(passed <= most, "{bits_per_key} bits: {passed} of a million pass");
        // A filter that excludes far more than it can is not looked at.
        assert!(passed >= most / 20, "{bits_per_key} bits: {passed} of a million pass");
    }
}

#[test]
fn filter_of_one_key_holds_it_and_comes_back_from_its_bytes() {
    for bits_per_key in 0..=64 {
        let filter = FilterBlock::build(&[hash_key(b"")], bits_per_key);
        assert!(filter.may_contain(hash_key(b"")));
        let mut payload = Vec::new();
        filter.encode(&mut payload);
        let decoded = FilterBlock::decode(&payload).unwrap();
        assert_eq!(decoded.probe_count, (bits_per_key * 64 / 100).clamp(1, 14), "{bits_per_key}");
        assert_eq!(decoded.lines, filter.lines, "{bits_per_key}");
    }
}

/// Filters are in files: whoever reads one looks at the places where another release has set bits.
#[test]
fn places_are_nine_bits_each_of_a_first_and_a_second_product() {
    for hash in hashes(0..1_000) {
        let product = |number: usize| (hash ^ (hash >> 32)).wrapping_mul(MULTIPLIERS[number]);
        let expected = (0..14).map(|place| (product(place / 7) >> (1 + 9 * (place % 7))) & 511);
        let expected: Vec<usize> = expected.map(|place| place as usize).collect();
        for count in 1..=14 {
            let found: Vec<usize> = places(hash, count).collect();
            assert_eq!(found, expected[..count as usize], "{hash:x}");
        }
    }
}

#[test]
fn payloads_that_are_no_filter_are_refused() {
    let mut payload = Vec::new();
    FilterBlock::build(&hashes(0..100), 10).encode(&mut payload);
    for len in 0..payload.len() {
        assert!(FilterBlock::decode(&payload[..len]).is_err());
    }
    let mut probes = payload.clone();
    probes[0] = 15;
    assert!(FilterBlock::decode(&probes).is_err());
    probes[0] = 0;
    assert!(FilterBlock::decode(&probes).is_err());
    assert!(FilterBlock::decode(&[6, 0, 0, 0, 0, 0, 0, 0]).is_err());
}
