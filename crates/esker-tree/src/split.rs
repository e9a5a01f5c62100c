//! Splits a compaction into key ranges, so that several threads can share it.
//!
//! The cuts are user keys taken from the indexes of the inputs, chosen so that each part has about
//! the same number of input bytes, however they are distributed over the key space. The parts are
//! disjoint and together cover all keys.
//!
//! Does not know who carries out the parts, nor when.

use std::collections::BTreeSet;
use std::ops::Bound;

use esker_base::{KeyRange, TableId, is_before_end};
use esker_env::FileError;

use crate::plan::Plan;
use crate::version::Version;

/// One of the key ranges that a compaction is split into.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PartRange {
    /// Its first key; empty for the first part.
    pub(crate) start: Vec<u8>,
    /// The first key after it; empty for the last part, which has no end.
    pub(crate) end: Vec<u8>,
}

impl PartRange {
    /// The only part of a compaction that is not split.
    #[must_use]
    pub fn whole() -> Self {
        Self::default()
    }

    /// The parts between `cuts`, which ascend and are not empty.
    pub(crate) fn between(cuts: &[Vec<u8>]) -> Vec<Self> {
        let starts = [Vec::new()].into_iter().chain(cuts.iter().cloned());
        let ends = cuts.iter().cloned().chain([Vec::new()]);
        starts.zip(ends).map(|(start, end)| Self { start, end }).collect()
    }

    /// Whether `user_key` is before its end.
    #[inline]
    pub(crate) fn goes_on_to(&self, user_key: &[u8]) -> bool {
        is_before_end(user_key, &self.end)
    }

    /// The same as a [`KeyRange`].
    pub(crate) fn keys(&self) -> KeyRange {
        let end = match self.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(self.end.clone()),
        };
        KeyRange { start: Bound::Included(self.start.clone()), end }
    }
}

/// Number of input stretches per part: the sizes of parts differ by about one stretch.
const STRETCHES_PER_PART: u64 = 16;

/// Splits `plan`, made for `version`, into at most `count_max` parts, each with about `bytes_min`
/// of input files or more.
///
/// # Errors
/// Of the file system, or if an index of an input is damaged.
///
/// # Cost
/// None if nothing is split. Otherwise reads indexes of the inputs, all of which a merge needs
/// anyway.
pub fn split(
    version: &Version,
    plan: &Plan,
    count_max: usize,
    bytes_min: u64,
) -> Result<Vec<PartRange>, FileError> {
    let count = (plan.input_bytes / bytes_min.max(1)).min(count_max as u64);
    if count < 2 {
        return Ok(vec![PartRange::whole()]);
    }
    let inputs: BTreeSet<TableId> = plan.tables().collect();
    let tables = version.tables().filter(|table| inputs.contains(&table.properties().id));
    // The end of each stretch of input, and its size in bytes.
    let mut stretches: Vec<(Vec<u8>, u64)> = Vec::new();
    for table in tables {
        let properties = table.properties();
        let wanted = (properties.file_bytes * count * STRETCHES_PER_PART)
            .div_ceil(plan.input_bytes.max(1))
            .max(1);
        let keys = table.cut_keys(usize::try_from(wanted).unwrap_or(usize::MAX))?;
        let bytes = properties.file_bytes / (keys.len() as u64 + 1);
        let ends = keys.into_iter().chain([properties.largest_key.clone()]);
        stretches.extend(ends.map(|end| (end, bytes)));
    }
    stretches.sort();
    Ok(PartRange::between(&cuts(&stretches, count)))
}

/// The ends of stretches that make `count` parts of about equal size.
fn cuts(stretches: &[(Vec<u8>, u64)], count: u64) -> Vec<Vec<u8>> {
    let total: u64 = stretches.iter().map(|(_, bytes)| bytes).sum();
    let mut cuts: Vec<Vec<u8>> = Vec::new();
    let mut passed = 0;
    for (end, bytes) in stretches {
        passed += bytes;
        let is_due = total * (cuts.len() as u64 + 1) <= passed * count;
        let is_last = stretches.last().is_some_and(|(last, _)| last == end);
        let ascends = cuts.last().map_or(!end.is_empty(), |before| before < end);
        if is_due && ascends && !is_last && cuts.len() as u64 + 1 < count {
            cuts.push(end.clone());
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts_of(stretches: &[(&str, u64)], count: u64) -> Vec<String> {
        let own = |&(end, bytes): &(&str, u64)| (end.as_bytes().to_vec(), bytes);
        let stretches: Vec<_> = stretches.iter().map(own).collect();
        let text = |cut| String::from_utf8(cut).unwrap();
        cuts(&stretches, count).into_iter().map(text).collect()
    }

    #[test]
    fn parts_have_about_as_many_bytes() {
        let even: Vec<(&str, u64)> = ["a", "b", "c", "d", "e", "f"].map(|end| (end, 10)).into();
        assert_eq!(cuts_of(&even, 1), [""; 0]);
        assert_eq!(cuts_of(&even, 2), ["c"]);
        assert_eq!(cuts_of(&even, 3), ["b", "d"]);
        assert_eq!(cuts_of(&even, 6), ["a", "b", "c", "d", "e"]);
        // Most bytes lie at the end of the keys.
        assert_eq!(cuts_of(&[("a", 1), ("b", 1), ("x", 8), ("y", 8), ("z", 8)], 2), ["y"]);
    }

    #[test]
    fn no_part_is_empty_whatever_the_stretches() {
        // One stretch that is worth several parts, ends that are alike, and an empty key.
        assert_eq!(cuts_of(&[("a", 1), ("m", 90), ("z", 9)], 4), ["m"]);
        assert_eq!(cuts_of(&[("m", 10), ("m", 10), ("m", 10), ("z", 10)], 4), ["m"]);
        assert_eq!(cuts_of(&[("z", 10), ("z", 10)], 4), [""; 0]);
        assert_eq!(cuts_of(&[("", 10), ("b", 10), ("c", 10)], 3), ["b"]);
        assert_eq!(cuts_of(&[], 4), [""; 0]);
    }

    #[test]
    fn parts_hold_every_key_once() {
        let parts = PartRange::between(&[b"f".to_vec(), b"m".to_vec()]);
        for key in ["", "a", "f", "f\0", "l", "m", "zz"] {
            let holds = |part: &&PartRange| {
                part.keys().contains(key.as_bytes())
                    && part.start.as_slice() <= key.as_bytes()
                    && part.goes_on_to(key.as_bytes())
            };
            assert_eq!(parts.iter().filter(holds).count(), 1, "{key:?}");
        }
        assert_eq!(PartRange::between(&[]), [PartRange::whole()]);
    }
}
