//! Which findings are due to bytes that the device could not read, and not to damage.
//!
//! Such bytes read as zeros, so whatever contains them (a block, a frame, a footer) looks damaged,
//! and is found where it starts. Does not know the structure of a file: the last finding that
//! starts before an unreadable part is taken for what contains it. In a file that is also damaged,
//! this may be wrong; but both are reported.

use std::collections::BTreeMap;

use esker_base::{Corruption, FileHeader};

use super::report::Finding;
use crate::damaged::unreadable::{Part, Unreadable};

/// Prefix of reports of bytes that the device could not read; the system's error follows.
pub(super) const UNREADABLE: &str = "unreadable: ";

/// What to report instead of damage, by file and offset.
#[derive(Default, Debug)]
pub(super) struct Causes {
    told: BTreeMap<(String, u64), String>,
}

impl Causes {
    /// Changes those of `findings` that are due to unreadable parts to say so, and adds one for
    /// each part that none of them reports.
    pub(super) fn attribute(unreadable: &Unreadable, findings: &mut Vec<Finding>) -> Self {
        let mut causes = Self::default();
        for (path, parts) in unreadable.files() {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let of_file = findings.iter().enumerate().filter(|(_, one)| one.file == file);
            let places: Vec<(usize, u64)> = of_file.map(|(at, one)| (at, one.offset)).collect();
            for part in parts {
                causes.attribute_part(&file, &part, &places, findings);
            }
        }
        causes
    }

    fn attribute_part(
        &mut self,
        file: &str,
        part: &Part,
        places: &[(usize, u64)],
        findings: &mut Vec<Finding>,
    ) {
        let what = format!("{UNREADABLE}{}", part.error);
        let mut is_told = false;
        let mut affected = None;
        for (at, offset) in spoilt_by(part, places) {
            let finding = &mut findings[at];
            if finding.is_unreadable {
                // Reported for another part of the same block, for example.
                affected = affected.or_else(|| finding.affected.clone());
                continue;
            }
            // The first one reports where the part starts.
            finding.offset = if is_told { offset } else { part.start };
            is_told = true;
            self.told.insert((file.to_owned(), offset), what.clone());
            finding.what.clone_from(&what);
            finding.is_unreadable = true;
        }
        if !is_told {
            let finding = Finding::at(file, part.start, what).affecting(affected);
            findings.push(Finding { is_unreadable: true, ..finding });
        }
    }

    /// Adds what `others` say, which are of other files.
    pub(super) fn extend(&mut self, others: Self) {
        self.told.extend(others.told);
    }

    /// What is wrong where `corruption` was found.
    pub(super) fn of(&self, corruption: &Corruption) -> String {
        let place = (corruption.file.clone(), corruption.offset);
        self.told.get(&place).map_or_else(|| corruption.what.to_string(), Clone::clone)
    }
}

/// Which of `places`, findings of one file with their offsets, concern what contains a piece of
/// `part`.
fn spoilt_by(part: &Part, places: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let is_whole = part.start == part.end;
    // Findings at 0 concern the file, not its bytes.
    let is_of_bytes = |offset: u64| 0 < offset || part.start < FileHeader::LEN as u64;
    let before = places.iter().map(|(_, offset)| *offset);
    let holder = before.filter(|offset| *offset <= part.start && is_of_bytes(*offset)).max();
    let is_spoilt = |offset: u64| {
        is_whole || Some(offset) == holder || (part.start < offset && offset < part.end)
    };
    let spoilt = places.iter().copied().filter(|(_, offset)| is_spoilt(*offset));
    let mut spoilt: Vec<(usize, u64)> = spoilt.collect();
    spoilt.sort_by_key(|(_, offset)| *offset);
    spoilt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_spoils_what_holds_its_start_and_all_that_starts_in_it() {
        let offsets = [0, 48, 300, 300, 5_000, 9_000];
        let places: Vec<(usize, u64)> = offsets.into_iter().enumerate().collect();
        for (part, expected) in [
            ((0, 0), &[0, 1, 2, 3, 4, 5][..]),
            ((0, 40), &[0]),
            ((0, 48), &[0]),
            ((0, 49), &[0, 1]),
            ((48, 100), &[1]),
            ((299, 300), &[1]),
            ((300, 301), &[2, 3]),
            ((4_096, 8_192), &[2, 3, 4]),
            ((4_096, 5_000), &[2, 3]),
            ((20_000, 20_001), &[5]),
        ] {
            let found = spoilt_by(&Part::met(part), &places);
            let found: Vec<usize> = found.into_iter().map(|(at, _)| at).collect();
            assert_eq!(found, expected, "{part:?}");
        }
        // What is said of a file as a whole is not said of what lies behind its header.
        assert_eq!(spoilt_by(&Part::met((48, 60)), &[(0, 0)]), []);
        assert_eq!(spoilt_by(&Part::met((47, 60)), &[(0, 0)]), [(0, 0)]);
    }
}
