//! Many bytes garbled at once, as a device may do it. What fails is shortened to the fewest bytes.

use std::cell::RefCell;
use std::path::Path;

use super::Tally;
use crate::files;
use crate::random::{Rng, for_each_seed};
use crate::recovered::DIR;
use crate::sample;
use crate::shrink::run_shrinking;

/// What becomes of one place of a file.
#[derive(Clone, Copy)]
enum Change {
    /// There is another byte.
    Set(usize, u8),
    /// The byte is left out.
    LeftOut(usize),
    /// One byte more comes before it, or behind the last.
    Inserted(usize, u8),
}

impl Change {
    fn shown(&self) -> String {
        match self {
            Self::Set(at, byte) => format!("byte {at} is {byte:#04x}"),
            Self::LeftOut(at) => format!("byte {at} is left out"),
            Self::Inserted(at, byte) => format!("{byte:#04x} is inserted before byte {at}"),
        }
    }
}

/// `bytes` with `changes`, which are in the order of their places: those in `bytes`.
fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    // From the end on, so that what is before stays in its place.
    for change in changes.iter().rev() {
        match *change {
            Change::Set(at, byte) => changed[at] = byte,
            Change::LeftOut(at) => drop(changed.drain(at..=at)),
            Change::Inserted(at, byte) => changed.insert(at, byte),
        }
    }
    changed
}

/// Changes of `len` bytes at `at`: lost, from elsewhere, too many or too few.
fn garble(rng: &mut Rng, bytes: &[u8], others: &[u8], at: usize, len: usize) -> Vec<Change> {
    let end = bytes.len().min(at + len);
    let from = |source: &[u8], rng: &mut Rng| -> Vec<u8> {
        let start = rng.below(source.len() as u64 + 1) as usize;
        let mut piece = source[start..source.len().min(start + len)].to_vec();
        piece.resize(end - at, 0);
        piece
    };
    let set = |piece: Vec<u8>| -> Vec<Change> {
        let differs = |(at, byte): &(usize, u8)| bytes[*at] != *byte;
        let places = (at..end).zip(piece).filter(differs);
        places.map(|(at, byte)| Change::Set(at, byte)).collect()
    };
    let insert = |at: usize, piece: Vec<u8>| -> Vec<Change> {
        piece.into_iter().map(|byte| Change::Inserted(at, byte)).collect()
    };
    match rng.below(7) {
        0 => set(vec![0; end - at]),
        1 => set(vec![0xff; end - at]),
        // A write that went to another place, of this file or another.
        2 => set(from(bytes, rng)),
        3 => set(from(others, rng)),
        4 => insert(at, from(bytes, rng)),
        5 => (at..end).map(Change::LeftOut).collect(),
        _ => insert(bytes.len(), from(if rng.below(2) == 0 { bytes } else { others }, rng)),
    }
}

#[test]
fn changes_are_those_of_their_places() {
    use Change::{Inserted, LeftOut, Set};
    let changes = [Set(0, b'x'), Inserted(1, b'1'), Inserted(1, b'2'), LeftOut(2), Set(3, b'y')];
    assert_eq!(changed(b"abcd", &changes), b"x12by");
    assert_eq!(changed(b"ab", &[Inserted(2, b'1'), Inserted(2, b'2')]), b"ab12");
    assert_eq!(changed(b"ab", &[]), b"ab");
}

#[test]
fn garbled_piece_of_a_closed_database_is_an_error_or_harmless() {
    let (fs, state) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let all = files::read_all(&fs, dir);
    for_each_seed("garbled_piece_of_a_closed_database_is_an_error_or_harmless", 1, |seed| {
        let mut rng = Rng::new(seed + 1);
        let tally = RefCell::new(Tally::default());
        for (name, bytes) in &all {
            for _ in 0..300 {
                let others = all.values().nth(rng.index(all.len())).expect("one of all");
                let at = rng.index(bytes.len());
                let len = 1 << rng.below(10);
                let changes = garble(&mut rng, bytes, others, at, len);
                run_shrinking(&changes, Change::shown, |changes| {
                    let what = format!("{} bytes from {at} of {name} garbled", changes.len());
                    let copy = files::with(&fs, dir, name, &changed(bytes, changes));
                    tally.borrow_mut().look(&copy, &state, &what);
                });
            }
        }
        let tally = tally.into_inner();
        eprintln!(
            "counted: {} garbled files refused\ncounted: {} garbled files harmless",
            tally.refused, tally.harmless
        );
        assert!(tally.harmless < tally.refused, "{tally:?}");
    });
}
