//! What the filter of a table says about ranges of keys: only where all keys of a range have one
//! prefix, by the rule that the table itself was built with.
//!
//! Does not know what the keyspace goes by today: a table that was built with another rule, or with
//! none, is asked by its own.

use std::ops::Bound;

use esker_base::KeyRange;
use esker_env::FileError;

use crate::prefix_rule::hash_prefix;
use crate::{FilterVerdict, NoTrace, Table};

impl Table {
    /// What the filter says about the entries of the table in `range`: `Excluded` if there are none
    /// for certain, `Absent` if it cannot say anything of such a range. Says nothing about range
    /// tombstones.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the top index is damaged.
    ///
    /// # Cost
    /// None but a look at the properties, where the table was built without prefixes or `range` holds
    /// keys of several. Otherwise the table is opened, and the filter is asked of each partition that
    /// may hold keys of `range` until one does not exclude the prefix: of one, mostly, and of two or
    /// three where nothing is there.
    pub fn prefix_verdict(&self, range: &KeyRange) -> Result<FilterVerdict, FileError> {
        let Some(rule) = self.properties().extras.prefix_rule else {
            return Ok(FilterVerdict::Absent);
        };
        match (rule.prefix_of_range(range), &range.start) {
            (Some(prefix), Bound::Included(start) | Bound::Excluded(start)) => {
                self.verdict_between(prefix, start, &range.end)
            }
            _ => Ok(FilterVerdict::Absent),
        }
    }

    /// What the partitions say that may hold keys from `start` to `end`, all of which have `prefix`.
    fn verdict_between(
        &self,
        prefix: &[u8],
        start: &[u8],
        end: &Bound<Vec<u8>>,
    ) -> Result<FilterVerdict, FileError> {
        let hash = hash_prefix(prefix);
        let open = self.open()?;
        let count = open.top.partitions().len();
        let first = open.top.find(start).unwrap_or(count);
        let last = match end {
            Bound::Included(end) | Bound::Excluded(end) => open.top.find(end),
            Bound::Unbounded => None,
        };
        // A prefix of several partitions is in the filter of each.
        for partition in first..last.map_or(count, |last| last + 1) {
            let verdict = open.filter_verdict(partition, hash, &mut NoTrace)?;
            if verdict != FilterVerdict::Excluded {
                return Ok(verdict);
            }
        }
        Ok(FilterVerdict::Excluded)
    }
}

#[cfg(test)]
mod tests;
