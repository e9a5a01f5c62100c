//! Latencies of single operations.

use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use hdrhistogram::Histogram;

/// Of short operations one in this many is timed: reading the clock twice would cost a tenth of
/// one of them.
const SAMPLE_EVERY: u64 = 8;

/// Collects latencies on one thread.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    clock: SystemClock,
    nanos: Histogram<u64>,
    last: Duration,
}

impl Latencies {
    pub(super) fn start(clock: SystemClock) -> Self {
        let nanos = Histogram::new(3).expect("three digits are within what a histogram takes");
        Self { clock, nanos, last: clock.now() }
    }

    /// Lets the next lap begin here.
    pub(super) fn restart(&mut self) {
        self.last = self.clock.now();
    }

    /// Notes an operation that began when the one before it ended. The clock is read once, so
    /// that every operation can be noted and the longest is not missed.
    #[inline]
    pub(super) fn lap(&mut self) {
        let now = self.clock.now();
        self.record(now - self.last);
        self.last = now;
    }

    /// Does an operation, and notes its time if `number` is one that is timed.
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

    /// Upper ends of buckets in microseconds, each twice as wide as the one before, with how many
    /// operations fell into them.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let buckets = self.nanos.iter_log(128, 2.0);
        let each = |bucket: hdrhistogram::iterators::IterationValue<u64>| {
            let end = bucket.value_iterated_to() as f64 / 1000.0;
            (end, bucket.count_since_last_iteration())
        };
        buckets.map(each).filter(|(_, count)| 0 < *count).collect()
    }
}
