//! Policies: single decisions as text, and whole lives of trees.

mod lives;

use std::fmt::Write as _;
use std::time::Duration;

use esker_base::SeqNo;

use crate::plan::Busy;
use crate::policy::*;
use crate::shape::{Bytes, Shape, Timeline};
use crate::testing::{parse_bytes, parse_shape, replay};

const TABLE_BYTES: u64 = 64 << 20;

/// The words `name=value` of a case.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    fn parse(text: &'a str) -> Self {
        let words = text.split_whitespace().map(|word| word.split_once('=').unwrap());
        Self(words.collect())
    }

    /// Sets `field` if the word is there, and takes it.
    fn set<T>(&mut self, name: &str, field: &mut T, parse: impl Fn(&str) -> T) {
        if let Some(index) = self.0.iter().position(|word| word.0 == name) {
            *field = parse(self.0.swap_remove(index).1);
        }
    }

    fn number(&mut self, name: &str, field: &mut u64) {
        self.set(name, field, |text| text.parse().unwrap());
    }

    fn check_empty(self) {
        assert!(self.0.is_empty(), "no option: {:?}", self.0);
    }
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().unwrap())
}

/// The policy of that name, or why its options are refused.
fn parse_policy(text: &str) -> Result<Box<dyn Policy>, BadOption> {
    let (name, words) = text.split_once(' ').unwrap_or((text, ""));
    let mut words = Words::parse(words);
    let trigger = "level0_file_num_compaction_trigger";
    let amplification = "max_size_amplification_percent";
    let policy: Box<dyn Policy> = match name {
        "simple" => {
            let mut options = SimpleOptions::default();
            words.number("size_ratio_percent", &mut options.size_ratio_percent);
            words.number(trigger, &mut options.level0_file_num_compaction_trigger);
            words.set("max_levels", &mut options.max_levels, |text| text.parse().unwrap());
            options.check()?;
            Box::new(Simple::new(options, TABLE_BYTES))
        }
        "tiered" => {
            let mut options = TieredOptions::default();
            words.number("num_tiers", &mut options.num_tiers);
            words.number(amplification, &mut options.max_size_amplification_percent);
            words.number("size_ratio", &mut options.size_ratio);
            words.number("min_merge_width", &mut options.min_merge_width);
            words.set("max_merge_width", &mut options.max_merge_width, |text| text.parse().ok());
            options.check()?;
            Box::new(Tiered::new(options, TABLE_BYTES))
        }
        "leveled-by-bytes" => {
            let mut options = LeveledByBytesOptions::default();
            words.number(trigger, &mut options.level0_file_num_compaction_trigger);
            words.number("level_size_multiplier", &mut options.level_size_multiplier);
            words.set("max_levels", &mut options.max_levels, |text| text.parse().unwrap());
            words.number("base_level_size_mb", &mut options.base_level_size_mb);
            options.check()?;
            Box::new(LeveledByBytes::new(options, TABLE_BYTES))
        }
        "universal" => {
            let mut options = UniversalOptions::default();
            words.number(trigger, &mut options.level0_file_num_compaction_trigger);
            words.number(amplification, &mut options.max_size_amplification_percent);
            words.number("size_ratio", &mut options.size_ratio);
            words.number("min_merge_width", &mut options.min_merge_width);
            words.set("max_merge_width", &mut options.max_merge_width, |text| text.parse().ok());
            options.check()?;
            Box::new(Universal::new(options, TABLE_BYTES))
        }
        "lazy" => {
            let mut options = LazyOptions::default();
            words.number("runs_per_level", &mut options.runs_per_level);
            words.number("size_multiplier", &mut options.size_multiplier);
            options.check()?;
            Box::new(Lazy::new(options, TABLE_BYTES))
        }
        "fifo" => {
            let mut options = FifoOptions::default();
            words.set("bytes_max", &mut options.bytes_max, parse_bytes);
            words.set("age_max", &mut options.age_max, |text| Some(seconds(text)));
            options.check()?;
            Box::new(Fifo::new(options))
        }
        "time-window" => {
            let mut options = TimeWindowOptions::default();
            words.set("window", &mut options.window, seconds);
            words.number("runs_per_window", &mut options.runs_per_window);
            words.set("age_max", &mut options.age_max, |text| Some(seconds(text)));
            options.check()?;
            Box::new(TimeWindow::new(options, TABLE_BYTES))
        }
        "none" => Box::new(Never::new(TABLE_BYTES)),
        other => panic!("{other:?} is no policy"),
    };
    words.check_empty();
    assert_eq!(policy.name(), name);
    Ok(policy)
}

/// Reads `100=5s 200=9s`: everything up to 100 was written by the fifth second.
fn parse_timeline(text: &str) -> Timeline {
    let mut timeline = Timeline::default();
    for word in text.split_whitespace() {
        let (seqno, time) = word.split_once('=').unwrap();
        let time = seconds(time.strip_suffix('s').unwrap());
        timeline.mark(SeqNo::new(seqno.parse().unwrap()).unwrap(), time);
    }
    timeline
}

fn report(policy: &dyn Policy, shape: &Shape) -> String {
    let mut out = String::new();
    let (targets, scores) = (policy.level_targets(shape), policy.scores(shape));
    for (level, (target, score)) in targets.iter().zip(&scores).enumerate() {
        if *target > 0 || *score > 0.0 {
            writeln!(out, "L{level} target {} score {score:.2}", Bytes(*target)).unwrap();
        }
    }
    writeln!(out, "debt {}", Bytes(policy.debt_bytes(shape))).unwrap();
    out
}

/// Commands: `policy NAME [options]`, `shape`, `timeline`, `pick [now=SECONDS]`, `start` (the same,
/// and the plan stays in flight), `finish`.
fn check(file: &str) {
    let mut policy: Box<dyn Policy> = Box::new(Never::new(TABLE_BYTES));
    let (mut shape, mut busy, mut jobs) = (Shape::default(), Busy::new(), Vec::new());
    replay(file, |command, lines| {
        let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
        let mut now = Duration::ZERO;
        match command {
            "policy" => match parse_policy(rest) {
                Ok(parsed) => {
                    policy = parsed;
                    "ok".to_owned()
                }
                Err(bad) => bad.to_string(),
            },
            "shape" => {
                let timeline = std::mem::take(&mut shape.timeline);
                shape = Shape { timeline, ..parse_shape(lines) };
                report(&*policy, &shape)
            }
            "timeline" => {
                shape.timeline = parse_timeline(lines);
                "ok".to_owned()
            }
            "finish" => {
                busy.finish(jobs.remove(0));
                "ok".to_owned()
            }
            "pick" | "start" => {
                Words::parse(rest).set("now", &mut now, seconds);
                let plan = policy.pick(&shape, &busy, now);
                let text = plan.as_ref().map_or("none".to_owned(), ToString::to_string);
                if let Some(plan) = plan.filter(|_| command == "start") {
                    jobs.push(busy.start(plan));
                }
                text
            }
            other => panic!("{other:?} is no command"),
        }
    });
}

#[test]
fn simple_decides_as_written() {
    check("policy/simple.txt");
}

#[test]
fn tiered_decides_as_written() {
    check("policy/tiered.txt");
}

#[test]
fn leveled_by_bytes_decides_as_written() {
    check("policy/by_bytes.txt");
}

#[test]
fn universal_decides_as_written() {
    check("policy/universal.txt");
}

#[test]
fn lazy_decides_as_written() {
    check("policy/lazy.txt");
}

#[test]
fn fifo_decides_as_written() {
    check("policy/fifo.txt");
}

#[test]
fn time_window_decides_as_written() {
    check("policy/time_window.txt");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    check("policy/refused.txt");
}

#[test]
fn never_plans_nothing_by_itself() {
    let shape = parse_shape("L0\n  #2: 2[a..z 64MiB]\n  #1: 1[a..z 64MiB]\n");
    let policy = Never::new(TABLE_BYTES);
    assert_eq!(policy.pick(&shape, &Busy::new(), Duration::MAX), None);
}
