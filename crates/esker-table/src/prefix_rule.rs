//! The prefix rule: what the prefix of a key is. Tables record the rule as text.
//!
//! A table built with a rule also has the prefixes of its keys in its filter. A range whose keys
//! all share one prefix can then be ruled out without reading index or data.
//!
//! Knows stored keys, and nothing of filters.

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

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use esker_base::KeyRange;
use esker_base::checksum::hash_key;

/// A rule for the prefix of a key.
///
/// Its text form, which is recorded, is for example `first:8`, or `through:2f` with the byte in
/// hexadecimal.
///
/// ```
/// use esker_table::PrefixRule;
///
/// let rule = PrefixRule::Through(b'/');
/// assert_eq!(rule.prefix_of(b"users/ada"), Some(&b"users/"[..]));
/// assert_eq!(rule.prefix_of(b"ada"), None);
/// assert_eq!("through:2f".parse(), Ok(rule));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrefixRule {
    /// This many bytes, at least one, from the start. A shorter key has no prefix.
    First(u8),
    /// The bytes up to and including the first occurrence of this one. A key without it has no
    /// prefix.
    Through(u8),
}

impl PrefixRule {
    /// The prefix of `key`; `None` if it has none.
    #[inline]
    #[must_use]
    pub fn prefix_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        match *self {
            Self::First(len) => key.get(..usize::from(len)),
            Self::Through(byte) => {
                let at = key.iter().position(|&one| one == byte)?;
                key.get(..=at)
            }
        }
    }

    /// The prefix that all keys of `range` share, if there is one.
    #[must_use]
    pub fn prefix_of_range<'r>(&self, range: &'r KeyRange) -> Option<&'r [u8]> {
        let (Bound::Included(start) | Bound::Excluded(start)) = &range.start else { return None };
        let prefix = self.prefix_of(start)?;
        // Keys from `start` on begin with its prefix as long as they are less than the first key
        // after all that do; and under either rule, a key that begins with a prefix has that
        // prefix.
        let has_ended = match &range.end {
            Bound::Included(end) => end.starts_with(prefix),
            Bound::Excluded(end) => end.starts_with(prefix) || is_right_behind(end, prefix),
            Bound::Unbounded => prefix.iter().all(|&byte| byte == u8::MAX),
        };
        (has_ended || esker_base::planted::is("prefix-filter-asked-across-prefixes"))
            .then_some(prefix)
    }

    /// What is wrong with the rule, if anything is.
    ///
    /// # Errors
    /// If the prefix has no bytes.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::First(0) => Err(format!("{self}, and must take at least one byte")),
            _ => Ok(()),
        }
    }
}

/// Whether `key` is the smallest key greater than all keys that start with `prefix`.
fn is_right_behind(key: &[u8], prefix: &[u8]) -> bool {
    let Some((&last, rest)) = key.split_last() else { return false };
    let Some((same, tail)) = prefix.split_at_checked(rest.len()) else { return false };
    let Some((&first, ones)) = tail.split_first() else { return false };
    same == rest && first.checked_add(1) == Some(last) && ones.iter().all(|&byte| byte == u8::MAX)
}

/// The hash of a prefix in a filter. It differs from the hash of a key with the same bytes, so that
/// a prefix in the filter does not let a read of such an absent key pass.
#[inline]
pub(crate) fn hash_prefix(prefix: &[u8]) -> u64 {
    hash_key(prefix) ^ 0x9e37_79b9_7f4a_7c15
}

impl fmt::Display for PrefixRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(len) => write!(f, "first:{len}"),
            Self::Through(byte) => write!(f, "through:{byte:02x}"),
        }
    }
}

/// A text that is no [`PrefixRule`] of this release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownPrefixRule;

impl fmt::Display for UnknownPrefixRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a prefix rule is first:N, N from 1 to 255, or through:XX, in hexadecimal digits",
        )
    }
}

impl std::error::Error for UnknownPrefixRule {}

impl FromStr for PrefixRule {
    type Err = UnknownPrefixRule;

    /// Parses exactly the text that is recorded, and no other spelling of it.
    fn from_str(text: &str) -> Result<Self, UnknownPrefixRule> {
        let rule = match text.split_once(':') {
            Some(("first", len)) => len.parse().ok().map(Self::First),
            Some(("through", byte)) => u8::from_str_radix(byte, 16).ok().map(Self::Through),
            _ => None,
        };
        rule.filter(|rule| rule.check().is_ok() && rule.to_string() == text)
            .ok_or(UnknownPrefixRule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [PrefixRule; 5] = [
        PrefixRule::First(1),
        PrefixRule::First(2),
        PrefixRule::Through(b'b'),
        PrefixRule::Through(0),
        PrefixRule::Through(255),
    ];

    /// All keys of up to three bytes of a small alphabet, with both ends of all bytes in it.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::new()];
        for len in 0..3 {
            let longer: Vec<_> = keys.iter().filter(|key| key.len() == len).cloned().collect();
            for key in longer {
                keys.extend([0, b'a', b'b', 254, 255].map(|byte| [&key[..], &[byte]].concat()));
            }
        }
        keys.sort();
        keys
    }

    #[test]
    fn keys_have_the_prefixes_of_their_rule() {
        let first = PrefixRule::First(2);
        assert_eq!(first.prefix_of(b"ab"), Some(&b"ab"[..]));
        assert_eq!(first.prefix_of(b"abc"), Some(&b"ab"[..]));
        assert_eq!(first.prefix_of(b"a"), None);
        let through = PrefixRule::Through(b'/');
        assert_eq!(through.prefix_of(b"a/b/c"), Some(&b"a/"[..]));
        assert_eq!(through.prefix_of(b"/"), Some(&b"/"[..]));
        assert_eq!(through.prefix_of(b"abc"), None);
        assert_eq!(through.prefix_of(b""), None);
    }

    #[test]
    fn a_range_has_a_prefix_only_if_every_key_that_can_lie_in_it_has() {
        let keys = keys();
        let mut asked = 0;
        for rule in RULES {
            for start in &keys {
                for end in &keys {
                    for (start, end) in [
                        (Bound::Included(start.clone()), Bound::Included(end.clone())),
                        (Bound::Included(start.clone()), Bound::Excluded(end.clone())),
                        (Bound::Excluded(start.clone()), Bound::Excluded(end.clone())),
                        (Bound::Excluded(start.clone()), Bound::Unbounded),
                    ] {
                        let range = KeyRange { start, end };
                        let Some(prefix) = rule.prefix_of_range(&range) else { continue };
                        asked += 1;
                        for key in keys.iter().filter(|key| range.contains(key)) {
                            assert_eq!(rule.prefix_of(key), Some(prefix), "{rule} {range:?}");
                        }
                    }
                }
            }
        }
        assert!(10_000 < asked, "{asked}");
    }

    #[test]
    fn scans_of_a_prefix_have_it() {
        for rule in RULES {
            for key in keys() {
                let Some(prefix) = rule.prefix_of(&key) else { continue };
                for prefix_of_scan in [prefix, &key] {
                    let range = KeyRange::prefix(prefix_of_scan);
                    assert_eq!(rule.prefix_of_range(&range), Some(prefix), "{rule} {range:?}");
                }
            }
        }
        assert_eq!(PrefixRule::First(2).prefix_of_range(&KeyRange::prefix(b"a")), None);
        assert_eq!(PrefixRule::First(2).prefix_of_range(&KeyRange::all()), None);
    }

    #[test]
    fn rules_are_read_as_they_are_written_and_not_otherwise() {
        for rule in [PrefixRule::First(1), PrefixRule::First(255), PrefixRule::Through(10)] {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        assert_eq!(PrefixRule::Through(10).to_string(), "through:0a");
        for text in ["", "first", "first:0", "first:08", "first:256", "through:a", "through:0A"] {
            assert_eq!(text.parse::<PrefixRule>(), Err(UnknownPrefixRule), "{text}");
        }
        let what =
            "a prefix rule is first:N, N from 1 to 255, or through:XX, in hexadecimal digits";
        assert_eq!(UnknownPrefixRule.to_string(), what);
        let refused = "first:0, and must take at least one byte";
        assert_eq!(PrefixRule::First(0).check(), Err(refused.to_owned()));
    }

    #[test]
    fn a_prefix_has_another_hash_than_a_key() {
        assert_ne!(hash_prefix(b"a"), hash_key(b"a"));
    }
}
