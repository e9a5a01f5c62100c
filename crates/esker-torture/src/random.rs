//! Random choices, repeatable by seed: SplitMix64.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x2545_f491_4f6c_dd1d)
    }

    /// The stream of one run on a file system, or on none. It follows from these three alone.
    pub(crate) fn of_run(seed: u64, on: &str, run: u64) -> Self {
        let parts = on.bytes().map(u64::from).chain([run]);
        parts.fold(Self::new(seed), |mut random, part| Self::new(random.next() ^ part))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `count` times.
    pub(crate) const fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[test]
fn each_run_has_a_stream_of_its_own() {
    let first = |seed, on, run| Random::of_run(seed, on, run).next();
    assert_eq!(first(1, "xfs", 7), first(1, "xfs", 7));
    let other = [first(1, "xfs", 7), first(2, "xfs", 7), first(1, "", 7), first(1, "xfs", 8)];
    assert_eq!(std::collections::BTreeSet::from(other).len(), other.len());
}
