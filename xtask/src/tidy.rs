//! Every check, and the report to which they write.
//!
//! A check is a function of the [`Tree`] alone. It reports each violation with file and line; a
//! warning is printed but fails nothing.

mod ascii;
mod floors;
mod format_tables;
mod headers;
mod lengths;
mod locks;
mod modules;
mod names;
mod outside;
mod paths;
mod planted;
mod references;
mod std_paths;
mod testdata;
mod todos;
mod words;

use std::fmt;

use crate::source::Tree;

/// Runs every check.
pub(crate) fn check(tree: &Tree) -> Report {
    let mut report = Report::default();
    headers::check(tree, &mut report);
    lengths::check(tree, &mut report);
    locks::check(tree, &mut report);
    outside::check(tree, &mut report);
    names::check(tree, &mut report);
    modules::check(tree, &mut report);
    floors::check(tree, &mut report);
    references::check(tree, &mut report);
    testdata::check(tree, &mut report);
    todos::check(tree, &mut report);
    words::check(tree, &mut report);
    ascii::check(tree, &mut report);
    format_tables::check(tree, &mut report);
    paths::check(tree, &mut report);
    planted::check(tree, &mut report);
    report
}

/// The results of the checks.
#[derive(Default)]
pub(crate) struct Report {
    failures: Vec<String>,
    warnings: Vec<String>,
}

impl Report {
    /// Reports a violation at a line, counted from 1; line 0 is the whole file.
    pub(crate) fn fail(&mut self, path: &str, line: usize, what: impl fmt::Display) {
        self.failures.push(place(path, line, what));
    }

    /// Reports what deserves attention.
    pub(crate) fn warn(&mut self, path: &str, line: usize, what: impl fmt::Display) {
        self.warnings.push(place(path, line, what));
    }

    /// The number of violations.
    pub(crate) fn failure_count(&self) -> usize {
        self.failures.len()
    }

    /// The violations, one text each.
    #[cfg(test)]
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The warnings, one text each.
    #[cfg(test)]
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn place(path: &str, line: usize, what: impl fmt::Display) -> String {
    if line == 0 { format!("{path}: {what}") } else { format!("{path}:{line}: {what}") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for failure in &self.failures {
            writeln!(f, "error: {failure}")?;
        }
        write!(f, "tidy: {} errors, {} warnings", self.failures.len(), self.warnings.len())
    }
}

/// Runs one check over files given as text, to test checks.
#[cfg(test)]
fn failures_of(check: fn(&Tree, &mut Report), files: &[(&str, &str)]) -> Vec<String> {
    let mut report = Report::default();
    check(&Tree::of(files), &mut report);
    report.failures
}
