//! Work that becomes due because time passes, without a write or a job that would ask for it.
//!
//! Each keyspace whose options go by time is looked at every so often: sixteen times in the shortest
//! of its times, at least once a minute. A look only asks for what is due; the jobs decide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::Engine;
use crate::keyspace_core::KeyspaceCore;
use crate::options::{CompactionPolicy, KeyspaceOptions};

/// Looks during the shortest time that a keyspace goes by.
const LOOKS: u32 = 16;

const EVERY_MIN: Duration = Duration::from_millis(50);
const EVERY_MAX: Duration = Duration::from_secs(60);

/// When a keyspace is looked at next.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Nanoseconds of the engine's clock; 0 before the first look. Counter only: who moves it on
    /// does the look.
    next: AtomicU64,
}

impl Looks {
    /// How long until the next look.
    fn wait(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.next.load(Ordering::Relaxed)).saturating_sub(now)
    }

    /// Whether the caller is to look now; the next look is `every` so much later.
    fn take(&self, every: Duration, now: Duration) -> bool {
        let due = self.next.load(Ordering::Relaxed);
        let next = u64::try_from((now + every).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(due) <= now
            && self.next.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// How often a keyspace with these options is looked at; `None` if none of them goes by time.
pub(crate) fn look_every(options: &KeyspaceOptions) -> Option<Duration> {
    let by_policy = match options.compaction {
        CompactionPolicy::Fifo(fifo) => fifo.age_max,
        CompactionPolicy::TimeWindow(window) => {
            Some(window.age_max.map_or(window.window, |age| age.min(window.window)))
        }
        _ => None,
    };
    by_policy.map(|shortest| (shortest / LOOKS).clamp(EVERY_MIN, EVERY_MAX))
}

impl Engine {
    /// How long until time alone may give some keyspace work; `None` if it never does.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        if self.is_read_only {
            return None;
        }
        let keyspaces = self.keyspaces();
        let timed = keyspaces.iter().filter(|keyspace| keyspace.settings().look_every.is_some());
        timed.map(|keyspace| keyspace.looks.wait(now)).min()
    }

    /// Asks for what has become due in keyspaces whose turn it is.
    pub(crate) fn look_at_time(&self) {
        let now = self.now();
        for keyspace in self.keyspaces() {
            let every = keyspace.settings().look_every;
            if every.is_some_and(|every| keyspace.looks.take(every, now)) {
                self.look(&keyspace);
            }
        }
    }

    fn look(&self, keyspace: &KeyspaceCore) {
        self.scheduler.request_compaction(keyspace.id);
    }
}
