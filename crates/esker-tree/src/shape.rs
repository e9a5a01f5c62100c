//! The shape of a tree: plain data, and everything that a policy sees of it.
//!
//! Holds what the manifest says about each table, but nothing to read entries from. The text form
//! lists each table with its key range and size, one run per line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{KeyRange, SeqNo};
use esker_table::TableProperties;

/// The number of levels of a tree, from level 0, which takes the flushes, to the last one.
pub const LEVEL_COUNT_MAX: usize = 7;

/// Names one run of a level. Of two runs of a level, the one with the larger id is newer: it may
/// hold newer entries of keys that both hold, never older ones. Minted from the file counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Which tables a tree has, and where they are.
#[derive(Clone, Debug)]
pub struct Shape {
    /// One entry per level, [`LEVEL_COUNT_MAX`] of them.
    pub levels: Vec<LevelShape>,
    /// When entries were written, for tables that do not record it.
    pub timeline: Timeline,
}

/// When entries were written: each mark says that everything up to a sequence number was written by
/// a certain time. Empty if nobody maintains it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// Ascending in both.
    marks: Vec<(SeqNo, Duration)>,
}

impl Timeline {
    /// Notes that every entry up to `seqno` was written by `time`, on the clock of the policies.
    ///
    /// # Panics
    /// If either is before the last mark.
    pub fn mark(&mut self, seqno: SeqNo, time: Duration) {
        let last = self.marks.last();
        assert!(last.is_none_or(|last| last.0 <= seqno && last.1 <= time), "marks ascend");
        self.marks.push((seqno, time));
    }

    /// The time by which the entry was written; `None` for one that is newer than every mark.
    ///
    /// # Cost
    /// A binary search.
    #[must_use]
    pub fn written_by(&self, seqno: SeqNo) -> Option<Duration> {
        let place = self.marks.partition_point(|mark| mark.0 < seqno);
        self.marks.get(place).map(|mark| mark.1)
    }
}

/// The runs of one level.
#[derive(Clone, Default, Debug)]
pub struct LevelShape {
    /// Newest first; none is empty.
    pub runs: Vec<RunShape>,
}

/// The tables of one run.
#[derive(Clone, Debug)]
pub struct RunShape {
    /// Which run it is.
    pub id: RunId,
    /// Ascending and disjoint by user key; never empty.
    pub tables: Vec<Arc<TableProperties>>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { levels: vec![LevelShape::default(); LEVEL_COUNT_MAX], timeline: Timeline::default() }
    }
}

impl Shape {
    /// The time by which every entry of `table` was written, on the clock of the policies: as
    /// recorded in the table, or else from the timeline.
    #[must_use]
    pub fn written_by(&self, table: &TableProperties) -> Option<Duration> {
        let own = table.extras.times.map(|times| Duration::from_millis(times.newest));
        own.or_else(|| self.timeline.written_by(table.seqno_max))
    }

    /// Bytes of all table files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(LevelShape::bytes).sum()
    }

    /// Whether there is no table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(|level| level.runs.is_empty())
    }
}

impl LevelShape {
    /// Bytes of all table files of the level.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(RunShape::bytes).sum()
    }

    /// Every table of the level, run by run.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableProperties>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }
}

impl RunShape {
    /// Bytes of all table files of the run.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        table_bytes(&self.tables)
    }

    /// The tables that may hold a key of `first..=last`.
    ///
    /// # Cost
    /// Two binary searches.
    #[must_use]
    pub fn overlapping(&self, first: &[u8], last: &[u8]) -> &[Arc<TableProperties>] {
        let start = self.tables.partition_point(|table| table.largest_key.as_slice() < first);
        let end = self.tables.partition_point(|table| table.smallest_key.as_slice() <= last);
        self.tables.get(start..end).unwrap_or_default()
    }

    /// The tables that may hold a key of `range`; none if no key lies in it.
    ///
    /// # Cost
    /// Two binary searches.
    #[must_use]
    pub fn overlapping_range(&self, range: &KeyRange) -> &[Arc<TableProperties>] {
        if range.is_empty() {
            return &[];
        }
        let start = self.tables.partition_point(|table| range.starts_after(&table.largest_key));
        let end = self.tables.partition_point(|table| !range.ends_before(&table.smallest_key));
        self.tables.get(start..end).unwrap_or_default()
    }
}

/// Bytes of the files of `tables`.
#[must_use]
pub(crate) fn table_bytes(tables: &[Arc<TableProperties>]) -> u64 {
    tables.iter().map(|table| table.file_bytes).sum()
}

/// A size as people read it, such as `64MiB` or `1.5GiB`: one decimal unless it is zero.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let (mut unit, mut size) = (0, self.0 as f64);
        while size >= 1023.95 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        let text = format!("{size:.1}");
        write!(f, "{}{}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
    }
}

/// A table in one word and a bracket: id, smallest and largest key, size.
pub(crate) struct TableText<'a>(pub(crate) &'a TableProperties);

impl fmt::Display for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0;
        let (first, last) = (table.smallest_key.escape_ascii(), table.largest_key.escape_ascii());
        write!(f, "{}[{first}..{last} {}]", table.id, Bytes(table.file_bytes))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "empty");
        }
        for (index, level) in self.levels.iter().enumerate() {
            if !level.runs.is_empty() {
                writeln!(f, "L{index} {}", Bytes(level.bytes()))?;
            }
            for run in &level.runs {
                write!(f, "  {}:", run.id)?;
                for table in &run.tables {
                    write!(f, " {}", TableText(table))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
