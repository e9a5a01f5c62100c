//! Options for databases that are tiny, so that much happens in them.

use esker::{Compression, KeyspaceOptions, Options, Order};

use crate::random::Rng;
use crate::state::merge_operator;

pub(super) fn options(rng: &mut Rng, background_threads: usize) -> Options {
    Options {
        memory_budget_bytes: *rng.pick(&[0, 256 << 10, 8 << 20, 512 << 20]),
        cache_bytes: *rng.pick(&[None, Some(0), Some(20_000)]),
        background_threads,
        // Small ones are raised to the least size that is sensible.
        log_segment_bytes: *rng.pick(&[0, 1 << 20, 64 << 20]),
        ..Options::default()
    }
}

pub(super) fn keyspace_options(rng: &mut Rng) -> KeyspaceOptions {
    KeyspaceOptions {
        compaction: *rng.pick(&crate::policies::KEEPING),
        compression: *rng.pick(&[Compression::None, Compression::Lz4]),
        block_size_bytes: *rng.pick(&[256, 512, 4096]),
        filter_bits_per_key: *rng.pick(&[0, 1, 10]),
        memtable_bytes: *rng.pick(&[1, 2_000, 20_000, 64 << 20]),
        immutable_memtables_max: 1 + rng.index(3),
        log: true,
        order: Order::bytewise(),
        merge_operator: merge_operator(),
        compaction_filter: None,
    }
}

/// The order of a new keyspace.
pub(super) fn order(rng: &mut Rng) -> Order {
    if rng.one_in(4) { Order::reverse_bytewise() } else { Order::bytewise() }
}
