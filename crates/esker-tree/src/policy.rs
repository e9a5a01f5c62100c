//! Policies: what to compact next.
//!
//! A policy is a pure function of the tree's shape, the plans in flight and the time, all given
//! as arguments: no I/O, lock, clock or random. The engine, the simulator and the tests run the
//! same function.

mod aged;
mod bad_option;
mod bottom_levels;
mod by_bytes;
mod fifo;
mod lazy;
mod leveled;
mod never;
mod on_demand;
mod simple;
mod tiered;
mod time_window;
mod universal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use esker_base::{KeyRange, SeqNo};
use esker_table::Compression;

use crate::plan::{Busy, Plan};
use crate::shape::Shape;

pub use bad_option::BadOption;
pub use by_bytes::{LeveledByBytes, LeveledByBytesOptions};
pub use fifo::{Fifo, FifoOptions};
pub use lazy::{Lazy, LazyOptions};
pub use leveled::{Leveled, LeveledOptions};
pub use never::Never;
use on_demand::on_demand;
pub use simple::{Simple, SimpleOptions};
pub use tiered::{Tiered, TieredOptions};
pub use time_window::{TimeWindow, TimeWindowOptions};
pub use universal::{Universal, UniversalOptions};

/// Decides what to compact.
///
/// Every plan of a policy must preserve the order of the tree: of two entries of one key, the newer
/// one is in a shallower level, or in a newer run of the same level.
pub trait Policy: Send + Sync + fmt::Debug + 'static {
    /// The policy's name, as used in options and reports.
    fn name(&self) -> &'static str;

    /// The most useful plan that can run concurrently with `busy`; `None` if there is nothing to
    /// do, or nothing that can be done now. `now` is the time since some fixed moment.
    fn pick(&self, shape: &Shape, busy: &Busy, now: Duration) -> Option<Plan>;

    /// The next plan of a compaction on demand; called again after each until `None`.
    ///
    /// With plans in flight, `None` may mean that they are in the way. The request is fulfilled
    /// when this returns `None` for an empty [`Busy`].
    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan>;

    /// The bytes that each level should hold at most; 0 for a level that should be empty.
    fn level_targets(&self, shape: &Shape) -> Vec<u64>;

    /// How urgent each level is: above 1, it holds too much; 2 means twice its target.
    fn scores(&self, shape: &Shape) -> Vec<f64>;

    /// An estimate of the bytes that must be rewritten until no score is above 1.
    fn debt_bytes(&self, shape: &Shape) -> u64;

    /// How many runs level 0 may have when compaction is not behind.
    fn resting_run_count(&self) -> usize {
        0
    }
}

/// A compaction on demand.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Newer entries are not part of the request, so that it does not chase the writes that arrive
    /// while it runs.
    pub up_to: SeqNo,
    /// What to do with tables that are in the last level already.
    pub last_level: LastLevel,
    /// Entries that have expired at this time, in milliseconds since 1970-01-01 UTC, count as
    /// tombstones.
    pub expired_at: u64,
    /// The compression that tables of the last level are to have: those with another one are
    /// rewritten, too. `None` if any will do.
    pub compression: Option<Compression>,
}

/// What a compaction on demand does with tables that are in the last level already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastLevel {
    /// Leaves them.
    Keep,
    /// Rewrites those that hold tombstones or overwritten entries, and whose file counter is below
    /// this one: the next file counter at the time of the request, so that each table is rewritten
    /// once.
    RewriteTombstones(u64),
    /// Rewrites all tables whose file counter is below this one.
    RewriteAll(u64),
}
