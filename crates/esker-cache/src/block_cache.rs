//! The block cache, shared by all tables of a database.
//!
//! Its capacity is what the other owners of the budget leave, so nobody has to divide memory
//! between memtables and cache. Promises: after an insertion or [`BlockCache::trim`] has returned,
//! resident blocks weigh no more than the capacity; every resident byte is charged to the budget
//! under the block's owner; when a table is gone, so are its blocks.
//!
//! An evicted block lives on as long as a reader holds its `Arc`, and is no longer charged: at most
//! one block for each open cursor.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_base::FileId;

use crate::budget::Budget;
use crate::hit_counter::HitCounter;
use crate::queues::{Entry, HotBlock, Queues};
use crate::slot::{Class, Priority, SlotArray, Weigh, lock};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// The cache keeps one part in this many of the budget, whatever the other owners take: otherwise
/// full memtables could leave readers with no memory at all.
const FLOOR_PART: u64 = 8;

/// A cache of blocks of type `V`.
pub struct BlockCache<V: Weigh> {
    budget: Arc<Budget>,
    capacity_max: Option<u64>,
    pub(crate) hits: HitCounter,
    /// Counter only.
    loads: AtomicU64,
    /// The order of eviction. Taken by loads and evictions, never by hits; not held across I/O.
    queues: Mutex<Queues<V>>,
    /// Slots of files that were written with blocks to keep, and have not been opened yet. Locked
    /// once for each file; no other lock is taken under it.
    unopened: Mutex<BTreeMap<FileId, Arc<SlotArray<V>>>>,
}

/// What the cache holds and how it fared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CacheStats {
    /// Blocks found; a few may not be counted when more than 16 threads read.
    pub hits: u64,
    /// Blocks that had to be loaded.
    pub loads: u64,
    /// Blocks evicted to make room.
    pub evictions: u64,
    /// Blocks resident.
    pub resident_count: u64,
    /// Their weight, in bytes.
    pub resident_bytes: u64,
    /// The part of that with [`Priority::High`].
    pub high_priority_bytes: u64,
    /// The present limit of their weight, in bytes.
    pub capacity_bytes: u64,
}

impl<V: Weigh> BlockCache<V> {
    /// A cache that takes what `budget` has left, but no more than `capacity_bytes`.
    #[must_use]
    pub fn new(budget: Arc<Budget>, capacity_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            capacity_max: capacity_bytes,
            hits: HitCounter::default(),
            loads: AtomicU64::new(0),
            queues: Mutex::new(Queues::new()),
            unopened: Mutex::new(BTreeMap::new()),
        })
    }

    /// How many bytes can be added without evicting anything.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let queues = lock(&self.queues);
        self.capacity(&queues).saturating_sub(queues.bytes())
    }

    /// What the cache holds and how it fared.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let queues = lock(&self.queues);
        CacheStats {
            hits: self.hits.sum(),
            loads: self.loads.load(Ordering::Relaxed),
            evictions: queues.eviction_count,
            resident_count: queues.resident_count() as u64,
            resident_bytes: queues.bytes(),
            high_priority_bytes: queues.high_bytes(),
            capacity_bytes: self.capacity(&queues),
        }
    }

    /// The resident blocks of all tables, starting with those that would be kept longest: indexes
    /// and filters, then by how often they were used recently. Blocks in use at the moment may be
    /// missing.
    ///
    /// # Cost
    /// Looks at every block, under the lock that loads take.
    #[must_use]
    pub fn by_heat(&self) -> Vec<HotBlock> {
        lock(&self.queues).by_heat()
    }

    /// Evicts until the capacity is respected. Every load does this too; call it after another
    /// owner was charged a lot, so that memory is freed without waiting for a read.
    pub fn trim(&self) {
        loop {
            let mut queues = lock(&self.queues);
            let capacity_bytes = self.capacity(&queues);
            if queues.bytes() <= capacity_bytes {
                return;
            }
            let Some(victim) = queues.evict(capacity_bytes) else {
                return;
            };
            self.budget.subtract(victim.owner(), victim.weight_bytes() as u64);
            drop(queues);
            // Freed here, outside the lock.
            Arc::into_inner(victim).into_iter().for_each(V::retire);
        }
    }

    pub(crate) fn class_of(&self, priority: Priority, ghost: u32) -> Class {
        match priority {
            Priority::High => Class::High,
            Priority::Normal if ghost != 0 && lock(&self.queues).remembers(ghost) => Class::Main,
            Priority::Normal => Class::Small,
        }
    }

    pub(crate) fn unopened(&self) -> MutexGuard<'_, BTreeMap<FileId, Arc<SlotArray<V>>>> {
        lock(&self.unopened)
    }

    pub(crate) fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn admit(&self, array: &Arc<SlotArray<V>>, slot: u32, class: Class, block: &V) {
        let weight_bytes = block.weight_bytes() as u64;
        let entry = Entry { array: Arc::downgrade(array), slot };
        let mut queues = lock(&self.queues);
        queues.push(class, entry, weight_bytes);
        self.budget.add(block.owner(), weight_bytes);
        drop(queues);
        self.trim();
    }

    /// As [`BlockCache::admit`], but only if there is room without an eviction; returns whether
    /// there was.
    pub(crate) fn admit_into_room(
        &self,
        array: &Arc<SlotArray<V>>,
        slot: u32,
        class: Class,
        block: &V,
    ) -> bool {
        let weight_bytes = block.weight_bytes() as u64;
        let mut queues = lock(&self.queues);
        let is_full = self.capacity(&queues) < queues.bytes() + weight_bytes;
        if is_full && !esker_base::planted::is("warming-evicts") {
            return false;
        }
        queues.push(class, Entry { array: Arc::downgrade(array), slot }, weight_bytes);
        self.budget.add(block.owner(), weight_bytes);
        drop(queues);
        // The other owners may have taken more in the meantime.
        self.trim();
        true
    }

    /// Frees every block of a table that is being dropped.
    pub(crate) fn release(&self, array: &SlotArray<V>) {
        let mut freed = [(0_usize, 0_u64); 3];
        for slot in &array.slots {
            let mut state = slot.lock();
            if let Some(block) = state.block.take() {
                let weight_bytes = block.weight_bytes() as u64;
                let (count, bytes) = &mut freed[state.class as usize];
                *count += 1;
                *bytes += weight_bytes;
                self.budget.subtract(block.owner(), weight_bytes);
            }
        }
        let mut queues = lock(&self.queues);
        for (class, (count, bytes)) in
            [Class::Small, Class::Main, Class::High].into_iter().zip(freed)
        {
            queues.forget(class, count, bytes);
        }
        queues.sweep();
    }

    /// What resident blocks may weigh: what the other owners leave, but not less than the floor,
    /// and not more than the cap.
    fn capacity(&self, queues: &Queues<V>) -> u64 {
        let others = self.budget.used_total().saturating_sub(queues.bytes());
        let total = self.budget.total();
        let left = total.saturating_sub(others).max(total / FLOOR_PART);
        left.min(self.capacity_max.unwrap_or(u64::MAX))
    }
}

impl<V: Weigh> std::fmt::Debug for BlockCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({:?})", self.stats())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
