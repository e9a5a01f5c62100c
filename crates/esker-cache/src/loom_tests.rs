//! Models of readers of one slot beside eviction, and of files whose blocks are kept for who opens
//! them, checked in every interleaving that loom finds.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
//!     cargo test --release -p esker-cache --lib loom
//! ```
//!
//! Counts of `Arc` stay those of std: what they do is not in question here.

use std::convert::Infallible;
use std::sync::Arc;

use esker_base::{FileId, OwnerId};
use loom::thread;

use crate::sync::{AtomicU64, Ordering};
use crate::{BlockCache, Budget, CacheSlots, FirstLook, Lookup, Owner, Priority, Weigh};

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
        let block =
            model.slots.get_prefetching(1, |block, look| told = Some((block, look.address)));
        assert_eq!(block.map(|block| (Arc::as_ptr(&block), 1)), told);
        reader.join().expect("the reader ends");
        model.cache.trim();
        model.check();
    });
}

/// A cache with room for so many blocks, and nothing in it.
fn empty_cache(block_count: u64) -> (Arc<Budget>, Arc<BlockCache<Brick>>) {
    let budget = Budget::new(block_count * WEIGHT);
    let cache = BlockCache::new(Arc::clone(&budget), None);
    (budget, cache)
}

#[test]
fn loom_table_that_goes_beside_a_trim_takes_its_blocks_along() {
    loom::model(|| {
        let (budget, cache) = empty_cache(1);
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

#[test]
fn loom_a_load_that_fails_is_left_to_the_next_reader() {
    loom::model(|| {
        let model = Model::new(8);
        let other = Arc::clone(&model);
        let reader = thread::spawn(move || other.read(0));
        match model.slots.get_or_load(0, Priority::Normal, || Err("nothing there")) {
            Ok((block, lookup)) => assert_eq!((block.0, lookup), (0, Lookup::Hit)),
            Err(error) => assert_eq!(error, "nothing there"),
        }
        reader.join().expect("the reader ends");
        assert_eq!(model.loads.load(Ordering::Relaxed), 1);
        model.check();
    });
}

const FILE: FileId = FileId { owner: OwnerId::FIRST, counter: 1 };

#[test]
fn loom_who_opens_a_file_beside_its_writer_has_all_that_was_kept_or_nothing() {
    loom::model(|| {
        let (budget, cache) = empty_cache(8);
        let writer = Arc::clone(&cache);
        let keep = thread::spawn(move || writer.keep(FILE, 2, vec![(0, Brick(0)), (1, Brick(1))]));
        let slots = cache.register_file(FILE, 2);
        let kept = [0, 1].map(|slot| slots.peek(slot).map(|block| block.0));
        assert!([[None, None], [Some(0), Some(1)]].contains(&kept), "{kept:?}");
        let load = || Ok::<_, Infallible>(Brick(1));
        let Ok((block, _)) = slots.get_or_load(1, Priority::Normal, load);
        assert_eq!(block.0, 1);
        drop(slots);
        keep.join().expect("the writer ends");
        cache.forget_file(FILE);
        assert_eq!((budget.used_total(), cache.stats().resident_bytes), (0, 0));
    });
}

#[test]
fn loom_file_that_is_forgotten_beside_eviction_takes_its_blocks_along() {
    loom::model(|| {
        let (budget, cache) = empty_cache(2);
        cache.keep(FILE, 1, vec![(0, Brick(0))]);
        let charge = budget.charge(Owner::Memtables, 2 * WEIGHT);
        let trimmed = Arc::clone(&cache);
        let trim = thread::spawn(move || trimmed.trim());
        cache.forget_file(FILE);
        trim.join().expect("the trim ends");
        drop(charge);
        assert_eq!((budget.used_total(), cache.stats().resident_bytes), (0, 0));
    });
}
