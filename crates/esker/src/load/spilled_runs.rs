//! The sorted runs that a load has spilled: never more than can be merged at once.
//!
//! Each run being read takes a file and a megabyte of read-ahead. So as soon as there are as many
//! adjacent runs as are merged at a time, they become one run, and so on recursively: an entry is
//! rewritten once each time the number of runs has grown by that factor.
//!
//! Does not know where entries come from, nor what the final tables are for.

use esker_base::KeyRange;
use esker_tree::{Cursor as _, MergingCursor, RunCursor};

use crate::error::Result;
use crate::load::table_sequence::TableSequence;

/// Least and most runs merged at a time. Sixteen gibibytes are 64 runs of the largest buffer.
const FAN_IN_MIN: u64 = 8;
const FAN_IN_MAX: u64 = 64;

/// What each run is charged if memory is short: the read-ahead of its reader.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// Runs from the oldest to the newest.
pub(super) struct SpilledRuns {
    /// Each with the number of merges that it went through.
    runs: Vec<(u32, TableSequence)>,
    fan_in: usize,
    spilled: usize,
}

impl SpilledRuns {
    /// For a load with this many bytes for its buffer: reading takes no more than that, unless it
    /// is very little.
    pub(super) fn new(buffer_bytes_max: u64) -> Self {
        let fan_in = (buffer_bytes_max / READ_AHEAD_BYTES).clamp(FAN_IN_MIN, FAN_IN_MAX);
        Self { runs: Vec::new(), fan_in: fan_in as usize, spilled: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many runs have been added.
    pub(super) const fn spilled(&self) -> usize {
        self.spilled
    }

    /// Adds a finished run that is newer than all others. If adjacent runs are merged, the result
    /// goes to what `output` creates. Returns how many of their entries were replaced by others.
    ///
    /// # Errors
    /// Of reading and writing tables. All entries still exist.
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
            // After the merge, since dropping a run removes whatever is not written yet.
            self.runs.truncate(start);
            self.runs.push((merges + 1, output));
        }
        Ok(replaced)
    }

    /// Where the newest runs begin, if enough for a merge went through the same number of merges.
    fn crowd(&self) -> Option<usize> {
        let (merges, _) = self.runs.last()?;
        let alike = self.runs.iter().rev().take_while(|(other, _)| other == merges).count();
        (self.fan_in <= alike).then(|| self.runs.len() - alike)
    }

    /// Merges all runs into `output`, which is then finished, written and durable. Returns how many
    /// entries were replaced by others.
    ///
    /// # Errors
    /// Of reading and writing tables.
    pub(super) fn merge_into(&self, output: &mut TableSequence) -> Result<u64> {
        merge(&self.runs, output)
    }
}

/// Merges runs, oldest first, into `output`; of entries with one key the newest stays.
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
