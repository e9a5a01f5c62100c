//! Finds what code names of the standard library, in imports and in full, each name by itself.
//!
//! Knows paths, groups of imports and nothing else of Rust: not what a name means that was imported
//! before.

use super::lengths::lines_without_tests;
use crate::lexer::{Kind, spans};

/// The code of `text` up to its inline tests: comments and literals are blank, lines stay where they are.
pub(crate) fn code_of(text: &str) -> String {
    let end = lines_without_tests(text);
    let mut code = String::new();
    for span in spans(text).into_iter().take_while(|span| span.line <= end) {
        match span.kind {
            Kind::Code => code.push_str(span.text),
            _ => code.extend(span.text.chars().map(|c| if c == '\n' { c } else { ' ' })),
        }
    }
    code.split_inclusive('\n').take(end).collect()
}

/// Every path in `code` that begins with `std`, with its line: its parts, the last of them `*` if it is
/// a glob.
pub(crate) fn std_paths(code: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found = Vec::new();
    for (at, name) in code.match_indices("std") {
        let (before, rest) = (&code[..at], code[at + name.len()..].trim_start());
        if let Some(mut rest) = rest.strip_prefix("::")
            && is_root(before)
        {
            let mut paths = Vec::new();
            expand(&mut rest, vec![name], &mut paths);
            found.extend(paths.into_iter().map(|path| (line_at(code, at), path)));
        }
    }
    found
}

/// The line of the byte at `at`, from 1.
pub(crate) fn line_at(code: &str, at: usize) -> usize {
    1 + code[..at].matches('\n').count()
}

/// Whether what follows `before` is the first part of a path.
fn is_root(before: &str) -> bool {
    let before = before.strip_suffix("::").unwrap_or(before);
    !before.ends_with(|c: char| is_word(c) || c == ':' || c == '>')
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Takes what follows `path` and `::` off `rest`, and adds every path that it leads to.
fn expand<'a>(rest: &mut &'a str, mut path: Vec<&'a str>, paths: &mut Vec<Vec<&'a str>>) {
    loop {
        *rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            *rest = group;
            return expand_group(rest, &path, paths);
        }
        let len = match rest.strip_prefix('*') {
            Some(_) => 1,
            None => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        };
        if len > 0 {
            path.push(&rest[..len]);
            *rest = rest[len..].trim_start();
        }
        match rest.strip_prefix("::").filter(|_| len > 0) {
            Some(next) => *rest = next,
            None => return paths.push(path),
        }
    }
}

/// The same up to the end of a group.
fn expand_group<'a>(rest: &mut &'a str, path: &[&'a str], paths: &mut Vec<Vec<&'a str>>) {
    loop {
        *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match rest.chars().next() {
            None | Some('}') => {
                *rest = rest.get(1..).unwrap_or_default();
                return;
            }
            Some(_) => expand(rest, path.to_vec(), paths),
        }
        // A new name for it does not matter.
        let end = rest.find([',', '}', '{']).unwrap_or(rest.len());
        // A group can only follow `::`: in text that does not compile, what is left is passed over.
        *rest = rest[end..].trim_start_matches('{');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(usize, String)> {
        std_paths(&code_of(text)).into_iter().map(|(line, path)| (line, path.join("::"))).collect()
    }

    #[test]
    fn imports_are_taken_apart_and_paths_in_code_end_where_they_end() {
        for (text, expected) in [
            ("use std::fs;", &["std::fs"][..]),
            (
                "use std::{io, fs as files, sync::{Arc, atomic::*},};",
                &["std::io", "std::fs", "std::sync::Arc", "std::sync::atomic::*"],
            ),
            ("use ::std::{\n    fs::{self, File},\n};", &["std::fs::self", "std::fs::File"]),
            (
                "fn f(a: std::time::Instant, b: B) { std::fs::read(a) }",
                &["std::time::Instant", "std::fs::read"],
            ),
            ("let a = std::mem::take::<B>(b);", &["std::mem::take"]),
            ("use std::{fs", &["std::fs"]),
            ("use std::{ {", &[]),
            ("use std::{; fs}", &["std"]),
            ("use std::{\n    io, // {\n    fs,\n};", &["std::io", "std::fs"]),
            ("use a::std::fs; // std::fs\nlet b = \"std::fs\"; my_std::fs(); std", &[]),
        ] {
            let found: Vec<String> = paths(text).into_iter().map(|(_, path)| path).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn line_is_that_of_the_statement_and_tests_do_not_count() {
        let text = "x;\nuse std::{\n    io,\n};\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(paths(text), [(2, "std::io".to_owned())]);
    }
}
