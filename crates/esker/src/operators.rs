//! The built-in merge operators, and an adapter that makes an operator of one function.
//!
//! Each has a name that starts with `esker.`, by which it is found when the database is opened
//! again: keyspaces with these operators need not be given them a second time.
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

/// The values that an associative operator folds, oldest first.
fn parts<'a>(
    existing: Option<&'a [u8]>,
    operands: &'a [&'a [u8]],
) -> impl Iterator<Item = &'a [u8]> {
    existing.into_iter().chain(operands.iter().copied())
}

#[cfg(test)]
mod tests;
