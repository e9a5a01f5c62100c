//! Reads from a device that fails now and then, against a sorted map: each gives the right answer
//! or an error, whatever failed before it. A cursor is not valid after an error, and correct again
//! from the next seek on; a scan ends with the error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds as _};
use std::sync::Arc;

use esker::env::{Env, Fault, FaultFileSystem, Operation, Rule, When};
use esker::operators::Append;
use esker::{Cursor, Db, Error, ErrorKind, KeyspaceOptions, Merge, Options, Snapshot};

use crate::random::{Rng, for_each_seed};
use crate::shrink::run_shrinking_steps;
use crate::tally::Tally;

const EIO: i32 = 5;

/// A read in so many fails.
const ONE_IN: [u64; 3] = [2, 9, 40];

/// Five times much is written, and then read beside faults.
const STEPS_PER_ROUND: usize = 6;
const STEP_COUNT: usize = 3 * STEPS_PER_ROUND;

static DATABASES: Tally = Tally::new("databases read from a failing device");

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn every_read_of_a_failing_device_is_right_or_an_error() {
    let name = "every_read_of_a_failing_device_is_right_or_an_error";
    for_each_seed(name, 40, |seed| {
        let errors = Cell::new(0);
        run_shrinking_steps(STEP_COUNT, |steps| errors.set(Run::new(seed).run(steps)));
        assert!(0 < errors.get(), "some read has failed");
        DATABASES.add(1);
    });
    DATABASES.print();
}

struct Run {
    rng: Rng,
    faults: Arc<FaultFileSystem>,
    db: Db,
    /// The database as it is, or as a snapshot has it.
    views: Vec<(Option<Snapshot>, Model)>,
    errors: u64,
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let env = Env::memory(seed);
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
        let options = Options {
            background_threads: 0,
            // Nearly every block is read each time.
            cache_bytes: Some(*rng.pick(&[0, 4 << 10, 1 << 20])),
            ..Options::default()
        };
        let keyspace = KeyspaceOptions {
            block_size_bytes: 256,
            blob_threshold_bytes: rng.one_in(2).then_some(64),
            merge_operator: Some(Merge::new(Append::new(","))),
            ..KeyspaceOptions::default()
        };
        let faults = Arc::new(faults);
        let env = Env { fs: faults.clone(), ..env };
        let db = Db::builder("db").env(env).options(options).default_keyspace(keyspace).open();
        let (db, views) = (db.unwrap(), vec![(None, Model::new())]);
        Self { rng, faults, db, views, errors: 0 }
    }

    /// Returns how many reads have failed.
    fn run(mut self, steps: &[usize]) -> u64 {
        let rng = self.rng.clone();
        for &step in steps {
            self.rng = rng.part(step);
            if step % STEPS_PER_ROUND == STEPS_PER_ROUND - 1 {
                self.read_with_faults();
            } else {
                self.write_much(STEPS_PER_ROUND < step);
            }
        }
        self.errors
    }

    fn write_much(&mut self, compacts: bool) {
        (0..40).for_each(|_| self.write());
        match self.rng.below(4) {
            0 => {
                let model = self.views[0].1.clone();
                self.views.push((Some(self.db.snapshot()), model));
            }
            1 if compacts => self.db.compact::<&[u8]>(..).unwrap(),
            _ => self.db.flush().unwrap(),
        }
    }

    fn read_with_faults(&mut self) {
        let when = When::OneIn { count: *self.rng.pick(&ONE_IN), seed: self.rng.next() };
        self.faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Read]).when(when));
        (0..6).for_each(|_| self.read());
        self.faults.clear();
    }

    fn write(&mut self) {
        let (key, value) = (self.rng.key(), self.rng.value());
        let model = &mut self.views[0].1;
        match self.rng.below(12) {
            0..=5 => {
                self.db.put(&key, &value).unwrap();
                model.insert(key, value);
            }
            6 | 7 => {
                self.db.delete(&key).unwrap();
                model.remove(&key);
            }
            8..=10 => {
                self.db.default_keyspace().merge(&key, &value).unwrap();
                let merged = match model.get(&key) {
                    Some(existing) => [existing.as_slice(), b",", &value].concat(),
                    None => value,
                };
                model.insert(key, merged);
            }
            _ => {
                let bounds = self.bounds();
                let model = &mut self.views[0].1;
                if self.db.delete_range(bounds.clone()).is_ok() {
                    model.retain(|key, _| !bounds.contains(key));
                }
            }
        }
    }

    fn bounds(&mut self) -> Bounds {
        let mut keys = [self.rng.key(), self.rng.key()];
        keys.sort();
        let [first, last] = keys;
        let start = match self.rng.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(first),
            _ => Bound::Included(first),
        };
        let end = match self.rng.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Included(last),
            _ => Bound::Excluded(last),
        };
        (start, end)
    }

    /// Counts an error, which must be the one of the device.
    fn answer<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .inspect_err(|error| {
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                self.errors += 1;
            })
            .ok()
    }

    fn read(&mut self) {
        let index = self.rng.index(self.views.len());
        let (snapshot, model) = (self.views[index].0.clone(), self.views[index].1.clone());
        let bounds = self.bounds();
        let view = snapshot.unwrap_or_else(|| self.db.snapshot());
        let view = view.keyspace(self.db.default_keyspace());
        for _ in 0..8 {
            let key = self.rng.key();
            if let Some(found) = self.answer(view.get(&key)) {
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
            }
        }
        let keys: Vec<_> = (0..20).map(|_| self.rng.key()).collect();
        if let Some(found) = self.answer(view.multi_get(&keys)) {
            for (key, found) in keys.iter().zip(&found) {
                assert_eq!(found.as_deref(), model.get(key).map(Vec::as_slice));
            }
        }
        self.scan(view.scan(bounds.clone()), &model, &bounds);
        if let Some(cursor) = self.answer(view.cursor_in(bounds.clone())) {
            self.walk(cursor, &model, &bounds);
        }
    }

    /// Takes entries from both ends until one fails.
    fn scan(&mut self, mut scan: esker::Scan, model: &Model, bounds: &Bounds) {
        let mut expected = model.iter().filter(|(key, _)| bounds.contains(*key));
        loop {
            let (entry, wanted) = match self.rng.one_in(2) {
                true => (scan.next(), expected.next()),
                false => (scan.next_back(), expected.next_back()),
            };
            match entry {
                None => return assert_eq!(wanted, None),
                Some(Ok((key, value))) => {
                    assert_eq!(Some((&*key, &*value)), wanted.map(|(k, v)| (&**k, &**v)));
                }
                Some(error) => {
                    self.answer(error);
                    assert!(scan.next().is_none() && scan.next_back().is_none());
                    return;
                }
            }
        }
    }

    fn walk(&mut self, mut cursor: Cursor, model: &Model, bounds: &Bounds) {
        let expected: Vec<_> = model.iter().filter(|(key, _)| bounds.contains(*key)).collect();
        for _ in 0..60 {
            let at = cursor.is_valid().then(|| {
                let place = expected.iter().position(|(key, _)| ***key == *cursor.key());
                place.expect("a cursor stands on an entry")
            });
            let key = self.rng.key();
            let (moved, place) = match (self.rng.below(12), at) {
                (0, _) => (cursor.seek_to_first(), Some(0)),
                (1, _) => (cursor.seek_to_last(), expected.len().checked_sub(1)),
                (2..=4, Some(at)) => (cursor.next(), Some(at + 1)),
                (5..=7, Some(at)) => (cursor.prev(), at.checked_sub(1)),
                (8, _) => {
                    if self.answer(cursor.refresh()).is_none() {
                        // It is as it was.
                        continue;
                    }
                    (Ok(()), at)
                }
                (9 | 10, _) => {
                    let place = expected.partition_point(|(k, _)| **k <= key).checked_sub(1);
                    (cursor.seek_for_prev(&key), place)
                }
                _ => (cursor.seek(&key), Some(expected.partition_point(|(k, _)| **k < key))),
            };
            if self.answer(moved).is_none() {
                assert!(!cursor.is_valid(), "a cursor is not valid after an error");
                continue;
            }
            let shown = cursor.is_valid().then(|| (cursor.key(), cursor.value()));
            let wanted = place.and_then(|place| expected.get(place));
            assert_eq!(shown, wanted.map(|(key, value)| (&***key, &***value)));
        }
    }
}
