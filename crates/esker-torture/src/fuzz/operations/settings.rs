//! The options of a run, chosen by its input: so small that much happens.

use esker::env::Env;
use esker::operators::Append;
use esker::{
    CompactionPolicy, Compression, Db, Keyspace, KeyspaceOptions, LazyOptions,
    LeveledByBytesOptions, Merge, Options, Order, PrefixRule, SimpleOptions, TieredOptions,
    UniversalOptions,
};

use super::input::Input;
use super::{DIR, NAMES, model};

/// Options that may change at any open, and the orders of keys, which never do.
pub(super) struct Settings {
    options: Options,
    keyspace: KeyspaceOptions,
    pub(super) is_reversed: [bool; NAMES.len()],
}

impl Settings {
    pub(super) fn choose(input: &mut Input<'_>) -> Self {
        let orders = input.byte();
        let is_reversed = [orders % 4 == 1, orders % 4 > 1];
        let mut settings =
            Self { options: Options::default(), keyspace: KeyspaceOptions::default(), is_reversed };
        settings.change(input);
        settings
    }

    /// Chooses all again but the orders.
    pub(super) fn change(&mut self, input: &mut Input<'_>) {
        self.options = Options {
            background_threads: 0,
            memory_budget_bytes: input.pick(&[0, 512 << 20, 8 << 20]),
            cache_bytes: input.pick(&[None, Some(0), Some(20_000)]),
            log_segment_bytes: 0,
            log_compression_threshold_bytes: input.pick(&[None, Some(0), Some(100)]),
            warm_cache: input.below(2) == 1,
            part_bytes: input.pick(&[None, Some(1), Some(1500)]),
            ..Options::default()
        };
        let compressions = [Compression::Lz4, Compression::None];
        self.keyspace = KeyspaceOptions {
            compaction: compaction(input),
            compression: input.pick(&compressions),
            shallow_compression: input.pick(&compressions),
            block_size_bytes: input.pick(&[256, 512, 4096]),
            filter_bits_per_key: input.pick(&[10, 0, 1]),
            prefix_filter: prefix_filter(input),
            memtable_bytes: input.pick(&[64 << 20, 1, 2_000, 20_000]),
            blob_threshold_bytes: input.pick(&[None, Some(32), Some(100), Some(1_000)]),
            blob_waste_percent_max: input.pick(&[30, 1, 95]),
            merge_operator: Some(Merge::new(Append::new(model::SEPARATOR))),
            ..KeyspaceOptions::default()
        };
    }

    pub(super) fn open(&self, env: &Env) -> esker::Result<(Db, [Keyspace; NAMES.len()])> {
        let builder = Db::builder(DIR).env(env.clone()).options(self.options.clone());
        let db = builder.default_keyspace(self.of(0)).open()?;
        let second = self.second(&db)?;
        let keyspaces = [db.default_keyspace().clone(), second];
        Ok((db, keyspaces))
    }

    /// The second keyspace, which is made if it is not there.
    pub(super) fn second(&self, db: &Db) -> esker::Result<Keyspace> {
        db.keyspace(NAMES[1], self.of(1))
    }

    fn of(&self, number: usize) -> KeyspaceOptions {
        let is_reversed = self.is_reversed[number];
        let order = if is_reversed { Order::reverse_bytewise() } else { Order::bytewise() };
        KeyspaceOptions { order, ..self.keyspace.clone() }
    }
}

/// A policy that drops nothing.
fn compaction(input: &mut Input<'_>) -> CompactionPolicy {
    input.pick(&[
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
    ])
}

fn prefix_filter(input: &mut Input<'_>) -> Option<PrefixRule> {
    input.pick(&[
        None,
        Some(PrefixRule::First(1)),
        Some(PrefixRule::First(2)),
        Some(PrefixRule::Through(b'b')),
    ])
}
