//! Byte tables add up, and to the length in the code.
//!
//! A byte table is a Markdown table whose first columns are `offset` and `size`, in a document or
//! in a comment. Its rows follow each other without a gap, from offset 0. The comment `<!-- const:
//! FILE NAME -->` above it names the constant that equals its total; in `docs/FORMAT.md` every
//! table of fixed size has one. At a row whose size is not a number, checking ends.

mod constants;

use super::Report;
use crate::lexer::comment_lines;
use crate::source::Tree;

const MARK: &str = "<!-- const:";
const FORMAT: &str = "docs/FORMAT.md";

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".md") {
        let lines: Vec<_> =
            text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect();
        check_lines(tree, path, &lines, report);
    }
    for (path, text) in tree.texts_ending(".rs") {
        check_lines(tree, path, &comment_lines(text), report);
    }
}

fn check_lines(tree: &Tree, path: &str, lines: &[(usize, String)], report: &mut Report) {
    let mut mark = None;
    for (index, (line, text)) in lines.iter().enumerate() {
        if let Some(rest) = text.trim().strip_prefix(MARK) {
            mark = Some((*line, rest.trim_end_matches("-->").trim()));
        } else if is_heading(text) {
            let total = table_total(path, &lines[index..], report);
            check_total(tree, path, *line, total, mark.take(), report);
        } else if !text.trim().is_empty()
            && let Some((line, _)) = mark.take()
        {
            report.fail(path, line, "no byte table follows this mark");
        }
    }
    if let Some((line, _)) = mark {
        report.fail(path, line, "no byte table follows this mark");
    }
}

fn check_total(
    tree: &Tree,
    path: &str,
    line: usize,
    total: Option<u64>,
    mark: Option<(usize, &str)>,
    report: &mut Report,
) {
    match (total, mark) {
        (Some(_), None) if path == FORMAT => {
            report.fail(path, line, format_args!("the table needs a '{MARK} FILE NAME -->' mark"));
        }
        (_, None) => {}
        (None, Some((line, _))) => {
            report.fail(path, line, "a table without a fixed size equals no constant");
        }
        (Some(total), Some((line, named))) => match constant(tree, named) {
            Ok(value) if value == total => {}
            Ok(value) => {
                let what = format_args!("the rows add up to {total}, and {named} is {value}");
                report.fail(path, line, what);
            }
            Err(what) => report.fail(path, line, what),
        },
    }
}

/// The value of `FILE NAME`.
fn constant(tree: &Tree, named: &str) -> Result<u64, String> {
    let (file, name) = named.split_once(' ').ok_or("the mark is not 'FILE NAME'")?;
    let text = tree.text(file).ok_or_else(|| format!("there is no file {file}"))?;
    constants::value(text, name.trim()).map_err(|what| format!("{file}: {what}"))
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn is_heading(line: &str) -> bool {
    cells(line).is_some_and(|cells| cells.starts_with(&["offset", "size"]))
}

/// Checks the rows below a heading; returns their total, unless a size is not a number.
fn table_total(path: &str, lines: &[(usize, String)], report: &mut Report) -> Option<u64> {
    let mut end = 0_u64;
    for (line, text) in lines.iter().skip(2) {
        let Some(cells) = cells(text) else { break };
        let [offset, size, ..] = cells.as_slice() else { break };
        let (Ok(offset), Ok(size)) = (offset.parse::<u64>(), size.parse::<u64>()) else {
            return None;
        };
        if offset != end {
            report.fail(path, *line, format_args!("the row starts at {offset}, not at {end}"));
        }
        end = offset + size;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    const CODE: (&str, &str) =
        ("c/a.rs", "const HALF: usize = 6;\nimpl A { const LEN: usize = 2 * HALF; }");
    const HEADING: &str = "| offset | size | field |\n|---:|---:|---|\n";

    fn run(path: &str, mark: &str, rows: &str) -> Vec<String> {
        failures_of(check, &[CODE, (path, &format!("{mark}\n\n{HEADING}{rows}\nText.\n"))])
    }

    #[test]
    fn contiguous_table_of_the_stated_length_passes() {
        let mark = "<!-- const: c/a.rs A::LEN -->";
        assert!(run(FORMAT, mark, "| 0 | 8 | a |\n| 8 | 4 | b |\n").is_empty());
        assert!(run(FORMAT, "", "| 0 | 8 | a |\n| 8 | n | b |\n").is_empty());
        assert!(run("b.md", "", "| 0 | 8 | a |\n").is_empty());
    }

    #[test]
    fn gap_wrong_total_and_missing_mark_fail() {
        let mark = "<!-- const: c/a.rs A::LEN -->";
        assert_eq!(run(FORMAT, mark, "| 0 | 8 | a |\n| 9 | 3 | b |\n").len(), 1);
        assert_eq!(run(FORMAT, mark, "| 0 | 8 | a |\n| 8 | 5 | b |\n").len(), 1);
        assert_eq!(run(FORMAT, mark, "| 0 | n | a |\n").len(), 1);
        assert_eq!(run(FORMAT, "", "| 0 | 8 | a |\n").len(), 1);
        assert_eq!(run(FORMAT, "<!-- const: c/b.rs LEN -->", "| 0 | 8 | a |\n").len(), 1);
        assert_eq!(run(FORMAT, "<!-- const: c/a.rs GONE -->", "| 0 | 8 | a |\n").len(), 1);
        assert_eq!(failures_of(check, &[CODE, (FORMAT, mark)]).len(), 1);
    }

    #[test]
    fn tables_in_comments_are_checked_too() {
        let good = "/// | offset | size | field |\n/// |-:|-:|-|\n/// | 0 | 8 | a |\n";
        assert!(failures_of(check, &[("b.rs", good)]).is_empty());
        assert_eq!(failures_of(check, &[("b.rs", &good.replace("| 0 |", "| 1 |"))]).len(), 1);
    }
}
