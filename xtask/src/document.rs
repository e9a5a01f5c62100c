//! Tables that a command writes into a document, between two markers.

use std::path::Path;

/// The document with the results of the harnesses.
pub(crate) const RELIABILITY: &str = "docs/RELIABILITY.md";

/// Writes `table` between the markers of this name.
///
/// # Errors
/// If the document cannot be read or written, or has no markers of this name.
pub(crate) fn write(root: &Path, document: &str, name: &str, table: &str) -> Result<(), String> {
    let path = root.join(document);
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let text = replaced(&text, name, table)
        .ok_or(format!("{document} has no place for the table of {name}"))?;
    std::fs::write(path, text).map_err(|error| error.to_string())
}

/// The text between the markers of this name.
pub(crate) fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let [begin, end] = marks(name);
    Some(text.split_once(&begin)?.1.split_once(&end)?.0)
}

fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let [begin, end] = marks(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{table}{end}{after}"))
}

fn marks(name: &str) -> [String; 2] {
    ["begin", "end"].map(|which| format!("<!-- {name}: {which} -->\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_replaces_the_one_that_stood_there() {
        let text = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n";
        assert_eq!(between(text, "t"), Some("old\n"));
        let text = replaced(text, "t", "new\n").unwrap();
        assert_eq!(text, "a\n<!-- t: begin -->\nnew\n<!-- t: end -->\nb\n");
        assert_eq!(replaced(&text, "other", "new\n"), None);
        assert_eq!(between("no marks", "t"), None);
    }
}
