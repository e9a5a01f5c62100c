//! The cache against its promises: capacity, charges, scan resistance, single flight.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::*;
use crate::{CacheSlots, Filled, FirstLook, Lookup, Owner};

/// A block that says what it weighs.
#[derive(Debug)]
struct Brick {
    id: u32,
    weight_bytes: usize,
    owner: Owner,
}

impl Weigh for Brick {
    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
    fn owner(&self) -> Owner {
        self.owner
    }
    fn first_look(&self) -> FirstLook {
        FirstLook { address: self.id as usize + 1_000, len: 7 }
    }
}

const WEIGHT: usize = 100;

fn data(id: u32) -> Result<Brick, Infallible> {
    Ok(Brick { id, weight_bytes: WEIGHT, owner: Owner::BlockCache })
}

fn index(id: u32) -> Result<Brick, Infallible> {
    Ok(Brick { id, weight_bytes: WEIGHT, owner: Owner::Indexes })
}

/// Reads `slot`; whether it was a hit.
fn read(slots: &CacheSlots<Brick>, slot: u32) -> bool {
    let (block, lookup) = slots.get_or_load(slot, Priority::Normal, || data(slot)).unwrap();
    assert_eq!(block.id, slot);
    lookup == Lookup::Hit
}

/// Reads every slot of `range`; how many were hits.
fn read_all(slots: &CacheSlots<Brick>, range: std::ops::Range<u32>) -> usize {
    range.filter(|&slot| read(slots, slot)).count()
}

fn cache_of(block_count: u64) -> (Arc<Budget>, Arc<BlockCache<Brick>>) {
    let budget = Budget::new(block_count * WEIGHT as u64);
    let cache = BlockCache::new(Arc::clone(&budget), None);
    (budget, cache)
}

#[test]
fn loaded_block_is_found_and_absent_one_is_not() {
    let (_, cache) = cache_of(10);
    let slots = cache.register(3);
    assert!(slots.get(0).is_none() && slots.peek(0).is_none());
    assert!(!read(&slots, 0));
    assert!(read(&slots, 0));
    assert_eq!(slots.get(0).unwrap().id, 0);
    assert_eq!(slots.peek(0).unwrap().id, 0);
    assert_eq!(slots.with(0, |brick| brick.id), Some(0));
    assert_eq!(slots.with(1, |brick| brick.id), None);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.loads), (3, 1));
}

#[test]
fn who_asks_is_told_where_the_resident_block_is_and_what_is_looked_at_first() {
    let (_, cache) = cache_of(10);
    let slots = cache.register(3);
    let expected = |block: &Arc<Brick>| {
        let address = block.id as usize + 1_000;
        vec![(Arc::as_ptr(block), FirstLook { address, len: 7 })]
    };
    for slot in [0, 1] {
        assert!(!read(&slots, slot));
        let mut told = Vec::new();
        let block = slots.get_prefetching(slot, |block, look| told.push((block, look))).unwrap();
        assert_eq!(told, expected(&block));
        let before = cache.stats();
        told.clear();
        slots.prefetch(slot, |block, look| told.push((block, look)));
        assert_eq!((told, cache.stats()), (expected(&block), before), "and it is no use");
    }
    let asked = slots.get_prefetching(2, |_, _| panic!("nothing is there"));
    slots.prefetch(2, |_, _| panic!("nothing is there"));
    assert!(asked.is_none());
}

#[test]
fn failed_load_keeps_nothing_and_the_next_reader_tries_again() {
    let (budget, cache) = cache_of(10);
    let slots = cache.register(1);
    let failed = slots.get_or_load(0, Priority::Normal, || Err::<Brick, _>("unreadable"));
    assert_eq!(failed.unwrap_err(), "unreadable");
    assert_eq!(budget.used_total(), 0);
    assert!(!read(&slots, 0));
}

#[test]
fn panicking_load_leaves_the_slot_usable() {
    let (_, cache) = cache_of(10);
    let slots = cache.register(1);
    let load = || -> Result<Brick, Infallible> { panic!("decoder bug") };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        slots.get_or_load(0, Priority::Normal, load)
    }));
    assert!(outcome.is_err());
    assert!(!read(&slots, 0));
    assert!(read(&slots, 0));
}

#[test]
fn capacity_holds_after_every_load() {
    let (budget, cache) = cache_of(8);
    let slots = cache.register(100);
    for round in 0..4 {
        for slot in 0..100 {
            read(&slots, slot * 37 % 100);
            let stats = cache.stats();
            assert!(stats.resident_bytes <= 800, "round {round}: {stats:?}");
            assert_eq!(stats.resident_bytes, budget.used_total());
            assert_eq!(stats.resident_bytes, stats.resident_count * WEIGHT as u64);
        }
    }
    assert_eq!(cache.stats().resident_count, 8);
}

#[test]
fn block_larger_than_the_cache_is_read_and_not_kept() {
    let budget = Budget::new(10_000);
    let cache = BlockCache::new(Arc::clone(&budget), Some(50));
    let slots = cache.register(1);
    assert!(!read(&slots, 0));
    assert!(!read(&slots, 0));
    assert_eq!((cache.stats().resident_count, budget.used_total()), (0, 0));
}

#[test]
fn hot_set_survives_a_scan_much_larger_than_the_cache() {
    let (_, cache) = cache_of(100);
    let slots = cache.register(10_000);
    let hot = 0..50;
    for _ in 0..3 {
        read_all(&slots, hot.clone());
    }
    read_all(&slots, 1_000..10_000);
    assert_eq!(read_all(&slots, hot), 50);
}

#[test]
fn block_that_comes_back_soon_after_eviction_outlives_a_scan() {
    let (_, cache) = cache_of(100);
    let slots = cache.register(10_000);
    read_all(&slots, 0..100);
    // Slot 0 was never hit, and is the first to go; then it is asked for again.
    read(&slots, 100);
    assert!(slots.peek(0).is_none());
    read(&slots, 0);
    read_all(&slots, 1_000..3_000);
    assert!(slots.peek(0).is_some(), "a remembered block goes to the main queue");
    assert!(slots.peek(100).is_none(), "a block that came once goes");
}

#[test]
fn indexes_outlive_data_and_yield_only_the_last_eighth() {
    let (budget, cache) = cache_of(80);
    let slots = cache.register(10_000);
    for slot in 0..40 {
        slots.get_or_load(slot, Priority::High, || index(slot)).unwrap();
    }
    read_all(&slots, 1_000..9_000);
    assert_eq!((0..40).filter(|&slot| slots.peek(slot).is_some()).count(), 40);
    assert_eq!(budget.used(Owner::Indexes), 4_000);
    assert_eq!(cache.stats().high_priority_bytes, 4_000);
    // More indexes than the cache can hold: data keeps its eighth.
    for slot in 40..200 {
        slots.get_or_load(slot, Priority::High, || index(slot)).unwrap();
    }
    assert_eq!(budget.used(Owner::BlockCache), 1_000);
    assert_eq!(budget.used(Owner::Indexes), 7_000);
}

#[test]
fn charges_of_other_owners_shrink_the_cache_down_to_its_floor() {
    let (budget, cache) = cache_of(80);
    let slots = cache.register(1_000);
    read_all(&slots, 0..100);
    assert_eq!(cache.stats().resident_bytes, 8_000);
    let mut memtables = budget.charge(Owner::Memtables, 5_000);
    cache.trim();
    assert_eq!(cache.stats().resident_bytes, 3_000);
    memtables.set(20_000);
    read(&slots, 500);
    assert_eq!(cache.stats().resident_bytes, 1_000, "the floor is an eighth");
    drop(memtables);
    read_all(&slots, 0..100);
    assert_eq!(cache.stats().resident_bytes, 8_000);
}

#[test]
fn dropped_table_frees_its_blocks_and_gives_back_every_charge() {
    let (budget, cache) = cache_of(100);
    let first = cache.register(50);
    let second = cache.register(50);
    read_all(&first, 0..50);
    read_all(&second, 0..30);
    first.get_or_load(7, Priority::High, || index(7)).unwrap();
    let block = first.get(3).unwrap();
    drop(first);
    assert_eq!(Arc::strong_count(&block), 1, "only the reader holds it");
    assert_eq!(budget.used_total(), 3_000);
    assert_eq!(cache.stats().resident_count, 30);
    assert_eq!(read_all(&second, 0..30), 30);
    drop(second);
    assert_eq!(budget.used_total(), 0);
    assert_eq!(cache.stats().resident_bytes, 0);
}

#[test]
fn queues_do_not_grow_with_tables_that_are_gone() {
    let (_, cache) = cache_of(1_000);
    for _ in 0..100 {
        let slots = cache.register(100);
        read_all(&slots, 0..100);
    }
    assert!(lock(&cache.queues).entry_count() <= 1_200);
}

#[test]
fn one_of_many_readers_loads() {
    let (_, cache) = cache_of(1_000);
    let slots = cache.register(64);
    let loads = AtomicUsize::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for slot in 0..64 {
                    barrier.wait();
                    let load = || {
                        loads.fetch_add(1, Ordering::Relaxed);
                        data(slot)
                    };
                    let (block, _) = slots.get_or_load(slot, Priority::Normal, load).unwrap();
                    assert_eq!(block.id, slot);
                }
            });
        }
    });
    assert_eq!(loads.into_inner(), 64);
}

#[test]
fn readers_evictions_and_drops_together_lose_no_charge() {
    let (budget, cache) = cache_of(50);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let cache = &cache;
            scope.spawn(move || {
                for table in 0..40 {
                    let slots = cache.register(60);
                    for step in 0..400_u32 {
                        read(&slots, (step * (7 + thread) + table) % 60);
                    }
                }
            });
        }
    });
    assert_eq!(budget.used_total(), 0);
    assert_eq!(cache.stats().resident_bytes, 0);
}

const FILE: FileId = FileId { owner: esker_base::OwnerId::FIRST, counter: 7 };

fn bricks(ids: std::ops::Range<u32>) -> Vec<(u32, Brick)> {
    ids.map(|id| (id, data(id).unwrap())).collect()
}

#[test]
fn kept_blocks_are_found_by_who_opens_their_file_and_by_nobody_else() {
    let (budget, cache) = cache_of(10);
    cache.keep(FILE, 8, bricks(2..5));
    assert_eq!((cache.room_bytes(), budget.used_total()), (7 * 100, 3 * 100));
    let other = cache.register_file(FileId { counter: 8, ..FILE }, 8);
    assert!(other.peek(2).is_none());
    let slots = cache.register_file(FILE, 8);
    let found: Vec<bool> = (0..8).map(|slot| slots.peek(slot).is_some()).collect();
    assert_eq!(found, [false, false, true, true, true, false, false, false]);
    assert_eq!((cache.stats().loads, slots.used_percent()), (0, 0), "neither loaded nor used");
    assert!(read(&slots, 3), "a hit");
    assert_eq!(slots.used_percent(), 12, "one of eight");
    assert!(cache.register_file(FILE, 8).peek(2).is_none(), "they are given away once");
    drop((slots, other));
    assert_eq!(budget.used_total(), 0);
}

#[test]
fn kept_blocks_that_nobody_will_open_are_freed() {
    let (budget, cache) = cache_of(10);
    cache.keep(FILE, 8, bricks(0..3));
    cache.keep(FILE, 8, bricks(0..2));
    assert_eq!(budget.used_total(), 200, "the second took the place of the first");
    assert!(cache.register_file(FILE, 9).peek(0).is_none(), "it is another file");
    assert_eq!(budget.used_total(), 0);
    cache.keep(FILE, 8, bricks(0..3));
    cache.forget_file(FILE);
    cache.forget_file(FILE);
    assert_eq!((budget.used_total(), cache.stats().resident_count), (0, 0));
}

#[test]
fn kept_blocks_can_be_evicted_before_their_file_is_opened() {
    let (budget, cache) = cache_of(4);
    cache.keep(FILE, 8, bricks(0..4));
    let slots = cache.register(4);
    assert_eq!(read_all(&slots, 0..4), 0);
    assert!(budget.used_total() <= 400);
    assert!(cache.register_file(FILE, 8).peek(0).is_none());
}

#[test]
fn what_is_used_most_comes_first_and_indexes_before_it() {
    let (_, cache) = cache_of(100);
    let (first, second) = (cache.register(10), cache.register(10));
    for (slots, slot, uses) in [(&first, 0, 0), (&second, 1, 2), (&first, 2, 1), (&second, 3, 0)] {
        assert!(!read(slots, slot));
        assert!((0..uses).all(|_| read(slots, slot)));
    }
    drop(first.get_or_load(9, Priority::High, || index(9)).unwrap());
    let order: Vec<_> =
        cache.by_heat().iter().map(|hot| (hot.slots, hot.slot, hot.was_used_again)).collect();
    let expected = [
        (first.id(), 9, true),
        (second.id(), 1, true),
        (first.id(), 2, true),
        (second.id(), 3, false),
        (first.id(), 0, false),
    ];
    assert_eq!(order, expected);
    drop(second);
    assert_eq!(cache.by_heat().len(), 3, "those of a table that is gone");
}

#[test]
fn block_that_is_offered_takes_free_room_only() {
    let (budget, cache) = cache_of(3);
    let slots = cache.register(10);
    read_all(&slots, 0..2);
    let offer = |slot| slots.fill(slot, Priority::Normal, slot == 2, data(slot).unwrap());
    assert_eq!(offer(1), Filled::Taken);
    assert_eq!(offer(2), Filled::Kept);
    assert_eq!(offer(3), Filled::NoRoom);
    let stats = cache.stats();
    assert_eq!((stats.resident_count, stats.evictions, stats.loads), (3, 0, 2));
    assert_eq!(budget.used(Owner::BlockCache), 300);
    assert!(read(&slots, 2) && read(&slots, 0) && read(&slots, 1));
    let brick = slots.get(2).unwrap();
    assert_eq!((brick.id, cache.by_heat()[0].slot), (2, 2));
    drop(slots);
    assert_eq!((budget.used(Owner::BlockCache), cache.stats().resident_count), (0, 0));
}
