//! Time. It never decides correctness; it paces background work and measures.

use std::fmt;
use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Time since 1970-01-01 UTC by the wall clock, which may jump.
    fn wall(&self) -> Duration;

    /// Waits. Only for work that has nothing to be woken by.
    fn sleep(&self, duration: Duration);
}
