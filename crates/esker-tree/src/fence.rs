//! Ascending keys in flat arrays, searched by integers first.
//!
//! The prefix that all keys share is stored once; of the rest, the first eight bytes are integers
//! in one array. A search reads only that array, unless keys agree in those bytes too.

use esker_base::{key_head, strip_key_prefix};

/// Ascending keys that can be searched.
#[derive(Default, Debug)]
pub(crate) struct Fences {
    /// The prefix of all keys.
    prefix: Box<[u8]>,
    /// [`key_head`] of each key without the prefix.
    heads: Box<[u64]>,
    /// The keys without the prefix, concatenated.
    suffixes: Box<[u8]>,
    /// The end of each suffix in `suffixes`.
    ends: Box<[usize]>,
}

impl Fences {
    /// Copies `keys`, which ascend; adjacent ones may be equal.
    pub(crate) fn new(keys: &[&[u8]]) -> Self {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return Self::default();
        };
        let prefix_len = first.iter().zip(*last).take_while(|(a, b)| a == b).count();
        let (mut heads, mut suffixes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let suffix = &key[prefix_len..];
            heads.push(key_head(suffix));
            suffixes.extend_from_slice(suffix);
            ends.push(suffixes.len());
        }
        Self {
            prefix: first[..prefix_len].into(),
            heads: heads.into(),
            suffixes: suffixes.into(),
            ends: ends.into(),
        }
    }

    /// The number of keys less than `key`, which is the position of the first that is not; and
    /// whether that one equals `key`.
    ///
    /// # Cost
    /// One binary search over integers; a second one over keys only if heads are equal.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> (usize, bool) {
        // Not `strip_prefix`: it compares with a call even if there is no prefix, and on some
        // processors (AVX-512) takes some hundred cycles for a pointer to no memory.
        let Some(suffix) = strip_key_prefix(key, &self.prefix) else {
            // Not in the middle: every fence has the prefix and this key does not.
            return (if *key < *self.prefix { 0 } else { self.heads.len() }, false);
        };
        let head = key_head(suffix);
        let start = self.heads.partition_point(|&fence| fence < head);
        if self.heads.get(start) == Some(&head) {
            self.search_equal_heads(start, head, suffix)
        } else {
            (start, false)
        }
    }

    /// Like [`Fences::search`], from `start`, the first fence whose head is `head`.
    fn search_equal_heads(&self, start: usize, head: u64, suffix: &[u8]) -> (usize, bool) {
        let (mut low, mut high) = (start, start);
        high += self.heads[start..].partition_point(|&fence| fence == head);
        while low < high {
            let middle = low.midpoint(high);
            if self.suffix(middle) < suffix { low = middle + 1 } else { high = middle }
        }
        (low, low < self.heads.len() && self.suffix(low) == suffix)
    }

    fn suffix(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.suffixes[start..self.ends[index]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_agree_with_the_keys_themselves() {
        let sets: [&[&[u8]]; 5] = [
            &[],
            &[b""],
            &[b"", b"\0", b"\0\0"],
            &[b"user00000000000001", b"user00000000000002", b"user00000000000002\0"],
            &[b"a", b"prefix-of-eight-bytes-and-more-1", b"prefix-of-eight-bytes-and-more-2"],
        ];
        let mut probes: Vec<Vec<u8>> =
            sets.iter().flat_map(|keys| keys.iter()).map(|k| k.to_vec()).collect();
        for probe in probes.clone() {
            probes.push([&probe[..], b"\0"].concat());
            probes.push([&probe[..], b"z"].concat());
            probes.push(probe[..probe.len() / 2].to_vec());
            probes.push(probe[..probe.len().saturating_sub(1)].to_vec());
        }
        for keys in sets {
            let fences = Fences::new(keys);
            for probe in &probes {
                let index = keys.partition_point(|key| key < &probe.as_slice());
                let is_equal = keys.get(index).is_some_and(|key| key == probe);
                assert_eq!(fences.search(probe), (index, is_equal), "{keys:?} {probe:?}");
            }
        }
    }
}
