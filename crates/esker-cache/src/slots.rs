//! The slots of one table: an array with one place for each of its blocks.
//!
//! There is no hash table between a table and its cached blocks: the block number is the index. A
//! hit is one uncontended lock and one count on an `Arc`. The lock of a slot also makes loads
//! single-flight: the first reader holds it while it loads, and others wait only for exactly the
//! block that they want.
//!
//! Lock order: slot, then queues, except for eviction, which holds the queues and only *tries* a
//! slot: a locked slot is in use.

use std::sync::Arc;

use esker_base::FileId;

use crate::block_cache::BlockCache;
use crate::queues::{SlotsId, slots_id};
use crate::slot::{Class, FirstLook, Priority, Slot, SlotArray, SlotState, USES_MAX, Weigh};

/// Where [`CacheSlots::get_or_load`] found a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// In the cache.
    Hit,
    /// Not in the cache: it was loaded by this call.
    Loaded,
}

/// The result of offering a block to the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// It is resident.
    Kept,
    /// Another one is resident, or is being loaded.
    Taken,
    /// There is no room for it.
    NoRoom,
}

/// How many slots are sampled to estimate how many are used.
const SAMPLE_SLOTS: usize = 256;

/// The cached blocks of one table. Dropping it frees them.
#[derive(Debug)]
pub struct CacheSlots<V: Weigh> {
    cache: Arc<BlockCache<V>>,
    array: Arc<SlotArray<V>>,
}

impl<V: Weigh> BlockCache<V> {
    /// Slots for a table of `slot_count` blocks, none of them resident.
    #[must_use]
    pub fn register(self: &Arc<Self>, slot_count: u32) -> CacheSlots<V> {
        CacheSlots { cache: Arc::clone(self), array: SlotArray::empty(slot_count) }
    }

    /// Makes `blocks` resident for when `file`, which has `slot_count` slots, is opened with
    /// [`BlockCache::register_file`]. Counts neither as a use nor as a load.
    ///
    /// # Panics
    /// If a block has no slot.
    pub fn keep(&self, file: FileId, slot_count: u32, blocks: Vec<(u32, V)>) {
        let array = SlotArray::empty(slot_count);
        for (slot, block) in blocks {
            self.put(&array, slot, block);
        }
        let before = self.unopened().insert(file, array);
        before.iter().for_each(|array| self.release(array));
    }

    /// Slots for `file`: those that were kept for it, if there are any.
    #[must_use]
    pub fn register_file(self: &Arc<Self>, file: FileId, slot_count: u32) -> CacheSlots<V> {
        let kept = self.unopened().remove(&file);
        match kept {
            Some(array) if array.slots.len() == slot_count as usize => {
                CacheSlots { cache: Arc::clone(self), array }
            }
            other => {
                other.iter().for_each(|array| self.release(array));
                self.register(slot_count)
            }
        }
    }

    /// Frees what was kept for `file`, which will not be opened.
    pub fn forget_file(&self, file: FileId) {
        let kept = self.unopened().remove(&file);
        kept.iter().for_each(|array| self.release(array));
    }

    /// Makes `block` resident in `slot`, which is empty and not shared yet.
    fn put(&self, array: &Arc<SlotArray<V>>, slot: u32, block: V) {
        let FirstLook { address: look_at, len: look_len } = block.first_look();
        let (block, class) = (Arc::new(block), Class::Small);
        let resident = Some(Arc::clone(&block));
        let state = SlotState { block: resident, look_at, ghost: 0, uses: 0, class, look_len };
        *array.slots[slot as usize].lock() = state;
        self.admit(array, slot, class, &*block);
    }
}

impl<V: Weigh> CacheSlots<V> {
    /// Bytes of memory that one slot takes, besides its block.
    pub const SLOT_LEN: usize = size_of::<Slot<V>>();

    /// Percentage of slots with a block that was used since it came in, or since eviction last
    /// passed it over. Estimated from a few hundred slots, if there are more.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let is_used = |slot: &&Slot<V>| {
            let state = slot.lock();
            state.block.is_some() && state.uses > 0
        };
        let step = self.array.slots.len().div_ceil(SAMPLE_SLOTS).max(1);
        let sample = || self.array.slots.iter().step_by(step);
        (sample().filter(is_used).count() * 100 / sample().count().max(1)) as u64
    }

    /// The weight of the resident blocks.
    ///
    /// # Cost
    /// Looks at every slot.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let weigh = |slot: &Slot<V>| {
            slot.lock().block.as_deref().map_or(0, |block| block.weight_bytes() as u64)
        };
        self.array.slots.iter().map(weigh).sum()
    }

    /// The id of these slots in [`BlockCache::by_heat`].
    #[must_use]
    pub fn id(&self) -> SlotsId {
        slots_id(&self.array)
    }

    /// Makes `block` resident in `slot` if that is empty and nothing has to be evicted for it.
    /// Counts neither as a load nor as a use. `was_used_again` queues it with blocks that were used
    /// again. Never waits.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn fill(&self, slot: u32, priority: Priority, was_used_again: bool, block: V) -> Filled {
        let Some(mut state) = self.array.slots[slot as usize].try_lock() else {
            return Filled::Taken;
        };
        if state.block.is_some() {
            return Filled::Taken;
        }
        let class = match priority {
            Priority::High => Class::High,
            Priority::Normal if was_used_again => Class::Main,
            Priority::Normal => Class::Small,
        };
        let block = Arc::new(block);
        // Queued while the slot is locked: evictions skip such a slot.
        if !self.cache.admit_into_room(&self.array, slot, class, &*block) {
            return Filled::NoRoom;
        }
        let FirstLook { address: look_at, len: look_len } = block.first_look();
        *state = SlotState { block: Some(block), look_at, ghost: 0, uses: 0, class, look_len };
        Filled::Kept
    }

    /// How many slots there are.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.array.slots.len() as u32
    }

    /// The block in `slot`, if it is resident; counts as a use.
    ///
    /// # Panics
    /// If there is no such slot.
    ///
    /// # Cost
    /// One lock, which is contended only by readers of the same block, and one count on an `Arc`.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Arc<V>> {
        self.get_prefetching(slot, |_, _| ())
    }

    /// As [`CacheSlots::get`], but before it touches the block, calls `prefetch` with the address of the
    /// block and of what its reader looks at first, to prefetch both.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    #[must_use]
    pub fn get_prefetching(
        &self,
        slot: u32,
        prefetch: impl FnOnce(*const V, FirstLook),
    ) -> Option<Arc<V>> {
        let slot = if esker_base::planted::is("cache-mixes-slots") { slot & !1 } else { slot };
        let mut state = self.array.slots[slot as usize].lock();
        let block = state.block.as_ref()?;
        prefetch(Arc::as_ptr(block), state.first_look());
        let block = Arc::clone(block);
        state.uses = (state.uses + 1).min(USES_MAX);
        self.cache.hits.add_one();
        Some(block)
    }

    /// The block in `slot`, if it is resident. Counts neither as a use nor as a hit. For readers
    /// that come only once, such as compactions.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn peek(&self, slot: u32) -> Option<Arc<V>> {
        self.array.slots[slot as usize].lock().block.as_ref().map(Arc::clone)
    }

    /// The address of `slot`, for callers that prefetch it.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    #[must_use]
    pub fn address(&self, slot: u32) -> *const u8 {
        std::ptr::from_ref(&self.array.slots[slot as usize]).cast()
    }

    /// Calls `prefetch` as [`CacheSlots::get_prefetching`] does, if the block is resident. Counts neither as
    /// a use nor as a hit. Never waits: a locked slot is being brought in by somebody else.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn prefetch(&self, slot: u32, prefetch: impl FnOnce(*const V, FirstLook)) {
        let Some(state) = self.array.slots[slot as usize].try_lock() else { return };
        if let Some(block) = &state.block {
            prefetch(Arc::as_ptr(block), state.first_look());
        }
    }

    /// As [`CacheSlots::with`], but counts neither as a use nor as a hit, for callers that only
    /// prepare one.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn peek_with<R>(&self, slot: u32, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.array.slots[slot as usize].lock().block.as_deref().map(look)
    }

    /// Runs `look` on what is in `slot`, without counting as a use; `None` if the slot is locked at
    /// the moment. Never waits, so it may be called while a block is being loaded.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn glance<R>(&self, slot: u32, look: impl FnOnce(Option<&V>) -> R) -> Option<R> {
        let state = self.array.slots[slot as usize].try_lock()?;
        Some(look(state.block.as_deref()))
    }

    /// Runs `look` on the block in `slot`, if it is resident; counts as a use.
    ///
    /// The slot is locked in the meantime, so `look` must be short and must not touch the cache.
    /// Saves the two counts on the `Arc`, one of which is a cache miss if another processor used
    /// the block last.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn with<R>(&self, slot: u32, look: impl FnOnce(&V) -> R) -> Option<R> {
        let mut state = self.array.slots[slot as usize].lock();
        let result = look(state.block.as_deref()?);
        state.uses = (state.uses + 1).min(USES_MAX);
        self.cache.hits.add_one();
        Some(result)
    }

    /// The block in `slot`, from `load` if it is not resident.
    ///
    /// Of several concurrent callers, one loads and the others wait for it; if it fails, the next
    /// one tries. `load` must not use this slot: it would wait for itself.
    ///
    /// # Errors
    /// Those of `load`; nothing is kept then.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn get_or_load<E>(
        &self,
        slot: u32,
        priority: Priority,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<(Arc<V>, Lookup), E> {
        let mut state = self.array.slots[slot as usize].lock();
        if let Some(block) = state.block.as_ref().map(Arc::clone) {
            state.uses = (state.uses + 1).min(USES_MAX);
            self.cache.hits.add_one();
            return Ok((block, Lookup::Hit));
        }
        let block = Arc::new(load()?);
        let class = self.cache.class_of(priority, state.ghost);
        let FirstLook { address: look_at, len: look_len } = block.first_look();
        let resident = Some(Arc::clone(&block));
        *state = SlotState { block: resident, look_at, ghost: 0, uses: 0, class, look_len };
        drop(state);
        self.cache.count_load();
        // Nobody else can queue it: while it is in the slot, nobody loads it, and a block that is
        // not queued is not evicted.
        self.cache.admit(&self.array, slot, class, &*block);
        Ok((block, Lookup::Loaded))
    }
}

impl<V: Weigh> Drop for CacheSlots<V> {
    fn drop(&mut self) {
        self.cache.release(&self.array);
    }
}
