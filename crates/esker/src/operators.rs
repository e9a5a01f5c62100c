//! Merge operators that come with Esker, and an adapter for ones of a single function.
//!
//! Each is recorded under a name that starts with `esker.`, by which it is found again when the
//! database is opened: keyspaces with these need not be given their operator a second time.
//!
//! Ordinary users of [`MergeOperator`]: they know nothing of the engine.

mod append;
mod associative;
mod counter;
mod extreme;
mod set_union;

use esker_tree::{Merge, MergeFailure, MergeOperator};

pub use append::Append;
pub use associative::Associative;
pub use counter::{AddI64, AddU64};
pub use extreme::{Maximum, Minimum};
pub use set_union::SetUnion;

/// The operator of this module that is recorded as `name`.
#[must_use]
pub fn by_name(name: &str) -> Option<Merge> {
    let simple = [
        Merge::new(AddU64),
        Merge::new(AddI64),
        Merge::new(Minimum),
        Merge::new(Maximum),
        Merge::new(SetUnion),
    ];
    let simple = simple.into_iter().find(|merge| merge.name() == name);
    simple.or_else(|| Append::by_name(name).map(Merge::new))
}

/// All that an associative operator folds, the oldest first.
fn parts<'a>(
    existing: Option<&'a [u8]>,
    operands: &'a [&'a [u8]],
) -> impl Iterator<Item = &'a [u8]> {
    existing.into_iter().chain(operands.iter().copied())
}

#[cfg(test)]
mod tests;
