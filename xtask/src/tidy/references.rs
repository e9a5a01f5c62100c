//! Files named in comments and documents exist.
//!
//! A name is a run of path characters that ends in a known extension, or that is in a `testdata`
//! directory. It must be the end of some path of the repository: `lexer.rs`, `tidy/words.rs` and
//! `docs/FORMAT.md` are names. A link in a document must lead to a file, relative to the document.
//! Names with a placeholder (`*`, `<`, `{`) and web addresses are ignored.

use super::Report;
use crate::lexer::comment_lines;
use crate::source::Tree;

const EXTENSIONS: [&str; 5] = [".rs", ".md", ".toml", ".mjs", ".sh"];

/// Names that mean any file of the kind, or one of the user's.
const GENERAL: [&str; 4] = ["mod.rs", "tests.rs", ".rs", ".md"];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".rs") {
        for (line, comment) in comment_lines(text) {
            check_line(tree, path, line, &comment, report);
        }
    }
    for (path, text) in tree.texts_ending(".md") {
        for (index, line) in text.lines().enumerate() {
            check_line(tree, path, index + 1, line, report);
            check_links(tree, path, index + 1, line, report);
        }
    }
}

fn check_line(tree: &Tree, path: &str, line: usize, text: &str, report: &mut Report) {
    // Names relative to the root and to the document are both allowed.
    for name in names(text) {
        let name = name.trim_start_matches("./").trim_start_matches("../");
        if !tree.has_path_ending(name) {
            report.fail(path, line, format_args!("'{name}' names no file of the repository"));
        }
    }
}

/// The file names in a line of text.
fn names(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || "`\"'()[],;|=!".contains(c))
        .map(|word| word.trim_end_matches(['.', ':', '?']))
        .filter(|word| !word.contains("://") && !word.contains(['*', '<', '>', '{', '}', '#', '$']))
        .filter(|word| !word.contains("..."))
        .filter(|word| {
            let is_file = EXTENSIONS.iter().any(|extension| word.ends_with(extension));
            let is_data = word.contains("testdata/");
            (is_file || is_data) && !GENERAL.contains(word)
        })
        .collect()
}

/// Links of the form `](target)`.
fn check_links(tree: &Tree, path: &str, line: usize, text: &str, report: &mut Report) {
    for (index, _) in text.match_indices("](") {
        let Some((target, _)) = text[index + 2..].split_once(')') else { continue };
        let target = target.split('#').next().unwrap_or_default();
        let is_web = target.contains("://") || target.starts_with("mailto:");
        if is_web || target.is_empty() {
            continue;
        }
        if !resolve(path, target).is_some_and(|target| tree.has_path(&target)) {
            report.fail(path, line, format_args!("the link to '{target}' leads nowhere"));
        }
    }
}

/// The path that `target` means in the document `path`; `None` if it leaves the repository.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    fn count(path: &str, text: &str) -> usize {
        let files = [("a/src/gc.rs", "//! G"), ("a/testdata/gc/x.txt", ""), (path, text)];
        failures_of(check, &files).len()
    }

    #[test]
    fn names_of_missing_files_fail() {
        assert_eq!(count("b.rs", "// See gcc.rs.\n"), 1);
        assert_eq!(count("b.rs", "//! Replayed from `testdata/merge/`.\n"), 1);
        assert_eq!(count("b.md", "As docs/NOWHERE.md says\n"), 1);
        assert_eq!(count("docs/b.md", "[x](../src/gc.rs)\n"), 1);
        assert_eq!(count("docs/b.md", "[x](../../a/src)\n"), 1);
    }

    #[test]
    fn names_of_files_and_directories_pass() {
        assert_eq!(count("b.rs", "// See gc.rs, src/gc.rs and `testdata/gc/`; not foo.c.\n"), 0);
        assert_eq!(count("b.rs", "let x = \"gcc.rs\";\n"), 0);
        assert_eq!(count("docs/b.md", "[x](../a/src/gc.rs#top) and https://x.y/z.md\n"), 0);
        assert_eq!(
            count("docs/b.md", "`testdata/<area>/*.txt`, foo/tests.rs beside no mod.rs\n"),
            1
        );
    }
}
