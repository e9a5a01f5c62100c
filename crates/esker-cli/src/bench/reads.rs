//! The benchmarks that get single keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::env::Clock as _;

use crate::failure::{Failure, Result};

use super::random::{Random, Zipf, mix};
use super::session::{Session, Share};
use super::work::Work;

/// One in this many reads is compared with what was written.
const CHECK_EVERY: u64 = 1000;

/// This many draws of hot keys are made before the clock starts, and used in turn.
const HOT_DRAWS: u64 = 1 << 20;

impl Session<'_> {
    pub(super) fn read_random(&self) -> Result<Work> {
        self.on_threads(self.arguments.read_count(), |share| {
            self.get_each(self.random_indexes(share))
        })
    }

    pub(super) fn read_hot(&self) -> Result<Work> {
        let zipf = Zipf::new(self.keys.count);
        let mut random = Random::new(self.arguments.seed);
        // Hashed, so that keys of similar frequency are not adjacent in the database.
        let mut draw = || mix(zipf.draw(&mut random)) % self.keys.count;
        let count = self.arguments.read_count();
        let indexes: Vec<u64> = (0..HOT_DRAWS.min(count)).map(|_| draw()).collect();
        self.on_threads(count, |share| {
            let turn = indexes.iter().cycle().skip(share.first as usize % indexes.len());
            self.get_each(turn.copied().take(share.count as usize))
        })
    }

    fn get_each(&self, indexes: impl Iterator<Item = u64>) -> Result<Work> {
        let db = self.db();
        let mut key = self.keys.buffer();
        let mut value = Vec::with_capacity(self.arguments.value_size);
        let mut work = Work::start(self.clock);
        for (number, index) in (0..).zip(indexes) {
            self.keys.write(index, &mut key);
            let found = work.latencies.sample(number, || db.get_into(&key, &mut value))?;
            work.operations += 1;
            work.found += u64::from(found);
            if found && number.is_multiple_of(CHECK_EVERY) {
                self.check(index, &value)?;
            }
        }
        self.check_complete(&work)?;
        Ok(work)
    }

    pub(super) fn read_missing(&self) -> Result<Work> {
        let db = self.db();
        self.on_threads(self.arguments.read_count(), |share| {
            let mut key = self.keys.buffer();
            let mut value = Vec::new();
            let mut work = Work::start(self.clock);
            for (number, index) in (0..).zip(self.random_indexes(share)) {
                self.keys.write_missing(index, &mut key);
                let found = work.latencies.sample(number, || db.get_into(&key, &mut value))?;
                work.operations += 1;
                work.found += u64::from(found);
            }
            if 0 < work.found {
                return Err(Failure::other("a key was found that was never written"));
            }
            Ok(work)
        })
    }

    /// Latencies are those of whole calls.
    pub(super) fn multi_read_random(&self) -> Result<Work> {
        let size = self.arguments.multiget_size;
        let db = self.db().default_keyspace();
        self.on_threads(self.arguments.read_count().div_ceil(size), |share| {
            let mut keys = vec![self.keys.buffer(); size as usize];
            let mut indexes = vec![0; size as usize];
            let mut random = Random::new(share.seed);
            let mut work = Work::start(self.clock);
            for number in 0..share.count {
                for (index, key) in indexes.iter_mut().zip(&mut keys) {
                    *index = random.below(self.keys.count);
                    self.keys.write(*index, key);
                }
                let values = work.latencies.sample(number, || db.multi_get(&keys))?;
                work.operations += size;
                work.found += values.iter().flatten().count() as u64;
                let is_checked = number.is_multiple_of((CHECK_EVERY / size).max(1));
                if let Some(value) = values[0].as_ref().filter(|_| is_checked) {
                    self.check(indexes[0], value)?;
                }
            }
            self.check_complete(&work)?;
            Ok(work)
        })
    }

    /// The work is that of the readers; writes are counted only in bytes.
    pub(super) fn read_while_writing(&self) -> Result<Work> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.write_until(&is_over));
            let work = self.read_random();
            // It publishes nothing else.
            is_over.store(true, Ordering::Relaxed);
            let user_bytes = writer.join().map_err(|_panic| Failure::Said)??;
            Ok(Work { user_bytes, ..work? })
        })
    }

    /// Overwrites random keys at the requested rate, however long one write takes, and returns the
    /// bytes written.
    fn write_until(&self, is_over: &AtomicBool) -> Result<u64> {
        let rate = self.arguments.writes_per_second;
        let share = Share { first: 0, count: u64::MAX, seed: mix(!self.arguments.seed) };
        let mut key = self.keys.buffer();
        let started = self.clock.now();
        let mut done = 0;
        for index in self.random_indexes(share) {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            self.keys.write(index, &mut key);
            self.db().put(&key, self.values.of(index))?;
            done += 1;
            // Sixteen writes at a time: a sleep is never as short as one write.
            if 0 < rate && done % 16 == 0 {
                let due = Duration::from_secs_f64(done as f64 / rate as f64);
                let ahead = due.saturating_sub(self.clock.now() - started);
                if Duration::ZERO < ahead {
                    self.clock.sleep(ahead);
                }
            }
        }
        Ok(done * self.entry_bytes())
    }

    /// Fails if `value` is not that of `index`.
    pub(super) fn check(&self, index: u64, value: &[u8]) -> Result<()> {
        if value == self.values.of(index) {
            return Ok(());
        }
        Err(Failure::Damaged(format!("the value of the key with index {index} is wrong")))
    }

    fn check_complete(&self, work: &Work) -> Result<()> {
        let missing = work.operations - work.found;
        if self.is_complete && 0 < missing {
            let message = format!("{missing} keys that were written were not found");
            return Err(Failure::Damaged(message));
        }
        Ok(())
    }
}
