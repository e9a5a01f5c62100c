//! The report of a repair: what is kept, what was rebuilt, what is lost, and where the originals
//! are.

use std::fmt;

use esker_base::Shown;

use super::report::{AffectedKeys, Finding};

/// Entries that are gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The file that held them.
    pub file: String,
    /// Why they are lost, as a lower-case phrase.
    pub what: String,
    /// The keys that may lack their latest writes: they may be gone, have an older value, or have
    /// come back after a delete. `None` if it is unknown which.
    pub keys: Option<AffectedKeys>,
}

/// A new file with what was intact in an old one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rebuilt {
    /// The old file.
    pub from: String,
    /// Entries that were copied.
    pub entries: u64,
}

/// What [`Doctor::repair`](super::Doctor::repair) did, or would do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RepairReport {
    /// This was a dry run: nothing was done.
    pub is_dry_run: bool,
    /// What was wrong. Empty if nothing was, and then nothing was changed.
    pub findings: Vec<Finding>,
    /// Tables that are kept as they are.
    pub kept: Vec<String>,
    /// Files whose intact entries went to new tables.
    pub rebuilt: Vec<Rebuilt>,
    /// What is lost.
    pub lost: Vec<Loss>,
    /// Files that were moved out of the database, to its directory `damaged`: damaged ones, and
    /// intact blob files that nothing refers to any more.
    pub set_aside: Vec<String>,
    /// Further remarks.
    pub notes: Vec<String>,
}

impl RepairReport {
    /// Whether there was nothing to repair.
    #[must_use]
    pub const fn was_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = Shown::from(&*self.what);
        match &self.keys {
            Some(keys) => write!(f, "{keys} ({}: {what})", self.file),
            None => write!(f, "{}: {what}", self.file),
        }
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.was_sound() {
            return writeln!(f, "sound: nothing to repair, and nothing was changed");
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "found: {finding}"))?;
        writeln!(f, "kept: {} tables as they are", self.kept.len())?;
        for Rebuilt { from, entries } in &self.rebuilt {
            writeln!(f, "rebuilt: {entries} entries of {from}")?;
        }
        for loss in &self.lost {
            writeln!(f, "lost: {loss}")?;
        }
        if self.lost.is_empty() {
            writeln!(f, "lost: nothing")?;
        }
        for file in &self.set_aside {
            writeln!(f, "set aside: damaged/{file}")?;
        }
        let mut notes = self.notes.iter().map(|note| Shown::from(&**note));
        notes.try_for_each(|note| writeln!(f, "note: {note}"))?;
        match self.is_dry_run {
            true => writeln!(f, "nothing was changed"),
            false => writeln!(f, "repaired"),
        }
    }
}
