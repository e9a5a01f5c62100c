//! What a table is built with: whose it is, and how it is laid out.

use std::fmt;
use std::sync::Arc;

use esker_base::{DatabaseId, KeyspaceId, TableId};

use crate::{PrefixRule, TableKeyspace};

/// How data blocks are compressed. The byte is part of the format, whatever features are built in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(u8)]
pub enum Compression {
    /// Stored as they are.
    None = 0,
    /// LZ4 block format: fast, half the ratio of the slow ones.
    #[default]
    Lz4 = 1,
    /// Zstandard. Needs the cargo feature `zstd`; a release without it refuses the table.
    Zstd = 2,
}

impl Compression {
    /// Reads a compression from its byte; `None` for one that no format version defines.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::Lz4,
            2 => Self::Zstd,
            _ => return None,
        })
    }

    /// The byte that stands for this compression in files.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        self as u8
    }

    /// Whether this build can read and write it.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        !matches!(self, Self::Zstd) || cfg!(feature = "zstd")
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// How a table is laid out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableOptions {
    /// A data block is closed before it would grow past this, uncompressed. A larger entry gets a
    /// block of its own.
    pub block_size_bytes: usize,
    /// How data blocks are compressed; one that would save less than an eighth is stored as it is.
    pub compression: Compression,
    /// Filter bits for each user key; 0 builds no filter. 10 let 1 in 100 absent keys through.
    pub filter_bits_per_key: u32,
    /// Which prefixes of keys the filter holds besides the keys, if there is a filter; as many bits for
    /// each of them, once for all keys in a row that have the same.
    pub prefix_rule: Option<PrefixRule>,
    /// How hard Zstandard tries, from 1 to 22; without meaning for other compressions.
    pub zstd_level: u8,
    /// Most bytes of a dictionary that a compaction learns from its inputs for Zstandard; 0 for
    /// none.
    pub zstd_dictionary_bytes: u32,
    /// What the table says of its keyspace, if anything.
    pub keyspace: Option<Arc<TableKeyspace>>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_size_bytes: 4096,
            compression: Compression::default(),
            filter_bits_per_key: 10,
            prefix_rule: None,
            zstd_level: 3,
            zstd_dictionary_bytes: 0,
            keyspace: None,
        }
    }
}

/// Whose table it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableIdentity {
    /// The database, bound into the file header and every checksum.
    pub database: DatabaseId,
    /// The table, bound likewise.
    pub id: TableId,
    /// The keyspace that its entries belong to.
    pub keyspace: KeyspaceId,
    /// The level that it was built for. Trivial moves take tables deeper without telling them.
    pub level: u8,
}
