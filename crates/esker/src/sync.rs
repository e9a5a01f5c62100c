//! The locks and atomics of the engine: those of `esker_base::sync`, or loom's under the model
//! checker.
//!
//! Only unit tests built with `--cfg loom` see loom's; see `loom_tests.rs` for the command.

#[cfg(not(all(test, loom)))]
pub(crate) use esker_base::sync::*;
