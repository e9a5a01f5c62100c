//! The ages of the entries of a table, key by key.

use std::collections::BTreeMap;

use crate::keys::Stretch;

/// The ages of the entries of some keys: flush numbers, the oldest and the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Age {
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
}

/// Ranges of keys with entries, ascending and disjoint; there may be gaps.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Ages(Vec<(Stretch, Age)>);

impl Ages {
    /// Those of one flush.
    pub(crate) fn of_flush(stretch: Stretch, number: u64) -> Self {
        Self(vec![(stretch, Age { oldest: number, newest: number })])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Stretch, Age)> {
        self.0.iter()
    }

    /// The oldest and the newest of all; `None` without entries.
    pub(crate) fn extremes(&self) -> Option<Age> {
        self.0
            .iter()
            .map(|(_, age)| *age)
            .reduce(|a, b| Age { oldest: a.oldest.min(b.oldest), newest: a.newest.max(b.newest) })
    }

    /// Those of a merge of all: for each key, from the oldest to the newest.
    pub(crate) fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let pieces: Vec<(Stretch, Age)> =
            all.into_iter().flat_map(|ages| &ages.0).copied().collect();
        let mut bounds: Vec<u64> = pieces.iter().flat_map(|(s, _)| [s.first, s.last + 1]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut newest: BTreeMap<u64, Age> = BTreeMap::new();
        for (stretch, age) in &pieces {
            let start = bounds.partition_point(|&bound| bound < stretch.first);
            for &bound in bounds[start..].iter().take_while(|&&bound| bound <= stretch.last) {
                let kept = newest.entry(bound).or_insert(*age);
                // A flush need not hold every key of its range, so older ones stay as well.
                kept.oldest = kept.oldest.min(age.oldest);
                kept.newest = kept.newest.max(age.newest);
            }
        }
        let mut out: Vec<(Stretch, Age)> = Vec::new();
        for (index, &first) in bounds.iter().enumerate() {
            let Some(&age) = newest.get(&first) else { continue };
            let last = bounds[index + 1] - 1;
            match out.last_mut() {
                Some((stretch, same)) if *same == age && stretch.last + 1 == first => {
                    stretch.last = last;
                }
                _ => out.push((Stretch { first, last }, age)),
            }
        }
        Self(out)
    }

    /// The part within `stretch`.
    pub(crate) fn within(&self, stretch: Stretch) -> Self {
        let cut = |(piece, age): &(Stretch, Age)| {
            let first = piece.first.max(stretch.first);
            let last = piece.last.min(stretch.last);
            (first <= last).then_some((Stretch { first, last }, *age))
        };
        Self(self.0.iter().filter_map(cut).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(pieces: &[(u64, u64, u64, u64)]) -> Ages {
        let piece = |&(first, last, oldest, newest): &(u64, u64, u64, u64)| {
            (Stretch { first, last }, Age { oldest, newest })
        };
        Ages(pieces.iter().map(piece).collect())
    }

    #[test]
    fn merge_joins_ages_where_stretches_overlap() {
        let merged =
            Ages::merged([&ages(&[(0, 9, 1, 1), (20, 29, 1, 1)]), &ages(&[(5, 24, 2, 2)])]);
        let expected =
            ages(&[(0, 4, 1, 1), (5, 9, 1, 2), (10, 19, 2, 2), (20, 24, 1, 2), (25, 29, 1, 1)]);
        assert_eq!(merged, expected);
        assert_eq!(merged.extremes(), Some(Age { oldest: 1, newest: 2 }));
    }

    #[test]
    fn neighbours_of_one_age_are_one() {
        let merged = Ages::merged([&ages(&[(0, 9, 1, 3)]), &ages(&[(10, 24, 1, 3)])]);
        assert_eq!(merged, ages(&[(0, 24, 1, 3)]));
        assert_eq!(merged.within(Stretch { first: 9, last: 11 }), ages(&[(9, 11, 1, 3)]));
    }
}
