//! Why the entries of a tree could not be read.

use std::fmt;

use esker_base::EntryKind;
use esker_env::FileError;

use crate::operator::MergeError;

/// An entry of a kind that this release does not know: it cannot tell the value of the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsupportedKind {
    /// The kind.
    pub kind: EntryKind,
}

impl fmt::Display for UnsupportedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an entry of kind {} needs a newer release", self.kind)
    }
}

impl std::error::Error for UnsupportedKind {}

/// Why a cursor could not determine what a reader sees.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// A table could not be read.
    File(FileError),
    /// An entry was read, and its meaning is not known.
    UnsupportedKind(UnsupportedKind),
    /// The operands of a key could not be merged.
    Merge(MergeError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::UnsupportedKind(error) => error.fmt(f),
            Self::Merge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::File(error) => error,
            Self::UnsupportedKind(error) => error,
            Self::Merge(error) => error,
        })
    }
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<UnsupportedKind> for ReadError {
    fn from(error: UnsupportedKind) -> Self {
        Self::UnsupportedKind(error)
    }
}

impl From<MergeError> for ReadError {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}
