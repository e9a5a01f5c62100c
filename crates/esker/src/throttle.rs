//! How writers wait for background work: short delays while it is behind, longer ones only when
//! there is no room at all.

pub(crate) mod io_limit;
pub(crate) mod pressure;

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, PoisonError};
use crate::throttle::io_limit::IoLimit;

/// Shared by all keyspaces: waking writers, and how fast the backlog drains.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Counts the times that waiting writers had a reason to check again.
    epoch: Mutex<u64>,
    changed: Condvar,
    /// Delay that writes owe but have not waited yet, in nanoseconds. Counter only.
    owed_nanos: AtomicU64,
    /// Bytes per second that recent flushes processed; 0 before the first. Counter only.
    drain_rate: AtomicU64,
    /// Bytes of the memtables of all keyspaces; 0 while they are too few to slow down anybody.
    /// Counter only.
    memtable_bytes: AtomicU64,
    /// Limits the rate of compactions, if the options ask for it.
    pub(crate) io_limit: IoLimit,
}

/// Delays shorter than this are saved up: a wait costs some fifty microseconds by itself.
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);

/// Drain rate assumed before the first flush has been measured, in bytes per second.
const DRAIN_RATE_ASSUMED: f64 = 64e6;

/// A flush of at least this many bytes has full weight in the average rate.
const DRAINED_BYTES_WHOLE: f64 = 1024.0 * 1024.0;

impl Throttle {
    /// Lets every waiting writer check again.
    pub(crate) fn wake(&self) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    pub(crate) fn epoch(&self) -> u64 {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the writers are woken after `epoch` was read, or for `limit`; returns whether it
    /// was woken.
    pub(crate) fn wait(&self, epoch: u64, limit: Duration) -> bool {
        let guard = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = |now: &mut u64| *now == epoch;
        let waited = self.changed.wait_timeout_while(guard, limit, unchanged);
        let (_guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    pub(crate) fn drain_rate(&self) -> f64 {
        match self.drain_rate.load(Ordering::Relaxed) {
            0 => DRAIN_RATE_ASSUMED,
            rate => rate as f64,
        }
    }

    /// Notes that a flush processed `bytes` of memtables in `duration`: a moving average over about
    /// four flushes, or four mebibytes. A small flush says little, since it mostly waits for the
    /// device.
    pub(crate) fn note_drained(&self, bytes: u64, duration: Duration) {
        let rate = bytes as f64 / duration.as_secs_f64().max(1e-6);
        let share = 0.25 * (bytes as f64 / DRAINED_BYTES_WHOLE).min(1.0);
        let average = self.drain_rate() * (1.0 - share) + rate * share;
        self.drain_rate.store((average as u64).max(1), Ordering::Relaxed);
    }

    /// The last noted size of the memtables of all keyspaces.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.memtable_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn note_memtable_bytes(&self, bytes: u64) {
        self.memtable_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds `delay` to what is owed; takes and returns all of it if that is long enough for a wait.
    pub(crate) fn owe(&self, delay: Duration) -> Option<Duration> {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let owed =
            Duration::from_nanos(self.owed_nanos.fetch_add(nanos, Ordering::Relaxed) + nanos);
        if owed < WAIT_MIN {
            return None;
        }
        self.owed_nanos.store(0, Ordering::Relaxed);
        Some(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who flushes a few entries at a time had writers elsewhere slowed down to the least that
    /// there is.
    #[test]
    fn small_flushes_say_little_of_the_rate() {
        let throttle = Throttle::default();
        let mebibyte = 1_u64 << 20;
        for _ in 0..40 {
            throttle.note_drained(100 * mebibyte, Duration::from_millis(500));
        }
        let rate = throttle.drain_rate();
        assert!((2e8..2.2e8).contains(&rate), "{rate}");
        for _ in 0..1000 {
            throttle.note_drained(100, Duration::from_millis(5));
        }
        assert!(rate * 0.97 < throttle.drain_rate(), "{} of {rate}", throttle.drain_rate());
        for _ in 0..40 {
            throttle.note_drained(mebibyte, Duration::from_millis(100));
        }
        assert!(throttle.drain_rate() < 2e7, "{}", throttle.drain_rate());
    }
}
