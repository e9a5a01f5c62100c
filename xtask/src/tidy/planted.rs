//! The table of planted defects has each of them and no other: otherwise it is of an older commit.

use super::Report;
use crate::document::RELIABILITY;
use crate::planted::{known, sites_of};
use crate::source::Tree;

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    let Some((_, document)) = tree.texts().find(|(path, _)| *path == RELIABILITY) else { return };
    let (known, sites) = (known(document), sites_of(tree));
    for (name, site) in sites.iter().filter(|(name, _)| !known.contains_key(name.as_str())) {
        report.warn(
            site,
            0,
            format_args!("{name} is planted, and not in the table of {RELIABILITY}"),
        );
    }
    for name in known.keys().filter(|name| !sites.contains_key(**name)) {
        report.warn(RELIABILITY, 0, format_args!("{name} is in the table, and planted nowhere"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_is_planted() {
        let row = |name: &str| format!("| {name} | `a.rs` | a test |\n");
        let marks = ["begin", "end"].map(|which| format!("<!-- planted defects: {which} -->\n"));
        let head = "| defect | site | caught by |\n|---|---|---|\n";
        let table = [&*marks[0], head, &row("listed"), &row("gone"), &*marks[1]].concat();
        let site = |name: &str| format!("if planted::is(\"{name}\") {{}}\n");
        let code = site("listed") + &site("new");
        let tree = Tree::of(&[(RELIABILITY, &table), ("crates/a/src/a.rs", &code)]);
        let mut report = Report::default();
        check(&tree, &mut report);
        let [new, gone] = report.warnings() else { panic!("{:?}", report.warnings()) };
        assert!(new.contains("new is planted") && new.contains("crates/a/src/a.rs"), "{new}");
        assert!(gone.contains("gone is in the table"), "{gone}");
    }
}
