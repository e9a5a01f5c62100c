//! Options for databases that are tiny, so that much happens in them.

use std::time::Duration;

use esker::{CompactionPolicy, Compression, KeyspaceOptions, Options, Order, PrefixRule};

use crate::random::Rng;
use crate::state::merge_operator;

#[cfg(not(feature = "zstd"))]
const COMPRESSIONS: [Compression; 2] = [Compression::None, Compression::Lz4];
#[cfg(feature = "zstd")]
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

pub(crate) fn options(rng: &mut Rng, background_threads: usize) -> Options {
    Options {
        memory_budget_bytes: *rng.pick(&[0, 256 << 10, 8 << 20, 512 << 20]),
        cache_bytes: *rng.pick(&[None, Some(0), Some(20_000)]),
        background_threads,
        // Small ones are raised to the least size that is sensible.
        log_segment_bytes: *rng.pick(&[0, 1 << 20, 64 << 20]),
        ..Options::default()
    }
}

/// Half of all seeds compress what goes to the log, most of it or only what is large.
pub(crate) fn log_compression(seed: u64) -> Option<u32> {
    *Rng::new(!seed ^ 1).pick(&[None, None, Some(0), Some(200)])
}

/// Three seeds of four write down what the cache holds when they close.
pub(crate) fn warm_cache(seed: u64) -> bool {
    !Rng::new(!seed ^ 2).one_in(4)
}

/// Half of all seeds do compactions in parts.
pub(crate) fn part_bytes(seed: u64) -> Option<u64> {
    *Rng::new(!seed).pick(&[None, None, Some(1), Some(1500)])
}

pub(crate) fn keyspace_options(rng: &mut Rng) -> KeyspaceOptions {
    let compaction = *rng.pick(&crate::policies::KEEPING);
    let prefix_filter = prefix_filter(rng);
    KeyspaceOptions {
        compaction,
        compression: *rng.pick(&COMPRESSIONS),
        shallow_compression: *rng.pick(&COMPRESSIONS),
        last_level_compression: *rng.pick(&[None, Some(Compression::None)]),
        zstd_dictionary_bytes: if cfg!(feature = "zstd") { 512 } else { 0 },
        block_size_bytes: *rng.pick(&[256, 512, 4096]),
        filter_bits_per_key: *rng.pick(&[0, 1, 10]),
        prefix_filter,
        memtable_bytes: *rng.pick(&[1, 2_000, 20_000, 64 << 20]),
        immutable_memtables_max: 1 + rng.index(3),
        blob_threshold_bytes: *rng.pick(&[None, Some(32), Some(100), Some(2_000)]),
        blob_waste_percent_max: *rng.pick(&[1, 30, 95]),
        log: true,
        default_ttl: None,
        order: Order::bytewise(),
        merge_operator: merge_operator(),
        ..upkeep(rng, compaction)
    }
}

/// Which prefixes of the keys of [`Rng::key`] filters hold: short ones, those of ten keys in a row, the
/// keys themselves, and such that end at a byte which few keys have.
pub(crate) fn prefix_filter(rng: &Rng) -> Option<PrefixRule> {
    let first = |len| Some(PrefixRule::First(len));
    let through = |byte| Some(PrefixRule::Through(byte));
    let rules =
        [None, first(1), first(5), first(5), first(6), through(b'0'), through(b'/'), through(255)];
    // The other choices of a seed stay what they are without this one.
    *Rng::new(!rng.clone().next()).pick(&rules)
}

/// Times in the order of the steps; none where nothing may be merged.
fn upkeep(rng: &mut Rng, compaction: CompactionPolicy) -> KeyspaceOptions {
    let second = Duration::from_secs(1);
    let keeps_ages_apart =
        matches!(compaction, CompactionPolicy::Fifo(_) | CompactionPolicy::TimeWindow(_));
    let mut some = |times: u32| rng.one_in(2).then_some(second * times);
    let (delete_deadline, periodic_compaction) = (some(8), some(20));
    KeyspaceOptions {
        delete_deadline: delete_deadline.filter(|_| !keeps_ages_apart),
        periodic_compaction: periodic_compaction.filter(|_| !keeps_ages_apart),
        idle_compaction: some(1),
        ..KeyspaceOptions::default()
    }
}
