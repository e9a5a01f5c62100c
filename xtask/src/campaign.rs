//! One harness of a campaign, run as a separate program, and its output.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Settings of every campaign.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// The first seed of each harness that uses seeds.
    pub(crate) seed: &'a str,
    /// How many times its usual work each harness does.
    pub(crate) budget: u64,
}

impl<'a> Settings<'a> {
    /// The settings in `--seed S --budget N`, in any order; by default 1 each.
    ///
    /// # Errors
    /// If there is anything else in `words`.
    pub(crate) fn of_options(words: &[&'a str]) -> Result<Self, String> {
        let (mut seed, mut budget) = (None, None);
        for pair in words.chunks(2) {
            let (given, value) = match *pair {
                ["--seed", value] => (seed.replace(value), value),
                ["--budget", value] => (budget.replace(value), value),
                [option @ ("--seed" | "--budget")] => {
                    return Err(format!("{option} needs a number"));
                }
                _ => return Err(format!("there is no option {}", pair[0])),
            };
            if given.is_some() {
                return Err(format!("{} {value}: given twice", pair[0]));
            }
        }
        Self::of(seed.unwrap_or("1"), budget.unwrap_or("1"))
    }

    /// The settings in `[SEED [BUDGET]]`; by default 1 each.
    ///
    /// # Errors
    /// If there is anything else in `words`.
    pub(crate) fn of_words(words: &[&'a str]) -> Result<Self, String> {
        match words {
            [] => Self::of("1", "1"),
            [seed] => Self::of(seed, "1"),
            [seed, budget] => Self::of(seed, budget),
            _ => Err(format!("a seed and a budget are expected, and not {}", words.join(" "))),
        }
    }

    fn of(seed: &'a str, budget: &'a str) -> Result<Self, String> {
        match (seed.parse::<u64>(), budget.parse::<u64>()) {
            (Ok(_), Ok(budget @ 1..)) => Ok(Self { seed, budget }),
            _ => Err("seed and budget are numbers, and the budget is not 0".to_owned()),
        }
    }
}

/// What every harness prints in a line about something that it cannot run here; `.ci/run` looks for it.
pub(crate) const SKIPPED: &str = "SKIPPED, not passed";

/// How a harness ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// It cannot run here, and why.
    Skipped(String),
}

/// The result of one harness.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    /// All that it printed.
    pub(crate) output: String,
    pub(crate) time: Duration,
}

impl Report {
    /// Runs `command` to completion.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn of(name: &'static str, command: &mut Command) -> std::io::Result<Self> {
        eprintln!("== {name}");
        let start = now();
        let output = command.stdin(Stdio::null()).output()?;
        let outcome = if output.status.success() { Outcome::Passed } else { Outcome::Failed };
        let output = [output.stdout, output.stderr].concat();
        let output = String::from_utf8_lossy(&output).into_owned();
        if outcome == Outcome::Failed {
            eprintln!("{output}");
        }
        Ok(Self { name, outcome, output, time: start.elapsed() })
    }

    /// Of a function of this program: whether it passed, and what it has to say.
    pub(crate) fn of_call(name: &'static str, call: impl FnOnce() -> (bool, String)) -> Self {
        eprintln!("== {name}");
        let start = now();
        let (has_passed, output) = call();
        let outcome = if has_passed { Outcome::Passed } else { Outcome::Failed };
        if outcome == Outcome::Failed {
            eprintln!("{output}");
        }
        Self { name, outcome, output, time: start.elapsed() }
    }

    /// A harness that was not run.
    pub(crate) fn skipped(name: &'static str, why: String) -> Self {
        let (output, time) = (String::new(), Duration::ZERO);
        Self { name, outcome: Outcome::Skipped(why), output, time }
    }

    /// Of tests: a harness whose tests were renamed runs none, and has not passed.
    pub(crate) fn of_tests(name: &'static str, command: &mut Command) -> std::io::Result<Self> {
        let mut report = Self::of(name, command)?;
        if report.outcome == Outcome::Passed && !report.has_tests() {
            report.fail("no test has such a name");
        }
        Ok(report)
    }

    /// It has not passed, for this reason.
    pub(crate) fn fail(&mut self, why: &str) {
        eprintln!("{}: {why}", self.name);
        self.outcome = Outcome::Failed;
    }

    /// Whether tests passed in each of its test programs.
    fn has_tests(&self) -> bool {
        let passed = self.output.lines().filter_map(|line| {
            let rest = line.strip_prefix("test result: ok. ")?;
            rest.split_once(" passed")?.0.parse::<u64>().ok()
        });
        passed.reduce(u64::min).is_some_and(|least| 0 < least)
    }

    /// What it skipped, according to what it printed.
    fn skips(&self) -> usize {
        self.output.lines().filter(|line| line.contains(SKIPPED)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => {
                let but = match self.skips() {
                    0 => String::new(),
                    skips => format!(", but {skips} skipped"),
                };
                write!(f, "{}: passed{but}, {} s", self.name, self.time.as_secs())
            }
            Outcome::Failed => write!(f, "{}: FAILED, {} s", self.name, self.time.as_secs()),
            Outcome::Skipped(why) => write!(f, "{}: {SKIPPED}: {why}", self.name),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a harness took is never replayed")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(output: &str) -> Report {
        let (output, time) = (output.to_owned(), Duration::ZERO);
        Report { name: "it", outcome: Outcome::Passed, output, time }
    }

    #[test]
    fn settings_are_taken_only_whole() {
        let of = |words: &[&'static str]| {
            Settings::of_options(words).map(|settings| (settings.seed, settings.budget))
        };
        assert_eq!(of(&[]), Ok(("1", 1)));
        assert_eq!(of(&["--seed", "7"]), Ok(("7", 1)));
        assert_eq!(of(&["--budget", "20", "--seed", "7"]), Ok(("7", 20)));
        for (words, why) in [
            (&["--seeds", "7"][..], "there is no option --seeds"),
            (&["7"], "there is no option 7"),
            (&["--seed"], "--seed needs a number"),
            (&["--seed", "--budget", "2"], "there is no option 2"),
            (&["--seed", "1", "--seed", "2"], "--seed 2: given twice"),
            (&["--seed", "x"], "seed and budget are numbers, and the budget is not 0"),
            (&["--budget", "0"], "seed and budget are numbers, and the budget is not 0"),
        ] {
            assert_eq!(of(words), Err(why.to_owned()), "{words:?}");
        }
        let of = |words: &[&'static str]| {
            Settings::of_words(words).map(|settings| (settings.seed, settings.budget))
        };
        assert_eq!(of(&["7"]), Ok(("7", 1)));
        assert_eq!(of(&["7", "20"]), Ok(("7", 20)));
        assert!(of(&["--seed", "7"]).is_err() && of(&["7", "1", "1"]).is_err());
    }

    #[test]
    fn a_call_has_passed_if_it_says_so() {
        assert_eq!(Report::of_call("it", || (true, String::new())).outcome, Outcome::Passed);
        let report = Report::of_call("it", || (false, "why".to_owned()));
        assert_eq!((report.outcome, &*report.output), (Outcome::Failed, "why"));
    }

    #[test]
    fn each_test_program_has_to_pass_a_test() {
        let [nine, none] =
            ["test result: ok. 9 passed; 0 failed\n", "test result: ok. 0 passed; 1 ignored\n"];
        assert!(report(&[nine, "noise\n", nine].concat()).has_tests());
        assert!(!report(&[nine, "noise\n", none].concat()).has_tests());
        assert!(!report("noise\n").has_tests());
    }

    #[test]
    fn what_passed_says_that_parts_were_skipped() {
        assert_eq!(report("noise\n").to_string(), "it: passed, 0 s");
        let skips =
            report("a: SKIPPED, not passed: no root\nb: done; SKIPPED, not passed: no xfs\n");
        assert_eq!(skips.to_string(), "it: passed, but 2 skipped, 0 s");
    }
}
