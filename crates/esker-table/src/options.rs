//! The parameters of a new table: its identity and its layout.

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
    /// LZ4 block format: fast, with half the compression ratio of slow algorithms.
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
    /// A data block is closed before it would exceed this size, uncompressed. A larger entry gets a
    /// block of its own.
    pub block_size_bytes: usize,
    /// How data blocks are compressed; a block is stored uncompressed if compression saves an
    /// eighth or less.
    pub compression: Compression,
    /// Filter bits for each user key; 0 builds no filter. 10 bits let 1 in 100 absent keys through.
    pub filter_bits_per_key: u32,
    /// Which key prefixes the filter holds besides keys, if there is a filter: as many bits for
    /// each prefix, counted once for consecutive keys that share it.
    pub prefix_rule: Option<PrefixRule>,
    /// Compression level of Zstandard, from 1 to 22; ignored for other compressions.
    pub zstd_level: u8,
    /// Maximum size of a dictionary, in bytes, that a compaction trains on its inputs for
    /// Zstandard; 0 for none.
    pub zstd_dictionary_bytes: u32,
    /// What the table records about its keyspace, if anything.
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

/// The identity of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableIdentity {
    /// The database, bound into the file header and every checksum.
    pub database: DatabaseId,
    /// The table, bound likewise.
    pub id: TableId,
    /// The keyspace that its entries belong to.
    pub keyspace: KeyspaceId,
    /// The level that it was built for. Trivial moves take tables deeper without changing this.
    pub level: u8,
}
