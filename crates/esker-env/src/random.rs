//! Random numbers, for ids and seeds; never for a decision that a test would want to replay.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use rustix::rand::{GetRandomFlags, getrandom};

/// A source of random bytes.
pub trait Random: Send + Sync + fmt::Debug + 'static {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

/// The random numbers of the operating system.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// If the system has no random numbers to give, which no supported one does.
    fn fill(&self, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            match getrandom(&mut buffer[done..], GetRandomFlags::empty()) {
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the system gives no random numbers: {error}"),
            }
        }
    }
}

/// Random numbers that a seed repeats.
#[derive(Debug)]
pub struct SeededRandom {
    /// Held for the filling of one buffer.
    state: Mutex<SplitMix>,
}

impl SeededRandom {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: Mutex::new(SplitMix(seed)) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): a counter through a mixing function.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(random: &dyn Random) -> [u8; 19] {
        let mut bytes = [0; 19];
        random.fill(&mut bytes);
        bytes
    }

    #[test]
    fn seed_repeats_and_system_does_not() {
        let seeded = SeededRandom::new(7);
        let first = draw(&seeded);
        assert_eq!(first, draw(&SeededRandom::new(7)));
        assert_ne!(first, draw(&seeded));
        assert_ne!(first, draw(&SeededRandom::new(8)));
        assert_ne!(draw(&SystemRandom), draw(&SystemRandom));
    }
}
