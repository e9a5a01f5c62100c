//! Floor 1 of Esker: memory. The budget that all owners of memory are charged to, and the block
//! cache, which takes what the others leave.
//!
//! Start at [`Budget`], then [`BlockCache`] and the [`CacheSlots`] that a table registers with it.
//! Knows nothing of a block except its weight and its [`Owner`]; does no I/O and reads no clock.

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
