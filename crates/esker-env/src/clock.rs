//! Time. It never decides correctness; it paces background work and measures.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Time since 1970-01-01 UTC by the wall clock, which may jump.
    fn wall(&self) -> Duration;

    /// Sleeps. Only for work that nothing could wake.
    fn sleep(&self, duration: Duration);
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::now`] counts from here.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for time")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for time")]
    fn wall(&self) -> Duration {
        // A clock set to before 1970 reads as 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system to wait")]
    fn sleep(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

/// A clock that advances only when told to, or when somebody sleeps on it.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// Both readings; held for a copy or an addition only.
    readings: Mutex<Readings>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Readings {
    now: Duration,
    wall: Duration,
}

impl ManualClock {
    /// A clock that stands at zero, with the wall clock at `wall`.
    #[must_use]
    pub fn new(wall: Duration) -> Self {
        Self { readings: Mutex::new(Readings { now: Duration::ZERO, wall }) }
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `duration` pass on both readings.
    pub fn advance(&self, duration: Duration) {
        let mut readings = self.readings();
        readings.now = readings.now.saturating_add(duration);
        readings.wall = readings.wall.saturating_add(duration);
    }

    /// Makes the wall clock jump, forward or back; [`Clock::now`] does not notice.
    pub fn set_wall(&self, wall: Duration) {
        self.readings().wall = wall;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.readings().now
    }

    fn wall(&self) -> Duration {
        self.readings().wall
    }

    /// Returns at once, `duration` later.
    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let before = clock.now();
        clock.sleep(Duration::from_micros(1));
        assert!(before < clock.now());
        assert!(Duration::from_secs(1_700_000_000) < clock.wall());
    }

    #[test]
    fn manual_clock_moves_by_sleep_and_jumps_by_wall_only() {
        let clock = ManualClock::new(Duration::from_secs(100));
        clock.sleep(Duration::from_secs(2));
        assert_eq!((clock.now(), clock.wall()), (Duration::from_secs(2), Duration::from_secs(102)));
        clock.set_wall(Duration::from_secs(5));
        assert_eq!((clock.now(), clock.wall()), (Duration::from_secs(2), Duration::from_secs(5)));
    }
}
