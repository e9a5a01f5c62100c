//! What a database says about itself: its tree, its figures, how it is, what a read looks at, and what
//! other choices would cost.
//!
//! Nothing here changes anything. What happened is counted and listed where it happens.

pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod levels;
pub(crate) mod planned;
pub(crate) mod stats;
pub(crate) mod what_if;
