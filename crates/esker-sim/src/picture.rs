//! A simulated tree for display: rows of tables.

use esker_tree::{LEVEL_COUNT_MAX, Shape};

/// What a row of a picture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rows {
    /// Level 0, and this many of the deepest levels, numbered from 1.
    Levels(usize),
    /// Runs by age, wherever they are.
    Tiers,
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its name: `L` and a number, of the level or of the first table of the tier.
    pub name: String,
    /// Its tables, newer runs first, then by key.
    pub tables: Vec<TablePicture>,
}

/// One table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablePicture {
    /// Its number.
    pub id: u64,
    /// The number of the flushed table whose place it took.
    pub origin: u64,
    /// Smallest key.
    pub first_key: u64,
    /// Largest key.
    pub last_key: u64,
}

/// A tree at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Newest first.
    pub rows: Vec<Row>,
}

impl Rows {
    /// The name of the row of `level`, if rows are levels; for a level without a row, its place in
    /// the tree.
    pub(crate) fn level_name(self, level: usize) -> String {
        match self {
            Self::Levels(count) if level > LEVEL_COUNT_MAX - 1 - count => {
                format!("L{}", level + count + 1 - LEVEL_COUNT_MAX)
            }
            Self::Levels(_) if level > 0 => format!("tree level {level}"),
            _ => "L0".to_owned(),
        }
    }

    /// The picture of `shape`, with each table as `table` describes it.
    pub(crate) fn picture(
        self,
        shape: &Shape,
        table: impl Fn(esker_base::TableId) -> TablePicture,
    ) -> Picture {
        let rows = match self {
            Self::Levels(count) => {
                let is_shown = |level: &usize| {
                    let is_empty = shape.levels[*level].runs.is_empty();
                    *level == 0 || *level > LEVEL_COUNT_MAX - 1 - count || !is_empty
                };
                let row = |level: usize| Row {
                    name: self.level_name(level),
                    tables: shape.levels[level].tables().map(|t| table(t.id)).collect(),
                };
                (0..LEVEL_COUNT_MAX).filter(is_shown).map(row).collect()
            }
            Self::Tiers => {
                let runs = shape.levels.iter().flat_map(|level| &level.runs);
                let row = |run: &esker_tree::RunShape| {
                    let tables: Vec<_> = run.tables.iter().map(|t| table(t.id)).collect();
                    Row { name: format!("L{}", tables[0].id), tables }
                };
                runs.map(row).collect()
            }
        };
        Picture { rows }
    }

    /// Tables of level 0, then of each level or tier.
    pub(crate) fn counts(self, picture: &Picture) -> Vec<u64> {
        let counts = picture.rows.iter().map(|row| row.tables.len() as u64);
        match self {
            Self::Levels(_) => counts.collect(),
            // With tiers there is no level 0.
            Self::Tiers => std::iter::once(0).chain(counts).collect(),
        }
    }
}
