//! The benchmarks that work on the database as a whole.

use crate::failure::Result;

use super::session::Session;
use super::work::Work;

/// How often the database is opened: one open is too short to be reliable.
const OPEN_COUNT: u64 = 5;

impl Session<'_> {
    /// An operation is an entry that existed before, with versions and tombstones counted
    /// separately.
    pub(super) fn compact(&self) -> Result<Work> {
        let mut work = Work::start(self.clock);
        let levels = self.db().levels();
        let in_memory: u64 = levels.memtables.iter().map(|memtable| memtable.entry_count).sum();
        let in_tables: u64 =
            self.db().stats().keyspaces.iter().map(|keyspace| keyspace.table_entries).sum();
        self.db().compact_all()?;
        work.operations = in_memory + in_tables;
        Ok(work)
    }

    /// An operation is a close and an open; latencies are those of the opens alone.
    pub(super) fn open_again(&mut self) -> Result<Work> {
        let mut work = Work::start(self.clock);
        for _ in 0..OPEN_COUNT {
            self.close()?;
            work.latencies.restart();
            self.open()?;
            work.latencies.lap();
            work.operations += 1;
        }
        Ok(work)
    }
}
