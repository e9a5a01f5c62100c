//! Whether everything works and, if not, what does not.

use std::fmt;
use std::time::Duration;

use esker_base::Shown;

use crate::engine::Engine;
use crate::error::Error;
use crate::throttle::pressure::{StallCause, admitted_rate};

/// The state of a database at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Why writing has stopped until the database is reopened, if it has.
    pub poisoned: Option<Error>,
    /// Background jobs that fail; each is tried again.
    pub failing_jobs: Vec<FailingJob>,
    /// Keyspaces whose writes are being slowed down.
    pub stalls: Vec<Stall>,
    /// Keyspaces whose deletes are past their deadline.
    pub late_deletes: Vec<LateDelete>,
    /// Bytes of tables that compactions could free in all keyspaces. An estimate; see
    /// [`KeyspaceStats::reclaimable_bytes`](crate::KeyspaceStats::reclaimable_bytes).
    pub reclaimable_bytes: u64,
    /// Snapshots held: sequence number and age, oldest first. A [`Scan`](crate::Scan) counts as one
    /// as long as it lives; a [`Cursor`](crate::Cursor) does not, unless it was created from a
    /// snapshot, which it then holds as long as it lives.
    pub snapshots: Vec<(u64, Duration)>,
}

/// A background job that keeps failing.
#[derive(Clone, Debug)]
pub struct FailingJob {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The last failure.
    pub error: Error,
    /// How many times it has failed in a row.
    pub attempts: u32,
    /// How long until it is tried again.
    pub retry_in: Duration,
}

/// Deletes that are past their deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateDelete {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Age of the oldest delete whose deleted entries may still be in tables.
    pub age: Duration,
    /// The deadline, [`KeyspaceOptions::delete_deadline`](crate::KeyspaceOptions::delete_deadline).
    pub deadline: Duration,
    /// Whether snapshots are held, which may be the reason.
    pub has_snapshots: bool,
}

/// Writes that are being slowed down.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct StallInfo {
    /// What background work is behind with.
    pub cause: StallCause,
    /// From 0, not slowed, to 1, almost nothing admitted.
    pub pressure: f64,
    /// Bytes per second that are admitted.
    pub admitted_bytes_per_second: f64,
    /// How long the stall would last if nothing more were written, at the present rate of flushes.
    pub expected_end: Duration,
}

/// Writes to a keyspace that are being slowed down.
#[derive(Clone, PartialEq, Debug)]
pub struct Stall {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Why, how much and how long.
    pub info: StallInfo,
}

impl Health {
    /// Whether nothing is wrong: writes are accepted, no background job fails, and no delete is
    /// late. A stall does not count as wrong: it only means that writes come faster than compaction
    /// can keep up.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.poisoned.is_none() && self.failing_jobs.is_empty() && self.late_deletes.is_empty()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() && self.stalls.is_empty() {
            return f.write_str("good");
        }
        let mut separator = "";
        if let Some(error) = &self.poisoned {
            write!(f, "writing stopped: {error}")?;
            separator = "; ";
        }
        for job in &self.failing_jobs {
            write!(
                f,
                "{separator}background work of {} failed {} times, next try in {:.1?}: {}",
                Shown::from(&*job.keyspace),
                job.attempts,
                job.retry_in,
                job.error
            )?;
            separator = "; ";
        }
        for stall in &self.stalls {
            write!(
                f,
                "{separator}writes to {} are slowed to {:.0} bytes per second because {}",
                Shown::from(&*stall.keyspace),
                stall.info.admitted_bytes_per_second,
                stall.info.cause
            )?;
            separator = "; ";
        }
        for late in &self.late_deletes {
            let why = if late.has_snapshots { ", and snapshots are held" } else { "" };
            write!(
                f,
                "{separator}deletes of {} are {:.0?} old, and their deadline is {:.0?}{why}",
                Shown::from(&*late.keyspace),
                late.age,
                late.deadline
            )?;
            separator = "; ";
        }
        Ok(())
    }
}

impl Engine {
    pub(crate) fn health(&self) -> Health {
        let now = self.now();
        let mut failing_jobs = Vec::new();
        let mut stalls = Vec::new();
        let (mut late_deletes, mut reclaimable_bytes) = (Vec::new(), 0);
        let holders = self.snapshots.holders();
        for keyspace in self.keyspaces() {
            for failure in keyspace.failures() {
                failing_jobs.push(FailingJob {
                    keyspace: keyspace.name().to_string(),
                    error: failure.error,
                    attempts: failure.attempts,
                    retry_in: failure.retry_at.saturating_sub(now),
                });
            }
            let (reclaimable, oldest) = self.deletes(&keyspace);
            reclaimable_bytes += reclaimable;
            let deadline = keyspace.settings().options.delete_deadline;
            if let Some((deadline, age)) = deadline.zip(oldest).filter(|(most, age)| most < age) {
                let name = keyspace.name().to_string();
                let has_snapshots = !holders.is_empty();
                late_deletes.push(LateDelete { keyspace: name, age, deadline, has_snapshots });
            }
            let backlog = self.backlog(&keyspace);
            let (pressure, cause) = backlog.pressure();
            if 0.0 < pressure {
                let drain_rate = self.throttle.drain_rate();
                let waiting = backlog.memtables * backlog.memtable_bytes as f64;
                let behind = match cause {
                    StallCause::Flush => waiting,
                    StallCause::MemoryBudget => self.throttle.memtable_bytes() as f64,
                    StallCause::Level0 | StallCause::CompactionDebt => backlog.debt_bytes as f64,
                };
                let info = StallInfo {
                    cause,
                    pressure,
                    admitted_bytes_per_second: admitted_rate(pressure, drain_rate),
                    expected_end: Duration::from_secs_f64(behind / drain_rate),
                };
                stalls.push(Stall { keyspace: keyspace.name().to_string(), info });
            }
        }
        let age = |(seqno, taken): (esker_base::SeqNo, Duration)| {
            (seqno.get(), now.saturating_sub(taken))
        };
        Health {
            poisoned: self.poison_cause().cloned(),
            failing_jobs,
            stalls,
            late_deletes,
            reclaimable_bytes,
            snapshots: holders.into_iter().map(age).collect(),
        }
    }
}
