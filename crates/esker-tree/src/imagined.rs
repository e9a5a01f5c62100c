//! Imagined trees: tables without files, and shapes that change as plans say.
//!
//! Shared by the simulation of policies and the replay of a live tree. Does not know what the
//! tables would hold.

use std::sync::Arc;

use esker_base::{KeyspaceId, SeqNo, TableId};
use esker_table::{Compression, TableExtras, TableProperties};

use crate::plan::Plan;
use crate::shape::{RunId, RunShape, Shape};

impl Shape {
    /// Inserts `table` into `run` of `level`, and creates the run if it does not exist.
    pub fn place(&mut self, (level, run): (usize, RunId), table: Arc<TableProperties>) {
        let runs = &mut self.levels[level].runs;
        let place = runs.partition_point(|other| other.id > run);
        if runs.get(place).is_none_or(|other| other.id != run) {
            runs.insert(place, RunShape { id: run, tables: Vec::new() });
        }
        let tables = &mut runs[place].tables;
        let place = tables.partition_point(|other| other.smallest_key < table.smallest_key);
        tables.insert(place, table);
    }

    /// Takes the inputs of `plan` out, in their order.
    pub fn take(&mut self, plan: &Plan) -> Vec<Arc<TableProperties>> {
        let mut taken = Vec::new();
        for input in &plan.inputs {
            let runs = &mut self.levels[input.level].runs;
            for run in runs.iter_mut().filter(|run| run.id == input.run) {
                taken.extend(run.tables.extract_if(.., |table| input.tables.contains(&table.id)));
            }
            runs.retain(|run| !run.tables.is_empty());
        }
        taken
    }
}

/// A table without a file, for imagined trees. Its keys are numbers, both ends inclusive.
/// Everything that policies do not look at is zero.
#[must_use]
pub fn imagined_table(id: TableId, (first, last): (u64, u64), bytes: u64) -> TableProperties {
    TableProperties {
        id,
        keyspace: KeyspaceId::DEFAULT,
        level: 0,
        file_bytes: bytes,
        checksum: 0,
        smallest_key: number_key(first),
        largest_key: number_key(last),
        seqno_min: SeqNo::ZERO,
        seqno_max: SeqNo::ZERO,
        entry_count: 0,
        tombstone_count: 0,
        key_bytes: 0,
        value_bytes: 0,
        data_block_count: 1,
        partition_count: 1,
        data_bytes: bytes,
        compression: Compression::None,
        filter_bits_per_key: 0,
        extras: TableExtras::default(),
    }
}

/// The key for a number in an [`imagined_table`]: bytes that sort like the numbers.
#[must_use]
pub(crate) fn number_key(number: u64) -> Vec<u8> {
    // Not `to_be_bytes`, which a lint reserves for what is written to disk.
    (0..8).rev().map(|byte| (number >> (8 * byte)) as u8).collect()
}

/// The number of a key of an [`imagined_table`].
#[must_use]
pub(crate) fn key_number(key: &[u8]) -> u64 {
    key.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers() {
        let numbers = [0, 1, 255, 256, 65_535, 1 << 31, u64::MAX];
        assert!(numbers.map(number_key).is_sorted());
        assert_eq!(numbers.map(|number| key_number(&number_key(number))), numbers);
    }
}
