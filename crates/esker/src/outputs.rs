//! How flushes and compactions are started: with which table options, ids and interrupts.

use std::cell::RefCell;
use std::sync::Arc;

use esker_memtable::Memtable;
use esker_table::{TableOptions, TableProperties};
use esker_tree::{
    CompactionOutput, FlushInput, Job, JobError, Plan, Progress, Readers, Signal, TargetLevel,
    Version, compact, flush,
};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::read_view::WriteBuffer;
use crate::write_times::{WriteTimes, as_millis};

impl Engine {
    /// Writes the entries of `buffers`, oldest first, to new tables of level 0.
    pub(crate) fn write_memtables(
        &self,
        keyspace: &KeyspaceCore,
        buffers: &[Arc<WriteBuffer>],
    ) -> Result<Vec<TableProperties>> {
        let memtables: Vec<Arc<Memtable>> =
            buffers.iter().map(|buffer| Arc::clone(&buffer.memtable)).collect();
        let version = Arc::clone(&keyspace.view().version);
        let readers = self.readers();
        let table_bytes_max = keyspace.settings().table_bytes;
        let times = buffers.iter().map(|buffer| &buffer.times);
        let times = WriteTimes::joined(times, as_millis(self.wall()));
        // Never cancelled: at the end of the process the log still has what the memtables have.
        self.with_job(
            keyspace,
            || Signal::Continue,
            |job| {
                let input = FlushInput {
                    memtables: &memtables,
                    version: &version,
                    readers: &readers,
                    table_bytes_max,
                    times,
                };
                flush(job, input)
            },
        )
    }

    /// Merges the inputs of `plan`. Given up when the engine stops.
    pub(crate) fn merge_tables(
        &self,
        keyspace: &KeyspaceCore,
        version: &Version,
        plan: &Plan,
    ) -> Result<CompactionOutput> {
        let readers = self.readers();
        let interrupt = || {
            if self.scheduler.is_stopping() || keyspace.is_dropped() {
                Signal::Cancel
            } else {
                Signal::Continue
            }
        };
        self.with_job(keyspace, interrupt, |job| compact(job, version, plan, &readers))
    }

    /// Who reads now, for a job that starts now.
    fn readers(&self) -> Readers {
        let readers = self.snapshots.readers();
        Readers::new(&readers.snapshots, readers.visible)
    }

    fn with_job<T>(
        &self,
        keyspace: &KeyspaceCore,
        interrupt: impl Fn() -> Signal,
        work: impl FnOnce(&Job<'_>) -> std::result::Result<T, JobError>,
    ) -> Result<T> {
        let settings = keyspace.settings();
        let context = keyspace.read_context();
        let no_id = RefCell::new(None);
        let result = work(&Job {
            tables: &self.tables,
            keyspace: keyspace.id,
            context: &context,
            options: &|target| table_options(&settings, target),
            next_id: &|| {
                self.ledger.allocate_table().map_err(|error| *no_id.borrow_mut() = Some(error)).ok()
            },
            interrupt: &interrupt,
            progress: &Progress::default(),
        });
        result.map_err(|error| match (error, no_id.take()) {
            (_, Some(error)) => error,
            (JobError::File(error), None) => error.into(),
            (JobError::UnsupportedKind(error), None) => error.into(),
            (JobError::Cancelled, None) => {
                Error::new(ErrorKind::Closed, "the job was cancelled because the database closes")
            }
        })
    }
}

pub(crate) fn table_options(settings: &Settings, target: TargetLevel) -> TableOptions {
    let options = &settings.options;
    let deep = options.compression.of_tables();
    TableOptions {
        block_size_bytes: options.block_size_bytes as usize,
        compression: match target.compression() {
            esker_table::Compression::None => esker_table::Compression::None,
            _ => deep,
        },
        filter_bits_per_key: options.filter_bits_per_key,
    }
}
