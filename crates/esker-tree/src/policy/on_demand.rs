//! Compactions on demand, for policies without a way of their own.

use crate::policy::{Leveled, LeveledOptions};

/// The policy that compacts a range down to the last level, where the trees of all policies meet,
/// with outputs of `table_bytes`.
pub(super) fn on_demand(table_bytes: u64) -> Leveled {
    let table_bytes = table_bytes.max(1);
    Leveled::new(LeveledOptions {
        memtable_bytes: table_bytes,
        table_bytes,
        ..LeveledOptions::default()
    })
}
