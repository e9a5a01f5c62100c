//! The harnesses of the campaigns: what each runs, from which seed on, and how much of it.
//!
//! The one list of them. `cargo xtask harness NAME` runs one, `harness all` runs all, and `prove`
//! those that treat the engine badly. A first seed and a budget are given to each in the way that it
//! takes them. `docs/TESTING.md` says what a budget of 1 is.
//!
//! Does not know what the tests and programs do, nor what they count.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::campaign::{Report, Settings};
use crate::{concurrency, planted};

/// A harness, by the name on the command line.
pub(crate) struct Harness {
    pub(crate) name: &'static str,
    parts: &'static [Part],
}

/// What one program of a harness is started with.
enum Part {
    /// The tests of the engine in these modules.
    Modules { title: &'static str, modules: &'static [&'static str] },
    /// All tests of the program that these arguments of `cargo test` choose.
    Tests { title: &'static str, arguments: &'static [&'static str] },
    /// The program `esker-torture`, with these arguments.
    Program { title: &'static str, arguments: &'static [&'static str] },
    /// The checks that need builds of their own.
    Concurrency,
    /// Defects planted in the engine, for tests to find: with a budget of 1 a few, with more all.
    Planted,
}

/// The defects of the engine come last: they take longest, and test the tests.
pub(crate) const HARNESSES: [Harness; 9] = [
    Harness {
        name: "every-k",
        parts: &[Part::Modules {
            title: "crashes, faults and the order of writes",
            modules: &["crash", "faults", "write_order"],
        }],
    },
    Harness {
        name: "simulator",
        parts: &[Part::Modules { title: "schedules of the simulator", modules: &["baton"] }],
    },
    Harness {
        name: "model",
        parts: &[Part::Modules {
            title: "histories beside a model",
            modules: &["model", "extremes", "failing_reads"],
        }],
    },
    Harness {
        name: "differential",
        parts: &[Part::Tests {
            title: "other stores and option sets",
            arguments: &["-p", "esker-torture", "--test", "differential"],
        }],
    },
    Harness {
        name: "damage",
        parts: &[Part::Modules {
            title: "damaged and mixed files, and the doctor",
            modules: &["damage", "mixtures", "doctor"],
        }],
    },
    Harness {
        name: "torture",
        parts: &[
            Part::Modules { title: "a process that is killed", modules: &["kill"] },
            Part::Program { title: "a real program, treated badly", arguments: &["drive", "all"] },
        ],
    },
    Harness {
        name: "fuzz",
        parts: &[Part::Program {
            title: "decoders, and whole directories",
            arguments: &["fuzz", "--corpus", "fuzz/corpus"],
        }],
    },
    Harness {
        name: "concurrency",
        parts: &[
            Part::Tests {
                title: "threads as they come",
                arguments: &["-p", "esker", "--test", "threads"],
            },
            Part::Concurrency,
        ],
    },
    Harness { name: "planted", parts: &[Part::Planted] },
];

impl Harness {
    /// The harness of this name, or all of them; none if there is no such name.
    pub(crate) fn named(name: &str) -> Vec<&'static Self> {
        HARNESSES.iter().filter(|harness| name == "all" || name == harness.name).collect()
    }

    /// Those that treat the engine badly, and not the tests.
    pub(crate) fn of_the_engine() -> Vec<&'static Self> {
        let tests_tests = |part: &Part| matches!(part, Part::Planted);
        HARNESSES.iter().filter(|harness| !harness.parts.iter().any(tests_tests)).collect()
    }

    /// Runs it to completion.
    ///
    /// # Errors
    /// If a program cannot be started.
    pub(crate) fn run(&self, root: &Path, settings: Settings<'_>) -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for part in self.parts {
            match part {
                Part::Modules { title, modules } => {
                    reports.push(of_modules(root, settings, title, modules)?);
                }
                Part::Tests { title, arguments } => {
                    let mut tests = cargo(root, settings, "test");
                    tests.args(*arguments).args(["--", "--nocapture"]);
                    reports.push(Report::of_tests(title, &mut tests)?);
                }
                Part::Program { title, arguments } => {
                    let mut program = cargo(root, settings, "run");
                    program.args(["-q", "-p", "esker-torture", "--"]).args(*arguments);
                    program.args(["--seed", settings.seed]);
                    program.args(["--times", &settings.budget.to_string()]);
                    reports.push(Report::of(title, &mut program)?);
                }
                Part::Concurrency => reports.extend(concurrency::run(root, settings)?),
                Part::Planted => {
                    reports.push(Report::of_call("planted defects", || of_planted(root, settings)));
                }
            }
        }
        Ok(reports)
    }
}

/// `cargo COMMAND`, with what the tests read of the settings.
fn cargo(root: &Path, settings: Settings<'_>, command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args([command, "--locked"]).current_dir(root);
    cargo.env("ESKER_FIRST_SEED", settings.seed);
    cargo.env("ESKER_BUDGET", settings.budget.to_string());
    cargo
}

fn of_modules(
    root: &Path,
    settings: Settings<'_>,
    title: &'static str,
    modules: &[&str],
) -> io::Result<Report> {
    let tests = || {
        let mut tests = cargo(root, settings, "test");
        tests.args(["-p", "esker", "--test", "it", "--"]);
        tests
    };
    let filters = modules.iter().map(|module| format!("{module}::"));
    let mut report = Report::of_tests(title, tests().args(filters).arg("--nocapture"))?;
    let list = Report::of("the names of these tests", tests().arg("--list"))?;
    for module in missing(&list.output, modules) {
        report.fail(&format!("no test is in the module {module}"));
    }
    Ok(report)
}

/// Those of `modules` that have no test in `list`, the output of `--list`: what a module that was
/// renamed leaves behind.
fn missing<'a>(list: &str, modules: &[&'a str]) -> Vec<&'a str> {
    let has_test = |module: &str| {
        let is_in = |test: &str| test.split("::").next() == Some(module);
        list.lines().any(is_in)
    };
    modules.iter().copied().filter(|module| !has_test(module)).collect()
}

/// Whether all were caught, and the table.
fn of_planted(root: &Path, settings: Settings<'_>) -> (bool, String) {
    let choice = if settings.budget == 1 { planted::Choice::Short } else { planted::Choice::All };
    match planted::run(root, choice) {
        Ok((table, are_caught)) => (are_caught, table),
        Err(why) => (false, format!("not tried: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_goes_by_its_name_and_all_by_all() {
        assert_eq!(Harness::named("damage").len(), 1);
        assert_eq!(Harness::named("all").len(), HARNESSES.len());
        assert_eq!(Harness::named("crash").len(), 0);
        assert_eq!(Harness::of_the_engine().len(), HARNESSES.len() - 1);
    }

    #[test]
    fn no_module_is_in_two_harnesses() {
        let parts = HARNESSES.iter().flat_map(|harness| harness.parts);
        let modules: Vec<&str> = parts
            .flat_map(|part| match part {
                Part::Modules { modules, .. } => *modules,
                _ => &[],
            })
            .copied()
            .collect();
        // Tests are chosen by what their names contain.
        for module in &modules {
            assert_eq!(modules.iter().filter(|other| other.ends_with(module)).count(), 1);
        }
        for one_of in ["write_order", "kill", "doctor"] {
            assert!(modules.contains(&one_of), "{one_of}");
        }
    }

    #[test]
    fn a_module_of_which_no_test_is_left_is_named() {
        let modules = ["baton", "crash"];
        assert_eq!(missing("baton::a: test\ncrash::b: test\n", &modules), [""; 0]);
        assert_eq!(missing("crash::b: test\n", &modules), ["baton"]);
        assert_eq!(missing("baton::a: test\nends::crash::b: test\n", &modules), ["crash"]);
    }
}
