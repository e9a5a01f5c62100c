//! Keys of simulated tables: numbers, and how flushes choose them.

/// A range of keys, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The largest first key of a random range, plus one.
const KEY_COUNT: u64 = 1 << 31;

/// The least length of a random range, minus one.
const LENGTH_MIN: u64 = 1 << 10;

impl Stretch {
    /// All keys.
    pub(crate) const ALL: Self = Self { first: 0, last: KEY_COUNT - 1 };

    /// `count` adjacent ranges of about equal length that make up this one; fewer if it has fewer
    /// keys.
    pub(crate) fn split(self, count: u64) -> Vec<Self> {
        let length = self.last - self.first + 1;
        let count = count.min(length);
        let start = |index: u64| self.first + length * index / count;
        (0..count).map(|i| Self { first: start(i), last: start(i + 1) - 1 }).collect()
    }
}

/// Random ranges determined by a seed (splitmix64, Sebastiano Vigna, 2015).
#[derive(Clone, Debug)]
pub(crate) struct RandomStretches(u64);

impl RandomStretches {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Any first key, and any length from [`LENGTH_MIN`] up.
    pub(crate) fn next(&mut self) -> Stretch {
        let first = self.below(KEY_COUNT);
        let length = LENGTH_MIN + self.below(KEY_COUNT - LENGTH_MIN);
        Stretch { first, last: first + length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_stretch_are_neighbours() {
        let stretch = Stretch { first: 10, last: 16 };
        for count in 1..=7 {
            let parts = stretch.split(count);
            assert_eq!(parts.len() as u64, count);
            assert_eq!((parts[0].first, parts[parts.len() - 1].last), (10, 16));
            assert!(parts.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
            assert!(parts.iter().all(|part| part.first <= part.last));
        }
        assert_eq!(stretch.split(20).len(), 7);
    }
}
