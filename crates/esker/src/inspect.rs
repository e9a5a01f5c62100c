//! Introspection: the tree, statistics, health, what a read looks at, and what other options would
//! cost.
//!
//! Nothing here changes anything. Counters and events are recorded where things happen.

pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod levels;
pub(crate) mod planned;
pub(crate) mod stats;
pub(crate) mod what_if;
