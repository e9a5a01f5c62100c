//! When the entries of a table expire: what the properties record, and how it is computed.
//!
//! A table in which each entry expires or only hides others holds nothing from a known time on, and
//! can then be dropped without being read.

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

use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_base::expiry_of;

/// When the entries of a table expire, in milliseconds since 1970-01-01 UTC. Only for tables with
/// expiring entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableExpiry {
    /// No entry expires earlier.
    pub earliest: u64,
    /// From here on the table holds no value: every entry has expired, or is a tombstone. `None` if
    /// it has other entries.
    pub latest: Option<u64>,
}

impl TableExpiry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.earliest);
        if let Some(latest) = self.latest {
            put_varint(out, latest);
        }
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let disorder = decoder.error("table properties have their expiries in the wrong order");
        let earliest = decoder.varint()?;
        let has_latest = !decoder.is_empty();
        let latest = has_latest.then(|| decoder.varint()).transpose()?;
        if latest.is_some_and(|latest| latest < earliest) {
            return Err(disorder);
        }
        Ok(Self { earliest, latest })
    }
}

/// The expiring puts that were counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiryCount {
    count: u64,
    earliest: u64,
    latest: u64,
}

impl ExpiryCount {
    pub(crate) const NONE: Self = Self { count: 0, earliest: 0, latest: 0 };

    /// Counts one with `stored` as its value.
    #[cold]
    pub(crate) fn add(&mut self, stored: &[u8]) {
        let Some(expiry) = expiry_of(stored) else { return };
        self.earliest = if self.count == 0 { expiry } else { self.earliest.min(expiry) };
        self.latest = self.latest.max(expiry);
        self.count = self.count.saturating_add(1);
    }

    /// The result for a table with this many entries and tombstones.
    pub(crate) fn of_table(
        self,
        entry_count: u64,
        tombstone_count: u64,
        has_ranges: bool,
    ) -> Option<TableExpiry> {
        let is_all = self.count.checked_add(tombstone_count) == Some(entry_count) && !has_ranges;
        let latest = is_all.then_some(self.latest);
        (self.count > 0).then_some(TableExpiry { earliest: self.earliest, latest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_expires_whole_only_if_all_that_it_holds_does() {
        let mut count = ExpiryCount::NONE;
        assert_eq!(count.of_table(0, 0, false), None);
        for expiry in [7_u64, 5, 9] {
            count.add(&expiry.to_le_bytes());
        }
        let some = |latest| Some(TableExpiry { earliest: 5, latest });
        assert_eq!(count.of_table(3, 0, false), some(Some(9)));
        assert_eq!(count.of_table(4, 1, false), some(Some(9)));
        assert_eq!(count.of_table(4, 0, false), some(None), "another entry stays");
        assert_eq!(count.of_table(3, 0, true), some(None), "a range tombstone reaches further");
        count.add(b"short");
        assert_eq!(count.of_table(4, 0, false), some(None));
    }
}
