//! Which findings come of what the device did not give, and not of damage.
//!
//! Zeros stand for it, so whatever holds it (a block, a frame, a footer) looks damaged, and is found where it
//! starts. Does not know what a file is made of: what starts last before a part is taken for what holds
//! it. In a file that is damaged as well that may be wrong; that both are told is not.

use std::collections::BTreeMap;

use esker_base::{Corruption, FileHeader};

use super::report::Finding;
use super::unreadable::{Part, Unreadable};

/// What is said of bytes that the device does not give starts so, and what it said follows.
pub(super) const UNREADABLE: &str = "unreadable: ";

/// What is to be said in place of damage, by file and offset.
#[derive(Default, Debug)]
pub(super) struct Causes {
    told: BTreeMap<(String, u64), String>,
}

impl Causes {
    /// Makes those of `findings` that come of what was refused say so, and adds one for each part of a file
    /// that none of them tells.
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
                // By another part of the same block, say.
                affected = affected.or_else(|| finding.affected.clone());
                continue;
            }
            // The first one tells where the part starts.
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

    /// What is wrong with what `corruption` is about.
    pub(super) fn of(&self, corruption: &Corruption) -> String {
        let place = (corruption.file.clone(), corruption.offset);
        self.told.get(&place).map_or_else(|| corruption.what.to_string(), Clone::clone)
    }
}

/// Which of `places`, findings of one file with where they are, are about what holds some of `part`.
fn spoilt_by(part: &Part, places: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let is_whole = part.start == part.end;
    // At 0 stands what is about the file, and not about its bytes.
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
