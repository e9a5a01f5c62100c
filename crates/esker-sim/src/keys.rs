//! Keys of simulated tables: numbers, and where flushes get them from.

/// A stretch of keys, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// One more than the largest first key of a random stretch.
const KEY_COUNT: u64 = 1 << 31;

/// Least length of a random stretch, less one.
const LENGTH_MIN: u64 = 1 << 10;

impl Stretch {
    /// All keys.
    pub(crate) const ALL: Self = Self { first: 0, last: KEY_COUNT - 1 };

    /// `count` neighbours of about one length that make up this stretch; fewer if it has fewer
    /// keys.
    pub(crate) fn split(self, count: u64) -> Vec<Self> {
        let length = self.last - self.first + 1;
        let count = count.min(length);
        let start = |index: u64| self.first + length * index / count;
        (0..count).map(|i| Self { first: start(i), last: start(i + 1) - 1 }).collect()
    }
}

/// Random stretches that follow from a seed (splitmix64, Sebastiano Vigna, 2015).
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

    /// A first key anywhere, and any length from [`LENGTH_MIN`] on.
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
