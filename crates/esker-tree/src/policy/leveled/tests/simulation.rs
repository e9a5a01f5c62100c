//! A tree without files: tables are lists of keys with sequence numbers, compactions are done on
//! the lists, several at once and finished in any order.
//!
//! After every step each run must be disjoint, and on the way down each key must get older.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{FileId, KeyRange, OwnerId, SeqNo, TableId};

use crate::plan::{Busy, JobId, Plan};
use crate::policy::{LastLevel, Leveled, LeveledOptions, Policy, RangeRequest};
use crate::shape::{RunId, RunShape, Shape};
use crate::test_random::TestRandom;
use crate::testing::table;

/// Bytes that one entry counts for.
const ENTRY_BYTES: u64 = 100;

/// Key, sequence number, whether it is a tombstone; ascending by key, each key once.
type Entries = Vec<(u32, u64, bool)>;

fn key_bytes(key: u32) -> Vec<u8> {
    format!("key{key:08}").into_bytes()
}

struct Simulation {
    policy: Leveled,
    shape: Shape,
    busy: Busy,
    contents: BTreeMap<TableId, Entries>,
    in_flight: Vec<JobId>,
    next_file: u64,
    next_seqno: u64,
    flushed_bytes: u64,
    written_bytes: u64,
}

impl Simulation {
    fn new(options: LeveledOptions) -> Self {
        Self {
            policy: Leveled::new(options),
            shape: Shape::default(),
            busy: Busy::new(),
            contents: BTreeMap::new(),
            in_flight: Vec::new(),
            next_file: 1,
            next_seqno: 1,
            flushed_bytes: 0,
            written_bytes: 0,
        }
    }

    fn mint(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    fn add_table(&mut self, level: usize, run: RunId, entries: Entries) {
        let id = TableId(FileId { owner: OwnerId::FIRST, counter: self.mint() });
        let (first, last) = (entries.first().unwrap().0, entries.last().unwrap().0);
        let bytes = entries.len() as u64 * ENTRY_BYTES;
        let mut properties = table(id, &key_bytes(first), &key_bytes(last), bytes);
        let seqnos = || entries.iter().map(|entry| entry.1);
        properties.seqno_min = SeqNo::new(seqnos().min().unwrap()).unwrap();
        properties.seqno_max = SeqNo::new(seqnos().max().unwrap()).unwrap();
        properties.entry_count = entries.len() as u64;
        properties.tombstone_count = entries.iter().filter(|entry| entry.2).count() as u64;
        self.contents.insert(id, entries);
        self.put(level, run, Arc::new(properties));
    }

    fn put(&mut self, level: usize, run: RunId, table: Arc<esker_table::TableProperties>) {
        let runs = &mut self.shape.levels[level].runs;
        let place = runs.iter().position(|r| r.id <= run).unwrap_or(runs.len());
        if runs.get(place).is_none_or(|r| r.id != run) {
            runs.insert(place, RunShape { id: run, tables: Vec::new() });
        }
        let tables = &mut runs[place].tables;
        let place = tables.partition_point(|t| t.smallest_key < table.smallest_key);
        tables.insert(place, table);
    }

    fn flush(&mut self, keys: impl IntoIterator<Item = (u32, bool)>) {
        let mut entries = BTreeMap::new();
        for (key, is_tombstone) in keys {
            entries.insert(key, (self.next_seqno, is_tombstone));
            self.next_seqno += 1;
        }
        let run = RunId(self.mint());
        self.flushed_bytes += entries.len() as u64 * ENTRY_BYTES;
        self.add_table(0, run, entries.into_iter().map(|(k, (s, t))| (k, s, t)).collect());
    }

    /// Starts the next plan, if there is one.
    fn start(&mut self) -> bool {
        let plan = self.policy.pick(&self.shape, &self.busy, Duration::ZERO);
        let is_some = plan.is_some();
        self.start_plan(plan);
        is_some
    }

    fn start_plan(&mut self, plan: Option<Plan>) {
        let Some(plan) = plan else { return };
        assert!(plan.fits(&self.shape), "{plan}\n{}", self.shape);
        assert!(plan.table_count() > 0 && plan.cut_keys.is_sorted(), "{plan}");
        let job = self.busy.start(plan);
        self.in_flight.push(job);
    }

    /// Finishes the plan in flight at `index`.
    fn finish(&mut self, index: usize) {
        let plan = self.busy.finish(self.in_flight.remove(index));
        assert!(plan.fits(&self.shape), "{plan}\n{}", self.shape);
        let run = plan.target_run.unwrap_or_else(|| RunId(self.mint()));
        let mut taken = Vec::new();
        for input in &plan.inputs {
            let runs = &mut self.shape.levels[input.level].runs;
            let place = runs.iter().position(|r| r.id == input.run).unwrap();
            let is_input = |t: &Arc<esker_table::TableProperties>| input.tables.contains(&t.id);
            taken.extend(runs[place].tables.extract_if(.., |t| is_input(t)));
            runs.retain(|r| !r.tables.is_empty());
        }
        if plan.is_trivial_move {
            for table in taken {
                self.put(plan.target_level, run, table);
            }
            return;
        }
        let mut merged: BTreeMap<u32, (u64, bool)> = BTreeMap::new();
        for table in taken {
            for (key, seqno, is_tombstone) in self.contents.remove(&table.id).unwrap() {
                let newest = merged.entry(key).or_insert((seqno, is_tombstone));
                *newest = (*newest).max((seqno, is_tombstone));
            }
        }
        if plan.target_level == 6 {
            merged.retain(|_, (_, is_tombstone)| !*is_tombstone);
        }
        let mut output = Entries::new();
        let mut cut_keys = plan.cut_keys.iter().peekable();
        for (key, (seqno, is_tombstone)) in merged {
            let mut is_cut = output.len() as u64 * ENTRY_BYTES >= plan.output_bytes_max;
            while cut_keys.next_if(|cut| **cut <= key_bytes(key)).is_some() {
                is_cut = true;
            }
            if is_cut && !output.is_empty() {
                self.write(plan.target_level, run, std::mem::take(&mut output));
            }
            output.push((key, seqno, is_tombstone));
        }
        if !output.is_empty() {
            self.write(plan.target_level, run, output);
        }
    }

    fn write(&mut self, level: usize, run: RunId, entries: Entries) {
        self.written_bytes += entries.len() as u64 * ENTRY_BYTES;
        self.add_table(level, run, entries);
    }

    /// Finishes everything in flight, and everything that is then planned.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.start() {
                if self.in_flight.is_empty() {
                    return;
                }
                self.finish(0);
            }
        }
        panic!("does not come to rest:\n{}", self.shape);
    }

    fn check(&self) {
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        for (index, level) in self.shape.levels.iter().enumerate() {
            assert!(level.runs.is_sorted_by(|a, b| a.id > b.id), "{}", self.shape);
            for run in &level.runs {
                let disjoint = run.tables.is_sorted_by(|a, b| a.largest_key < b.smallest_key);
                assert!(disjoint, "L{index} {}\n{}", run.id, self.shape);
                for table in &run.tables {
                    for &(key, seqno, _) in &self.contents[&table.id] {
                        let above = newest.insert(key, seqno).unwrap_or(u64::MAX);
                        assert!(seqno < above, "key {key} in L{index} {}\n{}", run.id, self.shape);
                    }
                }
            }
        }
    }

    fn run_count(&self, level: usize) -> usize {
        self.shape.levels[level].runs.len()
    }

    fn write_amplification(&self) -> f64 {
        (self.flushed_bytes + self.written_bytes) as f64 / self.flushed_bytes as f64
    }
}

fn small_options() -> LeveledOptions {
    LeveledOptions {
        memtable_bytes: 64 * ENTRY_BYTES,
        table_bytes: 64 * ENTRY_BYTES,
        ..LeveledOptions::default()
    }
}

/// A life of flushes, plans that start and plans that end, in an order that `seed` decides.
fn live(seed: u64, flush_count: usize, key_count: u64) -> Simulation {
    let mut random = TestRandom::new(seed);
    let mut simulation = Simulation::new(LeveledOptions {
        multiplier: 2 + random.below(9),
        level_zero_run_count: 2 + random.below(4) as usize,
        ..small_options()
    });
    let tombstone_odds = 1 + random.below(8);
    for _ in 0..flush_count {
        // Some flushes hold a narrow stretch of keys, and some are small.
        let width = if random.one_in(3) { 1 + random.below(key_count) } else { key_count };
        let start = random.below(key_count - width + 1);
        let count = 1 + random.below(64);
        let keys: Vec<_> = (0..count)
            .map(|_| ((start + random.below(width)) as u32, random.one_in(tombstone_odds)))
            .collect();
        simulation.flush(keys);
        for _ in 0..random.below(4) {
            simulation.start();
        }
        if random.one_in(8) {
            let first = random.below(key_count) as u32;
            let last = first + random.below(key_count) as u32;
            let plan = simulation.policy.plan_range(
                &simulation.shape,
                &simulation.busy,
                &RangeRequest {
                    range: KeyRange::from_bounds(&(key_bytes(first)..key_bytes(last))),
                    up_to: SeqNo::MAX,
                    last_level: LastLevel::RewriteTombstones(simulation.next_file),
                    expired_at: 0,
                    compression: None,
                },
            );
            simulation.start_plan(plan);
        }
        while simulation.in_flight.len() > 4
            || (!simulation.in_flight.is_empty() && random.one_in(2))
        {
            let index = random.below(simulation.in_flight.len() as u64) as usize;
            simulation.finish(index);
        }
        simulation.check();
    }
    simulation
}

#[test]
fn order_of_the_tree_survives_any_interleaving() {
    for seed in 0..60 {
        let mut simulation = live(seed, 120, 50 + 40 * (seed % 20));
        simulation.settle();
        simulation.check();
        let scores = simulation.policy.scores(&simulation.shape);
        assert!(scores.iter().all(|&score| score < 1.0), "seed {seed}: {scores:?}");
        assert!((1..=6).all(|level| simulation.run_count(level) <= 1), "{}", simulation.shape);
    }
}

#[test]
fn range_compaction_takes_everything_to_the_last_level() {
    for seed in 0..20 {
        let mut simulation = live(seed, 60, 500);
        let request = RangeRequest {
            range: KeyRange::all(),
            up_to: SeqNo::MAX,
            last_level: LastLevel::RewriteTombstones(simulation.next_file),
            expired_at: 0,
            compression: None,
        };
        while let Some(index) = simulation.in_flight.len().checked_sub(1) {
            simulation.finish(index);
        }
        for _ in 0..10_000 {
            let busy = &simulation.busy;
            let Some(plan) = simulation.policy.plan_range(&simulation.shape, busy, &request) else {
                break;
            };
            simulation.start_plan(Some(plan));
            simulation.finish(0);
        }
        simulation.check();
        assert!((0..6).all(|level| simulation.run_count(level) == 0), "{}", simulation.shape);
        let has_tombstone = simulation.contents.values().flatten().any(|entry| entry.2);
        assert!(!has_tombstone, "seed {seed}");
    }
}

#[test]
fn sequential_fill_is_never_rewritten() {
    let mut simulation = Simulation::new(small_options());
    for flush in 0..2_000 {
        simulation.flush((0..64).map(|key| (flush * 64 + key, false)));
        simulation.settle();
        assert!(simulation.run_count(0) < 4);
    }
    simulation.check();
    assert_eq!(simulation.policy.debt_bytes(&simulation.shape), 0);
    assert_eq!(simulation.written_bytes, 0);
    // Once into the log, once into a table.
    assert!(simulation.write_amplification() < 1.001);
}

fn fill_at_random(flush_count: u32, key_count: u64) -> Simulation {
    let mut random = TestRandom::new(7);
    let mut simulation = Simulation::new(small_options());
    for flush in 0..flush_count {
        simulation.flush((0..64).map(|_| (random.below(key_count) as u32, false)));
        simulation.settle();
        if flush % 256 == 0 {
            simulation.check();
        }
    }
    simulation.check();
    simulation
}

#[test]
fn random_overwrites_stay_within_their_write_amplification() {
    // Bytes written for each byte flushed, the flush included. A tree of n levels below level 0
    // pays 1 for the flush, up to 3 for the base level, and 3 to 5 for each level below it.
    // A small tree holds more garbage, which waits in level 0 until it weighs as much as the base
    // level does, nearly.
    for (key_count, level_count, bound, space_bound) in
        [(2_000, 2, 6.0, 1.25), (20_000, 3, 11.5, 1.15), (100_000, 4, 14.5, 1.15)]
    {
        let simulation = fill_at_random(4_000, key_count);
        let levels = (1..=6).filter(|&level| simulation.run_count(level) > 0).count();
        assert_eq!(levels, level_count, "{}", simulation.shape);
        let found = simulation.write_amplification();
        assert!(found < bound, "{key_count} keys: {found:.2}");
        let space = simulation.shape.bytes() as f64 / (key_count * ENTRY_BYTES) as f64;
        assert!(space < space_bound, "{key_count} keys: {space:.2} bytes for each live one");
    }
}
