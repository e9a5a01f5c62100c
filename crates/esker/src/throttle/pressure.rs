//! How much writes are slowed down, as a pure function of how far background work is behind.
//!
//! Pressure ranges from 0 (nothing waits) to 1 (no room). In between, writes are admitted at
//! `2 * (1 - pressure)` times the rate at which the backlog drains: at one half the backlog stays
//! as it is, so a steady load settles there instead of running into a hard stop. bLSM (Sears and
//! Ramakrishnan, 2012) calls this a spring and gear.

use std::fmt;
use std::time::Duration;

/// What the pressure of one keyspace is computed from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Backlog {
    /// Memtables that wait to be flushed, plus the filled part of the active one.
    pub(crate) memtables: f64,
    /// Limit on the number of immutable memtables.
    pub(crate) immutables_max: usize,
    /// Runs in level 0; 0 where they are not compacted automatically.
    pub(crate) level0_runs: usize,
    /// Bytes to rewrite until the tree is in shape; 0 where that is not automatic.
    pub(crate) debt_bytes: u64,
    /// Size of a memtable, in bytes.
    pub(crate) memtable_bytes: u64,
    /// Memory of the memtables of all keyspaces, as a fraction of their common limit.
    pub(crate) memory: f64,
}

/// What background work is behind with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StallCause {
    /// Memtables fill faster than they are flushed.
    Flush,
    /// Level 0 grows faster than it is compacted.
    Level0,
    /// Deeper levels grow faster than they are compacted.
    CompactionDebt,
    /// The memtables of all keyspaces together take the memory budget: those that wait to be
    /// flushed, in any keyspace, hold back the writes of every keyspace.
    MemoryBudget,
}

impl fmt::Display for StallCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flush => "memtables fill faster than they are flushed",
            Self::Level0 => "level 0 grows faster than it is compacted",
            Self::CompactionDebt => "deeper levels grow faster than they are compacted",
            Self::MemoryBudget => "memtables of all keyspaces together take the memory budget",
        })
    }
}

/// Runs in level 0 at which writes begin to be slowed: three times what triggers a compaction.
const LEVEL0_RUNS_START: f64 = 12.0;
/// Runs in level 0 at which hardly anything is admitted.
const LEVEL0_RUNS_END: f64 = 36.0;
/// Debt at which writes begin to be slowed, in memtables: 4 GiB with memtables of 64 MiB.
const DEBT_MEMTABLES_START: f64 = 64.0;
/// Debt at which hardly anything is admitted, in memtables.
const DEBT_MEMTABLES_END: f64 = 512.0;
/// Fraction of the common memory limit of all memtables at which writes begin to be slowed. Active
/// memtables take at most half of the limit; and a single keyspace with three waiting memtables is
/// slowed by its own rule first.
pub(crate) const MEMORY_START: f64 = 0.75;
/// Minimum rate of writes, in bytes per second, so that no write waits forever.
const RATE_MIN: f64 = 1024.0 * 1024.0;
/// Longest single delay. Longer ones are paid by the writes that follow.
const DELAY_MAX: Duration = Duration::from_millis(20);

impl Backlog {
    /// The pressure, from 0 to 1, and what causes it.
    pub(crate) fn pressure(&self) -> (f64, StallCause) {
        let part =
            |value: f64, start: f64, end: f64| ((value - start) / (end - start)).clamp(0.0, 1.0);
        // One memtable in flush and one filling is the steady state.
        let room = self.immutables_max as f64 + 1.0;
        let memtable_bytes = self.memtable_bytes.max(1) as f64;
        let debt_memtables = self.debt_bytes as f64 / memtable_bytes;
        let causes = [
            (part(self.memtables, (room + 1.0) / 2.0, room), StallCause::Flush),
            (part(self.level0_runs as f64, LEVEL0_RUNS_START, LEVEL0_RUNS_END), StallCause::Level0),
            (
                part(debt_memtables, DEBT_MEMTABLES_START, DEBT_MEMTABLES_END),
                StallCause::CompactionDebt,
            ),
            (part(self.memory, MEMORY_START, 1.0), StallCause::MemoryBudget),
        ];
        let worst = |a: (f64, StallCause), b: (f64, StallCause)| if a.0 < b.0 { b } else { a };
        causes.into_iter().fold((0.0, StallCause::Flush), worst)
    }
}

impl Backlog {
    /// How close the backlog is to where writes begin to be slowed; 1 means that it is there.
    pub(crate) fn urgency(&self) -> f64 {
        let memtables_start = (self.immutables_max as f64 + 2.0) / 2.0;
        let debt_memtables = self.debt_bytes as f64 / self.memtable_bytes.max(1) as f64;
        (self.memtables / memtables_start)
            .max(self.level0_runs as f64 / LEVEL0_RUNS_START)
            .max(debt_memtables / DEBT_MEMTABLES_START)
            .max(self.memory / MEMORY_START)
    }
}

/// Bytes per second that are admitted at `pressure` when the backlog drains at `drain_rate` bytes
/// per second.
pub(crate) fn admitted_rate(pressure: f64, drain_rate: f64) -> f64 {
    (2.0 * (1.0 - pressure) * drain_rate).max(RATE_MIN)
}

/// How long a write of `bytes` is delayed at `pressure`.
pub(crate) fn delay(pressure: f64, drain_rate: f64, bytes: u64) -> Duration {
    if pressure <= 0.0 {
        return Duration::ZERO;
    }
    Duration::from_secs_f64(bytes as f64 / admitted_rate(pressure, drain_rate)).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Backlog = Backlog {
        memtables: 1.9,
        immutables_max: 3,
        level0_runs: 12,
        debt_bytes: 4 << 30,
        memtable_bytes: 64 << 20,
        memory: 0.75,
    };

    #[test]
    fn steady_state_is_not_slowed() {
        assert_eq!(CALM.pressure().0, 0.0);
        assert_eq!(delay(0.0, 1.0, 1 << 20), Duration::ZERO);
    }

    #[test]
    fn pressure_rises_without_a_step_and_names_its_cause() {
        let mut last = 0.0;
        for step in 0..=200 {
            let backlog = Backlog { memtables: 2.0 + f64::from(step) / 100.0, ..CALM };
            let (pressure, cause) = backlog.pressure();
            assert!((0.0..0.011).contains(&(pressure - last)), "{step}: {last} to {pressure}");
            assert_eq!(cause, StallCause::Flush);
            last = pressure;
        }
        assert_eq!(last, 1.0);
        assert_eq!(Backlog { level0_runs: 24, ..CALM }.pressure(), (0.5, StallCause::Level0));
        assert_eq!(
            Backlog { debt_bytes: 32 << 30, ..CALM }.pressure().1,
            StallCause::CompactionDebt
        );
        let half = Backlog { memory: 0.875, ..CALM }.pressure();
        assert_eq!(half, (0.5, StallCause::MemoryBudget));
    }

    #[test]
    fn at_half_pressure_writes_pass_at_the_rate_of_the_drain() {
        assert_eq!(admitted_rate(0.5, 100e6), 100e6);
        assert_eq!(delay(0.5, 100e6, 1_000_000), Duration::from_millis(10));
        assert_eq!(delay(1.0, 100e6, u64::MAX), DELAY_MAX);
    }
}
