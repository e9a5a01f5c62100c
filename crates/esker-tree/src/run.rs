//! The run: tables with disjoint keys, as one sorted sequence.

use std::sync::Arc;

use esker_base::{KeyRange, key_head};
use esker_table::Table;

use crate::edit::EditRefused;
use crate::fence::Fences;
use crate::shape::{RunId, RunShape};

/// Tables with disjoint user keys, ascending; never empty, never changed.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    tables: Vec<Arc<Table>>,
    /// Smallest and largest key of each table in turn: at even places one, at odd the other.
    fences: Fences,
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
            if b.smallest_key <= a.largest_key {
                let what = format!("tables {} and {} overlap in run {id}", a.id, b.id);
                return Err(EditRefused::new(what));
            }
        }
        let bounds = tables.iter().map(|table| table.properties());
        let keys: Vec<&[u8]> =
            bounds.flat_map(|p| [p.smallest_key.as_slice(), p.largest_key.as_slice()]).collect();
        let fences = Fences::new(&keys);
        let bytes = tables.iter().map(|table| table.properties().file_bytes).sum();
        Ok(Self { id, tables, fences, bytes })
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

    /// Bytes of its table files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The only table that may hold `user_key`.
    ///
    /// # Cost
    /// One binary search over integers; touches no table.
    #[inline]
    #[must_use]
    pub fn find(&self, user_key: &[u8]) -> Option<&Arc<Table>> {
        let (fence, is_equal) = self.fences.search(user_key);
        // Before a table's smallest key is a gap, before its largest key is the table.
        if fence % 2 == 1 || (is_equal && !esker_base::planted::is("table-fence-off-by-one")) {
            self.tables.get(fence / 2)
        } else {
            None
        }
    }

    /// The place of the first table that ends at or after `user_key`; their count if none does.
    #[must_use]
    pub fn lower_bound(&self, user_key: &[u8]) -> usize {
        self.fences.search(user_key).0 / 2
    }

    /// The tables that may hold a key of `range`.
    ///
    /// # Cost
    /// Two binary searches.
    #[must_use]
    pub fn overlapping(&self, range: &KeyRange) -> &[Arc<Table>] {
        let start = self
            .tables
            .partition_point(|table| range.starts_after(&table.properties().largest_key));
        let end = self
            .tables
            .partition_point(|table| !range.ends_before(&table.properties().smallest_key));
        self.tables.get(start..end).unwrap_or_default()
    }

    /// The heads of its first and its last user key.
    pub(crate) fn head_bounds(&self) -> (u64, u64) {
        let first = self.tables.first().map_or(0, |t| key_head(&t.properties().smallest_key));
        let last = self.tables.last().map_or(0, |t| key_head(&t.properties().largest_key));
        (first, last)
    }

    /// The run as policies see it.
    #[must_use]
    pub fn shape(&self) -> RunShape {
        let tables = self.tables.iter().map(|table| Arc::clone(table.properties())).collect();
        RunShape { id: self.id, tables }
    }
}
