//! Checks one table: everything that is wrong in it, and which keys that affects.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker_base::Corruption;
use esker_env::FileError;
use esker_table::{
    BlockKind, KeyBounds, Table, TableProperties, TableReport, TableWalk, WalkedBlock,
};

use super::report::{AffectedKeys, Finding};
use crate::error::Result;

/// Checks `table`, of the keyspace of that name, and adds what is wrong to `findings`.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is a finding.
pub(super) fn check_table(
    table: &Table,
    keyspace: &str,
    findings: &mut Vec<Finding>,
) -> Result<TableReport> {
    let report = table.verify()?;
    if report.corruptions.is_empty() {
        return Ok(report);
    }
    let map = DamageMap::of(table)?;
    for corruption in &report.corruptions {
        let affected = map.affected_by(corruption);
        let affected =
            affected.map(|(start, end)| AffectedKeys { keyspace: keyspace.to_owned(), start, end });
        findings.push(Finding::new(corruption.clone()).affecting(affected));
    }
    Ok(report)
}

/// All keys that `table` may hold.
pub(super) fn all_keys(table: &Table, keyspace: &str) -> AffectedKeys {
    let (start, end) = bounds(table);
    AffectedKeys { keyspace: keyspace.to_owned(), start, end }
}

/// Whether no key is in the ranges of both tables: they may stand in one run.
pub(super) fn is_apart(a: &TableProperties, b: &TableProperties) -> bool {
    a.ends_before(&b.smallest_key) || b.ends_before(&a.smallest_key)
}

/// A walk over what can be found of `table`, whether or not its end is intact.
///
/// # Errors
/// As [`Table::walk_by_indexes`].
pub(super) fn walk(table: &Table) -> std::result::Result<TableWalk, FileError> {
    match table.walk() {
        Err(FileError::Corruption(_)) => table.walk_by_indexes(),
        result => result,
    }
}

fn bounds(table: &Table) -> KeyBounds {
    let properties = table.properties();
    (
        Bound::Included(properties.smallest_key.clone()),
        Bound::Included(properties.largest_key.clone()),
    )
}

/// Which keys each block of a table covers.
pub(super) struct DamageMap {
    all: KeyBounds,
    /// By the offset of a data block or of the index of a partition.
    ranges: BTreeMap<u64, KeyBounds>,
    /// The ends of those blocks.
    ends: BTreeMap<u64, u64>,
    /// Offsets of unreadable blocks.
    unreadable: BTreeSet<u64>,
    /// Whether the blocks of the table can be found.
    is_open: bool,
}

impl DamageMap {
    pub(super) fn of(table: &Table) -> Result<Self> {
        let mut map = Self {
            all: bounds(table),
            ranges: BTreeMap::new(),
            ends: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            is_open: false,
        };
        let walk = match walk(table) {
            Ok(walk) => walk,
            Err(FileError::Corruption(_)) => return Ok(map),
            Err(error) => return Err(error.into()),
        };
        map.is_open = true;
        if let Some(ranges) = &table.properties().extras.ranges {
            // Without its range tombstones no key of the table can be read.
            map.ranges.insert(ranges.handle.offset, map.all.clone());
        }
        let mut before = map.all.0.clone();
        for item in walk {
            match item {
                Ok(block) if block.kind == BlockKind::Index => {
                    before = map.add_separators(&block, before);
                }
                Ok(block) if block.kind == BlockKind::TopIndex => {
                    let first = map.all.0.clone();
                    map.add_separators(&block, first);
                }
                Ok(_) => {}
                Err(FileError::Corruption(corruption)) => {
                    map.unreadable.insert(corruption.offset);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(map)
    }

    /// Adds the ranges between the separators of `block`, the first of which starts at `before`;
    /// returns where the last one ends.
    fn add_separators(
        &mut self,
        block: &WalkedBlock,
        mut before: Bound<Vec<u8>>,
    ) -> Bound<Vec<u8>> {
        block.for_each_separator(|separator, handle| {
            let separator = separator.to_vec();
            // Versions of a key may extend over two blocks: a separator that is such a key is in
            // both.
            let after = Bound::Included(separator.clone());
            let start = std::mem::replace(&mut before, after);
            self.ranges.insert(handle.offset, (start, Bound::Included(separator)));
            self.ends.insert(handle.offset, handle.end());
        });
        before
    }

    /// The end of what `corruption` is about, as far as an index shows it.
    pub(super) fn end_of(&self, corruption: &Corruption) -> u64 {
        let end = self.ends.get(&corruption.offset).copied();
        end.unwrap_or_else(|| corruption.offset.saturating_add(1))
    }

    /// The keys whose reads `corruption` affects.
    pub(super) fn affected_by(&self, corruption: &Corruption) -> Option<KeyBounds> {
        // A filter or the properties, which reads can do without, are in no index.
        let is_block = self.is_open && self.unreadable.contains(&corruption.offset);
        if is_block { self.ranges.get(&corruption.offset).cloned() } else { Some(self.all.clone()) }
    }
}
