//! Separators: short, in between, and found as a linear search finds them.

use super::*;
use crate::testing::Random;

fn separator(last: &str, next: &str) -> String {
    let mut out = Vec::new();
    append_separator(last.as_bytes(), next.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn separator_is_as_short_as_it_can_be() {
    assert_eq!(separator("apple", "cherry"), "b");
    assert_eq!(separator("apple", "banana"), "aq");
    assert_eq!(separator("apple", "apricot"), "apq");
    assert_eq!(separator("a", "ab"), "a");
    assert_eq!(separator("abc", "abd"), "abc");
    // As long as the key, and farther away, it would say less.
    assert_eq!(separator("ab", "b"), "ab");
    assert_eq!(separator("a", "c"), "a");
    assert_eq!(separator("", "a"), "");
}

#[test]
fn separator_lies_between_whatever_the_keys() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        // Few byte values, the extreme ones among them, so that keys share much.
        let mut key = || -> Vec<u8> {
            let len = random.below(6) as usize;
            (0..len).map(|_| [0, 1, 2, 254, 255][random.below(5) as usize]).collect()
        };
        let (a, b) = (key(), key());
        let (last, next) = if a < b { (a, b) } else { (b, a) };
        if last != next {
            let mut out = Vec::new();
            append_separator(&last, &next, &mut out);
            assert!(last <= out && out < next && out.len() <= last.len(), "{last:?} {next:?}");
        }
    }
}

fn encoded(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut ends = Vec::new();
    let mut bytes = Vec::new();
    for key in keys {
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
    }
    let mut out = Vec::new();
    Separators::encode(&mut out, &bytes, &ends);
    out
}

#[test]
fn search_agrees_with_a_linear_one() {
    let mut random = Random(2);
    for round in 0..300 {
        let prefix = random.bytes(random_len(round));
        let mut keys: Vec<Vec<u8>> = (0..1 + random.below(40))
            .map(|_| {
                let len = random.below(12) as usize;
                let tail = (0..len).map(|_| [0, 7, 255][random.below(3) as usize]);
                prefix.iter().copied().chain(tail).collect()
            })
            .collect();
        keys.sort();
        let payload = encoded(&keys);
        let mut decoder = Decoder::new(&payload);
        let separators = Separators::decode(&payload, keys.len(), &mut decoder).unwrap();
        decoder.finish().unwrap();
        let mut probes = keys.clone();
        probes.extend(keys.iter().map(|key| [key, [0].as_slice()].concat()));
        probes.extend([vec![], vec![255; 20], prefix.clone(), random.bytes(4)]);
        for probe in probes {
            let first = keys.iter().position(|key| *key >= probe).unwrap_or(keys.len());
            let equal = keys[first..].iter().take_while(|key| **key == probe).count();
            assert_eq!(separators.find(&payload, &probe), (first, equal), "{probe:?}");
        }
        for (number, key) in keys.iter().enumerate() {
            let mut out = Vec::new();
            separators.append_to(&payload, number, &mut out);
            assert_eq!(out, *key);
        }
    }
}

/// Prefixes shorter and longer than a head.
const fn random_len(round: usize) -> usize {
    [0, 1, 7, 8, 9, 300][round % 6]
}

#[test]
fn search_of_many_heads_at_a_time_agrees_with_halving() {
    let mut random = Random(2);
    for count in (0..300).chain([1_000, 1_024, 4_097]) {
        let mut heads: Vec<u64> = (0..count).map(|_| random.below(count / 2 + 3)).collect();
        heads.sort_unstable();
        for head in (0..count / 2 + 4).chain([u64::MAX]) {
            let expected = heads.partition_point(|&other| other < head);
            assert_eq!(first_not_less(&heads, head), expected, "{head} in {heads:?}");
        }
    }
}
