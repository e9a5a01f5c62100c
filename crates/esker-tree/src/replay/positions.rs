//! Keys as numbers: positions in proportion to how many entries are known before them.
//!
//! Every key at which a known table begins or ends gets a position of its own, in the order of the
//! keys; between two of them lie as many positions as the tables that cover the stretch have
//! entries there, [`PER_ENTRY`] for each, taking the keys of a table as evenly spread over its
//! range, going by their bytes. So entries are about evenly spread over positions, however the
//! bytes of keys are.

use std::collections::BTreeMap;

use esker_table::TableProperties;

/// Positions for one entry.
pub(super) const PER_ENTRY: u64 = 16;

/// Positions of the keys at which tables begin and end.
#[derive(Debug)]
pub(super) struct Positions {
    of_keys: BTreeMap<Vec<u8>, u64>,
    /// One more than the last.
    pub(super) end: u64,
}

impl Positions {
    /// Of the tables that are there, and of those that once were.
    pub(super) fn new<'a>(
        live: impl Iterator<Item = &'a TableProperties>,
        past: impl Iterator<Item = &'a TableProperties>,
    ) -> Self {
        let (live, past): (Vec<_>, Vec<_>) = (live.collect(), past.collect());
        let all = live.iter().chain(&past);
        let mut keys: Vec<&[u8]> =
            all.flat_map(|t| [t.smallest_key.as_slice(), t.largest_key.as_slice()]).collect();
        keys.sort_unstable();
        keys.dedup();
        // Entries from each key to the next.
        let mut weights = vec![0.0; keys.len()];
        for table in live {
            each_stretch(&keys, table, |stretch, entries| weights[stretch] += entries);
        }
        let mut lost = vec![0.0; keys.len()];
        for table in past {
            each_stretch(&keys, table, |stretch, entries| {
                lost[stretch] = entries.max(lost[stretch]);
            });
        }
        // Within what is live, a gap is a gap: nothing that was there is left.
        let is_live = |weight: &f64| *weight > 0.0;
        let first = weights.iter().position(is_live).unwrap_or(0);
        let end = weights.iter().rposition(is_live).map_or(0, |last| last + 1);
        weights[..first].copy_from_slice(&lost[..first]);
        weights[end..].copy_from_slice(&lost[end..]);
        let mut position = PER_ENTRY;
        let mut of_keys = BTreeMap::new();
        for (key, weight) in keys.iter().zip(weights) {
            of_keys.insert(key.to_vec(), position);
            position += 1 + (weight * PER_ENTRY as f64) as u64;
        }
        Self { of_keys, end: position }
    }

    /// From where to where `table` reaches, both inclusive.
    ///
    /// # Panics
    /// If it is not one of those that the positions were made of.
    pub(super) fn hull(&self, table: &TableProperties) -> (u64, u64) {
        (self.of_keys[&table.smallest_key], self.of_keys[&table.largest_key])
    }
}

/// Calls `add` with each stretch between two of `keys` that `table` covers, and its entries there.
fn each_stretch(keys: &[&[u8]], table: &TableProperties, mut add: impl FnMut(usize, f64)) {
    let (first, last) = (table.smallest_key.as_slice(), table.largest_key.as_slice());
    let start = keys.partition_point(|key| *key < first);
    let end = keys.partition_point(|key| *key < last);
    let mut before = 0.0;
    for stretch in start..end {
        let share = share_before(keys[stretch + 1], first, last).max(before);
        add(stretch, (share - before) * table.entry_count as f64);
        before = share;
    }
}

/// Which part of the keys `first..=last` comes before `key`, going by eight bytes from the first on
/// in which the two differ.
fn share_before(key: &[u8], first: &[u8], last: &[u8]) -> f64 {
    if key >= last {
        return 1.0;
    }
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let byte = |index| f64::from(key.get(common + index).copied().unwrap_or(0));
        (0..8).fold(0.0, |number, index| number * 256.0 + byte(index))
    };
    let (first, last) = (number(first), number(last));
    if last <= first { 0.0 } else { ((number(key) - first) / (last - first)).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parse_tables;

    #[test]
    fn positions_follow_the_entries() {
        // 1000 entries each: as many before m as behind it, though the letters are not.
        let tables = parse_tables("1[a..m 1MiB] 2[n..o 1MiB]");
        let positions = Positions::new(tables.iter(), [].iter());
        assert_eq!(positions.hull(&tables[0]), (16, 16_017));
        assert_eq!(positions.hull(&tables[1]), (16_018, 32_019));
        assert_eq!(positions.end, 32_020);
    }

    #[test]
    fn a_past_table_counts_only_outside_of_what_is_live() {
        let live = parse_tables("1[a..m 1MiB]");
        let past = parse_tables("2[a..m 1MiB] 3[p..z 1MiB]");
        let positions = Positions::new(live.iter(), past.iter());
        assert_eq!(positions.hull(&past[0]), (16, 16_017));
        assert_eq!(positions.hull(&past[1]), (16_018, 32_019));
    }
}
