//! The decisions of gc: replayed from text, and against their definition for every small case.

use std::fmt::Write as _;

use esker_base::{EntryKind, SeqNo, Trailer};

use super::*;

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

fn decide_all(
    entries: &[(u64, EntryKind)],
    snapshots: &[SeqNo],
    visible: u64,
    may_be_older: bool,
    zeroes: bool,
) -> Vec<Fate> {
    let mut gc = Gc::new(Readers::new(snapshots, seqno(visible)), zeroes);
    gc.start_key();
    let trailers = entries.iter().map(|&(number, kind)| Trailer::new(seqno(number), kind));
    trailers.map(|trailer| gc.decide(trailer, || may_be_older).unwrap()).collect()
}

/// Runs one case of `testdata/gc`: a line of readers and flags, then one entry a line.
fn run_case(command: &str, lines: &str) -> String {
    let (mut snapshots, mut visible, mut older, mut zero) = (Vec::new(), 0, false, false);
    for word in command.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("snapshots", list) => {
                snapshots = list.split(',').map(|n| seqno(n.parse().unwrap())).collect();
            }
            ("visible", number) => visible = number.parse().unwrap(),
            ("older-outside", "") => older = true,
            ("last-level", "") => zero = true,
            other => panic!("unknown word {other:?}"),
        }
    }
    let mut gc = Gc::new(Readers::new(&snapshots, seqno(visible)), zero);
    let mut out = String::new();
    let mut key = "";
    for line in lines.lines() {
        let [user_key, number, kind] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not an entry: {line}");
        };
        if user_key != key {
            gc.start_key();
            key = user_key;
        }
        let kind = (0..=6).filter_map(EntryKind::from_byte).find(|k| k.to_string() == kind);
        let trailer = Trailer::new(seqno(number.parse().unwrap()), kind.unwrap());
        match gc.decide(trailer, || older) {
            Ok(fate) => writeln!(out, "{line}: {fate:?}").unwrap(),
            Err(error) => writeln!(out, "{line}: {error}").unwrap(),
        }
    }
    out
}

#[test]
fn decisions_match_testdata() {
    crate::testing::replay("gc/decisions.txt", run_case);
}

/// Every way to give each sequence number `1..=count` no entry, a put or a tombstone; newest first.
fn every_history(count: u64) -> Vec<Vec<(u64, EntryKind)>> {
    let mut histories = vec![Vec::new()];
    for number in (1..=count).rev() {
        histories = histories
            .into_iter()
            .flat_map(|history: Vec<(u64, EntryKind)>| {
                [None, Some(EntryKind::Put), Some(EntryKind::Tombstone)].map(|kind| {
                    let mut longer = history.clone();
                    longer.extend(kind.map(|kind| (number, kind)));
                    longer
                })
            })
            .collect();
    }
    histories
}

/// What a reader finds: the number of the put that it sees, where 0 stands for the older put
/// outside. Each entry is (sequence number, kind, number that it was written with).
fn read(entries: &[(u64, EntryKind, u64)], has_older: bool, at: u64) -> Option<u64> {
    match entries.iter().find(|entry| entry.0 <= at) {
        Some(&(_, EntryKind::Put, written)) => Some(written),
        Some(_) => None,
        None => has_older.then_some(0),
    }
}

#[test]
fn every_small_case_answers_as_before_and_keeps_nothing_droppable() {
    const COUNT: u64 = 4;
    let mut case_count = 0;
    for entries in every_history(COUNT) {
        for bits in 0_u32..1 << (COUNT + 1) {
            let snapshots: Vec<SeqNo> =
                (0..=COUNT).filter(|&n| bits & 1 << n != 0).map(seqno).collect();
            for visible in 0..=COUNT + 1 {
                for (has_older, may_be_older) in [(false, false), (false, true), (true, true)] {
                    for zeroes in [false, true] {
                        check_case(&entries, &snapshots, visible, has_older, may_be_older, zeroes);
                        case_count += 1;
                    }
                }
            }
        }
    }
    assert_eq!(case_count, 81 * 32 * 6 * 3 * 2);
}

fn check_case(
    entries: &[(u64, EntryKind)],
    snapshots: &[SeqNo],
    visible: u64,
    has_older: bool,
    may_be_older: bool,
    zeroes: bool,
) {
    let context = format!("{entries:?} {snapshots:?} {visible} {may_be_older} {zeroes}");
    let fates = decide_all(entries, snapshots, visible, may_be_older, zeroes);
    let before: Vec<_> = entries.iter().map(|&(n, kind)| (n, kind, n)).collect();
    let after: Vec<_> = before
        .iter()
        .zip(&fates)
        .filter_map(|(&(n, kind, written), fate)| match fate {
            Fate::Keep => Some((n, kind, written)),
            Fate::KeepAtZero => Some((0, kind, written)),
            Fate::Shadowed | Fate::Spent => None,
        })
        .collect();
    // Readers: those there are, and those that may come.
    let live = snapshots.iter().map(|snapshot| snapshot.get());
    let readers: Vec<u64> = live.chain(visible..=8).collect();
    for &reader in &readers {
        let expected = read(&before, has_older, reader);
        assert_eq!(read(&after, has_older, reader), expected, "reader {reader}: {context}");
    }
    // Nothing that the two rules drop is kept, and nothing else is dropped.
    for (index, &(number, kind)) in entries.iter().enumerate() {
        let mut seeing = readers.iter().filter(|&&reader| reader >= number);
        let newer = &entries[..index];
        let is_shadowed = seeing.all(|&reader| newer.iter().any(|&(n, _)| n <= reader));
        let all_see = readers.iter().all(|&reader| reader >= number);
        let is_spent = kind == EntryKind::Tombstone && all_see && !may_be_older;
        let is_zeroed = kind == EntryKind::Put && all_see && !may_be_older && zeroes;
        let expected = match (is_shadowed, is_spent, is_zeroed) {
            (true, _, _) => Fate::Shadowed,
            (_, true, _) => Fate::Spent,
            (_, _, true) => Fate::KeepAtZero,
            _ => Fate::Keep,
        };
        assert_eq!(fates[index], expected, "entry {number}: {context}");
    }
}

#[test]
fn outside_is_asked_at_most_once_a_key_and_only_where_it_decides() {
    let mut asked = 0;
    let mut gc = Gc::new(Readers::new(&[], seqno(9)), true);
    for _ in 0..2 {
        gc.start_key();
        for number in [12, 9, 8, 3] {
            let trailer = Trailer::new(seqno(number), EntryKind::Put);
            gc.decide(trailer, || {
                asked += 1;
                true
            })
            .unwrap();
        }
    }
    assert_eq!(asked, 2);
}
