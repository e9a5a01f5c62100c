//! Whole simulations as text, and policies that are wrong on purpose.

use std::path::Path;
use std::time::Duration;

use esker_tree::{
    Fifo, FifoOptions, Lazy, LazyOptions, LeveledByBytes, LeveledByBytesOptions, PlanInput,
    RangeRequest, Shape, Simple, SimpleOptions, Tiered, TieredOptions, TimeWindow,
    TimeWindowOptions, Universal, UniversalOptions,
};

use super::*;
use crate::text::{Detail, write_step};

const MIB: u64 = 1 << 20;

fn setup(policy: impl Policy, rows: Rows, seed: Option<u64>) -> Setup {
    let interval = Duration::from_secs(60);
    Setup { policy: Box::new(policy), rows, table_bytes: 32 * MIB, seed, interval }
}

/// Compares the text of `count` steps with `testdata/<name>.txt`; `UPDATE=1` rewrites it.
fn check(name: &str, setup: Setup, count: u64, detail: Detail) {
    let mut simulation = Simulation::new(setup);
    let mut out = Vec::new();
    for _ in 0..count {
        write_step(&simulation.step().unwrap(), detail, &mut out).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = String::from_utf8(out).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn simple_runs_as_written() {
    let policy = Simple::new(SimpleOptions::default(), 1);
    check("simple.txt", setup(policy, Rows::Levels(3), None), 12, Detail::Origins);
}

#[test]
fn tiered_runs_as_written() {
    let options = TieredOptions { num_tiers: 3, ..TieredOptions::default() };
    let policy = Tiered::new(options, 1);
    check("tiered.txt", setup(policy, Rows::Tiers, None), 12, Detail::Ids);
}

#[test]
fn leveled_runs_as_written() {
    let policy = LeveledByBytes::new(LeveledByBytesOptions::default(), MIB);
    check("leveled.txt", setup(policy, Rows::Levels(4), Some(42)), 14, Detail::Keys);
}

#[test]
fn universal_runs_as_written() {
    let policy = Universal::new(UniversalOptions::default(), MIB);
    check("universal.txt", setup(policy, Rows::Tiers, None), 12, Detail::Origins);
}

#[test]
fn lazy_runs_as_written() {
    let policy = Lazy::new(LazyOptions { runs_per_level: 2, size_multiplier: 2 }, MIB);
    check("lazy.txt", setup(policy, Rows::Tiers, None), 12, Detail::Sizes);
}

#[test]
fn fifo_runs_as_written() {
    let options = FifoOptions { bytes_max: 100 * MIB, age_max: Some(Duration::from_secs(150)) };
    check("fifo.txt", setup(Fifo::new(options), Rows::Tiers, None), 6, Detail::Ids);
}

#[test]
fn time_window_runs_as_written() {
    let window = Duration::from_secs(180);
    let options =
        TimeWindowOptions { window, runs_per_window: 2, age_max: Some(Duration::from_secs(500)) };
    let policy = TimeWindow::new(options, MIB);
    check("time_window.txt", setup(policy, Rows::Tiers, None), 14, Detail::Ids);
}

#[test]
fn policies_hold_under_many_parameters() {
    for seed in 0..12 {
        let run = |setup: Setup| {
            let mut simulation = Simulation::new(setup);
            for _ in 0..120 {
                simulation.step().unwrap();
            }
        };
        let tiers = TieredOptions {
            num_tiers: 2 + seed,
            size_ratio: seed * 20,
            max_merge_width: (seed % 2 == 0).then_some(2 + seed / 2),
            ..TieredOptions::default()
        };
        run(setup(Tiered::new(tiers, 1), Rows::Tiers, Some(seed)));
        let simple = SimpleOptions {
            size_ratio_percent: 100 + 50 * seed,
            level0_file_num_compaction_trigger: 1 + seed % 4,
            max_levels: 1 + (seed % 6) as usize,
        };
        let rows = Rows::Levels(simple.max_levels);
        run(setup(Simple::new(simple, 1), rows, Some(seed)));
        let leveled = LeveledByBytesOptions {
            level0_file_num_compaction_trigger: 1 + seed % 5,
            level_size_multiplier: 2 + seed % 7,
            max_levels: 1 + (seed % 6) as usize,
            base_level_size_mb: 32 + 50 * seed,
        };
        let rows = Rows::Levels(leveled.max_levels);
        run(setup(LeveledByBytes::new(leveled, MIB), rows, Some(seed)));
        let lazy = LazyOptions { runs_per_level: 2 + seed % 4, size_multiplier: 1 + seed };
        run(setup(Lazy::new(lazy, MIB), Rows::Tiers, Some(seed)));
        let universal = UniversalOptions {
            level0_file_num_compaction_trigger: 2 + seed % 6,
            size_ratio: seed * 10,
            min_merge_width: 2 + seed % 3,
            ..UniversalOptions::default()
        };
        run(setup(Universal::new(universal, MIB), Rows::Tiers, Some(seed)));
    }
}

/// What a wrong policy does with a tree that has enough runs.
#[derive(Debug)]
enum Wrong {
    /// Merges the newest run with itself for ever.
    Restless,
    /// Puts the newest run behind all others.
    Overtaking,
    /// Names tables that are not there.
    Confused,
    /// Puts two runs that overlap into one, unread.
    Careless,
}

impl Policy for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn pick(&self, shape: &Shape, _busy: &Busy, _now: Duration) -> Option<Plan> {
        let [newest, oldest] = shape.levels[0].runs.as_slice() else { return None };
        let input = |run: &esker_tree::RunShape, level| PlanInput {
            level,
            run: run.id,
            tables: run.tables.iter().map(|table| table.id).collect(),
        };
        let (inputs, target_level) = match self {
            Self::Restless => (vec![input(newest, 0)], 0),
            Self::Overtaking => (vec![input(newest, 0)], 6),
            Self::Confused => (vec![input(newest, 3)], 6),
            Self::Careless => (vec![input(newest, 0), input(oldest, 0)], 6),
        };
        Some(Plan {
            reason: PlanReason::Manual,
            inputs,
            target_level,
            target_run: None,
            cut_keys: Vec::new(),
            output_bytes_max: 1,
            is_trivial_move: matches!(self, Self::Careless),
            is_drop: false,
            first_key: Vec::new(),
            last_key: Vec::new(),
            input_bytes: 1,
        })
    }

    fn plan_range(&self, _: &Shape, _: &Busy, _: &RangeRequest) -> Option<Plan> {
        None
    }

    fn level_targets(&self, _: &Shape) -> Vec<u64> {
        Vec::new()
    }

    fn scores(&self, _: &Shape) -> Vec<f64> {
        Vec::new()
    }

    fn debt_bytes(&self, _: &Shape) -> u64 {
        0
    }
}

#[test]
fn a_wrong_policy_fails() {
    let expected = [
        (Wrong::Restless, "in iteration 1: the policy wrong does not converge: 80 compactions"),
        (Wrong::Overtaking, "holds an entry of flush 2 behind one of flush 1"),
        (Wrong::Confused, "the tree does not have the inputs of the plan"),
        (Wrong::Careless, "tables of one run of tree level 6 overlap"),
    ];
    for (wrong, what) in expected {
        let mut simulation = Simulation::new(setup(wrong, Rows::Tiers, None));
        simulation.step().unwrap();
        let failure = simulation.step().unwrap_err().to_string();
        // The older entry is in front, whichever of the two is named first.
        assert!(failure.contains(what), "{failure}");
    }
}
