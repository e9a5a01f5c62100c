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

    /// A harness that was not run.
    pub(crate) fn skipped(name: &'static str, why: String) -> Self {
        let (output, time) = (String::new(), Duration::ZERO);
        Self { name, outcome: Outcome::Skipped(why), output, time }
    }

    /// How many tests passed in each of its test programs.
    pub(crate) fn passed_tests(&self) -> impl Iterator<Item = u64> {
        self.output.lines().filter_map(|line| {
            let rest = line.strip_prefix("test result: ok. ")?;
            rest.split_once(" passed")?.0.parse().ok()
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "{}: passed, {} s", self.name, self.time.as_secs()),
            Outcome::Failed => write!(f, "{}: FAILED, {} s", self.name, self.time.as_secs()),
            Outcome::Skipped(why) => write!(f, "{}: SKIPPED, not passed: {why}", self.name),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a harness took is never replayed")]
fn now() -> Instant {
    Instant::now()
}
