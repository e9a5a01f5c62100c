//! The head of a key: its first eight bytes as one comparable word.

/// The first eight bytes of `key` as a big-endian word, padded with zeros.
///
/// `key_head(a) < key_head(b)` implies `a < b`; equal heads say nothing. One integer comparison in
/// a cached array so replaces most comparisons of whole keys, each of which may be a cache miss.
#[inline]
#[must_use]
#[expect(clippy::big_endian_bytes, reason = "big-endian words compare as their bytes do")]
pub fn key_head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::key_head;

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
}
