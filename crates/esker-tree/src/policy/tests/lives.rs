//! Whole lives of trees under every policy: flushes, plans that start and end in any order, and a
//! change of policy in the middle. A table here is a list of keys with sequence numbers.
//!
//! After every step each run must be disjoint, each key get older on the way down, and the newest
//! entry of each key be there unless it was dropped; what is dropped leaves nothing older behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{FileId, KeyRange, OwnerId, SeqNo, TableId};

use super::parse_policy;
use crate::plan::{Busy, JobId, Plan};
use crate::policy::{LastLevel, Leveled, LeveledOptions, Policy, RangeRequest};
use crate::shape::{RunId, Shape};
use crate::test_random::TestRandom;
use crate::testing::table;

const ENTRY_BYTES: u64 = 1 << 20;
const KEY_COUNT: u64 = 200;

fn key_bytes(key: u64) -> Vec<u8> {
    format!("{key:08}").into_bytes()
}

struct Life {
    policy: Box<dyn Policy>,
    shape: Shape,
    busy: Busy,
    in_flight: Vec<JobId>,
    /// Each key of a table with its sequence number.
    contents: BTreeMap<TableId, BTreeMap<u64, u64>>,
    /// The newest entry of each key that was not dropped.
    newest: BTreeMap<u64, u64>,
    next_file: u64,
    next_seqno: u64,
    now: Duration,
}

impl Life {
    fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            policy,
            shape: Shape::default(),
            busy: Busy::new(),
            in_flight: Vec::new(),
            contents: BTreeMap::new(),
            newest: BTreeMap::new(),
            next_file: 1,
            next_seqno: 1,
            now: Duration::from_secs(1),
        }
    }

    fn mint(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    fn write(&mut self, level: usize, run: RunId, entries: BTreeMap<u64, u64>) {
        let id = TableId(FileId { owner: OwnerId::FIRST, counter: self.mint() });
        let (first, last) = (entries.keys().next().unwrap(), entries.keys().next_back().unwrap());
        let bytes = entries.len() as u64 * ENTRY_BYTES;
        let mut properties = table(id, &key_bytes(*first), &key_bytes(*last), bytes);
        properties.seqno_min = SeqNo::new(*entries.values().min().unwrap()).unwrap();
        properties.seqno_max = SeqNo::new(*entries.values().max().unwrap()).unwrap();
        self.contents.insert(id, entries);
        self.shape.place((level, run), Arc::new(properties));
    }

    fn flush(&mut self, random: &mut TestRandom) {
        let (width, count) = (1 + random.below(KEY_COUNT), 1 + random.below(40));
        let start = random.below(KEY_COUNT - width + 1);
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = start + random.below(width);
            entries.insert(key, self.next_seqno);
            self.newest.insert(key, self.next_seqno);
            self.next_seqno += 1;
        }
        self.now += Duration::from_secs(random.below(20));
        let newest = SeqNo::new(self.next_seqno - 1).unwrap();
        self.shape.timeline.mark(newest, self.now);
        let run = RunId(self.mint());
        self.write(0, run, entries);
    }

    fn start(&mut self, plan: Option<Plan>) -> bool {
        let Some(plan) = plan else { return false };
        assert!(plan.fits(&self.shape) && plan.table_count() > 0, "{plan}\n{}", self.shape);
        assert!(plan.output_bytes_max > 0 || plan.is_drop, "{plan}");
        self.in_flight.push(self.busy.start(plan));
        true
    }

    fn pick(&mut self) -> bool {
        let plan = self.policy.pick(&self.shape, &self.busy, self.now);
        self.start(plan)
    }

    fn finish(&mut self, index: usize) {
        let plan = self.busy.finish(self.in_flight.remove(index));
        assert!(plan.fits(&self.shape), "{plan}\n{}", self.shape);
        let run = plan.target_run.unwrap_or_else(|| RunId(self.mint()));
        let taken = self.shape.take(&plan);
        if plan.is_trivial_move {
            for table in taken {
                self.shape.place((plan.target_level, run), table);
            }
            return;
        }
        let mut merged: BTreeMap<u64, u64> = BTreeMap::new();
        for table in taken {
            for (key, seqno) in self.contents.remove(&table.id).unwrap() {
                let newest = merged.entry(key).or_default();
                *newest = seqno.max(*newest);
            }
        }
        if plan.is_drop {
            self.forget(&plan, &merged);
            return;
        }
        let mut output = BTreeMap::new();
        for (key, seqno) in merged {
            if output.len() as u64 * ENTRY_BYTES >= plan.output_bytes_max {
                self.write(plan.target_level, run, std::mem::take(&mut output));
            }
            output.insert(key, seqno);
        }
        self.write(plan.target_level, run, output);
    }

    fn forget(&mut self, plan: &Plan, dropped: &BTreeMap<u64, u64>) {
        for (key, seqno) in dropped {
            for entries in self.contents.values() {
                let other = entries.get(key);
                assert!(other.is_none_or(|other| seqno < other), "{key} comes back by {plan}");
            }
            if self.newest[key] == *seqno {
                self.newest.remove(key);
            }
        }
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while self.pick() || !self.in_flight.is_empty() {
            self.finish(0);
            self.check();
            steps += 1;
            assert!(steps < 1_000, "{} does not come to rest:\n{}", self.policy.name(), self.shape);
        }
    }

    fn check(&self) {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for level in &self.shape.levels {
            assert!(level.runs.is_sorted_by(|a, b| a.id > b.id), "{}", self.shape);
            for run in &level.runs {
                let is_disjoint = run.tables.is_sorted_by(|a, b| a.largest_key < b.smallest_key);
                assert!(is_disjoint, "{}\n{}", run.id, self.shape);
                for (&key, &seqno) in run.tables.iter().flat_map(|t| &self.contents[&t.id]) {
                    let (name, shape) = (self.policy.name(), &self.shape);
                    match seen.get(&key) {
                        Some(&above) => assert!(seqno < above, "{key} under {name}:\n{shape}"),
                        None => assert_eq!(self.newest.get(&key), Some(&seqno), "{key} by {name}"),
                    }
                    seen.insert(key, seqno);
                }
            }
        }
        assert_eq!(seen.len(), self.newest.len(), "a key is lost by {}", self.policy.name());
    }

    /// Flushes, and plans of the policy and on demand, that start and end as `random` has it.
    fn live(&mut self, random: &mut TestRandom, flush_count: u64) {
        let on_demand = Leveled::new(LeveledOptions {
            memtable_bytes: 40 * ENTRY_BYTES,
            table_bytes: 40 * ENTRY_BYTES,
            ..LeveledOptions::default()
        });
        for _ in 0..flush_count {
            self.flush(random);
            for _ in 0..random.below(3) {
                self.pick();
            }
            if random.one_in(8) {
                let (first, width) = (random.below(KEY_COUNT), random.below(KEY_COUNT));
                let bounds = key_bytes(first)..key_bytes(first + width);
                let request = RangeRequest {
                    range: KeyRange::from_bounds(&bounds),
                    up_to: SeqNo::MAX,
                    last_level: LastLevel::Keep,
                    expired_at: 0,
                    compression: None,
                };
                let plan = on_demand.plan_range(&self.shape, &self.busy, &request);
                self.start(plan);
            }
            while !self.in_flight.is_empty() && random.one_in(2) {
                let index = random.below(self.in_flight.len() as u64) as usize;
                self.finish(index);
            }
            self.check();
        }
    }
}

const POLICIES: [&str; 12] = [
    "simple",
    "simple max_levels=1 level0_file_num_compaction_trigger=1 size_ratio_percent=1000000",
    "tiered",
    "tiered num_tiers=2 max_merge_width=2",
    "leveled-by-bytes base_level_size_mb=64",
    "leveled-by-bytes base_level_size_mb=30 max_levels=6 level_size_multiplier=3",
    "universal",
    "universal level0_file_num_compaction_trigger=2 min_merge_width=3 max_merge_width=3",
    "lazy",
    "lazy runs_per_level=2 size_multiplier=1",
    "fifo bytes_max=500MiB age_max=300",
    "time-window window=60 age_max=600",
];

fn policy(name: &str) -> Box<dyn Policy> {
    parse_policy(name).unwrap()
}

#[test]
fn every_policy_keeps_the_order_and_comes_to_rest() {
    for name in POLICIES {
        for seed in 0..25 {
            let mut random = TestRandom::new(seed);
            let mut life = Life::new(policy(name));
            life.live(&mut random, 80);
            life.settle();
        }
    }
}

#[test]
fn every_policy_takes_over_the_tree_of_every_other() {
    for first in POLICIES.iter().chain(&["none"]) {
        for second in POLICIES {
            let mut random = TestRandom::new(first.len() as u64 * 100 + second.len() as u64);
            let mut life = Life::new(policy(first));
            life.live(&mut random, 40);
            while !life.in_flight.is_empty() {
                life.finish(0);
            }
            life.policy = policy(second);
            life.settle();
            life.live(&mut random, 20);
            life.settle();
            life.policy = Box::new(Leveled::new(LeveledOptions::default()));
            life.settle();
        }
    }
}

#[test]
fn runs_stay_within_what_the_policy_promises() {
    type Holds = fn(&Shape) -> bool;
    let promises: [(&str, Holds); 4] = [
        ("tiered", |shape| runs(shape) < 8),
        ("universal", |shape| runs(shape) <= 4),
        ("lazy", |shape| {
            shape.levels.iter().all(|level| level.runs.len() < 4) && shape.levels[6].runs.len() <= 1
        }),
        ("leveled-by-bytes", |shape| (1..7).all(|level| shape.levels[level].runs.len() <= 1)),
    ];
    for (name, holds) in promises {
        let mut random = TestRandom::new(3);
        let mut life = Life::new(policy(name));
        for _ in 0..200 {
            life.flush(&mut random);
            life.settle();
            assert!(holds(&life.shape), "{name}:\n{}", life.shape);
        }
    }
}

fn runs(shape: &Shape) -> usize {
    shape.levels.iter().map(|level| level.runs.len()).sum()
}
