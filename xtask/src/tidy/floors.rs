//! The floor plan: which crate may depend on which.
//!
//! Cargo refuses cycles; this refuses edges that Cargo would accept and the design does not. A
//! crate that is not in the plan fails, so that a new one is placed deliberately.

use super::Report;
use crate::source::Tree;

/// A crate and the crates of ours that it may depend on, tests included.
const PLAN: [(&str, &[&str]); 15] = [
    ("esker-base", &[]),
    ("esker-env", &["esker-base"]),
    ("esker-cache", &["esker-base"]),
    ("esker-log", &["esker-base", "esker-env"]),
    ("esker-memtable", &["esker-base"]),
    ("esker-table", &["esker-base", "esker-env", "esker-cache"]),
    ("esker-tree", TREE_MAY_USE),
    ("esker", ESKER_MAY_USE),
    ("esker-server", ABOVE),
    ("esker-cli", ABOVE),
    ("esker-testkit", ABOVE),
    ("esker-sim", ABOVE),
    ("esker-bench", ABOVE),
    ("esker-torture", ABOVE),
    ("xtask", &[]),
];

const TREE_MAY_USE: &[&str] =
    &["esker-base", "esker-env", "esker-cache", "esker-log", "esker-memtable", "esker-table"];

const ESKER_MAY_USE: &[&str] = &[
    "esker-base",
    "esker-env",
    "esker-cache",
    "esker-log",
    "esker-memtable",
    "esker-table",
    "esker-tree",
];

const ABOVE: &[&str] = &[
    "esker-base",
    "esker-env",
    "esker-cache",
    "esker-log",
    "esker-memtable",
    "esker-table",
    "esker-tree",
    "esker",
    "esker-server",
    "esker-testkit",
    "esker-sim",
];

/// Checks the manifests, and that no comment of a floor names a crate that it may not depend on.
pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending("Cargo.toml").filter(|(path, _)| *path != "Cargo.toml") {
        let Some(name) = package_name(text) else { continue };
        let is_ours = path.starts_with("crates/") || path.starts_with("xtask/");
        let Some((_, allowed)) = PLAN.iter().find(|(planned, _)| *planned == name) else {
            if is_ours {
                report.fail(
                    path,
                    0,
                    format_args!("'{name}' has no place in xtask/src/tidy/floors.rs"),
                );
            }
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if is_planned(key) && !allowed.contains(&key) {
                report.fail(path, index + 1, format_args!("{name} may not know {key}"));
            }
        }
        let dir = path.trim_end_matches("Cargo.toml");
        check_sources(tree, dir, name, allowed, report);
    }
}

fn check_sources(tree: &Tree, dir: &str, name: &str, allowed: &[&str], report: &mut Report) {
    // The top floor and the crates beside the floors may mention everything.
    if name == "xtask" || allowed.contains(&"esker") {
        return;
    }
    for (path, text) in tree.texts_ending(".rs").filter(|(path, _)| path.starts_with(dir)) {
        for (index, line) in text.lines().enumerate() {
            for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')) {
                let named = word.replace('_', "-");
                // The plain word `esker` is also the name of the project.
                let is_name = named.starts_with("esker-") && is_planned(&named);
                if is_name && named != name && !allowed.contains(&named.as_str()) {
                    report.fail(path, index + 1, format_args!("{name} may not name {named}"));
                }
            }
        }
    }
}

fn is_planned(name: &str) -> bool {
    PLAN.iter().any(|(planned, _)| *planned == name)
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(files: &[(&str, &str)]) -> usize {
        let mut report = Report::default();
        check(&Tree::of(files), &mut report);
        report.failure_count()
    }

    #[test]
    fn a_floor_that_knows_one_above_or_beside_it_fails() {
        let log = "[package]\nname = \"esker-log\"\n[dependencies]\n";
        let path = "crates/esker-log/Cargo.toml";
        assert_eq!(failures(&[(path, &format!("{log}esker-env.workspace = true\n"))]), 0);
        assert_eq!(failures(&[(path, &format!("{log}esker-table.workspace = true\n"))]), 1);
        assert_eq!(failures(&[(path, &format!("{log}esker = {{ path = \"x\" }}\n"))]), 1);
        let source = "crates/esker-log/src/lib.rs";
        assert_eq!(failures(&[(path, log), (source, "//! For `esker_env` and esker.\n")]), 0);
        assert_eq!(failures(&[(path, log), (source, "//! As esker-tree wants it.\n")]), 1);
    }

    #[test]
    fn a_crate_without_a_place_fails() {
        assert_eq!(failures(&[("crates/new/Cargo.toml", "name = \"new\"\n")]), 1);
        assert_eq!(failures(&[("fuzz/Cargo.toml", "name = \"esker-fuzz\"\n")]), 0);
    }
}
