//! `cargo xtask prove`: runs every harness that treats the engine badly, adds up what they count, and
//! prints it as a table.
//!
//! Each harness prints lines `counted: NUMBER WHAT`; nothing is counted here that a harness did not
//! say. What cannot run on this machine is listed as skipped, with the reason that it gave.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The harnesses: what each is called, and how cargo runs it.
const HARNESSES: [(&str, &[&str]); 4] = [
    (
        "crashes, faults, damage and kills",
        &[
            "test",
            "--locked",
            "-p",
            "esker",
            "--test",
            "it",
            "--",
            "baton",
            "crash",
            "faults",
            "damage",
            "kill",
            "--nocapture",
        ],
    ),
    (
        "other stores and option sets",
        &["test", "--locked", "-p", "esker-torture", "--test", "differential", "--", "--nocapture"],
    ),
    (
        "a real program, treated badly",
        &["run", "--locked", "-q", "-p", "esker-torture", "--", "drive", "all"],
    ),
    (
        "decoders, and whole directories",
        &["run", "--locked", "-q", "-p", "esker-torture", "--", "fuzz", "--corpus", "fuzz/corpus"],
    ),
];

/// What the harnesses said.
#[derive(Default)]
pub(crate) struct Proof {
    counts: BTreeMap<String, u64>,
    lines: Vec<String>,
    pub(crate) failed: Vec<&'static str>,
}

/// Runs all harnesses with `seed`; `budget` multiplies the work of those that take it.
///
/// # Errors
/// If a program cannot be started.
pub(crate) fn run(root: &Path, seed: &str, budget: &str) -> std::io::Result<Proof> {
    let mut proof = Proof::default();
    for (name, arguments) in HARNESSES {
        eprintln!("== {name}");
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(root).env("ESKER_BUDGET", budget);
        if arguments.contains(&"run") {
            command.args(["--seed", seed]);
        }
        let output = command.stdin(Stdio::null()).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.lines().for_each(|line| proof.note(line));
        if !output.status.success() {
            eprintln!("{text}");
            proof.failed.push(name);
        }
    }
    Ok(proof)
}

impl Proof {
    fn note(&mut self, line: &str) {
        if let Some((count, what)) = line.strip_prefix("counted: ").and_then(|l| l.split_once(' '))
        {
            *self.counts.entry(what.to_owned()).or_default() += count.parse().unwrap_or(0);
        } else if line.starts_with("torture ") {
            self.lines.push(line.to_owned());
        }
    }

    /// The table, as it stands in docs/RELIABILITY.md.
    pub(crate) fn table(&self) -> String {
        let mut text = "| what | how many |\n|---|---:|\n".to_owned();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        self.counts.iter().for_each(|(what, count)| line(&format!("| {what} | {count} |")));
        line("");
        self.lines.iter().for_each(|said| line(&format!("- {said}")));
        match self.failed.as_slice() {
            [] => line("\nviolations: 0"),
            failed => line(&format!("\nFAILED: {}", failed.join(", "))),
        }
        text
    }
}

#[test]
fn counts_are_added_up_and_skips_are_shown() {
    let mut proof = Proof::default();
    let lines =
        ["counted: 3 kills", "counted: 4 kills", "noise", "torture power: SKIPPED, not passed: no"];
    lines.iter().for_each(|line| proof.note(line));
    let expected = "| what | how many |\n|---|---:|\n| kills | 7 |\n\n\
                    - torture power: SKIPPED, not passed: no\n\nviolations: 0\n";
    assert_eq!(proof.table(), expected);
}
