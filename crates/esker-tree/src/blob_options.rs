//! Options of jobs about values in blob files.

use esker_table::Compression;

/// How much garbage blob files may hold, and for how long; a file beyond that is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobBound {
    /// The share of a file that may be garbage, in percent.
    pub waste_percent_max: u32,
    /// Files written at or before this time, in milliseconds since the Unix epoch, may hold no
    /// garbage.
    pub due_millis: Option<u64>,
}

/// Which values go to blob files, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobOptions {
    /// Values of at least this many bytes go to blob files; `None` brings all values back into
    /// tables.
    pub threshold_bytes: Option<u64>,
    /// Files beyond this bound are cleared by compactions that meet them.
    pub bound: BlobBound,
    /// How values are compressed, each by itself.
    pub compression: Compression,
    /// Size, in bytes, at which a blob file is finished.
    pub file_bytes_max: u64,
}

impl BlobOptions {
    /// No blob files.
    pub const OFF: Self = Self {
        threshold_bytes: None,
        bound: BlobBound { waste_percent_max: 50, due_millis: None },
        compression: Compression::None,
        file_bytes_max: 256 << 20,
    };

    /// Whether a value of this length goes to a blob file.
    #[inline]
    pub(crate) const fn separates(&self, value_len: u64) -> bool {
        match self.threshold_bytes {
            Some(threshold) => threshold <= value_len,
            None => false,
        }
    }
}
