//! Equality of short keys without a call: most keys, and the suffixes stored in blocks, are so
//! short that a call of `memcmp` would cost more than the comparison.

/// Whether two keys are equal.
#[inline]
#[must_use]
pub fn is_same_key(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    len == b.len()
        && match len {
            0 => true,
            // The first, the middle and the last byte: these are all.
            1..=3 => [0, len / 2, len - 1].iter().all(|&place| a[place] == b[place]),
            4..=7 => ends::<4>(a) == ends::<4>(b),
            8..=16 => ends::<8>(a) == ends::<8>(b),
            17..=32 => ends::<16>(a) == ends::<16>(b),
            _ => a == b,
        }
}

/// The part of `key` after `prefix`; `None` if the key does not start with it.
#[inline]
#[must_use]
pub fn strip_key_prefix<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = key.split_at_checked(prefix.len())?;
    is_same_key(start, prefix).then_some(rest)
}

/// The first and the last `N` bytes, which may overlap: all of a key of `N` to twice as many.
#[inline]
fn ends<const N: usize>(key: &[u8]) -> Option<([u8; N], [u8; N])> {
    Some((*key.first_chunk()?, *key.last_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::{is_same_key, strip_key_prefix};

    #[test]
    fn every_byte_of_keys_of_all_lengths_counts() {
        for len in 0..70 {
            let key: Vec<u8> = (0..len).collect();
            assert!(is_same_key(&key, &key.clone()));
            assert!(!is_same_key(&key, &[&key[..], b"x"].concat()));
            for place in 0..key.len() {
                let mut other = key.clone();
                other[place] ^= 0x80;
                assert!(!is_same_key(&key, &other), "{len} {place}");
                assert_eq!(strip_key_prefix(&key, &other[..=place]), None);
                assert_eq!(strip_key_prefix(&key, &key[..place]), Some(&key[place..]));
            }
            assert_eq!(strip_key_prefix(&key, &[&key[..], b"x"].concat()), None);
        }
    }
}
