//! Each operator by its definition, and all by what every operator promises.

use super::*;

fn merged(merge: &Merge, existing: Option<&[u8]>, operands: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    merge.operator().unwrap().merge(b"key", existing, operands, &mut out).unwrap();
    out
}

fn folded(merge: &Merge, operands: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(merge.operator().unwrap().fold_operands(b"key", operands, &mut out).unwrap());
    out
}

#[test]
fn counters_add_and_stop_or_wrap_at_the_end() {
    let unsigned = Merge::new(AddU64);
    let [two, three, most] = [2, 3, u64::MAX].map(AddU64::encode);
    assert_eq!(merged(&unsigned, None, &[&two, &three]), AddU64::encode(5));
    assert_eq!(merged(&unsigned, Some(&most), &[&two, &three]), most);
    let signed = Merge::new(AddI64);
    let [two, minus, most] = [2, -3, i64::MAX].map(AddI64::encode);
    assert_eq!(merged(&signed, Some(&two), &[&minus]), AddI64::encode(-1));
    assert_eq!(merged(&signed, Some(&most), &[&two]), AddI64::encode(i64::MIN + 1));
    let mut out = Vec::new();
    for merge in [unsigned, signed] {
        let operator = merge.operator().unwrap();
        let error = operator.merge(b"k", Some(b"12"), &[&two], &mut out).unwrap_err();
        assert_eq!(error.to_string(), "a number has 2 bytes, and must have 8");
    }
}

#[test]
fn append_puts_the_separator_between_parts_only() {
    let append = Merge::new(Append::new(", "));
    assert_eq!(merged(&append, None, &[b"a"]), b"a");
    assert_eq!(merged(&append, Some(b"a"), &[b"b", b"c"]), b"a, b, c");
    assert_eq!(merged(&append, Some(b""), &[b"b"]), b", b");
    assert_eq!(merged(&Merge::new(Append::new("")), Some(b"a"), &[b"b"]), b"ab");
}

#[test]
fn extremes_compare_bytewise() {
    assert_eq!(merged(&Merge::new(Minimum), Some(b"b"), &[b"ab", b"c"]), b"ab");
    assert_eq!(merged(&Merge::new(Maximum), Some(b"b"), &[b"ab", b"\xff"]), b"\xff");
    assert_eq!(merged(&Merge::new(Minimum), None, &[b"x"]), b"x");
}

#[test]
fn sets_unite_and_refuse_what_is_none() {
    let union = Merge::new(SetUnion);
    let (older, newer) = (SetUnion::encode(["b", "", "b"]), SetUnion::encode(["c", "a"]));
    let both = merged(&union, Some(&older), &[&newer]);
    assert_eq!(SetUnion::decode(&both).unwrap(), [b"".as_slice(), b"a", b"b", b"c"]);
    assert_eq!(merged(&union, None, &[b""]), b"");
    for bad in [b"\x05ab".as_slice(), b"\x01b\x01a", b"\x01a\x01a", b"\xff"] {
        assert!(SetUnion::decode(bad).is_err());
    }
    let error = SetUnion::decode(b"\x01b\x01a").unwrap_err();
    assert_eq!(error.to_string(), "a set's elements do not ascend");
}

#[test]
fn every_grouping_gives_the_same() {
    let numbers: Vec<Vec<u8>> = [1, u64::MAX - 2, 7, 0].map(|n| AddU64::encode(n).to_vec()).into();
    let sets: Vec<Vec<u8>> =
        [vec!["a", "b"], vec![], vec!["b", "c"], vec![""]].map(SetUnion::encode).into();
    let words: Vec<Vec<u8>> = ["m", "", "z", "a"].map(|word| word.as_bytes().to_vec()).into();
    let longest =
        Associative::new("longest", |_, older: &[u8], newer: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(if older.len() < newer.len() { newer } else { older });
            Ok(())
        });
    for (merge, parts) in [
        (Merge::new(AddU64), &numbers),
        (Merge::new(AddI64), &numbers),
        (Merge::new(Append::new("-")), &words),
        (Merge::new(Minimum), &words),
        (Merge::new(Maximum), &words),
        (Merge::new(SetUnion), &sets),
        (Merge::new(longest), &words),
    ] {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        for existing in [None, Some(parts[0])] {
            let whole = merged(&merge, existing, &parts);
            for cut in 1..parts.len() {
                let part = merged(&merge, existing, &parts[..cut]);
                assert_eq!(merged(&merge, Some(&part), &parts[cut..]), whole, "{merge:?}");
                if cut + 1 < parts.len() {
                    let tail = folded(&merge, &parts[cut..]);
                    let mut operands = parts[..cut].to_vec();
                    operands.push(&tail);
                    assert_eq!(merged(&merge, existing, &operands), whole, "{merge:?}");
                }
            }
        }
    }
}

#[test]
fn ready_operators_are_found_by_their_names() {
    for (merge, name) in [
        (Merge::new(AddU64), "esker.add-u64"),
        (Merge::new(AddI64), "esker.add-i64"),
        (Merge::new(Append::new(",")), "esker.append:2c"),
        (Merge::new(Append::new("")), "esker.append:"),
        (Merge::new(Minimum), "esker.min"),
        (Merge::new(Maximum), "esker.max"),
        (Merge::new(SetUnion), "esker.set-union"),
    ] {
        assert_eq!(merge.name(), name);
        let found = by_name(name).unwrap();
        assert_eq!(found, merge);
        assert!(found.operator().is_some());
    }
    for name in
        ["", "longest", "esker.append", "esker.append:2", "esker.append:2C", "esker.append:x+"]
    {
        assert_eq!(by_name(name), None, "{name}");
    }
}
