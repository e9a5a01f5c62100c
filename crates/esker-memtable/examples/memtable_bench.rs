//! Measures the memtable against its safe twin and against `BTreeMap`.
//!
//! ```text
//! cargo run --release -p esker-memtable --features skiplist --example memtable_bench [entries] [rounds]
//! ```
//!
//! Entries of 16-byte keys and 100-byte values. In each round every contender does the same work
//! in turn, so that a busy moment of the machine does not fall on one alone; the best round of
//! each counts. A get reads the first byte of the value. `BTreeMap` is favoured: its keys lie
//! inline in its nodes, and it keeps no versions.

#![expect(clippy::print_stdout, reason = "a program whose result is a printed table")]
#![expect(
    clippy::disallowed_methods,
    reason = "measures time, which floor 2 otherwise never reads"
)]
#![expect(clippy::big_endian_bytes, reason = "keys that count must sort as they count")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use esker_base::{EntryKind, InternalKey, SeqNo};
use esker_memtable::{EntryCursor, EntryMap, Memtable, SkiplistMap};

type Key = [u8; 16];

const VALUE: [u8; 100] = [b'v'; 100];

/// How keys are drawn from the number of an entry.
type KeyOf = fn(u64) -> Key;

const KEY_SETS: [(&str, KeyOf); 3] = [
    // The multiplication spreads consecutive numbers over all words, without a repetition.
    ("random binary keys", |n| pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)),
    ("random text keys, `user` + 12 digits", |n| {
        text(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_007)
    }),
    ("ascending binary keys", |n| pair(n, 0)),
];

fn pair(high: u64, low: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&low.to_be_bytes());
    key
}

fn text(mut number: u64) -> Key {
    let mut key = *b"user000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    key
}

/// One of the maps that are measured.
trait Contender {
    const NAME: &'static str;
    fn fill(keys: &[Key]) -> Self;
    fn get(&self, key: &Key) -> u8;
    fn scan(&self) -> u64;
}

fn seqno(index: usize) -> SeqNo {
    SeqNo::ZERO.plus(index as u64 + 1)
}

/// The memtable as group commit uses it: one writer for many entries.
struct Batched(Memtable);

/// The memtable with a writer, so a lock, for each entry.
struct OneByOne(Memtable);

fn get(memtable: &Memtable, key: &Key) -> u8 {
    memtable.get(key, SeqNo::MAX).map_or(0, |entry| entry.value[0])
}

fn scan(mut cursor: impl EntryCursor) -> u64 {
    let mut sum = 0;
    cursor.seek_to_first();
    while cursor.is_valid() {
        sum += u64::from(cursor.value()[0]) + cursor.key().user_key.len() as u64;
        cursor.next();
    }
    sum
}

impl Contender for Batched {
    const NAME: &'static str = "memtable, one writer";

    fn fill(keys: &[Key]) -> Self {
        let memtable = Memtable::new();
        let mut writer = memtable.writer();
        for (index, key) in keys.iter().enumerate() {
            writer.insert(key, seqno(index), EntryKind::Put, &VALUE);
        }
        drop(writer);
        Self(memtable)
    }

    fn get(&self, key: &Key) -> u8 {
        get(&self.0, key)
    }

    fn scan(&self) -> u64 {
        scan(self.0.borrowed_cursor())
    }
}

impl Contender for OneByOne {
    const NAME: &'static str = "memtable, writer each";

    fn fill(keys: &[Key]) -> Self {
        let memtable = Memtable::new();
        for (index, key) in keys.iter().enumerate() {
            memtable.writer().insert(key, seqno(index), EntryKind::Put, &VALUE);
        }
        Self(memtable)
    }

    fn get(&self, key: &Key) -> u8 {
        get(&self.0, key)
    }

    fn scan(&self) -> u64 {
        scan(self.0.borrowed_cursor())
    }
}

impl Contender for SkiplistMap {
    const NAME: &'static str = "crossbeam-skiplist";

    fn fill(keys: &[Key]) -> Self {
        let map = Self::default();
        for (index, key) in keys.iter().enumerate() {
            map.insert(InternalKey::new(key, seqno(index), EntryKind::Put), &VALUE);
        }
        map
    }

    fn get(&self, key: &Key) -> u8 {
        self.get_with(key, SeqNo::MAX, |_, value| value[0]).unwrap_or(0)
    }

    fn scan(&self) -> u64 {
        scan(self.cursor())
    }
}

impl Contender for BTreeMap<Key, Box<[u8]>> {
    const NAME: &'static str = "BTreeMap";

    fn fill(keys: &[Key]) -> Self {
        let mut map = Self::new();
        for key in keys {
            map.insert(*key, VALUE.into());
        }
        map
    }

    fn get(&self, key: &Key) -> u8 {
        self.get(key).map_or(0, |value| value[0])
    }

    fn scan(&self) -> u64 {
        self.iter().map(|(key, value)| u64::from(value[0]) + key.len() as u64).sum()
    }
}

/// The best times of one contender.
#[derive(Clone, Copy)]
struct Best {
    insert: Duration,
    get: Duration,
    scan: Duration,
}

fn measure<C: Contender>(keys: &[Key], probes: &[Key], best: &mut Best) {
    let start = Instant::now();
    let map = C::fill(keys);
    best.insert = best.insert.min(start.elapsed());

    let start = Instant::now();
    let sum: u64 = probes.iter().map(|key| u64::from(map.get(key))).sum();
    best.get = best.get.min(start.elapsed());
    assert_eq!(sum, probes.len() as u64 * u64::from(VALUE[0]), "every key is found");

    let start = Instant::now();
    black_box(map.scan());
    best.scan = best.scan.min(start.elapsed());
}

/// The keys in another order, with which gets do not follow the inserts.
fn shuffled(keys: &[Key]) -> Vec<Key> {
    let mut keys = keys.to_vec();
    let mut state = 1_u64;
    for index in (1..keys.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        keys.swap(index, (state >> 33) as usize % (index + 1));
    }
    keys
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<usize>().expect("a number"));
    let count = arguments.next().unwrap_or(500_000);
    let rounds = arguments.next().unwrap_or(7);
    let names =
        [Batched::NAME, OneByOne::NAME, SkiplistMap::NAME, BTreeMap::<Key, Box<[u8]>>::NAME];
    for (key_set, key_of) in KEY_SETS {
        let keys: Vec<Key> = (0..count as u64).map(key_of).collect();
        let is_ascending = keys.is_sorted();
        let probes = if is_ascending { keys.clone() } else { shuffled(&keys) };
        let mut best = [Best { insert: Duration::MAX, get: Duration::MAX, scan: Duration::MAX }; 4];
        for round in 0..rounds {
            // Each goes first in turn, because who comes first pays for memory that the system
            // has never handed out before.
            for turn in 0..best.len() {
                match (round + turn) % best.len() {
                    0 => measure::<Batched>(&keys, &probes, &mut best[0]),
                    1 => measure::<OneByOne>(&keys, &probes, &mut best[1]),
                    2 => measure::<SkiplistMap>(&keys, &probes, &mut best[2]),
                    _ => measure::<BTreeMap<Key, Box<[u8]>>>(&keys, &probes, &mut best[3]),
                }
            }
        }
        let size = Batched::fill(&keys).0.size_bytes() as f64 / count as f64;
        println!("{key_set}: {count} entries, best of {rounds}; memtable {size:.0} bytes an entry");
        for (name, best) in names.into_iter().zip(best) {
            let millions = |time: Duration| count as f64 / time.as_secs_f64() / 1e6;
            println!(
                "  {name:22} insert {:6.2} M/s  get {:6.2} M/s  scan {:6.1} ns/entry",
                millions(best.insert),
                millions(best.get),
                best.scan.as_nanos() as f64 / count as f64,
            );
        }
    }
}
