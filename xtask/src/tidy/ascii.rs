//! Rust files are ASCII, so that readers see what is compiled.
//!
//! A string literal may contain other characters if its line, or the line above, has a comment that
//! starts with `data:`.

use super::Report;
use crate::lexer::{Kind, spans};
use crate::source::Tree;

const MARK: &str = "// data:";

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".rs") {
        if text.is_ascii() {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for span in spans(text).into_iter().filter(|span| !span.text.is_ascii()) {
            for (index, part) in span.text.split('\n').enumerate() {
                let Some(found) = part.chars().find(|c| !c.is_ascii()) else { continue };
                let line = span.line + index;
                if span.kind == Kind::Literal && is_marked(&lines, span.line) {
                    continue;
                }
                let code = u32::from(found);
                report.fail(path, line, format_args!("U+{code:04X} is not ASCII"));
            }
        }
    }
}

/// Whether the line (from 1) or the one above marks the literal as data.
fn is_marked(lines: &[&str], line: usize) -> bool {
    let has_mark = |line: usize| {
        line.checked_sub(1).and_then(|index| lines.get(index)).is_some_and(|l| l.contains(MARK))
    };
    has_mark(line) || has_mark(line - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn only_marked_literals_may_hold_other_characters() {
        let e = '\u{e9}';
        let fails = |text: String| failures_of(check, &[("a.rs", &text)]).len();
        assert_eq!(fails(format!("// caf{e}\n")), 1);
        assert_eq!(fails(format!("let {e} = 1;\n")), 1);
        assert_eq!(fails(format!("let a = \"{e}\";\n")), 1);
        assert_eq!(fails(format!("let a = \"{e}\"; // data: a name\n")), 0);
        assert_eq!(fails(format!("// data: a name\nlet a = \"{e}\";\n")), 0);
        assert_eq!(fails(format!("// data: a name\nlet {e} = 1;\n")), 1);
    }
}
