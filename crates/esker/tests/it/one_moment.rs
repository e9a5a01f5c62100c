//! Each call reads as of one moment, whatever happens between its steps: a value never given to a
//! key is not made up of an operand and a value that it replaced, and a key that was renewed before
//! it expired is not missing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker::env::{Env, FaultFileSystem, ManualClock, Operation};
use esker::operators::AddU64;
use esker::{
    Db, Keyspace, KeyspaceOptions, Merge, MergeFailure, MergeOperator, Options, PrefixRule,
};
use esker_base::baton::{self, Policy, Settings};

const START: Duration = Duration::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Runs of the reader beside the loader, each in another order.
const SCHEDULE_COUNT: u64 = 300;

/// What happens to "k" beside a reader: it has 10, in a table, and a load gives it 100.
struct Story {
    /// Gives it 10.
    first: fn(&Db),
    /// After the load.
    then: fn(&Db, &ManualClock),
    /// What it ever has.
    values: &'static [u64],
}

/// How a reader of "k" can read it.
const READS: [fn(&Keyspace) -> Option<u64>; 4] = [
    |keyspace| keyspace.get("k").unwrap().as_deref().map(counter),
    |keyspace| keyspace.get_with("k", counter).unwrap(),
    |keyspace| keyspace.multi_get(&["k"]).unwrap()[0].as_deref().map(counter),
    |keyspace| keyspace.iter().next().map(|entry| counter(&entry.unwrap().1)),
];

fn counter(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().unwrap())
}

impl Story {
    /// Checks what readers find, in many orders.
    fn check(&self) {
        let mut all = Vec::new();
        for seed in 0..SCHEDULE_COUNT {
            for (number, read) in READS.into_iter().enumerate() {
                let found = self.found(seed, read);
                let is_right = found.is_some_and(|found| self.values.contains(&found));
                assert!(is_right, "seed {seed}, read {number}: {found:?}");
                all.extend(found);
            }
        }
        let ends = [self.values.first().unwrap(), self.values.last().unwrap()];
        assert!(ends.iter().all(|value| all.contains(value)), "all came first, or all last");
    }

    fn found(&self, seed: u64, read: fn(&Keyspace) -> Option<u64>) -> Option<u64> {
        let merge_operator = Some(Merge::new(AddU64));
        let counting = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let options = Options { background_threads: 0, ..Options::default() };
        let clock = Arc::new(ManualClock::new(START));
        let env = Env { clock: clock.clone(), ..Env::memory(1) };
        let builder = Db::builder("db").env(env).options(options);
        let db = builder.default_keyspace(counting).open().unwrap();
        (self.first)(&db);
        db.flush().unwrap();

        let found = Arc::new(Mutex::new(None));
        let (reader, given, loaded) = (db.clone(), Arc::clone(&found), db.clone());
        let then = self.then;
        let policy = Policy::Priorities { falls: 1 + seed as usize % 2, among: 20 };
        let run = baton::start(Settings::new(seed, policy), move || {
            let thread = baton::spawn(
                "reader",
                Box::new(move || {
                    let value = read(reader.default_keyspace());
                    *given.lock().unwrap_or_else(PoisonError::into_inner) = value;
                }),
            );
            let mut loader = loaded.bulk_loader(loaded.default_keyspace()).unwrap();
            loader.put("k", AddU64::encode(100)).unwrap();
            loader.finish().unwrap();
            then(&loaded, &clock);
            thread.join();
        });
        let outcome = run.wait(Duration::from_secs(60)).expect("a load is short");
        assert_eq!(outcome.failure, None, "seed {seed}");
        *found.lock().unwrap()
    }
}

/// A read took its view before the load and its number after the merge, and found 11.
#[test]
fn an_operand_is_not_merged_into_what_a_load_replaced_before_it() {
    let story = Story {
        first: |db| db.put("k", AddU64::encode(10)).unwrap(),
        then: |db, _| db.merge("k", AddU64::encode(1)).unwrap(),
        values: &[10, 100, 101],
    };
    story.check();
}

#[test]
fn a_key_to_which_a_load_gives_a_value_before_it_expires_is_never_missing() {
    let story = Story {
        first: |db| db.put_with_ttl("k", AddU64::encode(10), SECOND * 10).unwrap(),
        then: |_, clock| clock.advance(SECOND * 10),
        values: &[10, 100],
    };
    story.check();
}

/// Writes operands one after the other, and does not fold them.
struct Joined;

impl MergeOperator for Joined {
    fn name(&self) -> &str {
        "joined"
    }

    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        merged: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        merged.extend_from_slice(existing.unwrap_or_default());
        operands.iter().for_each(|operand| merged.extend_from_slice(operand));
        Ok(())
    }
}

/// A keyspace of which nothing is in memory, with "s" in it, which expires after ten seconds.
struct Cold {
    clock: Arc<ManualClock>,
    faults: FaultFileSystem,
    _db: Db,
    keyspace: Keyspace,
}

impl Cold {
    /// With so many `operands` above "s", in a table of their own.
    fn new(operands: &[&[u8]]) -> Self {
        let env = Env::memory(1);
        let clock = Arc::new(ManualClock::new(START));
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), clock.clone());
        let env = Env { fs: Arc::new(faults.clone()), clock: clock.clone(), ..env };
        let open = || {
            let options =
                Options { background_threads: 0, cache_bytes: Some(0), ..Options::default() };
            let db = Db::builder("db").env(env.clone()).options(options).open().unwrap();
            let options = KeyspaceOptions {
                // What is written touches no file.
                log: false,
                merge_operator: Some(Merge::new(Joined)),
                prefix_filter: Some(PrefixRule::First(1)),
                ..KeyspaceOptions::default()
            };
            let keyspace = db.keyspace("cold", options).unwrap();
            (db, keyspace)
        };
        let (db, keyspace) = open();
        keyspace.put("plain", "value").unwrap();
        keyspace.put_with_ttl("s", "old", SECOND * 10).unwrap();
        keyspace.flush().unwrap();
        if !operands.is_empty() {
            operands.iter().for_each(|operand| keyspace.merge("s", operand).unwrap());
            keyspace.flush().unwrap();
        }
        drop((db, keyspace));
        let (db, keyspace) = open();
        Self { clock, faults, _db: db, keyspace }
    }

    /// What `read` finds, while "s" is renewed and its old expiry passes: in read `number` of a file,
    /// counted from 0. `None` if there are not so many.
    fn read_beside_a_renewal<R>(
        &self,
        number: u64,
        read: impl FnOnce(&Keyspace) -> R,
    ) -> Option<R> {
        let left = Mutex::new(Some(number));
        let (keyspace, clock) = (self.keyspace.clone(), Arc::clone(&self.clock));
        let is_renewed = Arc::new(AtomicBool::new(false));
        let renewed = Arc::clone(&is_renewed);
        self.faults.observe(move |event| {
            if event.operation != Operation::Read {
                return;
            }
            let mut left = left.lock().unwrap();
            *left = match *left {
                Some(0) => {
                    clock.advance(SECOND * 5);
                    keyspace.put_with_ttl("s", "new", SECOND * 10).unwrap();
                    clock.advance(SECOND * 5);
                    renewed.store(true, Ordering::Relaxed);
                    None
                }
                left => left.map(|left| left - 1),
            };
        });
        let found = read(&self.keyspace);
        self.faults.observe(|_| {});
        is_renewed.load(Ordering::Relaxed).then_some(found)
    }
}

/// Checks that `read` finds "s" with its old value, `operands` above it, or with the new one,
/// whenever it is renewed. `read` tells whether it does.
fn assert_found(operands: &[&[u8]], what: &str, read: impl Fn(&Keyspace) -> bool) {
    for number in 0.. {
        let cold = Cold::new(operands);
        let Some(is_found) = cold.read_beside_a_renewal(number, &read) else {
            assert!(number > 0, "{what} reads files");
            return;
        };
        assert!(is_found, "{what}: \"s\" is missing, renewed in read {number}");
    }
}

/// A point read judged the entry that it found by a time after the renewal that it did not see.
#[test]
fn a_key_that_is_renewed_before_it_expires_is_never_missing() {
    let is_right = |value: &[u8]| value == b"old" || value == b"new";
    assert_found(&[], "get", |keyspace| keyspace.get("s").unwrap().is_some_and(|s| is_right(&s)));
    assert_found(&[], "get_with", |keyspace| {
        keyspace.get_with("s", is_right).unwrap().is_some_and(|is_right| is_right)
    });
    assert_found(&[], "contains", |keyspace| keyspace.contains("s").unwrap());
    assert_found(&[], "expires_at", |keyspace| keyspace.expires_at("s").unwrap().is_some());
    assert_found(&[], "explain_get", |keyspace| {
        keyspace.explain_get("s").unwrap().value_len.is_some()
    });
    for keys in [&["s"][..], &["plain", "s"]] {
        assert_found(&[], "multi_get", |keyspace| {
            let values = keyspace.multi_get(keys).unwrap();
            values.last().unwrap().as_ref().is_some_and(|value| is_right(value))
        });
    }
    assert_found(&[], "cursor_in", |keyspace| {
        let mut cursor = keyspace.cursor_in("s"..="s").unwrap();
        cursor.seek_to_first().unwrap();
        cursor.is_valid() && is_right(cursor.value())
    });
    assert_found(&[], "scan", |keyspace| {
        keyspace.scan("s"..="s").next().is_some_and(|entry| is_right(&entry.unwrap().1))
    });
}

/// The same beneath operands, of which one fits into memory and three do not.
#[test]
fn a_value_that_is_renewed_before_it_expires_is_not_missing_beneath_operands() {
    let heavy = vec![b'+'; 600 << 10];
    for operands in [&[&b"+"[..]][..], &[&heavy[..]; 3]] {
        let is_right = |value: &[u8]| value.starts_with(b"old+") || value == b"new";
        assert_found(operands, "get", |keyspace| {
            keyspace.get("s").unwrap().is_some_and(|value| is_right(&value))
        });
        assert_found(operands, "multi_get", |keyspace| {
            keyspace.multi_get(&["plain", "s"]).unwrap()[1].as_ref().is_some_and(|s| is_right(s))
        });
    }
}
