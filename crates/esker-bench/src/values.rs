//! The values: slices of a pool, a function of the index, half compressible. The same as those of
//! `esker bench`.

use crate::random::{Random, mix};

/// Size of the pool: small enough for the cache of a processor, so that taking a value costs
/// nothing, and large enough that a block does not see the same value twice.
pub(crate) const POOL_BYTES: usize = 1 << 20;

/// Makes values.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pool: Vec<u8>,
    size: usize,
    seed: u64,
}

impl Values {
    /// Values of `size` bytes. The second half of each repeats the first, and within 50 bytes where
    /// they are long, so that compression by repetition finds one half and no more.
    pub(crate) fn new(size: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pool = vec![0; (POOL_BYTES / size).max(1) * size];
        for value in pool.chunks_mut(size) {
            for piece in value.chunks_mut(100) {
                let (first, second) = piece.split_at_mut(piece.len().div_ceil(2));
                first.iter_mut().for_each(|byte| *byte = random.next() as u8);
                second.copy_from_slice(&first[..second.len()]);
            }
        }
        Self { pool, size, seed: mix(!seed) }
    }

    /// The value of `index`.
    #[inline]
    pub(crate) fn of(&self, index: u64) -> &[u8] {
        let count = (self.pool.len() / self.size) as u64;
        let place = ((u128::from(mix(index ^ self.seed)) * u128::from(count)) >> 64) as usize;
        &self.pool[place * self.size..][..self.size]
    }
}
