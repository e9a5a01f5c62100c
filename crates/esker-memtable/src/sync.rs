//! The atomics of the tree: those of std, or loom's under the model checker.
//!
//! Only unit tests built with `--cfg loom` see loom's; see `loom_tests.rs` for the command.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
