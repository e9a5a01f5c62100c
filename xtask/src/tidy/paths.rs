//! No path of a developer's machine.

use super::Report;
use crate::source::Tree;

/// Assembled here, so that this file does not break its own rule.
const BANNED: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Use", "rs/"),
    concat!("C:", "\\"),
];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            for banned in BANNED {
                if line.match_indices(banned).any(|(at, _)| is_path_start(line, at)) {
                    report.fail(path, index + 1, format_args!("'{banned}' is a machine's path"));
                }
            }
        }
    }
}

/// Whether an absolute path starts at `at`: what precedes it is not part of a longer one.
fn is_path_start(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn machine_paths_fail_anywhere() {
        for banned in BANNED {
            let text = format!("see {banned}somebody/x\n");
            assert_eq!(failures_of(check, &[("README.md", &text)]).len(), 1, "{banned}");
        }
        let inside = format!("https://example.invalid{}x and a{}b\n", BANNED[0], BANNED[2]);
        assert!(failures_of(check, &[("README.md", &inside)]).is_empty());
    }
}
