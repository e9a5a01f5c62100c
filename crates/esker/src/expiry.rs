//! Expiry of values: how users give and see it, and the clock that decides it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esker_env::Clock;

use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicU64, Ordering};

/// When a value expires.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expiry {
    /// Never: it stays until it is overwritten or deleted.
    Never,
    /// At this time of the wall clock; from then on the key has no value. Rounded up to whole
    /// milliseconds. A time in the past is accepted: it hides what the key had.
    At(SystemTime),
}

impl Expiry {
    /// In milliseconds since the epoch; `None` for never.
    pub(crate) fn millis(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::At(time) => Some(millis_up(time.duration_since(UNIX_EPOCH).unwrap_or_default())),
        }
    }

    /// The expiry at so many milliseconds since the epoch.
    pub(crate) fn at_millis(millis: u64) -> Self {
        UNIX_EPOCH.checked_add(Duration::from_millis(millis)).map_or(Self::Never, Self::At)
    }
}

/// Whole milliseconds, rounded up; the largest number for more than that.
pub(crate) fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The wall clock as used for expiry: it may stand still, but never goes back while the database is
/// open. What has expired for one reader has expired for every later one, so compaction may drop
/// it.
#[derive(Debug)]
pub(crate) struct ExpiryClock {
    clock: Arc<dyn Clock>,
    /// The latest time given out. Counter only: whoever must be ordered after a reader reads it
    /// under the lock of the snapshots, or after taking the view that it is applied to.
    latest: AtomicU64,
}

impl ExpiryClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, latest: AtomicU64::new(0) }
    }

    /// Milliseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        let wall = u64::try_from(self.clock.wall().as_millis()).unwrap_or(u64::MAX);
        let latest = self.latest.load(Ordering::Relaxed);
        // At most one write a millisecond, however many read.
        if wall <= latest {
            latest
        } else {
            self.latest.fetch_max(wall, Ordering::Relaxed).max(wall)
        }
    }

    /// When a value that is written now expires.
    ///
    /// # Errors
    /// `InvalidInput` if `ttl` is zero.
    pub(crate) fn after(&self, ttl: Duration) -> Result<u64> {
        if ttl.is_zero() {
            return Err(Error::invalid_input("the ttl is 0, and must be more than 0"));
        }
        // A sum past the largest number is a time that never comes.
        Ok(self.now().saturating_add(millis_up(ttl)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_env::ManualClock;

    #[test]
    fn times_are_rounded_up_and_never_wrap() {
        let at = |nanos| Expiry::At(UNIX_EPOCH + Duration::from_nanos(nanos));
        assert_eq!(at(1_000_001).millis(), Some(2));
        assert_eq!(at(1_000_000).millis(), Some(1));
        assert_eq!(Expiry::At(UNIX_EPOCH - Duration::from_secs(1)).millis(), Some(0));
        assert_eq!(Expiry::Never.millis(), None);
        assert_eq!(Expiry::at_millis(5), at(5_000_000));
        assert_eq!(Expiry::at_millis(u64::MAX).millis(), Some(u64::MAX));
        assert_eq!(millis_up(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_clock_never_goes_back_and_ttls_are_added_to_it() {
        let manual = Arc::new(ManualClock::new(Duration::from_millis(100)));
        let clock = ExpiryClock::new(manual.clone());
        assert_eq!(clock.after(Duration::from_micros(1500)).unwrap(), 102);
        manual.set_wall(Duration::from_millis(40));
        assert_eq!(clock.now(), 100);
        manual.set_wall(Duration::from_millis(140));
        assert_eq!(clock.now(), 140);
        assert_eq!(clock.after(Duration::MAX).unwrap(), u64::MAX);
        let error = clock.after(Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "the ttl is 0, and must be more than 0");
    }
}
