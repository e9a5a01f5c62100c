//! The leveled policy: single decisions as text, and whole lives of trees in a simulation.

mod simulation;

use std::fmt::Write as _;
use std::time::Duration;

use esker_base::{KeyRange, SeqNo};

use crate::plan::{Busy, Plan};
use crate::policy::{LastLevel, Leveled, LeveledOptions, Policy, RangeRequest};
use crate::shape::{Bytes, Shape};
use crate::testing::{parse_bytes, parse_shape, replay};

struct Case {
    policy: Leveled,
    shape: Shape,
    busy: Busy,
}

impl Case {
    fn new() -> Self {
        let policy = Leveled::new(LeveledOptions::default());
        Self { policy, shape: Shape::default(), busy: Busy::new() }
    }

    fn set_options(&mut self, words: &str) {
        let mut options = LeveledOptions::default();
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("memtable", bytes) => options.memtable_bytes = parse_bytes(bytes),
                ("table", bytes) => options.table_bytes = parse_bytes(bytes),
                ("multiplier", n) => options.multiplier = n.parse().unwrap(),
                ("runs", n) => options.level_zero_run_count = n.parse().unwrap(),
                other => panic!("{other:?} is not an option"),
            }
        }
        self.policy = Leveled::new(options);
    }

    /// Targets and scores of the levels that have any, and the debt.
    fn report(&self) -> String {
        let mut out = String::new();
        let targets = self.policy.level_targets(&self.shape);
        let scores = self.policy.scores(&self.shape);
        for (level, (target, score)) in targets.iter().zip(&scores).enumerate() {
            if *target > 0 || *score > 0.0 {
                writeln!(out, "L{level} target {} score {score:.2}", Bytes(*target)).unwrap();
            }
        }
        writeln!(out, "debt {}", Bytes(self.policy.debt_bytes(&self.shape))).unwrap();
        out
    }

    fn pick(&self) -> Option<Plan> {
        self.policy.pick(&self.shape, &self.busy, Duration::ZERO)
    }

    fn range(&self, words: &str) -> Option<Plan> {
        let mut request = RangeRequest {
            range: KeyRange::all(),
            up_to: SeqNo::MAX,
            last_level: LastLevel::Keep,
            expired_at: 0,
            compression: None,
        };
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("keys", range) => {
                    let (first, last) = range.split_once("..").unwrap();
                    request.range = KeyRange::from_bounds(&(first..=last));
                }
                ("up-to", n) => request.up_to = SeqNo::new(n.parse().unwrap()).unwrap(),
                ("tombstones-before", n) => {
                    request.last_level = LastLevel::RewriteTombstones(n.parse().unwrap());
                }
                ("all-before", n) => {
                    request.last_level = LastLevel::RewriteAll(n.parse().unwrap());
                }
                other => panic!("{other:?} is not part of a request"),
            }
        }
        self.policy.plan_range(&self.shape, &self.busy, &request)
    }

    fn run(&mut self, command: &str, input: &str) -> String {
        let (command, words) = command.split_once(' ').unwrap_or((command, ""));
        match command {
            "options" => {
                self.set_options(words);
                String::new()
            }
            // A new tree, with nothing in flight.
            "shape" => {
                self.shape = parse_shape(input);
                self.busy = Busy::new();
                self.report()
            }
            // The tree changes; what is in flight stays there.
            "reshape" => {
                self.shape = parse_shape(input);
                self.report()
            }
            "pick" => text(self.pick()),
            "range" => text(self.range(words)),
            // The next plan goes into flight.
            "start" => {
                let plan = self.pick();
                self.busy.extend(plan.clone());
                text(plan)
            }
            "start-range" => {
                let plan = self.range(words);
                self.busy.extend(plan.clone());
                text(plan)
            }
            other => panic!("{other:?} is not a command"),
        }
    }
}

impl Busy {
    fn extend(&mut self, plan: Option<Plan>) {
        if let Some(plan) = plan {
            self.start(plan);
        }
    }
}

fn text(plan: Option<Plan>) -> String {
    plan.map_or("nothing".to_owned(), |plan| plan.to_string())
}

#[test]
fn level_zero_decisions_match_testdata() {
    let mut case = Case::new();
    replay("policy/level_zero.txt", |command, input| case.run(command, input));
}

#[test]
fn decisions_of_deeper_levels_match_testdata() {
    let mut case = Case::new();
    replay("policy/levels.txt", |command, input| case.run(command, input));
}

#[test]
fn range_compactions_match_testdata() {
    let mut case = Case::new();
    replay("policy/range.txt", |command, input| case.run(command, input));
}
