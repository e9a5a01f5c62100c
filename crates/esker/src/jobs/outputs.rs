//! Running flushes and compactions: their table options, ids and interruptions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use esker_base::TableId;
use esker_memtable::Memtable;
use esker_table::{Compression, TableOptions, TableProperties};
use esker_tree::{
    CompactedPart, CompactionOutput, Filter, FlushInput, Job, JobError, LEVEL_COUNT_MAX, PartRange,
    Plan, PlanReason, Progress, Readers, Shape, Signal, TargetLevel, Version, compact_part, flush,
    join_parts, split,
};

use crate::counters::Counters;
use crate::engine::Engine;
use crate::engine::snapshots::Hold;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace_core::read_view::WriteBuffer;
use crate::keyspace_core::write_times::{WriteTimes, as_millis};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::KeyspaceOptions;
use crate::running::JobRecord;
use crate::scheduler::on_demand::OnDemand;
use crate::scheduler::shared_merge::{MergeInputs, SharedMerge};

/// A compaction that is being carried out.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    /// The version that the plan was made for.
    pub(crate) version: &'a Arc<Version>,
    pub(crate) plan: &'a Plan,
    pub(crate) record: &'a Arc<JobRecord>,
    /// The compaction on demand that it belongs to, if any.
    pub(crate) task: Option<&'a Arc<OnDemand>>,
}

/// A part of a compaction has at least a table divided by this: it ends with a table that is not
/// full, and needs some syncs, which cost about one millisecond of the forty that it saves.
const PARTS_PER_TABLE_MAX: u64 = 4;

/// Parts for each thread that may take them: a thread that comes late, or has more urgent work,
/// leaves more of them to the others, and is never busy for longer than one part takes.
const PARTS_PER_THREAD: usize = 4;

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
        // Never cancelled: if the process ends, the log still has what the memtables have.
        self.with_job(
            (keyspace, passed_millis, progress),
            || {
                self.serve_log();
                self.write_overdue();
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
    /// right to install the result. Abandoned when the engine stops.
    ///
    /// A sequence number pinned while the filter is at work may see what it removes. So if that has
    /// happened and the filter has removed or changed anything, the inputs are merged again without
    /// it.
    pub(crate) fn merge_tables(
        &self,
        keyspace: &Arc<KeyspaceCore>,
        work: Work<'_>,
    ) -> Result<(CompactionOutput, Option<Hold<'_>>)> {
        let readers = self.readers();
        let filter = keyspace.settings().filter.clone();
        let latest = readers.0.latest();
        let output = self.merge_tables_for(keyspace, work, readers, filter)?;
        if output.filtered == 0 {
            return Ok((output, None));
        }
        if esker_base::planted::is("filter-beside-a-new-snapshot") {
            return Ok((output, None));
        }
        if let Some(hold) = self.snapshots.hold_from(latest) {
            return Ok((output, Some(hold)));
        }
        self.remove_outputs(output.added.iter());
        work.record.progress.clear();
        Ok((self.merge_tables_for(keyspace, work, self.readers(), None)?, None))
    }

    /// Merges the inputs; large ones in parts, which idle threads take too.
    fn merge_tables_for(
        &self,
        keyspace: &Arc<KeyspaceCore>,
        work: Work<'_>,
        (readers, passed_millis): (Readers, u64),
        filter: Option<Filter>,
    ) -> Result<CompactionOutput> {
        let Work { version, plan, record, task } = work;
        // A filter is promised that it sees all keys of a compaction, in order.
        let parts = match filter {
            Some(_) => vec![PartRange::whole()],
            None => self.cut(keyspace, work)?,
        };
        let inputs = MergeInputs {
            version: Arc::clone(version),
            plan: plan.clone(),
            readers,
            passed_millis,
            filter,
            mark: keyspace.write_mark(),
        };
        let merge = Arc::new(SharedMerge::new(keyspace, task, record, inputs, parts));
        if merge.part_count() > 1 {
            Counters::add(&self.counters.split_compactions, 1);
            self.scheduler.request_parts(&merge);
        }
        while self.merge_next_part(&merge) {}
        self.serve_until(task.map(|task| &**task), || merge.has_ended());
        join_parts(plan, merge.take()?).map_err(|error| error_of(keyspace, error, None))
    }

    /// The parts of a compaction: a single one, unless several threads could share more.
    fn cut(&self, keyspace: &KeyspaceCore, work: Work<'_>) -> Result<Vec<PartRange>> {
        let Work { version, plan, task, .. } = work;
        let thread_count = self.threads_for(task.map(|task| &**task));
        let worth = keyspace.settings().table_bytes / PARTS_PER_TABLE_MAX;
        let (count_max, bytes_min) = match self.options.part_bytes {
            Some(bytes) => (PARTS_PER_THREAD, bytes),
            None if thread_count < 2 => (1, worth),
            None => (thread_count * PARTS_PER_THREAD, worth),
        };
        Ok(split(version, plan, count_max, bytes_min)?)
    }

    /// Merges a part that no thread has taken, if there is one.
    pub(crate) fn merge_next_part(&self, merge: &SharedMerge) -> bool {
        let Some((part, inputs)) = merge.begin_part() else { return false };
        let work = || self.merge_part(merge, &inputs, merge.range(part));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        drop(inputs);
        merge.end_part(part, outcome);
        self.scheduler.wake();
        true
    }

    fn merge_part(
        &self,
        merge: &SharedMerge,
        inputs: &MergeInputs,
        range: &PartRange,
    ) -> Result<CompactedPart> {
        let keyspace = &*merge.keyspace;
        let task = merge.task.as_deref();
        let is_cancelled = || task.is_some_and(OnDemand::is_cancelled) || merge.has_failed();
        let must_end = || self.scheduler.is_stopping() || keyspace.is_dropped() || is_cancelled();
        let blocks = Cell::new(0);
        let interrupt = || {
            self.write_overdue();
            self.hold_back(task, must_end);
            self.pace_compaction(keyspace, &blocks, || {
                self.hold_back(task, must_end);
                must_end()
            });
            let is_idle = inputs.plan.reason == PlanReason::Idle;
            let gives_way = is_idle && keyspace.write_mark() != inputs.mark;
            if must_end() || gives_way { Signal::Cancel } else { Signal::Continue }
        };
        let name = keyspace.name();
        let filter = inputs.filter.as_ref().map(|filter| (filter, &*name));
        let MergeInputs { version, plan, readers, passed_millis, .. } = inputs;
        self.with_job((keyspace, *passed_millis, &merge.record.progress), interrupt, |job| {
            compact_part(&Job { filter, ..*job }, version, plan, readers, range)
        })
    }

    /// The readers, for a job that starts now, and the time that they have all passed.
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
            options: &|target| table_options(keyspace, &settings, target),
            blobs: settings.blob_options(self.wall()),
            next_id: &|| {
                self.ledger.allocate_table().map_err(|error| *no_id.borrow_mut() = Some(error)).ok()
            },
            interrupt: &interrupt,
            progress,
        });
        result.map_err(|error| error_of(keyspace, error, no_id.take()))
    }
}

/// The error for a failed job of `keyspace`; `no_id` is why it could not get an id for a table.
fn error_of(keyspace: &KeyspaceCore, error: JobError, no_id: Option<Error>) -> Error {
    match (error, no_id) {
        (_, Some(error)) => error,
        (JobError::File(error), None) => error.into(),
        (JobError::UnsupportedKind(error), None) => error.into(),
        (JobError::Filter(error), None) => keyspace.filter_error(error),
        (JobError::Cancelled, None) => keyspace.check_live().err().unwrap_or_else(|| {
            Error::new(ErrorKind::Closed, "the job was cancelled because the database closes")
        }),
    }
}

pub(crate) fn table_options(
    keyspace: &KeyspaceCore,
    settings: &Settings,
    target: TargetLevel,
) -> TableOptions {
    let options = &settings.options;
    let (compression, zstd_dictionary_bytes) = compression_of(options, target);
    TableOptions {
        block_size_bytes: options.block_size_bytes as usize,
        compression,
        filter_bits_per_key: options.filter_bits_per_key,
        prefix_rule: options.prefix_filter,
        zstd_level: options.zstd_level,
        zstd_dictionary_bytes,
        keyspace: keyspace.described(settings),
    }
}

/// How tables of a level are compressed, and with how large a dictionary.
fn compression_of(options: &KeyspaceOptions, target: TargetLevel) -> (Compression, u32) {
    let is_last = target.level > 0 && target.deepest <= target.level;
    let compression = match options.last_level_compression.filter(|_| is_last) {
        Some(compression) => compression,
        None if target.is_deep() => options.compression,
        None => options.shallow_compression,
    };
    let compression = compression.of_tables();
    let has_dictionary = is_last && compression == Compression::Zstd;
    (compression, if has_dictionary { options.zstd_dictionary_bytes } else { 0 })
}

/// How tables of the last level are compressed.
pub(crate) fn compression_of_last_level(options: &KeyspaceOptions) -> Compression {
    let level = LEVEL_COUNT_MAX - 1;
    compression_of(options, TargetLevel { level, deepest: level }).0
}

/// The plan, as a merge if it would move tables to a level that is compressed in another way.
pub(crate) fn with_compression(options: &KeyspaceOptions, plan: Plan, shape: &Shape) -> Plan {
    if !plan.is_trivial_move {
        return plan;
    }
    let filled = shape.levels.iter().rposition(|level| !level.runs.is_empty()).unwrap_or(0);
    let level = plan.target_level;
    let target = TargetLevel { level, deepest: filled.max(level) };
    let (compression, dictionary_bytes) = compression_of(options, target);
    let stays = |table: &Arc<TableProperties>| {
        let needs_dictionary = dictionary_bytes > 0 && table.extras.dictionary.is_none();
        table.compression == compression && !needs_dictionary
    };
    let inputs: BTreeSet<TableId> = plan.tables().collect();
    let tables = shape.levels.iter().flat_map(|level| level.tables());
    let all_stay = tables.filter(|table| inputs.contains(&table.id)).all(stays);
    if all_stay { plan } else { plan.as_merge(shape) }
}

#[cfg(test)]
mod tests {
    use esker_base::KeyspaceId;
    use esker_cache::Budget;
    use esker_tree::Version;

    use super::*;
    use crate::options::{Compression, KeyspaceOptions};

    #[test]
    fn each_level_has_the_compression_that_its_depth_asks_for() {
        let compressions = |options: KeyspaceOptions| {
            let settings = Settings::new(options, 64 << 20);
            let version = Version::new(KeyspaceId::DEFAULT);
            let budget = Budget::new(64 << 20);
            let core = KeyspaceCore::new(KeyspaceId::DEFAULT, "k", settings, version, &budget);
            let settings = core.settings();
            let places = [(0, 0), (0, 6), (4, 6), (5, 6), (6, 6), (3, 3)];
            places.map(|(level, deepest)| {
                let target = TargetLevel { level, deepest };
                table_options(&core, &settings, target).compression.as_byte()
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
