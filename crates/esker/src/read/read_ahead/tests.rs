//! Reads of a database of which nothing is at hand: what is announced, and when.

use std::sync::{Arc, Mutex, PoisonError};

use esker_env::{Env, Fault, FaultFileSystem, MemoryFileSystem, Operation, Rule};

use crate::{Db, Options};

/// Reads and announcements, in order.
type Calls = Arc<Mutex<Vec<Operation>>>;

fn open(fs: FaultFileSystem) -> Db {
    let env = Env { fs: Arc::new(fs), ..Env::memory(1) };
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder("db").env(env).options(options).open().unwrap()
}

fn key(number: u32) -> String {
    format!("key-{number:05}")
}

/// Longer than a block.
fn value(number: u32) -> String {
    format!("{number:05}").repeat(1_000)
}

/// A database of so many runs, each with every key of its remainder and values of
/// which no block holds two; opened anew, its indexes and filters read, and with nothing at hand.
fn cold(run_count: u32) -> (Db, FaultFileSystem, Calls) {
    let memory = Arc::new(MemoryFileSystem::new(1));
    let fs = FaultFileSystem::new(memory, Env::memory(1).clock);
    let db = open(fs.clone());
    for run in 0..run_count {
        for number in (run..400).step_by(run_count as usize) {
            db.put(key(number), value(number)).unwrap();
        }
        db.flush().unwrap();
    }
    drop(db);
    let db = open(fs.clone());
    // The first and the last key of each run: the only blocks that are in the cache.
    for number in (0..run_count).chain(400 - run_count..400) {
        db.get(key(number)).unwrap().unwrap();
    }
    fs.add(Rule::new(Fault::NotAtHand));
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    fs.observe(move |event| {
        if matches!(event.operation, Operation::Read | Operation::WillNeed) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.operation);
        }
    });
    (db, fs, calls)
}

fn counts(calls: &Calls) -> (usize, usize) {
    let calls = calls.lock().unwrap();
    let announced = calls.iter().filter(|call| **call == Operation::WillNeed).count();
    (announced, calls.len() - announced)
}

#[test]
fn multi_get_announces_the_blocks_behind_the_first_that_waits() {
    let (db, _fs, calls) = cold(2);
    // One in the cache, nineteen that are not, one of them twice, one in a memtable, one nowhere.
    db.put(key(300), "in memory").unwrap();
    let mut numbers = vec![0];
    numbers.extend((1..19).map(|number| number * 10));
    numbers.extend([180, 300, 100_000, 200]);
    let keys: Vec<String> = numbers.iter().copied().map(key).collect();
    let values = db.multi_get(&keys).unwrap();
    for (number, found) in numbers.into_iter().zip(values) {
        match number {
            300 => assert_eq!(found.unwrap(), "in memory"),
            100_000 => assert!(found.is_none()),
            _ => assert_eq!(*found.unwrap(), *value(number).as_bytes()),
        }
    }
    let calls = calls.lock().unwrap();
    // The first finds nothing at hand, the others are announced, and only then it waits.
    assert_eq!(calls[0], Operation::Read);
    let announced = calls[1..].iter().take_while(|call| **call == Operation::WillNeed).count();
    assert_eq!(announced, 19);
    // Each of the nineteen blocks is tried once and waited for once.
    assert!(calls[1 + announced..].iter().all(|call| *call == Operation::Read));
    assert_eq!(calls.len() - announced, 2 * 19);
}

#[test]
fn long_multi_get_keeps_enough_under_way_and_announces_nothing_twice() {
    let (db, _fs, calls) = cold(1);
    let keys: Vec<String> = (0..400).map(key).collect();
    let values = db.multi_get(&keys).unwrap();
    assert!(values.iter().all(Option::is_some));
    // All but the two in the cache, and the first that waited.
    assert_eq!(counts(&calls), (397, 2 * 398));
    let mut under_way = 0_usize;
    for (at, call) in calls.lock().unwrap().iter().enumerate() {
        match call {
            Operation::WillNeed => under_way += 1,
            // Every other read waits, and ends what was under way.
            _ if at > 1 => under_way = under_way.saturating_sub(1),
            _ => {}
        }
        assert!(under_way <= 3 * 64, "{under_way} blocks under way");
    }
}

#[test]
fn what_is_at_hand_is_read_without_an_announcement() {
    let (db, fs, calls) = cold(1);
    fs.clear();
    let keys: Vec<String> = (100..140).map(key).collect();
    assert!(db.multi_get(&keys).unwrap().iter().all(Option::is_some));
    assert_eq!(counts(&calls), (0, 40));
}

#[test]
fn seek_over_several_runs_announces_the_others_once_one_waits() {
    let (db, _fs, calls) = cold(3);
    let mut scan = db.scan(key(100)..);
    assert_eq!(scan.next().unwrap().unwrap().0, key(100));
    let calls = calls.lock().unwrap();
    let expected = [Operation::Read, Operation::WillNeed, Operation::WillNeed, Operation::Read];
    assert_eq!(calls[..4], expected);
    assert!(calls[4..].iter().all(|call| *call == Operation::Read));
}
