//! Floor 2 of Esker: the memtable.
//!
//! A [`Memtable`] holds the newest writes of one keyspace, sorted, and answers reads from them
//! until they are flushed to a table. It is an insert-only B+-tree in an append-only arena: one
//! writer at a time, any number of readers that take no lock and never wait. The essay in `tree.rs`
//! explains why concurrent readers are always right.
//!
//! - [`Memtable`], [`MemtableWriter`], [`MemtableEntry`]: insert and get.
//! - [`MemtableCursor`]: ordered walks in both directions, owned.
//! - Range tombstones are kept beside the tree, see `ranges.rs`; cursors do not show them.
//! - [`MemtableSlice`]: a value that outlives the call, without a copy.
//! - [`EntryMap`], [`EntryCursor`]: traits that the tree shares with its safe twin, a skip list,
//!   which is the oracle of the tests and the baseline of the benchmark.
//!
//! Knows nothing of logs, files, tables, budgets or visibility: it never drops or merges an entry,
//! and does not know which snapshots exist.
//!
//! Unsafe code is confined to the files that hold raw memory (`arena.rs`, `entry.rs`, `slots.rs`,
//! `leaf.rs`, `node.rs`, `nursery.rs`), one function of `tree.rs`, and `pin.rs`; UNSAFE.md lists
//! the sites, and what checks them.

#![deny(unsafe_code)]

mod memtable;
mod pin;
mod ranges;

mod cursor;
mod descent;
mod insert;
mod tree;

mod arena;
mod entry;
mod leaf;
mod node;
mod nursery;
mod permutation;
mod slots;
mod sync;
mod target;

mod map;
#[cfg(any(test, feature = "skiplist"))]
mod skiplist;

pub use cursor::TreeCursor;
#[cfg(all(test, loom))]
mod loom_tests;

pub use map::{EntryCursor, EntryMap};
pub use memtable::{Memtable, MemtableEntry, MemtableWriter};
pub use pin::{MemtableCursor, MemtableSlice};
#[cfg(any(test, feature = "skiplist"))]
pub use skiplist::{SkiplistCursor, SkiplistMap};
pub use tree::ArenaTree;
