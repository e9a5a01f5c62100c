//! What an entry does to its key.

use std::fmt;

/// What an entry does to its key. The byte is part of every file format; rows are only added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// Hides every older entry of the key.
    Tombstone = 0,
    /// Sets the value.
    Put = 1,
    /// Hides the one older put of the key; compaction drops both together.
    SingleDelete = 2,
    /// An operand for the keyspace's merge operator.
    Merge = 3,
    /// Hides every older entry in `[user key, value)`.
    RangeTombstone = 4,
    /// Sets the value, which is in a blob file.
    BlobReference = 5,
    /// Sets the value until a time after which it counts as deleted.
    ExpiringPut = 6,
}

impl EntryKind {
    /// The kind that sorts first among entries of one key and sequence number: seeking to it finds
    /// whatever kind is stored.
    pub const SEEK: Self = Self::ExpiringPut;

    /// Reads a kind from its byte; `None` for a byte no format version defines.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Tombstone,
            1 => Self::Put,
            2 => Self::SingleDelete,
            3 => Self::Merge,
            4 => Self::RangeTombstone,
            5 => Self::BlobReference,
            6 => Self::ExpiringPut,
            _ => return None,
        })
    }

    /// The byte that stands for this kind in files.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        self as u8
    }

    /// Whether this entry only hides older ones.
    #[must_use]
    pub const fn is_tombstone(self) -> bool {
        matches!(self, Self::Tombstone | Self::SingleDelete | Self::RangeTombstone)
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tombstone => "delete",
            Self::Put => "put",
            Self::SingleDelete => "single-delete",
            Self::Merge => "merge",
            Self::RangeTombstone => "range-delete",
            Self::BlobReference => "blob",
            Self::ExpiringPut => "put-expiring",
        })
    }
}
