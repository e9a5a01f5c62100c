//! Random choices of a test, the same for the same seed.

use std::ops::Bound;
use std::time::{Duration, UNIX_EPOCH};

use esker::Expiry;

use crate::watchdog::{self, Watchdog};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Choices of their own for part `number` of a test: the same whatever the other parts choose.
    pub(crate) fn part(&self, number: usize) -> Self {
        Self(Self(self.0 ^ number as u64).next())
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        watchdog::step();
        self.next() % bound
    }

    /// An index below `len`, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A key from a small set, so that keys meet again: mostly short ones of few different bytes,
    /// with long ones, long common prefixes and the extremes in between.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let mut short = |len: u64| -> Vec<u8> {
            let len = self.below(len + 1);
            (0..len).map(|_| *self.pick(b"ab\x00\xff")).collect()
        };
        let tail = short(3);
        match self.below(16) {
            0 => tail,
            1 => [b"\xff\xff".as_slice(), &tail].concat(),
            2 => [vec![b'p'; 150], tail].concat(),
            3 => [b"common/prefix/of/some/length/".as_slice(), &tail].concat(),
            4 => vec![*self.pick(b"xyz"); 700],
            _ => format!("key{:03}", self.below(150)).into_bytes(),
        }
    }

    /// An expiry for a clock that stands still: in an hour after `now`, or long ago.
    pub(crate) fn expiry(&mut self, now: u64) -> u64 {
        if self.one_in(3) { self.below(2) } else { now + 3_600_000 }
    }

    /// A value: mostly short, now and then larger than a block.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let len = match self.below(40) {
            0..=2 => 0,
            3..=22 => self.below(24),
            23..=36 => self.below(200),
            37 | 38 => 900 + self.below(300),
            _ => self.below(9000),
        } as usize;
        if self.one_in(2) { vec![self.next() as u8; len] } else { self.bytes(len) }
    }

    /// A range of keys to delete: mostly of a few neighbours, now and then of many.
    pub(crate) fn range_to_delete(&mut self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        if self.one_in(5) {
            return self.bounds();
        }
        let start = self.below(150);
        let end = start + self.below(30);
        let key = |number: u64| format!("key{number:03}").into_bytes();
        let end =
            if self.one_in(2) { Bound::Included(key(end)) } else { Bound::Excluded(key(end)) };
        let start =
            if self.one_in(4) { Bound::Excluded(key(start)) } else { Bound::Included(key(start)) };
        (start, end)
    }

    /// Bounds of any kind, the inverted ones too.
    pub(crate) fn bounds(&mut self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let mut bound = || match self.below(5) {
            0 | 1 => Bound::Included(self.key()),
            2 | 3 => Bound::Excluded(self.key()),
            _ => Bound::Unbounded,
        };
        let (mut start, mut end) = (bound(), bound());
        let is_inverted = match (&start, &end) {
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
                b < a
            }
            _ => false,
        };
        if is_inverted && !self.one_in(8) {
            std::mem::swap(&mut start, &mut end);
        }
        (start, end)
    }
}

/// The expiry at so many milliseconds after the epoch.
pub(crate) fn expiry_at(millis: u64) -> Expiry {
    Expiry::At(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Seeds of a test: the one that `ESKER_SEED` names, or `count` times `ESKER_BUDGET` of them, from
/// `ESKER_FIRST_SEED` or 1 on.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match number("ESKER_SEED") {
        Some(seed) => vec![seed],
        None => (first_seed()..).take((count * budget()) as usize).collect(),
    }
}

/// The first of the seeds of a test, if none is fixed.
pub(crate) fn first_seed() -> u64 {
    number("ESKER_FIRST_SEED").unwrap_or(1)
}

/// Whether the seeds are those that every run has, or these and more.
pub(crate) fn are_the_usual_seeds() -> bool {
    number("ESKER_SEED").is_none() && first_seed() == 1
}

/// How many times as long as in an ordinary run the tests may take: `ESKER_BUDGET`, or 1.
pub(crate) fn budget() -> u64 {
    number("ESKER_BUDGET").unwrap_or(1)
}

/// The number in a variable of the environment, if it is set.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text}, not a number")))
}

/// Runs `test` for each seed; a failure names its seed.
pub(crate) fn for_each_seed(name: &str, count: u64, test: impl Fn(u64)) {
    for seed in seeds(count) {
        let _watchdog = Watchdog::start(format!("{name} with ESKER_SEED={seed}"));
        let run = std::panic::AssertUnwindSafe(|| test(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            // Some tests choose by the budget, too.
            let budget = budget();
            eprintln!(
                "{name} failed; replay it with ESKER_SEED={seed} ESKER_BUDGET={budget} \
                 cargo test -p esker --test it -- {name}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}
