//! How often a keyspace is checked for work that time alone makes due: sixteen times in the
//! shortest duration among its options, and at least once a minute. Does not know what a look does.

use std::time::Duration;

use crate::options::{CompactionPolicy, KeyspaceOptions};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Looks during the shortest duration among the options of a keyspace.
const LOOKS: u32 = 16;

/// No keyspace is looked at more often.
pub(crate) const EVERY_MIN: Duration = Duration::from_millis(50);
const EVERY_MAX: Duration = Duration::from_secs(60);

/// When a keyspace was looked at last. When it is again follows from its present options.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Nanoseconds of the engine's clock, at least 1; 0 before the first look; [`u64::MAX`] after
    /// the last one, at the end of that clock. Counter only: whoever advances it does the look.
    last: AtomicU64,
}

impl Looks {
    /// How long until the next look, with looks `every` so often.
    pub(crate) fn wait(&self, every: Duration, now: Duration) -> Duration {
        match self.last.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            u64::MAX => every,
            last => Duration::from_nanos(last).saturating_add(every).saturating_sub(now),
        }
    }

    /// Whether the caller should look now; the next look is then `every` later.
    pub(crate) fn take(&self, every: Duration, now: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let stamp = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.wait(every, now).is_zero()
            && self.last.compare_exchange(last, stamp, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// How often a keyspace with these options is looked at; `None` if none of them depends on time.
pub(crate) fn look_every(options: &KeyspaceOptions) -> Option<Duration> {
    let by_policy = match options.compaction {
        CompactionPolicy::Fifo(fifo) => fifo.age_max,
        CompactionPolicy::TimeWindow(window) => {
            Some(window.age_max.map_or(window.window, |age| age.min(window.window)))
        }
        _ => None,
    };
    let (deadline, period) = (options.delete_deadline, options.periodic_compaction);
    let idle = options.idle_compaction.filter(|_| options.compaction == CompactionPolicy::Leveled);
    let shortest =
        [by_policy, deadline, period, idle, options.default_ttl].into_iter().flatten().min();
    shortest.map(|shortest| (shortest / LOOKS).clamp(EVERY_MIN, EVERY_MAX))
}
