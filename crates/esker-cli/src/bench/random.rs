//! Random numbers, repeatable by seed, in a nanosecond each.

/// Exponent of the distribution of hot keys; that of YCSB.
const ZIPF_EXPONENT: f64 = 0.99;

/// A bijection of the 64-bit words that looks random: the last step of SplitMix64 (Steele, Lea,
/// Flood, 2014).
#[inline]
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x6a09_e667_f3bc_c908))
    }

    #[inline]
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number less than `bound`.
    #[inline]
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }
}

/// Draws ranks from `0..count`, rank r with a probability proportional to `1 / (r + 1)^0.99`.
///
/// The method of Gray and others (SIGMOD 1994), as in YCSB: exact for the two most frequent ranks,
/// approximate for the rest.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    count: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    /// # Cost
    /// Computes a power for each of `count`.
    pub(super) fn new(count: u64) -> Self {
        let theta = ZIPF_EXPONENT;
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
        let zeta_of_two = 1.0 + 2f64.powf(-theta);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - theta)) / (1.0 - zeta_of_two / zeta);
        Self { count, zeta, alpha: 1.0 / (1.0 - theta), eta }
    }

    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let uniform = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(ZIPF_EXPONENT) {
            return 1.min(self.count as u64 - 1);
        }
        let rank = self.count * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}
