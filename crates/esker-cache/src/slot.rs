//! One slot: the place of a block while it is resident, and what is remembered of it when it is
//! not.

use std::sync::{Arc, PoisonError, TryLockError};

use crate::budget::Owner;
use crate::sync::{Mutex, MutexGuard};

/// What the cache needs to know about a block.
pub trait Weigh {
    /// Bytes of memory that the block holds. Must never change.
    fn weight_bytes(&self) -> usize;

    /// The owner to which the bytes are charged. Must never change.
    fn owner(&self) -> Owner;

    /// What a reader of the block looks at first, besides the block itself. Must never change.
    fn first_look(&self) -> FirstLook {
        FirstLook::default()
    }

    /// Prefetches `len` bytes at `start`, which the cache will look at soon. A hint: by default
    /// nothing happens.
    fn prefetch(_start: *const u8, _len: usize)
    where
        Self: Sized,
    {
    }

    /// Called instead of a drop for an evicted block that nobody else holds, by the thread that
    /// made room, without a lock.
    fn retire(self)
    where
        Self: Sized,
    {
    }
}

/// The address of the bytes of a block that its readers look at first. Kept in the slot, so that
/// they can be prefetched together with the block, rather than after the block itself has been
/// loaded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FirstLook {
    /// Address of the first of them.
    pub address: usize,
    /// How many there are.
    pub len: u16,
}

/// How strongly the cache holds on to a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Data: comes and goes.
    Normal,
    /// Indexes and filters, which every read needs: evicted only if data has little room left.
    High,
}

/// Which queue a resident block is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Class {
    /// Came in recently and was not used again yet.
    Small,
    /// Was used again.
    Main,
    /// Came in with [`Priority::High`].
    High,
}

/// The largest use count: enough to distinguish hot from warm, few enough to cool down soon.
pub(crate) const USES_MAX: u8 = 3;

/// What is in one slot.
#[derive(Debug)]
pub(crate) struct SlotState<V> {
    pub(crate) block: Option<Arc<V>>,
    /// [`FirstLook::address`] of `block`; meaningless while there is none.
    pub(crate) look_at: usize,
    /// When the block was last evicted from the small queue without a use, as a count of such
    /// evictions; zero for never.
    pub(crate) ghost: u32,
    /// Hits since the block came in or was last passed over, at most [`USES_MAX`].
    pub(crate) uses: u8,
    /// The queue of `block`; meaningless while there is none.
    pub(crate) class: Class,
    /// [`FirstLook::len`] of `block`; meaningless while there is none.
    pub(crate) look_len: u16,
}

impl<V> SlotState<V> {
    pub(crate) const EMPTY: Self =
        Self { block: None, look_at: 0, ghost: 0, uses: 0, class: Class::Small, look_len: 0 };

    pub(crate) const fn first_look(&self) -> FirstLook {
        FirstLook { address: self.look_at, len: self.look_len }
    }
}

/// One slot, which never lies across two cache lines.
#[derive(Debug)]
#[repr(align(32))]
pub(crate) struct Slot<V>(Mutex<SlotState<V>>);

impl<V> Slot<V> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(SlotState::EMPTY))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, SlotState<V>> {
        lock(&self.0)
    }

    /// `None` if it is locked.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, SlotState<V>>> {
        match self.0.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The slots, as the queues refer to them.
#[derive(Debug)]
pub(crate) struct SlotArray<V> {
    pub(crate) slots: Box<[Slot<V>]>,
}

impl<V> SlotArray<V> {
    /// This many slots, all empty.
    pub(crate) fn empty(slot_count: u32) -> Arc<Self> {
        Arc::new(Self { slots: (0..slot_count).map(|_| Slot::empty()).collect() })
    }
}

// One slot for every block of every open table, resident or not: 32 bytes beside a block of 4 KiB.
#[cfg(not(any(shuttle, all(test, loom))))]
const _: () = assert!(size_of::<Slot<Vec<u8>>>() == 32);

/// Locks, even if the last holder panicked: a panic during a load leaves the slot empty and
/// consistent.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
