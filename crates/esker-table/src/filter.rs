//! The filter of one partition: a blocked Bloom filter (Putze, Sanders, Singler, 2007).
//!
//! Each key sets its bits inside one line of 512 bits, so a query costs one cache miss. The high
//! half of the hash selects the line; the positions inside it are taken, nine bits each, from one
//! multiplication of the whole hash, or from two if there are more than seven.
//!
//! ```text
//! filter := probe_count u32, line_count u32, line{line_count}
//! line   := word u64{8}; bit b of a line is bit b % 64 of word b / 64
//! ```
//!
//! Not Ribbon or xor: they are a third smaller, but cost three misses instead of one.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use esker_base::coding::{DecodeError, Decoder};

use crate::prefetch::prefetch;

/// Bytes of one line.
const LINE_LEN: usize = 64;

/// Bits of one line.
const LINE_BITS: u64 = 512;

/// Most bits that one key sets.
const PROBE_COUNT_MAX: u32 = 14;

/// Bits taken from one multiplication.
const PROBES_PER_WORD: u32 = 7;

/// Odd numbers without structure: from the fractions of the golden ratio and the square root of
/// two.
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];

/// One cache line of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(64))]
struct Line([u64; 8]);

const _: () = assert!(size_of::<Line>() == LINE_LEN && LINE_LEN as u64 * 8 == LINE_BITS);

/// The filter of one partition, in memory.
#[derive(Debug)]
pub(crate) struct FilterBlock {
    probe_count: u32,
    lines: Box<[Line]>,
}

impl FilterBlock {
    /// Builds the filter for keys with these hashes, at least one, with `bits_per_key` for each.
    pub(crate) fn build(hashes: &[u64], bits_per_key: u32) -> Self {
        let bits = (hashes.len() as u64).saturating_mul(u64::from(bits_per_key));
        let line_count = bits.div_ceil(LINE_BITS).clamp(1, u64::from(u32::MAX));
        let mut lines = vec![Line([0; 8]); line_count as usize].into_boxed_slice();
        let probe_count = probe_count(bits_per_key);
        for &hash in hashes {
            if let Some(line) = lines.get_mut(line_number(hash, line_count)) {
                for place in places(hash, probe_count) {
                    if let Some(word) = line.0.get_mut(place >> 6) {
                        *word |= 1 << (place & 63);
                    }
                }
            }
        }
        Self { probe_count, lines }
    }

    /// Appends the filter as it is stored in the file.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.probe_count.to_le_bytes());
        out.extend_from_slice(&(self.lines.len() as u32).to_le_bytes());
        for line in &self.lines {
            line.0.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(payload);
        let probe_count = decoder.u32()?;
        if probe_count == 0 || probe_count > PROBE_COUNT_MAX {
            return Err(decoder.error("filter has an impossible number of probes"));
        }
        let line_count = decoder.u32()? as usize;
        let (lines, rest) = decoder.rest().as_chunks::<LINE_LEN>();
        if lines.len() != line_count || line_count == 0 || !rest.is_empty() {
            return Err(decoder.error("filter counts other lines than it has"));
        }
        let lines = lines.iter().map(|line| {
            let mut words = [0; 8];
            for (word, bytes) in words.iter_mut().zip(line.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            Line(words)
        });
        Ok(Self { probe_count, lines: lines.collect() })
    }

    /// Whether a key with this hash may be among those that the filter was built from. Never false
    /// for one of those.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let Some(line) = self.lines.get(line_number(hash, self.lines.len() as u64)) else {
            return true;
        };
        let mut seen = 1;
        for place in places(hash, self.probe_count) {
            // `& 7` lets the optimizer see that no bounds check is needed.
            seen &= line.0.get((place >> 6) & 7).map_or(0, |word| word >> (place & 63));
        }
        seen & 1 == 1 && !(esker_base::planted::is("filter-false-negatives") && hash & 15 == 0)
    }

    /// Prefetches the line that holds the bits of a key with this hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(line_number(hash, self.lines.len() as u64)) {
            prefetch(line);
        }
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of::<Self>().wrapping_add(size_of_val::<[Line]>(&self.lines))
    }
}

/// The line of a key: its hash's high half, scaled to the number of lines without a division.
#[inline]
const fn line_number(hash: u64, line_count: u64) -> usize {
    ((hash >> 32).wrapping_mul(line_count) >> 32) as usize
}

/// The positions of a key's bits inside its line.
#[inline]
fn places(hash: u64, probe_count: u32) -> impl Iterator<Item = usize> {
    // The halves are folded first, so that keys of the same line still differ in all bits.
    let folded = hash ^ (hash >> 32);
    let words = MULTIPLIERS.map(|multiplier| folded.wrapping_mul(multiplier));
    (0..probe_count).map(move |probe| {
        let word = if probe < PROBES_PER_WORD { words[0] } else { words[1] };
        let shift = (probe % PROBES_PER_WORD).wrapping_mul(9).wrapping_add(1);
        ((word >> shift) & 511) as usize
    })
}

/// How many bits one key sets: the number that makes false positives rarest with lines of 512 bits.
const fn probe_count(bits_per_key: u32) -> u32 {
    // A little less than ln 2: lines are filled unevenly, and a full one rules out nothing.
    let count = bits_per_key.saturating_mul(64) / 100;
    if count < 1 {
        1
    } else if count > PROBE_COUNT_MAX {
        PROBE_COUNT_MAX
    } else {
        count
    }
}

#[cfg(test)]
mod tests;
