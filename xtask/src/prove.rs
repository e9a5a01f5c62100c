//! `cargo xtask prove`: runs every harness that treats the engine badly, sums their counts, and
//! prints them as a table; with `--write`, also into `docs/RELIABILITY.md`. `cargo xtask harness`
//! does the same with one of them.
//!
//! Each harness prints lines `counted: NUMBER WHAT`; nothing else is counted. What cannot run on
//! this machine is listed as skipped, with the reason that it gave.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::campaign::{Outcome, Report, Settings};
use crate::harnesses::Harness;

/// The name of the table in the document.
pub(crate) const TABLE: &str = "prove";

/// The counts of the harnesses.
#[derive(Default)]
pub(crate) struct Proof {
    counts: BTreeMap<String, u64>,
    lines: Vec<String>,
    failed: Vec<&'static str>,
}

/// Runs these harnesses.
///
/// # Errors
/// If a program cannot be started.
pub(crate) fn run(
    root: &Path,
    harnesses: &[&Harness],
    settings: Settings<'_>,
) -> std::io::Result<Proof> {
    let mut proof = Proof::default();
    for harness in harnesses {
        harness.run(root, settings)?.iter().for_each(|report| proof.note(report));
    }
    Ok(proof)
}

impl Proof {
    fn note(&mut self, report: &Report) {
        for line in report.output.lines() {
            let counted = line.strip_prefix("counted: ").and_then(|line| line.split_once(' '));
            if let Some((count, what)) = counted {
                *self.counts.entry(what.to_owned()).or_default() += count.parse().unwrap_or(0);
            } else if line.starts_with("torture ") {
                self.lines.push(line.to_owned());
            }
        }
        self.lines.push(report.to_string());
        if report.outcome == Outcome::Failed {
            self.failed.push(report.name);
        }
    }

    /// Whether no harness failed.
    pub(crate) fn holds(&self) -> bool {
        self.failed.is_empty()
    }

    /// The table as written into the document.
    pub(crate) fn table(&self) -> String {
        let mut text = "| what | how many |\n|---|---:|\n".to_owned();
        for (what, count) in &self.counts {
            // Writing to a string does not fail.
            _ = writeln!(text, "| {what} | {count} |");
        }
        text.push('\n');
        for said in &self.lines {
            _ = writeln!(text, "- {said}");
        }
        _ = match self.failed.as_slice() {
            [] => writeln!(text, "\nviolations: 0"),
            failed => writeln!(text, "\nFAILED: {}", failed.join(", ")),
        };
        text
    }
}

/// The heading of a table in the document: the code that it is of, and how it was made.
pub(crate) fn heading(root: &Path, settings: Settings<'_>) -> std::io::Result<String> {
    let git = |arguments: &[&str]| -> std::io::Result<String> {
        let output = Command::new("git").args(arguments).current_dir(root).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changes = if git(&["status", "--porcelain"])?.is_empty() { "" } else { ", with changes" };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let Settings { seed, budget } = settings;
    Ok(format!(
        "Written by `cargo run -p xtask -- prove {seed} {budget} --write` on commit {commit}{changes}, on a \
         machine\nof {processors} processors. Times are of builds, too.\n\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &'static str, output: &str, outcome: Outcome) -> Report {
        let mut report = Report::skipped(name, String::new());
        report.output = output.to_owned();
        report.outcome = outcome;
        report
    }

    #[test]
    fn counts_are_added_up_and_skips_are_shown() {
        let mut proof = Proof::default();
        let said = "counted: 3 kills\nnoise\ntorture power: SKIPPED, not passed: no\n";
        proof.note(&report("one", said, Outcome::Passed));
        proof.note(&report("two", "counted: 4 kills", Outcome::Skipped("no root".to_owned())));
        let expected = "| what | how many |\n|---|---:|\n| kills | 7 |\n\n\
                        - torture power: SKIPPED, not passed: no\n\
                        - one: passed, but 1 skipped, 0 s\n\
                        - two: SKIPPED, not passed: no root\n\nviolations: 0\n";
        assert_eq!(proof.table(), expected);
        assert!(proof.holds());
    }

    #[test]
    fn a_harness_that_failed_is_named() {
        let mut proof = Proof::default();
        proof.note(&report("one", "", Outcome::Failed));
        assert!(!proof.holds());
        assert!(proof.table().ends_with("- one: FAILED, 0 s\n\nFAILED: one\n"));
    }
}
