//! Unfinished work has an issue: the markers below need a number in brackets, as in `(#12)`.

use super::Report;
use crate::lexer::comment_lines;
use crate::source::Tree;

const MARKS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".rs") {
        for (line, comment) in comment_lines(text) {
            check_line(path, line, &comment, report);
        }
    }
    for (path, text) in tree.texts().filter(|(path, _)| has_hash_comments(path)) {
        for (index, line) in text.lines().enumerate() {
            if let Some((_, comment)) = line.split_once('#') {
                check_line(path, index + 1, comment, report);
            }
        }
    }
}

fn has_hash_comments(path: &str) -> bool {
    path.ends_with(".toml") || path.ends_with(".sh") || path.starts_with(".ci/")
}

fn check_line(path: &str, line: usize, comment: &str, report: &mut Report) {
    for mark in MARKS {
        for (index, _) in comment.match_indices(mark) {
            let before = comment[..index].chars().next_back();
            let after = &comment[index + mark.len()..];
            let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_word && !has_issue(after) {
                report.fail(path, line, format_args!("{mark} without an issue number"));
            }
        }
    }
}

fn has_issue(after: &str) -> bool {
    after.strip_prefix("(#").and_then(|rest| rest.split_once(')')).is_some_and(|(digits, _)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn mark_needs_a_number() {
        assert_eq!(failures_of(check, &[("a.rs", "x; // TODO: later\n")]).len(), 1);
        assert_eq!(failures_of(check, &[("a.rs", "/* FIXME(me) */\n")]).len(), 1);
        assert_eq!(failures_of(check, &[(".ci/run", "# TODO\n")]).len(), 1);
        assert!(
            failures_of(check, &[("a.rs", "// TODO(#12): later\nlet s = \"TODO\";\n")]).is_empty()
        );
        assert!(failures_of(check, &[("a.rs", "// TODOS and HACKING are words\n")]).is_empty());
    }
}
