//! The values of the benchmark: slices of a pool, a function of the index, half compressible.

use super::random::{Random, mix};

/// Size of the pool: small enough for a processor's cache, so that taking a value costs nothing,
/// and large enough that a block does not contain the same value twice.
pub(super) const POOL_BYTES: usize = 1 << 20;

/// Makes values.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pool: Vec<u8>,
    size: usize,
    seed: u64,
}

impl Values {
    /// Values of `size` bytes. The second half of each repeats the first, within 50 bytes if they
    /// are long, so that compression by repetition removes one half and no more.
    pub(super) fn new(size: usize, seed: u64) -> Self {
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
    pub(super) fn of(&self, index: u64) -> &[u8] {
        let count = (self.pool.len() / self.size) as u64;
        let place = ((u128::from(mix(index ^ self.seed)) * u128::from(count)) >> 64) as usize;
        &self.pool[place * self.size..][..self.size]
    }
}
