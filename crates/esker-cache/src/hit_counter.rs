//! Counts cache hits without making readers on different processors share a cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARD_COUNT: usize = 16;

/// One counter on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Shard(AtomicU64);

/// A counter that many threads add to and few read.
#[derive(Default)]
pub(crate) struct HitCounter([Shard; SHARD_COUNT]);

impl HitCounter {
    /// Adds one.
    ///
    /// A plain load and store, not a locked addition (1 ns against 5): with more threads than
    /// shards a few counts are lost, which a hit ratio can bear.
    #[inline]
    pub(crate) fn add_one(&self) {
        let counter = &self.0[shard()].0;
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The sum of all shards.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}

/// The shard of this thread, assigned round-robin at its first count.
#[inline]
fn shard() -> usize {
    /// Counter only.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        shard.get() % SHARD_COUNT
    })
}
