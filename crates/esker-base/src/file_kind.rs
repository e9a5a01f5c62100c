//! The kinds of files, as a byte in their headers and as an extension of their names.

use std::fmt;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FileKind {
    /// A sorted table.
    Table = 1,
    /// A segment of the write-ahead log.
    Log = 2,
    /// A manifest: the log of version edits.
    Manifest = 3,
    /// Large values, outside of tables.
    Blob = 4,
    /// Which blocks were in the cache when the database was closed.
    Warm = 5,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Table, Self::Log, Self::Manifest, Self::Blob, Self::Warm];

    /// What a file name of this kind ends in, after the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Log => "log",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Warm => "warm",
        }
    }

    /// The kind whose names end in `extension`.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.extension() == extension)
    }

    /// The kind that `byte` stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warm => "warm list",
            kind => kind.extension(),
        })
    }
}
