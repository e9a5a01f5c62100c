//! Files stay short: a warning at 500 lines, a failure at 800, not counting tests.

use super::Report;
use crate::source::Tree;

/// Lines from which a file gets a warning.
const LINES_WARN: usize = 500;
/// The most lines, inclusive, that a file may have.
const LINES_MAX: usize = 800;

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".rs") {
        if is_test_file(path) {
            if text.lines().count() > LINES_MAX {
                report.warn(path, 0, format_args!("tests of more than {LINES_MAX} lines"));
            }
            continue;
        }
        let lines = lines_without_tests(text);
        if lines > LINES_MAX {
            let what = format_args!("{lines} lines without tests; {LINES_MAX} are allowed");
            report.fail(path, 0, what);
        } else if lines > LINES_WARN {
            report.warn(path, 0, format_args!("{lines} lines without tests"));
        }
    }
}

/// Whether a file contains only tests, by its name.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// Lines before the inline test module, which comes last in a file.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, text: &str) -> (usize, usize) {
        let mut report = Report::default();
        check(&Tree::of(&[(path, text)]), &mut report);
        (report.failures().len(), report.warnings().len())
    }

    #[test]
    fn long_files_warn_then_fail() {
        assert_eq!(run("a/src/b.rs", &"x;\n".repeat(500)), (0, 0));
        assert_eq!(run("a/src/b.rs", &"x;\n".repeat(501)), (0, 1));
        assert_eq!(run("a/src/b.rs", &"x;\n".repeat(801)), (1, 0));
    }

    #[test]
    fn tests_are_not_counted() {
        let text = format!("x;\n#[cfg(test)]\nmod tests {{\n{}}}\n", "y;\n".repeat(900));
        assert_eq!(run("a/src/b.rs", &text), (0, 0));
        assert_eq!(run("a/src/b/tests.rs", &"y;\n".repeat(700)), (0, 0));
        assert_eq!(run("a/tests/it/main.rs", &"y;\n".repeat(900)), (0, 1));
    }
}
