//! The head of a key: its first eight bytes as one comparable word.

/// The first eight bytes of `key` as a big-endian word, padded with zeros.
///
/// `key_head(a) < key_head(b)` implies `a < b`; equal heads decide nothing. So one integer
/// comparison in a cached array replaces most comparisons of whole keys, each of which may be a
/// cache miss.
#[inline]
#[must_use]
#[expect(clippy::big_endian_bytes, reason = "big-endian words compare as their bytes do")]
pub fn key_head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => short_head(key),
    }
}

/// [`key_head`] of a key of less than eight bytes: of pieces that overlap, without a call.
#[inline]
#[expect(clippy::big_endian_bytes, reason = "big-endian words compare as their bytes do")]
fn short_head(key: &[u8]) -> u64 {
    let len = key.len() as u32;
    if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        let (first, last) = (u32::from_be_bytes(*first), u32::from_be_bytes(*last));
        return u64::from(first) << 32 | u64::from(last) << (64 - 8 * len);
    }
    let byte = |index: u32| u64::from(key[index as usize]) << (56 - 8 * index);
    match len {
        0 => 0,
        _ => byte(0) | byte(len / 2) | byte(len - 1),
    }
}

/// The common part of the heads of all keys that start with one prefix.
///
/// With it, the head of a key that is stored in two parts can be computed without joining them.
#[derive(Clone, Copy, Default, Debug)]
pub struct PrefixHead {
    bits: u64,
    /// Bits of a head that the prefix determines, at most 64.
    taken: u32,
}

impl PrefixHead {
    /// The common part for keys that start with `prefix`.
    #[must_use]
    pub fn new(prefix: &[u8]) -> Self {
        Self { bits: key_head(prefix), taken: 8 * prefix.len().min(8) as u32 }
    }

    /// [`key_head`] of the key that consists of the prefix and `suffix`.
    #[inline]
    #[must_use]
    pub fn of(self, suffix: &[u8]) -> u64 {
        self.bits | key_head(suffix).checked_shr(self.taken).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{PrefixHead, key_head};

    #[test]
    fn smaller_head_means_smaller_key() {
        let keys: [&[u8]; 7] = [
            b"",
            b"\0",
            b"a",
            b"a\0",
            b"aaaaaaaa",
            b"aaaaaaaaa",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ];
        for a in keys {
            for b in keys {
                assert!(key_head(a) >= key_head(b) || a < b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn every_byte_of_a_head_is_that_of_the_key_or_zero() {
        let bytes: Vec<u8> = (0..20).map(|index| 0x81 + 3 * index).collect();
        for len in 0..bytes.len() {
            let key = &bytes[..len];
            let byte = |index: usize| u64::from(key.get(index).copied().unwrap_or_default());
            let expected = (0..8).fold(0, |head, index| head << 8 | byte(index));
            assert_eq!(key_head(key), expected, "{len} bytes");
            for cut in 0..=len {
                let (prefix, suffix) = key.split_at(cut);
                assert_eq!(PrefixHead::new(prefix).of(suffix), expected, "{len} bytes at {cut}");
            }
        }
    }
}
