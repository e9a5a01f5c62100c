//! Latencies of single operations.

use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use hdrhistogram::Histogram;

/// One in this many short operations is timed: reading the clock twice would cost a tenth of one.
const SAMPLE_EVERY: u64 = 8;

/// Collects latencies on one thread.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    clock: SystemClock,
    nanos: Histogram<u64>,
    started: Duration,
    last: Duration,
    /// Laps that ended in each second since the start.
    per_second: Vec<u64>,
}

impl Latencies {
    pub(super) fn start(clock: SystemClock) -> Self {
        let nanos = Histogram::new(3).expect("three digits are within what a histogram takes");
        let started = clock.now();
        Self { clock, nanos, started, last: started, per_second: Vec::new() }
    }

    /// Starts the next lap here.
    pub(super) fn restart(&mut self) {
        self.last = self.clock.now();
    }

    /// Records an operation that began when the previous one ended. The clock is read once, so that
    /// every operation can be recorded and the longest is not missed.
    #[inline]
    pub(super) fn lap(&mut self) {
        let now = self.clock.now();
        self.record(now - self.last);
        self.last = now;
        self.count((now - self.started).as_secs() as usize);
    }

    fn count(&mut self, second: usize) {
        if second >= self.per_second.len() {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += 1;
    }

    /// Does an operation, and records its time if `number` is one that is timed.
    #[inline]
    pub(super) fn sample<R>(&mut self, number: u64, operation: impl FnOnce() -> R) -> R {
        if !number.is_multiple_of(SAMPLE_EVERY) {
            return operation();
        }
        let started = self.clock.now();
        let result = operation();
        self.record(self.clock.now() - started);
        result
    }

    fn record(&mut self, duration: Duration) {
        self.nanos += u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.nanos += &other.nanos;
        let seconds = self.per_second.len().max(other.per_second.len());
        self.per_second.resize(seconds, 0);
        for (sum, more) in self.per_second.iter_mut().zip(&other.per_second) {
            *sum += more;
        }
    }

    /// Operations that ended in each whole second: the last, incomplete one is left out.
    pub(super) fn per_second(&self) -> &[u64] {
        self.per_second.split_last().map_or(&[], |(_, whole)| whole)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nanos.is_empty()
    }

    /// The latency that `quantile` of the operations do not exceed, in microseconds.
    pub(super) fn micros_at(&self, quantile: f64) -> f64 {
        self.nanos.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn micros_max(&self) -> f64 {
        self.nanos.max() as f64 / 1000.0
    }

    /// Upper ends of buckets in microseconds, each twice the previous one, with the number of
    /// operations in them.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let buckets = self.nanos.iter_log(128, 2.0);
        let each = |bucket: hdrhistogram::iterators::IterationValue<u64>| {
            let end = bucket.value_iterated_to() as f64 / 1000.0;
            (end, bucket.count_since_last_iteration())
        };
        buckets.map(each).filter(|(_, count)| 0 < *count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_threads_add_up_and_the_last_is_left_out() {
        let mut one = Latencies::start(SystemClock::new());
        let mut other = one.clone();
        [0, 0, 2].into_iter().for_each(|second| one.count(second));
        [0, 1, 1, 3, 4].into_iter().for_each(|second| other.count(second));
        one.add(&other);
        assert_eq!(one.per_second(), [3, 2, 1, 1]);
        assert!(Latencies::start(SystemClock::new()).per_second().is_empty());
    }
}
