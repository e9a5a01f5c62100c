//! Every Rust file starts with an informative `//!` header.

use super::Report;
use crate::source::Tree;

/// Shortest header, in bytes of text: anything shorter only repeats the file name.
const HEADER_LEN_MIN: usize = 20;

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for (path, text) in tree.texts_ending(".rs") {
        let header: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        if header.is_empty() {
            report.fail(path, 1, "the file does not open with a //! header");
        } else if header.join(" ").len() < HEADER_LEN_MIN {
            report.fail(path, 1, "the //! header says too little");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn missing_or_empty_header_fails() {
        assert_eq!(failures_of(check, &[("a.rs", "use x;\n")]).len(), 1);
        assert_eq!(failures_of(check, &[("a.rs", "//! A.\nuse x;\n")]).len(), 1);
        assert_eq!(
            failures_of(check, &[("a.rs", "use x;\n//! Too late to be a header.\n")]).len(),
            1
        );
        let good = "//! What the file is,\n//! in a sentence.\n";
        assert!(failures_of(check, &[("a.rs", good), ("a.md", "no header")]).is_empty());
    }
}
