//! What to load into the cache after an open: the list that the last close left, divided into
//! steps.
//!
//! Promises that an open only checks whether the list exists: the first step reads it. The file may
//! have been removed by then. Knows neither tables nor who takes the steps.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{DatabaseId, FileId, FileKind, TableId};
use esker_env::{File, FileError, FileSystem, IoError};
use esker_table::WarmSlot;
use esker_tree::{Recovered, WarmList};

/// The list is sorted by table and position in batches of this many blocks, some 64 MiB: large
/// enough for long reads where blocks are dense, small enough for hot blocks to come early.
const BLOCKS_AT_ONCE: usize = 16 << 10;

/// A list that was there at the open and has not been read yet.
#[derive(Debug)]
struct SavedList {
    file: Result<Arc<dyn File>, IoError>,
    id: FileId,
    database: DatabaseId,
}

/// Blocks of one table, ascending.
#[derive(Debug)]
pub(crate) struct WarmStep {
    pub(crate) table: TableId,
    pub(crate) slots: Vec<WarmSlot>,
}

/// What is still to be loaded.
#[derive(Debug, Default)]
pub(crate) struct Warming {
    list: Option<SavedList>,
    steps: VecDeque<WarmStep>,
    /// When the list was read, and what was loaded since.
    pub(crate) since: Duration,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
}

impl Warming {
    /// From the list that belongs to the recovered manifest, if there is one and it `is_wanted`.
    pub(crate) fn find(
        is_wanted: bool,
        fs: &dyn FileSystem,
        dir: &Path,
        recovered: &Recovered,
    ) -> Self {
        let (id, database) = (recovered.id.0, recovered.catalog.database);
        let open = || match fs.open(&dir.join(id.file_name(FileKind::Warm))) {
            Err(error) if error.is_not_found() => None,
            file => Some(SavedList { file, id, database }),
        };
        Self { list: is_wanted.then(open).flatten(), ..Self::default() }
    }

    /// The name of the list, if it has not been read yet.
    pub(crate) fn unread_file(&self) -> Option<String> {
        self.list.as_ref().map(|list| list.id.file_name(FileKind::Warm))
    }

    /// Whether nothing is left to load.
    pub(crate) fn is_over(&self) -> bool {
        self.list.is_none() && self.steps.is_empty()
    }

    /// Reads the list and divides it into steps, unless that was done.
    ///
    /// # Errors
    /// Those of [`WarmList::read`] and of opening the file: nothing will be loaded then.
    pub(crate) fn read(&mut self, now: Duration) -> Result<(), FileError> {
        if let Some(SavedList { file, id, database }) = self.list.take() {
            self.since = now;
            self.steps = steps(&WarmList::read(&*file?, id, database)?);
        }
        Ok(())
    }

    pub(crate) fn take_step(&mut self) -> Option<WarmStep> {
        self.steps.pop_front()
    }

    /// Takes back `step`, which was not finished.
    pub(crate) fn give_back(&mut self, step: WarmStep) {
        self.steps.push_front(step);
    }

    /// Loads nothing more of `table`.
    pub(crate) fn leave_out(&mut self, table: TableId) {
        self.steps.retain(|step| step.table != table);
    }

    /// Loads nothing more.
    pub(crate) fn end(&mut self) {
        (self.list, self.steps) = (None, VecDeque::new());
    }

    /// What is left to load, hottest first.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (TableId, WarmSlot)> {
        self.steps.iter().flat_map(|step| step.slots.iter().map(|slot| (step.table, *slot)))
    }
}

fn steps(list: &WarmList) -> VecDeque<WarmStep> {
    let mut steps = VecDeque::new();
    for blocks in list.blocks.chunks(BLOCKS_AT_ONCE) {
        let mut by_table: BTreeMap<TableId, Vec<WarmSlot>> = BTreeMap::new();
        for block in blocks {
            let Some(table) = list.tables.get(block.table as usize) else { continue };
            let slot = WarmSlot { slot: block.slot, was_used_again: block.was_used_again };
            by_table.entry(*table).or_default().push(slot);
        }
        steps.extend(by_table.into_iter().map(|(table, mut slots)| {
            slots.sort_unstable();
            slots.dedup_by_key(|slot| slot.slot);
            WarmStep { table, slots }
        }));
    }
    steps
}

#[cfg(test)]
mod tests {
    use esker_base::OwnerId;
    use esker_tree::WarmBlock;

    use super::*;

    #[test]
    fn blocks_are_taken_hot_ones_first_and_in_the_order_of_files_among_them() {
        let table = |counter| TableId(FileId { owner: OwnerId::FIRST, counter });
        let block = |table, slot| WarmBlock { table, slot, was_used_again: false };
        let mut blocks = vec![block(1, 9), block(0, 4), block(1, 2), block(1, 9)];
        blocks.extend((0..BLOCKS_AT_ONCE as u32).map(|slot| block(0, 10 + slot)));
        let steps = steps(&WarmList { tables: vec![table(7), table(3)], blocks });
        let summary: Vec<_> =
            steps.iter().map(|step| (step.table, step.slots.len(), step.slots[0].slot)).collect();
        let most = BLOCKS_AT_ONCE - 3;
        assert_eq!(
            summary,
            [(table(3), 2, 2), (table(7), most, 4), (table(7), 4, 10 + most as u32 - 1)]
        );
        let mut warming = Warming { steps, ..Warming::default() };
        let first = warming.take_step().unwrap();
        warming.leave_out(table(7));
        assert!(warming.is_over());
        warming.give_back(first);
        assert_eq!(warming.rest().map(|(_, warm)| warm.slot).collect::<Vec<_>>(), [2, 9]);
        warming.end();
        assert!(warming.is_over());
    }
}
