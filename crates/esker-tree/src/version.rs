//! The version: one state of the tree of one keyspace, with tables that can be read.
//!
//! Immutable: an edit creates the next version, which shares every run that the edit does not
//! touch. A reader that holds a version holds its tables.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_base::{KeyspaceId, TableId, key_head};
use esker_table::{Table, TableProperties};

use crate::catalog::KeyspaceState;
use crate::edit::{EditRecord, EditRefused, VersionEdit};
use crate::level::Level;
use crate::run::Run;
use crate::run_index::RunIndex;
use crate::shape::{LEVEL_COUNT_MAX, RunId, Shape};

/// The tables of one keyspace at one moment.
#[derive(Clone, Debug)]
pub struct Version {
    keyspace: KeyspaceId,
    levels: Vec<Level>,
    /// All runs of `levels`, for point reads.
    runs: RunIndex,
}

/// A run by its place.
type Place = (usize, RunId);

impl Version {
    /// The version of a keyspace without tables.
    #[must_use]
    pub fn new(keyspace: KeyspaceId) -> Self {
        Self::of(keyspace, vec![Level::default(); LEVEL_COUNT_MAX])
    }

    fn of(keyspace: KeyspaceId, levels: Vec<Level>) -> Self {
        let runs = RunIndex::new(&levels);
        Self { keyspace, levels, runs }
    }

    /// The version of a keyspace according to a catalog.
    ///
    /// # Errors
    /// If tables of one run overlap, which a [`Catalog`](crate::Catalog) never allows.
    pub fn open(
        keyspace: KeyspaceId,
        state: &KeyspaceState,
        make_table: impl Fn(Arc<TableProperties>) -> Arc<Table>,
    ) -> Result<Self, EditRefused> {
        let mut runs: BTreeMap<Place, Vec<Arc<Table>>> = BTreeMap::new();
        for place in state.tables.values() {
            let table = make_table(Arc::clone(&place.properties));
            runs.entry((place.level, place.run)).or_default().push(table);
        }
        Self::new(keyspace).with_runs(runs)
    }

    /// The version after `edit`. Only its records about tables of this keyspace count. `make_table`
    /// is called once for each added table; all others are shared.
    ///
    /// # Errors
    /// If the edit does not fit; a [`Catalog`](crate::Catalog) with the same tables refuses it too.
    ///
    /// # Cost
    /// Looks at the id of every table; rebuilds the runs that change.
    pub fn apply(
        &self,
        edit: &VersionEdit,
        make_table: impl Fn(Arc<TableProperties>) -> Arc<Table>,
    ) -> Result<Self, EditRefused> {
        let mut leaving: BTreeMap<TableId, Option<Place>> = BTreeMap::new();
        let mut joining: BTreeMap<Place, Vec<Arc<Table>>> = BTreeMap::new();
        for record in edit.records.iter().filter(|r| r.keyspace() == Some(self.keyspace)) {
            match record {
                EditRecord::TableAdded { level, run, properties, .. } => {
                    let table = make_table(Arc::clone(properties));
                    joining.entry((*level, *run)).or_default().push(table);
                }
                EditRecord::TableRemoved { table, .. } => {
                    leaving.insert(*table, None);
                }
                EditRecord::TableMoved { table, level, run, .. } => {
                    leaving.insert(*table, Some((*level, *run)));
                }
                EditRecord::KeyspaceDropped { .. } => return Ok(Self::new(self.keyspace)),
                _ => {}
            }
        }
        if leaving.is_empty() && joining.is_empty() {
            return Ok(self.clone());
        }
        let mut kept: Vec<(Place, Arc<Run>)> = Vec::new();
        for (level, runs) in self.levels.iter().map(Level::runs).enumerate() {
            for run in runs {
                let place = (level, run.id());
                if !run.tables().iter().any(|table| leaving.contains_key(&table.properties().id)) {
                    kept.push((place, Arc::clone(run)));
                    continue;
                }
                for table in run.tables() {
                    let to = leaving.remove(&table.properties().id).unwrap_or(Some(place));
                    if let Some(to) = to {
                        joining.entry(to).or_default().push(Arc::clone(table));
                    }
                }
            }
        }
        if let Some(table) = leaving.keys().next() {
            return Err(EditRefused::new(format!("table {table} leaves its place but has none")));
        }
        self.rebuilt(kept, joining)
    }

    /// The version of the runs `kept`, some of which get the tables of `joining`, and of new ones.
    fn rebuilt(
        &self,
        kept: Vec<(Place, Arc<Run>)>,
        mut joining: BTreeMap<Place, Vec<Arc<Table>>>,
    ) -> Result<Self, EditRefused> {
        let mut whole: Vec<(Place, Arc<Run>)> = Vec::new();
        for (place, run) in kept {
            match joining.get_mut(&place) {
                Some(tables) => tables.extend(run.tables().iter().cloned()),
                None => whole.push((place, run)),
            }
        }
        let next = Self::new(self.keyspace).with_runs(joining)?;
        let mut levels: Vec<Vec<Arc<Run>>> =
            next.levels.iter().map(|level| level.runs().to_vec()).collect();
        for ((level, _), run) in whole {
            levels[level].push(run);
        }
        Ok(Self::of(self.keyspace, levels.into_iter().map(Level::new).collect()))
    }

    /// This version, which is empty, with `runs`.
    fn with_runs(self, runs: BTreeMap<Place, Vec<Arc<Table>>>) -> Result<Self, EditRefused> {
        let mut levels = vec![Vec::new(); LEVEL_COUNT_MAX];
        for ((level, run), tables) in runs {
            let Some(runs) = levels.get_mut(level) else {
                return Err(EditRefused::new(format!("there is no level {level}")));
            };
            runs.push(Arc::new(Run::new(run, tables)?));
        }
        Ok(Self::of(self.keyspace, levels.into_iter().map(Level::new).collect()))
    }

    /// The keyspace that it is a version of.
    #[must_use]
    pub const fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// Its levels, [`LEVEL_COUNT_MAX`] of them.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Every run, shallower levels first, newer runs of a level first.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = &Arc<Run>> {
        self.runs.runs()
    }

    /// Whether a table has range tombstones.
    #[must_use]
    pub const fn has_ranges(&self) -> bool {
        self.runs.has_ranges()
    }

    /// Every table, shallower levels first, newer runs of a level first.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.levels.iter().flat_map(Level::runs).flat_map(|run| run.tables())
    }

    /// The tables that may hold `user_key`, with their levels, in read order: the first one that
    /// has a visible entry has the newest.
    ///
    /// # Cost
    /// No allocation; for each run two comparisons, and one binary search over integers if its
    /// bounds hold the key.
    #[inline]
    pub fn candidates<'a>(
        &'a self,
        user_key: &'a [u8],
    ) -> impl Iterator<Item = (usize, &'a Arc<Table>)> {
        self.runs.candidates(user_key, key_head(user_key))
    }

    /// Bytes of all table files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(Level::bytes).sum()
    }

    /// How many tables there are.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.levels.iter().flat_map(Level::runs).map(|run| run.tables().len()).sum()
    }

    /// The shape of the tree, for policies.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { levels: self.levels.iter().map(Level::shape).collect(), ..Shape::default() }
    }
}
