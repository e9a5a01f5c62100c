//! What compaction policies cost on a tree of random overwrites: measured, beside what
//! `Keyspace::what_if` foresees for the same flushes.
//!
//! Every flush is followed by all compactions that it calls for, on one thread, so that nothing
//! depends on the machine: the same arguments print the same table. Bytes of the log are not counted.
//!
//! ```text
//! cargo run --release -p esker --example policies -- 1000000 8388608 60
//! ```
//!
//! Arguments: keys of 16 bytes with values of 100, bytes of a memtable, flushes that are measured.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for its table")]

use esker::env::Env;
use esker::{CompactionPolicy, Db, Keyspace, KeyspaceOptions, Options};
use esker_base::checksum::hash_key;

/// One policy at work.
struct World {
    db: Db,
    keyspace: Keyspace,
    key_count: u64,
    writes: u64,
    runs: u64,
    runs_max: u64,
}

/// What has been written so far.
#[derive(Clone, Copy)]
struct Written {
    flushes: u64,
    flush_bytes: u64,
    bytes: u64,
}

impl World {
    fn new(compaction: CompactionPolicy, key_count: u64, memtable_bytes: u64) -> Self {
        let engine = Options { background_threads: 0, ..Options::default() };
        let db = Db::builder("db").env(Env::memory(1)).options(engine).open().unwrap();
        let options = KeyspaceOptions {
            compaction,
            memtable_bytes,
            log: false,
            idle_compaction: None,
            ..KeyspaceOptions::default()
        };
        let keyspace = db.keyspace("k", options).unwrap();
        Self { db, keyspace, key_count, writes: 0, runs: 0, runs_max: 0 }
    }

    fn written(&self) -> Written {
        let counters = self.db.stats().counters;
        let bytes = counters.flush_bytes + counters.compaction_write_bytes;
        Written { flushes: counters.flushes, flush_bytes: counters.flush_bytes, bytes }
    }

    /// Writes a key, half of its value compressible, and does what that calls for.
    fn put(&mut self, index: u64) {
        let key = format!("{:016x}", hash_key(&index.to_le_bytes()));
        let mut value = [b'v'; 100];
        for (place, chunk) in value[..50].chunks_mut(8).enumerate() {
            let word = hash_key(&[self.writes, place as u64].map(u64::to_le_bytes).concat());
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        self.keyspace.put(key, value).unwrap();
        self.writes += 1;
        if self.writes.is_multiple_of(1000) {
            while self.db.run_background_job() {}
        }
    }

    fn note_runs(&mut self) {
        let runs = self.keyspace.levels().levels.iter().map(|level| level.runs.len() as u64).sum();
        self.runs += runs;
        self.runs_max = self.runs_max.max(runs);
    }

    fn fill(&mut self) {
        (0..self.key_count).for_each(|index| self.put(index));
        self.keyspace.flush().unwrap();
        while self.db.run_background_job() {}
    }

    /// Overwrites random keys until there were so many flushes.
    fn overwrite(&mut self, flushes: u64) {
        let end = self.written().flushes + flushes;
        (self.runs, self.runs_max) = (0, 0);
        let mut flushes = self.written().flushes;
        while flushes < end {
            for _ in 0..1000 {
                let index = hash_key(&self.writes.to_le_bytes()) % self.key_count;
                self.put(index);
            }
            let before = std::mem::replace(&mut flushes, self.written().flushes);
            if before < flushes {
                self.note_runs();
            }
        }
    }
}

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let [key_count, memtable_bytes, flushes] = arguments[..] else {
        panic!("three numbers: keys, bytes of a memtable, flushes")
    };
    println!("| policy | write | foreseen | space | foreseen | runs | foreseen | most |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for compaction in [
        CompactionPolicy::Leveled,
        CompactionPolicy::Lazy(Default::default()),
        CompactionPolicy::Universal(Default::default()),
        CompactionPolicy::Tiered(Default::default()),
        CompactionPolicy::Simple(Default::default()),
        CompactionPolicy::LeveledByBytes(Default::default()),
    ] {
        let mut world = World::new(compaction, key_count, memtable_bytes);
        world.fill();
        // So that what is measured does not begin with a tree that has seen no overwrite.
        world.overwrite(flushes / 2);
        let foreseen = world.keyspace.what_if_after(&[], flushes).unwrap();
        let before = world.written();
        world.overwrite(flushes);
        let after = world.written();
        let flushed = (after.flush_bytes - before.flush_bytes) as f64;
        let write = (after.bytes - before.bytes) as f64 / flushed;
        let bytes = world.keyspace.levels().bytes();
        let runs = world.runs as f64 / flushes as f64;
        world.keyspace.compact::<&[u8]>(..).unwrap();
        let least = world.keyspace.levels().bytes();
        let outcome = &foreseen.outcomes[0];
        println!(
            "| {} | {write:.2} | {:.2} | {:.2} | {:.2} | {runs:.1} | {:.1} | {} |",
            outcome.policy,
            outcome.write_amplification,
            bytes as f64 / least as f64,
            outcome.space_amplification,
            outcome.read_amplification,
            world.runs_max,
        );
    }
}
