//! Which keys exist, and what their values must be.
//!
//! A value is a function of its key and a number, so any reader knows whether it is right.

use esker::{Db, Durability, Keyspace, KeyspaceOptions, Options};

use crate::random::Random;

/// Writing threads.
pub(crate) const THREADS: usize = 3;

/// Keys of each thread, which no other thread writes.
pub(crate) const KEYS: usize = 600;

/// A batch of one thread writes one number to this many keys of each keyspace.
pub(crate) const TAGGED: usize = 4;

/// Numbers of batches are kept in this many slots.
pub(crate) const SLOTS: u64 = 60;

/// Accounts between which money is moved.
pub(crate) const ACCOUNTS: u64 = 100;

/// The sum over all accounts.
pub(crate) const TOTAL: u64 = ACCOUNTS * 1000;

pub(crate) const KEYSPACES: [&str; 3] = ["a", "b", "c"];

/// A database with the keyspaces of the test.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) keyspaces: Vec<Keyspace>,
    pub(crate) bank: Keyspace,
}

/// Options that keep flushes, compactions and new segments in progress. Determined by the seed.
pub(crate) fn options(seed: u64, memory_budget_bytes: u64) -> Options {
    let mut random = Random::new(seed);
    Options {
        memory_budget_bytes,
        background_threads: 1 + random.below(3) as usize,
        log_segment_bytes: (64 << 10) << random.below(4),
        warm_cache: seed.is_multiple_of(3),
        log_compression_threshold_bytes: (!seed).is_multiple_of(2).then_some(256),
        ..Options::default()
    }
}

pub(crate) fn open(db: Db, seed: u64) -> esker::Result<Opened> {
    let mut random = Random::new(!seed);
    let mut keyspace = |name: &str| {
        let memtable_bytes = (16 << 10) << random.below(6);
        let options = KeyspaceOptions { memtable_bytes, ..KeyspaceOptions::default() };
        db.keyspace(name, options)
    };
    let keyspaces = KEYSPACES.into_iter().map(&mut keyspace).collect::<esker::Result<Vec<_>>>()?;
    let bank = keyspace("bank")?;
    if bank.get(account(0))?.is_none() {
        let mut batch = db.batch();
        for number in 0..ACCOUNTS {
            batch.put(&bank, account(number), (TOTAL / ACCOUNTS).to_string());
        }
        batch.commit_with(Durability::Power)?;
    }
    Ok(Opened { db, keyspaces, bank })
}

/// The keyspace of key `index` of a thread.
pub(crate) const fn keyspace_of(index: usize) -> usize {
    index % KEYSPACES.len()
}

pub(crate) fn key(thread: usize, index: usize) -> String {
    format!("key {thread} {index:05}")
}

/// The value of a key after its write with that number: 0 to 2,000 bytes.
pub(crate) fn value(thread: usize, index: usize, number: u32) -> Vec<u8> {
    let mut random =
        Random::new(((thread as u64) << 48) | ((index as u64) << 20) | u64::from(number));
    let len = if random.one_in(8) { random.below(2000) } else { random.below(120) } as usize;
    let mut value = format!("{number} ").into_bytes();
    value.resize(value.len() + len, random.next() as u8);
    value
}

/// The key of the last number of a thread's batches.
pub(crate) fn last_key(thread: usize, place: usize) -> String {
    format!("last {thread} {place}")
}

pub(crate) fn slot_key(thread: usize, number: u64) -> String {
    format!("slot {thread} {:04}", number % SLOTS)
}

pub(crate) fn account(number: u64) -> String {
    format!("account {number:03}")
}

/// The number at the start of a text.
pub(crate) fn number_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}
