//! Seeded random numbers for tests (splitmix64, Sebastiano Vigna, 2015): one seed, one run.

/// A sequence of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub(crate) struct TestRandom(u64);

impl TestRandom {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `end`; 0 if `end` is 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// True once in `odds`.
    pub(crate) const fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    /// A key of up to `len_max` letters out of `letter_count`; one in four has a long prefix, so
    /// that it differs from others only behind its head.
    pub(crate) fn key(&mut self, len_max: u64, letter_count: u64) -> Vec<u8> {
        let mut key = if self.one_in(4) { b"longprefix".to_vec() } else { Vec::new() };
        for _ in 0..self.below(len_max + 1) {
            key.push(b'a' + self.below(letter_count) as u8);
        }
        key
    }
}
