//! Concurrent readers, writers, flushes, compactions and drops of keyspaces.
//!
//! Batches move money between accounts of two keyspaces, so the sum is the same in every snapshot;
//! and every batch has a number, the same in both keyspaces, that only increases.

use std::sync::atomic::{AtomicUsize, Ordering};

use esker::env::Env;
use esker::{CompactionEnd, Db, ErrorKind, Keyspace, KeyspaceOptions, Options, Snapshot};

use crate::random::{Rng, budget};

const WRITER_COUNT: usize = 2;
const BATCH_COUNT: u64 = 20_000;
/// Accounts of each writer, in each keyspace.
const ACCOUNT_COUNT: u64 = 12;
const BALANCE: i64 = 1_000;

struct Bank {
    db: Db,
    left: Keyspace,
    right: Keyspace,
    /// Writers that are not done.
    writing: AtomicUsize,
}

/// A writer at work; the others end with the last one, also if it fails.
struct Writing<'a>(&'a AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn account(writer: usize, number: u64) -> String {
    format!("account {writer} {number:02}")
}

fn counter(writer: usize) -> String {
    format!("counter {writer}")
}

fn parse(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

impl Bank {
    fn open() -> Self {
        let env = Env { clock: Env::os().clock, ..Env::memory(3) };
        let options = Options { log_segment_bytes: 64 << 10, ..Options::default() };
        let db = Db::builder("db").env(env).options(options).open().unwrap();
        let options = |memtable_bytes| KeyspaceOptions {
            memtable_bytes,
            block_size_bytes: 512,
            ..KeyspaceOptions::default()
        };
        let left = db.keyspace("left", options(20_000)).unwrap();
        let right = db.keyspace("right", options(70_000)).unwrap();
        let mut batch = db.batch();
        for writer in 0..WRITER_COUNT {
            for keyspace in [&left, &right] {
                for number in 0..ACCOUNT_COUNT {
                    batch.put(keyspace, account(writer, number), BALANCE.to_string());
                }
                batch.put(keyspace, counter(writer), "0");
            }
        }
        batch.commit().unwrap();
        Self { db, left, right, writing: AtomicUsize::new(WRITER_COUNT) }
    }

    fn is_busy(&self) -> bool {
        self.writing.load(Ordering::Acquire) != 0
    }

    /// Moves money between the accounts of this writer, which nobody else touches.
    fn write(&self, writer: usize) {
        let _writing = Writing(&self.writing);
        let mut rng = Rng::new(writer as u64);
        let mut left = vec![BALANCE; ACCOUNT_COUNT as usize];
        let mut right = left.clone();
        for number in 1..=BATCH_COUNT * budget() {
            let (from, to) = (rng.index(left.len()), rng.index(right.len()));
            let amount = rng.below(50) as i64 - 25;
            left[from] -= amount;
            right[to] += amount;
            let mut batch = self.db.batch();
            batch.put(&self.left, account(writer, from as u64), left[from].to_string());
            batch.put(&self.right, account(writer, to as u64), right[to].to_string());
            for keyspace in [&self.left, &self.right] {
                batch.put(keyspace, counter(writer), number.to_string());
            }
            batch.commit().unwrap();
            // A writer sees its own write at once.
            let found = self.right.get_with(counter(writer), parse).unwrap();
            assert_eq!(found, Some(number as i64));
        }
    }

    fn read(&self, reader: u64) {
        let mut rng = Rng::new(100 + reader);
        let mut latest = [0; WRITER_COUNT];
        let mut previous = [0; WRITER_COUNT];
        while self.is_busy() {
            let snapshot = self.db.snapshot();
            let counters = self.check(&snapshot, rng.one_in(2));
            for (writer, latest) in latest.iter_mut().enumerate() {
                assert!(previous[writer] <= counters[writer], "a later snapshot is older");
                let now = self.left.get_with(counter(writer), parse).unwrap();
                let now = now.expect("the counter is always there");
                assert!(*latest <= now && counters[writer] <= now, "a read went back");
                *latest = now;
            }
            previous = counters;
            // The snapshot has not moved meanwhile.
            assert_eq!(self.check(&snapshot, rng.one_in(2)), counters);
        }
    }

    /// The sum of all accounts of a snapshot, read either way, and the number of the last batch of
    /// each writer.
    fn check(&self, snapshot: &Snapshot, is_backwards: bool) -> [i64; WRITER_COUNT] {
        let mut sum = 0;
        let mut counters = [[0; WRITER_COUNT]; 2];
        for (side, keyspace) in [&self.left, &self.right].into_iter().enumerate() {
            let view = snapshot.keyspace(keyspace);
            let scan = view.prefix("account");
            let values: Vec<_> = if is_backwards { scan.rev().collect() } else { scan.collect() };
            assert_eq!(values.len(), WRITER_COUNT * ACCOUNT_COUNT as usize);
            sum += values.into_iter().map(|entry| parse(&entry.unwrap().1)).sum::<i64>();
            for (writer, number) in counters[side].iter_mut().enumerate() {
                let found = view.get_with(counter(writer), parse).unwrap();
                *number = found.expect("the counter is always there");
            }
        }
        assert_eq!(sum, 2 * (WRITER_COUNT as i64) * (ACCOUNT_COUNT as i64) * BALANCE);
        assert_eq!(counters[0], counters[1], "a batch is torn");
        counters[0]
    }

    /// Flushes and compacts on demand, beside the background.
    fn maintain(&self) {
        let mut rng = Rng::new(200);
        while self.is_busy() {
            let keyspace = if rng.one_in(2) { &self.left } else { &self.right };
            match rng.below(5) {
                0 => keyspace.compact::<&[u8]>(..).unwrap(),
                1 => keyspace.compact("account 0".."account 1").unwrap(),
                2 => self.db.sync().unwrap(),
                3 => {
                    let handle = keyspace.start_compaction::<&[u8]>(..).unwrap();
                    assert_eq!(handle.wait().unwrap().end, CompactionEnd::Finished);
                }
                _ => keyspace.flush().unwrap(),
            }
        }
    }

    /// Creates keyspaces, and drops them while somebody writes to them.
    fn churn(&self) {
        while self.is_busy() {
            let options = KeyspaceOptions { memtable_bytes: 1, ..KeyspaceOptions::default() };
            let keyspace = self.db.keyspace("temporary", options).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 0..1_000_000 {
                        match keyspace.put(format!("key {}", number % 50), "value") {
                            Ok(()) => {}
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                                return;
                            }
                        }
                    }
                });
                let mut scans = (0..40).map(|_| keyspace.iter());
                assert!(scans.all(|scan| scan.map(Result::unwrap).count() <= 50));
                self.db.drop_keyspace(&keyspace).unwrap();
            });
        }
    }
}

#[test]
fn sums_and_batches_are_whole_in_every_snapshot() {
    let bank = Bank::open();
    std::thread::scope(|scope| {
        for writer in 0..WRITER_COUNT {
            let bank = &bank;
            scope.spawn(move || bank.write(writer));
        }
        for reader in 0..2 {
            let bank = &bank;
            scope.spawn(move || bank.read(reader));
        }
        scope.spawn(|| bank.maintain());
        scope.spawn(|| bank.churn());
    });
    assert!(bank.db.health().is_good(), "{}", bank.db.health());
    let counters = bank.check(&bank.db.snapshot(), false);
    assert_eq!(counters, [(BATCH_COUNT * budget()) as i64; WRITER_COUNT]);
    bank.db.wait_until_settled().unwrap();
}
