//! What a table would hold: how many entries it has in each cell of the positions.
//!
//! In each cell a number of keys is ever written, the same for all tables, and each run holds an
//! even, independent choice of them: the newer of two runs hides of the older one the share that it
//! holds itself. Numbers are expectations, so they are not whole.

/// Entries of one cell.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Cell {
    pub(super) entries: f64,
    /// Among them.
    pub(super) tombstones: f64,
}

impl Cell {
    /// This one merged with an `older` one.
    fn over(self, older: Self, grid: Grid) -> Self {
        let shown = 1.0 - (self.entries / grid.keys).min(1.0);
        Self {
            entries: self.entries + older.entries * shown,
            tombstones: self.tombstones + older.tombstones * shown,
        }
    }

    /// Entries that are no tombstones.
    fn kept(&self) -> f64 {
        self.entries - self.tombstones.min(self.entries)
    }
}

/// Entries of neighbouring cells.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Contents {
    /// Number of the first cell.
    first: u64,
    cells: Vec<Cell>,
}

/// How positions are divided into cells, and how many keys one has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Positions of one cell.
    pub(super) width: u64,
    /// Keys that are ever written in one cell.
    pub(super) keys: f64,
}

impl Contents {
    /// Entries evenly spread over positions, both ends inclusive.
    pub(super) fn spread(grid: Grid, (first, last): (u64, u64), all: Cell) -> Self {
        let (first_cell, last_cell) = (first / grid.width, last / grid.width);
        let length = (last - first + 1) as f64;
        let cell = |index: u64| {
            let start = first.max(index * grid.width);
            let end = last.min((index + 1) * grid.width - 1);
            let share = (end - start + 1) as f64 / length;
            Cell { entries: all.entries * share, tombstones: all.tombstones * share }
        };
        Self { first: first_cell, cells: (first_cell..=last_cell).map(cell).collect() }
    }

    pub(super) fn sum(&self) -> Cell {
        self.cells.iter().fold(Cell::default(), |sum, cell| Cell {
            entries: sum.entries + cell.entries,
            tombstones: sum.tombstones + cell.tombstones,
        })
    }

    /// Cells with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Cell)> {
        (self.first..).zip(self.cells.iter().copied())
    }

    /// Adds the entries of a table of the same run, or of another flush of other keys.
    pub(super) fn add(&mut self, other: &Self) {
        self.reach(other);
        for (number, cell) in other.iter() {
            let index = (number - self.first) as usize;
            self.cells[index].entries += cell.entries;
            self.cells[index].tombstones += cell.tombstones;
        }
    }

    fn reach(&mut self, other: &Self) {
        if self.cells.is_empty() {
            self.first = other.first;
        }
        if other.cells.is_empty() {
            return;
        }
        if other.first < self.first {
            let missing = (self.first - other.first) as usize;
            self.cells.splice(0..0, std::iter::repeat_n(Cell::default(), missing));
            self.first = other.first;
        }
        let end = (other.first + other.cells.len() as u64 - self.first) as usize;
        self.cells.resize(self.cells.len().max(end), Cell::default());
    }

    /// What is left of a merge of `runs`, newest first; without its tombstones if `is_last`.
    pub(super) fn merged<'a>(
        grid: Grid,
        runs: impl IntoIterator<Item = &'a Self>,
        is_last: bool,
    ) -> Self {
        let mut merged = Self::default();
        for run in runs {
            merged.reach(run);
            for (number, older) in run.iter() {
                let newer = &mut merged.cells[(number - merged.first) as usize];
                *newer = newer.over(older, grid);
            }
        }
        if is_last {
            for cell in &mut merged.cells {
                *cell = Cell { entries: cell.kept(), tombstones: 0.0 };
            }
        }
        merged
    }

    /// The flush of a memtable that is `scale` times as large: more writes, of which some replace
    /// each other.
    pub(super) fn scaled(&self, grid: Grid, scale: f64) -> Self {
        let cell = |cell: &Cell| {
            let held = (cell.entries / grid.keys).min(1.0);
            let entries = grid.keys * (1.0 - (1.0 - held).powf(scale));
            let factor = if cell.entries > 0.0 { entries / cell.entries } else { 0.0 };
            Cell { entries, tombstones: cell.tombstones * factor }
        };
        Self { first: self.first, cells: self.cells.iter().map(cell).collect() }
    }

    /// The same entries, `cells` further on.
    pub(super) fn moved(&self, cells: u64) -> Self {
        Self { first: self.first + cells, cells: self.cells.clone() }
    }
}

/// What is left of a merge of all runs of a tree, as flushes are added to it.
///
/// Merging some of the runs before changes little of it: only where tables end within a cell. So a
/// large one is made again after a step for each [`CELLS_PER_STEP`] cells, and a small one always: to
/// look at every cell at each step takes minutes for thousands of flushes of ascending keys.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    merged: Contents,
    /// Entries of `merged` that are no tombstones.
    kept: f64,
    /// How often they were asked for.
    steps: usize,
}

/// Cells that may be looked at for one step.
const CELLS_PER_STEP: usize = 8192;

impl Whole {
    /// Of `runs`, newest first.
    pub(super) fn of<'a>(grid: Grid, runs: impl IntoIterator<Item = &'a Contents>) -> Self {
        let merged = Contents::merged(grid, runs, false);
        let kept = merged.cells.iter().map(Cell::kept).sum();
        Self { merged, kept, steps: 0 }
    }

    /// Adds a run that is newer than all before.
    pub(super) fn add(&mut self, grid: Grid, newest: &Contents) {
        self.merged.reach(newest);
        for (number, newer) in newest.iter() {
            let cell = &mut self.merged.cells[(number - self.merged.first) as usize];
            let before = cell.kept();
            *cell = newer.over(*cell, grid);
            self.kept += cell.kept() - before;
        }
    }

    /// Entries that are no tombstones; `None` if it is time to make it again.
    pub(super) const fn step(&mut self) -> Option<f64> {
        let is_due = self.merged.cells.len() < self.steps * CELLS_PER_STEP;
        self.steps += 1;
        if is_due { None } else { Some(self.kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 10, keys: 100.0 };

    fn spread(hull: (u64, u64), entries: f64, tombstones: f64) -> Contents {
        Contents::spread(GRID, hull, Cell { entries, tombstones })
    }

    #[test]
    fn spread_covers_parts_of_cells() {
        let contents = spread((5, 24), 20.0, 4.0);
        let cells: Vec<_> = contents.iter().map(|(n, cell)| (n, cell.entries)).collect();
        assert_eq!(cells, [(0, 5.0), (1, 10.0), (2, 5.0)]);
        assert_eq!(contents.sum(), Cell { entries: 20.0, tombstones: 4.0 });
        assert_eq!(contents.moved(2).iter().next().unwrap().0, 2);
    }

    #[test]
    fn a_merge_hides_what_newer_runs_hold() {
        let (newer, older) = (spread((0, 9), 50.0, 10.0), spread((0, 19), 160.0, 0.0));
        let kept = Contents::merged(GRID, [&newer, &older], false).sum();
        assert_eq!(kept, Cell { entries: 50.0 + 40.0 + 80.0, tombstones: 10.0 });
        let last = Contents::merged(GRID, [&newer, &older], true).sum();
        assert_eq!(last, Cell { entries: 160.0, tombstones: 0.0 });
    }

    #[test]
    fn a_larger_memtable_takes_more_of_the_same_keys() {
        let flush = spread((0, 9), 50.0, 5.0);
        assert_eq!(flush.scaled(GRID, 2.0).sum(), Cell { entries: 75.0, tombstones: 7.5 });
    }

    #[test]
    fn tables_of_one_run_add_up() {
        let mut run = spread((20, 29), 5.0, 0.0);
        run.add(&spread((0, 9), 3.0, 0.0));
        assert_eq!(run.iter().map(|(_, cell)| cell.entries).collect::<Vec<_>>(), [3.0, 0.0, 5.0]);
    }
}
