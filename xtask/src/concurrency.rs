//! `cargo xtask concurrency`: concurrency checks that need builds of their own.
//!
//! Every schedule of the memtable, the cache, the commit queue and the views, up to three
//! preemptions, under loom; random schedules of the whole engine under shuttle; and real threads
//! under the address and the thread sanitizer. A check that needs a missing compiler is skipped,
//! with the reason, and not counted as passed.

use std::path::Path;
use std::process::Command;

use crate::campaign::{Report, Settings};

/// A check, and how it is built.
struct Check {
    name: &'static str,
    /// Below `target`, since code built with other flags cannot be reused.
    directory: &'static str,
    /// For the compiler.
    flags: &'static str,
    needs: Needs,
    /// Arguments of `cargo test`.
    arguments: &'static [&'static str],
}

/// What a check requires.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    /// The runtime of this sanitizer, which is part of some targets.
    Sanitizer(&'static str),
    /// The sources of the standard library, to build it with a sanitizer; and a budget above 1,
    /// since that takes minutes.
    StandardLibrary,
}

const CHECKS: [Check; 6] = [
    Check {
        name: "loom",
        directory: "loom",
        flags: "--cfg loom",
        needs: Needs::Nothing,
        arguments: &[
            "-pesker-memtable",
            "-pesker-cache",
            "-pesker",
            "--lib",
            "--",
            "loom",
            "schedule",
        ],
    },
    Check {
        name: "shuttle",
        directory: "shuttle",
        flags: "--cfg shuttle",
        needs: Needs::Nothing,
        arguments: &["-pesker", "--test=threads", "--", "shuttle", "--nocapture"],
    },
    Check {
        name: "address sanitizer, memtable",
        directory: "asan",
        flags: "-Zsanitizer=address",
        needs: Needs::Sanitizer("asan"),
        arguments: &["-pesker-memtable", "--lib"],
    },
    Check {
        name: "address sanitizer, stress test",
        directory: "asan",
        flags: "-Zsanitizer=address",
        needs: Needs::Sanitizer("asan"),
        arguments: &["-pesker", "--test=threads", "--", "concurrency"],
    },
    Check {
        name: "thread sanitizer, memtable",
        directory: "tsan",
        flags: "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer",
        needs: Needs::Sanitizer("tsan"),
        arguments: &["-pesker-memtable", "--lib", "--", "concurrent"],
    },
    Check {
        name: "thread sanitizer, stress test",
        directory: "tsan-std",
        flags: "-Zsanitizer=thread",
        needs: Needs::StandardLibrary,
        arguments: &["-pesker", "--test=threads", "--", "concurrency"],
    },
];

/// Runs all checks to completion.
///
/// # Errors
/// If cargo or the compiler cannot be started.
pub(crate) fn run(root: &Path, settings: Settings<'_>) -> std::io::Result<Vec<Report>> {
    let compiler = Compiler::ask()?;
    CHECKS.iter().map(|check| check.run(root, settings, &compiler)).collect()
}

impl Check {
    fn run(
        &self,
        root: &Path,
        settings: Settings<'_>,
        compiler: &Compiler,
    ) -> std::io::Result<Report> {
        if let Err(why) = compiler.has(self.needs, settings.budget) {
            return Ok(Report::skipped(self.name, why));
        }
        let mut command = Command::new("cargo");
        if let Needs::StandardLibrary = self.needs {
            command.args(["+nightly", "test", "-Zbuild-std"]);
        } else {
            command.arg("test");
        }
        command.args(["--locked", "--target", &compiler.host]).args(self.arguments);
        let suppressed = root.join("crates/esker-memtable/tsan.supp");
        command
            .current_dir(root)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", self.flags)
            .env("CARGO_TARGET_DIR", root.join("target").join(self.directory))
            .env("LOOM_MAX_PREEMPTIONS", "3")
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .env("TSAN_OPTIONS", format!("suppressions={}", suppressed.display()))
            .env("ESKER_FIRST_SEED", settings.seed)
            .env("ESKER_BUDGET", settings.budget.to_string());
        Report::of_tests(self.name, &mut command)
    }
}

/// What the compiler on this machine supports.
struct Compiler {
    /// Its default target.
    host: String,
    /// The directory of what it links to programs for that target.
    libraries: String,
    /// Whether there is a nightly compiler with the sources of the standard library.
    has_sources: bool,
}

impl Compiler {
    fn ask() -> std::io::Result<Self> {
        let said = |arguments: &[&str]| -> std::io::Result<String> {
            let output = Command::new("rustc").args(arguments).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = said(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let nightly = said(&["+nightly", "--print", "sysroot"])?;
        let sources = Path::new(&nightly).join("lib/rustlib/src/rust/library/Cargo.lock");
        Ok(Self {
            host: host.unwrap_or_default().to_owned(),
            libraries: said(&["--print", "target-libdir"])?,
            has_sources: !nightly.is_empty() && sources.exists(),
        })
    }

    /// Whether it can run a check with this requirement; if not, why.
    fn has(&self, needs: Needs, budget: u64) -> Result<(), String> {
        match needs {
            Needs::Nothing => Ok(()),
            Needs::Sanitizer(name) => {
                let suffix = format!("_rt.{name}.a");
                let files = std::fs::read_dir(&self.libraries).into_iter().flatten().flatten();
                let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
                if names.any(|name| name.ends_with(&suffix)) {
                    Ok(())
                } else {
                    Err(format!("the compiler has no {name} for {}", self.host))
                }
            }
            Needs::StandardLibrary if budget < 2 => {
                Err("takes minutes to build: only with a budget above 1".to_owned())
            }
            Needs::StandardLibrary if !self.has_sources => {
                Err("needs `rustup component add rust-src --toolchain nightly`".to_owned())
            }
            Needs::StandardLibrary => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_here_says_why() {
        let compiler = Compiler {
            host: "some-target".to_owned(),
            libraries: "no such directory".to_owned(),
            has_sources: false,
        };
        assert_eq!(compiler.has(Needs::Nothing, 1), Ok(()));
        let why = |needs, budget| compiler.has(needs, budget).unwrap_err();
        assert_eq!(why(Needs::Sanitizer("asan"), 1), "the compiler has no asan for some-target");
        assert!(why(Needs::StandardLibrary, 1).contains("budget above 1"));
        assert!(why(Needs::StandardLibrary, 2).contains("rust-src"));
    }
}
