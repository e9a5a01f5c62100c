//! The run: tables with disjoint keys, as one sorted sequence.

use std::ops::{Bound, Range};
use std::sync::Arc;

use esker_base::{KeyRange, key_head};
use esker_table::{Table, TableProperties};

use crate::edit::EditRefused;
use crate::fence::Fences;
use crate::shape::{RunId, RunShape};

/// Tables with disjoint user keys, ascending; never empty, never changed.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    tables: Vec<Arc<Table>>,
    /// Smallest and largest keys of all tables: the smallest at even indexes, the largest at odd
    /// ones.
    fences: Fences,
    /// Those of the tables that have range tombstones.
    with_ranges: Vec<Arc<Table>>,
    bytes: u64,
}

impl Run {
    /// The run of `tables`, in any order.
    ///
    /// # Errors
    /// If two of them overlap.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(id: RunId, mut tables: Vec<Arc<Table>>) -> Result<Self, EditRefused> {
        assert!(!tables.is_empty(), "a run has at least one table");
        tables.sort_by(|a, b| a.properties().smallest_key.cmp(&b.properties().smallest_key));
        for pair in tables.windows(2) {
            let (a, b) = (pair[0].properties(), pair[1].properties());
            if !a.ends_before(&b.smallest_key) {
                let what = format!("tables {} and {} overlap in run {id}", a.id, b.id);
                return Err(EditRefused::new(what));
            }
        }
        let bounds = tables.iter().map(|table| table.properties());
        let keys: Vec<&[u8]> =
            bounds.flat_map(|p| [p.smallest_key.as_slice(), p.largest_key.as_slice()]).collect();
        let fences = Fences::new(&keys);
        let bytes = tables.iter().map(|table| table.properties().file_bytes).sum();
        let has_ranges = |table: &&Arc<Table>| table.properties().extras.ranges.is_some();
        let with_ranges = tables.iter().filter(has_ranges).cloned().collect();
        Ok(Self { id, tables, fences, with_ranges, bytes })
    }

    /// Which run of its level it is.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// Its tables, ascending; at least one.
    #[must_use]
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// Those of its tables that have range tombstones, ascending.
    #[must_use]
    pub fn tables_with_ranges(&self) -> &[Arc<Table>] {
        &self.with_ranges
    }

    /// Bytes of its table files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The only table that may hold `user_key`, or a range tombstone over it.
    ///
    /// # Cost
    /// One binary search over integers; touches no table.
    #[inline]
    #[must_use]
    pub fn find(&self, user_key: &[u8]) -> Option<&Arc<Table>> {
        let (fence, is_equal) = self.fences.search(user_key);
        // A key before a table's smallest key is in a gap; one before its largest key is in the
        // table.
        match fence % 2 {
            1 if is_equal => self.find_at_end(fence / 2, user_key),
            1 => self.tables.get(fence / 2),
            _ if is_equal && !esker_base::planted::is("table-fence-off-by-one") => {
                self.tables.get(fence / 2)
            }
            _ => None,
        }
    }

    /// For the table at `place`, which ends with `user_key`: if that is only the end of a range
    /// tombstone, it is not a key of this table, and may be the first of the next one.
    #[cold]
    fn find_at_end(&self, place: usize, user_key: &[u8]) -> Option<&Arc<Table>> {
        let table = self.tables.get(place)?;
        if !table.properties().ends_before(user_key) {
            return Some(table);
        }
        self.tables.get(place + 1).filter(|next| next.properties().smallest_key == user_key)
    }

    /// The index of the first table that ends at or after `user_key`; the number of tables if none
    /// does.
    #[must_use]
    pub fn lower_bound(&self, user_key: &[u8]) -> usize {
        let (fence, is_equal) = self.fences.search(user_key);
        let place = fence / 2;
        let is_end = is_equal && fence % 2 == 1;
        match self.tables.get(place) {
            Some(table) if is_end && table.properties().ends_before(user_key) => place + 1,
            _ => place,
        }
    }

    /// The tables that may hold a key of `range`; none if no key lies in it.
    ///
    /// # Cost
    /// Two binary searches, or none for all keys.
    #[must_use]
    pub fn overlapping(&self, range: &KeyRange) -> &[Arc<Table>] {
        &self.tables[self.places(range)]
    }

    /// The indexes of the tables that may hold a key of `range`; none if no key lies in it.
    pub(crate) fn places(&self, range: &KeyRange) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let count = |is_before: &dyn Fn(&TableProperties) -> bool| {
            self.tables.partition_point(|table| is_before(table.properties()))
        };
        let start = match &range.start {
            Bound::Unbounded => 0,
            _ => count(&|table| table.is_before(range)),
        };
        let end = match &range.end {
            Bound::Unbounded => self.tables.len(),
            _ => count(&|table| !range.ends_before(&table.smallest_key)),
        };
        start..end.max(start)
    }

    /// The heads of its first and its last user key.
    pub(crate) fn head_bounds(&self) -> (u64, u64) {
        let first = self.tables.first().map_or(0, |t| key_head(&t.properties().smallest_key));
        let last = self.tables.last().map_or(0, |t| key_head(&t.properties().largest_key));
        (first, last)
    }

    /// The shape of the run, for policies.
    #[must_use]
    pub fn shape(&self) -> RunShape {
        let tables = self.tables.iter().map(|table| Arc::clone(table.properties())).collect();
        RunShape { id: self.id, tables }
    }
}
