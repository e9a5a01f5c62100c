//! Prefix queries: what the filter of a table says about a key range. It can answer only if all
//! keys of the range share one prefix, by the rule that the table was built with.
//!
//! Does not know the keyspace's present rule: a table that was built with another rule, or with
//! none, is asked by its own.

use std::ops::Bound;

use esker_base::KeyRange;
use esker_env::FileError;

use crate::prefix_rule::hash_prefix;
use crate::{FilterVerdict, NoTrace, Table};

impl Table {
    /// What the filter says about entries of the table in `range`: `Excluded` if there are
    /// certainly none, `Absent` if it cannot answer for such a range. Says nothing about range
    /// tombstones.
    ///
    /// # Errors
    /// Of the file system; `Corruption` if the top index is damaged.
    ///
    /// # Cost
    /// Only a look at the properties, if the table was built without prefixes or `range` holds keys
    /// with several. Otherwise opens the table, and asks the filter of each partition that may hold
    /// keys of `range`, until one does not exclude the prefix: usually of one partition, or of two
    /// or three if none has it.
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

    /// The verdict of the partitions that may hold keys from `start` to `end`, all of which have
    /// `prefix`.
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
        // A prefix that occurs in several partitions is in the filter of each.
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
