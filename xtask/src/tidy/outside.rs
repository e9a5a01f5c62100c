//! The engine reaches files and time only through `esker_env`, so that a test can stand in for both;
//! it starts no processes and knows no network.
//!
//! Clippy refuses the types and the calls that `clippy.toml` names. This refuses the modules, with
//! every function in them, and the methods of a path that ask the system. Tests are exempt, and so is
//! the one place that implements the outside.

use super::Report;
use super::lengths::is_test_file;
use super::std_paths::{code_of, line_at, std_paths};
use crate::source::Tree;

/// The crates of the engine.
const CRATES: [&str; 8] = [
    "esker-base",
    "esker-env",
    "esker-cache",
    "esker-log",
    "esker-memtable",
    "esker-table",
    "esker-tree",
    "esker",
];

/// What a part of the path of a file may use.
const EXEMPT: [(&str, &[&str]); 4] = [
    ("crates/esker-env/src/os.rs", &["fs"]),
    ("crates/esker-env/src/os/", &["fs", "os"]),
    ("crates/esker-env/src/clock.rs", &["Instant", "SystemTime"]),
    // A caller names a moment so; the clock is not asked.
    ("crates/esker/src/expiry.rs", &["SystemTime"]),
];

/// Methods of `std::path::Path` that look at files.
const METHODS: [&str; 10] = [
    ".exists()",
    ".try_exists()",
    ".is_file()",
    ".is_dir()",
    ".is_symlink()",
    ".metadata()",
    ".symlink_metadata()",
    ".read_dir()",
    ".read_link()",
    ".canonicalize()",
];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for name in CRATES {
        let dir = format!("crates/{name}/src/");
        let files = tree.texts_ending(".rs").filter(|(path, _)| path.starts_with(&dir));
        for (path, text) in files {
            if !is_test_file(path) && !is_for_tests(tree, path) {
                let code = code_of(text);
                check_paths(path, &code, report);
                check_methods(path, &code, report);
            }
        }
    }
}

/// Whether the module above compiles the file for tests only.
fn is_for_tests(tree: &Tree, path: &str) -> bool {
    let Some((dir, name)) = path.trim_end_matches(".rs").rsplit_once('/') else { return false };
    let above = if dir.ends_with("/src") { format!("{dir}/lib.rs") } else { format!("{dir}.rs") };
    let declared = tree.text(&above).unwrap_or_default().split_once(&format!("\nmod {name};"));
    let line_before = declared.and_then(|(before, _)| before.lines().last());
    line_before.is_some_and(|line| line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test, "))
}

fn check_paths(path: &str, code: &str, report: &mut Report) {
    for (line, used) in std_paths(code) {
        if let Some((what, instead)) = outside(&used)
            && !may_use(path, what)
        {
            report.fail(path, line, format_args!("`{}`: {instead}", used.join("::")));
        }
    }
}

fn may_use(path: &str, what: &str) -> bool {
    EXEMPT.iter().any(|(exempt, names)| path.starts_with(exempt) && names.contains(&what))
}

/// What of the outside a path leads to, and what to do instead.
fn outside<'a>(used: &[&'a str]) -> Option<(&'a str, &'static str)> {
    const FILES: &str = "use `esker_env::FileSystem`";
    const TIME: &str = "use `esker_env::Clock`";
    match used {
        ["std", what @ "fs", ..] => Some((what, FILES)),
        ["std", what @ "os", _, "fs" | "net" | "process", ..] => Some((what, FILES)),
        ["std", what @ "net", ..] => Some((what, "the engine knows no network")),
        ["std", "time", what @ ("Instant" | "SystemTime"), ..] => Some((what, TIME)),
        ["std", "process", what @ "Command", ..] => Some((what, "the engine starts no processes")),
        // What is imported so hides what is used of it.
        ["std", what @ ("process" | "time")]
        | ["std", what @ ("process" | "time"), "self" | "*"]
        | ["std", what @ "*"] => Some((what, "import what is used of it")),
        _ => None,
    }
}

fn check_methods(path: &str, code: &str, report: &mut Report) {
    if may_use(path, "fs") {
        return;
    }
    for method in METHODS {
        for (at, _) in code.match_indices(method) {
            let instead = format_args!("`{method}`: use `esker_env::FileSystem`");
            report.fail(path, line_at(code, at), instead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn files_time_network_and_processes_of_std_fail_in_the_engine() {
        for (path, bad) in [
            ("crates/esker/src/a.rs", "use std::fs;\n"),
            ("crates/esker/src/a.rs", "use std::{fs, io};\n"),
            ("crates/esker/src/a.rs", "use std::{io, fs::{self as files}};\n"),
            ("crates/esker-tree/src/a.rs", "fn f() { std::fs::remove_file(path()) }\n"),
            ("crates/esker-env/src/memory.rs", "use std::fs::rename;\n"),
            ("crates/esker-env/src/fault/file.rs", "use std::os::unix::fs::FileExt;\n"),
            ("crates/esker-env/src/os.rs", "use std::time::Instant;\n"),
            ("crates/esker-env/src/clock.rs", "use std::fs;\n"),
            ("crates/esker-base/src/a.rs", "use std::net::TcpStream;\n"),
            ("crates/esker-log/src/a.rs", "let a = std::process::Command::new(b);\n"),
            ("crates/esker-table/src/a.rs", "use std::process;\n"),
            ("crates/esker-table/src/a.rs", "use std::time::{self, Duration};\n"),
            ("crates/esker-cache/src/a/b.rs", "use std::time::{Duration, Instant};\n"),
            ("crates/esker/src/expiry.rs", "use std::time::{SystemTime, Instant};\n"),
            ("crates/esker-memtable/src/a.rs", "fn f(now: std::time::SystemTime) {}\n"),
            ("crates/esker/src/a.rs", "if dir.exists() { g() }\n"),
            ("crates/esker/src/testing.rs", "use std::fs;\n"),
        ] {
            assert_eq!(failures_of(check, &[(path, bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn other_names_tests_and_the_implementation_of_the_outside_pass() {
        for (path, good) in [
            ("crates/esker/src/a.rs", "use std::time::Duration;\nuse std::io;\n// std::fs::read\n"),
            ("crates/esker/src/a.rs", "let id = std::process::id();\nlet text = \"std::fs\";\n"),
            ("crates/esker/src/a.rs", "if fs.exists(path)? && entry.is_dir { g() }\n"),
            ("crates/esker/src/a.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
            ("crates/esker/src/a/tests.rs", "use std::fs;\nlet a = path.exists();\n"),
            ("crates/esker/src/expiry.rs", "use std::time::{Duration, SystemTime, UNIX_EPOCH};\n"),
            ("crates/esker-env/src/os.rs", "use std::fs;\nlet a = path.try_exists();\n"),
            ("crates/esker-env/src/os/lock.rs", "use std::os::unix::fs::FileExt;\n"),
            ("crates/esker-env/src/clock.rs", "use std::time::{Instant, SystemTime};\n"),
            ("crates/esker-cli/src/a.rs", "use std::fs;\n"),
        ] {
            assert_eq!(failures_of(check, &[(path, good)]), [""; 0], "{good}");
        }
    }

    #[test]
    fn file_is_exempt_if_the_module_above_has_it_for_tests() {
        let bad = "use std::fs;\n";
        for (path, above, is_exempt) in [
            ("crates/esker/src/testing.rs", "crates/esker/src/lib.rs", true),
            ("crates/esker/src/a/testing.rs", "crates/esker/src/a.rs", true),
            ("crates/esker/src/a/testing.rs", "crates/esker/src/lib.rs", false),
        ] {
            let count = |text| failures_of(check, &[(path, bad), (above, text)]).len();
            assert_eq!(count("mod a;\n#[cfg(test)]\nmod testing;\n"), usize::from(!is_exempt));
            assert_eq!(count("#[cfg(test)]\nmod a;\nmod testing;\n"), 1);
        }
    }
}
