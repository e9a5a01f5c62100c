//! The options of a run, chosen by its input: so small that much happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::doctor::Doctor;
use esker::env::Env;
use esker::operators::Append;
use esker::{
    CompactionFilter, CompactionFilterFactory, CompactionPolicy, Compression, Db, DbBuilder,
    FifoOptions, Filter, FilterContext, FilterDecision, FilterFailure, Keyspace, KeyspaceOptions,
    LazyOptions, LeveledByBytesOptions, Merge, Options, Order, PrefixRule, SimpleOptions,
    TieredOptions, TimeWindowOptions, UniversalOptions,
};

use super::input::Input;
use super::{DIR, NAMES, model};

/// Where the log lies if it lies apart.
const LOG_DIR: &str = "logs";

/// Options that may change at any open, and the orders of keys, which never do.
pub(super) struct Settings {
    options: Options,
    keyspace: KeyspaceOptions,
    pub(super) is_reversed: [bool; NAMES.len()],
}

impl Settings {
    pub(super) fn choose(input: &mut Input<'_>) -> Self {
        let byte = input.byte();
        let is_reversed = [byte % 4 == 1, byte % 4 > 1];
        let log_dir = (byte / 4 % 4 == 1).then(|| PathBuf::from(LOG_DIR));
        let options = Options { log_dir, ..Options::default() };
        let mut settings = Self { options, keyspace: KeyspaceOptions::default(), is_reversed };
        settings.change(input);
        settings
    }

    /// Chooses all again but the orders, and where the log lies.
    pub(super) fn change(&mut self, input: &mut Input<'_>) {
        let memory_budget_bytes = input.pick(&[0, 512 << 20, 8 << 20]);
        let cache_bytes = input.pick(&[None, Some(0), Some(20_000)]);
        let log_compression_threshold_bytes = input.pick(&[None, Some(0), Some(100)]);
        let byte = input.byte();
        self.options = Options {
            background_threads: 0,
            memory_budget_bytes,
            cache_bytes,
            log_dir: self.options.log_dir.clone(),
            log_segment_bytes: 0,
            log_compression_threshold_bytes,
            warm_cache: byte % 2 == 1,
            part_bytes: input.pick(&[None, Some(1), Some(1500)]),
            ..Options::default()
        };
        let compaction = compaction(input);
        let keeps_ages_apart =
            matches!(compaction, CompactionPolicy::TimeWindow(_) | CompactionPolicy::Fifo(_));
        let upkeep = if keeps_ages_apart { 0 } else { byte / 2 % 4 };
        let due = |number, seconds| (upkeep == number).then(|| Duration::from_secs(seconds));
        let compressions = [Compression::Lz4, Compression::None];
        self.keyspace = KeyspaceOptions {
            compaction,
            compression: input.pick(&compressions),
            shallow_compression: input.pick(&compressions),
            block_size_bytes: input.pick(&[256, 512, 4096]),
            filter_bits_per_key: input.pick(&[10, 0, 1]),
            prefix_filter: prefix_filter(input),
            memtable_bytes: input.pick(&[64 << 20, 1, 2_000, 20_000]),
            delete_deadline: due(1, 10),
            periodic_compaction: due(2, 60),
            idle_compaction: due(3, 5),
            blob_threshold_bytes: input.pick(&[None, Some(32), Some(100), Some(1_000)]),
            blob_waste_percent_max: input.pick(&[30, 1, 95]),
            merge_operator: Some(Merge::new(Append::new(model::SEPARATOR))),
            compaction_filter: (byte / 8 % 4 == 1).then(|| Filter::new(NoteTaker)),
            ..KeyspaceOptions::default()
        };
    }

    pub(super) fn builder(&self, env: &Env) -> DbBuilder {
        let builder = Db::builder(DIR).env(env.clone()).options(self.options.clone());
        builder.default_keyspace(self.of(0))
    }

    pub(super) fn log_dir(&self) -> &Path {
        self.options.log_dir.as_deref().unwrap_or(Path::new(DIR))
    }

    pub(super) fn doctor(&self, env: &Env) -> Doctor {
        let doctor = Doctor::new(DIR).env(env.clone());
        match &self.options.log_dir {
            Some(log_dir) => doctor.log_dir(log_dir),
            None => doctor,
        }
    }

    pub(super) fn open(&self, env: &Env) -> esker::Result<(Db, [Keyspace; NAMES.len()])> {
        let db = self.builder(env).open()?;
        let second = self.second(&db)?;
        let keyspaces = [db.default_keyspace().clone(), second];
        Ok((db, keyspaces))
    }

    /// The second keyspace, which is made if it is not there.
    pub(super) fn second(&self, db: &Db) -> esker::Result<Keyspace> {
        db.keyspace(NAMES[1], self.of(1))
    }

    pub(super) fn of(&self, number: usize) -> KeyspaceOptions {
        let is_reversed = self.is_reversed[number];
        let order = if is_reversed { Order::reverse_bytewise() } else { Order::bytewise() };
        KeyspaceOptions { order, ..self.keyspace.clone() }
    }
}

/// Puts a note behind values of some lengths.
struct NoteTaker;

impl CompactionFilterFactory for NoteTaker {
    fn name(&self) -> &str {
        "note taker"
    }

    fn create(&self, _: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(Self)
    }
}

impl CompactionFilter for NoteTaker {
    fn filter(&mut self, _: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        let is_noted = !value.len().is_multiple_of(3) || value.contains(&model::NOTE);
        let noted = || FilterDecision::Change([value, &[model::NOTE]].concat());
        Ok(if is_noted { FilterDecision::Keep } else { noted() })
    }
}

/// A policy that drops nothing.
fn compaction(input: &mut Input<'_>) -> CompactionPolicy {
    let byte = input.byte();
    match byte {
        250..=252 => return CompactionPolicy::TimeWindow(TimeWindowOptions::default()),
        253..=255 => return CompactionPolicy::Fifo(FifoOptions::default()),
        _ => {}
    }
    let all = [
        CompactionPolicy::Leveled,
        CompactionPolicy::None,
        CompactionPolicy::Simple(SimpleOptions {
            size_ratio_percent: 200,
            level0_file_num_compaction_trigger: 2,
            max_levels: 3,
        }),
        CompactionPolicy::Tiered(TieredOptions { num_tiers: 3, ..TieredOptions::default() }),
        CompactionPolicy::LeveledByBytes(LeveledByBytesOptions {
            level0_file_num_compaction_trigger: 2,
            max_levels: 3,
            ..LeveledByBytesOptions::default()
        }),
        CompactionPolicy::Universal(UniversalOptions::default()),
        CompactionPolicy::Lazy(LazyOptions::default()),
    ];
    all[usize::from(byte) % all.len()]
}

fn prefix_filter(input: &mut Input<'_>) -> Option<PrefixRule> {
    input.pick(&[
        None,
        Some(PrefixRule::First(1)),
        Some(PrefixRule::First(2)),
        Some(PrefixRule::Through(b'b')),
    ])
}
