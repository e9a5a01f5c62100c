//! The engine takes its locks, condition variables and threads from where a test can schedule them:
//! `esker_base::sync` and `esker_env::Threads`.
//!
//! Atomics are included where threads synchronize through them: in the engine itself and in the
//! log. The memtable and the cache have modules of their own for atomics, which loom checks. Tests
//! are exempt, and so is `esker-env`, whose locks are never held while another thread runs.

use super::Report;
use super::lengths::is_test_file;
use super::std_paths::{code_of, std_paths};
use crate::source::Tree;

/// The crates, and whether their atomics are included.
const CRATES: [(&str, bool); 7] = [
    ("esker-base", false),
    ("esker-cache", false),
    ("esker-log", true),
    ("esker-memtable", false),
    ("esker-table", false),
    ("esker-tree", false),
    ("esker", true),
];

/// The implementation behind the names, and what its tests need.
const EXEMPT: [&str; 3] =
    ["crates/esker-base/src/sync.rs", "crates/esker-base/src/baton", "_tests.rs"];

const LOCKS: [&str; 7] =
    ["Mutex", "MutexGuard", "RwLock", "Condvar", "Barrier", "mpsc", "WaitTimeoutResult"];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (name, with_atomics) in CRATES {
        let dir = format!("crates/{name}/src/");
        let files = tree.texts_ending(".rs").filter(|(path, _)| path.starts_with(&dir));
        for (path, text) in files {
            if !is_test_file(path) && !EXEMPT.iter().any(|exempt| path.contains(exempt)) {
                check_file(path, text, with_atomics, report);
            }
        }
    }
}

fn check_file(path: &str, text: &str, with_atomics: bool, report: &mut Report) {
    for (line, used) in std_paths(&code_of(text)) {
        if let Some(instead) = instead(&used, with_atomics) {
            report.fail(path, line, format_args!("`{}`: use {instead}", used.join("::")));
        }
    }
}

/// What to use instead of `used`, if it is not allowed.
fn instead(used: &[&str], with_atomics: bool) -> Option<&'static str> {
    match used {
        // A type, and what a panic leaves.
        ["std", "thread", "Result", ..] => None,
        ["std", "thread", ..] => Some("`esker_env::Threads`"),
        ["std", "sync", "atomic", ..] => with_atomics.then_some("`esker_base::sync::atomic`"),
        ["std", "sync", rest @ ..] if rest.iter().any(|name| LOCKS.contains(name)) => {
            Some("`esker_base::sync`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn locks_and_threads_of_std_fail_in_the_engine() {
        for (path, bad) in [
            ("crates/esker/src/a.rs", "use std::sync::Mutex;\n"),
            ("crates/esker-tree/src/a.rs", "use std::sync::{\n    Arc, Condvar,\n};\n"),
            ("crates/esker/src/a.rs", "use std::sync::atomic::AtomicU64;\n"),
            ("crates/esker/src/a.rs", "use std::{io, sync::{Arc, Mutex}};\n"),
            ("crates/esker-cache/src/a.rs", "static A: std::sync::RwLock<u8> = x();\n"),
            ("crates/esker/src/a/b.rs", "fn f() { std::thread::yield_now() }\n"),
        ] {
            assert_eq!(failures_of(check, &[(path, bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn other_names_tests_and_crates_outside_of_the_engine_pass() {
        for (path, good) in [
            ("crates/esker/src/a.rs", "use std::sync::{Arc, OnceLock};\n// std::sync::Mutex\n"),
            ("crates/esker/src/a.rs", "use crate::sync::{Mutex, PoisonError};\n"),
            ("crates/esker/src/a.rs", "type R = std::thread::Result<u8>;\n"),
            ("crates/esker/src/a.rs", "#[cfg(test)]\nmod tests {\n    use std::sync::Mutex;\n}\n"),
            ("crates/esker/src/a/tests.rs", "use std::sync::Mutex;\n"),
            ("crates/esker-memtable/src/a.rs", "use std::sync::atomic::AtomicU64;\n"),
            ("crates/esker-env/src/a.rs", "use std::sync::Mutex;\n"),
            ("crates/esker-base/src/sync.rs", "pub use std::sync::Mutex;\n"),
        ] {
            assert!(failures_of(check, &[(path, good)]).is_empty(), "{good}");
        }
    }
}
