//! Models of readers of one slot beside eviction, checked in every interleaving that loom finds.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
//!     cargo test --release -p esker-cache --lib loom
//! ```
//!
//! Counts of `Arc` stay those of std: what they do is not in question here.

use std::convert::Infallible;
use std::sync::Arc;

use loom::thread;

use crate::sync::{AtomicU64, Ordering};
use crate::{BlockCache, Budget, CacheSlots, FirstLook, Owner, Priority, Weigh};

/// A block that knows which slot it is of.
#[derive(Debug)]
struct Brick(u32);

/// What one block weighs.
const WEIGHT: u64 = 100;

impl Weigh for Brick {
    fn weight_bytes(&self) -> usize {
        WEIGHT as usize
    }
    fn owner(&self) -> Owner {
        Owner::BlockCache
    }
    fn first_look(&self) -> FirstLook {
        FirstLook { address: self.0 as usize, len: 1 }
    }
}

/// A table of two blocks in a cache, and how often a block was loaded.
struct Model {
    budget: Arc<Budget>,
    cache: Arc<BlockCache<Brick>>,
    slots: CacheSlots<Brick>,
    loads: AtomicU64,
}

impl Model {
    /// With room for so many blocks.
    fn new(block_count: u64) -> Arc<Self> {
        let budget = Budget::new(block_count * WEIGHT);
        let cache = BlockCache::new(Arc::clone(&budget), None);
        let slots = cache.register(2);
        Arc::new(Self { budget, cache, slots, loads: AtomicU64::new(0) })
    }

    fn read(&self, slot: u32) {
        let load = || {
            self.loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Brick(slot))
        };
        let Ok((block, _)) = self.slots.get_or_load(slot, Priority::Normal, load);
        assert_eq!(block.0, slot, "a reader gets the block that it asked for");
    }

    /// What holds when nobody works.
    fn check(&self) {
        let stats = self.cache.stats();
        assert!(stats.resident_bytes <= stats.capacity_bytes, "{stats:?}");
        assert_eq!(stats.resident_bytes, self.slots.resident_bytes());
        assert_eq!(stats.resident_bytes, self.budget.used_total());
        assert_eq!(stats.resident_bytes, stats.resident_count * WEIGHT);
    }
}

#[test]
fn loom_two_readers_of_one_block_load_it_once() {
    loom::model(|| {
        let model = Model::new(8);
        let other = Arc::clone(&model);
        let reader = thread::spawn(move || other.read(0));
        model.read(0);
        reader.join().expect("the reader ends");
        assert_eq!(model.loads.load(Ordering::Relaxed), 1);
        model.check();
    });
}

/// A thread that reads both blocks, of which only one fits.
fn read_both(model: &Arc<Model>) -> thread::JoinHandle<()> {
    let model = Arc::clone(model);
    thread::spawn(move || {
        model.read(0);
        model.read(1);
    })
}

#[test]
fn loom_eviction_beside_readers_keeps_the_count_of_bytes() {
    loom::model(|| {
        let model = Model::new(1);
        let reader = read_both(&model);
        model.read(1);
        reader.join().expect("the reader ends");
        // One that was in use when it should have gone may have stayed until somebody asks.
        model.cache.trim();
        model.check();
    });
}

#[test]
fn loom_who_asks_beside_eviction_is_told_of_the_block_that_he_gets() {
    loom::model(|| {
        let model = Model::new(1);
        let reader = read_both(&model);
        let mut told = None;
        let block = model.slots.get_asking(1, |block, look| told = Some((block, look.address)));
        assert_eq!(block.map(|block| (Arc::as_ptr(&block), 1)), told);
        reader.join().expect("the reader ends");
        model.cache.trim();
        model.check();
    });
}

#[test]
fn loom_table_that_goes_beside_a_trim_takes_its_blocks_along() {
    loom::model(|| {
        let budget = Budget::new(WEIGHT);
        let cache = BlockCache::new(Arc::clone(&budget), None);
        let slots = cache.register(1);
        let load = || Ok::<_, Infallible>(Brick(0));
        let Ok(_) = slots.get_or_load(0, Priority::Normal, load);
        let charge = budget.charge(Owner::Memtables, WEIGHT);
        let trimmed = Arc::clone(&cache);
        let trim = thread::spawn(move || trimmed.trim());
        drop(slots);
        trim.join().expect("the trim ends");
        drop(charge);
        assert_eq!((budget.used_total(), cache.stats().resident_bytes), (0, 0));
    });
}
