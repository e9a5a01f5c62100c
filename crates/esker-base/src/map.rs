//! Hash maps with a fixed hasher, so that a run can be replayed: iteration order depends only on
//! the operations.
//!
//! Not hardened against chosen keys; user keys never go into one.

use std::hash::BuildHasherDefault;

use xxhash_rust::xxh3::Xxh3Default;

/// A `HashMap` whose order does not change from run to run.
#[expect(clippy::disallowed_types, reason = "the alias with the fixed hasher")]
pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Xxh3Default>>;

/// A `HashSet` whose order does not change from run to run.
#[expect(clippy::disallowed_types, reason = "the alias with the fixed hasher")]
pub type HashSet<K> = std::collections::HashSet<K, BuildHasherDefault<Xxh3Default>>;
