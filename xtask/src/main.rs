//! `cargo xtask`: the project's checks that lints cannot express.
//!
//! `cargo xtask tidy` reads every text file of the repository, prints what breaks a rule of
//! `docs/STYLE.md`, and fails if anything does. It changes nothing.
//!
//! `cargo xtask instructions` counts instructions per operation and fails if they rose; with
//! `--write` it records them.
//!
//! `cargo xtask harness NAME` runs one harness of the campaigns, from a seed on and with a budget.
//! `cargo xtask torture MODE` treats a real program that uses the engine badly; `cargo xtask prove`
//! runs all harnesses and prints their totals; `cargo xtask concurrency` those that need builds of
//! their own; `cargo xtask planted` shows which harness finds which defect planted in the engine.

#![forbid(unsafe_code)]

mod campaign;
mod concurrency;
mod document;
mod harnesses;
mod instructions;
mod lexer;
mod planted;
mod prove;
mod source;
mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use campaign::{Outcome, Settings};
use harnesses::Harness;

const USAGE: &str = "\
usage: cargo xtask tidy
       cargo xtask instructions [--write]
       cargo xtask harness NAME [--seed S] [--budget N]
       cargo xtask torture MODE [--seed S] [--first R] [--runs N | --times N] [--on KIND] [--dir DIR]
       cargo xtask prove [SEED [BUDGET]] [--write]
       cargo xtask concurrency [SEED [BUDGET]]
       cargo xtask planted [--short | --only NAME... | --by HARNESS]

NAME: every-k, simulator, model, differential, damage, torture, fuzz, concurrency, planted, all
S is the first of the seeds, of which there are N times as many as usually. Both are 1 by default.
A failure prints its seed, or the command that repeats it. One seed alone is repeated by
       ESKER_SEED=S cargo test -p esker --test it TEST
       ESKER_SEED=S cargo test -p esker-torture --test differential";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => run_tidy(&repository()),
        ["instructions"] => run_instructions(&repository(), false),
        ["instructions", "--write"] => run_instructions(&repository(), true),
        ["harness", name, words @ ..] => with_settings(Settings::of_options(words), |settings| {
            run_harness(&repository(), name, settings)
        }),
        ["torture", words @ ..] => run_torture(&repository(), words),
        ["planted"] => run_planted(&repository(), planted::Choice::All),
        ["planted", "--short"] => run_planted(&repository(), planted::Choice::Short),
        ["planted", "--by", harness] => run_planted(&repository(), planted::Choice::By(harness)),
        ["planted", "--only", names @ ..] => {
            run_planted(&repository(), planted::Choice::Only(names))
        }
        ["prove", words @ .., "--write"] => {
            with_settings(Settings::of_words(words), |s| run_prove(&repository(), s, true))
        }
        ["prove", words @ ..] => {
            with_settings(Settings::of_words(words), |s| run_prove(&repository(), s, false))
        }
        ["concurrency", words @ ..] => {
            with_settings(Settings::of_words(words), |s| run_concurrency(&repository(), s))
        }
        ["help" | "--help" | "-h"] => print(USAGE, ExitCode::SUCCESS),
        _ => print(USAGE, ExitCode::FAILURE),
    }
}

fn run_tidy(root: &Path) -> ExitCode {
    let tree = match source::Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => {
            return print(&format!("cannot read the repository: {error}"), ExitCode::FAILURE);
        }
    };
    let report = tidy::check(&tree);
    let code = if report.failure_count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print(&report.to_string(), code)
}

fn run_instructions(root: &Path, write: bool) -> ExitCode {
    use instructions::Outcome;
    match instructions::run(root, write) {
        Ok(Outcome::Skipped(why)) => {
            print(&format!("instructions: {}: {why}", campaign::SKIPPED), ExitCode::SUCCESS)
        }
        Ok(Outcome::Written(text)) => print(&text, ExitCode::SUCCESS),
        Ok(Outcome::Compared { text, is_within: true }) => print(&text, ExitCode::SUCCESS),
        Ok(Outcome::Compared { text, is_within: false }) => {
            let what = "a row rose, or the rows are others: see above";
            print(&format!("{text}{what}"), ExitCode::FAILURE)
        }
        Err(error) => print(&format!("cannot count: {error}"), ExitCode::FAILURE),
    }
}

fn run_torture(root: &Path, words: &[&str]) -> ExitCode {
    let arguments = ["run", "--locked", "--quiet", "--package", "esker-torture", "--", "drive"];
    let status = Command::new("cargo").args(arguments).args(words).current_dir(root).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => print(&format!("cannot start cargo: {error}"), ExitCode::FAILURE),
    }
}

/// Runs a campaign with settings, if they are some.
fn with_settings(
    settings: Result<Settings<'_>, String>,
    run: impl FnOnce(Settings<'_>) -> ExitCode,
) -> ExitCode {
    match settings {
        Ok(settings) => run(settings),
        Err(why) => print(&format!("{why}\n\n{USAGE}"), ExitCode::FAILURE),
    }
}

fn run_harness(root: &Path, name: &str, settings: Settings<'_>) -> ExitCode {
    let harnesses = Harness::named(name);
    if harnesses.is_empty() {
        return print(&format!("there is no harness {name}\n\n{USAGE}"), ExitCode::FAILURE);
    }
    match prove::run(root, &harnesses, settings) {
        Ok(proof) => {
            let code = if proof.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            print(&proof.table(), code)
        }
        Err(error) => print(&format!("cannot start cargo: {error}"), ExitCode::FAILURE),
    }
}

fn run_prove(root: &Path, settings: Settings<'_>, write: bool) -> ExitCode {
    let proof = match prove::run(root, &Harness::of_the_engine(), settings) {
        Ok(proof) => proof,
        Err(error) => return print(&format!("cannot start cargo: {error}"), ExitCode::FAILURE),
    };
    let table = proof.table();
    if write {
        let written =
            prove::heading(root, settings).map_err(|error| error.to_string()).and_then(|heading| {
                document::write(root, document::RELIABILITY, prove::TABLE, &(heading + &table))
            });
        if let Err(error) = written {
            return print(&format!("{table}not written: {error}"), ExitCode::FAILURE);
        }
    }
    print(&table, if proof.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_concurrency(root: &Path, settings: Settings<'_>) -> ExitCode {
    match concurrency::run(root, settings) {
        Ok(reports) => {
            let lines: Vec<String> = reports.iter().map(ToString::to_string).collect();
            let has_failed = reports.iter().any(|report| report.outcome == Outcome::Failed);
            let code = if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            print(&lines.join("\n"), code)
        }
        Err(error) => print(&format!("cannot start cargo: {error}"), ExitCode::FAILURE),
    }
}

fn run_planted(root: &Path, choice: planted::Choice<'_>) -> ExitCode {
    let result = planted::run(root, choice).and_then(|(table, are_caught)| {
        if let planted::Choice::All = choice {
            planted::write(root, &table)?;
        }
        Ok((table, are_caught))
    });
    match result {
        Ok((table, true)) => print(&table, ExitCode::SUCCESS),
        Ok((table, false)) => print(&table, ExitCode::FAILURE),
        Err(error) => print(&format!("not tried: {error}"), ExitCode::FAILURE),
    }
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    // Nobody reads a closed pipe; there is still the exit code.
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The directory above this package, with the workspace.
fn repository() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use harnesses::HARNESSES;

    #[test]
    fn the_usage_names_every_harness() {
        let names = HARNESSES.map(|harness| harness.name).join(", ");
        assert!(USAGE.contains(&format!("NAME: {names}, all\n")), "{names}");
    }

    #[test]
    fn the_repository_is_tidy() {
        let tree = source::Tree::read(&repository()).unwrap();
        let report = tidy::check(&tree);
        assert_eq!(report.failure_count(), 0, "{report}");
    }
}
