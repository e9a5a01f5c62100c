//! How flushes and compactions are started: with which table options, ids and interrupts.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use esker_memtable::Memtable;
use esker_table::{TableOptions, TableProperties};
use esker_tree::{
    CompactionOutput, Filter, FlushInput, Job, JobError, Plan, PlanReason, Progress, Readers,
    Signal, TargetLevel, Version, compact, flush,
};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::on_demand::OnDemand;
use crate::read_view::WriteBuffer;
use crate::snapshots::Hold;
use crate::write_times::{WriteTimes, as_millis};

/// A compaction that is being carried out.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    /// What the plan was made for.
    pub(crate) version: &'a Version,
    pub(crate) plan: &'a Plan,
    pub(crate) progress: &'a Progress,
    /// Who asked for it, if somebody did.
    pub(crate) task: Option<&'a OnDemand>,
}

impl Engine {
    /// Writes the entries of `buffers`, oldest first, to new tables of level 0.
    pub(crate) fn write_memtables(
        &self,
        keyspace: &KeyspaceCore,
        buffers: &[Arc<WriteBuffer>],
        progress: &Progress,
    ) -> Result<Vec<TableProperties>> {
        let memtables: Vec<Arc<Memtable>> =
            buffers.iter().map(|buffer| Arc::clone(&buffer.memtable)).collect();
        let version = Arc::clone(&keyspace.view().version);
        let (readers, passed_millis) = self.readers();
        let table_bytes_max = keyspace.settings().table_bytes;
        let times = buffers.iter().map(|buffer| &buffer.times);
        let times = WriteTimes::joined(times, as_millis(self.wall()));
        // Never cancelled: at the end of the process the log still has what the memtables have.
        self.with_job(
            (keyspace, passed_millis, progress),
            || {
                self.serve_log();
                Signal::Continue
            },
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

    /// Merges the inputs of a plan, with the compaction filter if there is one, and returns the
    /// right to install the result. Given up when the engine stops.
    ///
    /// Whoever pins a sequence number while the filter is at work may be promised what it removes.
    /// So if it has removed or changed anything then, the inputs are merged again without it.
    pub(crate) fn merge_tables(
        &self,
        keyspace: &KeyspaceCore,
        work: Work<'_>,
    ) -> Result<(CompactionOutput, Option<Hold<'_>>)> {
        let settings = keyspace.settings();
        let name = keyspace.name();
        let filter = settings.filter.as_ref().map(|filter| (filter, &*name));
        let readers = self.readers();
        let output = self.merge_tables_for(keyspace, work, &readers, filter)?;
        if output.filtered == 0 {
            return Ok((output, None));
        }
        if let Some(hold) = self.snapshots.hold_from(readers.0.latest()) {
            return Ok((output, Some(hold)));
        }
        self.remove_outputs(output.added.iter());
        let readers = self.readers();
        Ok((self.merge_tables_for(keyspace, work, &readers, None)?, None))
    }

    fn merge_tables_for(
        &self,
        keyspace: &KeyspaceCore,
        work: Work<'_>,
        (readers, passed_millis): &(Readers, u64),
        filter: Option<(&Filter, &str)>,
    ) -> Result<CompactionOutput> {
        let mark = keyspace.write_mark();
        let Work { version, plan, progress, task } = work;
        let is_cancelled = || task.is_some_and(OnDemand::is_cancelled);
        let must_end = || self.scheduler.is_stopping() || keyspace.is_dropped() || is_cancelled();
        let blocks = Cell::new(0);
        let interrupt = || {
            self.hold_back(task, must_end);
            self.pace_compaction(keyspace, &blocks, must_end);
            let gives_way = plan.reason == PlanReason::Idle && keyspace.write_mark() != mark;
            if must_end() || gives_way { Signal::Cancel } else { Signal::Continue }
        };
        self.with_job((keyspace, *passed_millis, progress), interrupt, |job| {
            compact(&Job { filter, ..*job }, version, plan, readers)
        })
    }

    /// Who reads now, for a job that starts now, and the time that they have all passed.
    pub(crate) fn readers(&self) -> (Readers, u64) {
        let readers = self.snapshots.readers();
        (Readers::new(&readers.snapshots, readers.visible), readers.passed_millis)
    }

    fn with_job<T>(
        &self,
        (keyspace, passed_millis, progress): (&KeyspaceCore, u64, &Progress),
        interrupt: impl Fn() -> Signal,
        work: impl FnOnce(&Job<'_>) -> std::result::Result<T, JobError>,
    ) -> Result<T> {
        let settings = keyspace.settings();
        let mut context = self.read_context(keyspace, passed_millis);
        if let Some(blobs) = &mut context.blobs {
            blobs.fill_cache = false;
        }
        let no_id = RefCell::new(None);
        let result = work(&Job {
            tables: &self.tables,
            keyspace: keyspace.id,
            context: &context,
            filter: None,
            options: &|target| table_options(&settings, target),
            blobs: settings.blob_options(self.wall()),
            next_id: &|| {
                self.ledger.allocate_table().map_err(|error| *no_id.borrow_mut() = Some(error)).ok()
            },
            interrupt: &interrupt,
            progress,
        });
        result.map_err(|error| match (error, no_id.take()) {
            (_, Some(error)) => error,
            (JobError::File(error), None) => error.into(),
            (JobError::UnsupportedKind(error), None) => error.into(),
            (JobError::Filter(error), None) => Error::new(ErrorKind::UserCode, error.to_string()),
            (JobError::Cancelled, None) => {
                Error::new(ErrorKind::Closed, "the job was cancelled because the database closes")
            }
        })
    }
}

pub(crate) fn table_options(settings: &Settings, target: TargetLevel) -> TableOptions {
    let options = &settings.options;
    let is_last = target.level > 0 && target.deepest <= target.level;
    let compression = match options.last_level_compression.filter(|_| is_last) {
        Some(compression) => compression,
        None if target.is_deep() => options.compression,
        None => options.shallow_compression,
    };
    TableOptions {
        block_size_bytes: options.block_size_bytes as usize,
        compression: compression.of_tables(),
        filter_bits_per_key: options.filter_bits_per_key,
        zstd_level: options.zstd_level,
        zstd_dictionary_bytes: if is_last { options.zstd_dictionary_bytes } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Compression, KeyspaceOptions};

    #[test]
    fn each_level_has_the_compression_that_its_depth_asks_for() {
        let compressions = |options: KeyspaceOptions| {
            let settings = Settings::new(options, 64 << 20);
            let places = [(0, 0), (0, 6), (4, 6), (5, 6), (6, 6), (3, 3)];
            places.map(|(level, deepest)| {
                table_options(&settings, TargetLevel { level, deepest }).compression.as_byte()
            })
        };
        assert_eq!(compressions(KeyspaceOptions::default()), [1; 6]);
        let options = KeyspaceOptions {
            shallow_compression: Compression::Lz4,
            compression: Compression::None,
            ..KeyspaceOptions::default()
        };
        assert_eq!(compressions(options.clone()), [1, 1, 1, 0, 0, 0]);
        let last_level_compression = Some(Compression::Lz4);
        let options = KeyspaceOptions { last_level_compression, ..options };
        assert_eq!(compressions(options), [1, 1, 1, 0, 1, 1]);
    }
}
