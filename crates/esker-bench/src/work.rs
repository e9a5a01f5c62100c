//! What the threads of a row do, and how it is timed.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use hdrhistogram::Histogram;

use crate::engine::{Direction, Engine, Result, Session};
use crate::keys::{KEY_BYTES, Key, Keys};
use crate::random::{Random, Zipf, mix};
use crate::rows::{Mix, MixKind, Row, Workload};
use crate::values::Values;

/// Of reads one in this many is timed: two readings of the clock cost a tenth of one.
const SAMPLE_EVERY: u64 = 8;

/// Of reads one in this many is compared with what it must be.
const VERIFY_EVERY: u64 = 1000;

/// Writes per second beside the reads of `readwhilewriting`.
const WRITES_PER_SECOND: f64 = 50_000.0;

/// Scans of YCSB E read from 1 to this many entries.
const YCSB_SCAN_MAX: u64 = 100;

/// Indexes of keys that YCSB inserts begin here, behind those that exist and those that are missing.
const NEW_KEYS_START: u64 = 1 << 60;

/// What a row is to do.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) row: &'a Row,
    pub(crate) keys: Keys,
    pub(crate) values: Values,
    /// Indexes that a fill puts; less than the keys where single writes are slow.
    pub(crate) fill_count: u64,
    /// How long a row lasts that has no end of its own.
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

impl Plan<'_> {
    /// Bytes of all keys and values.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.keys.count * (KEY_BYTES + self.values.of(0).len()) as u64
    }
}

/// What one thread has done, or all together.
pub(crate) struct Work {
    pub(crate) operations: u64,
    pub(crate) user_bytes: u64,
    pub(crate) verified: u64,
    pub(crate) nanos: Histogram<u64>,
    pub(crate) elapsed: Duration,
}

/// One thread at work.
struct Worker<'a> {
    plan: &'a Plan<'a>,
    session: Box<dyn Session + 'a>,
    clock: SystemClock,
    random: Random,
    started: Duration,
    /// New keys that a mix of YCSB has put.
    inserted: u64,
    work: Work,
}

/// Runs the threads of the plan on `engine`.
pub(crate) fn run(plan: &Plan<'_>, engine: &dyn Engine) -> Result<Work> {
    let zipf = match plan.row.workload {
        Workload::ReadHot | Workload::Ycsb(_) => Some(Zipf::new(plan.keys.count)),
        _ => None,
    };
    let clock = SystemClock::new();
    let reads_beside = matches!(plan.row.workload, Workload::ReadWhileWriting);
    let barrier = Barrier::new(plan.row.threads as usize + usize::from(reads_beside));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.row.threads)
            .map(|thread| {
                let (zipf, barrier, clock) = (zipf.as_ref(), &barrier, clock);
                scope.spawn(move || {
                    let mut worker = Worker::new(plan, engine, clock, thread)?;
                    barrier.wait();
                    worker.started = worker.clock.now();
                    worker.work(thread, zipf)?;
                    worker.work.elapsed = worker.clock.now() - worker.started;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(worker.work)
                })
            })
            .collect();
        let writer = reads_beside.then(|| {
            let (barrier, is_over, clock) = (&barrier, &is_over, clock);
            scope.spawn(move || {
                let mut worker = Worker::new(plan, engine, clock, u64::MAX)?;
                barrier.wait();
                worker.write_until(is_over)
            })
        });
        let mut total = Work::default();
        for thread in threads {
            let work = thread.join().expect("a worker does not panic")?;
            total.add(&work);
        }
        // Counter only: the writer is joined next.
        is_over.store(true, Ordering::Relaxed);
        if let Some(writer) = writer {
            writer.join().expect("a writer does not panic")?;
        }
        Ok(total)
    })
}

impl Default for Work {
    fn default() -> Self {
        let nanos = Histogram::new(3).expect("three digits are within what a histogram takes");
        let (operations, user_bytes, verified) = (0, 0, 0);
        Self { operations, user_bytes, verified, nanos, elapsed: Duration::ZERO }
    }
}

impl Work {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.user_bytes += other.user_bytes;
        self.verified += other.verified;
        self.nanos += &other.nanos;
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

impl<'a> Worker<'a> {
    fn new(
        plan: &'a Plan<'a>,
        engine: &'a dyn Engine,
        clock: SystemClock,
        thread: u64,
    ) -> Result<Self> {
        let random = Random::new(plan.seed ^ mix(thread));
        let (session, work) = (engine.session()?, Work::default());
        Ok(Self { plan, session, clock, random, started: Duration::ZERO, inserted: 0, work })
    }

    fn work(&mut self, thread: u64, zipf: Option<&Zipf>) -> Result<()> {
        let (count, threads) = (self.plan.fill_count, self.plan.row.threads);
        let share = count * thread / threads..count * (thread + 1) / threads;
        match self.plan.row.workload {
            Workload::Fill | Workload::OpenAfterKill => {
                share.into_iter().try_for_each(|index| self.put(index))
            }
            Workload::FillBatch(size) => self.fill_in_batches(share, size),
            Workload::FillSync => self
                .until_time(|worker, number| worker.put(thread * worker.plan.keys.count + number)),
            Workload::Overwrite => self.until_count(share.end - share.start, |worker| {
                let index = worker.random.below(worker.plan.keys.count);
                worker.put(index)
            }),
            Workload::DeleteRandom => self.until_count(share.end - share.start, |worker| {
                let key = worker.random_key();
                worker.session.delete(&key)?;
                worker.wrote(KEY_BYTES)
            }),
            Workload::ReadRandom | Workload::ReadWhileWriting => {
                self.until_time(|worker, number| {
                    let index = worker.random.below(worker.plan.keys.count);
                    worker.get(index, number)
                })
            }
            Workload::ReadHot => self.until_time(|worker, number| {
                let index = worker.zipf_index(zipf);
                worker.get(index, number)
            }),
            Workload::ReadMissing => self.until_time(Self::get_missing),
            Workload::MultiGet(size) => self.until_time(|worker, _| worker.multi_get(size)),
            Workload::Seek(nexts) => {
                self.until_time(|worker, number| worker.seek(nexts, Direction::Forward, number))
            }
            Workload::SeekReverse(nexts) => {
                self.until_time(|worker, number| worker.seek(nexts, Direction::Backward, number))
            }
            Workload::ReadSeq => self.read_all(Direction::Forward),
            Workload::ReadReverse => self.read_all(Direction::Backward),
            Workload::Ycsb(mix) => {
                self.until_time(|worker, number| worker.ycsb(mix, zipf, number, thread << 40))
            }
            Workload::BulkLoad | Workload::Compact | Workload::OpenClean => Ok(()),
        }
    }

    /// Repeats `operation` until the time is over.
    fn until_time(
        &mut self,
        mut operation: impl FnMut(&mut Self, u64) -> Result<()>,
    ) -> Result<()> {
        let end = self.started + self.plan.duration;
        let mut number = 0;
        loop {
            let is_timed = number % SAMPLE_EVERY == 0 || self.plan.row.syncs();
            if is_timed {
                let before = self.clock.now();
                if end <= before {
                    return Ok(());
                }
                operation(self, number)?;
                let nanos = (self.clock.now() - before).as_nanos();
                self.work.nanos += u64::try_from(nanos).unwrap_or(u64::MAX);
            } else {
                operation(self, number)?;
            }
            number += 1;
        }
    }

    fn until_count(
        &mut self,
        count: u64,
        mut operation: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        (0..count).try_for_each(|_| operation(self))
    }

    /// Every write is timed, so that the longest is not missed: the clock is read once for each.
    fn put(&mut self, index: u64) -> Result<()> {
        let key = self.plan.keys.of(index);
        let value = self.plan.values.of(index);
        self.session.put(&key, value)?;
        self.wrote(KEY_BYTES + value.len())
    }

    fn wrote(&mut self, bytes: usize) -> Result<()> {
        self.work.operations += 1;
        self.work.user_bytes += bytes as u64;
        if !matches!(self.plan.row.workload, Workload::Ycsb(_) | Workload::FillSync) {
            let now = self.clock.now() - self.started;
            let nanos = (now.saturating_sub(self.work.elapsed)).as_nanos();
            self.work.elapsed = now;
            self.work.nanos += u64::try_from(nanos).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    fn fill_in_batches(&mut self, share: std::ops::Range<u64>, size: usize) -> Result<()> {
        put_in_batches(self.plan, &mut *self.session, share.clone(), size)?;
        self.work.operations += share.end - share.start;
        let entry_bytes = (KEY_BYTES + self.plan.values.of(0).len()) as u64;
        self.work.user_bytes += self.work.operations * entry_bytes;
        Ok(())
    }

    fn get(&mut self, index: u64, number: u64) -> Result<()> {
        let key = self.plan.keys.of(index);
        self.work.operations += 1;
        if !number.is_multiple_of(VERIFY_EVERY) {
            let found = self.session.get(&key, &mut |value| {
                black_box(value[0]);
            })?;
            return if found { Ok(()) } else { Err(format!("key {index} is missing").into()) };
        }
        let expected = self.plan.values.of(index);
        let mut is_right = false;
        self.session.get(&key, &mut |value| is_right = value == expected)?;
        self.work.verified += 1;
        if is_right { Ok(()) } else { Err(format!("key {index} has a wrong value").into()) }
    }

    fn get_missing(&mut self, _number: u64) -> Result<()> {
        let index = self.plan.keys.count * 2 + self.random.below(self.plan.keys.count);
        let key = self.plan.keys.of(index);
        self.work.operations += 1;
        if self.session.get(&key, &mut |_| ())? {
            return Err("a key exists that was never written".into());
        }
        Ok(())
    }

    fn multi_get(&mut self, size: usize) -> Result<()> {
        let keys: Vec<Key> = (0..size).map(|_| self.random_key()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let found = self.session.multi_get(&keys)?;
        self.work.operations += size as u64;
        if found != size as u64 {
            return Err("a multi-get did not find all keys".into());
        }
        Ok(())
    }

    fn seek(&mut self, nexts: u64, direction: Direction, number: u64) -> Result<()> {
        let key = self.random_key();
        self.work.operations += 1;
        let seen = self.session.scan(Some(&key), direction, nexts)?;
        if number.is_multiple_of(VERIFY_EVERY) {
            let first = self.session.scan(Some(&key), direction, 1)?;
            self.work.verified += 1;
            if first.entries != 1 || first.sum < u64::from(key[0]) {
                return Err("a seek did not find a key that exists".into());
            }
        }
        black_box(seen.sum);
        Ok(())
    }

    /// Whole passes, until the time is over; an operation is an entry.
    fn read_all(&mut self, direction: Direction) -> Result<()> {
        loop {
            let seen = self.session.scan(None, direction, u64::MAX)?;
            if seen.entries != self.plan.keys.count {
                let count = self.plan.keys.count;
                let entries = seen.entries;
                return Err(format!("a scan found {entries} entries of {count}").into());
            }
            self.work.verified += 1;
            self.work.operations += seen.entries;
            if self.plan.duration <= self.clock.now() - self.started {
                return Ok(());
            }
        }
    }

    /// One operation of a mix; new keys of this thread have the indexes behind `first_new`, counted
    /// from [`NEW_KEYS_START`].
    fn ycsb(&mut self, mix: Mix, zipf: Option<&Zipf>, number: u64, first_new: u64) -> Result<()> {
        let is_read = self.random.below(100) < mix.reads;
        let first_new = NEW_KEYS_START + first_new;
        match (mix.kind, is_read) {
            (MixKind::Update | MixKind::ReadModifyWrite, true) => {
                let index = self.zipf_index(zipf);
                self.get(index, number)
            }
            (MixKind::Update, false) => {
                let index = self.zipf_index(zipf);
                self.put(index)
            }
            (MixKind::ReadModifyWrite, false) => {
                let index = self.zipf_index(zipf);
                self.get(index, number)?;
                self.work.operations -= 1;
                self.put(index)
            }
            (MixKind::Latest, true) => {
                let age = self.zipf_index(zipf);
                let index = match self.inserted.checked_sub(age + 1) {
                    Some(since) => first_new + since,
                    None => self.plan.keys.count - 1 - (age - self.inserted),
                };
                self.get(index, number)
            }
            (MixKind::Scan, true) => {
                let key = self.plan.keys.of(self.zipf_index(zipf));
                let limit = 1 + self.random.below(YCSB_SCAN_MAX);
                self.work.operations += 1;
                black_box(self.session.scan(Some(&key), Direction::Forward, limit)?.sum);
                Ok(())
            }
            (MixKind::Latest | MixKind::Scan, false) => {
                let index = first_new + self.inserted;
                self.inserted += 1;
                self.put(index)
            }
        }
    }

    /// Writes at a fixed rate until told to stop. Its operations are not counted.
    fn write_until(&mut self, is_over: &AtomicBool) -> Result<()> {
        self.started = self.clock.now();
        let mut written = 0.0;
        // Counter only: see `run`.
        while !is_over.load(Ordering::Relaxed) {
            let due = (self.clock.now() - self.started).as_secs_f64() * WRITES_PER_SECOND;
            while written < due && !is_over.load(Ordering::Relaxed) {
                let index = self.random.below(self.plan.keys.count);
                self.put(index)?;
                written += 1.0;
            }
            self.clock.sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn random_key(&mut self) -> Key {
        self.plan.keys.of(self.random.below(self.plan.keys.count))
    }

    /// Hot ranks are spread over the keys, which are hashes of their indexes.
    fn zipf_index(&mut self, zipf: Option<&Zipf>) -> u64 {
        zipf.map_or(0, |zipf| zipf.draw(&mut self.random))
    }
}

/// Puts the keys of `share` in batches of `size`.
pub(crate) fn put_in_batches(
    plan: &Plan<'_>,
    session: &mut dyn Session,
    share: std::ops::Range<u64>,
    size: usize,
) -> Result<()> {
    let mut first = share.start;
    while first < share.end {
        let end = share.end.min(first + size as u64);
        let keys: Vec<Key> = (first..end).map(|index| plan.keys.of(index)).collect();
        let entries: Vec<(&[u8], &[u8])> = keys
            .iter()
            .zip(first..end)
            .map(|(key, index)| (&key[..], plan.values.of(index)))
            .collect();
        session.put_batch(&entries)?;
        first = end;
    }
    Ok(())
}
