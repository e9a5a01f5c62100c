//! The eviction policy: S3-FIFO (Yang et al., SOSP 2023), with the ghosts kept in the slots.
//!
//! A new block enters the small queue, a tenth of the cache. At the end of that queue it moves to
//! the main queue if it was used again; otherwise it is evicted and leaves a *ghost*. A block that
//! comes back goes straight to the main queue if its ghost is recent: if no more ghosts have been
//! made since than blocks are resident. In the main queue, each use earns a block one more round.
//! So a scan, however long, passes through the small queue and leaves the main one as it was.
//!
//! Indexes and filters have a queue of their own, which is evicted from only if data has less than
//! an eighth of the cache left.
//!
//! Not LRU: each hit would have to move its block in a list, under a lock that all readers share.
//! Here a hit writes one byte in a slot that it has locked anyway.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::slot::{Class, Slot, SlotArray, USES_MAX, Weigh};

/// The small queue's share of the capacity is one over this.
const SMALL_PART: u64 = 10;

/// Data keeps one part in this many of the capacity before indexes and filters are evicted.
const DATA_PART: u64 = 8;

/// How far behind the front of a queue the entries are whose block and whose slot are prefetched:
/// an eviction needs both, and the slot says where the block is.
const BLOCK_PREFETCHED_AT: usize = 1;
const SLOT_PREFETCHED_AT: usize = 3;

/// Bytes of the two counts of an `Arc`, which precede what it points to.
const COUNTS_LEN: usize = 2 * size_of::<usize>();

/// A resident block, or one whose table is gone.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    pub(crate) array: Weak<SlotArray<V>>,
    pub(crate) slot: u32,
}

/// Identifies the slots that a block is in; see [`CacheSlots::id`](crate::CacheSlots::id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotsId(usize);

/// A resident block, as [`BlockCache::by_heat`](crate::BlockCache::by_heat) lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotBlock {
    /// The slots that it is in.
    pub slots: SlotsId,
    /// The slot.
    pub slot: u32,
    /// Whether it was used again after it came in, or came in with
    /// [`Priority::High`](crate::Priority::High).
    pub was_used_again: bool,
}

/// The id of these slots; constant as long as they exist.
pub(crate) fn slots_id<V>(array: &Arc<SlotArray<V>>) -> SlotsId {
    SlotsId(Arc::as_ptr(array).addr())
}

/// One queue, oldest first.
#[derive(Debug)]
struct Queue<V> {
    entries: VecDeque<Entry<V>>,
    /// Weight of the resident blocks among them.
    bytes: u64,
}

impl<V> Queue<V> {
    const fn new() -> Self {
        Self { entries: VecDeque::new(), bytes: 0 }
    }
}

/// The queues of all resident blocks.
#[derive(Debug)]
pub(crate) struct Queues<V> {
    small: Queue<V>,
    main: Queue<V>,
    high: Queue<V>,
    /// Resident blocks, in all queues.
    resident_count: usize,
    /// Counts evictions from the small queue without a use; the clock by which ghosts are dated.
    /// Never zero.
    ghost_clock: u32,
    pub(crate) eviction_count: u64,
}

impl<V: Weigh> Queues<V> {
    pub(crate) const fn new() -> Self {
        Self {
            small: Queue::new(),
            main: Queue::new(),
            high: Queue::new(),
            resident_count: 0,
            ghost_clock: 1,
            eviction_count: 0,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.small.bytes + self.main.bytes + self.high.bytes
    }

    pub(crate) const fn high_bytes(&self) -> u64 {
        self.high.bytes
    }

    pub(crate) const fn resident_count(&self) -> usize {
        self.resident_count
    }

    /// Resident blocks, and those of dropped tables that were not swept yet.
    pub(crate) fn entry_count(&self) -> usize {
        [&self.small, &self.main, &self.high].iter().map(|queue| queue.entries.len()).sum()
    }

    /// Whether a block with this ghost was evicted so recently that the main queue would have kept
    /// it.
    pub(crate) fn remembers(&self, ghost: u32) -> bool {
        let age = self.ghost_clock.wrapping_sub(ghost) as usize;
        ghost != 0 && age <= self.resident_count
    }

    pub(crate) fn push(&mut self, class: Class, entry: Entry<V>, weight_bytes: u64) {
        let queue = self.queue(class);
        queue.entries.push_back(entry);
        queue.bytes += weight_bytes;
        self.resident_count += 1;
    }

    /// Notes that blocks of `class` left their slots other than by eviction; their entries stay
    /// until they reach the front, or until there are too many of them.
    pub(crate) fn forget(&mut self, class: Class, count: usize, weight_bytes: u64) {
        self.queue(class).bytes -= weight_bytes;
        self.resident_count -= count;
    }

    /// Removes the entries of dropped tables, if they are the majority.
    pub(crate) fn sweep(&mut self) {
        const SLACK: usize = 1024;
        if self.entry_count() > self.resident_count * 2 + SLACK {
            for queue in [&mut self.small, &mut self.main, &mut self.high] {
                queue.entries.retain(|entry| entry.array.strong_count() > 0);
                queue.entries.shrink_to(queue.entries.len() * 2);
            }
        }
    }

    /// Takes one block out of its slot, for the caller to drop outside the lock. `None` if nothing
    /// can be evicted now: nothing is resident, or everything left is being read.
    pub(crate) fn evict(&mut self, capacity_bytes: u64) -> Option<Arc<V>> {
        // Each entry may have to be passed over once for each of its uses.
        for _ in 0..self.entry_count() * (usize::from(USES_MAX) + 2) {
            let class = self.victim_class(capacity_bytes);
            let entry = self.queue(class).entries.pop_front()?;
            self.prefetch_ahead(class);
            if let Some(block) = self.visit(class, entry) {
                return Some(block);
            }
        }
        None
    }

    /// Prefetches what the next evictions from the queue of `class` will look at.
    fn prefetch_ahead(&mut self, class: Class) {
        let entries = &self.queue(class).entries;
        let slot_at = |place: usize| {
            let entry = entries.get(place)?;
            Some((entry.array.upgrade()?, entry.slot as usize))
        };
        if let Some((array, slot)) = slot_at(BLOCK_PREFETCHED_AT)
            && let Some(state) = array.slots[slot].try_lock()
            && let Some(block) = &state.block
        {
            let counts = Arc::as_ptr(block).cast::<u8>().wrapping_sub(COUNTS_LEN);
            V::prefetch(counts, COUNTS_LEN + size_of::<V>());
        }
        if let Some((array, slot)) = slot_at(SLOT_PREFETCHED_AT) {
            V::prefetch(std::ptr::from_ref(&array.slots[slot]).cast(), size_of::<Slot<V>>());
        }
    }

    fn victim_class(&self, capacity_bytes: u64) -> Class {
        let data_bytes = self.small.bytes + self.main.bytes;
        let high_is_next = self.high.bytes > 0 && data_bytes <= capacity_bytes / DATA_PART;
        if high_is_next || (self.small.entries.is_empty() && self.main.entries.is_empty()) {
            Class::High
        } else if self.main.entries.is_empty()
            || (self.small.bytes > capacity_bytes / SMALL_PART && !self.small.entries.is_empty())
        {
            Class::Small
        } else {
            Class::Main
        }
    }

    /// Evicts the block of `entry`, or queues it again.
    fn visit(&mut self, class: Class, entry: Entry<V>) -> Option<Arc<V>> {
        let array = entry.array.upgrade()?;
        let slot = &array.slots[entry.slot as usize];
        let Some(mut state) = slot.try_lock() else {
            self.queue(class).entries.push_back(entry);
            return None;
        };
        // None: its table is being dropped by another thread.
        let weight_bytes = state.block.as_deref()?.weight_bytes() as u64;
        if state.uses > 0 {
            if class == Class::Small {
                state.uses = 0;
                state.class = Class::Main;
                self.small.bytes -= weight_bytes;
                self.main.bytes += weight_bytes;
                self.main.entries.push_back(entry);
            } else {
                state.uses -= 1;
                self.queue(class).entries.push_back(entry);
            }
            return None;
        }
        if class == Class::Small {
            self.ghost_clock = self.ghost_clock.wrapping_add(1).max(1);
            state.ghost = self.ghost_clock;
        }
        self.forget(class, 1, weight_bytes);
        self.eviction_count += 1;
        state.block.take()
    }

    /// The resident blocks, starting with those that this policy would keep longest; without those
    /// whose slot is locked at the moment.
    pub(crate) fn by_heat(&self) -> Vec<HotBlock> {
        let mut ranked = Vec::with_capacity(self.resident_count);
        for (class, queue) in
            [(Class::High, &self.high), (Class::Main, &self.main), (Class::Small, &self.small)]
        {
            for entry in queue.entries.iter().rev() {
                let Some(array) = entry.array.upgrade() else { continue };
                let Some(state) = array.slots[entry.slot as usize].try_lock() else { continue };
                if state.block.is_none() {
                    continue;
                }
                let was_used_again = class != Class::Small || state.uses > 0;
                let block = HotBlock { slots: slots_id(&array), slot: entry.slot, was_used_again };
                ranked.push(((class != Class::High, USES_MAX - state.uses), block));
            }
        }
        // Stable: of equals, the one queued last comes first, and main before small.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, block)| block).collect()
    }

    const fn queue(&mut self, class: Class) -> &mut Queue<V> {
        match class {
            Class::Small => &mut self.small,
            Class::Main => &mut self.main,
            Class::High => &mut self.high,
        }
    }
}
