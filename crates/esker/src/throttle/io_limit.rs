//! A rate limit on what all compactions together read, and thus roughly on what they write. It
//! gives way when work piles up.
//!
//! Compactions share the device and the processor with the reads and writes of users. While the
//! tree is in shape, they keep to the rate of the options. The closer the backlog comes to where
//! writes would be slowed down, the more they may read, and beyond that point there is no limit:
//! one that made writers wait would cost more than it saves. Flushes are never held up, since
//! writers wait for them first.
//!
//! Does not wait itself: it says how long to wait.

use std::time::Duration;

use crate::sync::{Mutex, PoisonError};
use crate::throttle::pressure::Backlog;

/// Urgency up to which the limit applies as given.
const URGENCY_CALM: f64 = 0.5;

/// By which factor the limit has risen just before it is lifted.
const STRETCH_MAX: f64 = 8.0;

/// What may be read at once after a pause, in seconds of the limit.
const BURST_SECONDS: f64 = 0.1;

/// Bytes per second that compactions may read if the options say `limit`; `None` for no limit.
pub(crate) fn allowed_rate(limit: u64, backlog: &Backlog) -> Option<f64> {
    let urgency = backlog.urgency();
    if urgency >= 1.0 {
        return None;
    }
    let above = ((urgency - URGENCY_CALM) / (1.0 - URGENCY_CALM)).max(0.0);
    Some(limit as f64 * (1.0 + above * (STRETCH_MAX - 1.0)))
}

/// When the next bytes may be read.
#[derive(Debug, Default)]
pub(crate) struct IoLimit {
    /// Time at which what was read so far is paid for.
    paid_until: Mutex<Duration>,
}

impl IoLimit {
    /// Notes that `bytes` were read at `now`, with a limit of `rate` bytes per second, and returns
    /// how long to wait before reading more.
    pub(crate) fn pace(&self, bytes: u64, rate: f64, now: Duration) -> Duration {
        let burst = Duration::from_secs_f64(BURST_SECONDS);
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1.0));
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now.saturating_sub(burst)).saturating_add(cost);
        paid_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Backlog = Backlog {
        memtables: 0.5,
        immutables_max: 3,
        level0_runs: 0,
        debt_bytes: 0,
        memtable_bytes: 64 << 20,
        memory: 0.0,
    };

    #[test]
    fn the_limit_gives_way_before_writes_are_slowed() {
        assert_eq!(allowed_rate(100, &CALM), Some(100.0));
        assert_eq!(allowed_rate(100, &Backlog { level0_runs: 6, ..CALM }), Some(100.0));
        assert_eq!(allowed_rate(100, &Backlog { level0_runs: 9, ..CALM }), Some(450.0));
        for slowed in [
            Backlog { level0_runs: 12, ..CALM },
            Backlog { debt_bytes: 4 << 30, ..CALM },
            Backlog { memtables: 2.5, ..CALM },
            Backlog { memory: 0.8, ..CALM },
        ] {
            assert_eq!(allowed_rate(100, &slowed), None, "{slowed:?}");
        }
    }

    #[test]
    fn a_second_of_bytes_takes_a_second_whoever_writes_them() {
        let limit = IoLimit::default();
        let start = Duration::from_secs(100);
        let mut now = start;
        for _ in 0..20 {
            now += limit.pace(50, 1000.0, now);
        }
        // What the pause before had left over is let through at once.
        assert_eq!(now - start, Duration::from_millis(900));
    }

    #[test]
    fn time_that_nobody_used_is_not_saved_up() {
        let limit = IoLimit::default();
        assert_eq!(limit.pace(100, 1000.0, Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(limit.pace(100, 1000.0, Duration::from_secs(99)), Duration::ZERO);
        assert_eq!(limit.pace(100, 1000.0, Duration::from_secs(99)), Duration::from_millis(100));
    }
}
