//! The report of a verification: findings, totals, and unreferenced files.

use std::fmt;
use std::ops::Bound;

use esker_base::{Corruption, Shown};
use esker_tree::Catalog;

use crate::key_order::Order;

/// A key range of one keyspace, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AffectedKeys {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Where the keys start.
    pub start: Bound<Vec<u8>>,
    /// Where they end.
    pub end: Bound<Vec<u8>>,
}

impl AffectedKeys {
    /// Converts the bounds from stored keys to user keys of a keyspace in `order`. A bound that is
    /// no valid key, or whose order is not known, is dropped.
    pub(super) fn decode(&mut self, order: &Order) {
        if order.is_bytewise() {
            return;
        }
        let key_of = |stored: &Vec<u8>| {
            let mut key = Vec::new();
            order.code()?.decode(stored, &mut key).ok().map(|()| key)
        };
        for bound in [&mut self.start, &mut self.end] {
            *bound = match &*bound {
                Bound::Included(stored) => key_of(stored).map_or(Bound::Unbounded, Bound::Included),
                Bound::Excluded(stored) => key_of(stored).map_or(Bound::Unbounded, Bound::Excluded),
                Bound::Unbounded => Bound::Unbounded,
            };
        }
    }

    /// The same for all of `these`, going by what `catalog` says of their keyspaces.
    pub(super) fn decode_all<'a>(these: impl Iterator<Item = &'a mut Self>, catalog: &Catalog) {
        for keys in these {
            let mut states = catalog.keyspaces.values();
            if let Some(state) = states.find(|state| state.name == keys.keyspace) {
                keys.decode(&Order::recorded(&state.order, &[]));
            }
        }
    }
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Name of the file.
    pub file: String,
    /// Offset in the file, in bytes; 0 if it concerns the whole file.
    pub offset: u64,
    /// What is wrong, as a lower-case phrase.
    pub what: String,
    /// The device failed to read the bytes, twice; whether they are damaged is unknown. Otherwise
    /// they are damaged, missing, or contradict others.
    pub is_unreadable: bool,
    /// The keys whose reads fail, or may miss what was written. `None` if no read is affected, as
    /// with a filter, or if it is unknown which, as with a log or a manifest.
    pub affected: Option<AffectedKeys>,
}

impl Finding {
    pub(super) fn new(corruption: Corruption) -> Self {
        let Corruption { file, offset, what } = corruption;
        Self { file, offset, what: what.into_owned(), is_unreadable: false, affected: None }
    }

    pub(super) fn at(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        let (file, what) = (file.into(), what.into());
        Self { file, offset, what, is_unreadable: false, affected: None }
    }

    pub(super) fn affecting(self, affected: Option<AffectedKeys>) -> Self {
        Self { affected, ..self }
    }
}

/// A file that nothing refers to: what a crash left of a job that did not end. The next open
/// removes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreferencedFile {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
}

/// What was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Keyspaces.
    pub keyspaces: u64,
    /// Tables.
    pub tables: u64,
    /// Bytes of their files.
    pub table_bytes: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Entries in them: all versions of all keys.
    pub entries: u64,
    /// Blob files.
    pub blob_files: u64,
    /// Bytes of them.
    pub blob_bytes: u64,
    /// Values in them, garbage included.
    pub blob_values: u64,
    /// Log segments.
    pub logs: u64,
    /// Bytes of their files.
    pub log_bytes: u64,
    /// Commit groups in them.
    pub groups: u64,
    /// Operations in those.
    pub operations: u64,
}

/// What [`Doctor::verify`](super::Doctor::verify) found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct VerifyReport {
    /// What is wrong. Empty if nothing is.
    pub findings: Vec<Finding>,
    /// Unreferenced files, which are not damage.
    pub unreferenced: Vec<UnreferencedFile>,
    /// What was looked at.
    pub totals: Totals,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for AffectedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.start, &self.end) {
            (Bound::Unbounded, Bound::Unbounded) => f.write_str("all keys")?,
            (start, end) => {
                f.write_str("keys")?;
                match start {
                    Bound::Included(key) => write!(f, " from \"{}\"", key.escape_ascii())?,
                    Bound::Excluded(key) => write!(f, " after \"{}\"", key.escape_ascii())?,
                    Bound::Unbounded => {}
                }
                match end {
                    Bound::Included(key) => write!(f, " up to \"{}\"", key.escape_ascii())?,
                    Bound::Excluded(key) => write!(f, " before \"{}\"", key.escape_ascii())?,
                    Bound::Unbounded => {}
                }
            }
        }
        write!(f, " of {}", Shown::from(&*self.keyspace))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, Shown::from(&*self.what))?;
        match &self.affected {
            Some(affected) => write!(f, "; affects {affected}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for UnreferencedFile { file, bytes } in &self.unreferenced {
            writeln!(f, "{file}: nothing refers to it ({bytes} bytes); the next open removes it")?;
        }
        let totals = &self.totals;
        writeln!(
            f,
            "{} keyspaces; {} tables of {} bytes with {} blocks and {} entries; {} log segments of \
             {} bytes with {} groups and {} operations",
            totals.keyspaces,
            totals.tables,
            totals.table_bytes,
            totals.blocks,
            totals.entries,
            totals.logs,
            totals.log_bytes,
            totals.groups,
            totals.operations,
        )?;
        if totals.blob_files > 0 {
            writeln!(
                f,
                "{} blob files of {} bytes with {} values",
                totals.blob_files, totals.blob_bytes, totals.blob_values
            )?;
        }
        let unreadable = self.findings.iter().filter(|finding| finding.is_unreadable).count();
        match (self.findings.len(), unreadable) {
            (0, _) => writeln!(f, "sound"),
            (count, 0) => writeln!(f, "damaged: {count} findings"),
            (count, _) => {
                writeln!(
                    f,
                    "damaged: {count} findings, {unreadable} of what the device does not give"
                )
            }
        }
    }
}
