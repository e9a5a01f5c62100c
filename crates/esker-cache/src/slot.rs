//! One slot: where a block stands when it is resident, and what is remembered when it is not.

use std::sync::{Arc, PoisonError};

use crate::budget::Owner;
use crate::sync::{Mutex, MutexGuard};

/// What the cache needs to know of a block.
pub trait Weigh {
    /// Bytes of memory that the block holds. Must never change.
    fn weight_bytes(&self) -> usize;

    /// Whom the bytes are charged to. Must never change.
    fn owner(&self) -> Owner;
}

/// How hard the cache holds on to a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Data: comes and goes.
    Normal,
    /// Indexes and filters, of which every read needs one: evicted only where data has little left.
    High,
}

/// Which queue a resident block stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Class {
    /// Came in lately and was not asked for again yet.
    Small,
    /// Was asked for again.
    Main,
    /// Came in with [`Priority::High`].
    High,
}

/// The largest use count: enough to tell hot from warm, few enough to cool down soon.
pub(crate) const USES_MAX: u8 = 3;

/// What is in one slot.
#[derive(Debug)]
pub(crate) struct SlotState<V> {
    pub(crate) block: Option<Arc<V>>,
    /// When the block was last evicted from the small queue without a use, as a count of such
    /// evictions; zero if it was not.
    pub(crate) ghost: u32,
    /// Hits since the block came in or was last passed over, at most [`USES_MAX`].
    pub(crate) uses: u8,
    /// Where `block` is queued; without meaning while there is none.
    pub(crate) class: Class,
}

/// The slots, as the queues refer to them.
#[derive(Debug)]
pub(crate) struct SlotArray<V> {
    pub(crate) slots: Box<[Mutex<SlotState<V>>]>,
}

// One slot for every block of every open table, resident or not: 24 bytes beside a block of 4 KiB.
#[cfg(not(any(shuttle, all(test, loom))))]
const _: () = assert!(size_of::<Mutex<SlotState<Vec<u8>>>>() == 24);

/// Locks, whatever became of the last holder: a panic inside of a load leaves the slot empty and
/// whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
