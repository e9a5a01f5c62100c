//! Floor 1 of Esker: memory. The budget that every owner of memory is charged to, and the cache
//! of blocks, which lives in what the others leave.
//!
//! Start at [`Budget`], then [`BlockCache`] and the [`CacheSlots`] that a table registers with it.
//! Does not know what a block is, beyond its weight and its [`Owner`]; does no I/O and reads no
//! clock.

#![forbid(unsafe_code)]

mod block_cache;
mod budget;
mod hit_counter;
mod queues;
mod slot;
mod slots;
mod sync;

#[cfg(all(test, loom))]
mod loom_tests;

pub use block_cache::{BlockCache, CacheStats};
pub use budget::{Budget, Charge, Owner};
pub use queues::{HotBlock, SlotsId};
pub use slot::{FirstLook, Priority, Weigh};
pub use slots::{CacheSlots, Filled, Lookup};
