//! One word for one thing: finds the words that `docs/GLOSSARY.md` rules out.
//!
//! Searches comments, identifiers and documents for whole words, in any case. The glossary and the
//! style guide may contain them, to say what to use instead; so may a literal, because another
//! store's option may contain the word.

use super::Report;
use super::lengths::is_test_file;
use crate::lexer::{Kind, comment_lines, spans};
use crate::source::Tree;

/// Words that are not used, and those used instead.
const BANNED: [(&str, &str); 14] = [
    ("frozen memtable", "immutable memtable"),
    ("frozen memtables", "immutable memtables"),
    ("sealed memtable", "immutable memtable"),
    ("sealed memtables", "immutable memtables"),
    ("superversion", "read view"),
    ("super version", "read view"),
    ("column family", "keyspace"),
    ("column families", "keyspaces"),
    ("higher level", "shallower level"),
    ("higher levels", "shallower levels"),
    ("upper level", "shallower level"),
    ("upper levels", "shallower levels"),
    ("lower level", "deeper level"),
    ("lower levels", "deeper levels"),
];

/// Not used outside tests. A test may have a record of its own under one of these names.
const BANNED_OUTSIDE_TESTS: [(&str, &str); 3] =
    [("journal", "log"), ("journals", "logs"), ("journaling", "logging")];

const EXEMPT: [&str; 3] = ["docs/GLOSSARY.md", "docs/STYLE.md", "xtask/src/tidy/words.rs"];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts().filter(|(path, _)| !EXEMPT.contains(path)) {
        if path.ends_with(".rs") {
            check_lines(path, &comment_lines(text), report);
            for line in identifier_lines(text) {
                check_lines(path, &[line], report);
            }
        } else if path.ends_with(".md") {
            let lines: Vec<_> =
                text.lines().enumerate().map(|(index, line)| (index + 1, line.into())).collect();
            check_lines(path, &lines, report);
        }
    }
}

/// Checks every line, and every two adjacent lines: a phrase may wrap.
fn check_lines(path: &str, lines: &[(usize, String)], report: &mut Report) {
    let words: Vec<(usize, String)> =
        lines.iter().map(|(line, text)| (*line, spaced_words(text))).collect();
    for (index, (line, text)) in words.iter().enumerate() {
        let next = words.get(index + 1).filter(|(next, _)| *next == line + 1);
        let both = next.map(|(_, next)| format!("{}{}", text.trim_end(), next));
        let outside_tests = BANNED_OUTSIDE_TESTS.iter().filter(|_| !is_test_file(path));
        for (banned, instead) in BANNED.iter().chain(outside_tests) {
            let phrase = format!(" {banned} ");
            let wraps = both.as_ref().is_some_and(|both| both.contains(&phrase))
                && !next.is_some_and(|(_, next)| next.contains(&phrase));
            if text.contains(&phrase) || wraps {
                report.fail(path, *line, format_args!("'{banned}': we say '{instead}'"));
            }
        }
    }
}

/// Words in lower case, with one space before and after each.
fn spaced_words(text: &str) -> String {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-')).filter(|w| !w.is_empty());
    words.fold(String::from(" "), |line, word| line + &word.to_lowercase() + " ")
}

/// Identifiers of the code, split into words, one line each.
fn identifier_lines(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for span in spans(text).into_iter().filter(|span| span.kind == Kind::Code) {
        for (index, line) in span.text.lines().enumerate() {
            let identifiers = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            for identifier in identifiers.filter(|identifier| !identifier.is_empty()) {
                out.push((span.line + index, identifier_words(identifier)));
            }
        }
    }
    out
}

/// `SuperVersion` and `super_version` as `super version`.
fn identifier_words(identifier: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for c in identifier.chars() {
        if c.is_uppercase() && was_lower {
            words.push(' ');
        }
        words.push(if c == '_' { ' ' } else { c });
        was_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn wrong_words_fail_in_comments_identifiers_and_documents() {
        for (path, bad) in [
            ("a.rs", "// The higher level is\n"),
            ("a.rs", "// A table of the upper\n// levels is\n"),
            ("a.rs", "struct SuperVersion;\n"),
            ("a.rs", "fn column_family() {}\n"),
            ("a.rs", "let journal = 1;\n"),
            ("a.md", "The Journal is\n"),
        ] {
            assert_eq!(failures_of(check, &[(path, bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn other_words_literals_and_the_glossary_pass() {
        for (path, good) in [
            ("a.rs", "// The shallower level; the level is lower\n// bounded.\n"),
            ("a.rs", "let x = \"journal\";\n"),
            ("a.rs", "// A higher\n\n// level\n"),
            ("docs/GLOSSARY.md", "Not column family.\n"),
            ("a/tests/it/journal.rs", "struct Journal; // The journal of the test\n"),
        ] {
            assert!(failures_of(check, &[(path, good)]).is_empty(), "{good}");
        }
    }
}
