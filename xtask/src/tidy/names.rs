//! Files are named after their contents: no `mod.rs`, no catch-all names.

use super::Report;
use crate::source::Tree;

const BANNED_STEMS: [&str; 8] =
    ["mod", "util", "utils", "helper", "helpers", "common", "misc", "prelude"];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for path in tree.paths().filter(|path| path.ends_with(".rs")) {
        for part in path.trim_end_matches(".rs").split('/') {
            if BANNED_STEMS.contains(&part) || has_version(part) {
                report.fail(path, 0, format_args!("'{part}' names no noun of the house"));
            }
        }
    }
}

/// Whether a name ends in `_v` and digits.
fn has_version(stem: &str) -> bool {
    stem.rsplit_once("_v").is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::failures_of;

    #[test]
    fn drawers_and_versions_fail() {
        for bad in ["a/src/utils.rs", "a/src/b/mod.rs", "a/src/common/x.rs", "a/src/block_v2.rs"] {
            assert_eq!(failures_of(check, &[(bad, "")]).len(), 1, "{bad}");
        }
        assert!(failures_of(check, &[("a/src/block_view.rs", ""), ("a/utils.md", "")]).is_empty());
    }
}
