//! What range tombstones hide and which stay: replayed from text, and what becomes of tables.

use std::fmt::Write as _;

use super::*;
use crate::testing::{parse_table, replay};

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

/// One case of `testdata/gc/ranges.txt`: readers and what may be older outside, then a line for
/// each range tombstone (`start end number`), entry (`key number`) and table.
fn run_case(command: &str, lines: &str) -> String {
    let (mut snapshots, mut visible, mut older) = (Vec::new(), 0, "");
    for word in command.split_whitespace() {
        match word.split_once('=').unwrap() {
            ("snapshots", list) => {
                snapshots = list.split(',').map(|n| seqno(n.parse().unwrap())).collect();
            }
            ("visible", number) => visible = number.parse().unwrap(),
            ("older", key) => older = key,
            other => panic!("unknown word {other:?}"),
        }
    }
    let readers = Readers::new(&snapshots, seqno(visible));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let tombstones = lines.lines().map(words).filter_map(|words| match words.as_slice() {
        [start, end, number] if !start.contains('[') => Some(RangeTombstone {
            start: start.clone().into_bytes(),
            end: end.clone().into_bytes(),
            seqno: seqno(number.parse().unwrap()),
        }),
        _ => None,
    });
    let may_be_older = |start: &[u8], end: &[u8]| {
        !older.is_empty() && start <= older.as_bytes() && is_before(older.as_bytes(), end)
    };
    let gc = RangeGc::new(tombstones.collect(), &readers, may_be_older);
    let mut out = format!("kept {:?}\n", gc.kept());
    for line in lines.lines() {
        if line.contains('[') {
            let is_hidden = gc.hides_table(&parse_table(line));
            writeln!(out, "{line}: {}", if is_hidden { "hidden" } else { "needed" }).unwrap();
        } else if let [key, number] = words(line).as_slice() {
            let is_hidden = gc.hides(key.as_bytes(), seqno(number.parse().unwrap()));
            writeln!(out, "{line}: {}", if is_hidden { "hidden" } else { "needed" }).unwrap();
        }
    }
    out
}

fn is_before(key: &[u8], end: &[u8]) -> bool {
    esker_base::is_before_end(key, end)
}

#[test]
fn decisions_match_testdata() {
    replay("gc/ranges.txt", run_case);
}

/// Every reader finds the same before and after, whatever the numbers are.
#[test]
fn every_small_case_answers_as_before() {
    // Of one key: an entry and two tombstones over it, each at any number, and any readers.
    const COUNT: u64 = 5;
    let mut case_count = 0;
    for numbers in 0..COUNT * COUNT * COUNT {
        let [entry, first, second] =
            [numbers % COUNT, numbers / COUNT % COUNT, numbers / COUNT / COUNT].map(|n| n + 1);
        if first == second || entry == first || entry == second {
            continue;
        }
        for bits in 0_u32..1 << (COUNT + 1) {
            let snapshots: Vec<SeqNo> =
                (0..=COUNT).filter(|&n| bits & 1 << n != 0).map(seqno).collect();
            for visible in 0..=COUNT + 1 {
                let readers = Readers::new(&snapshots, seqno(visible));
                for has_older in [false, true] {
                    let range = |number| RangeTombstone {
                        start: b"a".to_vec(),
                        end: b"c".to_vec(),
                        seqno: seqno(number),
                    };
                    let tombstones = vec![range(first), range(second)];
                    let gc = RangeGc::new(tombstones, &readers, |_, _| has_older);
                    let kept = gc.kept();
                    let stays = !gc.hides(b"b", seqno(entry));
                    let later = visible..=COUNT + 1;
                    for at in snapshots.iter().map(|s| s.get()).chain(later) {
                        let newest = [first, second].into_iter().filter(|&n| n <= at).max();
                        let before = entry <= at && newest.is_none_or(|newest| newest < entry);
                        let newest = kept.covering(b"b", seqno(at));
                        let is_covered = newest.is_some_and(|newest| newest > seqno(entry));
                        let after = stays && entry <= at && !is_covered;
                        assert_eq!(before, after, "{entry} {first} {second} {readers:?} at {at}");
                        // What is older outside stays hidden from whom it was hidden.
                        let hid = [first, second].into_iter().any(|number| number <= at);
                        assert!(!has_older || hid == newest.is_some(), "{readers:?} at {at}");
                        case_count += 1;
                    }
                }
            }
        }
    }
    assert!(case_count > 50_000, "{case_count}");
}
