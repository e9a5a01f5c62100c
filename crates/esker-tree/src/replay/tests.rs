//! Replays as text, and what must hold of every one.

use std::fmt::Write as _;

use super::*;
use crate::policy::{
    Fifo, FifoOptions, Lazy, LazyOptions, Leveled, LeveledOptions, Universal, UniversalOptions,
};
use crate::shape::Bytes;
use crate::testing::{parse_run_id, parse_shape, parse_tables, replay};

const MIB: u64 = 1 << 20;

/// Lines `flush TABLES` and `merge #RUN TABLES #RUN TABLES -> TABLES` are the past; the others are
/// the live tree.
fn parse(text: &str) -> (Shape, Recorded) {
    let (mut shape, mut recorded) = (String::new(), Recorded::default());
    let shared = |text: &str| parse_tables(text).into_iter().map(Arc::new);
    for line in text.lines() {
        if let Some(tables) = line.strip_prefix("flush ") {
            recorded.flushes.push_back(shared(tables).collect());
        } else if let Some(merge) = line.strip_prefix("merge ") {
            let (inputs, outputs) = merge.split_once(" -> ").unwrap();
            let mut merge = RecordedMerge { inputs: vec![], outputs: shared(outputs).collect() };
            for run in inputs.split('#').skip(1) {
                let (id, tables) = run.split_once(' ').unwrap();
                let id = parse_run_id(&format!("#{id}"));
                merge.inputs.extend(shared(tables).map(|table| (id, table)));
            }
            recorded.merges.push_back(merge);
        } else {
            writeln!(shape, "{line}").unwrap();
        }
    }
    (parse_shape(&shape), recorded)
}

fn policy(name: &str) -> Option<Box<dyn Policy>> {
    let leveled =
        LeveledOptions { memtable_bytes: MIB, table_bytes: MIB, ..LeveledOptions::default() };
    match name {
        "none" => None,
        "leveled" => Some(Box::new(Leveled::new(leveled))),
        "universal" => Some(Box::new(Universal::new(UniversalOptions::default(), MIB))),
        "lazy" => Some(Box::new(Lazy::new(LazyOptions::default(), MIB))),
        "fifo" => Some(Box::new(Fifo::new(FifoOptions { bytes_max: 6 * MIB, age_max: None }))),
        other => panic!("{other:?} is no policy here"),
    }
}

fn of(shape: &Shape, recorded: &Recorded) -> Replay {
    let now = Duration::from_secs(1_000_000);
    Replay::new(ReplaySetup { shape, recorded, memtable_bytes: MIB, now })
}

/// `replay POLICY FLUSHES [SCALE]`.
fn run(command: &str, input: &str) -> String {
    let (shape, recorded) = parse(input);
    let replay = of(&shape, &recorded);
    let words: Vec<&str> = command.split(' ').collect();
    let scale = words.get(3).map_or(1.0, |word| word.parse().unwrap());
    let figures =
        replay.run(policy(words[1]).as_deref(), words[2].parse().unwrap(), scale).unwrap();
    let (facts, mut out) = (replay.facts(), String::new());
    writeln!(
        out,
        "past: {} flushes, {} merges, overwrites {:?}, ascending {}, every {:?}",
        facts.flushes, facts.merges, facts.overwrite_percent, facts.is_ascending, facts.interval
    )
    .unwrap();
    writeln!(
        out,
        "{} flushes of {}; takeover {}, compactions {}, dropped {}",
        figures.flush_count,
        Bytes(figures.flush_bytes),
        Bytes(figures.takeover_bytes),
        Bytes(figures.compaction_bytes),
        Bytes(figures.dropped_bytes)
    )
    .unwrap();
    writeln!(
        out,
        "write {:.2}, space {:.2} (peak {:.2}), runs {} (most {}, mean {:.1})",
        figures.write_amplification(),
        figures.space_amplification,
        figures.space_amplification_peak,
        figures.run_count,
        figures.run_count_max,
        figures.run_count_mean
    )
    .unwrap();
    for (number, level) in figures.levels.iter().enumerate().filter(|(_, l)| l.run_count > 0) {
        let (runs, tables) = (level.run_count, level.table_count);
        writeln!(out, "L{number}: {runs} runs, {tables} tables, {}", Bytes(level.bytes)).unwrap();
    }
    out
}

#[test]
fn replays_match_their_text() {
    replay("replay/policies.txt", run);
}

/// A tree of one run with 64 tables, and flushes that overwrite it evenly.
fn overwritten() -> (Shape, Recorded) {
    let mut text = "L6\n  #1:".to_owned();
    for table in 0..64 {
        let (first, last) = (table * 10, table * 10 + 9);
        write!(text, " {}[k{first:03}..k{last:03} 1MiB]", table + 10).unwrap();
    }
    text.push('\n');
    for flush in 0..8 {
        writeln!(text, "flush {}[k000..k639 1MiB]", flush + 100).unwrap();
    }
    // All that was flushed is replaced.
    text.push_str("merge #2 200[k000..k639 1MiB] #1 201[k000..k639 64MiB entries=64000] -> ");
    text.push_str("202[k000..k639 64MiB entries=64000]\n");
    parse(&text)
}

#[test]
fn a_tree_that_is_overwritten_does_not_grow() {
    let (shape, recorded) = overwritten();
    let replay = of(&shape, &recorded);
    assert_eq!(replay.facts().overwrite_percent, Some(100));
    for name in ["leveled", "universal", "lazy"] {
        let figures = replay.run(policy(name).as_deref(), 200, 1.0).unwrap();
        let settled = figures.levels[6].bytes as f64 / (64 * MIB) as f64;
        assert!((0.9..1.15).contains(&settled), "{name}: {figures:?}");
        assert!(figures.space_amplification <= figures.space_amplification_peak, "{figures:?}");
    }
    let leveled = replay.run(policy("leveled").as_deref(), 200, 1.0).unwrap();
    let universal = replay.run(policy("universal").as_deref(), 200, 1.0).unwrap();
    assert!(
        universal.write_amplification() < leveled.write_amplification() * 1.5,
        "{leveled:?}\n{universal:?}"
    );
    assert!(
        leveled.space_amplification_peak < universal.space_amplification_peak,
        "{leveled:?}\n{universal:?}"
    );
}

#[test]
fn larger_memtables_flush_less() {
    let (shape, recorded) = overwritten();
    let replay = of(&shape, &recorded);
    let usual = replay.run(policy("leveled").as_deref(), 200, 1.0).unwrap();
    let larger = replay.run(policy("leveled").as_deref(), 200, 4.0).unwrap();
    assert_eq!((usual.flush_count, larger.flush_count), (200, 50));
    // Some writes meet in one memtable.
    assert!(larger.flush_bytes < usual.flush_bytes);
    assert!(usual.flush_bytes * 9 < larger.flush_bytes * 10, "{usual:?}\n{larger:?}");
}

/// What follows the flushes is what a look at every cell says, or nearly.
#[test]
fn kept_bytes_follow_flushes_compactions_and_drops() {
    let deleting = "L6 8MiB\n  #1: 10[a..m 4MiB] 11[n..z 4MiB]\n\
                    flush 20[a..m 1MiB tombstones=300] 21[n..z 1MiB]\n\
                    flush 22[g..s 1MiB tombstones=500]\n\
                    merge #2 20[a..z 1MiB] #1 9[a..z 8MiB entries=4000] -> 22[a..z 8MiB entries=4200]\n";
    let ascending = "flush 1[b..c 1MiB tombstones=100]\nflush 2[e..f 1MiB]\nflush 3[h..i 1MiB]\n";
    for (shape, recorded) in [overwritten(), parse(deleting), parse(ascending)] {
        let replay = of(&shape, &recorded);
        for name in ["none", "leveled", "universal", "lazy", "fifo"] {
            let policy = policy(name);
            let mut course = Course::new(&replay, policy.as_deref());
            for number in 0..150 {
                course.flush(&replay, number, 1.0);
                course.settle().unwrap();
                let followed = course.tree.bare_bytes();
                let mut again = course.tree.clone();
                again.whole = None;
                let expected = again.bare_bytes();
                let error = (followed / expected - 1.0).abs();
                assert!(error < 0.001, "{name} {number}: {followed}, not {expected}");
            }
        }
    }
}

#[test]
fn nothing_is_replayed_of_a_tree_without_tables() {
    let replay = of(&Shape::default(), &Recorded::default());
    let figures = replay.run(policy("leveled").as_deref(), 100, 1.0).unwrap();
    assert_eq!((figures.flush_count, figures.write_amplification()), (0, 0.0));
    assert!(figures.levels.is_empty());
}

#[test]
fn a_policy_that_does_not_come_to_rest_is_given_up() {
    #[derive(Debug)]
    struct Restless(Leveled);
    impl Policy for Restless {
        fn name(&self) -> &'static str {
            "restless"
        }
        fn pick(&self, shape: &Shape, busy: &Busy, _now: Duration) -> Option<crate::plan::Plan> {
            let request = crate::policy::RangeRequest {
                range: esker_base::KeyRange::all(),
                up_to: esker_base::SeqNo::MAX,
                last_level: crate::policy::LastLevel::RewriteAll(u64::MAX),
                expired_at: 0,
                compression: None,
            };
            self.0.plan_range(shape, busy, &request)
        }
        fn plan_range(
            &self,
            _: &Shape,
            _: &Busy,
            _: &crate::policy::RangeRequest,
        ) -> Option<crate::plan::Plan> {
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
    let (shape, recorded) = parse("L6\n  #1: 2[a..b 1KiB]\nflush 3[a..b 1KiB]");
    let restless = Restless(Leveled::new(LeveledOptions::default()));
    let failure = of(&shape, &recorded).run(Some(&restless), 1, 1.0).unwrap_err();
    assert_eq!(failure, "restless does not come to rest");
}
