//! The sorted runs that a load has spilled: never more of them than can be merged at once.
//!
//! Each run that is read takes a file and a megabyte of read-ahead. So as many neighbours as are merged at
//! a time become one run as soon as they are there, and of those again as many: an entry is written once
//! more for each time that the number of runs has grown by that factor.
//!
//! Does not know where the entries come from, nor what the tables are for that they go to in the end.

use esker_base::KeyRange;
use esker_tree::{Cursor as _, MergingCursor, RunCursor};

use crate::error::Result;
use crate::load::table_sequence::TableSequence;

/// Least and most runs that are merged at a time. Sixteen gibibytes are 64 runs of the largest buffer.
const FAN_IN_MIN: u64 = 8;
const FAN_IN_MAX: u64 = 64;

/// What each run is charged where memory is short: what a reader of it reads ahead.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// Runs from the oldest to the newest.
pub(super) struct SpilledRuns {
    /// With how many merges it has come out of.
    runs: Vec<(u32, TableSequence)>,
    fan_in: usize,
    spilled: usize,
}

impl SpilledRuns {
    /// Of a load that has so much for its buffer, in bytes: reading takes no more than that, where it is
    /// not very little.
    pub(super) fn new(buffer_bytes_max: u64) -> Self {
        let fan_in = (buffer_bytes_max / READ_AHEAD_BYTES).clamp(FAN_IN_MIN, FAN_IN_MAX);
        Self { runs: Vec::new(), fan_in: fan_in as usize, spilled: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many runs were added.
    pub(super) const fn spilled(&self) -> usize {
        self.spilled
    }

    /// Adds a run that is newer than all others, and ended. If neighbours are merged, it is into what
    /// `output` makes. Returns how many of their entries others replaced.
    ///
    /// # Errors
    /// Of reading and writing tables. All entries are still there.
    pub(super) fn push(
        &mut self,
        run: TableSequence,
        output: impl Fn() -> TableSequence,
    ) -> Result<u64> {
        self.spilled += 1;
        self.runs.push((0, run));
        let mut replaced = 0;
        while let Some(start) = self.crowd() {
            let (merges, _) = self.runs[start];
            let mut output = output();
            replaced += merge(&self.runs[start..], &mut output)?;
            // Behind that, since what is dropped takes along what is not written yet.
            self.runs.truncate(start);
            self.runs.push((merges + 1, output));
        }
        Ok(replaced)
    }

    /// Where the newest runs begin, if so many have come out of equally many merges as are merged at once.
    fn crowd(&self) -> Option<usize> {
        let (merges, _) = self.runs.last()?;
        let alike = self.runs.iter().rev().take_while(|(other, _)| other == merges).count();
        (self.fan_in <= alike).then(|| self.runs.len() - alike)
    }

    /// Merges all runs into `output`, which is ended, written and durable then. Returns how many entries
    /// others replaced.
    ///
    /// # Errors
    /// Of reading and writing tables.
    pub(super) fn merge_into(&self, output: &mut TableSequence) -> Result<u64> {
        merge(&self.runs, output)
    }
}

/// Merges runs, the oldest first, into `output`; of entries with one key the newest stays.
fn merge(runs: &[(u32, TableSequence)], output: &mut TableSequence) -> Result<u64> {
    let all = KeyRange::all();
    runs.iter().try_for_each(|(_, run)| run.settle())?;
    let runs = runs.iter().rev().map(|(_, run)| run.run()).collect::<Result<Vec<_>>>()?;
    // Newest first: of equal keys, all at sequence number zero, the newest run's comes first.
    let cursors = runs.into_iter().map(|run| RunCursor::last_reader(run, &all)).collect();
    let mut cursor = MergingCursor::new(cursors);
    let (mut last, mut replaced): (Option<Vec<u8>>, _) = (None, 0);
    cursor.seek_to_first()?;
    while cursor.is_valid() {
        let (_, current) = cursor.current();
        let key = current.key().user_key;
        match &mut last {
            Some(last) if last == key => replaced += 1,
            last => {
                output.put(key, current.value())?;
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            }
        }
        cursor.next()?;
    }
    output.end()?;
    output.settle()?;
    Ok(replaced)
}
