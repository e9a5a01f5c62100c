//! Ids: of databases, keyspaces and files. Each is its own type; none is ever reused.

use std::fmt;

use crate::file_kind::FileKind;

/// Names one database for its whole life; random at creation. Bound into every file's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Names one keyspace of a database. Zero is the default keyspace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace that every database has.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a writer that allocates file ids. One machine with one writer has owner 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OwnerId(pub u32);

impl OwnerId {
    /// The writer of a database that has only one.
    pub const FIRST: Self = Self(1);
}

/// Names one file of a database, forever: the owner that created it, and a counter that this owner
/// only increases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId {
    /// The owner that allocated the id.
    pub owner: OwnerId,
    /// Counts this owner's files, of all kinds together.
    pub counter: u64,
}

impl FileId {
    /// The file's name inside its directory, such as `1-00000042.table`.
    #[must_use]
    pub fn file_name(self, kind: FileKind) -> String {
        format!("{self}.{}", kind.extension())
    }

    /// Reads a name made by [`FileId::file_name`]; `None` for any other name.
    #[must_use]
    pub fn parse_file_name(name: &str) -> Option<(Self, FileKind)> {
        let (stem, extension) = name.split_once('.')?;
        let kind = FileKind::from_extension(extension)?;
        let (owner, counter) = stem.split_once('-')?;
        let id = Self { owner: OwnerId(owner.parse().ok()?), counter: counter.parse().ok()? };
        // Only the canonical spelling: `+1-7.log` or `01-7.log` are somebody else's files.
        (id.file_name(kind) == name).then_some((id, kind))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08}", self.owner.0, self.counter)
    }
}

macro_rules! file_id_type {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub FileId);

        impl $name {
            /// The file's name inside its directory.
            #[must_use]
            pub fn file_name(self) -> String {
                self.0.file_name($kind)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

file_id_type!(
    /// Names one table file.
    TableId,
    FileKind::Table
);
file_id_type!(
    /// Names one segment of the write-ahead log.
    LogId,
    FileKind::Log
);
file_id_type!(
    /// Names one manifest file.
    ManifestId,
    FileKind::Manifest
);
file_id_type!(
    /// Names one blob file.
    BlobFileId,
    FileKind::Blob
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_foreign_names_do_not_parse() {
        let id = FileId { owner: OwnerId(1), counter: 42 };
        assert_eq!(id.file_name(FileKind::Table), "1-00000042.table");
        assert_eq!(FileId::parse_file_name("1-00000042.table"), Some((id, FileKind::Table)));
        for foreign in [
            "1-42.table",
            "+1-00000042.table",
            "1-00000042.sst",
            "1-00000042",
            "x",
            ".table",
            "1-.log",
        ] {
            assert_eq!(FileId::parse_file_name(foreign), None, "{foreign}");
        }
        let long = FileId { owner: OwnerId(u32::MAX), counter: u64::MAX };
        assert_eq!(
            FileId::parse_file_name(&long.file_name(FileKind::Log)),
            Some((long, FileKind::Log))
        );
    }
}
