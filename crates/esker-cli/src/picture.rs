//! The tree as a text picture: a line per level, a bar for its bytes, and where its tables are.
//!
//! ```text
//! level  tables  entries     size  keys a ... z
//!     0       1    1,200  1.2 MiB  [============================]
//!     1       3    9,000  6.0 MiB  [=======][==========][======]
//! ```
//!
//! A table takes the part of the line that its keys take in the order of all keys: positions are
//! ranks of the tables' bounds, so every table is visible however skewed the keys are. The runs of
//! level 0 are stacked, newest first, each on its own line.

use std::cmp::Ordering;
use std::fmt::Write as _;

use esker::{LevelInfo, Order, RunInfo, TableInfo};

use crate::text::{grouped, shortened, size};

/// Columns of the picture of a run.
const WIDTH: usize = 60;
/// Lines for the runs of one level; any more are counted, not drawn.
const RUNS_MAX: usize = 8;

/// Draws the levels of a keyspace in that order, shallowest first, without empty ones.
pub(crate) fn draw(levels: &[LevelInfo], order: &Order) -> String {
    let scale = Scale::of(levels, order);
    let mut out = String::new();
    let Some((first, last)) = scale.ends() else { return "no tables yet\n".into() };
    let heading = format!("keys {} ... {}", shortened(first, 24), shortened(last, 24));
    line(&mut out, ["level", "tables", "entries", "size"].map(String::from), &heading);
    for level in levels.iter().filter(|level| !level.runs.is_empty()) {
        for (index, run) in level.runs.iter().take(RUNS_MAX).enumerate() {
            let number = if index == 0 { level.level.to_string() } else { String::new() };
            line(&mut out, cells(number, &run.tables), &scale.bar(run));
        }
        if let Some(rest) = level.runs.get(RUNS_MAX..).filter(|rest| !rest.is_empty()) {
            let tables: Vec<TableInfo> = rest.iter().flat_map(|run| run.tables.clone()).collect();
            let more = format!("and {} older runs", rest.len());
            line(&mut out, cells(String::new(), &tables), &more);
        }
    }
    out
}

fn cells(number: String, run: &[TableInfo]) -> [String; 4] {
    let bytes = run.iter().map(|table| table.bytes).sum();
    let entries = run.iter().map(|table| table.entry_count).sum();
    [number, grouped(run.len() as u64), grouped(entries), size(bytes)]
}

fn line(out: &mut String, [number, tables, entries, size]: [String; 4], rest: &str) {
    writeln!(out, "{number:>5}  {tables:>6}  {entries:>11}  {size:>10}  {rest}")
        .expect("a string takes all that is written");
}

/// All bounds of all tables, in the order of the keyspace.
struct Scale<'a> {
    bounds: Vec<&'a [u8]>,
    is_reverse: bool,
}

impl<'a> Scale<'a> {
    /// In an order of which only the name is known, bounds are shown as stored: by their bytes.
    fn of(levels: &'a [LevelInfo], order: &Order) -> Self {
        let is_reverse = *order == Order::reverse_bytewise();
        let tables = levels.iter().flat_map(|level| &level.runs).flat_map(|run| &run.tables);
        let mut bounds: Vec<&[u8]> =
            tables.flat_map(|table| [&*table.smallest_key, &*table.largest_key]).collect();
        bounds.sort_unstable_by(|a, b| compare(a, b, is_reverse));
        bounds.dedup();
        Self { bounds, is_reverse }
    }

    fn ends(&self) -> Option<(&'a [u8], &'a [u8])> {
        Some((self.bounds.first()?, self.bounds.last()?))
    }

    /// The column of a bound, `0..WIDTH`.
    fn column(&self, bound: &[u8]) -> usize {
        let is_before = |other: &&[u8]| compare(other, bound, self.is_reverse).is_lt();
        let rank = self.bounds.partition_point(is_before);
        rank * (WIDTH - 1) / (self.bounds.len() - 1).max(1)
    }

    /// A run as brackets: `[==]` for a table, `#` where tables are too narrow to distinguish.
    fn bar(&self, run: &RunInfo) -> String {
        let mut columns = vec![b' '; WIDTH];
        for table in &run.tables {
            let (start, end) = (self.column(&table.smallest_key), self.column(&table.largest_key));
            let end = end.max(start);
            for (at, cell) in columns.iter_mut().enumerate().take(end + 1).skip(start) {
                *cell = match *cell {
                    b' ' if start == end => b'|',
                    b' ' if at == start => b'[',
                    b' ' if at == end => b']',
                    b' ' => b'=',
                    _ => b'#',
                };
            }
        }
        String::from_utf8(columns).expect("only ASCII was put in").trim_end().to_owned()
    }
}

fn compare(a: &[u8], b: &[u8], is_reverse: bool) -> Ordering {
    if is_reverse { b.cmp(a) } else { a.cmp(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(smallest: &str, largest: &str, bytes: u64) -> TableInfo {
        TableInfo {
            file: String::new(),
            bytes,
            entry_count: 10,
            tombstone_count: 0,
            blob_bytes: 0,
            smallest_key: smallest.into(),
            largest_key: largest.into(),
            seqno_min: 1,
            seqno_max: 2,
            written: None,
            entries_written: None,
            oldest_delete: None,
        }
    }

    fn level(level: usize, runs: Vec<Vec<TableInfo>>) -> LevelInfo {
        let runs = runs.into_iter().map(|tables| RunInfo { id: 1, tables }).collect();
        LevelInfo { level, target_bytes: 0, score: 0.0, runs }
    }

    #[test]
    fn levels_and_runs_are_drawn() {
        let levels = [
            level(0, vec![vec![table("a", "z", 1024)], vec![table("c", "d", 10)]]),
            level(1, vec![]),
            level(6, vec![vec![table("a", "b", 2048), table("d", "z", 4096)]]),
        ];
        let expected = "\
level  tables      entries        size  keys a ... z
    0       1           10     1.0 KiB  [==========================================================]
            1           10        10 B                               [==============]
    6       2           20     6.0 KiB  [=============]                             [==============]
";
        let drawn = draw(&levels, &Order::bytewise());
        assert!(drawn == expected, "{drawn}");
    }

    /// Every table stood at the right edge, as if it had one key.
    #[test]
    fn keys_that_go_backwards_are_drawn_in_their_order() {
        let levels = [level(
            0,
            vec![vec![table("z", "a", 1), table("!", "!", 1)], vec![table("d", "c", 1)]],
        )];
        let expected = "\
level  tables      entries        size  keys z ... !
    0       2           20         2 B  [===========================================]              |
            1           10         1 B                [==============]
";
        let drawn = draw(&levels, &Order::reverse_bytewise());
        assert!(drawn == expected, "{drawn}");
    }

    #[test]
    fn nothing_and_one_key_are_drawn_too() {
        assert_eq!(draw(&[], &Order::bytewise()), "no tables yet\n");
        let one = [level(3, vec![vec![table("k", "k", 1)]])];
        assert!(draw(&one, &Order::bytewise()).ends_with("1 B  |\n"));
    }

    #[test]
    fn many_runs_are_counted() {
        let drawn = draw(&[level(0, vec![vec![table("a", "b", 1)]; 11])], &Order::bytewise());
        assert_eq!(drawn.lines().count(), 1 + RUNS_MAX + 1);
        assert!(drawn.contains("and 3 older runs"));
    }
}
