//! Every file below a `testdata` directory is used by a test of its crate.
//!
//! Used means that a string literal of the crate names the file, its directory below `testdata`,
//! or, for a file directly in it, the `testdata` directory itself.

use super::Report;
use crate::lexer::literals;
use crate::source::Tree;

const DIR: &str = "/testdata/";

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for path in tree.paths() {
        let Some((package, inside)) = path.split_once(DIR) else { continue };
        let package = format!("{package}/");
        let mut sources =
            tree.texts_ending(".rs").filter(|(source, _)| source.starts_with(&package));
        let is_used = sources
            .any(|(_, text)| literals(text).iter().any(|literal| names_file(literal, inside)));
        if !is_used {
            report.fail(path, 0, "no test of the crate names this file or its directory");
        }
    }
}

/// Whether a literal names the file, by path below `testdata`, or its directory.
fn names_file(literal: &str, inside: &str) -> bool {
    let literal = literal.trim_end_matches('/');
    let literal = literal.rsplit_once("testdata/").map_or(literal, |(_, rest)| rest);
    let file = inside.rsplit_once('/').map_or(inside, |(_, file)| file);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let mut dir = inside.rsplit_once('/').map_or("testdata", |(dir, _)| dir);
    loop {
        if literal == dir || (dir == "testdata" && literal.ends_with("/testdata")) {
            return true;
        }
        match dir.rsplit_once('/') {
            Some((above, _)) => dir = above,
            None => break,
        }
    }
    literal == inside || literal == file || literal == stem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    fn is_used(file: &str, source: &str) -> bool {
        failures_of(check, &[(file, ""), ("c/src/a.rs", source)]).is_empty()
    }

    #[test]
    fn file_without_a_reader_fails() {
        assert!(!is_used("c/testdata/gc/x.txt", "f(\"testdata/merge\")"));
        assert!(!is_used("c/testdata/gc/x.txt", "// \"testdata/gc\""));
        assert!(!is_used("d/testdata/gc/x.txt", "f(\"testdata/gc\")"));
    }

    #[test]
    fn file_directory_or_stem_counts_as_use() {
        for source in ["f(\"testdata/gc/x.txt\")", "f(\"testdata/gc\")", "f(\"gc\")", "f(\"x\")"] {
            assert!(is_used("c/testdata/gc/x.txt", source), "{source}");
        }
        assert!(is_used("c/testdata/x.txt", "f(\"testdata\")"));
        assert!(is_used("c/testdata/a/b/x.txt", "f(\"testdata/a\")"));
    }
}
